"""The ledger's tables: the same statements for SQLite and SAP HANA.

A call is a row. Costs are decimal text, since neither database adds up decimals of any length exactly; sums are
grouped by cost and finished here. A second table, its name ending in `_SPENT`, has what each process spent on each
day, so that a budget that several processes share is known without reading all calls. A third one, `_ABOUT`, has
the version. What is read is believed only if it is what this module writes: else there is an error, and no sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Literal, NamedTuple

from hana_ai.api.catalog.money import EXACT, plain
from hana_ai.api.storage.database import Database
from hana_ai.api.storage.drivers import Cursor, Driver, Row, open_driver
from hana_ai.api.storage.schema import Schema, StoreError, Table, UnfitStoreError
from hana_ai.api.usage.key import UsageKey
from hana_ai.api.usage.values import read_day, read_tags, read_usd

TABLE = "TOGETHER_USAGE"
"""Name of the table in SQLite."""

SETTING = "TOGETHER_USAGE_DB"

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
SPENT_COLUMNS: Mapping[str, str] = {
    "PROCESS": "NVARCHAR(16) NOT NULL",
    "DAY": "NVARCHAR(10) NOT NULL",
    "COST_USD": "NVARCHAR(64) NOT NULL",
}
VERSION = 1
"""Of what the columns mean. Ledgers from before there were versions have the same ones."""

_COUNTED = ("PROMPT_TOKENS", "COMPLETION_TOKENS", "CACHED_TOKENS", "REASONING_TOKENS", "HTTP_STATUS", "RETRIES")
_TEXTS = ("CALLED_AT", "OPERATION", "MODEL", "TAGS", "STATUS")

GroupBy = Literal["day", "model", "operation", "tag", "nothing"]
_GROUPS: Mapping[GroupBy, str] = {
    "day": 'SUBSTR("CALLED_AT", 1, 10)',
    "model": '"MODEL"',
    "operation": '"OPERATION"',
    "tag": '"TAGS"',
}

# What a server refused with an error status was not answered, so that its missing cost hides nothing.
_UNKNOWN = """"COST_USD" IS NULL AND ("HTTP_STATUS" IS NULL OR "STATUS" = 'TogetherAIStreamError')"""


_COUNTS = ", ".join(
    [
        "COUNT(*)",
        *(f'SUM("{name}_TOKENS")' for name in ("PROMPT", "COMPLETION", "CACHED", "REASONING")),
        f"SUM(CASE WHEN {_UNKNOWN} THEN 1 ELSE 0 END)",
        "SUM(CASE WHEN \"STATUS\" IN ('ok', 'cached', 'left early', 'cancelled') THEN 0 ELSE 1 END)",
        "SUM(CASE WHEN \"STATUS\" = 'cached' THEN 1 ELSE 0 END)",
    ]
)


# SQLite keeps whatever it is given, and adds up texts as zeros. SAP HANA's columns have their types.
_WRONG = " OR ".join(
    [
        *(f"""(typeof("{name}") NOT IN ('integer', 'null') OR "{name}" < 0)""" for name in _COUNTED),
        *(f"""typeof("{name}") <> 'text'""" for name in _TEXTS),
        """typeof("COST_USD") NOT IN ('text', 'null')""",
        _TIMELESS := """"CALLED_AT" NOT GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9] *'""",
    ]
)


class Spent(NamedTuple):
    """What processes have spent since a day."""

    usd: Decimal
    latest_day: str
    """The last day on which something was spent; empty where nothing was."""


class Store:
    """The tables. Thread-safe.

    Parameters
    ----------
    driver : Driver
    tries : int
        How often a statement is tried before it counts as failed.
    seconds : float
        How long one may take with all tries, unless it is told otherwise.
    """

    def __init__(self, driver: Driver, *, tries: int = 6, seconds: float = 10.0) -> None:
        self.name = driver.name
        self.shared = driver.shared
        self.punctual = not driver.hana
        """Whether the database itself keeps to the seconds that it is given."""
        self._table = driver.table
        self._spent_table = driver.beside("_SPENT")
        schema = Schema(
            version=VERSION,
            about=driver.beside("_ABOUT"),
            tables={
                self._table: Table(columns=COLUMNS, key=("PROCESS", "SEQUENCE")),
                self._spent_table: Table(columns=SPENT_COLUMNS, key=("PROCESS", "DAY")),
            },
            fill=self._fill,
        )
        self._wrong = "0" if driver.hana else f"SUM(CASE WHEN {_WRONG} THEN 1 ELSE 0 END)"
        between = '("CALLED_AT" >= ? AND "CALLED_AT" < ?)'
        # What has no time is in every time, so that it is noticed.
        self._between = between if driver.hana else f"({between} OR {_TIMELESS})"
        self._database = Database(driver, schema, title="ledger", tries=tries, seconds=seconds)

    def _fill(self, cursor: Cursor, made: Sequence[str]) -> None:
        """Add up what was spent, where that table was made after the calls': nothing is forgotten."""
        if self._spent_table not in made or self._table in made:
            return
        day = _GROUPS["day"]
        cursor.execute(
            f'SELECT "PROCESS", {day}, "COST_USD", COUNT(*) FROM {self._table} '
            f'WHERE "COST_USD" IS NOT NULL GROUP BY "PROCESS", {day}, "COST_USD"'
        )
        spent: dict[tuple[str, str], Decimal] = {}
        with self.believing():
            for process, called_on, cost, calls in cursor.fetchall():
                key = (process, called_on)
                more = EXACT.multiply(read_usd(cost), Decimal(int(calls)))
                spent[key] = EXACT.add(spent.get(key, Decimal(0)), more)
        for (process, called_on), usd in spent.items():
            cursor.execute(f"INSERT INTO {self._spent_table} VALUES (?, ?, ?)", (process, called_on, plain(usd)))

    @contextmanager
    def believing(self) -> Iterator[None]:
        """Say of what can't be read where it is."""
        try:
            yield
        except StoreError:
            raise
        except (ValueError, TypeError, ArithmeticError, LookupError) as exc:
            raise UnfitStoreError(
                f"The ledger {self.name} holds what no ledger writes, so its sums are not known: it is damaged, "
                f"or another program's ({exc!r}). Name another place in {SETTING}."
            ) from exc

    # --- writing ---

    def write(self, rows: Sequence[Row], spent: Mapping[str, Decimal], *, seconds: float | None = None) -> None:
        """Write calls, and what their process has spent on their days, all or nothing, within some seconds.

        Raises
        ------
        StoreError
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

        self._database.run(work, seconds=seconds)

    def set_costs(self, costs: Sequence[tuple[str, str, int]], process: str, spent: Mapping[str, Decimal]) -> None:
        """Set costs (text, process, sequence) that were not known when their calls were written."""

        def work(cursor: Cursor, again: bool) -> None:
            cursor.executemany(
                f'UPDATE {self._table} SET "COST_USD" = ? WHERE "PROCESS" = ? AND "SEQUENCE" = ?', costs
            )
            self._write_spent(cursor, process, spent)

        self._database.run(work)

    def forget(self, sequence: int) -> None:
        """Delete the calls up to a number; for a store that only one process writes."""
        self._database.execute(f'DELETE FROM {self._table} WHERE "SEQUENCE" <= ?', (sequence,))

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

    def spent_by_others(self, process: str, since: str, *, seconds: float | None = None) -> Spent:
        """What other processes have spent since a day."""
        statement = f'SELECT "COST_USD", "DAY" FROM {self._spent_table} WHERE "DAY" >= ? AND "PROCESS" <> ?'
        rows = self._database.read(statement, (since, process), seconds=seconds)
        usd, latest = Decimal(0), ""
        with self.believing():
            for cost, day in rows:
                usd = EXACT.add(usd, read_usd(cost))
                latest = max(latest, read_day(day))
        return Spent(usd, latest)

    def groups(self, by: GroupBy, start: str, end: str) -> Sequence[Row]:
        """Sums of the calls from `start` until before `end`, by group and cost.

        Columns: group, cost, calls, prompt, completion, cached and reasoning tokens, calls of unknown cost, calls
        that failed, calls that a cache answered.
        """
        key = _GROUPS.get(by)
        group = "" if key is None else f"{key}, "
        rows = self._database.read(
            f"""SELECT {key or "''"} AS "NAME", "COST_USD", {_COUNTS}, {self._wrong} """
            f'FROM {self._table} WHERE {self._between} GROUP BY {group}"COST_USD"',
            (start, end),
        )
        with self.believing():
            for name, cost, *_, wrong in rows:
                if wrong:
                    raise ValueError(f"{wrong} rows")
                if cost is not None:
                    read_usd(cost)
                if by == "tag":
                    read_tags(name)
        return [row[:-1] for row in rows]

    def older(self, sequence: int) -> Sequence[Row]:
        """Sums of the calls up to a number, by day, operation, model, tags and cost; columns as of `groups`."""
        keys = ", ".join([_GROUPS["day"], _GROUPS["operation"], _GROUPS["model"], _GROUPS["tag"], '"COST_USD"'])
        return self._database.read(
            f'SELECT {keys}, {_COUNTS} FROM {self._table} WHERE "SEQUENCE" <= ? GROUP BY {keys}', (sequence,)
        )

    def rows(self, start: str, end: str) -> Iterator[Mapping[str, object]]:
        """The calls from `start` until before `end`, the oldest first."""
        columns = ", ".join(f'"{name}"' for name in COLUMNS)
        for row in self._database.read(
            f"SELECT {columns} FROM {self._table} WHERE {self._between} "
            'ORDER BY "CALLED_AT", "PROCESS", "SEQUENCE"',
            (start, end),
        ):
            yield dict(zip(COLUMNS, row, strict=True))

    def close(self) -> None:
        """Close the connection; the next use opens another one."""
        self._database.close()


# --- which database ---


def open_store(key: UsageKey) -> Store:
    """The store that a key names; it connects when it is first used.

    Raises
    ------
    TogetherAISettingsError
        TOGETHER_USAGE_DB is no name of a table or no path that can be written, or there is no HANA to go with it.
    """
    # A database that does not answer must not hold up the writing for ever; in milliseconds.
    driver = open_driver(key.database, key.hana, table=TABLE, setting=SETTING, communicationTimeout=30_000)
    return Store(driver, tries=2 if driver.hana else 6)
