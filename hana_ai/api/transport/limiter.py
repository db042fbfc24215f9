"""Concurrency and rate that learn from the server's answers, for all callers of a model.

Together publishes no fixed rate: what it allows per organisation and model moves with load (its rate-limits
page). Two things are learned from it. How many requests are under way at the same time: one more for each full
round of answers, and fewer by a seventh on a 429. And, from the first 429 on, how many start in a second: what the
server answers between two refusals, growing again from there (see `pace`). Nobody starts before the time that the
server named. A 503 is a lack of capacity, not a limit of the caller's: it only pauses. Callers are served first
come, first served; a refused request is the first to go again.

All of it lives in the engine's thread and takes no lock; properties may be read from any thread.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from hana_ai.api.transport.pace import Pace

_SHRINK = 0.85
_WINDOW = 1.0
_SHORTEST_WINDOW = 0.05
_SHORTEST_DELAY = 0.001


class Rate:
    """When requests to one model may start, for all limiters of the same address, key and model.

    Nothing holds a start back until the server refuses one. From then on they are spaced by a `Pace`, and nobody
    starts before the time that the server named.

    Parameters
    ----------
    pace : Pace, optional
    clock : callable
        Seconds, as `time.monotonic` gives them.
    """

    def __init__(self, pace: Pace | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.last_answer = 0.0
        """When a request was last answered."""
        self.resume_at = 0.0
        """Before this time nobody starts."""
        self._pace = pace or Pace()
        self._window = 0.0
        self._answers = 0
        self._earlier = (0.0, 0)

    @property
    def starts_a_second(self) -> float | None:
        """How many may start in a second now; None for any number."""
        return self._pace.rate(self.clock()) if self._pace.learned else None

    def delay(self) -> float:
        """Seconds until the next request may start; 0.0 takes the start."""
        now = self.clock()
        if now < self.resume_at:
            return self.resume_at - now
        return self._pace.start(now) if self._pace.learned else 0.0

    def undo(self) -> None:
        """Take a start back that was not used."""
        if self._pace.learned:
            self._pace.undo()

    def answered(self) -> None:
        """Tell that a request was answered."""
        now = self.last_answer = self.clock()
        if now - self._window > _WINDOW:
            self._earlier = (self._window, self._answers)
            self._window, self._answers = now, 0
        self._answers += 1

    def refused(self, sent: float, wait: float) -> None:
        """Tell that a request, sent at `sent`, was refused, and that nobody may start for `wait` seconds."""
        now = self.clock()
        self.resume_at = max(self.resume_at, now + wait)
        self._pace.refused(now, sent, wait, self._answers_a_second(now))

    def pause(self, wait: float) -> None:
        """Let nobody start for `wait` seconds."""
        self.resume_at = max(self.resume_at, self.clock() + wait)

    def _answers_a_second(self, now: float) -> float:
        begin, count = self._earlier
        if now - begin > 3 * _WINDOW:
            begin, count = self._window, 0
        if now - begin > 3 * _WINDOW:
            return 0.0
        return (count + self._answers) / max(now - begin, _SHORTEST_WINDOW)


class Limiter:
    """Bounds how many requests are under way at the same time, and how many start in a second.

    Parameters
    ----------
    ceiling : int
        The most requests under way, and how many there may be to begin with.
    rate : Rate, optional
        The learned rate; several limiters may share one.
    """

    def __init__(self, ceiling: int, rate: Rate | None = None) -> None:
        self.ceiling = max(1, ceiling)
        self.in_use = 0
        """How many requests are under way, or about to start."""
        self._rate = rate or Rate()
        self._limit = float(self.ceiling)
        self._last_shrink = 0.0
        self._new: deque[asyncio.Future[None]] = deque()
        self._again: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def limit(self) -> int:
        """How many requests may be under way now."""
        return max(1, int(self._limit))

    @property
    def rate(self) -> float | None:
        """How many requests may start in a second; None until the server refuses one."""
        return self._rate.starts_a_second

    @property
    def waiting(self) -> int:
        """How many requests wait for a place."""
        return sum(not future.done() for waiting in (self._again, self._new) for future in waiting)

    async def acquire(self, timeout: float | None = None, *, again: bool = False) -> bool:
        """Take a place; waits `timeout` seconds at most and says whether it got one.

        `again` is for a request that was refused: it goes before those that have not been sent yet.
        """
        if not self._new and not self._again and self.in_use < self.limit and not self._rate.delay():
            self.in_use += 1
            return True
        clock = self._rate.clock
        deadline = None if timeout is None else clock() + timeout
        while deadline is None or deadline >= self._rate.resume_at:
            if not await self._turn(None if deadline is None else deadline - clock(), again):
                return False
            if clock() >= self._rate.resume_at:
                return True
            # The server has named a wait since the place was granted.
            self._give_back()
            again = True
        return False

    async def _turn(self, timeout: float | None, again: bool) -> bool:
        """Queue up for a place; False when none came in time."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._again if again else self._new).append(future)
        self._grant()
        try:
            async with asyncio.timeout(timeout):
                await future
        except BaseException as exc:
            if not future.cancelled():
                # It was granted in the moment of the time-out or the cancellation.
                self._give_back()
            if isinstance(exc, TimeoutError):
                return False
            raise
        return True

    def release(self) -> None:
        """Give the place back."""
        self.in_use -= 1
        if self._new or self._again:
            self._grant()

    def succeeded(self) -> None:
        """Tell that a request was answered: the limit grows by one for a full round of answers."""
        self._rate.answered()
        if self._limit < self.ceiling:
            self._limit = min(float(self.ceiling), self._limit + 1.0 / self._limit)
            self._grant()

    def refused(self, sent: float, wait: float | None) -> None:
        """Tell that a request was refused with 429.

        Parameters
        ----------
        sent : float
            When the request was sent, on the rate's clock. Refusals of requests that were sent before the last
            decrease say nothing new and change nothing.
        wait : float, optional
            Seconds that the server asked to wait; nobody starts before.
        """
        if sent >= self._last_shrink:
            self._limit = max(1.0, self._limit * _SHRINK)
            self._last_shrink = self._rate.clock()
        self._rate.refused(sent, wait or 0.0)

    def pause(self, wait: float | None) -> None:
        """Let nobody start for `wait` seconds; what was learned stays."""
        if wait:
            self._rate.pause(wait)

    def answered_since(self, moment: float) -> bool:
        """Whether the server has answered any request since a moment of the rate's clock."""
        return self._rate.last_answer >= moment

    def _give_back(self) -> None:
        """Give back a place that was granted and not used."""
        self._rate.undo()
        self.release()

    def _grant(self) -> None:
        """Let those start, in their order, for whom there is a place and whose time has come."""
        for waiting in (self._again, self._new):
            while waiting:
                if waiting[0].done():
                    waiting.popleft()
                    continue
                if self.in_use >= self.limit:
                    return
                delay = self._rate.delay()
                if delay > 0.0:
                    self._ring_in(delay)
                    return
                self.in_use += 1
                waiting.popleft().set_result(None)

    def _ring_in(self, delay: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(max(delay, _SHORTEST_DELAY), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._grant()
