"""The table that is filled, and the tables of records and errors beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from operator import attrgetter

from hana_ai.api.hana.connections import Cursor, all_rows, only_row
from hana_ai.api.hana.embedding import model_name
from hana_ai.api.hana.ingest.documents import rows_of
from hana_ai.api.hana.ingest.record_manager import (
    LONGEST_GROUP,
    LONGEST_KEY,
    HanaRecordManager,
    in_parts,
    make_table,
    marks,
)
from hana_ai.api.hana.ingest.seen_places import SeenPlaces
from hana_ai.api.hana.ingest.work import OPEN, OpenDocument, Row
from hana_ai.api.hana.tables import current_schema
from hana_ai.api.hana.vector_store import TogetherHanaDB
from hana_ai.api.storage.quoting import quoted

ERRORS = "HANA_AI_TOGETHER_INGEST_ERRORS"
FAILED = "!"
"""What the state of a document begins with that could not be embedded; then comes its fingerprint."""

_LONGEST_REASON = 1000
_AT_ONCE = 500
_ERROR_COLUMNS = (
    f'"NAMESPACE" NVARCHAR({LONGEST_KEY}) NOT NULL, "KEY" NVARCHAR({LONGEST_KEY}) NOT NULL, '
    f'"SOURCE" NVARCHAR({LONGEST_GROUP}), "REASON" NVARCHAR({_LONGEST_REASON}), "UPDATED_AT" DOUBLE NOT NULL, '
    'PRIMARY KEY ("NAMESPACE", "KEY")'
)


def namespace_of(schema: str, table: str, corpus: str) -> str:
    """Under which name the records of a corpus in a table are kept."""
    name = f"{schema}.{table}/{corpus}"
    return name if len(name) <= 200 else f"{name[:160]}#{blake2b(name.encode(), digest_size=16).hexdigest()}"


class Target:
    """A vector table and what is known of its rows. Thread-safe, as far as `store` has connections."""

    def __init__(self, store: TogetherHanaDB, corpus: str) -> None:
        self.store = store
        self.model = model_name(store.embedding)
        self.ownership = store.ownership
        self.connections = store.connections
        schema = store.schema_name
        with self.connections.lease() as connection:
            full = schema or current_schema(connection)
        self.table = store.table_ref
        self.records = HanaRecordManager(
            namespace_of(full, store.table_name, corpus), store.connection, schema_name=schema
        )
        self.errors = ".".join(quoted(name) for name in (schema, ERRORS) if name)
        self._schema = schema
        names = [store.id_column or "", store.content_column, store.metadata_column, store.vector_column]
        self._id, self._metadata = quoted(names[0]), quoted(names[2])
        self._columns = ", ".join(map(quoted, names))
        self.started = 0.0
        """When this run began, by the database's clock."""
        self._seen: SeenPlaces | None = None
        """What this run has met, as long as it alone writes records; otherwise the database is asked."""

    def prepare(self) -> None:
        """Make the tables of records and errors; what is recorded of a table that is empty now is forgotten."""
        self.records.create_schema()
        make_table(self.connections, self._schema, ERRORS, _ERROR_COLUMNS)
        self.started = self.records.get_time()
        if not self.rows():
            forget = f'DELETE FROM {self.records.table} WHERE "NAMESPACE" = ?'
            self.connections.transact(lambda cursor: cursor.execute(forget, (self.records.namespace,)))
        if not self.records.list_keys(limit=1):
            self._seen = SeenPlaces()

    # --- reading ---

    def rows(self) -> int:
        """How many rows the table has."""
        with self.connections.lease() as connection:
            return int(only_row(connection, f"SELECT COUNT(*) FROM {self.table}")[0])

    def ids_at(self, place: str) -> set[str]:
        """The ids of a document's rows."""
        there = f"SELECT {self._id} FROM {self.table} WHERE {self._id} >= ? AND {self._id} < ?"
        with self.connections.lease() as connection:
            return {row[0] for row in all_rows(connection, there, rows_of(place))}

    # --- what the reader knows and tells ---

    @property
    def asks(self) -> bool:
        """Whether `states` asks the database, because this run is not the first or not alone."""
        return self._seen is None

    def states(self, places: list[str]) -> dict[str, tuple[str, float]]:
        """The states of documents that are recorded, and when each was met last."""
        seen = self._seen
        return self.records.states(places if seen is None else seen.add(places))

    def not_alone(self, documents: Sequence[OpenDocument]) -> None:
        """Another run writes the same: from now on, the database is asked about each document.

        What it has written of other versions of these is to go when they are complete.
        """
        self._seen = None
        found = self.records.states([document.place for document in documents])
        for document in documents:
            state, _ = found.get(document.place, (document.fingerprint, 0.0))
            if state != document.fingerprint:
                document.old = self.ids_at(document.place)

    def touch(self, places: list[str]) -> None:
        """Documents are still there, as they were."""
        if places:
            self.records.touch(places, self.started)

    def touch_failed(self, places: list[str]) -> None:
        """Documents still cannot be embedded."""
        if places:
            update = f'UPDATE {self.errors} SET "UPDATED_AT" = ? WHERE "NAMESPACE" = ? AND "KEY" = ?'
            rows = [(self.started, self.records.namespace, place) for place in places]
            self.connections.transact(lambda cursor: cursor.executemany(update, rows))

    def unreadable(self, failures: list[tuple[str, str, str]]) -> None:
        """Place, source and reason of what cannot be read."""
        if failures:
            self.connections.transact(lambda cursor: self.explain(cursor, failures))

    # --- in a transaction ---

    def insert(self, cursor: Cursor, rows: Sequence[Row], *, replace: bool) -> None:
        """Write rows; without `replace` they must be new."""
        verb, end = ("UPSERT", " WITH PRIMARY KEY") if replace else ("INSERT INTO", "")
        cursor.executemany(f"{verb} {self.table} ({self._columns}) VALUES (?, ?, ?, ?){end}", rows)

    def open(self, cursor: Cursor, documents: Sequence[OpenDocument], *, replace: bool) -> None:
        """Record that rows of these may be there."""
        self._record(cursor, documents, lambda _: OPEN, replace=replace)

    def finish(self, cursor: Cursor, documents: Sequence[OpenDocument], *, replace: bool) -> None:
        """Record that these are complete; rows of earlier versions go."""
        for part in in_parts([id for document in documents for id in document.old or ()]):
            cursor.execute(f"DELETE FROM {self.table} WHERE {self._id} IN ({marks(part)})", part)
        kept = [pair for document in documents for pair in document.kept or ()]
        if kept:
            cursor.executemany(f"UPDATE {self.table} SET {self._metadata} = ? WHERE {self._id} = ?", kept)
        self._record(cursor, documents, attrgetter("fingerprint"), replace=replace)

    def _record(
        self,
        cursor: Cursor,
        documents: Sequence[OpenDocument],
        state: Callable[[OpenDocument], str],
        *,
        replace: bool,
    ) -> None:
        for recorded in (False, True):
            rows = (
                (document.place, document.source, state(document))
                for document in documents
                if document.recorded is recorded
            )
            self.records.write(cursor, rows, self.started, replace=replace or recorded)

    def fail(self, cursor: Cursor, documents: Sequence[OpenDocument]) -> None:
        """Take the rows of these away, and keep why they could not be embedded."""
        if not documents:
            return
        for document in documents:
            self._delete(cursor, document.place)
        rows = [
            # What the server could not do now, it may do in the next run.
            (document.place, document.source, OPEN if document.may_pass else FAILED + document.fingerprint)
            for document in documents
        ]
        self.records.write(cursor, rows, self.started)
        self.explain(cursor, [(document.place, document.source, document.problem or "") for document in documents])

    def explain(self, cursor: Cursor, failures: Sequence[tuple[str, str, str]]) -> None:
        """Write place, source and reason into the table of errors."""
        if failures:
            cursor.executemany(
                f'UPSERT {self.errors} ("NAMESPACE", "KEY", "SOURCE", "REASON", "UPDATED_AT") '
                "VALUES (?, ?, ?, ?, ?) WITH PRIMARY KEY",
                [
                    (self.records.namespace, place, source[:LONGEST_GROUP], reason[:_LONGEST_REASON], self.started)
                    for place, source, reason in failures
                ],
            )

    def _delete(self, cursor: Cursor, place: str) -> None:
        cursor.execute(f"DELETE FROM {self.table} WHERE {self._id} >= ? AND {self._id} < ?", rows_of(place))

    # --- at the end ---

    def clean(self, *, sync: bool) -> int:
        """Remove documents that this run has not met: of the sources that it has met, with `sync` of all.

        Returns how many.
        """
        own = (self.records.namespace, self.started)
        removed, more = 0, True
        while more:
            count = self.connections.transact(lambda cursor: self._remove_some(cursor, own, sync=sync))
            removed, more = removed + count, count == _AT_ONCE
        errors = f'DELETE FROM {self.errors} WHERE "NAMESPACE" = ? AND "UPDATED_AT" < ?'
        self.connections.transact(lambda cursor: cursor.execute(errors, own))
        return removed

    def _remove_some(self, cursor: Cursor, own: tuple[str, float], *, sync: bool) -> int:
        """Remove documents of a namespace that were not met since a time; gives how many, `_AT_ONCE` at most."""
        met = "" if sync else (
            f' AND "GROUP_ID" IN (SELECT "GROUP_ID" FROM {self.records.table} '
            'WHERE "NAMESPACE" = ? AND "UPDATED_AT" >= ?)'
        )  # fmt: skip
        cursor.execute(
            f'SELECT TOP {_AT_ONCE} "KEY" FROM {self.records.table} '
            f'WHERE "NAMESPACE" = ? AND "UPDATED_AT" < ?{met}',
            own if sync else own * 2,
        )
        places = [row[0] for row in cursor.fetchall()]
        for place in places:
            self._delete(cursor, place)
        if places:
            cursor.execute(
                f'DELETE FROM {self.records.table} WHERE "NAMESPACE" = ? AND "KEY" IN ({marks(places)})',
                (self.records.namespace, *places),
            )
        return len(places)
