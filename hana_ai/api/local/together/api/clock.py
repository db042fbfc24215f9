"""The clock of what goes on in the background, so that a test can turn it, and times as the API writes them."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta


class Clock:
    """The time of the machine, in seconds; a test's own clock has the same two methods."""

    def now(self) -> float:
        """A moment, of which only differences mean something."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait; 0 lets others go first."""
        await asyncio.sleep(seconds)


def stamp(seconds_ago: float = 0.0) -> str:
    """A point in time as the API writes it."""
    return written(datetime.now(UTC) - timedelta(seconds=seconds_ago))


def written(moment: datetime) -> str:
    """A moment of UTC as the API writes it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
