"""The ledger's tables: the same statements for SQLite and SAP HANA.

A call is a row. Costs are decimal text, since neither database adds up decimals of any length exactly; sums are
grouped by cost and finished here. A second table, its name ending in `_SPENT`, has what each process spent on each
day, so that a budget that several processes share is known without reading all calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from hana_ai.api.catalog.money import plain, total
from hana_ai.api.storage.database import Database
from hana_ai.api.storage.drivers import Cursor, Driver, Row, open_driver
from hana_ai.api.usage.key import UsageKey

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


class Store:
    """The two tables. Thread-safe.

    Parameters
    ----------
    driver : Driver
    tries : int
        How often a statement is tried before it counts as failed.
    """

    def __init__(self, driver: Driver, *, tries: int = 6) -> None:
        self.name = driver.name
        self.shared = driver.shared
        self._table = driver.table
        self._spent_table = driver.beside("_SPENT")
        tables = {
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
        self._database = Database(driver, tables, title="ledger", tries=tries)

    # --- writing ---

    def write(self, rows: Sequence[Row], spent: Mapping[str, Decimal]) -> None:
        """Write calls, and what their process has spent on their days, all or nothing.

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

        self._database.run(work)

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

    def spent_by_others(self, process: str, since: str) -> Decimal:
        """What other processes have spent since a day, in USD."""
        statement = f'SELECT "COST_USD" FROM {self._spent_table} WHERE "DAY" >= ? AND "PROCESS" <> ?'
        return total(Decimal(row[0]) for row in self._database.read(statement, (since, process)))

    def groups(self, by: GroupBy, start: str, end: str) -> Sequence[Row]:
        """Sums of the calls from `start` until before `end`, by group and cost.

        Columns: group, cost, calls, prompt, completion, cached and reasoning tokens, calls of unknown cost, calls
        that failed, calls that a cache answered.
        """
        key = _GROUPS.get(by)
        group = "" if key is None else f"{key}, "
        return self._database.read(
            f"""SELECT {key or "''"} AS "NAME", "COST_USD", {_COUNTS} """
            f'FROM {self._table} WHERE "CALLED_AT" >= ? AND "CALLED_AT" < ? GROUP BY {group}"COST_USD"',
            (start, end),
        )

    def older(self, sequence: int) -> Sequence[Row]:
        """Sums of the calls up to a number, by day, operation, model, tags and cost; columns as of `groups`."""
        keys = ", ".join([_GROUPS["day"], _GROUPS["operation"], _GROUPS["model"], _GROUPS["tag"], '"COST_USD"'])
        return self._database.read(
            f'SELECT {keys}, {_COUNTS} FROM {self._table} WHERE "SEQUENCE" <= ? GROUP BY {keys}', (sequence,)
        )

    def rows(self, start: str, end: str) -> Iterator[Mapping[str, Any]]:
        """The calls from `start` until before `end`, the oldest first."""
        columns = ", ".join(f'"{name}"' for name in COLUMNS)
        for row in self._database.read(
            f'SELECT {columns} FROM {self._table} WHERE "CALLED_AT" >= ? AND "CALLED_AT" < ? '
            f'ORDER BY "CALLED_AT", "PROCESS", "SEQUENCE"',
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
    driver = open_driver(key.database, key.hana, table=TABLE, setting=SETTING)
    return Store(driver, tries=2 if driver.hana else 6)
