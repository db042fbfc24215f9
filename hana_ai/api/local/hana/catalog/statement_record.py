"""What the server has run lately, for M_SQL_PLAN_CACHE."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime

MOST_STATEMENTS = 1_000
"""Statements that are remembered; the one that was run longest ago is forgotten first."""
MOST_CHARACTERS = 4_000_000
"""How long their texts may be together."""


@dataclass(slots=True)
class Times:
    """How often something was done, and how long it took in microseconds."""

    count: int = 0
    total: int = 0
    shortest: int = 0
    longest: int = 0

    def add(self, seconds: float) -> None:
        """It was done once more."""
        taken = round(seconds * 1_000_000)
        self.shortest = min(self.shortest, taken) if self.count else taken
        self.longest = max(self.longest, taken)
        self.count += 1
        self.total += taken

    @property
    def mean(self) -> int:
        """The average."""
        return self.total // self.count if self.count else 0


@dataclass(slots=True)
class StatementEntry:
    """One statement, as one user runs it in one schema."""

    text: str
    user: str
    schema: str
    plan_id: int
    parameters: int = 0
    preparations: Times = field(default_factory=Times)
    executions: Times = field(default_factory=Times)
    rows: int = 0
    """Rows given or changed."""
    connection_id: int = 0
    prepared_at: str | None = None
    executed_at: str | None = None

    @property
    def hash(self) -> str:
        """The MD5 of the text, as HANA shows it."""
        return hashlib.md5(self.text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


class StatementRecord:
    """The queries, changes and calls of all sessions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, str, str], StatementEntry] = OrderedDict()
        self._characters = 0
        self._plans = 0

    def prepared(self, text: str, user: str, schema: str, parameters: int, seconds: float) -> None:
        """A statement was parsed and translated."""
        with self._lock:
            entry = self._entry(text, user, schema)
            if entry is not None:
                entry.parameters = parameters
                entry.preparations.add(seconds)
                entry.prepared_at = _now()

    def executed(self, text: str, user: str, schema: str, connection_id: int, seconds: float) -> None:
        """A statement was run to its end, or to its first rows."""
        with self._lock:
            entry = self._entry(text, user, schema)
            if entry is not None:
                entry.executions.add(seconds)
                entry.connection_id = connection_id
                entry.executed_at = _now()

    def counted(self, text: str, user: str, schema: str, rows: int) -> None:
        """A statement gave or changed so many rows more."""
        with self._lock:
            entry = self._entries.get((text, user, schema))
            if entry is not None:
                entry.rows += rows

    def entries(self) -> list[StatementEntry]:
        """What is remembered, that which was run longest ago first."""
        with self._lock:
            return list(self._entries.values())

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._characters = 0

    def _entry(self, text: str, user: str, schema: str) -> StatementEntry | None:
        key = (text, user, schema)
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
            return found
        if len(text) > MOST_CHARACTERS:
            return None
        self._plans += 1
        found = self._entries[key] = StatementEntry(text, user, schema, self._plans)
        self._characters += len(text)
        while len(self._entries) > MOST_STATEMENTS or self._characters > MOST_CHARACTERS:
            (gone, _, _), _ = self._entries.popitem(last=False)
            self._characters -= len(gone)
        return found


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
