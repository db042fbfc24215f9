"""Connections that are opened when they are needed, lent to one thread at a time, and kept for the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """What a pool needs to know of a connection."""

    def close(self) -> object: ...


C = TypeVar("C", bound=Closable)


class Pool(Generic[C]):
    """At most `limit` connections at a time; further threads wait. Thread-safe.

    Parameters
    ----------
    connect : callable
        Opens a connection.
    limit : int
    given : connection, optional
        One that is open already, and stays its owner's to close.
    close : callable, optional
        Closes a connection. Default: its method.
    """

    def __init__(
        self,
        connect: Callable[[], C],
        *,
        limit: int,
        given: C | None = None,
        close: Callable[[C], object] | None = None,
    ) -> None:
        self._connect = connect
        self._limit = limit
        self._given = given
        self._close = close or (lambda connection: connection.close())
        self._begin()

    def _begin(self) -> None:
        self._places = threading.BoundedSemaphore(self._limit)
        self._lock = threading.Lock()
        self._idle: list[C] = [] if self._given is None else [self._given]
        # By identity, whether it is to be kept when it comes back.
        self._lent: dict[int, bool] = {}
        self._paused = 0

    def take(self, seconds: float | None = None) -> C:
        """Lend a connection; whoever takes one gives it back.

        Raises
        ------
        TimeoutError
            None came back within so many seconds.
        """
        if not self._places.acquire(timeout=seconds):
            raise TimeoutError(f"all {self._limit} connections are in use")
        try:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = self._connect()
            with self._lock:
                self._lent[id(connection)] = True
        except BaseException:
            self._places.release()
            raise
        return connection

    def give_back(self, connection: C, *, broken: bool = False) -> None:
        """Take a connection back and keep it, unless it broke or the pool was closed meanwhile."""
        with self._lock:
            wanted = self._lent.pop(id(connection), None)
            if wanted is None:
                # It was lent before a fork.
                return
            keep = connection is self._given or (wanted and not broken)
            if keep:
                self._idle.append(connection)
        self._places.release()
        if not keep:
            self._close(connection)

    def close(self) -> None:
        """Close the connections, those that are lent when they come back; the next use opens new ones."""
        with self._lock:
            unwanted = [connection for connection in self._idle if connection is not self._given]
            self._idle = [connection for connection in self._idle if connection is self._given]
            self._lent = dict.fromkeys(self._lent, False)
        for connection in unwanted:
            self._close(connection)

    # --- around a fork ---

    def pause(self, seconds: float) -> None:
        """Wait, at most for so long, until no connection is lent; lend none until `go_on`, and close them all."""
        deadline = time.monotonic() + seconds
        while self._paused < self._limit and self._places.acquire(timeout=max(0.0, deadline - time.monotonic())):
            self._paused += 1
        self.close()

    def go_on(self) -> None:
        """Lend connections again."""
        while self._paused:
            self._paused -= 1
            self._places.release()

    def leave_behind(self) -> list[C]:
        """Forget the connections without closing them: in a forked child they are the parent's."""
        idle = self._idle
        self._begin()
        return idle
