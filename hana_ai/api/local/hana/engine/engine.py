"""The database behind the loopback HANA server: DuckDB with HANA's catalog, types, SQL and transactions."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

import duckdb

from hana_ai.api.local.hana.catalog.objects import Catalog, Change, SchemaInfo, TableInfo, UserInfo
from hana_ai.api.local.hana.catalog.statement_record import StatementRecord
from hana_ai.api.local.hana.engine import scalars
from hana_ai.api.local.hana.engine.connection import DuckDBSession
from hana_ai.api.local.hana.engine.embedding import CrossEncodeFunction, EmbeddingFunction, WordLlamaModel
from hana_ai.api.local.hana.engine.row_calls import RowCalls
from hana_ai.api.local.hana.engine.table_locks import TableLocks
from hana_ai.api.local.hana.interface import Credentials, HanaError
from hana_ai.api.local.hana.names import literal
from hana_ai.api.local.hana.translation.system_views import SYSTEM_VIEWS

MANY_REMOVED = 100_000
"""Removed rows after which an engine in memory frees what they took."""


class DuckDBEngine:
    """See `interface.Engine`.

    Parameters
    ----------
    path : str, optional
        A DuckDB file, made when it is missing; without one everything stays in memory.
    embedding : EmbeddingFunction, optional
        What answers VECTOR_EMBEDDING; WordLlama with 256 dimensions by default.
    cross_encode : CrossEncodeFunction, optional
        What answers CROSS_ENCODE; the cosine of WordLlama's vectors by default.
    lock_timeout : float
        Seconds that a change waits for another transaction on the same row; then error 131.

    Examples
    --------
    >>> engine = DuckDBEngine()
    >>> engine.ensure_user("DBADMIN", derive("secret"), admin=True)
    >>> session = engine.session("DBADMIN", 1)
    >>> list(session.execute(session.prepare("SELECT 1 FROM DUMMY")).rows)
    [(1,)]
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        embedding: EmbeddingFunction | None = None,
        cross_encode: CrossEncodeFunction | None = None,
        lock_timeout: float = 10.0,
    ) -> None:
        self.catalog = Catalog(SYSTEM_VIEWS)
        self.ddl_lock = threading.Lock()
        self.table_locks = TableLocks()
        self.row_calls = RowCalls()
        self.record = StatementRecord()
        self._lock_timeout = lock_timeout
        self._ended = threading.Condition()
        self._in_memory = path is None
        self._rows_lock = threading.Lock()
        self._removed = 0
        """Rows whose memory has not come back."""
        self._closed = False
        # An in-memory database in front: DuckDB's own names (SYSTEM, main ...) cannot clash with HANA's, and the
        # file holds nothing but data.
        self._root = duckdb.connect(":memory:", config={"allow_unsigned_extensions": "false"})
        try:
            self._root.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
            self._root.execute("SET TimeZone = 'UTC'")
            model = WordLlamaModel()
            scalars.register(self._root, embedding or model, cross_encode or model.score, self.row_calls.call)
            if path is None:
                # See `_free_memory`.
                self._root.execute("SET checkpoint_threshold = '1TB'")
            target = literal(str(Path(path))) if path is not None else "':memory:'"
            self._root.execute(f"ATTACH {target} AS hana")
            self.catalog.load(self._root)
            self._next_rid = self._highest_rid() + 1
        except BaseException:
            self._root.close()
            raise

    def _highest_rid(self) -> int:
        highest = 0
        for table in self.catalog.all(TableInfo):
            if table.temporary is None:
                found = self._root.execute(f"SELECT max(_rid) FROM {table.sql}").fetchall()
                highest = max(highest, found[0][0] or 0)
        return highest

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection of its own for a session."""
        if self._closed:
            raise HanaError(1888, "general error: the database is closed")
        return self._root.cursor()

    # --- Engine ---
    def session(self, user: str, connection_id: int) -> DuckDBSession:
        """A session for a user that has proved who they are."""
        if self.catalog.user(user) is None:
            raise HanaError(10, "authentication failed")
        return DuckDBSession(self, user, connection_id)

    def ensure_user(self, user: str, credentials: Credentials, admin: bool = False) -> None:
        """See `interface.Engine.ensure_user`."""
        with self.ddl_lock:
            known = self.catalog.user(user)
            account = UserInfo(user, known.oid if known is not None else self.catalog.new_oid(), admin)
            account.set_credentials(credentials)
            change = Change([account])
            if self.catalog.schema(user) is None:
                change.put.append(SchemaInfo(user, user))
            cursor = self.cursor()
            try:
                cursor.execute("BEGIN TRANSACTION")
                self.catalog.store(cursor, change)
                cursor.execute("COMMIT")
            finally:
                cursor.close()
            self.catalog.apply(change)

    def credentials(self, user: str) -> Credentials | None:
        """What proves the user's password."""
        found = self.catalog.user(user)
        return found.credentials if found is not None else None

    def close(self) -> None:
        """Close the database; sessions that are still open fail from now on."""
        if not self._closed:
            self._closed = True
            self._root.close()

    # --- for sessions ---
    def reserve_rids(self, count: int) -> int:
        """Set aside row numbers; gives the first."""
        with self._rows_lock:
            first = self._next_rid
            self._next_rid += count
            return first

    def rows_removed(self, count: int) -> None:
        """Count rows that were removed, or replaced; those that a rollback brings back, too."""
        with self._rows_lock:
            self._removed += count

    def lock_deadline(self) -> float:
        """Until when a change may wait for a row."""
        return time.monotonic() + self._lock_timeout

    def transaction_ended(self, session: object) -> None:
        """Release a session's tables, and wake those who wait for them or for a row."""
        self.table_locks.release(session)
        with self._ended:
            self._ended.notify_all()
        with self._rows_lock:
            removed = self._removed if self._in_memory else 0
            if removed < MANY_REMOVED:
                return
            self._removed = 0
        if not self._free_memory():
            self.rows_removed(removed)

    def _free_memory(self) -> bool:
        """Free what removed rows took and nobody can read any more; False if that is refused now.

        Only a checkpoint does that. By itself DuckDB makes one for every so many bytes that are written, which
        holds up commits for seconds where a large table is filled and there is nothing to free.
        """
        with closing(self._root.cursor()) as cursor:
            try:
                cursor.execute("CHECKPOINT hana")
            except duckdb.TransactionException:
                return False
        return True

    def wait_for_ending(self, deadline: float) -> bool:
        """Wait a moment for another transaction to end; False when the deadline has passed."""
        left = deadline - time.monotonic()
        if left > 0:
            with self._ended:
                # Not longer: the one that stands in the way may have ended just before.
                self._ended.wait(min(left, 0.02))
        return left > 0
