"""When requests to one model may start, for all who ask for it with the same address and key.

Nothing holds a start back until the server refuses one. From then on they are spaced by a `Pace`, and nobody
starts before the time that the server named.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable
from weakref import WeakValueDictionary

from hana_ai.api.transport.pace import Pace
from hana_ai.api.transport.waiting import Queue, Waiter

_WINDOW = 1.0
_SHORTEST_WINDOW = 0.05
_IDLE_SECONDS = 1.0
_SHORTEST = 0.001


class Starts:
    """Lets requests start one after the other. Thread-safe.

    Parameters
    ----------
    pace : Pace, optional
    """

    def __init__(self, pace: Pace | None = None) -> None:
        self.free = True
        """Whether nobody has to wait; may be read without a lock, since a refusal comes when it comes."""
        self.last_answer = 0.0
        """`time.monotonic()` when a request was last answered."""
        self._pace = pace or Pace()
        self._lock = threading.Lock()
        self._queue = Queue()
        self._resume_at = 0.0
        self._delay = 0.0
        self._window = 0.0
        self._answers = 0
        self._earlier = (0.0, 0)

    @property
    def resume_at(self) -> float:
        """`time.monotonic()` before which nobody starts."""
        return self._resume_at

    @property
    def rate(self) -> float | None:
        """Starts a second that are allowed now; None for any number."""
        with self._lock:
            return self._pace.rate(time.monotonic()) if self._pace.learned else None

    def answered(self) -> None:
        """Tell that a request was answered."""
        # Without a lock: it runs for every request, and a count that is off by one does no harm.
        now = self.last_answer = time.monotonic()
        if now - self._window > _WINDOW:
            self._earlier = (self._window, self._answers)
            self._window, self._answers = now, 0
        self._answers += 1

    def refused(self, sent: float, wait: float) -> None:
        """Tell that a request, sent at `sent`, was refused, and that nobody may start for `wait` seconds."""
        now = time.monotonic()
        with self._lock:
            self.free = False
            self._resume_at = max(self._resume_at, now + wait)
            self._pace.refused(now, sent, wait, self._answers_a_second(now))

    def pause(self, wait: float) -> None:
        """Let nobody start for `wait` seconds."""
        with self._lock:
            self.free = False
            self._resume_at = max(self._resume_at, time.monotonic() + wait)

    def enter(self, wake: Callable[[], None], first: bool) -> Waiter | None:
        """Queue up; None means that the request may start."""
        with self._lock:
            if not self._queue and self._may_start():
                self.free = not self._pace.learned
                return None
            waiter = self._queue.add(wake, first)
            self._set_alarm()
            return waiter

    def give_up(self, waiter: Waiter) -> bool:
        """Leave the queue; True when the request may start after all."""
        with self._lock:
            waiter.gone = not waiter.granted
            return waiter.granted

    def undo(self) -> None:
        """Tell that a request that might start does not."""
        with self._lock:
            self._pace.undo()

    def ring(self) -> None:
        """Let those start whose time has come."""
        with self._lock:
            woken = list(self._queue.grant(self._may_start))
            if self._queue:
                self._set_alarm()
            elif not self._pace.learned and time.monotonic() >= self._resume_at:
                self.free = True
        for waiter in woken:
            waiter.wake()

    def _may_start(self) -> bool:
        self._delay = self._next(time.monotonic())
        return self._delay <= 0.0

    def _next(self, now: float) -> float:
        if now < self._resume_at:
            return self._resume_at - now
        return self._pace.start(now) if self._pace.learned else 0.0

    def _set_alarm(self) -> None:
        _alarm.set(self, time.monotonic() + max(self._delay, _SHORTEST))

    def _answers_a_second(self, now: float) -> float:
        begin, count = self._earlier
        if now - begin > 3 * _WINDOW:
            begin, count = self._window, 0
        if now - begin > 3 * _WINDOW:
            return 0.0
        return (count + self._answers) / max(now - begin, _SHORTEST_WINDOW)


class _Alarm:
    """A thread that rings when the next start of any `Starts` is due; it lives while somebody waits."""

    def __init__(self) -> None:
        self._due: dict[Starts, float] = {}
        self._changed = threading.Condition()
        self._running = False

    def set(self, starts: Starts, at: float) -> None:
        """Ring at `at`, or earlier if that was asked for before."""
        with self._changed:
            if self._due.get(starts, at + 1.0) <= at:
                return
            self._due[starts] = at
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="together-ai-starts", daemon=True).start()
            else:
                self._changed.notify()

    def _run(self) -> None:
        while (due := self._wait()) is not None:
            due.ring()

    def _wait(self) -> Starts | None:
        with self._changed:
            while True:
                if not self._due:
                    if not self._changed.wait(_IDLE_SECONDS) and not self._due:
                        self._running = False
                        return None
                    continue
                starts = min(self._due, key=self._due.__getitem__)
                left = self._due[starts] - time.monotonic()
                if left <= 0.0:
                    del self._due[starts]
                    return starts
                self._changed.wait(left)


_alarm = _Alarm()
_shared: WeakValueDictionary[Hashable, Starts] = WeakValueDictionary()
_shared_lock = threading.Lock()


def shared_starts(key: Hashable) -> Starts:
    """The process's `Starts` for an address, a key and a model."""
    with _shared_lock:
        starts = _shared.get(key)
        if starts is None:
            starts = _shared[key] = Starts()
        return starts


def _forget() -> None:
    # A forked child has no alarm thread, and no requests of its own yet.
    global _alarm, _shared, _shared_lock
    _alarm, _shared, _shared_lock = _Alarm(), WeakValueDictionary(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
