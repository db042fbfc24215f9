"""Concurrency and rate that learn from the server's answers, shared by threads and coroutines.

Together publishes no fixed rate: what it allows per organisation and model moves with load (its rate-limits
page). Two things are learned from it. How many requests are under way at the same time: one more for each full
round of answers, and fewer by a seventh on a 429. And, from the first 429 on, how many start in a second: what the
server answers between two refusals, growing again from there (see `_pace`). Nobody starts before the time that the
server named. A 503 is a lack of capacity, not a limit of the caller's: it only pauses. Callers are served first
come, first served; a refused request is the first to go again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hana_ai.api.transport.starts import Starts
from hana_ai.api.transport.waiting import Queue, Waiter, await_turn, wait

_SHRINK = 0.85


class Limiter:
    """Bound how many requests are under way at the same time, and how many start in a second.

    Parameters
    ----------
    ceiling : int
        The most requests under way, and how many there may be to begin with.
    starts : Starts, optional
        The learned rate; several limiters may share one.
    """

    def __init__(self, ceiling: int, starts: Starts | None = None) -> None:
        self.ceiling = max(1, ceiling)
        self.starts = starts or Starts()
        self._limit = float(self.ceiling)
        self._in_use = 0
        self._lock = threading.Lock()
        self._queue = Queue()
        self._last_shrink = 0.0

    @property
    def limit(self) -> int:
        """How many requests may be under way now."""
        return max(1, int(self._limit))

    @property
    def in_use(self) -> int:
        """How many requests are under way, or about to start."""
        return self._in_use

    @property
    def rate(self) -> float | None:
        """How many requests may start in a second; None until the server refuses one."""
        return self.starts.rate

    def acquire(self, timeout: float | None = None, *, again: bool = False) -> bool:
        """Take a place; waits `timeout` seconds at most and says whether it got one.

        `again` is for a request that was refused: it goes before those that have not been sent yet.
        """
        if self._at_once():
            return True
        deadline = None if timeout is None else time.monotonic() + timeout
        if not wait(self, deadline, again):
            return False
        try:
            while not self.starts.free:
                if self._too_late(deadline) or not wait(self.starts, deadline, again):
                    self.release()
                    return False
                if self._started():
                    break
                again = True
        except BaseException:
            self.release()
            raise
        return True

    async def aacquire(self, timeout: float | None = None, *, again: bool = False) -> bool:
        """Take a place without blocking the event loop; see `acquire`."""
        if self._at_once():
            return True
        deadline = None if timeout is None else time.monotonic() + timeout
        if not await await_turn(self, deadline, again):
            return False
        try:
            while not self.starts.free:
                if self._too_late(deadline) or not await await_turn(
                    self.starts, deadline, again, lost=self.release
                ):
                    self.release()
                    return False
                if self._started():
                    break
                again = True
        except BaseException:
            self.release()
            raise
        return True

    def release(self) -> None:
        """Give the place back."""
        with self._lock:
            self._in_use -= 1
            woken = self._grant() if self._queue else ()
        for waiter in woken:
            waiter.wake()

    def succeeded(self) -> None:
        """Tell that a request was answered: the limit grows by one for a full round of answers."""
        self.starts.answered()
        if self._limit < self.ceiling:
            with self._lock:
                self._limit = min(float(self.ceiling), self._limit + 1.0 / self._limit)
                woken = self._grant()
            for waiter in woken:
                waiter.wake()

    def refused(self, sent: float, wait: float | None) -> None:
        """Tell that a request was refused with 429.

        Parameters
        ----------
        sent : float
            `time.monotonic()` when the request was sent. Refusals of requests that were sent before the last
            decrease say nothing new and change nothing.
        wait : float, optional
            Seconds that the server asked to wait; nobody starts before.
        """
        with self._lock:
            if sent >= self._last_shrink:
                self._limit = max(1.0, self._limit * _SHRINK)
                self._last_shrink = time.monotonic()
        self.starts.refused(sent, wait or 0.0)

    def pause(self, wait: float | None) -> None:
        """Let nobody start for `wait` seconds; what was learned stays."""
        if wait:
            self.starts.pause(wait)

    def answered_since(self, moment: float) -> bool:
        """Whether the server has answered any request since a moment of `time.monotonic()`."""
        return self.starts.last_answer >= moment

    # --- the queue for a place ---

    def enter(self, wake: Callable[[], None], first: bool) -> Waiter | None:
        """Queue up; None means that the place is there."""
        with self._lock:
            if not self._queue and self._take():
                return None
            return self._queue.add(wake, first)

    def give_up(self, waiter: Waiter) -> bool:
        """Leave the queue; True when the place came just before, and is the caller's after all."""
        with self._lock:
            waiter.gone = not waiter.granted
            return waiter.granted

    def undo(self) -> None:
        """Give a place back unused."""
        self.release()

    def _at_once(self) -> bool:
        """Take a place if nothing has to be waited for, as it is until there is too much to do."""
        if not self.starts.free:
            return False
        with self._lock:
            return not self._queue and self._take()

    def _take(self) -> bool:
        if self._in_use < self.limit:
            self._in_use += 1
            return True
        return False

    def _grant(self) -> list[Waiter]:
        return list(self._queue.grant(self._take))

    def _too_late(self, deadline: float | None) -> bool:
        return deadline is not None and deadline < self.starts.resume_at

    def _started(self) -> bool:
        """Whether the start still holds: the server may have named a wait after it was granted."""
        if time.monotonic() >= self.starts.resume_at:
            return True
        self.starts.undo()
        return False
