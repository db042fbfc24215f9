"""Transactions on a few tables, for what the ledger and the caches have in common.

Connections are opened when they are needed, lent to one thread at a time and replaced when they break, or when the
file is another one; tables are checked, and made when they are missing. Nothing waits for longer than it is told
to, neither for other threads nor for other processes. A forked child opens connections of its own.
"""

from __future__ import annotations

import logging
import random
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from hana_ai.api.process import RenewableLock, on_fork
from hana_ai.api.storage.drivers import Connection, Cursor, Driver, Row
from hana_ai.api.storage.pool import Pool
from hana_ai.api.storage.schema import Schema, StoreError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PAUSE_SECONDS = 5.0


class Database:
    """Transactions on a few tables. Thread-safe.

    Parameters
    ----------
    driver : Driver
    schema : Schema
        The tables.
    title : str
        For messages, such as "ledger".
    tries : int
        How often a transaction is tried before it counts as failed.
    seconds : float
        How long a transaction may take with all its tries and waiting, unless it is told otherwise. A statement
        that has begun is not cut off, but waits no longer than that for other processes.
    limit : int
        Most connections at the same time; further threads wait.
    """

    def __init__(
        self,
        driver: Driver,
        schema: Schema,
        *,
        title: str,
        tries: int,
        seconds: float,
        limit: int = 1,
    ) -> None:
        self.title = f"{title} {driver.name}"
        self._driver = driver
        self._schema = schema
        self._tries = tries
        self._seconds = seconds
        self._identity: object = None
        self._errors: tuple[type[Exception], ...] = (*driver.errors, TimeoutError)
        self._pool = Pool(self._open, limit=limit, close=self._close)
        if driver.shared:
            # What lives in memory lives in its connection: a child goes on with the copy it has.
            _databases.add(self)

    def read(
        self, statement: str, parameters: Sequence[object] = (), *, seconds: float | None = None
    ) -> Sequence[Row]:
        """The rows that a statement selects.

        Raises
        ------
        StoreError
            The database can't be read.
        """

        def work(cursor: Cursor, again: bool) -> Sequence[Row]:
            cursor.execute(statement, parameters)
            return cursor.fetchall()

        return self.run(work, begin=False, seconds=seconds)

    def run(self, work: Callable[[Cursor, bool], T], *, begin: bool = True, seconds: float | None = None) -> T:
        """Do some work in one transaction; it is told whether it is done again after an error.

        Raises
        ------
        StoreError
            The database can't be used; nothing was changed, as far as is known.
        """
        deadline = time.monotonic() + (self._seconds if seconds is None else seconds)
        for attempt in range(self._tries):
            try:
                with self._transaction(begin, deadline) as cursor:
                    return work(cursor, attempt > 0)
            except self._errors as exc:
                if self._driver.shared:
                    # The others may be broken, too: they come from the same time.
                    self._pool.close()
                pause = 0.05 * 2**attempt * random.uniform(0.5, 1.0)
                last = attempt + 1 == self._tries or self._driver.lasts(exc)
                if last or time.monotonic() + pause >= deadline:
                    raise StoreError(f"The {self.title} can't be used: {exc}") from exc
                logger.debug("the %s, try %d: %s", self.title, attempt + 1, exc)
                time.sleep(pause)
        raise AssertionError("unreachable")

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        """Run one statement in a transaction of its own; raises as `run`."""
        self.run(lambda cursor, _: cursor.execute(statement, parameters))

    def execute_many(self, statement: str, rows: Sequence[Row]) -> None:
        """Run one statement for many rows in one transaction; raises as `run`."""
        self.run(lambda cursor, _: cursor.executemany(statement, rows))

    def close(self) -> None:
        """Close the connections, those that are lent when they come back; the next use opens new ones."""
        self._pool.close()

    @contextmanager
    def _transaction(self, begin: bool, deadline: float) -> Iterator[Cursor]:
        if self._driver.identity() != self._identity:
            # What is written to a file that was deleted is lost, and nobody says so.
            self._pool.close()
        connection = self._pool.take(max(0.0, deadline - time.monotonic()))
        broken = self._driver.shared
        try:
            if self._driver.wait is not None:
                self._driver.wait(connection, max(0.0, deadline - time.monotonic()))
            cursor = connection.cursor()
            try:
                if begin and self._driver.begin is not None:
                    cursor.execute(self._driver.begin)
                yield cursor
                connection.commit()
                broken = False
            except BaseException:
                self._undo(connection)
                raise
            finally:
                cursor.close()
        finally:
            self._pool.give_back(connection, broken=broken)

    # --- connections and tables ---

    def _open(self) -> Connection:
        connection = self._driver.connect()
        try:
            self._schema.prepare(connection, self._driver, self.title)
            self._identity = self._driver.identity()
        except BaseException:
            self._close(connection)
            raise
        return connection

    def _undo(self, connection: Connection) -> None:
        # The error that led here is raised; a broken connection can't be rolled back.
        self._attempt("rolling back", connection.rollback)

    def _close(self, connection: Connection) -> None:
        self._attempt("closing", connection.close)

    def _attempt(self, doing: str, step: Callable[[], object]) -> None:
        try:
            step()
        except self._driver.errors as exc:
            logger.debug("%s the %s: %s", doing, self.title, exc)

    # --- around a fork ---

    def pause(self) -> None:
        """Close all connections, and open none until `go_on`: SQLite must not be open while the process forks.

        A child would inherit locks, of threads that it lacks, on files that it opens anew.
        """
        if not self._driver.hana:
            self._pool.pause(_PAUSE_SECONDS)

    def go_on(self) -> None:
        """Use the database again."""
        self._pool.go_on()

    def leave_behind(self) -> list[Connection]:
        """Forget the connections without closing them: in a forked child they are the parent's."""
        return self._pool.leave_behind()


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_left_behind: list[Connection] = []
_forking = RenewableLock()


def _before_fork() -> None:
    _forking.__enter__()
    for database in list(_databases):
        database.pause()


def _after_in_parent() -> None:
    for database in list(_databases):
        database.go_on()
    _forking.__exit__()


def _after_in_child() -> None:
    for database in list(_databases):
        # Kept, so that nothing is closed: that would reach into the parent's files and sockets.
        _left_behind.extend(database.leave_behind())


on_fork(before=_before_fork, in_parent=_after_in_parent, in_child=_after_in_child)
