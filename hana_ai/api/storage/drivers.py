"""How the databases of the ledger and of the caches are reached: SQLite, in a file or in memory, and SAP HANA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hana_ai.api.errors import TogetherAISettingsError
from hana_ai.api.storage.address import HANA, HanaAddress
from hana_ai.api.storage.quoting import quoted_table

Row = Sequence[Any]
"""What a statement selects; only the statement knows the columns' types."""


class Cursor(Protocol):
    """The part of a DB-API cursor that is used here."""

    def execute(self, statement: str, parameters: Sequence[object] = ..., /) -> object: ...
    def executemany(self, statement: str, parameters: Sequence[Row], /) -> object: ...
    def fetchall(self) -> Sequence[Row]: ...
    def close(self) -> object: ...


class Connection(Protocol):
    """The part of a DB-API connection that is used here."""

    def cursor(self) -> Cursor: ...
    def commit(self) -> object: ...
    def rollback(self) -> object: ...
    def close(self) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """How a database is reached."""

    connect: Callable[[], Connection]
    """Opens a connection that does not commit by itself, and that any thread may use."""
    errors: tuple[type[Exception], ...]
    """What the driver raises."""
    table: str
    """The main table's name: quoted, with its schema where it has one."""
    name: str = "in memory"
    """For messages; without secrets."""
    begin: str | None = None
    """Statement that begins a transaction, where the driver does not do so by itself."""
    shared: bool = True
    """Whether other connections, and other processes, see the same data."""
    hana: bool = False
    """Whether it speaks SAP HANA's SQL; else SQLite's."""
    wait: Callable[[Connection, float], object] | None = None
    """Sets for how many seconds a statement waits for other connections, where that can be set."""
    identity: Callable[[], object] = lambda: None
    """What tells whether the database is still the one that was opened."""
    lasts: Callable[[Exception], bool] = lambda error: False
    """Whether trying again a moment later is no use."""

    def beside(self, suffix: str) -> str:
        """Name of a further table, made of the main one's."""
        return f'{self.table[:-1]}{suffix}"'


def open_driver(
    database: str | None,
    hana: HanaAddress | None,
    *,
    table: str,
    setting: str,
    **properties: object,
) -> Driver:
    """The database that a setting names; nothing is opened yet.

    Parameters
    ----------
    database : str, optional
        A SQLite path, or `hana:TABLE`; None is in memory.
    hana : HanaAddress, optional
        Where that table is.
    table : str
        Name of the main table in SQLite.
    setting : str
        The environment variable, for messages.
    **properties
        More properties of `hdbcli.dbapi.connect`, with SAP HANA.

    Raises
    ------
    TogetherAISettingsError
        It is no name of a table or no path that can be written, or there is no HANA to go with it.
    """
    if database is not None and hana is not None:
        return hana_driver(database[len(HANA) :], hana, setting=setting, **properties)
    path = None if database is None else Path(database).expanduser()
    return sqlite_driver(path, table=table, setting=setting)


_OPENING_SECONDS = 0.5
"""How long an attempt to open a file waits for another process."""
_READ_ONLY, _CORRUPT, _FULL, _CAN_NOT_OPEN, _NO_DATABASE = 8, 11, 13, 14, 26
_CAN_NOT_WRITE = 10 | 3 << 8
"""SQLite's codes."""


def sqlite_driver(path: Path | None, *, table: str, setting: str) -> Driver:
    """A SQLite file, or memory; see `open_driver`."""
    import sqlite3

    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise TogetherAISettingsError(
            f"{setting}={str(path)!r} is not a file in a directory that exists. Make the directory, "
            "or name another file."
        )

    def connect() -> Connection:
        connection = sqlite3.connect(
            ":memory:" if path is None else path,
            timeout=_OPENING_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        if path is not None:
            try:
                # Readers and a writer at the same time; a commit that reached the system survives the process.
                connection.execute("PRAGMA journal_mode = WAL").close()
                connection.execute("PRAGMA synchronous = NORMAL").close()
            except sqlite3.OperationalError as exc:
                if _code(exc) != _READ_ONLY:
                    connection.close()
                    raise
                # It can be read all the same.
            except BaseException:
                connection.close()
                raise
        return connection

    def wait(connection: Connection, seconds: float) -> None:
        connection.cursor().execute(f"PRAGMA busy_timeout = {max(1, int(seconds * 1000))}")

    def identity() -> object:
        assert path is not None
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    return Driver(
        connect=connect,
        errors=(sqlite3.Error,),
        table=f'"{table}"',
        name="in memory" if path is None else str(path),
        begin="BEGIN IMMEDIATE",
        shared=path is not None,
        wait=None if path is None else wait,
        identity=(lambda: None) if path is None else identity,
        lasts=lambda error: _code(error) in (_READ_ONLY, _CORRUPT, _FULL, _CAN_NOT_OPEN, _NO_DATABASE),
    )


def _code(error: Exception) -> int:
    """SQLite's code, without most details; 0 where there is none."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return _FULL if code == _CAN_NOT_WRITE else code & 0xFF


def hana_driver(table: str, where: HanaAddress, *, setting: str, **properties: object) -> Driver:
    """A table in SAP HANA, as the user wrote its name; see `open_driver`."""
    quoted = quoted_table(table, setting, where.schema)
    if not where.userkey and not (where.address and where.user and where.password is not None):
        raise TogetherAISettingsError(
            f"{setting}={HANA}{table} needs a database. Set HANA_ADDRESS, HANA_USER and HANA_PASSWORD, or "
            "HANA_USERKEY."
        )
    try:
        from hdbcli import dbapi  # type: ignore[import-untyped]
    except ModuleNotFoundError as exc:
        raise TogetherAISettingsError(
            f"{setting}={HANA}{table} needs the package hdbcli. Run: pip install 'hana-ai-together[toolkit]'"
        ) from exc
    # The schema is part of the table's name.
    reached = where._replace(schema=None)

    def connect() -> Connection:
        connection: Connection = dbapi.connect(
            **{"autocommit": False, "connectTimeout": 10_000, **reached.properties(), **properties}
        )
        return connection

    return Driver(connect=connect, errors=(dbapi.Error,), table=quoted, name=f"{HANA}{table}", hana=True)
