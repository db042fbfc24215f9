"""How far an ingest is: counted by its stages, read by whoever shows it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

MOST_NAMED = 1000
"""Documents that could not be read or embedded of which a result names each; the database's table has all."""


@dataclass(frozen=True)
class IngestProgress:
    """How far an ingest is."""

    documents: int = 0
    """Dealt with, one way or another."""
    total: int | None = None
    """Documents in the source; None if only reading it tells."""
    unchanged: int = 0
    """Documents that are in the table as they are."""
    written: int = 0
    """Documents of which rows were written, or taken away."""
    duplicates: int = 0
    """Documents whose name came a second time; the first counts."""
    unreadable: int = 0
    failed: int = 0
    """Documents that cannot be embedded."""
    rows: int = 0
    """Rows that were written and committed."""
    tokens: int = 0
    """Embedded, as the server counted them, else about."""
    cost_usd: Decimal | None = None
    """So far; None if the price is unknown."""
    seconds: float = 0.0

    @property
    def rows_per_second(self) -> float:
        """Since it began."""
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def share(self) -> float | None:
        """How much is done, from 0 to 1; None if the total is unknown."""
        return min(1.0, self.documents / self.total) if self.total else None

    @property
    def seconds_left(self) -> float | None:
        """If it goes on as before; None if nothing can be said."""
        return self.seconds * (1 / self.share - 1) if self.share else None

    @property
    def cost_expected_usd(self) -> Decimal | None:
        """For all of it, if the rest is like what is done; None if nothing can be said."""
        if self.cost_usd is None or not self.share:
            return None
        return self.cost_usd / Decimal(self.share)


class Counter:
    """Adds up what the stages tell. Thread-safe."""

    def __init__(self, total: int | None, price: Callable[[int], Decimal | None]) -> None:
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._price = price
        self._now = IngestProgress(total=total)
        self.problems: list[tuple[str, str]] = []
        """Source and reason of the first documents that could not be read or embedded."""

    def add(self, **counts: int) -> None:
        """Add to the counts of these names."""
        with self._lock:
            self._now = replace(
                self._now, **{name: getattr(self._now, name) + count for name, count in counts.items()}
            )

    def problem(self, source: str, reason: str) -> None:
        """Name a document and what is wrong with it."""
        with self._lock:
            if len(self.problems) < MOST_NAMED:
                self.problems.append((source, reason))

    def snapshot(self) -> IngestProgress:
        """How far it is now."""
        with self._lock:
            now = self._now
        return replace(now, seconds=time.monotonic() - self._began, cost_usd=self._price(now.tokens))


def clock(seconds: float) -> str:
    """A duration as minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
