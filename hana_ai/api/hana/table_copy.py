"""A table's structure, and a new table of the same structure but for the vectors.

The copy is made inside the database, so that no value changes its type on the way, and only texts travel.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.connections import Connection, all_rows, first_row
from hana_ai.api.hana.keys import primary_key
from hana_ai.api.hana.vector_column import in_schema, record
from hana_ai.api.storage.quoting import literal, quoted

WORK_COLUMN = "HANA_AI_TOGETHER_ROW"
"""In a table that is being filled: numbers the rows that get a vector; gone when the table is complete."""

_WITH_LENGTH = (
    "NVARCHAR", "VARCHAR", "NCHAR", "CHAR", "ALPHANUM", "SHORTTEXT", "VARBINARY", "BINARY", "REAL_VECTOR",
    "HALF_VECTOR",
)  # fmt: skip
_CHARACTERS = ("NVARCHAR", "VARCHAR", "NCHAR", "CHAR", "ALPHANUM", "SHORTTEXT")
_MOMENTS = ("DATE", "TIME", "SECONDDATE", "TIMESTAMP")
_NUMBERS = (
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "SMALLDECIMAL", "DECIMAL", "REAL", "DOUBLE", "FLOAT", "BOOLEAN",
)  # fmt: skip
_LARGE = ("NCLOB", "CLOB", "BLOB", "TEXT")
_KNOWN = frozenset((*_WITH_LENGTH, *_MOMENTS, *_NUMBERS, *_LARGE))
_AT_ONCE = 1000
_RANGE = 1 << 128


@dataclass(frozen=True)
class ColumnLayout:
    """A column as it is declared."""

    name: str
    type: str
    length: int
    scale: int | None
    nullable: bool
    default: str | None
    comment: str
    generation: str
    """Such as ``ALWAYS AS``; empty for a column that clients fill."""
    generated: str
    """The expression of a generated column."""

    def declared(self) -> str:
        """The column for CREATE TABLE."""
        parts = [quoted(self.name), self._type()]
        if self.generated:
            always = "" if "CALCULATED" in self.generation else "GENERATED ALWAYS "
            parts.append(f"{always}AS ({self.generated})")
        elif self.default is not None:
            parts.append(f"DEFAULT {self._default(self.default)}")
        if not self.nullable:
            parts.append("NOT NULL")
        if self.comment:
            parts.append(f"COMMENT {literal(self.comment)}")
        return " ".join(parts)

    def _type(self) -> str:
        if self.type in _WITH_LENGTH and self.length > 0:
            return f"{self.type}({self.length})"
        if self.type == "DECIMAL" and self.scale is not None:
            return f"DECIMAL({self.length}, {self.scale})"
        return self.type

    def _default(self, value: str) -> str:
        # HANA shows a text's default without its quotation marks.
        if self.type in _CHARACTERS or (self.type in _MOMENTS and not value.upper().startswith("CURRENT_")):
            return literal(value)
        return value


@dataclass(frozen=True)
class TableLayout:
    """A table as it is declared."""

    schema: str
    table: str
    comment: str
    kind: str
    """COLUMN or ROW."""
    columns: tuple[ColumnLayout, ...]
    key: tuple[str, ...]
    """Columns of the primary key."""

    @property
    def name(self) -> str:
        """The table, for people and for SQL."""
        return ".".join(quoted(part) for part in (self.schema, self.table) if part)

    def has(self, column: str) -> bool:
        """Whether there is such a column."""
        return any(own.name == column for own in self.columns)

    def filled(self, vector_column: str) -> list[str]:
        """The columns that a copy takes over: all but those that the database makes, and the vectors."""
        return [
            own.name for own in self.columns if not own.generated and own.name not in (vector_column, WORK_COLUMN)
        ]

    def check_copyable(self, vector_column: str) -> None:
        """Refuse what could not be declared again as it is.

        Raises
        ------
        TogetherAIInputError
            A column is an identity column, or of a type that is not known here.
        """
        for column in self.columns:
            if column.name == vector_column:
                continue
            identity = "IDENTITY" in column.generation
            if identity or column.type not in _KNOWN:
                what = "an identity column" if identity else f"a {column.type}"
                raise TogetherAIInputError(
                    f"{self.name}.{quoted(column.name)} is {what}, which is not copied. Create the new table with "
                    "SQL and fill it from the old one, or drop the column."
                )

    def create_sql(self, to: str, vector_column: str, width: int, model: str, comment: str) -> str:
        """CREATE TABLE of the same columns and key, with vectors of another model and a working column.

        It is made with its comments by one statement, so that it is never there without them.
        """
        columns = [
            f"{quoted(own.name)} {own.type}({width}) COMMENT {literal(_stamp(own.comment, model))}"
            if own.name == vector_column
            else own.declared()
            for own in self.columns
        ]
        columns.append(f"{quoted(WORK_COLUMN)} BIGINT")
        if self.key:
            columns.append(f"PRIMARY KEY ({', '.join(map(quoted, self.key))})")
        place = ".".join(quoted(part) for part in (self.schema, to) if part)
        return f"CREATE {self.kind} TABLE {place} ({', '.join(columns)}) COMMENT {literal(comment)}"


def _stamp(comment: str, model: str) -> str:
    return record(model, re.sub(r"\s*\[embedding model: [^\[\]]+\]", "", comment))


def read_layout(connection: Connection, schema: str, table: str) -> TableLayout | None:
    """Read a table's structure; None if there is no such table."""
    condition, parameters = in_schema(schema)
    found = first_row(
        connection,
        f"SELECT COMMENTS, TABLE_TYPE FROM SYS.TABLES WHERE {condition} AND TABLE_NAME = ?",
        (*parameters, table),
    )
    if found is None:
        return None
    rows = all_rows(
        connection,
        "SELECT COLUMN_NAME, DATA_TYPE_NAME, LENGTH, SCALE, IS_NULLABLE, DEFAULT_VALUE, COMMENTS, "
        f"GENERATION_TYPE, GENERATED_ALWAYS_AS FROM SYS.TABLE_COLUMNS WHERE {condition} AND TABLE_NAME = ? "
        "ORDER BY POSITION",
        (*parameters, table),
    )
    columns = tuple(
        ColumnLayout(name, kind, int(length or 0), scale, nullable == "TRUE", default, comment or "",
                     generation or "", generated or "")
        for name, kind, length, scale, nullable, default, comment, generation, generated in rows
    )  # fmt: skip
    key = primary_key(connection, schema, table)
    return TableLayout(schema, table, found[0] or "", "ROW" if found[1] == "ROW" else "COLUMN", columns, key)


def table_comment(connection: Connection, schema: str, table: str) -> str | None:
    """A table's comment, empty if it has none; None if there is no such table."""
    condition, parameters = in_schema(schema)
    comment = f"SELECT COMMENTS FROM SYS.TABLES WHERE {condition} AND TABLE_NAME = ?"
    row = first_row(connection, comment, (*parameters, table))
    return None if row is None else str(row[0] or "")


def fingerprint(connection: Connection, table_name: str, columns: list[str]) -> tuple[int, int]:
    """How many rows a table has, and a number that tells whether another one has the same, in whatever order."""
    count = total = 0
    for row in rows_of(connection, f"SELECT {', '.join(map(quoted, columns))} FROM {table_name}"):
        count += 1
        total = (total + digest(row)) % _RANGE
    return count, total


def digest(row: tuple[object, ...]) -> int:
    """A number that tells a row from any other."""
    return int.from_bytes(hashlib.blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=16).digest())


def rows_of(connection: Connection, sql: str) -> Iterator[tuple[object, ...]]:
    """A query's rows, read some at a time; large objects as their values."""
    with connection.cursor() as cursor:
        cursor.execute(sql)
        while rows := cursor.fetchmany(_AT_ONCE):
            for row in rows:
                yield tuple(_value(value) for value in row)


def _value(value: object) -> object:
    if isinstance(value, memoryview):
        return value.tobytes()
    return value
