"""A source in parts, each of which can be pickled and read elsewhere, in the order of the source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from hana_ai.api.hana.connections import Connections
from hana_ai.api.hana.ingest.documents import SourceDocument, Unreadable
from hana_ai.api.hana.ingest.files import FileSource
from hana_ai.api.hana.ingest.sources import Source
from hana_ai.api.hana.ingest.tables import Columns, HanaSource, row_document

FILES = 64
ROWS = 1024
"""Documents in a part: files, whose chunks are many, and others."""

Item = SourceDocument | Unreadable


class Part(Protocol):
    """Some documents of a source."""

    def documents(self, connections: Connections) -> Iterable[Item]:
        """Read them, over connections of whoever does."""


@dataclass(frozen=True)
class Listed:
    """Documents themselves, which are cheap to pickle: a file's is its path."""

    items: tuple[Item, ...]

    def documents(self, connections: Connections) -> Iterable[Item]:
        """Those."""
        return self.items


@dataclass(frozen=True)
class Between:
    """Rows of a table or query: behind a key, up to and with another one."""

    name: str
    columns: Columns
    query: str
    after: tuple[object, ...] | None
    until: tuple[object, ...]

    def documents(self, connections: Connections) -> Iterable[Item]:
        """Read the rows."""
        from hana_ai.api.hana.ingest.keyed_rows import KeyedRows

        rows = KeyedRows(
            connections, self.query, self.columns.key, self.columns.all, after=self.after, until=self.until
        )
        return (row_document(self.name, self.columns, row) for row in rows)


def parts_of(
    source: Source, size: int | None = None, left_out: Callable[[Item], bool] = lambda _: False
) -> Iterator[Part]:
    """Yield the parts of a source.

    Rows of SAP HANA are read by whoever has the part; here only their keys are, by which they are divided.

    Parameters
    ----------
    source : Source
    size : int, optional
        Documents in a part.
    left_out : callable
        Whether a document is to be left out, such as one whose name is under way already. Not asked for rows
        of SAP HANA, each of which comes once.
    """
    if isinstance(source, HanaSource):
        yield from _of_hana(source, size or ROWS)
        return
    most = size or (FILES if isinstance(source, FileSource) else ROWS)
    items = (item for item in source if not left_out(item))
    while group := tuple(islice(items, most)):
        yield Listed(group)


def _of_hana(source: HanaSource, size: int) -> Iterator[Part]:
    if (unreadable := source.without_key()) is not None:
        yield Listed((unreadable,))
    keys = replace(source.rows, columns=source.rows.key)
    after: tuple[object, ...] | None = None
    given = (tuple(row[name] for name in keys.key) for row in keys)
    while group := list(islice(given, size)):
        yield Between(source.name, source.columns, source.rows.query, after, group[-1])
        after = group[-1]
