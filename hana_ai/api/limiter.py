"""Concurrency that learns from the server's answers, shared by threads and coroutines.

Together publishes no fixed rate: what it allows per organisation and model moves with load (its rate-limits
page). So the limiter grows its limit slowly while calls succeed and halves it on a 429 (additive increase,
multiplicative decrease), and nobody starts before the time that the server named. A 503 is a lack of capacity,
not a limit of the caller's: it only pauses. Callers are served first come, first served.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Waiter:
    wake: Callable[[], None]
    granted: bool = False
    gone: bool = False


class Limiter:
    """Bound how many requests are under way at the same time.

    Parameters
    ----------
    ceiling : int
        The largest limit, also the one to start with.
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = max(1, ceiling)
        self._limit = float(self.ceiling)
        self._in_use = 0
        self._lock = threading.Lock()
        self._waiters: deque[_Waiter] = deque()
        self._resume_at = 0.0
        self._last_shrink = 0.0

    @property
    def limit(self) -> int:
        """How many requests may be under way now."""
        return max(1, int(self._limit))

    @property
    def in_use(self) -> int:
        """How many requests are under way."""
        return self._in_use

    def acquire(self, timeout: float | None = None) -> bool:
        """Take a place; waits `timeout` seconds at most and says whether it got one."""
        deadline = None if timeout is None else time.monotonic() + timeout
        event = threading.Event()
        waiter = self._enter(event.set)
        if waiter is not None and not event.wait(
            None if deadline is None else max(0.0, deadline - time.monotonic())
        ):
            return self._give_up(waiter)
        while (pause := self._resume_at - time.monotonic()) > 0:
            if deadline is not None and time.monotonic() + pause > deadline:
                self.release()
                return False
            time.sleep(pause)
        return True

    async def aacquire(self, timeout: float | None = None) -> bool:
        """Take a place without blocking the event loop; see `acquire`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(_resolve, future)
            except RuntimeError:
                # The waiter's loop was closed while it waited: its place goes to the next one.
                self.release()

        waiter = self._enter(wake)
        try:
            if waiter is not None:
                remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
                try:
                    await asyncio.wait_for(future, remaining)
                except asyncio.TimeoutError:
                    return self._give_up(waiter)
                waiter = None
            while (pause := self._resume_at - time.monotonic()) > 0:
                if deadline is not None and time.monotonic() + pause > deadline:
                    self.release()
                    return False
                try:
                    await asyncio.sleep(pause)
                except BaseException:
                    self.release()
                    raise
        except asyncio.CancelledError:
            if waiter is not None and self._give_up(waiter):
                self.release()
            raise
        return True

    def release(self) -> None:
        """Give the place back."""
        with self._lock:
            self._in_use -= 1
            woken = self._grant()
        for waiter in woken:
            waiter.wake()

    def succeeded(self) -> None:
        """Tell that a request was answered: the limit grows by one for a full round of answers."""
        if self._limit < self.ceiling:
            with self._lock:
                self._limit = min(float(self.ceiling), self._limit + 1.0 / self._limit)
                woken = self._grant()
            for waiter in woken:
                waiter.wake()

    def refused(self, started: float, wait: float | None) -> None:
        """Tell that a request was refused with 429.

        Parameters
        ----------
        started : float
            `time.monotonic()` when the request was sent. Refusals of requests that were sent before the last
            decrease say nothing new and change nothing.
        wait : float, optional
            Seconds that the server asked to wait; nobody starts before.
        """
        with self._lock:
            if started >= self._last_shrink:
                self._limit = max(1.0, self._limit / 2)
                self._last_shrink = time.monotonic()
        self.pause(wait)

    def pause(self, wait: float | None) -> None:
        """Let nobody start for `wait` seconds; the limit stays."""
        if wait:
            with self._lock:
                self._resume_at = max(self._resume_at, time.monotonic() + wait)

    def _enter(self, wake: Callable[[], None]) -> _Waiter | None:
        with self._lock:
            if not self._waiters and self._in_use < self.limit:
                self._in_use += 1
                return None
            waiter = _Waiter(wake)
            self._waiters.append(waiter)
            return waiter

    def _grant(self) -> list[_Waiter]:
        woken = []
        while self._waiters and self._in_use < self.limit:
            waiter = self._waiters.popleft()
            if waiter.gone:
                continue
            waiter.granted = True
            self._in_use += 1
            woken.append(waiter)
        return woken

    def _give_up(self, waiter: _Waiter) -> bool:
        """Leave the queue; True when the place came just before, and is the caller's after all."""
        with self._lock:
            if waiter.granted:
                return True
            waiter.gone = True
            return False


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
