"""Records into rows, rows into events and totals. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypedDict

import orjson

from hana_ai.api.catalog.money import EXACT, plain
from hana_ai.api.storage.drivers import Row
from hana_ai.api.usage.pricing import Priced
from hana_ai.api.usage.store import LONGEST_MODEL, LONGEST_TAGS, LONGEST_TEXT
from hana_ai.api.usage.values import read_count, read_seconds, read_tags, read_usd
from hana_ai.api.wire.html import table


class UsageTotals(TypedDict):
    """Sums over calls."""

    total_requests: int
    failed_requests: int
    """Of them, those that ended in an error."""
    cached_requests: int
    """Of them, those that a cache answered: nothing was sent, and they cost nothing."""
    prompt_tokens: int
    completion_tokens: int
    """With the reasoning tokens."""
    cached_tokens: int
    """Part of the prompt tokens."""
    reasoning_tokens: int
    """Part of the completion tokens."""
    total_tokens: int
    total_cost_usd: Decimal | None
    """USD of the calls whose cost is known; None when there were calls, but none of a known cost."""
    unknown_cost_requests: int
    """Calls that `total_cost_usd` does not count, since their price or their tokens are unknown."""


class UsageBy(dict[str, UsageTotals]):
    """Sums by name: a dict that notebooks show as a table."""

    def _repr_html_(self) -> str:
        headings = ("", "calls", "failed", "from a cache", "prompt", "cached", "completion", "cost")
        return table(headings, [(name or "-", *_cells(sums)) for name, sums in self.items()])


def shown_counts(sums: UsageTotals) -> tuple[int, ...]:
    """The counts that tables show, from all calls to completion tokens."""
    return (
        sums["total_requests"],
        sums["failed_requests"],
        sums["cached_requests"],
        sums["prompt_tokens"],
        sums["cached_tokens"],
        sums["completion_tokens"],
    )


def _cells(sums: UsageTotals) -> list[str]:
    cost = sums["total_cost_usd"]
    return [*(f"{count:,}" for count in shown_counts(sums)), "unknown" if cost is None else f"${plain(cost)}"]


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One call."""

    called_at: datetime
    """When it began, UTC."""
    operation: str
    """chat, completion, embedding, rerank or batch."""
    model: str
    tags: tuple[str, ...]
    prompt_tokens: int | None
    """None, here and below: the server did not say."""
    completion_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: Decimal | None
    """None when a price or the tokens are unknown, which is not zero."""
    latency_seconds: float
    """Until the end of the reply, retries included."""
    first_token_seconds: float | None
    """Until the first chunk of a stream; None for other calls."""
    status: str
    """ok, cached, left early, cancelled, or the class of the error."""
    http_status: int | None
    """Of the error."""
    retries: int
    request_id: str | None


# --- calls -> rows -> events ---


def row_of(call: Priced) -> tuple[object, ...]:
    """A row of the store, but for the process and the number that it begins with."""
    record, tokens, cost = call
    return (
        datetime.fromtimestamp(record.called_at, UTC).isoformat(" ", "microseconds")[:26],
        record.operation,
        record.model[:LONGEST_MODEL],
        _tags_text(record.tags),
        *tokens,
        None if cost is None else plain(cost),
        record.latency,
        record.first_token,
        record.status,
        record.http_status,
        record.retries,
        None if record.request_id is None else record.request_id[:LONGEST_TEXT],
    )


def _tags_text(tags: Sequence[str]) -> str:
    """Tags as a JSON list, each once, in their order; what does not fit the column is left out."""
    if not tags:
        return "[]"
    kept = list(dict.fromkeys(str(tag) for tag in tags))
    while len(text := orjson.dumps(kept).decode()) > LONGEST_TAGS:
        kept.pop()
    return text


def event_of(row: Mapping[str, Any]) -> UsageEvent:
    """Read a row of the store; a ValueError or TypeError says that it is none."""
    first_token = row["FIRST_TOKEN_SECONDS"]
    return UsageEvent(
        called_at=datetime.fromisoformat(row["CALLED_AT"]).replace(tzinfo=UTC),
        operation=row["OPERATION"],
        model=row["MODEL"],
        tags=read_tags(row["TAGS"]),
        prompt_tokens=read_count(row["PROMPT_TOKENS"]),
        completion_tokens=read_count(row["COMPLETION_TOKENS"]),
        cached_tokens=read_count(row["CACHED_TOKENS"]),
        reasoning_tokens=read_count(row["REASONING_TOKENS"]),
        cost_usd=None if row["COST_USD"] is None else read_usd(row["COST_USD"]),
        latency_seconds=read_seconds(row["LATENCY_SECONDS"]),
        first_token_seconds=None if first_token is None else read_seconds(first_token),
        status=row["STATUS"],
        http_status=read_count(row["HTTP_STATUS"]),
        retries=read_count(row["RETRIES"]) or 0,
        request_id=row["REQUEST_ID"],
    )


def no_calls() -> UsageTotals:
    """The sums over nothing."""
    return UsageTotals(
        total_requests=0,
        failed_requests=0,
        cached_requests=0,
        prompt_tokens=0,
        completion_tokens=0,
        cached_tokens=0,
        reasoning_tokens=0,
        total_tokens=0,
        total_cost_usd=Decimal(0),
        unknown_cost_requests=0,
    )


def sums_of(groups: Iterable[Row], by: str) -> dict[str, UsageTotals]:
    """Add up the store's groups: name, cost, and eight counts, as `Store.groups` gives them."""
    found: dict[str, UsageTotals] = {}
    priced: set[str] = set()
    for name, cost, *counts in groups:
        names: Iterable[str] = (orjson.loads(name) or [""]) if by == "tag" else [str(name)]
        for each in names:
            _add(found.setdefault(each, no_calls()), cost, counts)
            if cost is not None:
                priced.add(each)
    for name, sums in found.items():
        if sums["unknown_cost_requests"] and name not in priced:
            sums["total_cost_usd"] = None
    return found


def _add(sums: UsageTotals, cost: str | None, counts: Row) -> None:
    calls, prompt, completion, cached, reasoning, unknown, failed, hits = (int(count or 0) for count in counts)
    sums["total_requests"] += calls
    sums["failed_requests"] += failed
    sums["cached_requests"] += hits
    sums["unknown_cost_requests"] += unknown
    sums["prompt_tokens"] += prompt
    sums["completion_tokens"] += completion
    sums["cached_tokens"] += cached
    sums["reasoning_tokens"] += reasoning
    sums["total_tokens"] += prompt + completion
    if cost is not None:
        before = sums["total_cost_usd"] or Decimal(0)
        sums["total_cost_usd"] = EXACT.add(before, EXACT.multiply(Decimal(cost), Decimal(calls)))


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def time_range(start: date | datetime | None, end: date | datetime | None) -> tuple[str, str]:
    """From when until before when, as the store writes times."""
    return (
        "0001-01-01" if start is None else _timestamp(_moment(start)),
        "9999-12-31" if end is None else _timestamp(_moment(end, after=True)),
    )


def _moment(value: date | datetime, *, after: bool = False) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    day = datetime(value.year, value.month, value.day, tzinfo=UTC)
    return day + timedelta(days=1) if after else day
