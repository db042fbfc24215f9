"""How much may be spent in a day or a month, and what has been spent.

What this process spent is known exactly at any time; what others spent, who share the ledger, is read before each
call. Days and months are those of UTC, by the ledger's clock: a new period begins when that has come to the end of
the last one, and at no other time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

from hana_ai.api.catalog.money import EXACT, plain
from hana_ai.api.errors import TogetherAIBudgetExceededError
from hana_ai.api.usage.clock import now as ledger_time

logger = logging.getLogger(__name__)

Period = Literal["day", "month"]

THRESHOLDS = (50, 80, 100)
"""Percent of the budget at which callbacks are called, once a period."""


@dataclass(frozen=True, slots=True)
class BudgetWarning:
    """What a callback of `Ledger.on_budget` is told."""

    percent: int
    """50, 80 or 100."""
    spent_usd: Decimal
    """Spent in this period, by all who share the ledger."""
    budget_usd: Decimal
    period: Period


OnBudget = Callable[[BudgetWarning], None]


def utc_day(timestamp: float) -> str:
    """The date of a time in seconds since 1970, such as 2026-03-31."""
    return datetime.fromtimestamp(timestamp, UTC).date().isoformat()


class Budget:
    """A limit, and what has been spent of it. Thread-safe.

    Parameters
    ----------
    limit : Decimal
        USD in each period.
    period : {"day", "month"}
    clock : callable
        Seconds since 1970. Where it goes back, the period goes on.
    """

    def __init__(self, limit: Decimal, period: Period, clock: Callable[[], float] = ledger_time) -> None:
        self.limit = limit
        self.period: Period = period
        self._clock = clock
        self._lock = threading.Lock()
        self._callbacks: list[OnBudget] = []
        self._uncounted_told = False
        self._begin(clock())

    def _begin(self, now: float) -> None:
        self._begins, self._ends = _bounds(now, self.period)
        self._own = Decimal(0)
        self._others = Decimal(0)
        self._thresholds = [(percent, self.limit * percent / 100) for percent in THRESHOLDS]

    def on_budget(self, callback: OnBudget) -> None:
        """Call this at 50, 80 and 100 percent."""
        with self._lock:
            self._callbacks.append(callback)

    @property
    def first_day(self) -> str:
        """The day on which the period began."""
        with self._lock:
            self._begin_if_over()
            return utc_day(self._begins)

    @property
    def spent(self) -> Decimal:
        """USD spent in this period, as far as is known here."""
        with self._lock:
            self._begin_if_over()
            return EXACT.add(self._own, self._others)

    def add(self, cost: Decimal | None, called_at: float) -> None:
        """Count a call of this process."""
        if cost is None:
            self._tell_uncounted()
            return
        with self._lock:
            self._begin_if_over()
            # A call that began before midnight belongs to the day it is recorded under. After the clock went back,
            # every call begins before the period.
            if called_at >= self._begins or self._clock() < self._begins:
                self._own = EXACT.add(self._own, cost)
            reached = EXACT.add(self._own, self._others) >= self._thresholds[0][1] if self._thresholds else False
        if reached:
            self.warn()

    def set_others(self, spent: Decimal, first_day: str, own: Decimal = Decimal(0)) -> None:
        """Note what other processes have spent since the period's first day, and what of this one is written as
        spent since then; `warn` is to follow."""
        with self._lock:
            self._begin_if_over()
            if first_day == utc_day(self._begins):
                self._others = spent
                self._own = max(self._own, own)

    def check(self) -> None:
        """Refuse the next call, if the budget is spent.

        Raises
        ------
        TogetherAIBudgetExceededError
            It is.
        """
        spent = self.spent
        if spent >= self.limit:
            raise TogetherAIBudgetExceededError(
                f"The budget of ${plain(self.limit)} for this {self.period} is spent (${plain(spent)}), so the "
                f"request was not sent. Raise TOGETHER_BUDGET_USD, or wait until {_until(self._ends)}.",
                spent_usd=spent,
                budget_usd=self.limit,
                period=self.period,
            )

    def _begin_if_over(self) -> None:
        """Begin a new period when the last one is over."""
        now = self._clock()
        if now >= self._ends:
            self._begin(now)

    def warn(self) -> None:
        """Call the callbacks of thresholds that have been reached."""
        warnings: list[BudgetWarning] = []
        with self._lock:
            spent = EXACT.add(self._own, self._others)
            while self._thresholds and spent >= self._thresholds[0][1]:
                percent, _ = self._thresholds.pop(0)
                warnings.append(BudgetWarning(percent, spent, self.limit, self.period))
            callbacks: Sequence[OnBudget] = tuple(self._callbacks)
        for warning in warnings:
            logger.warning(
                "%d %% of the budget of $%s for this %s is spent ($%s)",
                warning.percent,
                plain(self.limit),
                self.period,
                plain(warning.spent_usd),
            )
            for callback in callbacks:
                try:
                    callback(warning)
                except Exception:
                    # An answer that has been paid for is not lost because somebody can't be told its price.
                    logger.exception("a callback of the budget failed")

    def _tell_uncounted(self) -> None:
        with self._lock:
            told, self._uncounted_told = self._uncounted_told, True
        if not told:
            logger.warning(
                "the cost of a call is unknown, since its price or its tokens are: TOGETHER_BUDGET_USD can't "
                "count such calls"
            )


def _bounds(now: float, period: Period) -> tuple[float, float]:
    """When the period that a time is in begins, and when the next one does."""
    first = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return first.timestamp(), (first + timedelta(days=1)).timestamp()
    first = first.replace(day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    return first.timestamp(), following.timestamp()


def _until(ends: float) -> str:
    return datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%d %H:%M UTC")
