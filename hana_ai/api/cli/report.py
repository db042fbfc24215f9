"""The ledger as one HTML page that needs nothing else: its sums, drawn and in tables. No I/O but its own style.

Every number of the tables stands, exactly, in the `value` of a `data` element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from importlib import resources
from typing import TYPE_CHECKING, Literal

from hana_ai.api.catalog.money import dollars, plain
from hana_ai.api.usage.events import shown_counts
from hana_ai.api.wire.html import escaped
from hana_ai.api.wire.html_page import whole_page

from .console import duration
from .plots import Plot, Series, bars, columns, share_bar

if TYPE_CHECKING:
    from hana_ai.api.usage.events import UsageEvent, UsageTotals

By = Literal["day", "model", "operation", "tag"]

MARK = "<!-- hana-ai-together usage report -->"
"""What a file must have in its first line to be written again."""
_TITLE = "Usage of Together AI"
GROUPS: tuple[By, ...] = ("day", "model", "tag", "operation")
_PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Usage:
    """What the report tells of."""

    ledger: str
    """The ledger's name."""
    start: date | None
    end: date | None
    made: datetime
    total: UsageTotals
    groups: Mapping[By, Mapping[str, UsageTotals]]
    events: Sequence[UsageEvent]
    budget_usd: Decimal | None = None
    spent_usd: Decimal = Decimal(0)
    """Of the budget, in its current period."""
    period: str = "month"


@dataclass
class _Calls:
    """The calls of a day or a model, as the sums do not have them."""

    retries: int = 0
    retried: int = 0
    latencies: list[float] = field(default_factory=list)
    """Seconds of the calls that Together answered."""
    first_tokens: list[float] = field(default_factory=list)


def page(usage: Usage, by: By) -> str:
    """The page; the sums by `by` come first.

    Parameters
    ----------
    usage : Usage
        With at least one call.
    by : str
    """
    days = _calls(usage.events, lambda event: f"{event.called_at:%Y-%m-%d}")
    models = _calls(usage.events, lambda event: event.model)
    style = resources.files(__package__).joinpath("report.css").read_text("utf-8")
    order = sorted(GROUPS, key=lambda group: group != by)
    sections = [
        _summary(usage),
        _budget(usage),
        *(_group(group, usage.groups[group]) for group in order),
        _times("latency", "Latency by model", "until the end of the answer, retries included", models),
        _times("first-token", "Time to first token by model", "until the first chunk of a stream", models),
        _troubles(usage.groups["day"], days),
    ]
    body = "\n".join([f"<h1>{_TITLE}</h1>\n{_heading(usage)}", *filter(None, sections)])
    return whole_page(MARK, _TITLE, body, style=style)


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest of the values that at least so many percent of them do not exceed."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def _calls(events: Iterable[UsageEvent], name_of: Callable[[UsageEvent], str]) -> Mapping[str, _Calls]:
    found: dict[str, _Calls] = {}
    for event in events:
        calls = found.setdefault(name_of(event), _Calls())
        calls.retries += event.retries
        calls.retried += event.retries > 0
        if event.status == "ok":
            calls.latencies.append(event.latency_seconds)
            if event.first_token_seconds is not None:
                calls.first_tokens.append(event.first_token_seconds)
    return dict(sorted(found.items()))


# --- sections ---


def _heading(usage: Usage) -> str:
    first, last = min(usage.groups["day"]), max(usage.groups["day"])
    asked = ""
    if usage.start is not None or usage.end is not None:
        asked = f" Asked for: {usage.start or 'the beginning'} to {usage.end or 'the end'}."
    return (
        f'<p class="faint">Calls from {escaped(first)} to {escaped(last)} (UTC) in {escaped(usage.ledger)}, as of '
        f"{usage.made:%Y-%m-%d %H:%M} UTC.{escaped(asked)} Costs are those of the catalogue's prices; Together's "
        "bill is the authority. The ledger keeps no prompts and no answers.</p>"
    )


def _summary(usage: Usage) -> str:
    total = usage.total
    retries = sum(event.retries for event in usage.events)
    facts = [
        ("cost", _money(total["total_cost_usd"])),
        ("calls", _count(total["total_requests"])),
        ("tokens", _count(total["total_tokens"])),
        ("from a cache", _count(total["cached_requests"])),
        ("failed", _count(total["failed_requests"])),
        ("retries", _count(retries)),
    ]
    if total["unknown_cost_requests"]:
        facts.append(("calls of unknown cost, not in the sums", _count(total["unknown_cost_requests"])))
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return f'<section id="summary"><h2>In all</h2><dl>{shown}</dl></section>'


def _budget(usage: Usage) -> str:
    if usage.budget_usd is None:
        return ""
    share = float(usage.spent_usd / usage.budget_usd) if usage.budget_usd else 1.0
    title = (
        f"{dollars(usage.spent_usd)} of ${plain(usage.budget_usd)} spent this {usage.period}, whatever days were "
        f"asked for ({100 * share:.0f} %)"
    )
    rows = [(f"this {usage.period}", [_money(usage.spent_usd), f"${_data(plain(usage.budget_usd))}"])]
    table = _table("Budget", ("period", "spent", "allowed"), rows)
    plot = share_bar("budget-share", title, share)
    return f'<section id="budget"><h2>Budget</h2><div class="plots">{plot}</div>{table}</section>'


def _group(by: By, groups: Mapping[str, UsageTotals]) -> str:
    named = [(name or "-", sums) for name, sums in groups.items()]
    if by != "day":
        named.sort(key=lambda one: (-(one[1]["total_cost_usd"] or Decimal(0)), -one[1]["total_tokens"], one[0]))
    costs = [
        Series(name, (float(sums["total_cost_usd"] or 0),), dollars(sums["total_cost_usd"]))
        for name, sums in named
    ]
    tokens = [
        Series(
            name,
            (float(sums["prompt_tokens"]), float(sums["completion_tokens"])),
            f"{sums['prompt_tokens']:,} + {sums['completion_tokens']:,}",
        )
        for name, sums in named
    ]
    draw = columns if by == "day" else bars
    plots = draw(Plot(f"{by}-cost", f"Cost by {by}", costs)) + draw(
        Plot(f"{by}-tokens", f"Tokens by {by}", tokens, ("prompt", "completion"))
    )
    headings = (
        by,
        "calls",
        "failed",
        "from a cache",
        "prompt",
        "of it cached",
        "completion",
        "unknown cost",
        "cost",
    )
    rows = [(name, _sums(sums)) for name, sums in named]
    note = '<p class="faint">A call with several tags counts in the row of each.</p>' if by == "tag" else ""
    table = _table(f"By {by}", headings, rows)
    return f'<section id="by-{by}"><h2>By {by}</h2><div class="plots">{plots}</div>{note}{table}</section>'


def _sums(sums: UsageTotals) -> list[str]:
    counts = (*shown_counts(sums), sums["unknown_cost_requests"])
    return [*map(_count, counts), _money(sums["total_cost_usd"])]


def _times(id: Literal["latency", "first-token"], title: str, until: str, models: Mapping[str, _Calls]) -> str:
    series, rows = [], []
    for model, calls in models.items():
        values = calls.latencies if id == "latency" else calls.first_tokens
        if values:
            at = tuple(percentile(values, percent) for percent in _PERCENTILES)
            series.append(Series(model or "-", at, " · ".join(map(duration, at))))
            rows.append((model or "-", [_count(len(values)), *(_seconds(value) for value in at)]))
    head = f'<section id="{id}"><h2>{title}</h2>'
    if not rows:
        which = "call was answered by Together" if id == "latency" else "stream came to its end"
        return f'{head}<p class="faint">No {which}, so there is nothing to show.</p></section>'
    keys = tuple(f"p{percent}" for percent in _PERCENTILES)
    plot = bars(Plot(f"{id}-plot", f"Seconds {until}", series, keys, overlaid=True))
    note = "Calls that succeeded; neither those that failed or were left early, nor those a cache answered."
    table = _table(title, ("model", "calls", *keys), rows)
    return f'{head}<p class="faint">{note}</p><div class="plots">{plot}</div>{table}</section>'


def _troubles(sums: Mapping[str, UsageTotals], days: Mapping[str, _Calls]) -> str:
    hits, retries, rows = [], [], []
    for day, of_day in sums.items():
        calls = days.get(day, _Calls())
        total, cached, failed = of_day["total_requests"], of_day["cached_requests"], of_day["failed_requests"]
        hits.append(Series(day, (float(cached), float(total - cached)), f"{cached:,} of {total:,}"))
        retries.append(Series(day, (float(calls.retries), float(failed)), f"{calls.retries:,} + {failed:,}"))
        share = f"{_data(f'{100 * cached / total:.1f}')} %"
        cells = [*map(_count, (total, cached)), share, *map(_count, (calls.retries, calls.retried, failed))]
        rows.append((day, cells))
    plots = columns(Plot("hits-plot", "Calls by day", hits, ("from a cache", "sent"))) + columns(
        Plot("retries-plot", "By day", retries, ("retries", "failed calls"))
    )
    headings = ("day", "calls", "from a cache", "share", "retries", "calls with retries", "failed")
    table = _table("Cache hits, retries and failures by day", headings, rows)
    title = "Cache hits, retries and failures"
    return f'<section id="health"><h2>{title}</h2><div class="plots">{plots}</div>{table}</section>'


# --- cells ---


def _table(caption: str, headings: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A table in a box that scrolls, also by keyboard; names are escaped here, cells are HTML."""
    head = "".join(f'<th scope="col">{escaped(heading)}</th>' for heading in headings)
    body = "\n".join(
        f'<tr><th scope="row"><bdi>{escaped(name)}</bdi></th>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
        for name, cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(caption)}, table"><table>'
        f"<caption>{escaped(caption)}</caption><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _data(value: str, shown: str | None = None) -> str:
    return f'<data value="{escaped(value)}">{escaped(value if shown is None else shown)}</data>'


def _count(value: int) -> str:
    return _data(str(value), f"{value:,}")


def _seconds(value: float) -> str:
    return _data(repr(value), duration(value))


def _money(cost: Decimal | None) -> str:
    return "unknown" if cost is None else _data(plain(cost), dollars(cost))
