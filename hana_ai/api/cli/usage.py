"""`hana-ai-together usage`: the ledger as a table, or as a page with plots."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hana_ai.api.catalog.money import dollars

from .console import Problem, console, print_json
from .html_files import replaceable, write_whole

if TYPE_CHECKING:
    from hana_ai.api.settings import TogetherAISettings
    from hana_ai.api.usage.ledger import Ledger, UsageTotals

    from .report import By


def show_usage(by: By, start: date | None, end: date | None, *, as_json: bool) -> int:
    """Print the ledger's sums; returns the exit status.

    Raises
    ------
    Problem
        There is no ledger, or no day between the two.
    """
    from rich.table import Table

    settings, ledger = _opened(start, end)
    totals = ledger.totals(start, end)
    if as_json:
        budget = {
            "usd": ledger.budget_usd,
            "period": settings.together_budget_period,
            "spent_usd": ledger.spent_usd,
        }
        rows = ledger.totals_by(by, start, end)
        print_json({"by": by, "rows": rows, "total": totals, "budget": budget if ledger.budget_usd else None})
        return 0
    if not totals["total_requests"]:
        console().print(f"No calls in {settings.together_usage_db}.")
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=True, caption_justify="left")
    table.add_column(by, "total", overflow="fold", ratio=1)
    for heading, shown in zip(
        ("calls", "failed", "prompt", "cached", "completion", "cost"), _cells(totals), strict=True
    ):
        table.add_column(heading, shown, justify="right")
    for name, sums in ledger.totals_by(by, start, end).items():
        table.add_row(name or "-", *_cells(sums))
    captions = []
    if by == "tag":
        captions.append("A call with several tags counts in the row of each.")
    if hits := totals["cached_requests"]:
        calls = totals["total_requests"]
        captions.append(f"Answered from a cache: {hits:,} of {calls:,} calls ({100 * hits / calls:.0f} %).")
    if totals["unknown_cost_requests"]:
        captions.append(f"Calls of unknown cost, not in the sums: {totals['unknown_cost_requests']:,}.")
    if ledger.budget_usd is not None:
        share = 100 * ledger.spent_usd / ledger.budget_usd
        captions.append(
            f"{dollars(ledger.spent_usd)} of the {settings.together_budget_period}'s budget of "
            f"${ledger.budget_usd} has been spent ({share:.0f} %)."
        )
    table.caption = "\n".join(captions)
    console().print(table)
    return 0


def write_report(target: Path, by: By, start: date | None, end: date | None, *, force: bool) -> int:
    """Write the ledger as a page; returns the exit status.

    Raises
    ------
    Problem
        There is no ledger, no call in it, or the file can't be written, or is another one and not to be replaced.
    """
    from .report import GROUPS, MARK, Usage, page

    target = replaceable(target, MARK, "usage report", force=force)
    settings, ledger = _opened(start, end)
    total = ledger.totals(start, end)
    if not total["total_requests"]:
        raise Problem(f"No calls in {settings.together_usage_db}, so no report was written.")
    usage = Usage(
        ledger=str(settings.together_usage_db),
        start=start,
        end=end,
        made=datetime.now(UTC),
        total=total,
        groups={group: ledger.totals_by(group, start, end) for group in GROUPS},
        events=ledger.events(start, end),
        budget_usd=ledger.budget_usd,
        spent_usd=ledger.spent_usd,
        period=settings.together_budget_period,
    )
    write_whole(target, page(usage, by))
    calls = total["total_requests"]
    console().print(f"The report of {calls:,} {'call' if calls == 1 else 'calls'} is in {target}.", markup=False)
    return 0


def _opened(start: date | None, end: date | None) -> tuple[TogetherAISettings, Ledger]:
    """The settings and the ledger that they name, which must be there: none is made."""
    from hana_ai.api.settings import TogetherAISettings
    from hana_ai.api.storage.address import HANA
    from hana_ai.api.usage.ledger import get_ledger

    if start is not None and end is not None and end < start:
        raise Problem(f"--end {end} is before --start {start}: no day lies between them.")
    settings = TogetherAISettings()
    if settings.together_usage_db is None:
        raise Problem(
            "there is no ledger to read: TOGETHER_USAGE_DB is not set, so each process keeps its own in memory. "
            "Set it to a path or to hana:TABLE."
        )
    path = Path(settings.together_usage_db).expanduser()
    if not settings.together_usage_db.lower().startswith(HANA) and not path.exists():
        raise Problem(f"there is no ledger {str(path)!r}, where TOGETHER_USAGE_DB points to: nothing was written.")
    return settings, get_ledger(settings)


def _cells(sums: UsageTotals) -> list[str]:
    cost = sums["total_cost_usd"]
    return [
        f"{sums['total_requests']:,}",
        f"{sums['failed_requests']:,}",
        f"{sums['prompt_tokens']:,}",
        f"{sums['cached_tokens']:,}",
        f"{sums['completion_tokens']:,}",
        "?" if cost is None else dollars(cost),
    ]
