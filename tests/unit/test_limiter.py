"""The limiter is fair, and learns from refusals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hana_ai.api.transport.limiter import Limiter, Rate
from tests.conftest import cancel, eventually


async def test_no_more_than_the_ceiling_are_under_way() -> None:
    limiter = Limiter(2)
    assert await limiter.acquire() and await limiter.acquire()
    assert await limiter.acquire(timeout=0) is False
    limiter.release()
    assert await limiter.acquire(timeout=0)
    assert limiter.in_use == 2


def test_a_refusal_lowers_the_limit_once_for_all_requests_of_its_time() -> None:
    limiter = Limiter(64)
    sent = time.monotonic()
    for _ in range(10):
        limiter.refused(sent, None)
    assert limiter.limit == 54
    limiter.refused(time.monotonic(), None)
    assert limiter.limit == 46


def test_the_limit_never_falls_below_one_and_grows_back_to_the_ceiling() -> None:
    limiter = Limiter(4)
    for _ in range(20):
        limiter.refused(time.monotonic(), None)
    assert limiter.limit == 1
    for _ in range(100):
        limiter.succeeded()
    assert limiter.limit == 4


async def test_growth_lets_waiting_callers_in() -> None:
    limiter = Limiter(2)
    limiter.refused(time.monotonic(), None)
    assert await limiter.acquire()
    waiting = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    for _ in range(5):
        limiter.succeeded()
    assert await asyncio.wait_for(waiting, 5)
    assert limiter.in_use == 2


async def test_nobody_starts_before_the_named_time() -> None:
    limiter = Limiter(4)
    limiter.refused(time.monotonic(), 0.2)
    begin = time.monotonic()
    assert await limiter.acquire(timeout=0.05) is False
    assert limiter.in_use == 0
    assert await limiter.acquire()
    assert time.monotonic() - begin >= 0.19


async def test_a_pause_lasts_its_time_and_changes_no_limit() -> None:
    limiter = Limiter(4)
    limiter.pause(0.2)
    begin = time.monotonic()
    assert await limiter.acquire(timeout=0.05) is False
    assert limiter.limit == 4
    assert await limiter.acquire()
    assert time.monotonic() - begin >= 0.19
    assert limiter.rate is None


async def test_callers_are_served_in_their_order() -> None:
    limiter = Limiter(1)
    assert await limiter.acquire()
    order: list[int] = []

    async def ask(number: int) -> None:
        await limiter.acquire()
        order.append(number)
        limiter.release()

    tasks = [asyncio.create_task(ask(number)) for number in range(6)]
    await asyncio.sleep(0)
    assert limiter.waiting == 6
    limiter.release()
    await asyncio.gather(*tasks)
    assert order == list(range(6))
    assert limiter.in_use == limiter.waiting == 0


async def test_a_cancelled_waiter_leaves_its_place_to_the_next() -> None:
    limiter = Limiter(1)
    await limiter.acquire()
    first, second = (asyncio.create_task(limiter.acquire()) for _ in range(2))
    await asyncio.sleep(0)
    await cancel(first)
    limiter.release()
    assert await asyncio.wait_for(second, 5)
    assert limiter.in_use == 1


async def test_a_place_granted_to_a_task_that_is_cancelled_at_that_moment_is_given_back() -> None:
    limiter = Limiter(1)
    await limiter.acquire()
    task = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    limiter.release()  # grants the place; the task has not run yet
    await cancel(task)
    assert limiter.in_use == 0


@pytest.mark.parametrize("waits_for", ["pause", "start"])
async def test_a_task_that_is_cancelled_while_it_waits_leaves_no_trace(waits_for: str) -> None:
    limiter = Limiter(4)
    if waits_for == "pause":
        limiter.pause(60)
    else:
        refuse(limiter, 60.0)
    tasks = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
    await eventually(lambda: limiter.waiting == 3)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended)
    assert limiter.in_use == limiter.waiting == 0


# --- the rate ---


def refuse(limiter: Limiter, wait: float | None = None) -> None:
    limiter.refused(time.monotonic(), wait)


async def test_there_is_no_rate_until_the_first_refusal() -> None:
    limiter = Limiter(1000)
    for _ in range(500):
        assert await limiter.acquire(timeout=0)
        limiter.succeeded()
    assert limiter.rate is None
    refuse(limiter)
    assert limiter.rate is not None


async def test_starts_are_spaced_after_a_refusal() -> None:
    limiter = Limiter(1000)
    refuse(limiter)
    rate = limiter.rate
    assert rate is not None
    begin = time.monotonic()
    for _ in range(5):
        assert await limiter.acquire()
    # The rate grows meanwhile; it can't have more than doubled twice in this time.
    assert time.monotonic() - begin >= 4 / rate / 4


async def test_callers_wait_in_their_order_for_their_start() -> None:
    limiter = Limiter(1000)
    refuse(limiter, 0.3)
    order: list[int] = []

    async def ask(number: int) -> None:
        await limiter.acquire()
        order.append(number)

    await asyncio.gather(*(ask(number) for number in range(6)))
    assert order == list(range(6))
    assert limiter.in_use == 6


async def test_a_refused_request_goes_before_those_that_have_not_been_sent() -> None:
    limiter = Limiter(2)
    assert await limiter.acquire()
    assert await limiter.acquire()
    order: list[str] = []

    async def ask(name: str, again: bool) -> None:
        await limiter.acquire(again=again)
        order.append(name)
        limiter.release()

    tasks = [
        asyncio.create_task(ask(name, name.startswith("again")))
        for name in ("new 1", "new 2", "again 1", "again 2")
    ]
    await asyncio.sleep(0)
    limiter.release()
    await asyncio.gather(*tasks)
    assert order == ["again 1", "again 2", "new 1", "new 2"]


async def test_two_limiters_share_one_rate_and_keep_their_own_ceilings() -> None:
    rate = Rate()
    small, large = Limiter(1, rate), Limiter(8, rate)
    refuse(large, 60.0)
    assert small.rate == pytest.approx(large.rate, rel=0.1)
    assert await small.acquire(timeout=0.01) is False
    assert small.in_use == 0
    assert small.limit == 1


async def test_a_wait_that_ends_after_the_deadline_is_not_begun() -> None:
    limiter = Limiter(4)
    refuse(limiter, 60.0)
    begin = time.monotonic()
    assert await limiter.acquire(timeout=30.0) is False
    assert time.monotonic() - begin < 20.0
    assert limiter.in_use == 0


async def test_a_wait_named_while_others_are_about_to_start_holds_for_them() -> None:
    limiter = Limiter(1)
    assert await limiter.acquire()
    task = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    limiter.release()  # grants the place; the task has not run yet
    limiter.pause(0.3)
    begin = time.monotonic()
    assert await task
    assert time.monotonic() - begin >= 0.29
    assert limiter.in_use == 1


def test_who_has_answered_since_when() -> None:
    limiter = Limiter(4)
    moment = time.monotonic()
    assert not limiter.answered_since(moment)
    limiter.succeeded()
    assert limiter.answered_since(moment)
    assert not limiter.answered_since(time.monotonic() + 1)


class LimiterMachine(RuleBasedStateMachine):
    """Any order of callers, answers and refusals keeps the limits."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.loop = asyncio.new_event_loop()
        self.limiter = Limiter(5, Rate(clock=lambda: self.now))
        self.held = 0
        self.resume_at = 0.0

    def teardown(self) -> None:
        self.loop.close()

    def run(self, work: Awaitable[bool]) -> bool:
        return self.loop.run_until_complete(work)  # type: ignore[arg-type]

    @rule()
    def ask(self) -> None:
        if self.run(self.limiter.acquire(timeout=0)):
            assert self.now >= self.resume_at
            self.held += 1

    @rule(seconds=st.sampled_from([0.001, 0.5, 10.0, 100.0]))
    def later(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.held)
    @rule(answered=st.booleans())
    def end(self, answered: bool) -> None:
        async def ended() -> bool:
            if answered:
                self.limiter.succeeded()
            self.limiter.release()
            return True

        self.run(ended())
        self.held -= 1

    @precondition(lambda self: self.held)
    @rule(wait=st.sampled_from([None, 0.0, 0.002, 60.0]))
    def refuse(self, wait: float | None) -> None:
        self.limiter.refused(self.now, wait)
        self.resume_at = max(self.resume_at, self.now + (wait or 0.0))

    @invariant()
    def holds(self) -> None:
        assert self.limiter.in_use == self.held <= 5
        assert 1 <= self.limiter.limit <= 5
        rate = self.limiter.rate
        assert rate is None or rate > 0


LimiterMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestLimiter = LimiterMachine.TestCase
