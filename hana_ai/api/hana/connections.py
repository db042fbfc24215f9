"""Connections of hdbcli: from the settings, and each used by one thread at a time.

hdbcli has threadsafety 1: threads may share the module, but not a connection.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, Self, TypeVar, cast

from hana_ai.api.errors import TogetherAISettingsError
from hana_ai.api.settings import TogetherAISettings, current_settings
from hana_ai.api.storage import drivers
from hana_ai.api.storage.address import HanaAddress
from hana_ai.api.storage.pool import Pool

logger = logging.getLogger(__name__)

_LIMIT = 8
_GIVES_WAY = frozenset({133, 138})
"""SAP HANA's codes of errors that roll a transaction back for the sake of another one: a deadlock, and a change of
the same rows. Who has waited too long for a lock (131) has waited for half an hour already, unless told."""
_TRIES = 6
_PAUSE = 0.025
"""Seconds, to be doubled with each try: the most between two of them."""

_T = TypeVar("_T")


class Cursor(drivers.Cursor, Protocol):
    """The part of hdbcli's cursor that is used here."""

    def execute(self, statement: str, parameters: Sequence[object] | None = None, /) -> object: ...
    @property
    def description(self) -> Sequence[drivers.Row]: ...
    def fetchone(self) -> drivers.Row | None: ...
    def fetchmany(self, size: int, /) -> Sequence[drivers.Row]: ...
    def __iter__(self) -> Iterator[drivers.Row]: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...


class Connection(drivers.Connection, Protocol):
    """The part of hdbcli's connection that is used here."""

    def cursor(self, *args: object, **kwargs: object) -> Cursor: ...
    def isconnected(self) -> bool: ...
    def getautocommit(self) -> bool: ...
    def setautocommit(self, autocommit: bool, /) -> object: ...


class Context(Protocol):
    """A ConnectionContext of hana_ml."""

    @property
    def connection(self) -> Connection: ...


def connection_of(given: Connection | Context) -> Connection:
    """The connection that was given, or that a context has."""
    return cast("Connection", getattr(given, "connection", given))


def connect(settings: TogetherAISettings | None = None, **properties: object) -> Connection:
    """Open a connection to the toolkit's database.

    Parameters
    ----------
    settings : TogetherAISettings, optional
        Default: read from the environment and `.env`.
    **properties
        More properties of `hdbcli.dbapi.connect`; they win over the settings.

    Raises
    ------
    TogetherAISettingsError
        Neither HANA_ADDRESS nor HANA_USERKEY is set.
    hdbcli.dbapi.Error
        The database refuses.
    """
    from hdbcli import dbapi  # type: ignore[import-untyped, unused-ignore]

    wanted = {**connection_properties(settings or current_settings()), **properties}
    try:
        connection: Connection = dbapi.connect(**wanted)
    except dbapi.Error as exc:
        exc.add_note(f"SAP HANA refused the connection: {reason_of(exc)} {CHECK}")
        raise
    return connection


CHECK = "Check HANA_ADDRESS, HANA_PORT, HANA_USER, HANA_PASSWORD and HANA_ENCRYPT, or run: hana-ai-together doctor"


def reason_of(error: Any) -> str:
    """What hdbcli says, as a sentence with each address once."""
    text = re.sub(r"\{([^{}]*)\} \(\1\)", r"\1", str(error.errortext)).strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def connection_properties(settings: TogetherAISettings) -> dict[str, object]:
    """The settings as properties of hdbcli.

    Raises
    ------
    TogetherAISettingsError
        Neither HANA_ADDRESS nor HANA_USERKEY is set.
    """
    where = HanaAddress.of(settings)
    if not where.userkey and not where.address:
        raise TogetherAISettingsError(
            "There is no database. Set HANA_ADDRESS, HANA_USER and HANA_PASSWORD, or HANA_USERKEY, or pass "
            "connection=..."
        )
    return where.properties()


class Connections:
    """Lends connections to threads, one thread a connection.

    Parameters
    ----------
    connection : hdbcli.dbapi.Connection, optional
        An open one, which stays its owner's to close. Without `connect` it is the only one: threads take turns.
    connect : callable, optional
        Opens another one, for threads that work at the same time.
    limit : int
        Most connections at the same time; further threads wait.
    """

    def __init__(
        self,
        connection: Connection | None = None,
        *,
        connect: Callable[[], Connection] | None = None,
        limit: int = _LIMIT,
    ) -> None:
        if connect is not None:
            self._pool = Pool(connect, limit=limit, given=connection)
        elif connection is not None:
            given = connection
            self._pool = Pool(lambda: given, limit=1, given=given)
        else:
            raise TogetherAISettingsError("There is no connection: pass connection=... or connect=...")
        self._of_thread = threading.local()

    @classmethod
    def of(cls, connection: Connection | Context | None, opener: Callable[[], Connection] | None) -> Connections:
        """Those behind a store's arguments; without either, from the settings."""
        if isinstance(connection, LeasingConnection):
            return connection.connections
        if connection is None and opener is None:
            return cls(connect=connect)
        return cls(None if connection is None else connection_of(connection), connect=opener)

    @contextmanager
    def lease(self) -> Iterator[Connection]:
        """Lend a connection to this thread; inside, it gets the same one again."""
        connection = self.take()
        try:
            yield connection
        finally:
            self.give_back()

    def transact(self, work: Callable[[Cursor], _T]) -> _T:
        """Do some work in a transaction of its own; see `retried`, whose errors it raises."""

        def once() -> _T:
            with self.lease() as connection, transaction(connection) as cursor:
                return work(cursor)

        return retried(once)

    def take(self) -> Connection:
        """Lend a connection until `give_back`, which has to be called in the same thread as often."""
        depth = getattr(self._of_thread, "depth", 0)
        if depth == 0:
            self._of_thread.connection = self._pool.take()
        self._of_thread.depth = depth + 1
        connection: Connection = self._of_thread.connection
        return connection

    def give_back(self) -> None:
        """Take a connection back."""
        self._of_thread.depth -= 1
        if self._of_thread.depth:
            return
        connection, self._of_thread.connection = self._of_thread.connection, None
        self._pool.give_back(connection, broken=not connection.isconnected())

    def close(self) -> None:
        """Close what was opened here; the connection that was given stays open."""
        self._pool.close()


class LeasingConnection:
    """Looks like a connection of hdbcli to code that opens a cursor, uses it and closes it.

    Each cursor borrows a connection from `connections`; anything else goes to the connection at hand.
    """

    def __init__(self, connections: Connections) -> None:
        self.connections = connections

    def cursor(self, *args: object, **kwargs: object) -> _LeasingCursor:
        """Open a cursor on a connection that belongs to this thread until the cursor is closed."""
        connection = self.connections.take()
        try:
            return _LeasingCursor(connection.cursor(*args, **kwargs), self.connections)
        except BaseException:
            self.connections.give_back()
            raise

    def __getattr__(self, name: str) -> Any:
        with self.connections.lease() as connection:
            return getattr(connection, name)


class _LeasingCursor:
    def __init__(self, cursor: Cursor, connections: Connections) -> None:
        self._cursor = cursor
        self._connections: Connections | None = connections

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __iter__(self) -> Iterator[drivers.Row]:
        return iter(self._cursor)

    def __enter__(self) -> _LeasingCursor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the cursor and give its connection back."""
        connections, self._connections = self._connections, None
        if connections is None:
            return
        try:
            self._cursor.close()
        finally:
            connections.give_back()


Parameters = Sequence[object] | None


def execute(connection: Connection, statement: str) -> None:
    """Run a statement that selects nothing."""
    with connection.cursor() as cursor:
        cursor.execute(statement)


def all_rows(connection: Connection, statement: str, parameters: Parameters = None) -> Sequence[drivers.Row]:
    """What a statement selects."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall()


def first_row(connection: Connection, statement: str, parameters: Parameters = None) -> drivers.Row | None:
    """The first row that a statement selects; None if there is none."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchone()


def only_row(connection: Connection, statement: str, parameters: Parameters = None) -> drivers.Row:
    """The row of a statement that always selects one, such as a count."""
    row = first_row(connection, statement, parameters)
    assert row is not None
    return row


def retried(work: Callable[[], _T]) -> _T:
    """Do the work of a whole transaction, and again where that had to give way to another one.

    Raises
    ------
    hdbcli.dbapi.Error
        The database refuses, or the work had to give way too often.
    """
    from hdbcli import dbapi

    tries = 1
    while True:
        try:
            return work()
        except dbapi.Error as exc:
            if exc.errorcode not in _GIVES_WAY or tries == _TRIES:
                raise
            logger.debug("a transaction gave way to another one and is done again: %s", exc)
        time.sleep(random.uniform(0.0, _PAUSE * 2**tries))
        tries += 1


@contextmanager
def transaction(connection: Connection) -> Iterator[Cursor]:
    """A cursor whose changes are committed together, or not at all; `autocommit` is as before afterwards."""
    autocommit = connection.getautocommit()
    if autocommit:
        connection.setautocommit(False)
    try:
        cursor = connection.cursor()
        try:
            yield cursor
        except BaseException:
            connection.rollback()
            raise
        else:
            connection.commit()
        finally:
            cursor.close()
    finally:
        if autocommit and connection.isconnected():
            connection.setautocommit(True)
