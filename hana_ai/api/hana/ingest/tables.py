"""Rows as documents: of SAP HANA, pandas, Polars, pyarrow and Parquet, one part of them in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from hana_ai.api.hana.ingest.documents import TextDocument, Unreadable
from hana_ai.api.hana.ingest.keyed_rows import KeyedRows

_ROWS = 1000


@dataclass(frozen=True)
class Columns:
    """What is taken of a row."""

    text: tuple[str, ...]
    """Embedded: the value of one, or several with their names."""
    key: tuple[str, ...] = ()
    """Names a row; without it a row is known by its content."""
    metadata: tuple[str, ...] = ()
    """Kept beside the text."""

    @property
    def all(self) -> tuple[str, ...]:
        """Each once."""
        return tuple(dict.fromkeys((*self.key, *self.text, *self.metadata)))


@dataclass(frozen=True)
class RowSource:
    """Rows of something that can be read in parts."""

    name: str
    columns: Columns
    rows: Callable[[], Iterable[Mapping[str, object]]]
    total: int | None = None

    def __iter__(self) -> Iterator[TextDocument]:
        return (row_document(self.name, self.columns, row) for row in self.rows())

    def count(self) -> int | None:
        """How many rows there are."""
        return self.total


@dataclass(frozen=True)
class HanaSource:
    """Rows of a table or query of SAP HANA."""

    name: str
    columns: Columns
    rows: KeyedRows

    def __iter__(self) -> Iterator[TextDocument | Unreadable]:
        if (unreadable := self.without_key()) is not None:
            yield unreadable
        for row in self.rows:
            yield row_document(self.name, self.columns, row)

    def without_key(self) -> Unreadable | None:
        """The rows that have no key, if there are any."""
        missing = self.rows.without_key()
        if not missing:
            return None
        return Unreadable(self.name, f"{missing:,} rows without a value in {', '.join(self.columns.key)}")

    def count(self) -> int | None:
        """How many rows there are."""
        return self.rows.count()


def row_document(name: str, columns: Columns, row: Mapping[str, object]) -> TextDocument:
    """A row as a document."""
    values = [(column, row[column]) for column in columns.text]
    if len(values) == 1:
        text = _text(values[0][1])
    else:
        text = "\n".join(f"{column}: {_text(value)}" for column, value in values if _text(value))
    metadata = {column: _plain(row[column]) for column in (*columns.key, *columns.metadata)}
    kept = {column: value for column, value in metadata.items() if value is not None}
    if not columns.key:
        return TextDocument(name, text, {"source": name, **kept})
    key = json.dumps([_plain(row[column]) for column in columns.key], default=str)
    shown = "/".join(str(_plain(row[column])) for column in columns.key)
    source = f"{name}/{shown}"
    return TextDocument(source, text, {"source": source, **kept}, name=key)


def _text(value: object) -> str:
    return "" if _plain(value) is None else str(_plain(value))


def _plain(value: object) -> object:
    """A value that JSON has."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) or value != value:  # noqa: PLR0124 - what is not itself is no value, in pandas, too
        return value if value == value else None  # noqa: PLR0124
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if callable(item := getattr(value, "item", None)):
        return _plain(item())
    if callable(read := getattr(value, "read", None)):
        return _plain(read())
    return value.hex() if isinstance(value, (bytes, memoryview)) else str(value)


# --- the libraries ---


def pandas_rows(frame: Any, columns: Sequence[str]) -> Iterator[Mapping[str, object]]:
    """The rows of a DataFrame of pandas."""
    for begin in range(0, len(frame), _ROWS):
        yield from frame[list(columns)].iloc[begin : begin + _ROWS].to_dict("records")


def polars_rows(frame: Any, columns: Sequence[str]) -> Iterator[Mapping[str, object]]:
    """The rows of a DataFrame of Polars."""
    for part in frame.select(list(columns)).iter_slices(_ROWS):
        yield from part.to_dicts()


def arrow_rows(table: Any, columns: Sequence[str]) -> Iterator[Mapping[str, object]]:
    """The rows of a Table or a RecordBatchReader of pyarrow."""
    batches = table.to_batches(max_chunksize=_ROWS) if hasattr(table, "to_batches") else table
    for batch in batches:
        for begin in range(0, batch.num_rows, _ROWS):
            yield from batch.select(list(columns)).slice(begin, _ROWS).to_pylist()


def parquet_rows(path: str, columns: Sequence[str]) -> Iterator[Mapping[str, object]]:
    """The rows of a Parquet file, of which one group is in memory."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS, columns=list(columns)):
            yield from batch.to_pylist()
