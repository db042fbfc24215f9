"""TOGETHER_ROUTE_TABLES: which vector tables go to Together, and which stay the database's own.

This module imports nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

_STAYS = ("!", "-")


@dataclass(frozen=True)
class TablePattern:
    """A pattern of names, in upper case, and whether the tables that it matches go to Together."""

    pattern: str
    goes: bool

    def matches(self, table: str, schema: str | None) -> bool:
        """Whether a table is meant, whatever the case of its name; a pattern with a dot names a schema, too.

        Where the schema is not known, a pattern with one that stays is compared by its table alone, and one that
        goes matches nothing: in doubt a table stays.
        """
        if fnmatchcase(table.upper(), self.pattern):
            return True
        _, dot, inner = self.pattern.partition(".")
        if not dot:
            return False
        if schema:
            return fnmatchcase(f"{schema}.{table}".upper(), self.pattern)
        return not self.goes and fnmatchcase(table.upper(), inner)


def table_patterns(text: str) -> list[TablePattern]:
    """Read a comma list of patterns; a ``!`` or ``-`` in front marks those that stay."""
    entries = filter(None, (part.strip() for part in text.split(",")))
    return [TablePattern(entry.lstrip("!-").strip().upper(), not entry.startswith(_STAYS)) for entry in entries]


def goes(patterns: Sequence[TablePattern], table: str, schema: str | None) -> bool:
    """Whether a table goes to Together: the last pattern that matches it decides.

    A table that none matches goes, unless one of the patterns says what goes.
    """
    for pattern in reversed(patterns):
        if pattern.matches(table, schema):
            return pattern.goes
    return not any(pattern.goes for pattern in patterns)
