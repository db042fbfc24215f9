"""The limiter is fair, shared by threads and coroutines, and learns from refusals."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest
from hana_ai.api.transport.starts import Starts, shared_starts
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hana_ai.api.transport import limiter
from hana_ai.api.transport import starts as _starts
from hana_ai.api.transport import waiting as _queue
from hana_ai.api.transport.limiter import Limiter
from tests.conftest import eventually


def test_no_more_than_the_ceiling_are_under_way() -> None:
    limiter = Limiter(2)
    assert limiter.acquire() and limiter.acquire()
    assert limiter.acquire(timeout=0) is False
    limiter.release()
    assert limiter.acquire(timeout=0)
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


def test_growth_lets_waiting_callers_in() -> None:
    limiter = Limiter(2)
    limiter.refused(time.monotonic(), None)
    assert limiter.acquire()
    entered = threading.Event()
    thread = threading.Thread(target=lambda: limiter.acquire() and entered.set())
    thread.start()
    for _ in range(5):
        limiter.succeeded()
    assert entered.wait(5)
    thread.join()
    assert limiter.in_use == 2


def test_nobody_starts_before_the_named_time() -> None:
    limiter = Limiter(4)
    limiter.refused(time.monotonic(), 0.2)
    begin = time.monotonic()
    assert limiter.acquire(timeout=0.05) is False
    assert limiter.in_use == 0
    assert limiter.acquire()
    assert time.monotonic() - begin >= 0.19


async def test_a_pause_holds_coroutines_too() -> None:
    limiter = Limiter(4)
    limiter.pause(0.2)
    begin = time.monotonic()
    assert await limiter.aacquire(timeout=0.05) is False
    assert limiter.limit == 4
    assert await limiter.aacquire()
    assert time.monotonic() - begin >= 0.19


async def test_callers_are_served_in_their_order_across_threads_and_coroutines() -> None:
    limiter = Limiter(1)
    assert limiter.acquire()
    order: list[str] = []

    async def coroutine(name: str) -> None:
        await limiter.aacquire()
        order.append(name)
        limiter.release()

    def thread(name: str) -> None:
        limiter.acquire()
        order.append(name)
        limiter.release()

    running: list[asyncio.Task[None] | asyncio.Future[None]] = []
    for number in range(6):
        waiting = len(limiter._queue)
        if number % 2:
            running.append(asyncio.create_task(coroutine(str(number))))
        else:
            running.append(asyncio.get_running_loop().run_in_executor(None, thread, str(number)))
        while len(limiter._queue) == waiting:  # noqa: ASYNC110 - some wait in threads
            await asyncio.sleep(0.001)
    limiter.release()
    await asyncio.gather(*running)
    assert order == [str(number) for number in range(6)]
    assert limiter.in_use == 0


async def test_a_cancelled_waiter_leaves_its_place_to_the_next() -> None:
    limiter = Limiter(1)
    await limiter.aacquire()
    first, second = (asyncio.create_task(limiter.aacquire()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    limiter.release()
    assert await asyncio.wait_for(second, 5)
    assert limiter.in_use == 1


async def test_a_place_granted_to_a_task_that_is_cancelled_at_that_moment_is_given_back() -> None:
    limiter = Limiter(1)
    await limiter.aacquire()
    task = asyncio.create_task(limiter.aacquire())
    await asyncio.sleep(0)
    limiter.release()  # grants the place; the task has not run yet
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert limiter.in_use == 0


async def test_a_task_that_is_cancelled_during_a_pause_gives_its_place_back() -> None:
    limiter = Limiter(1)
    limiter.pause(60)
    task = asyncio.create_task(limiter.aacquire())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert limiter.in_use == 0


def test_a_waiter_whose_loop_is_gone_does_not_block_the_queue() -> None:
    limiter = Limiter(1)
    limiter.acquire()
    loop = asyncio.new_event_loop()

    async def wait() -> None:
        await limiter.aacquire()

    task = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0.01))
    assert len(limiter._queue) == 1
    loop.close()
    limiter.release()
    assert limiter.acquire(timeout=1)
    assert limiter.in_use == 1
    task._log_destroy_pending = False


# --- the rate ---


def refuse(limiter: Limiter, wait: float | None = None, answered: int = 0) -> None:
    """Refuse a request after others were answered."""
    for _ in range(answered):
        limiter.succeeded()
    limiter.refused(time.monotonic(), wait)


def test_there_is_no_rate_until_the_first_refusal() -> None:
    limiter = Limiter(1000)
    for _ in range(500):
        assert limiter.acquire(timeout=0)
        limiter.succeeded()
    assert limiter.rate is None
    refuse(limiter)
    assert limiter.rate is not None


def test_starts_are_spaced_after_a_refusal() -> None:
    limiter = Limiter(1000)
    refuse(limiter)
    rate = limiter.rate
    assert rate is not None
    begin = time.monotonic()
    for _ in range(5):
        assert limiter.acquire()
    # The rate grows meanwhile; it can't have more than doubled twice in this time.
    assert time.monotonic() - begin >= 4 / rate / 4


async def test_coroutines_and_threads_wait_in_one_queue_for_their_start() -> None:
    limiter = Limiter(1000)
    refuse(limiter, 0.3)
    order: list[int] = []

    async def coroutine(number: int) -> None:
        await limiter.aacquire()
        order.append(number)

    def thread(number: int) -> None:
        limiter.acquire()
        order.append(number)

    running: list[asyncio.Task[None] | asyncio.Future[None]] = []
    for number in range(6):
        waiting = len(limiter.starts._queue)
        if number % 2:
            running.append(asyncio.create_task(coroutine(number)))
        else:
            running.append(asyncio.get_running_loop().run_in_executor(None, thread, number))
        await eventually(lambda waiting=waiting: len(limiter.starts._queue) > waiting)  # type: ignore[misc]
    await asyncio.gather(*running)
    assert order == list(range(6))
    assert limiter.in_use == 6


async def test_a_refused_request_goes_before_those_that_have_not_been_sent() -> None:
    limiter = Limiter(2)
    assert await limiter.aacquire()
    assert await limiter.aacquire()
    order: list[str] = []

    async def ask(name: str, again: bool) -> None:
        await limiter.aacquire(again=again)
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
    starts = Starts()
    small, large = Limiter(1, starts), Limiter(8, starts)
    refuse(large, 60.0)
    assert small.rate == pytest.approx(large.rate, rel=0.1)
    assert await small.aacquire(timeout=0.01) is False
    assert small.acquire(timeout=0.01) is False
    assert small.in_use == 0
    assert small.limit == 1


def test_starts_are_shared_by_key_and_forgotten_with_their_last_user() -> None:
    key = ("http://127.0.0.1:1", "key", "model")
    first = shared_starts(key)
    assert shared_starts(key) is first
    assert shared_starts((*key, "other")) is not first
    del first
    assert key not in _starts._shared


def test_a_wait_that_ends_after_the_deadline_is_not_begun() -> None:
    limiter = Limiter(4)
    refuse(limiter, 60.0)
    begin = time.monotonic()
    assert limiter.acquire(timeout=30.0) is False
    assert time.monotonic() - begin < 20.0
    assert limiter.in_use == 0


async def test_a_wait_named_while_others_are_about_to_start_holds_for_them() -> None:
    limiter = Limiter(8)
    refuse(limiter)
    tasks = [asyncio.create_task(limiter.aacquire()) for _ in range(3)]
    await eventually(lambda: any(task.done() for task in tasks))
    started = sum(task.done() for task in tasks)
    limiter.pause(0.3)
    begin = time.monotonic()
    await asyncio.gather(*tasks)
    assert started == 3 or time.monotonic() - begin >= 0.29


async def test_a_task_that_is_cancelled_while_it_waits_for_its_start_leaves_no_trace() -> None:
    limiter = Limiter(4)
    refuse(limiter, 60.0)
    tasks = [asyncio.create_task(limiter.aacquire()) for _ in range(3)]
    await eventually(lambda: len(limiter.starts._queue) == 3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert limiter.in_use == 0


def test_a_closed_loop_gives_place_and_start_back() -> None:
    limiter = Limiter(1)
    refuse(limiter, 0.2)
    loop = asyncio.new_event_loop()
    task = loop.create_task(limiter.aacquire())
    loop.run_until_complete(asyncio.sleep(0.01))
    assert limiter.in_use == 1
    loop.close()
    assert limiter.acquire(timeout=10.0)
    assert limiter.in_use == 1
    task._log_destroy_pending = False  # type: ignore[attr-defined]


async def test_the_alarm_ends_when_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    alarm = _starts._Alarm()
    monkeypatch.setattr(_starts, "_alarm", alarm)
    limiter = Limiter(4)
    for _ in range(2):
        refuse(limiter, 0.05)
        assert await limiter.aacquire()
        assert alarm._running
        await eventually(lambda: not alarm._running)


def test_a_503_that_names_a_wait_only_pauses() -> None:
    limiter = Limiter(4)
    limiter.pause(0.05)
    assert limiter.acquire()
    assert limiter.rate is None
    assert limiter.starts.free


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
        self.patch = pytest.MonkeyPatch()
        for module in (_queue, _starts, limiter):
            self.patch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.patch.setattr(_starts, "_alarm", SimpleNamespace(set=lambda starts, at: None))
        self.limiter = Limiter(5)
        self.held = 0
        self.resume_at = 0.0

    def teardown(self) -> None:
        self.patch.undo()

    @rule()
    def ask(self) -> None:
        if self.limiter.acquire(timeout=0):
            assert self.now >= self.resume_at
            self.held += 1

    @rule(seconds=st.sampled_from([0.001, 0.5, 10.0, 100.0]))
    def later(self, seconds: float) -> None:
        self.now += seconds
        self.limiter.starts.ring()

    @precondition(lambda self: self.held)
    @rule(answered=st.booleans())
    def end(self, answered: bool) -> None:
        if answered:
            self.limiter.succeeded()
        self.limiter.release()
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


LimiterMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=30)
TestLimiterMachine = LimiterMachine.TestCase
