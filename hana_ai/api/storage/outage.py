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

    __slots__ = ("_consequence", "_seconds", "_told", "_until")

    def __init__(self, seconds: float, consequence: str) -> None:
        self._seconds = seconds
        self._consequence = consequence
        self._until = 0.0
        self._told = False

    @property
    def lasts(self) -> bool:
        """Whether the database is to be left alone."""
        return time.monotonic() < self._until

    @property
    def is_over(self) -> bool:
        """Whether the database answered when it was last asked."""
        return not self._told

    def begin(self, error: Exception, logger: logging.Logger) -> None:
        """Note an error; the first one is logged."""
        self._until = time.monotonic() + self._seconds
        if not self._told:
            self._told = True
            logger.warning("%s; %s", error, self._consequence)

    def spread_to(self, other: Outage) -> None:
        """Leave alone for as long what `other` is about."""
        other._until = self._until

    def end(self) -> None:
        """Note that the database answered."""
        self._told = False
