"""LOCK TABLE: tables that one session keeps for itself until its transaction ends."""

from __future__ import annotations

import threading


class TableLocks:
    """Which session holds which table; may be used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders: dict[int, object] = {}

    def take(self, table: int, session: object) -> bool:
        """Hold a table, by its object id, unless another session does."""
        with self._lock:
            return self._holders.setdefault(table, session) is session

    def allow(self, table: int, session: object) -> bool:
        """Whether no other session holds the table."""
        return self._holders.get(table, session) is session

    def release(self, session: object) -> None:
        """Release all that a session holds."""
        if self._holders:
            with self._lock:
                for table in [table for table, holder in self._holders.items() if holder is session]:
                    del self._holders[table]
