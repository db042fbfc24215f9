"""Plots of the report as SVG: bars beside names, and columns of days. No I/O.

They are as wide as a phone, so that their text is readable there, and grow a little where there is room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from hana_ai.api.wire.html import escaped

WIDTH = 330
MOST_BARS = 12
MOST_DAYS = 92
COLOURS = ("a", "b", "c")
_LONGEST_NAME = 34
_BAR = 34
_HEIGHT = 130


@dataclass(frozen=True)
class Series:
    """Numbers of one name or day, one for each colour, and what to write beside them."""

    name: str
    values: tuple[float, ...]
    shown: str


@dataclass(frozen=True)
class Plot:
    """What is drawn."""

    id: str
    """Unique in the page."""
    title: str
    series: Sequence[Series]
    keys: tuple[str, ...] = ()
    """What the colours stand for."""
    overlaid: bool = False
    """Whether the values of a series all begin at zero instead of each after the one before."""


def bars(plot: Plot) -> str:
    """Bars, one below the other, for the first names."""
    drawn = plot.series[:MOST_BARS]
    widest = max((_extent(plot, one) for one in drawn), default=0.0) or 1.0
    parts = []
    for row, one in enumerate(drawn):
        top = row * _BAR
        parts.append(f"<g><title>{escaped(one.name)}: {escaped(one.shown)}</title>")
        parts.append(f'<text x="0" y="{top + 12}">{escaped(_shortened(one.name))}</text>')
        parts.append(
            f'<text class="faint" x="{WIDTH}" y="{top + 12}" text-anchor="end">{escaped(one.shown)}</text>'
        )
        for colour, begin, length in _pieces(plot, one):
            x, width = WIDTH * begin / widest, WIDTH * length / widest
            parts.append(
                f'<rect class="{colour}" x="{x:.2f}" y="{top + 17}" width="{width:.2f}" height="9" rx="1"/>'
            )
        parts.append("</g>")
    left = len(plot.series) - len(drawn)
    note = f"The first {len(drawn)} of {len(plot.series)}; the table has all." if left else ""
    return _figure(plot, max(1, len(drawn)) * _BAR, "".join(parts), note)


def columns(plot: Plot) -> str:
    """A column for each day from the first to the last, days without calls included; names are days."""
    by_day = {one.name: one for one in plot.series}
    last = date.fromisoformat(max(by_day))
    wanted = (last - date.fromisoformat(min(by_day))).days + 1
    count = min(wanted, MOST_DAYS)
    days = [(last - timedelta(days=back)).isoformat() for back in reversed(range(count))]
    highest = max((_extent(plot, by_day[day]) for day in days if day in by_day), default=0.0)
    top_label = next(
        (by_day[day].shown for day in days if day in by_day and _extent(plot, by_day[day]) == highest), ""
    )
    step = WIDTH / max(count, 7)
    base = 18 + _HEIGHT
    parts = [f'<text class="faint" x="0" y="11">highest: {escaped(top_label)}</text>']
    for place, day in enumerate(days):
        if (one := by_day.get(day)) is None:
            continue
        parts.append(f"<g><title>{escaped(day)}: {escaped(one.shown)}</title>")
        for colour, begin, length in _pieces(plot, one):
            height = _HEIGHT * length / (highest or 1.0)
            y = base - _HEIGHT * begin / (highest or 1.0) - height
            parts.append(
                f'<rect class="{colour}" x="{place * step:.2f}" y="{y:.2f}" width="{step * 0.8:.2f}" '
                f'height="{height:.2f}"/>'
            )
        parts.append("</g>")
    parts.append(f'<line x1="0" x2="{WIDTH}" y1="{base}" y2="{base}"/>')
    parts.append(f'<text class="faint" x="0" y="{base + 14}">{escaped(days[0])}</text>')
    if count > 1:
        end = max(count * step, 150)
        parts.append(
            f'<text class="faint" x="{end:.2f}" y="{base + 14}" text-anchor="end">{escaped(days[-1])}</text>'
        )
    note = f"The last {count} of {wanted} days; the table has all." if wanted > count else ""
    return _figure(plot, base + 20, "".join(parts), note)


def share_bar(id: str, title: str, share: float) -> str:
    """One bar that is full at a share of 1."""
    width = WIDTH * min(max(share, 0.0), 1.0)
    drawn = (
        f'<rect class="track" x="0" y="2" width="{WIDTH}" height="14" rx="3"/>'
        f'<rect class="{"b" if share >= 1 else "a"}" x="0" y="2" width="{width:.2f}" height="14" rx="3"/>'
    )
    return _figure(Plot(id, title, ()), 18, drawn, "")


def _pieces(plot: Plot, one: Series) -> list[tuple[str, float, float]]:
    """Colour, begin and length of what is drawn, in that order."""
    pieces, begin = [], 0.0
    for colour, value in zip(COLOURS, one.values, strict=False):
        pieces.append((colour, begin, value))
        begin += 0.0 if plot.overlaid else value
    # What is longer would hide what is shorter.
    return pieces[::-1] if plot.overlaid else pieces


def _extent(plot: Plot, one: Series) -> float:
    return max(one.values, default=0.0) if plot.overlaid else sum(one.values)


def _shortened(name: str) -> str:
    """A name that fits; its end says most, since models begin with their makers."""
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]


def _figure(plot: Plot, height: int, drawn: str, note: str) -> str:
    keys = "".join(
        f'<span class="key {colour}"></span>{escaped(key)}'
        for colour, key in zip(COLOURS, plot.keys, strict=False)
    )
    about = "; ".join(f"{one.name}: {one.shown}" for one in plot.series[:MOST_BARS]) or plot.title
    caption = " ".join(part for part in (escaped(plot.title), keys, escaped(note)) if part)
    return (
        f"<figure><figcaption>{caption}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{plot.id}-title {plot.id}-about">'
        f'<title id="{plot.id}-title">{escaped(plot.title)}</title>'
        f'<desc id="{plot.id}-about">{escaped(about)}</desc>{drawn}</svg></figure>'
    )
