"""The rows that a map is about: a table, a query or a DataFrame, read page by page in the key's order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.connections import Connection, all_rows, first_row, only_row
from hana_ai.api.hana.keys import beyond
from hana_ai.api.hana.mapping.stages import Key, check_columns
from hana_ai.api.hana.table_copy import read_layout
from hana_ai.api.hana.tables import current_schema
from hana_ai.api.storage.quoting import quoted

_QUERY = re.compile(r"\s*(?:\(|SELECT\b|WITH\b)", re.IGNORECASE)
_TEXTS = (8, 9, 10, 11, 25, 26, 51, 52, 53, 55)
"""hdbcli's codes of the types that have texts."""
_TYPES = {
    1: "TINYINT", 2: "SMALLINT", 3: "INTEGER", 4: "BIGINT", 8: "NCHAR", 9: "NVARCHAR", 10: "NCHAR", 11: "NVARCHAR",
    14: "DATE", 15: "TIME", 16: "TIMESTAMP", 55: "NVARCHAR", 61: "TIMESTAMP", 62: "SECONDDATE", 63: "DATE",
    64: "TIME",
}  # fmt: skip
_OF_A_NUMBER = 8
"""Characters that are counted for a value that is no text."""


@dataclass(frozen=True)
class Source:
    """Rows with a key."""

    connection: Connection
    query: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    key_types: tuple[str, ...]
    texts: frozenset[str]
    """The columns that hold texts."""
    name: str

    @classmethod
    def of(
        cls, connection: Connection, given: object, key: str | Sequence[str] | None, schema: str | None
    ) -> Source:
        """Look at a source; no row is read.

        Raises
        ------
        TogetherAIInputError
            It has no key, or not the columns that are named as one.
        """
        query, name, own_key = _query_of(connection, given, schema)
        with connection.cursor() as cursor:
            cursor.execute(f'SELECT * FROM ({query}) AS "S" LIMIT 0')
            description = cursor.description
        columns = tuple(str(column[0]) for column in description)
        wanted = (key,) if isinstance(key, str) else tuple(key or own_key)
        if not wanted:
            raise TogetherAIInputError(
                f"{name} has no primary key, so its rows can't be told apart. Name the columns that do, with "
                f"key=... or --key; there are: {', '.join(columns)}."
            )
        check_columns(wanted, columns, "key")
        by_name = {str(column[0]): column for column in description}
        types = tuple(_declared(by_name[column]) for column in wanted)
        texts = frozenset(column for column in columns if by_name[column][1] in _TEXTS)
        return cls(connection, query, columns, wanted, types, texts, name)

    def check_key(self) -> None:
        """Refuse rows that the key does not tell apart.

        Raises
        ------
        TogetherAIInputError
            A part of a key is NULL, or two rows have the same one.
        """
        for column in self.key:
            if missing := self._number(f"SELECT COUNT(*) FROM {self._rows} WHERE {_of(column)} IS NULL"):
                raise TogetherAIInputError(
                    f"The key column {column} of {self.name} is NULL in {missing:,} rows. Leave them out by a "
                    "query, or name another key."
                )
        columns = ", ".join(map(_of, self.key))
        repeated = f"SELECT TOP 1 {columns}, COUNT(*) FROM {self._rows} GROUP BY {columns} HAVING COUNT(*) > 1"
        twice = first_row(self.connection, repeated)
        if twice is not None:
            value = ", ".join(str(part) for part in twice[:-1])
            raise TogetherAIInputError(
                f"The key {', '.join(self.key)} of {self.name} is not unique: {twice[-1]} rows have "
                f"{value!r:.80}. Name more columns with key=... or --key."
            )

    def count(self) -> int:
        """How many rows there are."""
        return self._number(f"SELECT COUNT(*) FROM {self._rows}")

    def pending(self, result: str | None, columns: Sequence[str]) -> tuple[int, int]:
        """How many rows are not in a result table yet, and the characters of some of their columns.

        A result that is None is no table yet.
        """
        lengths = [
            f"COALESCE(LENGTH({_of(column)}), 0)" if column in self.texts else str(_OF_A_NUMBER)
            for column in columns
        ]
        count, characters = only_row(
            self.connection,
            f"SELECT COUNT(*), SUM({' + '.join(lengths)}) FROM {self._rows} WHERE {self._missing(result)}",
        )
        return int(count or 0), int(characters or 0)

    def rows(
        self, result: str, columns: Sequence[str], page: int, after: Key | None = None, until: Key | None = None
    ) -> Iterator[tuple[Key, dict[str, object]]]:
        """Yield the rows that are not in a result table, in the order of their keys, `page` of them at a time.

        Parameters
        ----------
        result : str
            The table, quoted.
        columns : sequence of str
        page : int
        after, until : tuple, optional
            Keys: the rows behind the first one, up to and with the second one.
        """
        width = len(self.key)
        selected = ", ".join(map(_of, (*self.key, *columns)))
        order = ", ".join(map(_of, self.key))
        while True:
            conditions, parameters = [self._missing(result)], []
            bounds: tuple[tuple[Key | None, Literal[">", "<="]], ...] = ((after, ">"), (until, "<="))
            for bound, operator in bounds:
                if bound is not None:
                    sql, values = beyond([_of(column) for column in self.key], bound, operator)
                    conditions.append(sql)
                    parameters += values
            condition = " AND ".join(conditions)
            wanted = f"SELECT TOP {page} {selected} FROM {self._rows} WHERE {condition} ORDER BY {order}"
            found = all_rows(self.connection, wanted, parameters or None)
            for row in found:
                yield tuple(row[:width]), dict(zip(columns, row[width:], strict=True))
            if len(found) < page:
                return
            after = tuple(found[-1][:width])

    @property
    def _rows(self) -> str:
        return f'({self.query}) AS "S"'

    def _missing(self, result: str | None) -> str:
        if result is None:
            return "1 = 1"
        same = " AND ".join(f'"R".{quoted(column)} = {_of(column)}' for column in self.key)
        return f'NOT EXISTS (SELECT 1 FROM {result} AS "R" WHERE {same})'

    def _number(self, sql: str) -> int:
        return int(only_row(self.connection, sql)[0] or 0)


def _of(column: str) -> str:
    return f'"S".{quoted(column)}'


def _query_of(connection: Connection, given: object, schema: str | None) -> tuple[str, str, tuple[str, ...]]:
    """A source's query, its name for people, and its own key."""
    statement = getattr(given, "select_statement", None)
    if isinstance(statement, str):
        return statement, "the DataFrame", ()
    if not isinstance(given, str):
        raise TogetherAIInputError(
            f"The source is a {type(given).__name__}; it must be a table, a query, or a DataFrame of hana-ml."
        )
    if _QUERY.match(given):
        return given.strip().rstrip(";"), "the query", ()
    schema = schema or current_schema(connection)
    layout = read_layout(connection, schema, given)
    if layout is None:
        raise TogetherAIInputError(f"There is no table {quoted(schema)}.{quoted(given)}.")
    return f"SELECT * FROM {layout.name}", layout.name, layout.key


def _declared(column: Sequence[Any]) -> str:
    """A key column's type."""
    name, code, _, length, precision, scale = column[:6]
    if code == 5:
        return f"DECIMAL({precision}, {scale})" if 0 <= scale <= precision else "DECIMAL"
    if code not in _TYPES:
        raise TogetherAIInputError(f"The column {name} has a type that can't be a key.")
    kind = _TYPES[code]
    return f"{kind}({length})" if kind in ("NCHAR", "NVARCHAR") else kind
