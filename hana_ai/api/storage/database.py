"""A database by DB-API with `?` parameters, for what the ledger and the caches have in common.

Connections are opened when they are needed, lent to one thread at a time and replaced when they break; tables are
made when they are missing. A forked child opens connections of its own.
"""

from __future__ import annotations

import logging
import os
import random
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hana_ai.api.errors import TogetherAIError, TogetherAISettingsError
from hana_ai.api.usage.key import HANA, HanaAddress
from hana_ai.api.usage.turns import RenewableLock

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PAUSE_SECONDS = 5.0


class Cursor(Protocol):
    """The part of a DB-API cursor that is used here."""

    def execute(self, statement: str, parameters: Sequence[Any] = ..., /) -> Any: ...
    def executemany(self, statement: str, parameters: Sequence[Sequence[Any]], /) -> Any: ...
    def fetchall(self) -> Sequence[Sequence[Any]]: ...
    def close(self) -> None: ...


class Connection(Protocol):
    """The part of a DB-API connection that is used here."""

    def cursor(self) -> Cursor: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...


class StoreError(TogetherAIError):
    """A database of the ledger or of a cache can't be read or written."""


class Driver:
    """How a database is reached.

    Parameters
    ----------
    connect : callable
        Opens a connection that does not commit by itself, and that any thread may use.
    errors : tuple of exception classes
        What the driver raises.
    begin : str, optional
        Statement that begins a transaction, where the driver does not do so by itself.
    shared : bool
        Whether other connections, and other processes, see the same data.
    table : str
        The main table's name: quoted, with its schema where it has one.
    name : str
        For messages; without secrets.
    hana : bool
        Whether it speaks SAP HANA's SQL; else SQLite's.
    """

    __slots__ = ("begin", "connect", "errors", "hana", "name", "shared", "table")

    def __init__(
        self,
        connect: Callable[[], Connection],
        errors: tuple[type[Exception], ...],
        *,
        table: str,
        name: str = "memory",
        begin: str | None = None,
        shared: bool = True,
        hana: bool = False,
    ) -> None:
        self.connect = connect
        self.errors = errors
        self.table = table
        self.name = name
        self.begin = begin
        self.shared = shared
        self.hana = hana

    def beside(self, suffix: str) -> str:
        """Name of a further table, made of the main one's."""
        return f'{self.table[:-1]}{suffix}"'


class Database:
    """Transactions on a few tables. Thread-safe.

    Parameters
    ----------
    driver : Driver
    tables : mapping of str to sequence of str
        Quoted names, and the columns and constraints that they are made with.
    title : str
        For messages, such as "ledger".
    tries : int
        How often a transaction is tried before it counts as failed.
    most : int
        Most connections at the same time; further threads wait.
    indexes : sequence of str
        Statements that are run after a table was made.
    """

    def __init__(
        self,
        driver: Driver,
        tables: Mapping[str, Sequence[str]],
        *,
        title: str,
        tries: int,
        most: int = 1,
        indexes: Sequence[str] = (),
    ) -> None:
        self.title = f"{title} {driver.name}"
        self._driver = driver
        self._errors = driver.errors
        self._tables = tables
        self._indexes = indexes
        self._tries = tries
        self._most = most
        self._begin_anew()
        if driver.shared:
            # What lives in memory lives in its connection: a child goes on with the copy it has.
            _databases.add(self)

    def _begin_anew(self) -> None:
        self._slots = threading.BoundedSemaphore(self._most)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._generation = 0
        self._paused = 0

    def pause(self) -> None:
        """Close all connections, and open none until `go_on`: SQLite must not be open while the process forks.

        A child would inherit locks, of threads that it lacks, on files that it opens anew.
        """
        if self._driver.hana:
            return
        deadline = time.monotonic() + _PAUSE_SECONDS
        while self._paused < self._most and self._slots.acquire(timeout=max(0.0, deadline - time.monotonic())):
            self._paused += 1
        self.close()

    def go_on(self) -> None:
        """Use the database again."""
        for _ in range(self._paused):
            self._slots.release()
        self._paused = 0

    def leave_behind(self) -> list[Connection]:
        """Forget the connections without closing them: in a forked child they are the parent's."""
        idle = self._idle
        self._begin_anew()
        return idle

    def read(self, statement: str, parameters: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        """The rows that a statement selects.

        Raises
        ------
        StoreError
            The database can't be read.
        """

        def work(cursor: Cursor, again: bool) -> Sequence[Sequence[Any]]:
            cursor.execute(statement, parameters)
            return cursor.fetchall()

        return self.run(work, begin=False)

    def run(self, work: Callable[[Cursor, bool], T], *, begin: bool = True) -> T:
        """Do some work in one transaction; it is told whether it is done again after an error.

        Raises
        ------
        StoreError
            The database can't be used; nothing was changed, as far as is known.
        """
        with self._slots:
            for attempt in range(self._tries):
                try:
                    with self._transaction(begin) as cursor:
                        return work(cursor, attempt > 0)
                except self._errors as exc:
                    if self._driver.shared:
                        # The others may be broken, too: they come from the same time.
                        self.close()
                    if attempt + 1 == self._tries:
                        raise StoreError(f"The {self.title} can't be used: {exc}") from exc
                    logger.debug("the %s, try %d: %s", self.title, attempt + 1, exc)
                    time.sleep(0.05 * 2**attempt * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable")

    @contextmanager
    def _transaction(self, begin: bool) -> Iterator[Cursor]:
        generation = self._generation
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._open()
        try:
            cursor = connection.cursor()
            try:
                if begin and self._driver.begin is not None:
                    cursor.execute(self._driver.begin)
                yield cursor
                connection.commit()
            except BaseException:
                self._undo(connection)
                raise
            finally:
                cursor.close()
        finally:
            # On an error `run` closes it with the others.
            with self._lock:
                current = generation == self._generation
                if current:
                    self._idle.append(connection)
            if not current:
                self._close(connection)

    def _open(self) -> Connection:
        connection = self._driver.connect()
        try:
            self._make_tables(connection)
        except BaseException:
            self._close(connection)
            raise
        return connection

    def _undo(self, connection: Connection) -> None:
        try:
            connection.rollback()
        except self._errors as exc:
            # The error that led here is raised; a broken connection can't be rolled back.
            logger.debug("no rollback of the %s: %s", self.title, exc)

    def _make_tables(self, connection: Connection) -> None:
        """Make what is missing. Asking for a table tells whether it is there in every dialect."""
        for table, columns in self._tables.items():
            if self._there(connection, table):
                continue
            cursor = connection.cursor()
            try:
                cursor.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
                for statement in self._indexes:
                    cursor.execute(statement)
                connection.commit()
            except self._errors:
                self._undo(connection)
                if not self._there(connection, table):
                    raise
                # Another process was first.
            finally:
                cursor.close()

    def _there(self, connection: Connection, table: str) -> bool:
        cursor = connection.cursor()
        try:
            cursor.execute(f"SELECT COUNT(*) FROM {table} WHERE 1 = 0")
            cursor.fetchall()
        except self._errors as exc:
            logger.debug("the %s has no table %s yet: %s", self.title, table, exc)
            self._undo(connection)
            return False
        finally:
            cursor.close()
        return True

    def close(self) -> None:
        """Close the connections, those that are lent when they come back; the next use opens new ones."""
        with self._lock:
            self._generation += 1
            idle, self._idle = self._idle, []
        for connection in idle:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        try:
            connection.close()
        except self._errors as exc:
            logger.debug("closing the %s: %s", self.title, exc)


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
    _forking.renew()
    for database in list(_databases):
        # Kept, so that nothing is closed: that would reach into the parent's files and sockets.
        _left_behind.extend(database.leave_behind())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


# --- which database ---


def sqlite_driver(path: Path | None, *, table: str, setting: str, busy_seconds: float = 30.0) -> Driver:
    """A SQLite file, or memory.

    Parameters
    ----------
    table : str
        Name of the main table, without quotation marks.
    setting : str
        What the path was given as, for messages.
    busy_seconds : float
        How long a statement waits for another process.

    Raises
    ------
    TogetherAISettingsError
        It is no file in a directory that exists.
    """
    import sqlite3

    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise TogetherAISettingsError(
            f"{setting}={str(path)!r} is not a file in a directory that exists. Make the directory, "
            "or name another file."
        )

    def connect() -> Connection:
        connection = sqlite3.connect(
            ":memory:" if path is None else path,
            timeout=busy_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        if path is not None:
            try:
                # Readers and a writer at the same time; a commit that reached the system survives the process.
                connection.execute("PRAGMA journal_mode = WAL").close()
                connection.execute("PRAGMA synchronous = NORMAL").close()
            except BaseException:
                connection.close()
                raise
        return connection

    return Driver(
        connect,
        (sqlite3.Error,),
        table=f'"{table}"',
        name="in memory" if path is None else str(path),
        begin="BEGIN IMMEDIATE",
        shared=path is not None,
    )


def hana_driver(table: str, where: HanaAddress, *, setting: str, **properties: Any) -> Driver:
    """A table in SAP HANA.

    Parameters
    ----------
    table : str
        Name of the main table, as the user wrote it.
    setting : str
        What the table was given as, for messages.
    **properties
        More properties of `hdbcli.dbapi.connect`.

    Raises
    ------
    TogetherAISettingsError
        It is no name of a table, or there is no database or no hdbcli to go with it.
    """
    quoted = quote_table(table, setting)
    if not where.userkey and not (where.address and where.user and where.password is not None):
        raise TogetherAISettingsError(
            f"{setting}={HANA}{table} needs a database. Set HANA_ADDRESS, HANA_USER and HANA_PASSWORD, or "
            "HANA_USERKEY."
        )
    if where.schema and "." not in table:
        quoted = f"{_quote(where.schema)}.{quoted}"
    try:
        from hdbcli import dbapi  # type: ignore[import-untyped]
    except ModuleNotFoundError as exc:
        raise TogetherAISettingsError(
            f"{setting}={HANA}{table} needs the package hdbcli. Run: pip install 'hana-ai-together[toolkit]'"
        ) from exc

    def connect() -> Connection:
        arguments: dict[str, Any] = {"autocommit": False, "connectTimeout": 10_000, **properties}
        if where.userkey:
            arguments["key"] = where.userkey
        else:
            arguments.update(address=where.address, port=where.port, encrypt=where.encrypt)
        if where.user:
            arguments["user"] = where.user
        if where.password is not None:
            arguments["password"] = where.password.get_secret_value()
        connection: Connection = dbapi.connect(**arguments)
        return connection

    return Driver(connect, (dbapi.Error,), table=quoted, name=f"{HANA}{table}", hana=True)


def quote_table(table: str, setting: str) -> str:
    """A table's name, with or without schema, as an identifier that can't be anything else in a statement.

    A plain name counts as upper case, as in HANA; in quotation marks it is taken as it is.

    Raises
    ------
    TogetherAISettingsError
        It is no name.
    """
    parts = re.findall(r'"(?:[^"]|"")+"|[^."]+|[."]', table)
    names = [part[1:-1].replace('""', '"') if part.startswith('"') else part.upper() for part in parts[::2]]
    plain = all(part.startswith('"') or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$#]*", part) for part in parts[::2])
    good = (
        len(parts) in (1, 3)
        and all(part == "." for part in parts[1::2])
        and plain
        and all(1 <= len(name) <= 119 and name.isprintable() for name in names)
    )
    if not good:
        raise TogetherAISettingsError(
            f"{setting}=hana:{table} does not name a table. Write hana:TABLE or hana:SCHEMA.TABLE; names "
            'with other signs than letters, digits and _ go in quotation marks: hana:"My table".'
        )
    return ".".join(_quote(name) for name in names)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
