"""The clock of what goes on in the background, so that a test can turn it."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """The time of the machine, in seconds; a test's own clock has the same two methods."""

    def now(self) -> float:
        """A moment, of which only differences mean something."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait; 0 lets others go first."""
        await asyncio.sleep(seconds)
