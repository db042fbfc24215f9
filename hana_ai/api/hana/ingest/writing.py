"""The last stage: embedded chunks into the table, many in a transaction, with the records of their documents."""

from __future__ import annotations

import threading
from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from hana_ai.api.hana.connections import retried, transaction
from hana_ai.api.hana.ingest.progress import Counter
from hana_ai.api.hana.ingest.target import Target
from hana_ai.api.hana.ingest.work import Batch, OpenDocument

MOST_ROWS = 2048
"""Rows that are committed together."""

_NOT_UNIQUE = 301


class Writer:
    """Writes batches, each transaction on one connection; may be used by several threads.

    Parameters
    ----------
    target : Target
    counter : Counter
    """

    def __init__(self, target: Target, counter: Counter) -> None:
        self._target = target
        self._counter = counter
        self._lock = threading.Lock()
        """Of the counts of chunks that are under way."""
        self._free = threading.Condition()
        self._busy: set[OpenDocument] = set()
        """Documents that a thread writes of."""

    def begin(self, document: OpenDocument) -> None:
        """A chunk of a document sets out."""
        with self._lock:
            document.waiting += 1

    def end(self, document: OpenDocument, chunks: int = 1) -> bool:
        """So many chunks of a document have arrived, or it is read; True if that was the last of it."""
        with self._lock:
            document.waiting -= chunks
            return document.waiting == 0

    def write(self, batches: Sequence[Batch], complete: Sequence[OpenDocument]) -> list[OpenDocument]:
        """Write batches, and what documents need of which all has arrived, in one transaction.

        Returns the documents that are complete now, but not recorded as such.
        """
        arrived = Counts(chain.from_iterable(batch.documents for batch in batches))
        with self._alone({*arrived, *complete}):
            return self._write_all(arrived, batches, complete)

    @contextmanager
    def _alone(self, documents: set[OpenDocument]) -> Iterator[None]:
        """Keep other threads from documents meanwhile: two transactions would collide on a document's record."""
        with self._free:
            self._free.wait_for(lambda: self._busy.isdisjoint(documents))
            self._busy |= documents
        try:
            yield
        finally:
            with self._free:
                self._busy -= documents
                self._free.notify_all()

    def _write_all(
        self,
        arrived: Counts[OpenDocument],
        batches: Sequence[Batch],
        complete: Sequence[OpenDocument],
    ) -> list[OpenDocument]:
        from hdbcli import dbapi  # type: ignore[import-untyped]

        with self._lock:
            # What this transaction completes needs no second one.
            done = [document for document, count in arrived.items() if document.waiting == count]
        done += complete
        try:
            rows = retried(lambda: self._write(batches, arrived, done, replace=False))
        except dbapi.Error as exc:
            if exc.errorcode != _NOT_UNIQUE:
                raise
            # Another run writes the same, or another version of it, whose rows go.
            self._target.not_alone([document for document in {*arrived, *done} if not document.recorded])
            rows = retried(lambda: self._write(batches, arrived, done, replace=True))
        return self._written(arrived, rows, done, batches)

    def _write(
        self,
        batches: Sequence[Batch],
        arrived: Iterable[OpenDocument],
        done: Sequence[OpenDocument],
        *,
        replace: bool,
    ) -> int:
        """Commit all of it; gives how many rows it was."""
        rows = [row for batch in batches for row in batch.rows()]
        width = next((batch.width for batch in batches if batch.width), 0)
        ended = set(done)
        good = [document for document in done if document.problem is None]
        begun = [document for document in arrived if document not in ended and not document.recorded]
        for batch in batches:
            for document, id in zip(batch.documents, batch.ids, strict=True):
                if document.old:
                    document.old.discard(id)
        with self._transaction(width if rows else 0) as cursor:
            if begun:
                self._target.open(cursor, begun, replace=replace)
            if good:
                self._target.finish(cursor, good, replace=replace)
            self._target.fail(cursor, [document for document in done if document.problem is not None])
            if rows:
                # Last, since it is the largest: what a database keeps to undo a later statement stays small.
                self._target.insert(cursor, rows, replace=replace)
        return len(rows)

    @contextmanager
    def _transaction(self, width: int) -> Iterator[Any]:
        """A transaction on a connection of this thread's; the table is kept to its model if there are vectors."""
        target = self._target
        with target.connections.lease() as connection:
            if width:
                with target.ownership.writing(connection, target.model, width) as cursor:
                    yield cursor
            else:
                with transaction(connection) as cursor:
                    yield cursor

    def _written(
        self,
        arrived: Counts[OpenDocument],
        rows: int,
        done: Sequence[OpenDocument],
        batches: Sequence[Batch],
    ) -> list[OpenDocument]:
        ended, left = set(done), []
        for document, count in arrived.items():
            document.recorded = True
            if self.end(document, count) and document not in ended:
                left.append(document)
        failed = [document for document in ended if document.problem is not None]
        for document in failed:
            self._counter.problem(document.source, document.problem or "")
        self._counter.add(
            rows=rows,
            tokens=sum(batch.tokens if batch.counted is None else batch.counted for batch in batches),
            failed=len(failed),
            written=len(ended) - len(failed),
            documents=len(ended),
        )
        return left
