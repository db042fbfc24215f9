"""The ledger: what every call took and cost, and the budget it is held against.

`get_ledger()` is the process's ledger for the settings. Calls are noted in memory in some microseconds and written
by a thread: after 256 calls or a second, whichever comes first, and at the end of the process. A process that is
killed loses no more than that. Where TOGETHER_USAGE_DB is not set, the ledger lives in memory and ends with the
process. No call waits for its database for longer than half of the time that it has.

>>> from hana_ai.api import get_ledger
>>> get_ledger().totals()["total_tokens"]
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from hana_ai.api.process import RenewableLock, Stage, close_each, on_exit, on_fork
from hana_ai.api.settings import TogetherAISettings, current_settings
from hana_ai.api.storage.outage import Outage
from hana_ai.api.storage.schema import StoreError
from hana_ai.api.usage.admission import Admission
from hana_ai.api.usage.book import Book
from hana_ai.api.usage.budget import Budget, BudgetWarning, OnBudget, utc_day
from hana_ai.api.usage.clock import now
from hana_ai.api.usage.events import UsageBy, UsageEvent, UsageTotals, no_calls, time_range
from hana_ai.api.usage.key import UsageKey, usage_key
from hana_ai.api.usage.limits import LIMITS, Limits
from hana_ai.api.usage.pricing import CatalogFor, Priced, Prices
from hana_ai.api.usage.record import UsageRecord
from hana_ai.api.usage.store import Store, open_store
from hana_ai.api.usage.tags import usage_tags
from hana_ai.api.usage.writer import Writer

__all__ = [
    "BudgetWarning",
    "Ledger",
    "Limits",
    "UsageEvent",
    "UsageTotals",
    "close_all",
    "get_ledger",
    "ledger_for",
    "usage_tags",
]

logger = logging.getLogger(__name__)

By = Literal["day", "model", "operation", "tag"]
OnCost = Callable[[Decimal, float], None]
"""Gets USD, and when the call began, in seconds since 1970."""


class Ledger:
    """Every call of the process, or of all processes that share a database. Thread-safe.

    `get_ledger` makes one. Times without a time zone count as UTC, and days are those of UTC.
    """

    def __init__(
        self,
        store: Store,
        *,
        catalog_for: CatalogFor | None = None,
        budget: Budget | None = None,
        strict: bool = False,
        limits: Limits = LIMITS,
    ) -> None:
        self._store = store
        self._budget = budget
        self._limits = limits
        self._book = Book(store, newest=limits.newest_in_memory, batch=limits.batch_in_memory)
        self._prices = Prices(
            catalog_for, most_waiting=limits.most_unpriced, try_again_seconds=limits.retry_prices_seconds
        )
        self._pending: deque[tuple[UsageRecord, Decimal | None]] = deque()
        self._newest: UsageRecord | None = None
        self._on_cost: tuple[OnCost, ...] = ()
        self._writing = threading.Lock()
        self._writer = Writer(self._keep_up, limits.flush_seconds)
        self._outage = Outage(
            limits.away_seconds, "calls are refused" if strict else "calls are kept in memory until it can be"
        )
        self.admission = Admission(
            store,
            self._book,
            self._prices,
            budget,
            outage=self._outage,
            flush=self._flush_within,
            strict=strict,
            limits=limits,
        )

    def __repr__(self) -> str:
        return f"Ledger({self._store.name!r})"

    def price_by(self, catalog_for: CatalogFor) -> None:
        """Take prices from these catalogues."""
        self._prices.catalog_for = catalog_for

    # --- after each call; before it, `admission` is asked ---

    def record(self, record: UsageRecord) -> None:
        """Note a call that has ended."""
        cost = None if self._budget is None else self._prices.of(record).cost
        self._pending.append((record, cost))
        if self._budget is not None and (cost is not None or record.may_cost):
            # Counted at once: the next call is admitted by it.
            self._spend(self._budget, cost, record.called_at)
        pending = len(self._pending)
        if self._writer.closed:
            # After the end there is nobody else who would write.
            self._flush_within(self._limits.most_waited_in_a_call)
            return
        if not self._store.shared and pending < self._limits.batch_in_memory:
            # Nothing can be lost, and nobody else can ask: what is pending can wait for a question.
            return
        # With a budget, the other processes want to know at once.
        self._writer.wake(at_once=pending >= self._limits.flush_rows or self.admission.needed)
        if self._store.shared and pending >= self._limits.most_pending and self._outage.is_over:
            self._flush_within(self._limits.most_waited_in_a_call)

    # --- the budget ---

    @property
    def budget_usd(self) -> Decimal | None:
        """The budget of each period; None when there is none."""
        return self._budget.limit if self._budget is not None else None

    @property
    def budget_period(self) -> Literal["day", "month"] | None:
        """How long a budget lasts; None when there is none."""
        return self._budget.period if self._budget is not None else None

    @property
    def spent_usd(self) -> Decimal:
        """What all who share the ledger spent in the budget's period; without a budget, this month."""
        first = self._budget.first_day if self._budget is not None else utc_day(now())[:8] + "01"
        return self.totals(start=date.fromisoformat(first))["total_cost_usd"] or Decimal(0)

    def on_budget(self, callback: OnBudget) -> None:
        """Call a function at 50, 80 and 100 percent of the budget, once a period and process.

        Parameters
        ----------
        callback : callable
            Gets a `BudgetWarning`, in the thread or task of the call that reached it; for a call whose price came
            later, in the ledger's thread. What it raises is logged.
        """
        if self._budget is not None:
            self._budget.on_budget(callback)

    def _count(self, calls: Iterable[Priced]) -> None:
        """Count calls whose cost was not known when they ended.

        Never under a lock: a callback of the budget may ask the ledger something.
        """
        if self._budget is not None:
            for call in calls:
                if call.cost is not None:
                    self._spend(self._budget, call.cost, call.record.called_at)

    def _spend(self, budget: Budget, cost: Decimal | None, called_at: float) -> None:
        budget.add(cost, called_at)
        if cost is not None:
            for callback in self._on_cost:
                callback(cost, called_at)

    def on_cost(self, callback: OnCost) -> None:
        """Call a function with the cost of each call, once that is known; where there is a budget only."""
        self._on_cost += (callback,)

    def count_elsewhere(self, cost: Decimal, called_at: float) -> None:
        """Count against the budget what a process has spent whose calls are in another ledger.

        Nothing is counted where all share a database.
        """
        if self._budget is not None and not self._store.shared:
            self._budget.add(cost, called_at)

    # --- questions ---

    def totals(self, start: date | datetime | None = None, end: date | datetime | None = None) -> UsageTotals:
        """Add up the calls from `start` until before `end`.

        Parameters
        ----------
        start, end : date or datetime, optional
            A date as `end` includes that day. Default: all calls.

        Raises
        ------
        TogetherAIError
            The ledger's database can't be read.
        """
        return self._sums("nothing", start, end).get("", no_calls())

    def totals_by(
        self, by: By, start: date | datetime | None = None, end: date | datetime | None = None
    ) -> dict[str, UsageTotals]:
        """Add up the calls by day, model, operation or tag; takes and raises the same as `totals`.

        A call with several tags counts for each of them, and one without any under the empty string.
        """
        return UsageBy(sorted(self._sums(by, start, end).items()))

    def events(self, start: date | datetime | None = None, end: date | datetime | None = None) -> list[UsageEvent]:
        """List the calls from `start` until before `end`, the oldest first; raises as `totals`."""
        self._settle()
        return self._book.events(*time_range(start, end))

    def _sums(
        self, by: By | Literal["nothing"], start: date | datetime | None, end: date | datetime | None
    ) -> dict[str, UsageTotals]:
        self._settle()
        between = time_range(start, end)
        if self._store.shared:
            return self._book.sums(by, *between)
        with self._writing:
            # Calls move from the newest to the older ones.
            return self._book.sums(by, *between)

    def _settle(self) -> None:
        """Write what is pending, and find prices that are still missing."""
        self.flush()
        self._find_prices()

    # --- writing ---

    def flush(self) -> None:
        """Write what is in the buffer; if the database refuses, that is logged, and the calls are kept."""
        self._flush_within(self._limits.write_seconds)

    def _flush_within(self, seconds: float) -> None:
        self._count(self._write(seconds))

    def _write(self, seconds: float) -> list[Priced]:
        """Write what is pending, in so many seconds; return the calls whose cost was not known when they ended."""
        deadline = time.monotonic() + seconds
        if not self._writing.acquire(timeout=seconds):
            # Whoever writes takes them, too.
            return []
        try:
            self._writer.resting()
            taken: list[tuple[UsageRecord, Decimal | None]] = []
            while self._pending:
                taken.append(self._pending.popleft())
            if not taken:
                return []
            calls = [self._prices.of(record, cost) for record, cost in taken]
            try:
                first = self._book.write(calls, seconds=max(0.0, deadline - time.monotonic()))
            except StoreError as exc:
                self._outage.begin(exc, logger)
                self._pending.extendleft(reversed(taken))
                self._writer.wake(at_once=False)
                while len(self._pending) > self._limits.most_kept:
                    self._pending.popleft()
                return []
            self._outage.end()
            self._newest = calls[-1].record
            self._prices.waiting.extend(
                (number, call.record) for number, call in enumerate(calls, first) if self._prices.may_come(call)
            )
            added_up = self._book.add_up_older()
            if added_up is not None and self._budget is None:
                # There is no line left to write a price to.
                self._prices.forget_until(added_up)
            return [call for call, (_, cost) in zip(calls, taken, strict=True) if cost is None]
        finally:
            self._writing.release()

    def _find_prices(self, *, in_background: bool = False) -> None:
        """Read catalogues that were not read yet, and price the calls that wait for them."""
        for catalog in self._prices.catalogs():
            if catalog.cached is None:
                self._prices.read(catalog)
        self._price(in_background=in_background)

    def _price(self, *, in_background: bool = False) -> None:
        """Price the calls that wait for it, by the catalogues as they were read."""
        with self._writing:
            if in_background and self._writer.closed:
                # It was done by `close`, and nobody would close the database again.
                return
            priced, waiting = self._prices.found()
            if priced:
                try:
                    self._book.set_costs(priced)
                except StoreError as exc:
                    self._outage.begin(exc, logger)
                    return
            self._prices.keep(waiting)
        self._count(call for _, call in priced)

    def _keep_up(self) -> None:
        """What the writer's thread does."""
        self.flush()
        self._price_in_background()
        if not self._outage.is_over:
            # No busy loop over what can't be written.
            time.sleep(self._limits.flush_seconds)

    def _price_in_background(self) -> None:
        """Find and renew prices in a thread of its own, since a slow catalogue must not hold up the writing."""
        catalogs = self._prices.catalogs(self._newest)
        due = [catalog for catalog in catalogs if self._prices.is_due(catalog)]
        may_be_found = self._prices.waiting and any(catalog.cached is not None for catalog in catalogs)
        if not due and not may_be_found:
            return

        def renew() -> None:
            for catalog in due:
                self._prices.read(catalog)
            self._find_prices(in_background=True)

        threading.Thread(target=renew, name="together-ai-prices", daemon=True).start()

    def close(self) -> None:
        """Write everything and close the database; a later question opens it again."""
        self._writer.close()
        self.admission.closed = True
        self.flush()
        if self._store.shared and self._prices.waiting:
            self._prices.read_within(self._limits.close_seconds)
            self._price()
        with self._writing:
            self._store.close()
        if self._pending:
            logger.warning("%d calls could not be written to the ledger %s", len(self._pending), self._store.name)


# --- one ledger for all who ask for the same ---

_ledgers: dict[UsageKey, Ledger] = {}
_lock = RenewableLock()
_left_behind: list[Ledger] = []


def get_ledger(settings: TogetherAISettings | None = None) -> Ledger:
    """Return the process's ledger for the settings, the same one for the same settings.

    Parameters
    ----------
    settings : TogetherAISettings, optional
        Default: read from the environment and `.env`.

    Raises
    ------
    TogetherAISettingsError
        TOGETHER_USAGE_DB can't be used; the message says what to do.

    Examples
    --------
    >>> from hana_ai.api import get_ledger
    >>> for day, totals in get_ledger().totals_by("day").items():
    ...     print(day, totals["total_requests"], totals["total_cost_usd"])
    """
    return ledger_for(usage_key(settings if settings is not None else current_settings()))


def ledger_for(key: UsageKey, catalog_for: CatalogFor | None = None) -> Ledger:
    """The process's ledger for a key; `catalog_for` is where it takes prices from, from now on.

    Raises
    ------
    TogetherAISettingsError
        The key's database can't be used; the message says what to do.
    """
    with _lock:
        ledger = _ledgers.get(key)
        if ledger is None:
            budget = None if key.budget is None else Budget(key.budget, key.period)
            ledger = _ledgers[key] = Ledger(open_store(key), budget=budget, strict=key.strict)
    if catalog_for is not None:
        ledger.price_by(catalog_for)
    return ledger


def close_all() -> None:
    """Write and close every ledger; the next call makes new ones."""
    close_each(_ledgers, _lock)


def _begin_anew() -> None:
    # A forked child writes under its own name and through its own connection. The parent's stay as they are:
    # closing them here would reach into the parent's files.
    _left_behind.extend(_ledgers.values())
    _ledgers.clear()


on_fork(in_child=_begin_anew)
on_exit(Stage.LEDGERS, close_all)
