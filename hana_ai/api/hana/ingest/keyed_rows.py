"""Rows of a table or query of SAP HANA, page by page in the order of a key, so that each comes once.

No result stays open in between: commits of others do not end it, and any page can be the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.connections import Connections, all_rows, only_row
from hana_ai.api.hana.keys import beyond
from hana_ai.api.storage.quoting import quoted

PAGE = 1000
"""Rows that are fetched together."""

Row = dict[str, object]


@dataclass(frozen=True)
class KeyedRows:
    """A query and the columns whose values no two of its rows share."""

    connections: Connections
    query: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    """Those that are fetched, the key's among them."""
    page: int = PAGE
    after: tuple[object, ...] | None = None
    """A key: only the rows behind it."""
    until: tuple[object, ...] | None = None
    """A key: only the rows up to it, and its own."""

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows.

        Raises
        ------
        TogetherAIInputError
            Two rows have the same key.
        hdbcli.dbapi.Error
            The database refuses.
        """
        last: tuple[object, ...] | None = None
        while rows := self._fetch(last):
            for row in rows:
                key = tuple(row[name] for name in self.key)
                if key == last:
                    raise TogetherAIInputError(
                        f"Two rows have the same {', '.join(self.key)} ({', '.join(map(str, key))}); name columns "
                        "that no two rows share with key_columns=... or --key."
                    )
                last = key
                yield row

    def without_key(self) -> int:
        """How many rows have no value in a column of the key; they are not among those that are given."""
        return self._count(" OR ".join(f"{quoted(name)} IS NULL" for name in self.key))

    def count(self) -> int:
        """How many rows are given."""
        return self._count(self._not_null)

    @property
    def _not_null(self) -> str:
        return " AND ".join(f"{quoted(name)} IS NOT NULL" for name in self.key)

    def _count(self, condition: str) -> int:
        with self.connections.lease() as connection:
            return int(only_row(connection, f"SELECT COUNT(*) FROM ({self.query}) AS Q WHERE {condition}")[0])

    def _fetch(self, last: tuple[object, ...] | None) -> list[Row]:
        key = [quoted(name) for name in self.key]
        condition = self._not_null
        parameters: list[object] = []
        if last is not None:
            # From the last row on, which comes again: a second one of its key would otherwise be left out.
            after, parameters = beyond(key, last, ">=")
            condition += f" AND {after}"
        elif self.after is not None:
            after, parameters = beyond(key, self.after, ">")
            condition += f" AND {after}"
        if self.until is not None:
            until, more = beyond(key, self.until, "<=")
            condition += f" AND {until}"
            parameters = [*parameters, *more]
        names = ", ".join(quoted(name) for name in self.columns)
        with self.connections.lease() as connection:
            found = all_rows(
                connection,
                f"SELECT TOP {self.page + 1} {names} FROM ({self.query}) AS Q WHERE {condition} "
                f"ORDER BY {', '.join(key)}",
                parameters or None,
            )
            rows = [dict(zip(self.columns, row, strict=True)) for row in found]
        if last is not None and rows and tuple(rows[0][name] for name in self.key) == last:
            rows = rows[1:]
        return rows


def columns_of(connections: Connections, query: str) -> tuple[str, ...]:
    """The names of a query's columns.

    Raises
    ------
    TogetherAIInputError
        The database refuses the query.
    """
    from hdbcli import dbapi  # type: ignore[import-untyped]

    with connections.lease() as connection, connection.cursor() as cursor:
        try:
            cursor.execute(f"SELECT TOP 0 * FROM ({query}) AS Q")
        except dbapi.Error as exc:
            raise TogetherAIInputError(f"The source cannot be read: {exc.errortext}") from exc
        return tuple(column[0] for column in cursor.description)


def checked_columns(given: Sequence[str], there: Sequence[str], what: str) -> tuple[str, ...]:
    """Columns that a person has named.

    Raises
    ------
    TogetherAIInputError
        There is none of that name.
    """
    for name in given:
        if name not in there:
            raise TogetherAIInputError(f"The source has no column {name!r} for {what}; it has {', '.join(there)}.")
    return tuple(given)
