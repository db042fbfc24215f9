"""The ledger's tables, by DB-API with `?` parameters: the same statements for SQLite and SAP HANA.

A call is a row. Costs are decimal text, since neither database adds up decimals of any length exactly; sums are
grouped by cost and finished here. A second table, its name ending in `_SPENT`, has what each process spent on each
day, so that a budget that several processes share is known without reading all calls.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from hana_ai.api._decimals import plain, total
from hana_ai.api._usage_key import HANA, HanaAddress, UsageKey
from hana_ai.api.errors import TogetherAIError, TogetherAISettingsError

logger = logging.getLogger(__name__)

T = TypeVar("T")
Row = tuple[Any, ...]

TABLE = "TOGETHER_USAGE"
"""Name of the table in SQLite."""

_BUSY_SECONDS = 30.0

LONGEST_MODEL, LONGEST_TAGS, LONGEST_TEXT = 512, 2000, 128
"""Characters that fit the columns: a name that is too long must not cost the whole batch."""

# Types that SAP HANA knows; SQLite takes any word.
COLUMNS: Mapping[str, str] = {
    "PROCESS": "NVARCHAR(16) NOT NULL",
    "SEQUENCE": "BIGINT NOT NULL",
    "CALLED_AT": "NVARCHAR(26) NOT NULL",
    "OPERATION": "NVARCHAR(32) NOT NULL",
    "MODEL": f"NVARCHAR({LONGEST_MODEL}) NOT NULL",
    "TAGS": f"NVARCHAR({LONGEST_TAGS}) NOT NULL",
    "PROMPT_TOKENS": "BIGINT",
    "COMPLETION_TOKENS": "BIGINT",
    "CACHED_TOKENS": "BIGINT",
    "REASONING_TOKENS": "BIGINT",
    "COST_USD": "NVARCHAR(64)",
    "LATENCY_SECONDS": "DOUBLE",
    "FIRST_TOKEN_SECONDS": "DOUBLE",
    "STATUS": f"NVARCHAR({LONGEST_TEXT}) NOT NULL",
    "HTTP_STATUS": "INTEGER",
    "RETRIES": "INTEGER NOT NULL",
    "REQUEST_ID": f"NVARCHAR({LONGEST_TEXT})",
}
GroupBy = Literal["day", "model", "operation", "tag", "nothing"]
_GROUPS: Mapping[GroupBy, str] = {
    "day": 'SUBSTR("CALLED_AT", 1, 10)',
    "model": '"MODEL"',
    "operation": '"OPERATION"',
    "tag": '"TAGS"',
}

# What a server refused with an error status was not answered, so that its missing cost hides nothing.
_UNKNOWN = """"COST_USD" IS NULL AND ("HTTP_STATUS" IS NULL OR "STATUS" = 'TogetherAIStreamError')"""


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


class UsageStoreError(TogetherAIError):
    """The ledger's database can't be read or written."""


class Store:
    """The two tables. Thread-safe: one connection, used by one thread at a time.

    Parameters
    ----------
    connect : callable
        Opens a connection that does not commit by itself.
    errors : tuple of exception classes
        What the driver raises.
    table : str
        Quoted, with its schema where it has one.
    name : str
        For messages; without secrets.
    begin : str, optional
        Statement that begins a transaction, where the driver does not do so by itself.
    shared : bool
        Whether other processes see it.
    tries : int
        How often a statement is tried before it counts as failed.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        errors: tuple[type[Exception], ...],
        *,
        table: str = f'"{TABLE}"',
        name: str = "memory",
        begin: str | None = None,
        shared: bool = True,
        tries: int = 6,
    ) -> None:
        self.name = name
        self.shared = shared
        self._connect = connect
        self._errors = errors
        self._table = table
        self._spent_table = f'{table[:-1]}_SPENT"'
        self._begin = begin
        self._tries = tries
        self._lock = threading.RLock()
        self._connection: Connection | None = None

    # --- writing ---

    def write(self, rows: Sequence[Row], spent: Mapping[str, Decimal]) -> None:
        """Write calls, and what their process has spent on their days, all or nothing.

        Raises
        ------
        UsageStoreError
            Nothing was written.
        """
        columns = ", ".join(f'"{name}"' for name in COLUMNS)
        marks = ", ".join("?" * len(COLUMNS))

        def work(cursor: Cursor, again: bool) -> None:
            if again and self._has(cursor, rows[0]):
                # The commit before had arrived, only its answer was lost.
                return
            cursor.executemany(f"INSERT INTO {self._table} ({columns}) VALUES ({marks})", rows)
            self._write_spent(cursor, str(rows[0][0]), spent)

        self._run(work)

    def set_costs(self, costs: Sequence[tuple[str, str, int]], process: str, spent: Mapping[str, Decimal]) -> None:
        """Set costs (text, process, sequence) that were not known when their calls were written."""

        def work(cursor: Cursor, again: bool) -> None:
            cursor.executemany(
                f'UPDATE {self._table} SET "COST_USD" = ? WHERE "PROCESS" = ? AND "SEQUENCE" = ?', costs
            )
            self._write_spent(cursor, process, spent)

        self._run(work)

    def forget(self, sequence: int) -> None:
        """Delete the calls up to a number; for a store that only one process writes."""
        self._run(
            lambda cursor, _: cursor.execute(f'DELETE FROM {self._table} WHERE "SEQUENCE" <= ?', (sequence,))
        )

    def _has(self, cursor: Cursor, row: Row) -> bool:
        cursor.execute(
            f'SELECT COUNT(*) FROM {self._table} WHERE "PROCESS" = ? AND "SEQUENCE" = ?', (row[0], row[1])
        )
        return bool(cursor.fetchall()[0][0])

    def _write_spent(self, cursor: Cursor, process: str, spent: Mapping[str, Decimal]) -> None:
        for day, cost in spent.items():
            # A process is the only one that writes its rows, so that nothing can come between.
            where = 'WHERE "PROCESS" = ? AND "DAY" = ?'
            cursor.execute(f"DELETE FROM {self._spent_table} {where}", (process, day))
            cursor.execute(f"INSERT INTO {self._spent_table} VALUES (?, ?, ?)", (process, day, plain(cost)))

    # --- reading ---

    def spent_by_others(self, process: str, since: str) -> Decimal:
        """What other processes have spent since a day, in USD."""
        statement = f'SELECT "COST_USD" FROM {self._spent_table} WHERE "DAY" >= ? AND "PROCESS" <> ?'
        return total(Decimal(row[0]) for row in self._read(statement, (since, process)))

    def groups(self, by: GroupBy, start: str, end: str) -> Sequence[Sequence[Any]]:
        """Sums of the calls from `start` until before `end`, by group and cost.

        Columns: group, cost, calls, prompt, completion, cached and reasoning tokens, calls of unknown cost, calls
        that failed.
        """
        key = _GROUPS.get(by)
        group = "" if key is None else f"{key}, "
        sums = ", ".join(f'SUM("{name}_TOKENS")' for name in ("PROMPT", "COMPLETION", "CACHED", "REASONING"))
        return self._read(
            f"""SELECT {key or "''"} AS "NAME", "COST_USD", COUNT(*), {sums}, """
            f"SUM(CASE WHEN {_UNKNOWN} THEN 1 ELSE 0 END), "
            f"SUM(CASE WHEN \"STATUS\" IN ('ok', 'left early', 'cancelled') THEN 0 ELSE 1 END) "
            f'FROM {self._table} WHERE "CALLED_AT" >= ? AND "CALLED_AT" < ? GROUP BY {group}"COST_USD"',
            (start, end),
        )

    def rows(self, start: str, end: str) -> Iterator[Mapping[str, Any]]:
        """The calls from `start` until before `end`, the oldest first."""
        columns = ", ".join(f'"{name}"' for name in COLUMNS)
        for row in self._read(
            f'SELECT {columns} FROM {self._table} WHERE "CALLED_AT" >= ? AND "CALLED_AT" < ? '
            f'ORDER BY "CALLED_AT", "PROCESS", "SEQUENCE"',
            (start, end),
        ):
            yield dict(zip(COLUMNS, row, strict=True))

    def _read(self, statement: str, parameters: Row) -> Sequence[Sequence[Any]]:
        def work(cursor: Cursor, again: bool) -> Sequence[Sequence[Any]]:
            cursor.execute(statement, parameters)
            return cursor.fetchall()

        return self._run(work, begin=False)

    # --- the connection ---

    def _run(self, work: Callable[[Cursor, bool], T], *, begin: bool = True) -> T:
        with self._lock:
            for attempt in range(self._tries):
                try:
                    with self._transaction(begin) as cursor:
                        return work(cursor, attempt > 0)
                except self._errors as exc:
                    self._drop()
                    if attempt + 1 == self._tries:
                        raise UsageStoreError(f"The ledger {self.name} can't be used: {exc}") from exc
                    logger.debug("the ledger %s, try %d: %s", self.name, attempt + 1, exc)
                    time.sleep(0.05 * 2**attempt * random.uniform(0.5, 1.0))
        raise AssertionError("unreachable")

    @contextmanager
    def _transaction(self, begin: bool) -> Iterator[Cursor]:
        connection = self._connection
        if connection is None:
            connection = self._connect()
            try:
                self._make_tables(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        cursor = connection.cursor()
        try:
            if begin and self._begin is not None:
                cursor.execute(self._begin)
            yield cursor
            connection.commit()
        except BaseException:
            self._undo(connection)
            raise
        finally:
            cursor.close()

    def _undo(self, connection: Connection) -> None:
        try:
            connection.rollback()
        except self._errors as exc:
            # The error that led here is raised; a broken connection can't be rolled back.
            logger.debug("no rollback of the ledger %s: %s", self.name, exc)

    def _make_tables(self, connection: Connection) -> None:
        """Make what is missing. Asking for a table tells whether it is there in every dialect."""
        wanted = {
            self._table: [
                *(f'"{name}" {kind}' for name, kind in COLUMNS.items()),
                'PRIMARY KEY ("PROCESS", "SEQUENCE")',
            ],
            self._spent_table: [
                '"PROCESS" NVARCHAR(16) NOT NULL',
                '"DAY" NVARCHAR(10) NOT NULL',
                '"COST_USD" NVARCHAR(64) NOT NULL',
                'PRIMARY KEY ("PROCESS", "DAY")',
            ],
        }
        for table, columns in wanted.items():
            if self._there(connection, table):
                continue
            cursor = connection.cursor()
            try:
                cursor.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
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
            logger.debug("the ledger %s has no table %s yet: %s", self.name, table, exc)
            self._undo(connection)
            return False
        finally:
            cursor.close()
        return True

    def _drop(self) -> None:
        """Forget a connection that may be broken; a database in memory lives only in its connection."""
        if self.shared:
            self.close()

    def close(self) -> None:
        """Close the connection; the next use opens another one."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except self._errors as exc:
                logger.debug("closing the ledger %s: %s", self.name, exc)


# --- which database ---


def open_store(key: UsageKey) -> Store:
    """The store that a key names; it connects when it is first used.

    Raises
    ------
    TogetherAISettingsError
        TOGETHER_USAGE_DB is no name of a table or no path that can be written, or there is no HANA to go with it.
    """
    if key.database is None:
        return sqlite_store(None)
    if key.hana is not None:
        return hana_store(key.database[len(HANA) :], key.hana)
    return sqlite_store(Path(key.database).expanduser())


def sqlite_store(path: Path | None) -> Store:
    """A store in a SQLite file, or in memory."""
    import sqlite3

    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise TogetherAISettingsError(
            f"TOGETHER_USAGE_DB={str(path)!r} is not a file in a directory that exists. Make the directory, "
            "or name another file."
        )

    def connect() -> Connection:
        connection = sqlite3.connect(
            ":memory:" if path is None else path,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        if path is not None:
            # Readers and a writer at the same time; a commit that reached the system survives the process.
            connection.execute("PRAGMA journal_mode = WAL").close()
            connection.execute("PRAGMA synchronous = NORMAL").close()
        return connection

    return Store(
        connect,
        (sqlite3.Error,),
        name="in memory" if path is None else str(path),
        begin="BEGIN IMMEDIATE",
        shared=path is not None,
    )


def hana_store(table: str, where: HanaAddress) -> Store:
    """A store in SAP HANA."""
    quoted = quote_table(table)
    if not where.userkey and not (where.address and where.user and where.password is not None):
        raise TogetherAISettingsError(
            f"TOGETHER_USAGE_DB={HANA}{table} needs a database. Set HANA_ADDRESS, HANA_USER and HANA_PASSWORD, or "
            "HANA_USERKEY."
        )
    if where.schema and "." not in table:
        quoted = f"{_quote(where.schema)}.{quoted}"
    try:
        from hdbcli import dbapi  # type: ignore[import-untyped]
    except ModuleNotFoundError as exc:
        raise TogetherAISettingsError(
            f"TOGETHER_USAGE_DB={HANA}{table} needs the package hdbcli. "
            "Run: pip install 'hana-ai-together[toolkit]'"
        ) from exc

    def connect() -> Connection:
        arguments: dict[str, Any] = {"autocommit": False, "connectTimeout": 10_000}
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

    return Store(connect, (dbapi.Error,), table=quoted, name=f"{HANA}{table}", tries=2)


def quote_table(table: str) -> str:
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
        and all(1 <= len(name) <= 120 and name.isprintable() for name in names)
    )
    if not good:
        raise TogetherAISettingsError(
            f"TOGETHER_USAGE_DB=hana:{table} does not name a table. Write hana:TABLE or hana:SCHEMA.TABLE; names "
            'with other signs than letters, digits and _ go in quotation marks: hana:"My table".'
        )
    return ".".join(_quote(name) for name in names)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
