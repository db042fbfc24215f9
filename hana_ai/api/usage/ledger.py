"""The ledger: what every call took and cost, and the budget it is held against.

`get_ledger()` is the process's ledger for the settings. Calls are noted in memory in some microseconds and written
by a thread: after `FLUSH_ROWS` calls or `FLUSH_SECONDS`, whichever comes first, and at the end of the process. A
process that is killed loses no more than that. Where TOGETHER_USAGE_DB is not set, the ledger lives in memory and
ends with the process.

>>> from hana_ai.api import get_ledger
>>> get_ledger().totals()["total_tokens"]
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
import time
import uuid
import weakref
from collections import deque
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from hana_ai.api.catalog.money import EXACT, plain
from hana_ai.api.settings import TogetherAISettings
from hana_ai.api.storage.database import StoreError
from hana_ai.api.usage.budget import Budget, BudgetWarning, OnBudget, utc_day
from hana_ai.api.usage.events import (
    UsageEvent,
    UsageTotals,
    cost_of,
    event_of,
    may_be_priced,
    may_cost,
    no_calls,
    row_of,
    sums_of,
    time_range,
)
from hana_ai.api.usage.key import UsageKey, usage_key
from hana_ai.api.usage.meter import UsageRecord, read_tokens, usage_tags
from hana_ai.api.usage.older_calls import OlderCalls
from hana_ai.api.usage.store import Store, open_store
from hana_ai.api.usage.turns import RenewableLock, Turns

if TYPE_CHECKING:
    from hana_ai.api.catalog.catalog import Catalog

__all__ = [
    "BudgetWarning",
    "Ledger",
    "UsageEvent",
    "UsageTotals",
    "close_all",
    "get_ledger",
    "ledger_for",
    "usage_tags",
]

logger = logging.getLogger(__name__)

FLUSH_ROWS = 256
"""Calls after which the buffer is written."""
FLUSH_SECONDS = 1.0
"""Seconds after which the buffer is written, however few calls are in it."""
MAX_PENDING = 1024
"""Calls in the buffer at which a caller writes it itself, since the thread can't keep up."""

_IN_MEMORY_ROWS = 256
_AWAY_SECONDS = 10.0
_RETRY_PRICES_SECONDS = 600.0
_MOST_UNPRICED = 100_000
_MOST_KEPT = 100_000
_MOST_KEPT_IN_MEMORY = 1_000

By = Literal["day", "model", "operation", "tag"]


class Ledger:
    """Every call of the process, or of all processes that share a database. Thread-safe.

    `get_ledger` makes one. Times without a time zone count as UTC, and days are those of UTC.
    """

    def __init__(self, store: Store, *, budget: Budget | None = None) -> None:
        self._store = store
        self._budget = budget
        self.limited = budget is not None
        self._pending: deque[tuple[UsageRecord, Decimal | None]] = deque()
        self._writing = threading.Lock()
        self._process = uuid.uuid4().hex[:12]
        self._sequence = 0
        self._spent: dict[str, Decimal] = {}
        self._unpriced: deque[tuple[int, UsageRecord]] = deque(maxlen=_MOST_UNPRICED)
        self._prices_tried: weakref.WeakKeyDictionary[Catalog, float] = weakref.WeakKeyDictionary()
        self._some = threading.Event()
        self._full = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._complained = False
        self._away_until = 0.0
        self._trimmed = 0
        self._older = OlderCalls()
        self._last_catalog: Catalog | None = None
        self._asking = threading.Lock()
        self._turns = Turns()

    def __repr__(self) -> str:
        return f"Ledger({self._store.name!r})"

    # --- what the transport calls ---

    def record(self, record: UsageRecord) -> None:
        """Note a call that has ended."""
        budget = self._budget
        if budget is None:
            self._pending.append((record, None))
        else:
            cost = cost_of(record, read_tokens(record.usage))
            self._pending.append((record, cost))
            if cost is not None or may_cost(record):
                # Counted at once: the next call is admitted by it.
                budget.add(cost, record.called_at)
        count = len(self._pending)
        if self._closed:
            # After the end there is nobody else who would write.
            self._write()
            return
        if not self._store.shared and count < _IN_MEMORY_ROWS:
            # Nothing can be lost, and nobody else can ask: what is pending can wait for a question.
            return
        if self._thread is None:
            self._start()
        if not self._some.is_set():
            self._some.set()
        if count >= FLUSH_ROWS or self.limited:
            # With a budget, the other processes want to know at once.
            self._full.set()
            if self._store.shared and count >= MAX_PENDING and not self._complained:
                self._write()

    def admit(self, catalog: Catalog) -> None:
        """Refuse the next call, if the budget is spent; the transport asks before it sends.

        Raises
        ------
        TogetherAIBudgetExceededError
            The budget is spent.
        """
        if self._budget is None:
            return
        self._budget.check()
        if not catalog.fresh:
            # Once an hour: without prices nothing could be counted.
            self._read_prices(catalog)
        if self._store.shared:
            self._turns.run(self._exchange)
            self._budget.warn()
            self._budget.check()

    async def aadmit(self, catalog: Catalog) -> None:
        """Refuse the next call from a coroutine; see `admit`."""
        if self._budget is None:
            return
        self._budget.check()
        if self._store.shared or not catalog.fresh:
            await asyncio.to_thread(self.admit, catalog)

    # --- the budget ---

    @property
    def budget_usd(self) -> Decimal | None:
        """The budget of each period; None when there is none."""
        return self._budget.limit if self._budget is not None else None

    @property
    def spent_usd(self) -> Decimal:
        """What all who share the ledger spent in the budget's period; without a budget, this month."""
        first = self._budget.first_day if self._budget is not None else utc_day(time.time())[:8] + "01"
        return self.totals(start=date.fromisoformat(first))["total_cost_usd"] or Decimal(0)

    def on_budget(self, callback: OnBudget) -> None:
        """Call a function at 50, 80 and 100 percent of the budget, once a period and process.

        Parameters
        ----------
        callback : callable
            Gets a `BudgetWarning`, in the thread of the call that reached it. What it raises is logged.
        """
        if self._budget is not None:
            self._budget.on_budget(callback)

    def _exchange(self) -> None:
        """Tell the other processes what this one spent, and ask what they did."""
        assert self._budget is not None
        if time.monotonic() < self._away_until:
            # Until the database is back, this process goes by what it knows.
            return
        self._write()
        first_day = self._budget.first_day
        try:
            self._budget.set_others(self._store.spent_by_others(self._process, first_day), first_day)
        except StoreError as exc:
            self._complain(exc)

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
        """Add up the calls by day, model, operation or tag; see `totals`.

        A call with several tags counts for each of them, and one without any under the empty string.
        """
        return dict(sorted(self._sums(by, start, end).items()))

    def events(self, start: date | datetime | None = None, end: date | datetime | None = None) -> list[UsageEvent]:
        """List the calls from `start` until before `end`, the oldest first; see `totals`."""
        self._settle()
        return [event_of(row) for row in self._store.rows(*time_range(start, end))]

    def _sums(
        self, by: By | Literal["nothing"], start: date | datetime | None, end: date | datetime | None
    ) -> dict[str, UsageTotals]:
        self._settle()
        between = time_range(start, end)
        if self._store.shared:
            return sums_of(self._store.groups(by, *between), by)
        with self._writing:
            # Together, since calls move from the one to the other.
            groups = [*self._store.groups(by, *between), *self._older.groups(by, *between)]
        return sums_of(groups, by)

    def _settle(self) -> None:
        """Write what is pending, and find prices that are still missing."""
        self.flush()
        self._find_prices()

    # --- writing ---

    def flush(self) -> None:
        """Write what is in the buffer; if the database refuses, that is logged, and the calls are kept."""
        self._write()

    def _write(self) -> None:
        late = self._write_pending()
        if self._budget is not None:
            # Outside of the lock: a callback of the budget may ask the ledger something.
            for cost, called_at in late:
                self._budget.add(cost, called_at)

    def _write_pending(self) -> list[tuple[Decimal, float]]:
        """Write; costs that were not known when their calls ended, and when those began."""
        with self._writing:
            self._some.clear()
            self._full.clear()
            taken: list[tuple[UsageRecord, Decimal | None]] = []
            while self._pending:
                taken.append(self._pending.popleft())
            if not taken:
                return []
            late: list[tuple[Decimal, float]] = []
            spent: dict[str, Decimal] = {}
            rows, unpriced, sequence = [], [], self._sequence
            for record, known in taken:
                sequence += 1
                tokens = read_tokens(record.usage)
                cost = cost_of(record, tokens) if known is None else known
                if cost is None and may_be_priced(record, tokens):
                    unpriced.append((sequence, record))
                elif cost is not None:
                    self._spend(spent, record, cost)
                    if known is None:
                        late.append((cost, record.called_at))
                rows.append((self._process, sequence, *row_of(record, tokens, cost)))
            try:
                self._store.write(rows, spent)
            except StoreError as exc:
                self._complain(exc)
                self._pending.extendleft(reversed(taken))
                self._some.set()
                while len(self._pending) > _MOST_KEPT:
                    self._pending.popleft()
                return []
            self._complained = False
            self._sequence = sequence
            self._spent.update(spent)
            self._unpriced.extend(unpriced)
            self._last_catalog = taken[-1][0].catalog
            self._trim()
            return late

    def _trim(self) -> None:
        """Bound the memory of a ledger that lives in it."""
        if self._store.shared or self._sequence - self._trimmed < _MOST_KEPT_IN_MEMORY + _IN_MEMORY_ROWS:
            return
        if not self._trimmed:
            logger.info(
                "the ledger in memory keeps the newest %d calls one by one, and sums of those before them; set "
                "TOGETHER_USAGE_DB to keep all",
                _MOST_KEPT_IN_MEMORY,
            )
        self._trimmed = self._sequence - _MOST_KEPT_IN_MEMORY
        self._older.add(self._store.older(self._trimmed))
        self._store.forget(self._trimmed)
        while self._budget is None and self._unpriced and self._unpriced[0][0] <= self._trimmed:
            # There is no line left to write a price to.
            self._unpriced.popleft()

    def _spend(self, spent: dict[str, Decimal], record: UsageRecord, cost: Decimal) -> None:
        day = utc_day(record.called_at)
        before = spent[day] if day in spent else self._spent.get(day, Decimal(0))
        spent[day] = EXACT.add(before, cost)

    def _complain(self, exc: StoreError) -> None:
        self._away_until = time.monotonic() + _AWAY_SECONDS
        if not self._complained:
            self._complained = True
            logger.warning("%s; calls are kept in memory until it can be", exc)

    # --- prices ---

    def _find_prices(self, *, in_background: bool = False) -> None:
        """Read catalogues that were not read yet, and price the calls that wait for them."""
        for catalog in {id(record.catalog): record.catalog for _, record in list(self._unpriced)}.values():
            if catalog.cached is None:
                self._read_prices(catalog)
        with self._writing:
            if in_background and self._closed:
                # It was done by `close`, and nobody would close the database again.
                return
            costs: list[tuple[str, str, int]] = []
            still: list[tuple[int, UsageRecord]] = []
            spent: dict[str, Decimal] = {}
            found: list[tuple[Decimal, float]] = []
            for sequence, record in self._unpriced:
                tokens = read_tokens(record.usage)
                cost = cost_of(record, tokens)
                if cost is not None:
                    self._spend(spent, record, cost)
                    costs.append((plain(cost), self._process, sequence))
                    found.append((cost, record.called_at))
                elif may_be_priced(record, tokens):
                    still.append((sequence, record))
            if costs:
                try:
                    self._store.set_costs(costs, self._process, spent)
                except StoreError as exc:
                    self._complain(exc)
                    return
                self._spent.update(spent)
            self._unpriced = deque(still, maxlen=_MOST_UNPRICED)
        if self._budget is not None:
            for cost, called_at in found:
                self._budget.add(cost, called_at)

    def _may_ask(self, catalog: Catalog) -> bool:
        tried = self._prices_tried.get(catalog)
        return tried is None or time.monotonic() - tried > _RETRY_PRICES_SECONDS

    def _read_prices(self, catalog: Catalog) -> None:
        """Read a catalogue that is not fresh, unless that failed a while ago; whoever comes meanwhile waits."""
        with self._asking:
            if catalog.fresh or not self._may_ask(catalog):
                return
            self._prices_tried[catalog] = time.monotonic()
            try:
                catalog.models()
            except RuntimeError as exc:
                # A TogetherAIError, or httpx's word that the client was closed meanwhile. Costs stay unknown,
                # which the totals show; the next try is some minutes later.
                logger.debug("no prices for the ledger %s: %s", self._store.name, exc)

    # --- the thread ---

    def _start(self) -> None:
        with self._writing:
            if self._thread is not None or self._closed:
                return
            self._thread = threading.Thread(target=self._keep_writing, name="together-ai-ledger", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as exc:
                # At the end of the interpreter no thread can be started; what is pending is written by `close`.
                logger.debug("the ledger %s has no thread: %s", self._store.name, exc)
        util = sys.modules.get("multiprocessing.util")
        if util is not None and sys.modules["multiprocessing.process"].parent_process() is not None:
            # Forked workers of multiprocessing leave without `atexit`.
            util.Finalize(self, self.close, exitpriority=10)

    def _keep_writing(self) -> None:
        while not self._closed:
            self._some.wait()
            self._full.wait(FLUSH_SECONDS)
            if self._closed:
                return
            self._write()
            self._price_in_background()
            if self._complained:
                # The database is away: no busy loop over what can't be written.
                time.sleep(FLUSH_SECONDS)

    def _price_in_background(self) -> None:
        """Find and renew prices in a thread of its own, since a slow catalogue must not hold up the writing."""
        catalogs = {id(record.catalog): record.catalog for _, record in list(self._unpriced)}
        if self._last_catalog is not None:
            catalogs[id(self._last_catalog)] = self._last_catalog
        old = [catalog for catalog in catalogs.values() if not catalog.fresh and self._may_ask(catalog)]
        if not old and not any(catalog.cached is not None for catalog in catalogs.values() if self._unpriced):
            return

        def renew() -> None:
            for catalog in old:
                self._read_prices(catalog)
            self._find_prices(in_background=True)

        threading.Thread(target=renew, name="together-ai-prices", daemon=True).start()

    def close(self) -> None:
        """Write everything and close the database; a later question opens it again."""
        self._closed = True
        self._some.set()
        self._full.set()
        self._write()
        if self._store.shared and self._unpriced:
            self._find_prices()
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
    return ledger_for(usage_key(settings if settings is not None else TogetherAISettings()))


def ledger_for(key: UsageKey) -> Ledger:
    """The process's ledger for a key."""
    with _lock:
        ledger = _ledgers.get(key)
        if ledger is None:
            budget = None if key.budget is None else Budget(key.budget, key.period)
            ledger = _ledgers[key] = Ledger(open_store(key), budget=budget)
        return ledger


def close_all() -> None:
    """Write and close every ledger; the next call makes new ones."""
    with _lock:
        ledgers = list(_ledgers.values())
        _ledgers.clear()
    for ledger in ledgers:
        ledger.close()


def _begin_anew() -> None:
    # A forked child writes under its own name and through its own connection. The parent's stay as they are:
    # closing them here would reach into the parent's files.
    _lock.renew()
    _left_behind.extend(_ledgers.values())
    _ledgers.clear()


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
