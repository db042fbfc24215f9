"""The ledger's clock: UTC that goes on evenly, whatever is done to the machine's clock meanwhile.

It is set once, by the machine's clock, and goes on by one that only ever goes forward, also while the machine
sleeps where the system has such a clock. A process that is forked goes on with it. Where the machine's clock is
elsewhere and stays there for a day, as after a wrong one was put right, the ledger's follows.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

TOLERANCE_SECONDS = 60.0
"""Clocks that differ by less than this agree."""
FOLLOWS_AFTER_SECONDS = 86_400.0
"""How long the machine's clock has to stand elsewhere until it is believed."""


def steady() -> float:
    """Seconds since some time in the past; they go on while the machine sleeps, where the system tells."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
    return time.monotonic()


def _machine() -> float:
    # By its name at each call, so that a replaced clock is heeded from then on.
    return time.time()


class LedgerClock:
    """Seconds since 1970. Thread-safe.

    Parameters
    ----------
    wall : callable, optional
        The machine's clock, in seconds since 1970.
    even : callable, optional
        A clock that only goes forward, in seconds.
    """

    def __init__(self, wall: Callable[[], float] | None = None, even: Callable[[], float] = steady) -> None:
        self._wall = wall or _machine
        self._even = even
        self._offset = self._wall() - even()
        self._elsewhere: tuple[float, float] | None = None

    def __call__(self) -> float:
        """The time."""
        now = self._even()
        self._compare(now)
        return now + self._offset

    def _compare(self, now: float) -> None:
        """Follow the machine's clock, if it has stood elsewhere for long."""
        offset = self._wall() - now
        if abs(offset - self._offset) <= TOLERANCE_SECONDS:
            self._elsewhere = None
            return
        elsewhere = self._elsewhere
        if elsewhere is None or abs(offset - elsewhere[0]) > TOLERANCE_SECONDS:
            self._elsewhere = (offset, now)
        elif now - elsewhere[1] >= FOLLOWS_AFTER_SECONDS:
            logger.warning("the machine's clock was moved by %.0f s a day ago; days follow", offset - self._offset)
            self._offset, self._elsewhere = offset, None


now = LedgerClock()
"""The process's."""
