"""A table of values by key, with bounds on size and age. What goes wrong here costs a hit, and never a call.

Rows say when they were made and when they were last used, in microseconds since 1970; the latter to the minute,
since a write for each hit would cost more than the hit. Bounds are looked after now and then, not at each write.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from hana_ai.api.cache.values import chunks
from hana_ai.api.errors import TogetherAISettingsError
from hana_ai.api.settings import TogetherAISettings
from hana_ai.api.storage.address import HanaAddress, hana_address
from hana_ai.api.storage.database import Database
from hana_ai.api.storage.drivers import Cursor, Driver, open_driver
from hana_ai.api.storage.outage import Outage
from hana_ai.api.storage.schema import Schema, StoreError, Table

logger = logging.getLogger(__name__)

T = TypeVar("T")

SETTING = "TOGETHER_CACHE"
TABLE = "TOGETHER_CACHE"
"""Name of the table of answers in SQLite."""
VECTORS = "_VECTORS"
"""What the name of the table of vectors has in addition."""

_CONSEQUENCE = "calls go on without it until it can be"
_COLUMNS = {
    "ID": "NVARCHAR(64) NOT NULL",
    "BYTES": "BIGINT NOT NULL",
    "MADE_AT": "BIGINT NOT NULL",
    "USED_AT": "BIGINT NOT NULL",
    "VALUE": "BLOB NOT NULL",
}
VERSION = 1
"""Of what the columns mean. Caches from before there were versions have the same ones."""
_KEYS_AT_A_TIME = (1, 16, 128, 512)
_EVICTED_AT_A_TIME = 500
# A bound is looked after when a twentieth of it was written, and then a tenth is made free.
_SLACK = 20
_ROOM = 0.9
_AGE_CHECK_ROWS = 1000


class CacheKey(NamedTuple):
    """The setting that makes a cache: the same one, the same cache. It can be hashed, copied and pickled."""

    database: str
    """A SQLite path, or `hana:TABLE`."""
    hana: HanaAddress | None = None
    """Only where `database` needs it."""


def cache_key(settings: TogetherAISettings, database: str | None = None) -> CacheKey | None:
    """The part of the settings that makes a cache; None when there is none."""
    database = database or settings.together_cache
    return None if database is None else CacheKey(database, hana_address(database, settings))


class Bounds(NamedTuple):
    """What a table may hold; None is no bound."""

    max_bytes: int | None
    max_entries: int | None
    max_age: float | None
    """Seconds."""

    def check(self) -> Bounds:
        """These bounds, if they are such."""
        for name, value in self._asdict().items():
            if value is not None and not value > 0:
                raise TogetherAISettingsError(f"{name}={value!r} is not above 0.")
        return self


class Patience(NamedTuple):
    """How long a cache waits, in seconds."""

    away: float = 30.0
    """How long a database that failed is left alone."""
    busy: float = 1.0
    """How long a call waits for a database with all tries: for a SQLite file that another process writes, or for
    one of SAP HANA that does not answer (by hdbcli in whole seconds for each step)."""
    touch: float = 60.0
    """How exactly it is known when a row was last used."""


PATIENCE = Patience()


class CacheStore:
    """One table. Thread-safe, and safe for many processes.

    Parameters
    ----------
    driver : Driver
    bounds : Bounds
    suffix : str
        What the table's name has in addition to the driver's.
    patience : Patience
    """

    def __init__(self, driver: Driver, bounds: Bounds, *, suffix: str = "", patience: Patience = PATIENCE) -> None:
        self.name = driver.name
        self._bounds = bounds
        self._touch_seconds = patience.touch
        self._table = table = driver.beside(suffix) if suffix else driver.table
        columns = ", ".join(f'"{name}"' for name in _COLUMNS)
        if driver.hana:
            self._upsert = f"UPSERT {table} ({columns}) VALUES (?, ?, ?, ?, ?) WITH PRIMARY KEY"
            self._value = 't."VALUE"'
            indexes = []
        else:
            self._upsert = f"INSERT OR REPLACE INTO {table} ({columns}) VALUES (?, ?, ?, ?, ?)"
            # SQLite keeps what it is given, whatever the column's type: a text that is none must not end a query.
            self._value = 'CAST(t."VALUE" AS BLOB)'
            by_use = f'{table[:-1]}_BY_USE"'
            indexes = [f'CREATE INDEX IF NOT EXISTS {by_use} ON {table} ("USED_AT", "BYTES", "MADE_AT")']
        self._database = Database(
            driver,
            Schema(
                version=VERSION,
                about=driver.beside("_ABOUT"),
                tables={table: Table(columns=_COLUMNS, key=("ID",), indexes=indexes)},
            ),
            title="cache",
            tries=2 if driver.hana else 3,
            seconds=patience.busy,
            limit=8,
        )
        # Apart, since what is full, or locked by a writer, can be read.
        self._reading, self._writing = (Outage(patience.away, _CONSEQUENCE) for _ in range(2))
        self._used: dict[str, int] = {}
        self._used_written = time.monotonic()
        self._unchecked_rows = 0
        # Many short processes: by chance one of them looks after the bounds.
        self._unchecked_bytes = int(random.random() * (bounds.max_bytes or 0) / _SLACK)

    # --- what callers see: it never raises ---

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The values that are there and not too old."""
        found: dict[str, bytes] = self._guarded(self._reading, lambda: self._read(keys), {})
        if self._used and time.monotonic() - self._used_written >= self._touch_seconds:
            self._guarded(self._writing, self._write_used, None)
        return found

    def write(self, values: Mapping[str, bytes]) -> None:
        """Keep values."""
        self._guarded(self._writing, lambda: self._write(values), None)

    def forget(self, keys: Sequence[str]) -> None:
        """Delete values, since they are not what they should be."""
        self._guarded(self._writing, lambda: self._delete(keys), None)

    def clear(self) -> None:
        """Delete all."""
        self._used.clear()
        statement = f"DELETE FROM {self._table}"
        self._guarded(self._writing, lambda: self._database.execute(statement), None)

    def size(self) -> tuple[int, int] | None:
        """How many values there are, and their bytes; None when the database can't be asked."""
        return self._guarded(self._reading, self._size, None)

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        if self._used:
            self._guarded(self._writing, self._write_used, None)
        self._database.close()

    def _guarded(self, outage: Outage, work: Callable[[], T], otherwise: T) -> T:
        """Do some work, unless the same failed a while ago; what goes wrong is logged once."""
        if outage.lasts:
            return otherwise
        try:
            result = work()
        except (StoreError, ValueError, TypeError, OverflowError) as exc:
            # The latter: rows of somebody else, with something else than numbers in them.
            outage.begin(exc, logger)
            if outage is self._reading:
                # What can't be read can't be written either.
                self._writing.extend()
            return otherwise
        outage.end()
        return result

    # --- reading ---

    def _read(self, keys: Sequence[str]) -> dict[str, bytes]:
        now = _now()
        age = self._bounds.max_age
        oldest = 0 if age is None else now - int(age * 1_000_000)
        stale = now - int(self._touch_seconds * 1_000_000)
        found: dict[str, bytes] = {}
        # Columns are named with their table: SQLite takes a quoted name that it does not find for a text.
        for some in chunks(keys, _KEYS_AT_A_TIME[-1]):
            # A few lengths only, so that the database prepares few statements: the last key is asked for again.
            length = next(size for size in _KEYS_AT_A_TIME if size >= len(some))
            asked = [*some, *[some[-1]] * (length - len(some))]
            statement = (
                f'SELECT t."ID", t."USED_AT", {self._value} FROM {self._table} AS t '
                f'WHERE t."MADE_AT" >= ? AND t."ID" IN ({", ".join("?" * length)})'
            )
            for key, used_at, value in self._database.read(statement, (oldest, *asked)):
                if isinstance(value, (bytes, memoryview)):
                    found[key] = bytes(value)
                    if not isinstance(used_at, int) or used_at <= stale:
                        self._used[key] = now
        return found

    def _size(self) -> tuple[int, int]:
        statement = f'SELECT COUNT(*), COALESCE(SUM(t."BYTES"), 0) FROM {self._table} AS t'
        [(entries, size)] = self._database.read(statement)
        return int(entries), int(size)

    # --- writing ---

    def _write(self, values: Mapping[str, bytes]) -> None:
        now = _now()
        # In the order of their keys, as in every process, so that no two wait for each other's rows.
        rows = [(key, len(value), now, now, value) for key, value in sorted(values.items())]
        self._database.execute_many(self._upsert, rows)
        self._unchecked_rows += len(rows)
        self._unchecked_bytes += sum(map(len, values.values()))
        if self._check_is_due():
            self._unchecked_rows = self._unchecked_bytes = 0
            self._write_used()
            self._evict()

    def _write_used(self) -> None:
        used, self._used = self._used, {}
        self._used_written = time.monotonic()
        if used:
            statement = f'UPDATE {self._table} SET "USED_AT" = ? WHERE "ID" = ?'
            rows = [(now, key) for key, now in sorted(used.items())]
            self._database.execute_many(statement, rows)

    def _delete(self, keys: Sequence[str]) -> None:
        def work(cursor: Cursor, again: bool) -> None:
            for some in chunks(sorted(keys), _KEYS_AT_A_TIME[-1]):
                marks = ", ".join("?" * len(some))
                cursor.execute(f'DELETE FROM {self._table} WHERE "ID" IN ({marks})', tuple(some))

        self._database.run(work)

    # --- bounds ---

    def _check_is_due(self) -> bool:
        bounds = self._bounds
        return (
            (bounds.max_bytes is not None and self._unchecked_bytes * _SLACK >= bounds.max_bytes)
            or (bounds.max_entries is not None and self._unchecked_rows * _SLACK >= bounds.max_entries)
            or (bounds.max_age is not None and self._unchecked_rows >= _AGE_CHECK_ROWS)
        )

    def _evict(self) -> None:
        """Delete what is too old, and then what was not used for the longest time, until there is room."""
        bounds = self._bounds
        if bounds.max_age is not None:
            oldest = _now() - int(bounds.max_age * 1_000_000)
            statement = f'DELETE FROM {self._table} WHERE "MADE_AT" < ?'
            self._database.execute(statement, (oldest,))
        entries, size = self._size()
        if not self._is_full(entries, size, 1.0):
            return
        oldest_first = (
            f'SELECT t."ID", t."BYTES" FROM {self._table} AS t '
            f'ORDER BY t."USED_AT", t."ID" LIMIT {_EVICTED_AT_A_TIME}'
        )
        while self._is_full(entries, size, _ROOM):
            rows = self._database.read(oldest_first)
            gone: list[str] = []
            for key, length in rows:
                if not self._is_full(entries, size, _ROOM):
                    break
                gone.append(key)
                entries, size = entries - 1, size - int(length)
            if not gone:
                return
            self._delete(gone)

    def _is_full(self, entries: int, size: int, share: float) -> bool:
        bounds = self._bounds
        return (bounds.max_entries is not None and entries > max(1, bounds.max_entries * share)) or (
            bounds.max_bytes is not None and size > bounds.max_bytes * share
        )


def _now() -> int:
    return time.time_ns() // 1000


# --- which database ---


def driver_of(key: CacheKey) -> Driver:
    """The database that a key names; nothing is opened yet.

    Raises
    ------
    TogetherAISettingsError
        TOGETHER_CACHE is no name of a table or no path that can be written, or there is no HANA to go with it.
    """
    return open_driver(
        key.database,
        key.hana,
        table=TABLE,
        setting=SETTING,
        # A database that does not answer must not hold up a call for long; in milliseconds.
        connectTimeout=2_000,
        communicationTimeout=3_000,
    )
