"""Values as HTML: what notebooks show, and what reports are made of. All is escaped; colours are the page's."""

from __future__ import annotations

import html
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, TypeVar

_T = TypeVar("_T")

_CONTROLS = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"
}


def escaped(value: object) -> str:
    """A value as text that is no markup, neither between tags nor in a quoted attribute.

    Control characters and halves of surrogate pairs, which a page can't have, are replaced.
    """
    text = str(value).translate(_CONTROLS).encode("utf-8", "replace").decode("utf-8")
    return html.escape(text, quote=True)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table that scrolls inside its own box; numbers and amounts are to be given as text."""
    head = "".join(f'<th style="text-align:left">{escaped(heading)}</th>' for heading in headings)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left"><bdi>{escaped(cell)}</bdi></td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f'<div style="overflow-x:auto"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


class Listing(list[_T]):
    """A list that notebooks show as a table."""

    headings: ClassVar[tuple[str, ...]]

    @staticmethod
    @abstractmethod
    def cells(item: _T) -> Sequence[object]:
        """An entry's row."""

    def _repr_html_(self) -> str:
        return table(self.headings, map(self.cells, self))


def answer(text: str, facts: Mapping[str, object]) -> str:
    """A text as it was written, and below it, smaller, what is known of it."""
    known = " · ".join(f"{escaped(name)}: <bdi>{escaped(value)}</bdi>" for name, value in facts.items())
    shown = f'<div style="white-space:pre-wrap;overflow-wrap:anywhere">{escaped(text)}</div>' if text else ""
    return f'<div>{shown}<div style="font-size:smaller;opacity:.75">{known}</div></div>'
