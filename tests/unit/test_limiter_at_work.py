"""The limiter at work in virtual time: callers, places, waits and refusals are real, clock and network are not.

A run of a minute takes as long as its steps take to compute, and gives the same figures each time.
"""

from __future__ import annotations

import asyncio
import math
import random
import selectors

import pytest

from benchmarks.limited import Bucket, Named, Plan, Statistics
from hana_ai.api.transport.limiter import Limiter, Rate
from hana_ai.api.transport.pace import Pace

_TRIP = 0.002
"""Seconds to the server, or back, at most."""


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


def work(plan: Plan, requests: int, at_once: int, seed: int) -> Statistics:
    """Let callers have so many requests answered, and give what the server has counted."""
    chance = random.Random(seed)
    bucket = Bucket(plan)
    left = iter(range(requests))

    async def ask(limiter: Limiter, now: Rate) -> None:
        again = False
        while True:
            await limiter.acquire(again=again)
            sent = now.clock()
            await asyncio.sleep(chance.uniform(0, _TRIP))
            wait = bucket.take(now.clock(), "one")
            if wait is None:
                await asyncio.sleep(plan.latency * chance.uniform(1, 1.3))
                limiter.release()
                limiter.succeeded()
                return
            await asyncio.sleep(chance.uniform(0, _TRIP))
            limiter.refused(sent, {"nothing": None, "exact": wait, "seconds": float(math.ceil(wait))}[plan.named])
            limiter.release()
            again = True

    async def all_of_them() -> None:
        rate = Rate(Pace(lambda: chance.uniform(0.8, 1.25)), asyncio.get_running_loop().time)
        limiter = Limiter(at_once, rate)

        async def caller() -> None:
            for _ in left:
                await ask(limiter, rate)

        await asyncio.gather(*(caller() for _ in range(at_once)))
        bucket.advance(rate.clock())

    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        runner.run(all_of_them())
    return bucket.statistics


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
