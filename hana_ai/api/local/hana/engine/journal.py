"""A transaction that can undo one statement, over a database that cannot.

Any error ends a DuckDB transaction, and it has no savepoints; HANA undoes the failing statement alone, or what
came after a savepoint. So the transaction remembers its effects: which rows it removed and which it added, by the
hidden row number that every table has. It is rolled back then, and the remembered rows are put back, as rows: SQL
that gives another answer the second time (RAND, sequences, the clock) is never run twice.

Rows are copied aside only when another statement follows, so a transaction of one statement, the usual case under
autocommit, pays nothing. Many rows that came as parameters alone need no copy: their batch is kept and inserted
again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import duckdb

from hana_ai.api.local.hana.engine.arrow import Table, execute_over
from hana_ai.api.local.hana.errors import from_duckdb, is_conflict, unsupported
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.names import literal
from hana_ai.api.local.hana.translation.fragments import Sql

_SMALL = 64
"""Up to this many rows are kept in memory; more are spilled to a file."""
_MOST_KEPT = 64 * 1024**2
"""Bytes of batches that a transaction keeps."""


class Creation(Protocol):
    """A table that was made inside the transaction."""

    def undo(self) -> None:
        """It went with a rollback."""

    def repeat(self) -> None:
        """Make it again."""


@dataclass(frozen=True, slots=True)
class BatchInsert:
    """An INSERT of a batch whose rows are its parameters, so that it adds the same rows each time."""

    batch: Table
    sql: str
    values: Mapping[str, object]

    def run(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Insert the rows."""
        execute_over(self.batch, connection, self.sql, self.values).fetchall()


@dataclass(slots=True)
class Effect:
    """The rows that one statement removed from a table and added to it."""

    table: str
    """The table in DuckDB SQL."""
    removed: list[int] = field(default_factory=list)
    added: Sql | None = None
    """A condition that finds the added rows until the next statement; ``$rids`` are those of `removed`."""
    count: int | None = None
    """How many were added, where that is known; rows found by `$rids` are as many as were removed."""
    insert: BatchInsert | None = None
    """What adds them again."""
    creation: Creation | None = None
    """The table itself is new."""
    rows: list[tuple[object, ...]] | None = None
    file: Path | None = None
    before: tuple[object, ...] | None = None
    """Number and hash of the removed rows as they are committed, to see later whether others changed them."""


class Transaction:
    """One connection's transaction.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        The session's own connection.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._effects: list[Effect] = []
        self._captured = 0
        self._kept = 0
        """Bytes of batches."""
        self._savepoints: dict[str, int] = {}
        """How many effects came before each, oldest first."""
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.active = False
        self.holds_ddl = False
        """Whether tables have changed their shape: then what was done cannot be done again."""

    def begin(self) -> None:
        """Start, unless it is already running."""
        if not self.active:
            self._connection.execute("BEGIN TRANSACTION")
            self.active = True

    def record(self, *effects: Effect) -> None:
        """Remember what a statement did."""
        self._effects += effects

    @property
    def has_effects(self) -> bool:
        """Whether it has changed rows."""
        return bool(self._effects)

    def prepare_for_failure(self) -> None:
        """Copy aside the rows of the effects so far: the next statement may fail."""
        if self.holds_ddl:
            return
        for effect in self._effects[self._captured :]:
            self._capture(effect)
        self._captured = len(self._effects)

    def _capture(self, effect: Effect) -> None:
        if effect.removed and not effect.table.startswith("temp."):
            # This transaction holds the rows, so nobody else can commit a change of them now. A connection of
            # its own sees them as they were before; temporary tables it does not see, nor does anybody else.
            with self._connection.cursor() as others:
                effect.before = _fingerprint(others, effect)
        if effect.added is None or self._keeps(effect):
            return
        query = f"SELECT * FROM {effect.table} WHERE {effect.added.text}"
        values, count = {}, effect.count
        if effect.added.names:
            values, count = {"rids": effect.removed}, len(effect.removed)
        if count is None or count <= _SMALL:
            rows = self._connection.execute(f"{query} LIMIT {_SMALL + 1}", values).fetchall()
            if len(rows) <= _SMALL:
                effect.rows = rows
                return
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="hana-loopback-")
        effect.file = Path(self._folder.name) / f"{len(self._effects)}-{id(effect)}.parquet"
        self._connection.execute(
            f"COPY ({query}) TO {literal(str(effect.file))} (FORMAT parquet, COMPRESSION uncompressed)", values
        )

    def _keeps(self, effect: Effect) -> bool:
        """Whether the batch itself is kept: it needs no copy of the rows."""
        if effect.insert is None:
            return False
        if self._kept + effect.insert.batch.size > _MOST_KEPT:
            effect.insert = None
            return False
        self._kept += effect.insert.batch.size
        return True

    def set_savepoint(self, name: str) -> None:
        """Remember this moment; a savepoint of the same name moves here."""
        self.begin()
        self.prepare_for_failure()
        self._savepoints.pop(name, None)
        self._savepoints[name] = len(self._effects)

    def release_savepoint(self, name: str) -> None:
        """Forget a savepoint and those set after it; what was done stays.

        Raises
        ------
        HanaError
            128, when there is none of this name.
        """
        names = list(self._savepoints)
        if name not in names:
            raise HanaError(128, f"transaction error: unknown savepoint: {name}")
        for later in names[names.index(name) :]:
            del self._savepoints[later]

    def return_to_savepoint(self, name: str) -> None:
        """Undo what was done since a savepoint, which stays; those set after it are forgotten.

        Raises
        ------
        HanaError
            128, when there is none of this name; 138 as of `undo_statement`.
        """
        if self.holds_ddl:
            raise unsupported("ROLLBACK TO SAVEPOINT after DDL in the same transaction")
        done = self._savepoints.get(name, 0)
        self.release_savepoint(name)
        if done < len(self._effects):
            self._captured = done
            self.undo_statement()
        self.set_savepoint(name)

    def undo_statement(self) -> None:
        """Bring back the state before the statement that failed.

        Raises
        ------
        HanaError
            138, when another transaction has changed the same rows meanwhile, and 129, when tables have changed;
            everything is rolled back then.
        """
        if self.holds_ddl:
            self.rollback()
            raise HanaError(129, "transaction rolled back: a statement failed after DDL in the same transaction")
        effects = self._effects[: self._captured]
        self._rollback()
        if not effects and not self._savepoints:
            self._forget()
            return
        self._effects = effects
        self.begin()
        try:
            # The rollback released the rows, so another transaction may have changed them.
            unchanged = all(
                effect.before is None or effect.before == _fingerprint(self._connection, effect)
                for effect in effects
            )
            if unchanged:
                for effect in effects:
                    self._replay(effect)
        except duckdb.Error as exc:
            self.rollback()
            raise HanaError(138, f"transaction serialization failure: rolled back, {exc}") from exc
        if not unchanged:
            self.rollback()
            raise HanaError(138, "transaction serialization failure: rolled back, its rows have changed")

    def _replay(self, effect: Effect) -> None:
        if effect.creation is not None:
            effect.creation.repeat()
        if effect.removed:
            rids = {"rids": effect.removed}
            self._run(f"DELETE FROM {effect.table} WHERE _rid IN (SELECT unnest($rids))", rids)
        if effect.insert is not None:
            effect.insert.run(self._connection)
        elif effect.file is not None:
            self._run(f"INSERT INTO {effect.table} SELECT * FROM read_parquet({literal(str(effect.file))})")
        elif effect.rows:
            marks = ", ".join("?" for _ in effect.rows[0])
            for row in effect.rows:
                self._run(f"INSERT INTO {effect.table} VALUES ({marks})", list(row))

    def _run(self, sql: str, values: object = None) -> None:
        self._connection.execute(sql, values).fetchall()

    def commit(self) -> None:
        """Commit.

        Raises
        ------
        HanaError
            When the commit finds a conflict; everything is rolled back then.
        """
        if not self.active:
            return
        try:
            self._connection.execute("COMMIT")
        except duckdb.Error as exc:
            self._rollback()
            error = from_duckdb(exc)
            if is_conflict(exc):
                error = HanaError(138, f"transaction serialization failure: rolled back, {exc}")
            raise error from exc
        finally:
            self.active = False
            self._forget()

    def rollback(self) -> None:
        """Undo everything."""
        self._rollback()
        self._forget()

    def _rollback(self) -> None:
        if self.active:
            self.active = False
            for effect in self._effects:
                if effect.creation is not None:
                    effect.creation.undo()
            try:
                self._connection.execute("ROLLBACK")
            except duckdb.TransactionException:
                # DuckDB has already ended it, after a failed commit for instance.
                return

    def _forget(self) -> None:
        self._effects = []
        self._captured = self._kept = 0
        self._savepoints = {}
        self.holds_ddl = False
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _fingerprint(connection: duckdb.DuckDBPyConnection, effect: Effect) -> tuple[object, ...]:
    """What a connection sees of the rows that an effect removes."""
    query = f"SELECT count(*), bit_xor(hash(t)) FROM {effect.table} AS t WHERE _rid IN (SELECT unnest($rids))"
    found: tuple[object, ...] = connection.execute(query, {"rids": effect.removed}).fetchall()[0]
    return found
