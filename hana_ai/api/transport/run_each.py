"""Do the same to many things at once, at most so many at a time, in threads or in coroutines.

Both ways take the things one by one from their iterator, when there is room for the next: what is still to come
takes no memory. Results keep the order. The first error ends it: nothing further is begun, and it is raised as
it is.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Shared(Generic[T, R]):
    """What the workers share: the things to come and the results so far."""

    def __init__(self, things: Iterable[T]) -> None:
        self._things: Iterator[tuple[int, T]] = enumerate(things)
        self._lock = threading.Lock()
        self._results: dict[int, R] = {}
        self.ended = False

    def next(self) -> tuple[int, T] | None:
        """The next thing and its place; None when there is none, or when it is all over."""
        with self._lock:
            return None if self.ended else next(self._things, None)

    def keep(self, place: int, result: R) -> None:
        self._results[place] = result

    def results(self) -> list[R]:
        return [self._results[place] for place in range(len(self._results))]


def run_each(function: Callable[[T], R], things: Iterable[T], *, limit: int) -> list[R]:
    """Call a function for each thing, in at most `limit` threads; a `limit` of 1 stays in this thread.

    When a call fails, calls that are under way are not waited for: their results are dropped.
    """
    shared: _Shared[T, R] = _Shared(things)

    def work() -> None:
        while (taken := shared.next()) is not None:
            place, thing = taken
            shared.keep(place, function(thing))

    if limit <= 1:
        work()
        return shared.results()
    ends: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def work_to_the_end() -> None:
        try:
            work()
        except BaseException as exc:  # noqa: BLE001 - raised in the caller's thread
            shared.ended = True
            ends.put(exc)
        else:
            ends.put(None)

    for _ in range(limit):
        # A copy of the context, so that LangChain's callbacks and tracers find their run; a daemon, so that a call
        # that nobody waits for any more does not hold up the end of the process.
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(work_to_the_end,), name="together-ai", daemon=True).start()
    try:
        for _ in range(limit):
            error = ends.get()
            if error is not None:
                raise error
    finally:
        shared.ended = True
    return shared.results()


async def arun_each(function: Callable[[T], Awaitable[R]], things: Iterable[T], *, limit: int) -> list[R]:
    """Await a function for each thing, at most `limit` at a time; an error or a cancellation cancels the rest."""
    shared: _Shared[T, R] = _Shared(things)

    async def work() -> None:
        while (taken := shared.next()) is not None:
            place, thing = taken
            shared.keep(place, await function(thing))

    if limit <= 1:
        await work()
        return shared.results()
    tasks = [asyncio.ensure_future(work()) for _ in range(limit)]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        shared.ended = True
        for task in tasks:
            task.cancel()
        # Waited for, so that connections and places of the limiter are given back before the error is seen.
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    return shared.results()
