"""Results as a table for people and as JSON for everything else. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from benchmarks.figures import FLOOR, OURS, SCALES, Clock, Result, Unit, Verdict

_NAME, _NUMBER, _RANGE, _RATIO = 51, 9, 21, 8


def header() -> str:
    """What the columns of every table are."""
    columns = f"{'median':>{_NUMBER}}{'quartiles':>{_RANGE}}{'x floor':>{_RATIO}}{'x ours':>{_RATIO}}"
    return f"{'':<{_NAME}}{columns}{'cpu':>{_NUMBER}}{'x floor':>{_RATIO}}"


def table(result: Result, clock: Clock = "wall") -> Iterator[str]:
    """Lines for one case: a row for each contestant, a line for each bar."""
    yield f"{result.title} [{result.unit}]"
    for contestant in result.rounds:
        yield f"  {_row(result, contestant)}"
    for contestant, said in result.failures.items():
        yield f"  {result.labels[contestant]:<{_NAME - 2}}  failed: {said.strip().splitlines()[-1]}"
    for verdict in result.verdicts(clock):
        yield f"  -> {sentence(verdict, result.unit)}"


def _row(result: Result, contestant: str) -> str:
    scale = SCALES[result.unit]
    shown = result.spread(contestant).scaled(scale)
    cells = [
        f"{result.labels[contestant]:<{_NAME - 2}}",
        f"{number(shown.median):>{_NUMBER}}",
        f"{f'{number(shown.low)} .. {number(shown.high)}':>{_RANGE}}",
        f"{_ratio(result, contestant, FLOOR):>{_RATIO}}",
        f"{_ratio(result, contestant, OURS):>{_RATIO}}",
    ]
    if not result.wall_only:
        cells.append(f"{number(result.spread(contestant, 'cpu').median * scale):>{_NUMBER}}")
        cells.append(f"{_ratio(result, contestant, FLOOR, 'cpu'):>{_RATIO}}")
    return "".join(cells).rstrip()


def _ratio(result: Result, contestant: str, against: str, clock: Clock = "wall") -> str:
    if against not in result.rounds:
        return ""
    return f"{result.ratio(contestant, against, clock).median:.2f}"


def number(value: float) -> str:
    """A number with three significant digits, or whole from 100 on."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def sentence(verdict: Verdict, unit: Unit) -> str:
    """A bar in words, and whether it is met."""
    bar, found = verdict.bar, verdict.found
    end = "met" if verdict.met else "MISSED"
    if bar.against is None:
        scale = SCALES[unit]
        return f"{number(found * scale)} {unit}, at most {number(bar.at_most * scale)} {unit}: {end}"
    if bar.at_most < 0.5 or (bar.at_most < 1 and bar.against != FLOOR):
        return f"{1 / found:.2f} times faster than {bar.against}, at least {1 / bar.at_most:.3g}: {end}"
    return f"{found:.2f} times {bar.against}, at most {bar.at_most:.3g}: {end}"


def as_json(results: Iterable[Result], about: dict[str, Any], clock: Clock = "wall") -> dict[str, Any]:
    """Everything that was measured, in seconds and bytes, with what it was measured on."""
    return {"about": about, "judged_by": clock, "cases": [_case(result, clock) for result in results]}


def _case(result: Result, clock: Clock) -> dict[str, Any]:
    return {
        "name": result.name,
        "title": result.title,
        "measured": "bytes" if result.unit == "MB" else "seconds",
        "contestants": {name: _contestant(result, name) for name in result.rounds},
        "failures": dict(result.failures),
        "bars": [
            {
                "against": verdict.bar.against,
                "at_most": verdict.bar.at_most,
                "found": verdict.found,
                "met": verdict.met,
            }
            for verdict in result.verdicts(clock)
        ],
    }


def _contestant(result: Result, name: str) -> dict[str, Any]:
    told: dict[str, Any] = {"label": result.labels[name]}
    clocks: tuple[Clock, ...] = ("wall",) if result.wall_only else ("wall", "cpu")
    for clock in clocks:
        told[clock] = {**asdict(result.spread(name, clock)), "rounds": result.values(name, clock)}
        if FLOOR in result.rounds:
            told[clock]["to_floor"] = asdict(result.ratio(name, FLOOR, clock))
    return told
