"""Waiting for one's turn, first come, first served, for threads and coroutines in the same queue."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class Waiter:
    """Somebody in a queue."""

    wake: Callable[[], None]
    granted: bool = False
    gone: bool = False


class Gate(Protocol):
    """What is waited for."""

    def enter(self, wake: Callable[[], None], first: bool) -> Waiter | None:
        """Queue up; None means that it was one's turn at once."""

    def give_up(self, waiter: Waiter) -> bool:
        """Leave the queue; True when one's turn came just before, and is the caller's after all."""

    def undo(self) -> None:
        """Give a turn back unused."""


class Queue:
    """Waiters in the order of their coming; those who were turned away once stand before all others."""

    __slots__ = ("_again", "_new")

    def __init__(self) -> None:
        self._new: deque[Waiter] = deque()
        self._again: deque[Waiter] = deque()

    def __bool__(self) -> bool:
        return bool(self._new or self._again)

    def __len__(self) -> int:
        return len(self._new) + len(self._again)

    def add(self, wake: Callable[[], None], first: bool) -> Waiter:
        """Queue up."""
        waiter = Waiter(wake)
        (self._again if first else self._new).append(waiter)
        return waiter

    def grant(self, may: Callable[[], bool]) -> Iterator[Waiter]:
        """Grant a turn to one after the other, for as long as `may` says yes; they are still to be woken."""
        for waiters in (self._again, self._new):
            while waiters:
                if waiters[0].gone:
                    waiters.popleft()
                elif may():
                    waiter = waiters.popleft()
                    waiter.granted = True
                    yield waiter
                else:
                    return


def wait(gate: Gate, deadline: float | None, first: bool = False) -> bool:
    """Wait for one's turn in a thread; False when the deadline passed before."""
    event = threading.Event()
    waiter = gate.enter(event.set, first)
    if waiter is None or event.wait(None if deadline is None else _remaining(deadline)):
        return True
    return gate.give_up(waiter)


async def await_turn(
    gate: Gate, deadline: float | None, first: bool = False, *, lost: Callable[[], None] | None = None
) -> bool:
    """Wait for one's turn in a coroutine; see `wait`. `lost` is called when its turn finds its loop closed."""
    loop, thread = asyncio.get_running_loop(), threading.get_ident()
    future: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        try:
            if threading.get_ident() == thread:
                # The usual case. Waking the loop from outside takes two system calls.
                _resolve(future)
            else:
                loop.call_soon_threadsafe(_resolve, future)
        except RuntimeError:
            # The waiter's loop was closed while it waited: its turn goes to the next one.
            gate.undo()
            if lost is not None:
                lost()

    waiter = gate.enter(wake, first)
    if waiter is None:
        return True
    timer = None if deadline is None else loop.call_later(_remaining(deadline), _resolve, future)
    try:
        await future
    except BaseException:
        if gate.give_up(waiter):
            gate.undo()
        raise
    finally:
        if timer is not None:
            timer.cancel()
    return waiter.granted or gate.give_up(waiter)


def _remaining(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
