"""The map of a vector table as HTML: points in an SVG, the documents in a list, and a search over both.

No I/O but its own style and script.

The documents are text of the page, never of the script, which reads them from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Protocol

from hana_ai.api.wire.html import escaped
from hana_ai.api.wire.html_page import whole_page

if TYPE_CHECKING:
    from hana_ai.api.hana.tables import VectorTableInfo


class Drawing(Protocol):
    """What is drawn."""

    @property
    def table(self) -> VectorTableInfo: ...
    @property
    def documents(self) -> Sequence[str]: ...
    @property
    def points(self) -> Sequence[tuple[float, float]]: ...
    @property
    def shares(self) -> tuple[float, float]: ...
    @property
    def rows(self) -> int: ...


MARK = "<!-- hana-ai-together map of a vector table -->"
"""What a file must have in its first line to be written again."""
LONGEST = 600
"""Characters of a document that the page has."""
SIDE = 600
_MARGIN = 14


def drawn(drawing: Drawing) -> str:
    """The page."""
    files = resources.files(__package__)
    style, script = (files.joinpath(f"drawing.{kind}").read_text("utf-8") for kind in ("css", "js"))
    title = f"Map of {drawing.table.name}"
    return whole_page(MARK, title, _body(title, drawing), style=style, script=script)


def framed(drawing: Drawing) -> str:
    """The page in a frame of its own, for notebooks."""
    return (
        f'<iframe title="{escaped("Map of " + drawing.table.name)}" sandbox="allow-scripts" '
        f'style="width:100%;height:44rem;border:0" srcdoc="{escaped(drawn(drawing))}"></iframe>'
    )


def _body(title: str, drawing: Drawing) -> str:
    shown = len(drawing.documents)
    circles = "".join(f'<circle cx="{_place(x):.1f}" cy="{_place(-y):.1f}" r="5"/>' for x, y in drawing.points)
    items = "\n".join(
        f'<li><button type="button" dir="auto">{escaped(_cut(document))}</button></li>'
        for document in drawing.documents
    )
    return (
        f"<h1>{escaped(title)}</h1>\n{_heading(drawing)}\n"
        '<section id="map">\n<p class="search"><label for="search">Search</label> '
        '<input id="search" type="search" autocomplete="off" spellcheck="false" '
        'placeholder="words that a document must have"> <output for="search"></output></p>\n'
        "<noscript><p>Searching and pointing need JavaScript, which is off here.</p></noscript>\n"
        f'<div class="both"><div class="left"><svg viewBox="0 0 {SIDE} {SIDE}" role="img" '
        f'aria-label="{shown:,} points, one for each document of the list">{circles}</svg>\n'
        '<p id="chosen" aria-live="polite" dir="auto"><span class="faint">Point at the map, or choose a document.'
        f'</span></p></div>\n<ol tabindex="0" aria-label="Documents">\n{items}\n</ol></div>\n</section>'
    )


def _heading(drawing: Drawing) -> str:
    shown, first, second = len(drawing.documents), *drawing.shares
    which = f"{shown:,} of {drawing.rows:,} documents, rows at even distances"
    if shown == drawing.rows:
        which = "The only document" if shown == 1 else f"All {shown:,} documents"
    cut = ""
    if any(len(document) > LONGEST for document in drawing.documents):
        cut = f" Of each text, the first {LONGEST} characters are here and are searched."
    return (
        f'<p class="faint">{which}. Model: {escaped(drawing.table.model or "not recorded")}. '
        f"The vectors of {max(drawing.table.widths):,} numbers are shown along the two directions in which they "
        f"differ most, which hold {100 * first:.0f} % and {100 * second:.0f} % of their variance: what is far "
        f"apart here is unlike; what is near may be, too.{cut}</p>"
    )


def _place(value: float) -> float:
    """Where a number from -1 to 1 lies along a side."""
    return SIDE / 2 + value * (SIDE / 2 - _MARGIN)


def _cut(document: str) -> str:
    return document if len(document) <= LONGEST else document[: LONGEST - 1] + "…"
