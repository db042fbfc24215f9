"""What a ledger in memory remembers of calls that it no longer keeps one by one: their sums, day by day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

from hana_ai.api.catalog.money import EXACT, plain
from hana_ai.api.storage.drivers import Row

_PLACES = {"day": 0, "operation": 1, "model": 2, "tag": 3}


class OlderCalls:
    """Sums by day, operation, model and tags."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str | bool, ...], tuple[Decimal, list[int]]] = {}

    def add(self, groups: Iterable[Row]) -> None:
        """Take what `Store.older` gives: day, operation, model, tags, cost, calls, and further counts."""
        for day, operation, model, tags, cost, calls, *counts in groups:
            key = (day, operation, model, tags, cost is not None)
            numbers = [int(calls), *(int(count or 0) for count in counts)]
            total, before = self._sums.get(key, (Decimal(0), [0] * len(numbers)))
            if cost is not None:
                total = EXACT.add(total, EXACT.multiply(Decimal(cost), Decimal(int(calls))))
            self._sums[key] = (total, [one + other for one, other in zip(before, numbers, strict=True)])

    def groups(self, by: str, start: str, end: str) -> Iterator[Row]:
        """The sums of the days that begin from `start` until before `end`, as `Store.groups` gives them."""
        for key, (total, (calls, *counts)) in self._sums.items():
            if not start <= f"{key[0]} 00:00:00.000000" < end:
                continue
            name = key[_PLACES[by]] if by in _PLACES else ""
            if not key[-1]:
                yield (name, None, calls, *counts)
            else:
                # A group's cost is that of each of its calls: one call has it all.
                yield (name, plain(total), 1, *counts)
                yield (name, "0", calls - 1, *(0 for _ in counts))
