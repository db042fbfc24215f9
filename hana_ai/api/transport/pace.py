"""How fast requests may start, learned from refusals. Times are passed in; no clock, no lock, no I/O.

Together's limits are a rate that it does not publish and that moves with load. Nothing is known before the first
refusal, so nothing holds a start back. From then on starts are spaced evenly. What the server answered between
two refusals is what it allows: its bucket was empty at both. A refusal brings the rate down to that, and a refusal
soon after another one takes a quarter off. Time without one raises it, slowly first and then faster, so that a
limit that has grown is soon found; where the last two refusals agree it takes longer, so that fewer follow. The
step is the same for every process, and what a refusal takes is a part of the rate: so processes that share a limit
drift to equal shares (Chiu and Jain, 1989).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

_STEP = 10.0
"""Growth in the first second after a refusal, in requests a second."""
_SMALL = 0.3
"""The same for small rates, as a part of the rate."""
_SLACK = 0.4
"""Part of the rate that is left to the server's bucket after a refusal that names no wait."""
_SHRINK = 0.75
"""What is left of the rate after a refusal too soon after the last one to have measured anything."""
_ENOUGH = 20
"""Requests that make a measurement."""
_MIDDLE = 0.9
_MOST_ABOVE = 4.0

_GUESS = 20.0
"""Starts a second where nothing was answered before the first refusal."""
_FIRST_SHRINK = 0.5
_DOUBLING = 0.5
"""Seconds in which a rate doubles that is only guessed yet."""
_LESS_SURE = 1.6
"""Factor on those seconds for each refusal that measures nothing."""

# Growth takes the longest of: a second, the time of so many requests, and multiples of what a refusal costs.
_QUIET = 20
_QUIET_WHEN_SURE = 30
"""The same where a limit stands still: the last two refusals have measured about the same."""
_SAME = 0.2
"""Part of a measured rate by which another one may differ and be about the same."""
_WAIT_WEIGHT = 2.0
_DELAY_WEIGHT = 10.0

_CATCH_UP = 0.2
"""Seconds of missed starts that may be made up for at once."""
_SLOWEST = 0.1
_BOUNDLESS = 20_000.0
"""A rate that limits nothing any more."""


class Pace:
    """The learned rate, and when the next request may start.

    Parameters
    ----------
    jitter : callable
        Gives the factor by which growth is stretched after a refusal, so that processes do not move in step.
    """

    def __init__(self, jitter: Callable[[], float] = lambda: random.uniform(0.8, 1.25)) -> None:
        self._jitter = jitter
        self.learned = False
        self._measured = False
        self._doubling = _DOUBLING
        self._base = 0.0
        self._stretch = 1.0
        self._grows_from = 0.0
        self._tokens = 0.0
        self._filled = 0.0
        self._shrunk = 0.0
        self._accepted = 0
        self._allowed = 0.0
        self._quiet = _QUIET

    def rate(self, now: float) -> float:
        """Starts a second."""
        grown: float = max(0.0, now - self._grows_from) / self._stretch
        if not self._measured:
            return self._base * math.pow(2.0, min(60.0, grown / self._doubling))
        return self._base + min(_STEP, _SMALL * self._base) * (grown + grown**2 + grown**3)

    def start(self, now: float) -> float:
        """Seconds until the next request may start; 0.0 takes the start."""
        rate = self.rate(now)
        if rate > _BOUNDLESS:
            # Long without a refusal: what was learned is no longer true.
            self.learned = self._measured = False
            return 0.0
        self._tokens = min(max(1.0, rate * _CATCH_UP), self._tokens + (now - self._filled) * rate)
        self._filled = now
        if self._tokens < 1.0 - 1e-9:
            return (1.0 - self._tokens) / rate
        self._tokens -= 1.0
        self._accepted += 1
        return 0.0

    def undo(self) -> None:
        """Take a start back that was not used."""
        self._tokens += 1.0
        self._accepted -= 1

    def refused(self, now: float, sent: float, wait: float, answers: float) -> None:
        """Learn from a refusal.

        Parameters
        ----------
        now, sent : float
            Now, and when the refused request was sent.
        wait : float
            Seconds for which nobody starts, since the server says so.
        answers : float
            Answers a second until now; asked for the first time only.
        """
        self._accepted -= 1
        if self.learned and sent < self._shrunk:
            # What was sent before the last decrease says nothing new.
            return
        rate = self.rate(now) if self.learned else max(answers, _GUESS)
        if not self.learned:
            base = rate * _FIRST_SHRINK
        elif self._accepted >= _ENOUGH:
            self._measured = True
            # All that was allowed since the last refusal, unless the bucket ran over meanwhile: in a pause, or
            # because the rate was far below the limit. What is too fast now is the bound from above.
            allowed = self._accepted / (now - self._shrunk)
            self._quiet = _QUIET_WHEN_SURE if abs(allowed - self._allowed) <= _SAME * allowed else _QUIET
            self._allowed = allowed
            base = min(rate, max(allowed, (allowed * _MIDDLE * min(rate, _MOST_ABOVE * allowed)) ** 0.5))
            base *= 1.0 - _SLACK * max(0.0, 1.0 - wait)
        else:
            base = rate * _SHRINK
            self._quiet = _QUIET
            self._doubling *= _LESS_SURE
        base = max(base, _SLOWEST)
        self._stretch = self._jitter() * max(
            1.0, self._quiet / base if self._measured else 0.0, _WAIT_WEIGHT * wait, _DELAY_WEIGHT * (now - sent)
        )
        self._base = base
        self.learned = True
        self._shrunk, self._accepted = now, 0
        self._grows_from = now + wait
        self._tokens, self._filled = 0.0, now + wait
