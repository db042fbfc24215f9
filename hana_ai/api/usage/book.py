"""The calls that this process has written, one by one and added up, and the sums over them.

A ledger in memory keeps the newest calls one by one, and of those before only their sums.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal

from hana_ai.api.catalog.money import EXACT, plain, total
from hana_ai.api.usage.budget import utc_day
from hana_ai.api.usage.clock import now
from hana_ai.api.usage.events import UsageEvent, UsageTotals, event_of, row_of, sums_of
from hana_ai.api.usage.older_calls import OlderCalls
from hana_ai.api.usage.pricing import Priced
from hana_ai.api.usage.store import GroupBy, Store

logger = logging.getLogger(__name__)


class Book:
    """One process's part of a store. Not thread-safe but for questions to a shared store.

    Parameters
    ----------
    store : Store
    newest : int
        Calls that are kept one by one in memory.
    batch : int
        Calls that may come on top before older ones are added up.
    """

    def __init__(self, store: Store, *, newest: int, batch: int) -> None:
        self.process = uuid.uuid4().hex[:12]
        self._store = store
        self._newest = newest
        self._batch = batch
        self._last = 0
        self._added_up = 0
        self._spent: dict[str, Decimal] = {}
        self._latest_day = ""
        self._asked = not store.shared
        self._older = OlderCalls()

    def write(self, calls: Sequence[Priced], *, seconds: float | None = None) -> int:
        """Write calls, within some seconds; return the number of the first one.

        Raises
        ------
        StoreError
            Nothing was written.
        """
        if not self._asked:
            self._heard_of(self._store.spent_by_others(self.process, utc_day(now()), seconds=seconds).latest_day)
            self._asked = True
        first = self._last + 1
        spent = self._spent_with(calls)
        rows = [(self.process, number, *row_of(call)) for number, call in enumerate(calls, first)]
        self._store.write(rows, spent, seconds=seconds)
        self._last += len(rows)
        self._spent.update(spent)
        return first

    def set_costs(self, calls: Sequence[tuple[int, Priced]]) -> None:
        """Set the costs of calls that were written before theirs were known.

        Raises
        ------
        StoreError
            Nothing was written.
        """
        spent = self._spent_with([call for _, call in calls])
        costs = [(plain(call.cost), self.process, number) for number, call in calls if call.cost is not None]
        self._store.set_costs(costs, self.process, spent)
        self._spent.update(spent)

    def _spent_with(self, calls: Sequence[Priced]) -> Mapping[str, Decimal]:
        """What the process has spent on the days of these calls, with them."""
        spent: dict[str, Decimal] = {}
        for call in calls:
            if call.cost is not None:
                day = max(utc_day(call.record.called_at), self._latest_day)
                spent[day] = EXACT.add(spent.get(day, self._spent.get(day, Decimal(0))), call.cost)
        return spent

    def add_up_older(self) -> int | None:
        """Bound a book in memory; return the number of the last call that is gone, None where none went."""
        if self._store.shared or self._last - self._added_up < self._newest + self._batch:
            return None
        if not self._added_up:
            logger.info(
                "the ledger in memory keeps the newest %d calls one by one, and sums of those before them; set "
                "TOGETHER_USAGE_DB to keep all",
                self._newest,
            )
        self._added_up = self._last - self._newest
        self._older.add(self._store.older(self._added_up))
        self._store.forget(self._added_up)
        return self._added_up

    def sums(self, by: GroupBy, start: str, end: str) -> dict[str, UsageTotals]:
        """Sums of the calls from `start` until before `end`, by group."""
        return sums_of([*self._store.groups(by, start, end), *self._older.groups(by, start, end)], by)

    def events(self, start: str, end: str) -> list[UsageEvent]:
        """The calls from `start` until before `end`, the oldest first."""
        with self._store.believing():
            return [event_of(row) for row in self._store.rows(start, end)]

    def spent(self, first_day: str, *, seconds: float | None = None) -> tuple[Decimal, Decimal]:
        """What other processes have spent since a day, and what this one wrote as spent since then, in USD."""
        others = self._store.spent_by_others(self.process, first_day, seconds=seconds)
        self._heard_of(others.latest_day)
        return others.usd, total(spent for day, spent in self._spent.items() if day >= first_day)

    def _heard_of(self, day: str) -> None:
        """Note the last day on which somebody spent something: nothing is spent on an earlier one from now on.

        A process whose clock is behind would else spend in a past that nobody looks at.
        """
        today = utc_day(now())
        if day > self._latest_day:
            self._latest_day = day
            if day > today:
                logger.warning(
                    "the ledger %s knows what was spent on %s, and today is %s: until then everything counts as "
                    "spent on that day. If a clock was wrong, correct the DAY of such rows in the table ..._SPENT",
                    self._store.name,
                    day,
                    today,
                )
