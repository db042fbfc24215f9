"""DuckDB SQL in the making: text, and beside it the names of the values that the text refers to.

Nothing is ever read back out of the text. What a caller must know later (which values to pass, where OVER belongs,
whether a table is used) is kept beside it, so no text that a user writes can be taken for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sql:
    """A piece of DuckDB SQL."""

    text: str
    names: frozenset[str] = frozenset()
    """The values that it refers to: ``p0`` for ``$p0``."""

    def __format__(self, spec: str) -> str:
        # An f-string would lose the names.
        raise TypeError("put SQL together with compose() and joined()")


NOTHING = Sql("")
NULL = Sql("NULL")


def compose(template: str, *parts: Sql | str | int) -> Sql:
    """Fill a template, as `str.format` does.

    Parameters
    ----------
    template : str
        SQL with ``{}`` or ``{0}`` where the parts go.
    *parts : Sql, str or int
        Pieces of SQL; a str is SQL, too, and never a value: that is what `names.literal` is for.
    """
    names: frozenset[str] = frozenset()
    texts: list[str | int] = []
    for part in parts:
        if isinstance(part, Sql):
            texts.append(part.text)
            if part.names:
                names |= part.names
        else:
            texts.append(part)
    return Sql(template.format(*texts), names)


def cast_to(value: Sql, stored: str) -> Sql:
    """CAST to a type of DuckDB."""
    return Sql(f"CAST({value.text} AS {stored})", value.names)


def joined(separator: str, parts: Iterable[Sql]) -> Sql:
    """Pieces with a separator between them."""
    pieces = list(parts)
    names = frozenset().union(*(piece.names for piece in pieces)) if pieces else frozenset()
    return Sql(separator.join(piece.text for piece in pieces), names)


def listed(parts: Iterable[Sql]) -> Sql:
    """Pieces with commas between them."""
    return joined(", ", parts)
