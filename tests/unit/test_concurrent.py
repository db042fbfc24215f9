"""Doing the same to many things at once."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.transport.run_each import arun_each, run_each

both = pytest.mark.parametrize("way", ["sync", "async"])


async def run(way: str, function, things, limit: int) -> list:  # type: ignore[no-untyped-def, type-arg]
    if way == "sync":
        return await asyncio.to_thread(run_each, function, things, limit=limit)

    async def awaited(thing):  # type: ignore[no-untyped-def]
        return await asyncio.to_thread(function, thing)

    return await arun_each(awaited, things, limit=limit)


@given(things=st.lists(st.integers(), max_size=30), limit=st.integers(0, 9))
def test_results_keep_the_order(things: list[int], limit: int) -> None:
    assert run_each(str, things, limit=limit) == list(map(str, things))


@both
@pytest.mark.parametrize("limit", [1, 3])
async def test_things_are_taken_when_there_is_room_for_them(way: str, limit: int) -> None:
    lock = threading.Lock()
    taken = done = most = 0

    def things() -> Iterator[int]:
        nonlocal taken, most
        for number in range(20):
            taken += 1
            most = max(most, taken - done)
            yield number

    def function(thing: int) -> int:
        nonlocal done
        time.sleep(0.002)
        with lock:
            done += 1
        return thing

    assert await run(way, function, things(), limit) == list(range(20))
    assert most <= limit


@both
async def test_an_error_is_raised_at_once_and_nothing_more_is_begun(way: str) -> None:
    begun: list[int] = []
    go_on = threading.Event()

    def function(thing: int) -> None:
        begun.append(thing)
        if thing == 1:
            raise KeyError("as it is")
        go_on.wait(5 if way == "sync" else 0.1)

    started = time.monotonic()
    with pytest.raises(KeyError, match="as it is"):
        await run(way, function, range(100), 4)
    assert time.monotonic() - started < 3
    go_on.set()
    await asyncio.sleep(0.05)
    assert len(begun) <= 5


@both
async def test_an_error_of_the_iterator_is_raised(way: str) -> None:
    def things() -> Iterator[int]:
        yield 1
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        await run(way, str, things(), 3)


async def test_a_cancellation_reaches_every_call() -> None:
    cancelled: list[int] = []

    async def function(thing: int) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(thing)
            raise

    task = asyncio.ensure_future(arun_each(function, range(9), limit=3))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled == [0, 1, 2]


@both
async def test_context_variables_reach_the_calls(way: str) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("set")
    assert await run(way, lambda _: variable.get(), range(5), 3) == ["set"] * 5
