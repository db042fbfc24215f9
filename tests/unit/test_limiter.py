"""The limiter is fair, shared by threads and coroutines, and learns from refusals."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from hana_ai.api.limiter import Limiter


def test_no_more_than_the_ceiling_are_under_way() -> None:
    limiter = Limiter(2)
    assert limiter.acquire() and limiter.acquire()
    assert limiter.acquire(timeout=0) is False
    limiter.release()
    assert limiter.acquire(timeout=0)
    assert limiter.in_use == 2


def test_a_refusal_halves_the_limit_once_for_all_requests_of_its_time() -> None:
    limiter = Limiter(64)
    sent = time.monotonic()
    for _ in range(10):
        limiter.refused(sent, None)
    assert limiter.limit == 32
    limiter.refused(time.monotonic(), None)
    assert limiter.limit == 16


def test_the_limit_never_falls_below_one_and_grows_back_to_the_ceiling() -> None:
    limiter = Limiter(4)
    for _ in range(10):
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
        waiting = len(limiter._waiters)
        if number % 2:
            running.append(asyncio.create_task(coroutine(str(number))))
        else:
            running.append(asyncio.get_running_loop().run_in_executor(None, thread, str(number)))
        while len(limiter._waiters) == waiting:  # noqa: ASYNC110 - some wait in threads
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
    assert len(limiter._waiters) == 1
    loop.close()
    limiter.release()
    assert limiter.acquire(timeout=1)
    assert limiter.in_use == 1
    task._log_destroy_pending = False
