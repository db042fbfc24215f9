"""From what a person names to the documents in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from langchain_core.documents import Document

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.connections import Connections
from hana_ai.api.hana.ingest.documents import SourceDocument, TextDocument, Unreadable
from hana_ai.api.hana.ingest.files import FileSource
from hana_ai.api.hana.ingest.keyed_rows import KeyedRows, checked_columns, columns_of
from hana_ai.api.hana.ingest.tables import (
    Columns,
    HanaSource,
    RowSource,
    arrow_rows,
    pandas_rows,
    parquet_rows,
    polars_rows,
)
from hana_ai.api.hana.keys import primary_key
from hana_ai.api.storage.quoting import quoted_table

_QUERY = re.compile(r"\s*(SELECT|WITH)\s", re.I)
_NAMES = re.compile(r'"((?:[^"]|"")+)"')


class Source(Protocol):
    """Documents, one by one."""

    @property
    def name(self) -> str:
        """What its rows are known by in the database, unless a person names it."""

    def __iter__(self) -> Iterator[SourceDocument | Unreadable]: ...

    def count(self) -> int | None:
        """How many documents there are; None if only reading them tells."""


@dataclass(frozen=True)
class Asked:
    """The columns that a person has named."""

    text: Sequence[str] = ()
    key: Sequence[str] = ()
    metadata: Sequence[str] = ()

    def among(self, there: Sequence[str], key: Sequence[str] = ()) -> Columns:
        """What is taken of rows that have these columns; `key` where none was named.

        Raises
        ------
        TogetherAIInputError
            There is no such column, or the one with the texts must be named.
        """
        text = checked_columns(self.text, there, "the texts")
        if not text:
            raise TogetherAIInputError(
                f"Name the column that is embedded with text_columns=... or --text; there are {', '.join(there)}."
            )
        metadata = checked_columns(self.metadata, there, "the metadata")
        found = Columns(text, checked_columns(self.key, there, "the key") or tuple(key), metadata)
        for name in (*found.key, *found.metadata):
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise TogetherAIInputError(
                    f"The column {name!r} cannot name metadata: letters, digits and _ only. Rename it in a query."
                )
        return found


@dataclass(frozen=True)
class DocumentSource:
    """Documents of LangChain's: from a loader, or any iterable."""

    documents: Iterable[Document]
    name: str = "documents"

    def __iter__(self) -> Iterator[TextDocument | Unreadable]:
        for position, document in enumerate(self.documents):
            if isinstance(document, Document):
                source = str(document.metadata.get("source") or self.name)
                yield TextDocument(source, document.page_content, document.metadata, document.id)
            else:
                yield Unreadable(f"{self.name}[{position}]", f"a {type(document).__name__}, not a Document")

    def count(self) -> int | None:
        """How many there are, where they are a list or the like."""
        return len(self.documents) if isinstance(self.documents, Sequence) else None


def source_from(given: object, connections: Connections, asked: Asked, name: str | None = None) -> Source:
    """What a person has named as documents.

    Parameters
    ----------
    given : object
        A path; ``"hana:TABLE"`` or a query; a DataFrame of hana-ml, pandas or Polars, a Table of pyarrow, a loader
        of LangChain's or an iterable of its Documents.
    connections : Connections
        For tables that are named.
    asked : Asked
    name : str, optional
        Instead of the source's own.

    Raises
    ------
    TogetherAIInputError
        It is nothing of these, is not there, or a column must be named.
    """
    if isinstance(given, str) and (given.startswith("hana:") or _QUERY.match(given)):
        return _of_hana(given, connections, asked, name)
    if isinstance(given, (str, Path)):
        path = Path(given).expanduser()
        if path.suffix.lower() in (".parquet", ".pq") and path.is_file():
            return _of_parquet(path, asked, name)
        return FileSource(path)
    if hasattr(given, "select_statement") and hasattr(given, "connection_context"):
        theirs = given.connection_context.connection
        with connections.lease() as ours:
            # A connection that is shared is used by one thread at a time.
            reading = connections if theirs is ours else Connections(theirs)
        return _of_query(str(given.select_statement), reading, asked, (), name or "query")
    if hasattr(given, "lazy_load"):
        return DocumentSource(given.lazy_load(), name or type(given).__name__)
    found = _of_frame(given, asked, name)
    if found is not None:
        return found
    if isinstance(given, Iterable) and not isinstance(given, (bytes, Document)):
        return DocumentSource(given, name or "documents")
    raise TogetherAIInputError(
        f"A {type(given).__name__} is no source: a path, hana:TABLE, a query, a DataFrame, a Table, a loader or "
        "Documents are."
    )


def _of_hana(given: str, connections: Connections, asked: Asked, name: str | None) -> Source:
    if not given.startswith("hana:"):
        return _of_query(given.rstrip().rstrip(";"), connections, asked, (), name or "query")
    table = quoted_table(given.removeprefix("hana:"), "SOURCE=")
    *schema, plain = (part.replace('""', '"') for part in _NAMES.findall(table))
    with connections.lease() as connection:
        key = primary_key(connection, schema[0] if schema else "", plain)
    return _of_query(f"SELECT * FROM {table}", connections, asked, key, name or given.removeprefix("hana:"))


def _of_query(query: str, connections: Connections, asked: Asked, key: Sequence[str], name: str) -> Source:
    columns = asked.among(columns_of(connections, query), key)
    if not columns.key:
        raise TogetherAIInputError(
            f"{name} has no primary key: name columns that no two rows share with key_columns=... or --key."
        )
    return HanaSource(name, columns, KeyedRows(connections, query, columns.key, columns.all))


def _of_parquet(path: Path, asked: Asked, name: str | None) -> Source:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as exc:
        raise TogetherAIInputError("Parquet files need the package pyarrow: pip install pyarrow") from exc
    with parquet.ParquetFile(str(path)) as file:
        there, total = file.schema_arrow.names, file.metadata.num_rows
    columns = asked.among(there)
    return RowSource(name or str(path.resolve()), columns, partial(parquet_rows, str(path), columns.all), total)


def _of_frame(given: Any, asked: Asked, name: str | None) -> Source | None:
    """A frame, by the package of its class, so that none is imported which is not there already."""
    package, kind = type(given).__module__.partition(".")[0], type(given).__name__
    if package == "pandas" and kind == "DataFrame":
        columns = asked.among([str(column) for column in given.columns])
        return RowSource(name or "frame", columns, partial(pandas_rows, given, columns.all), len(given))
    if package == "polars" and kind == "DataFrame":
        columns = asked.among(given.columns)
        return RowSource(name or "frame", columns, partial(polars_rows, given, columns.all), given.height)
    if package == "polars" and kind == "LazyFrame":
        raise TogetherAIInputError(
            "A LazyFrame is no source; collect it, or write it to Parquet and name the file."
        )
    if package == "pyarrow" and kind in ("Table", "RecordBatch", "RecordBatchReader"):
        if kind == "RecordBatch":
            from pyarrow import Table

            given = Table.from_batches([given])
        columns = asked.among(given.schema.names)
        total = getattr(given, "num_rows", None)
        return RowSource(name or "frame", columns, partial(arrow_rows, given, columns.all), total)
    return None
