"""Circuit breakers: they say where not to go for a while.

They live in the engine's thread and take no lock; `state` may be read from any thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a target is left alone, and for how long."""

    opens_after: int = 5
    """Failures in a row after which a target is left alone."""
    first_rest: float = 5.0
    """Seconds until one call probes a target that was left alone."""
    longest_rest: float = 60.0
    """Each failed probe doubles the rest, up to these seconds."""


class CircuitBreaker:
    """Leaves a target alone after failures in a row, and lets one call at a time probe it again.

    Closed: every call may go. After failures in a row it opens: none may, for some seconds. Then it is half open:
    one call may; if that succeeds the breaker closes, if not it rests twice as long. A stream has succeeded at its
    end; one that breaks before has failed.

    Parameters
    ----------
    name : str
        For the log.
    policy : BreakerPolicy, optional
    clock : callable
        Seconds, as `time.monotonic` gives them.
    """

    def __init__(
        self,
        name: str,
        policy: BreakerPolicy = BreakerPolicy(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._policy = policy
        self._clock = clock
        self._failures = 0
        self._rest = policy.first_rest
        self._open_until: float | None = None
        self._probing = False

    @property
    def state(self) -> str:
        """closed, open or half-open."""
        if self._open_until is None:
            return "closed"
        return "open" if self._clock() < self._open_until else "half-open"

    @property
    def is_open(self) -> bool:
        """Whether calls had better go elsewhere."""
        return self._open_until is not None

    def allow(self) -> bool:
        """Whether a call may go; True for the one that probes, which must then tell how it went."""
        if self._open_until is None:
            return True
        if self._probing or self._clock() < self._open_until:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """Tell that the target answered."""
        if not self._failures and self._open_until is None:
            return
        was_open, self._open_until = self._open_until is not None, None
        self._failures, self._rest, self._probing = 0, self._policy.first_rest, False
        if was_open:
            logger.warning("%s answers again", self._name)

    def began(self) -> None:
        """Tell that the target's stream began: an open breaker closes, but one more failure opens it again."""
        if self._open_until is None:
            return
        self._failures, self._open_until, self._probing = self._policy.opens_after - 1, None, False
        logger.warning("%s answers again", self._name)

    def failed(self) -> None:
        """Tell that the target failed."""
        self._failures += 1
        if self._open_until is None:
            if self._failures < self._policy.opens_after:
                return
            logger.warning(
                "%s failed %d times in a row; calls go elsewhere for %g s", self._name, self._failures, self._rest
            )
        elif self._probing:
            self._rest = min(self._policy.longest_rest, self._rest * 2)
        else:
            # A call from before it opened; it says nothing new.
            return
        self._probing = False
        self._open_until = self._clock() + self._rest

    def abandoned(self) -> None:
        """Tell that a call ended without an outcome, such as by a cancellation."""
        self._probing = False
