"""The vector tables of a schema: what each holds, whose it is, and how that is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.connections import Connection, Context, all_rows, connection_of, only_row
from hana_ai.api.hana.ownership import count_vectors, no_column
from hana_ai.api.hana.vector_column import VectorColumn
from hana_ai.api.storage.quoting import quoted
from hana_ai.api.wire.html import Listing

Known = Literal["stamp", "generated", "unknown", "mixed", "empty"]

_VECTORS = ("REAL_VECTOR", "HALF_VECTOR")
_TEXTS = ("NCLOB", "CLOB", "NVARCHAR", "VARCHAR", "TEXT", "SHORTTEXT")
_EMBEDDED = re.compile(r'VECTOR_EMBEDDING\s*\(\s*(?:"([^"]+)"|([A-Za-z_]\w*))\s*,', re.I)
_NOT_ALLOWED = 258


@dataclass(frozen=True)
class VectorTableInfo:
    """A table with vectors, and what is known of the model that made them."""

    schema: str
    table: str
    vector_column: str
    text_column: str | None
    """The column with the texts that were embedded; None if it has to be named."""
    type: str
    """REAL_VECTOR or HALF_VECTOR."""
    widths: tuple[int, int]
    """Numbers in the shortest and in the longest vector; where there is none, as declared (0: any)."""
    rows: int | None
    """None if the database user may not read the table."""
    vectors: int | None
    """Rows that have a vector."""
    model: str | None
    """The model that made the vectors; None if it is not recorded."""
    known: Known
    """How the model is known: by its `stamp`, since the database's `generated` vectors name it, or not, because
    rows are there without a stamp (`unknown`), of several widths (`mixed`), or none at all (`empty`)."""
    generated: bool
    """Whether the database makes the vectors itself."""
    index: str | None
    """The vector index."""
    comment: str = ""
    """The table's comment, which says if the table takes part in a migration."""

    @property
    def width(self) -> int:
        """Numbers in a vector; 0 if unknown, or if there are several widths."""
        return self.widths[0] if self.widths[0] == self.widths[1] else 0

    @property
    def name(self) -> str:
        """The table, for people and for SQL."""
        return f"{quoted(self.schema)}.{quoted(self.table)}"

    def _repr_html_(self) -> str:
        return VectorTableList([self])._repr_html_()


class VectorTableList(Listing[VectorTableInfo]):
    """Vector tables, with their models in notebooks."""

    headings = ("table", "column", "rows", "vectors", "numbers in each", "model", "known by", "index")

    @staticmethod
    def cells(item: VectorTableInfo) -> list[str]:
        counts = ("-" if count is None else f"{count:,}" for count in (item.rows, item.vectors))
        narrowest, widest = item.widths
        width = f"{narrowest:,}" if narrowest == widest else f"{narrowest:,} to {widest:,}"
        return [item.name, item.vector_column, *counts, width, item.model or "-", item.known, item.index or "-"]


def list_tables(
    connection: Connection | Context, schema: str | None = None, pattern: str = "*"
) -> list[VectorTableInfo]:
    """Describe the vector tables of a schema; a table with two vector columns comes twice.

    Nothing is embedded, and nothing leaves the database. Rows are counted, so this takes a while for large tables.

    Parameters
    ----------
    connection : hdbcli.dbapi.Connection or hana_ml.ConnectionContext
    schema : str, optional
        Default: the connection's current schema.
    pattern : str
        Names of tables, with ``*`` and ``?``.

    Returns
    -------
    list of VectorTableInfo
        By name.

    Raises
    ------
    hdbcli.dbapi.Error
        The database refuses.

    Examples
    --------
    >>> from hana_ai.api.hana import list_tables
    >>> for table in list_tables(connection):
    ...     print(table.name, table.rows, table.width, table.model or table.known)
    """
    connection = connection_of(connection)
    schema = schema or current_schema(connection)
    indexes = {(table, column): index for table, column, index in _indexes(connection, schema)}
    columns = _columns(connection, schema)
    found = VectorTableList()
    for table, own in columns.items():
        if not fnmatchcase(table, pattern):
            continue
        for column in own.columns:
            if column.type in _VECTORS:
                index = indexes.get((table, column.column))
                found.append(_described(connection, column, own, index))
    return found


def find_table(
    connection: Connection,
    table: str,
    schema: str | None = None,
    vector_column: str | None = None,
    text_column: str | None = None,
) -> VectorTableInfo:
    """Describe one vector column; both columns need a name only where several could be meant.

    Raises
    ------
    TogetherAIInputError
        There is no such table or column, it has no vectors, or a column must be named.
    """
    column, own = _found(connection, table, schema, vector_column)
    if text_column is not None and all(text_column != other.column for other in own.columns):
        raise no_column(column.schema, table, text_column)
    return _described(connection, column, own, _index_of(connection, column), text_column)


def find_vector_column(
    connection: Connection, table: str, schema: str | None = None
) -> tuple[VectorColumn, str | None]:
    """The vector column of a table and its index, if it has one; no row is read.

    Raises
    ------
    TogetherAIInputError
        There is no such table, or not one vector column.
    """
    column, _ = _found(connection, table, schema)
    return column, _index_of(connection, column)


def _found(
    connection: Connection, table: str, schema: str | None, vector_column: str | None = None
) -> tuple[VectorColumn, _Table]:
    schema = schema or current_schema(connection)
    own = _columns(connection, schema, table).get(table)
    if own is None:
        raise TogetherAIInputError(f"There is no table {quoted(schema)}.{quoted(table)}.")
    vectors = [column for column in own.columns if column.type in _VECTORS]
    chosen = [column for column in vectors if vector_column in (None, column.column)]
    if vector_column is not None and not chosen:
        raise no_column(schema, table, vector_column)
    if len(chosen) != 1:
        names = ", ".join(column.column for column in vectors)
        several = f"several vector columns, {names}: name one with vector_column=... or --vector-column"
        raise TogetherAIInputError(f"{own.name} has {several if names else 'no vector column'}.")
    return chosen[0], own


def _index_of(connection: Connection, column: VectorColumn) -> str | None:
    indexes = _indexes(connection, column.schema)
    return {name: index for of, name, index in indexes if of == column.table}.get(column.column)


def text_column_of(info: VectorTableInfo) -> str:
    """The column with the texts.

    Raises
    ------
    TogetherAIInputError
        It has to be named.
    """
    if info.text_column is None:
        raise TogetherAIInputError(
            f"Name the column of {info.name} that holds the texts: text_column=..., or --text-column."
        )
    return info.text_column


def vector_column_of(info: VectorTableInfo, generated: str = "") -> VectorColumn:
    """The vector column, as the decision whose it is takes it."""
    return VectorColumn(info.schema, info.table, info.vector_column, info.type, info.width, generated=generated)


def current_schema(connection: Connection) -> str:
    """The connection's schema."""
    return str(only_row(connection, "SELECT CURRENT_SCHEMA FROM DUMMY")[0])


@dataclass
class _Table:
    comment: str
    columns: list[VectorColumn]
    """All of its columns, whatever their types."""

    @property
    def name(self) -> str:
        return self.columns[0].table_name


def _columns(connection: Connection, schema: str, table: str | None = None) -> dict[str, _Table]:
    named, parameters = ("", (schema,)) if table is None else (" AND C.TABLE_NAME = ?", (schema, table))
    rows = all_rows(
        connection,
        "SELECT C.TABLE_NAME, C.COLUMN_NAME, C.DATA_TYPE_NAME, C.LENGTH, C.COMMENTS, C.GENERATED_ALWAYS_AS, "
        "T.COMMENTS FROM SYS.TABLE_COLUMNS AS C JOIN SYS.TABLES AS T "
        "ON C.SCHEMA_NAME = T.SCHEMA_NAME AND C.TABLE_NAME = T.TABLE_NAME "
        f"WHERE C.SCHEMA_NAME = ?{named} AND T.IS_TEMPORARY = 'FALSE' ORDER BY C.TABLE_NAME, C.POSITION",
        parameters,
    )
    found: dict[str, _Table] = {}
    for name, column, kind, length, comment, generated, of_table in rows:
        own = found.setdefault(name, _Table(of_table or "", []))
        own.columns.append(
            VectorColumn(schema, name, column, kind, max(length or 0, 0), comment or "", generated or "")
        )
    return found


def _indexes(connection: Connection, schema: str) -> list[tuple[str, str, str]]:
    indexed = "SELECT TABLE_NAME, COLUMN_NAME, INDEX_NAME FROM SYS.INDEX_COLUMNS WHERE SCHEMA_NAME = ?"
    return [tuple(row) for row in all_rows(connection, indexed, (schema,))]


def _described(
    connection: Connection, column: VectorColumn, own: _Table, index: str | None, text_column: str | None = None
) -> VectorTableInfo:
    from hdbcli import dbapi  # type: ignore[import-untyped]

    rows: int | None = None
    vectors: int | None = None
    widths = (column.width, column.width)
    try:
        rows = int(only_row(connection, f"SELECT COUNT(*) FROM {column.table_name}")[0])
        vectors, least, most = count_vectors(connection, column)
        widths = (least, most) if vectors else widths
    except dbapi.Error as exc:
        if exc.errorcode != _NOT_ALLOWED:
            raise
    return VectorTableInfo(
        schema=column.schema,
        table=column.table,
        vector_column=column.column,
        text_column=text_column or _text_column(column, own.columns),
        type=column.type,
        widths=widths,
        rows=rows,
        vectors=vectors,
        model=column.model,
        known=_known(column, vectors, widths),
        generated=bool(column.generated),
        index=index,
        comment=own.comment,
    )


def _known(column: VectorColumn, vectors: int | None, widths: tuple[int, int]) -> Known:
    if column.generated:
        return "generated"
    if widths[0] != widths[1]:
        return "mixed"
    if column.model is not None:
        return "stamp"
    return "empty" if vectors == 0 else "unknown"


def _text_column(vectors: VectorColumn, columns: Sequence[VectorColumn]) -> str | None:
    """The column of the texts: the one that is generated from, of langchain's or the toolkit's name, or alone."""
    names = [column.column for column in columns if column.type in _TEXTS]
    if (found := _EMBEDDED.search(vectors.generated)) is not None:
        name = found[1] or found[2].upper()
        return name if name in names else None
    usual = {"VEC_VECTOR": "VEC_TEXT", "embeddings": "description"}.get(vectors.column)
    if usual in names:
        return usual
    return names[0] if len(names) == 1 else None
