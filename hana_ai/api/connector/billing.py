"""What a connector's calls used and cost: from the ledger, with Together's own bill beside it."""

from __future__ import annotations

import asyncio
import calendar
import math
from collections.abc import Awaitable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, TypedDict

from hana_ai.api.errors import TogetherAIInputError, TogetherAIModelNotFoundError

if TYPE_CHECKING:
    from together import AsyncTogether
    from together.pagination import AsyncCursorPagination
    from together.types.organization import BillingUsageWindow

    from hana_ai.api.connector.account import Account, PageArguments
    from hana_ai.api.usage.ledger import UsageTotals


class Billed(TypedDict):
    """What Together billed the organisation, for all its keys and projects."""

    total_cost_usd: float
    by_product: dict[str, float]
    """USD by Together's name for the product."""
    by_day: dict[str, float]
    """USD by day (UTC); the newest day may still grow."""


class UsageStats(TypedDict):
    """Calls, tokens and costs of a period."""

    total_requests: int
    total_tokens: int
    prompt_tokens: int
    completion_tokens: int
    total_cost_usd: float
    """USD of the calls whose cost is known; NaN if there were calls, but none with a known cost."""
    unknown_cost_requests: int
    """Calls that `total_cost_usd` leaves out."""
    start_date: str
    end_date: str
    billed: Billed | None
    """None where the organisation has no billing API."""


async def usage_stats(account: Account, start: object, end: object) -> UsageStats:
    """The figures from the first day to the last; see `TogetherAIConnector.get_usage_stats`."""
    first, last = _moments(start, end)
    # In a thread: the ledger may be a database.
    totals = await asyncio.to_thread(_ledger_totals, account, first, last)
    cost = totals["total_cost_usd"]
    return {
        "total_requests": totals["total_requests"],
        "total_tokens": totals["total_tokens"],
        "prompt_tokens": totals["prompt_tokens"],
        "completion_tokens": totals["completion_tokens"],
        "total_cost_usd": math.nan if cost is None else float(cost),
        "unknown_cost_requests": totals["unknown_cost_requests"],
        "start_date": first.date().isoformat(),
        "end_date": (last - timedelta(microseconds=1)).date().isoformat(),
        "billed": await _billed(account, first, last),
    }


def _ledger_totals(account: Account, start: datetime, end: datetime) -> UsageTotals:
    """The ledger's sums from `start` to before `end`."""
    from hana_ai.api.usage.ledger import get_ledger

    return get_ledger(account.client.settings).totals(start, end)


def _moments(start: object, end: object) -> tuple[datetime, datetime]:
    """The start of the first day, and the moment after the last day."""
    today = datetime.now(UTC).date()
    month = calendar.monthrange(today.year, today.month)[1]
    first = moment(today.replace(day=1) if start is None else start, "start_date")
    if end is None and start is not None:
        end = max(today, first.date())
    last = moment(today.replace(day=month) if end is None else end, "end_date", after=True)
    if last <= first:
        raise TogetherAIInputError(f"end_date {last.isoformat()} is before start_date {first.isoformat()}.")
    return first, last


def moment(value: object, name: str, *, after: bool = False) -> datetime:
    """A point in time; a day stands for its start or, with `after`, its end.

    Raises
    ------
    TogetherAIInputError
        It is no date or time, or can't be parsed; the message has `name`.
    """
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
        except ValueError:
            raise TogetherAIInputError(
                f"{name} must be a date such as 2026-01-31 or an ISO time, not {value!r}."
            ) from None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        day = value + timedelta(days=1) if after else value
        return datetime.combine(day, time(), UTC)
    raise TogetherAIInputError(f"{name} must be a str, date or datetime, not a {type(value).__name__}.")


async def _billed(account: Account, start: datetime, end: datetime) -> Billed | None:
    """Together's figures for a span of days; None where the billing API is not enabled (404)."""
    first = start.astimezone(UTC).date()
    last = (end.astimezone(UTC) - timedelta(microseconds=1)).date()
    today = datetime.now(UTC).date()
    by_product: dict[str, Decimal] = {}
    by_day: dict[str, Decimal] = {}
    for month in _months(first, min(last, today)):
        try:
            windows = await account.pages(partial(_costs, month))
        except TogetherAIModelNotFoundError:
            return None
        for window in windows:
            if first.isoformat() <= window.date <= last.isoformat():
                for item in window.line_items or ():
                    cost = Decimal(item.cost)
                    by_product[item.product_name] = by_product.get(item.product_name, Decimal(0)) + cost
                    by_day[window.date] = by_day.get(window.date, Decimal(0)) + cost
    return {
        "total_cost_usd": float(sum(by_day.values(), Decimal(0))),
        "by_product": {name: float(cost) for name, cost in by_product.items()},
        "by_day": {day: float(cost) for day, cost in by_day.items()},
    }


def _costs(
    month: str, sdk: AsyncTogether, page: PageArguments
) -> Awaitable[AsyncCursorPagination[BillingUsageWindow]]:
    return sdk.organization.usage.costs.list(month=month, granularity="day", **page)


def _months(first: date, last: date) -> list[str]:
    """The months of a span of days, as YYYY-MM."""
    found = []
    month = first.replace(day=1)
    while month <= last:
        found.append(month.strftime("%Y-%m"))
        month = (month + timedelta(days=31)).replace(day=1)
    return found
