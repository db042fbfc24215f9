"""The limiter at work in virtual time: callers, places, waits and refusals are real, clock and network are not.

A run of a minute takes as long as its steps take to compute, and gives the same figures each time.
"""

from __future__ import annotations

import asyncio
import math
import random
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from benchmarks.limited import Bucket, Named, Plan, Statistics
from hana_ai.api.hana.cluster.coordinator import Coordinator
from hana_ai.api.transport.limiter import Limiter, Rate
from hana_ai.api.transport.pace import Pace
from hana_ai.api.transport.shared_limiter import Outcome, SharedLimiter

_TRIP = 0.002
"""Seconds to the server, or back, at most."""
_MESSAGE = 0.04
"""Seconds of a message between a worker and its coordinator, at most."""


class _Leaping(selectors.DefaultSelector):
    """Nothing comes from outside: who waits for a moment is taken there."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nobody waits for anything that could happen"
        self.now += max(timeout, 0.0)
        return super().select(0)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._leaping = _Leaping()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.now


class Work:
    """Callers that have some requests answered, and what the server has counted."""

    def __init__(self, plan: Plan, requests: int, at_once: int, seed: int) -> None:
        self.plan = plan
        self.at_once = at_once
        self.chance = random.Random(seed)
        self.bucket = Bucket(plan)
        self._left = iter(range(requests))

    async def call(self, limiter: Limiter, clock: Callable[[], float]) -> None:
        """Ask until nothing is left; `clock` is the limiter's."""
        for _ in self._left:
            again = False
            while not await self._ask(limiter, clock, again):
                again = True

    async def _ask(self, limiter: Limiter, clock: Callable[[], float], again: bool) -> bool:
        chance = self.chance
        await limiter.acquire(again=again)
        sent = clock()
        await asyncio.sleep(chance.uniform(0, _TRIP))
        wait = self.bucket.take(asyncio.get_running_loop().time(), "one")
        if wait is None:
            await asyncio.sleep(self.plan.latency * chance.uniform(1, 1.3))
            limiter.release()
            limiter.succeeded()
            return True
        await asyncio.sleep(chance.uniform(0, _TRIP))
        named = {"nothing": None, "exact": wait, "seconds": float(math.ceil(wait))}[self.plan.named]
        limiter.refused(sent, named)
        limiter.release()
        return False

    def run(self, all_of_them: Coroutine[Any, Any, None]) -> Statistics:
        """Run to the end, in no time."""
        with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
            runner.run(all_of_them)
            self.bucket.advance(runner.get_loop().time())
        return self.bucket.statistics


def work(plan: Plan, requests: int, at_once: int, seed: int) -> Statistics:
    """Let the callers of one process have so many requests answered."""
    given = Work(plan, requests, at_once, seed)

    async def all_of_them() -> None:
        rate = Rate(Pace(lambda: given.chance.uniform(0.8, 1.25)), asyncio.get_running_loop().time)
        limiter = Limiter(at_once, rate)
        await asyncio.gather(*(given.call(limiter, rate.clock) for _ in range(at_once)))

    return given.run(all_of_them())


@dataclass
class _Messages:
    """A worker's way to the coordinator; what is said takes its time, and may overtake."""

    desk: Coordinator
    worker: tuple[int, int]
    chance: random.Random
    told: set[asyncio.Task[None]] = field(default_factory=set)

    async def _travel(self) -> None:
        await asyncio.sleep(self.chance.uniform(0.001, _MESSAGE))

    async def take(self, name: str, ceiling: int, timeout: float | None, *, again: bool) -> float | None:
        await self._travel()
        found = await self.desk.take(self.worker, (name, ceiling), timeout, again=again)
        assert not isinstance(found, Exception)
        await self._travel()
        return found

    def tell(self, name: str, ceiling: int, outcome: Outcome, sent: float = 0.0, wait: float = 0.0) -> None:
        async def told() -> None:
            await self._travel()
            await self.desk.tell(self.worker, (name, ceiling), outcome, sent, wait)

        self.told.add(asyncio.ensure_future(told()))


def work_apart(plan: Plan, requests: int, at_once: int, seed: int) -> Statistics:
    """Let the callers of two workers, whose clocks are a day apart, have so many requests answered."""
    given = Work(plan, requests, at_once, seed)
    before = random.getstate()
    random.seed(seed)

    async def all_of_them() -> None:
        loop = asyncio.get_running_loop()
        desk = Coordinator(1, clock=loop.time)
        callers = []
        for number, ahead in enumerate((0.0, 86_400.0)):
            messages = _Messages(desk, (number, await desk.join(number)), given.chance)
            clock = partial(_ahead, loop, ahead)
            limiter = SharedLimiter(messages, "m", at_once, Rate(clock=clock))
            callers += [given.call(limiter, clock) for _ in range(at_once // 2)]
        await asyncio.gather(*callers)

    try:
        return given.run(all_of_them())
    finally:
        random.setstate(before)


def _ahead(loop: asyncio.AbstractEventLoop, seconds: float) -> float:
    return loop.time() + seconds


@pytest.mark.parametrize("named", ["nothing", "exact", "seconds"])
@pytest.mark.parametrize("latency", [0.02, 0.2])
@pytest.mark.parametrize("seed", range(2))
def test_a_minute_at_a_small_limit_is_used_and_hardly_refused(named: Named, latency: float, seed: int) -> None:
    told = work(Plan([20], latency=latency, named=named), 1000, 16, seed)
    assert told.answered == 1000
    assert told.share >= 0.93
    assert told.refused_share < 0.05


@pytest.mark.parametrize("named", ["nothing", "exact", "seconds"])
def test_a_small_limit_that_falls_and_rises_is_followed(named: Named) -> None:
    told = work(Plan([20, 10, 40], seconds=20, named=named), 1200, 16, 0)
    assert told.share >= 0.85
    assert told.refused_share < 0.05


def test_a_short_job_pays_for_the_first_refusals_and_little_more() -> None:
    told = work(Plan([20]), 200, 16, 0)
    assert told.share >= 0.93
    # All that were under way at the first refusal did not know.
    assert told.refused <= 16 + 0.03 * told.answered


def test_a_large_limit_is_refused_even_less() -> None:
    told = work(Plan([150]), 1500, 64, 0)
    assert told.share >= 0.95
    assert told.refused_share < 0.03


@pytest.mark.parametrize("latency", [0.02, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_workers_of_a_cluster_are_hardly_refused(latency: float, seed: int) -> None:
    told = work_apart(Plan([20], latency=latency), 1000, 32, seed)
    assert told.answered == 1000
    assert told.share >= 0.93
    assert told.refused_share < 0.05


@pytest.mark.parametrize("latency", [0.02, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_workers_of_a_cluster_use_a_small_limit_as_well_as_one_process(latency: float, seed: int) -> None:
    told = work_apart(Plan([20], latency=latency), 1000, 64, seed)
    assert told.answered == 1000
    assert told.share >= 0.93
    # All that were under way at the first refusal did not know.
    assert told.refused - 64 < 0.05 * told.answered
