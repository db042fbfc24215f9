"""A database that failed is left alone for a while, and that it failed is logged once."""

from __future__ import annotations

import logging
import time


class Outage:
    """Whether a database is away.

    Parameters
    ----------
    seconds : float
        How long it is left alone after an error.
    consequence : str
        What that means, for the log.
    """

    def __init__(self, seconds: float, consequence: str) -> None:
        self._seconds = seconds
        self._consequence = consequence
        self._until = 0.0
        self.is_over = True
        """Whether the database answered when it was last asked."""
        self.error: Exception | None = None
        """What went wrong last; None while nothing does."""

    @property
    def lasts(self) -> bool:
        """Whether the database is to be left alone."""
        return time.monotonic() < self._until

    def extend(self) -> None:
        """Leave the database alone from now on."""
        self._until = time.monotonic() + self._seconds

    def begin(self, error: Exception, logger: logging.Logger) -> None:
        """Note an error; the first one is logged."""
        self.extend()
        self.error = error
        if self.is_over:
            self.is_over = False
            logger.warning("%s; %s", error, self._consequence)

    def end(self) -> None:
        """Note that the database answered."""
        self.is_over, self.error, self._until = True, None, 0.0
