"""Connections of hdbcli: from the settings, and each used by one thread at a time.

hdbcli has threadsafety 1: threads may share the module, but not a connection.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hana_ai.api.errors import TogetherAISettingsError
from hana_ai.api.settings import TogetherAISettings

if TYPE_CHECKING:
    from hdbcli.dbapi import Connection  # type: ignore[import-untyped]

_LIMIT = 8


def connect(settings: TogetherAISettings | None = None, **properties: Any) -> Connection:
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

    return dbapi.connect(**{**connection_properties(settings or TogetherAISettings()), **properties})


def connection_properties(settings: TogetherAISettings) -> dict[str, Any]:
    """The settings as properties of hdbcli.

    Raises
    ------
    TogetherAISettingsError
        Neither HANA_ADDRESS nor HANA_USERKEY is set.
    """
    if settings.hana_userkey:
        found: dict[str, Any] = {"key": settings.hana_userkey}
    elif settings.hana_address:
        found = {
            "address": settings.hana_address,
            "port": settings.hana_port,
            "encrypt": settings.hana_encrypt,
        }
    else:
        raise TogetherAISettingsError(
            "There is no database. Set HANA_ADDRESS, HANA_USER and HANA_PASSWORD, or HANA_USERKEY, or pass "
            "connection=..."
        )
    if settings.hana_user:
        found["user"] = settings.hana_user
    if settings.hana_password is not None:
        found["password"] = settings.hana_password.get_secret_value()
    if settings.hana_schema:
        found["currentSchema"] = settings.hana_schema
    return found


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
        if connection is None and connect is None:
            raise TogetherAISettingsError("There is no connection: pass connection=... or connect=...")
        self._connect = connect
        self._limit = limit if connect is not None else 1
        self._given = connection
        self._free: deque[Connection] = deque([] if connection is None else [connection])
        self._made: list[Connection] = []
        self._count = len(self._free)
        self._change = threading.Condition()
        self._mine = threading.local()

    @contextmanager
    def lease(self) -> Iterator[Connection]:
        """Lend a connection to this thread; inside, it gets the same one again."""
        connection = self.take()
        try:
            yield connection
        finally:
            self.give_back()

    def take(self) -> Connection:
        """Lend a connection until `give_back`, which has to be called in the same thread as often."""
        depth = getattr(self._mine, "depth", 0)
        if depth == 0:
            self._mine.connection = self._wait_for_one()
        self._mine.depth = depth + 1
        return self._mine.connection

    def give_back(self) -> None:
        """Take a connection back."""
        self._mine.depth -= 1
        if self._mine.depth:
            return
        connection, self._mine.connection = self._mine.connection, None
        with self._change:
            if connection is not self._given and not connection.isconnected():
                self._made.remove(connection)
                self._count -= 1
            else:
                self._free.append(connection)
            self._change.notify()

    def _wait_for_one(self) -> Connection:
        with self._change:
            while not self._free and self._count >= self._limit:
                self._change.wait()
            if self._free:
                return self._free.pop()
            self._count += 1
        assert self._connect is not None
        try:
            made = self._connect()
        except BaseException:
            with self._change:
                self._count -= 1
                self._change.notify()
            raise
        with self._change:
            self._made.append(made)
        return made

    def close(self) -> None:
        """Close what was opened here; the connection that was given stays open."""
        with self._change:
            made, self._made = self._made, []
            self._free = deque(connection for connection in self._free if connection is self._given)
            self._count -= len(made)
        for connection in made:
            connection.close()


class LeasingConnection:
    """Looks like a connection of hdbcli to code that opens a cursor, uses it and closes it.

    Each cursor borrows a connection from `connections`; anything else goes to the connection at hand.
    """

    def __init__(self, connections: Connections) -> None:
        self.connections = connections

    def cursor(self, *args: Any, **kwargs: Any) -> _LeasingCursor:
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
    def __init__(self, cursor: Any, connections: Connections) -> None:
        self._cursor = cursor
        self._connections: Connections | None = connections

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __iter__(self) -> Iterator[Any]:
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


@contextmanager
def transaction(connection: Connection) -> Iterator[Any]:
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
