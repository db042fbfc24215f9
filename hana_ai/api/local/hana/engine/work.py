"""What statements need of their session: its connection, the catalog, its state and fresh row numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import duckdb

from hana_ai.api.local.hana.catalog.environment import Environment, SessionState
from hana_ai.api.local.hana.catalog.objects import Catalog, TableInfo
from hana_ai.api.local.hana.engine.arrow import Table, execute_over
from hana_ai.api.local.hana.engine.journal import Effect
from hana_ai.api.local.hana.engine.tables import create_physical
from hana_ai.api.local.hana.translation.fragments import Sql
from hana_ai.api.local.hana.translation.scope import Gathered, Parameters

MANY_ROWS = 2**31
"""Row numbers set aside for a statement that does not know how many rows it will add."""

BY_RIDS = Sql("_rid IN (SELECT unnest($rids))", frozenset({"rids"}))
"""The condition that finds the rows with the numbers `rids`."""


def within(numbers: range) -> Sql:
    """The condition that finds the rows with these numbers."""
    return Sql(f"_rid BETWEEN {numbers.start} AND {numbers.stop - 1}")


class RowCounts(Protocol):
    """Numbers new rows and counts removed ones; implemented by the engine."""

    def reserve_rids(self, count: int) -> int:
        """Set aside so many numbers; gives the first."""

    def rows_removed(self, count: int) -> None:
        """So many rows were removed, or replaced."""


@dataclass(slots=True)
class Work:
    """A session as its statements see it."""

    connection: duckdb.DuckDBPyConnection
    catalog: Catalog
    state: SessionState
    row_counts: RowCounts

    def environment(self) -> Environment:
        """The names as the session means them now."""
        return Environment(self.catalog, self.state)

    def new_rows(self, count: int = MANY_ROWS) -> range:
        """Row numbers for so many new rows."""
        first = self.row_counts.reserve_rids(count)
        return range(first, first + count)

    def named(self, sql: Sql, hidden: Sequence[object], values: Mapping[str, object]) -> dict[str, object]:
        """The values that generated SQL refers to, `hidden` ones asked of the session."""
        found: dict[str, object] = {}
        for name in sql.names:
            if name in values:
                found[name] = values[name]
            else:
                value = hidden[int(name[1:])]
                if isinstance(value, Gathered):
                    found[name] = value.of(values)
                else:
                    found[name] = value(self.state) if callable(value) else value
        return found

    def ensure_temporary(self, table: TableInfo) -> bool:
        """Make this connection's part of a global temporary table on first use; False if it is there."""
        if table.temporary != "GLOBAL" or table.physical in self.state.global_temporary:
            return False
        create_physical(self.connection, table, self.environment())
        self.state.global_temporary.add(table.physical)
        return True


@dataclass(frozen=True, slots=True)
class Creation:
    """The first use of a global temporary table, inside a transaction."""

    work: Work
    table: TableInfo

    def undo(self) -> None:
        """The table went with a rollback."""
        self.work.state.global_temporary.discard(self.table.physical)

    def repeat(self) -> None:
        """Make it again."""
        self.work.ensure_temporary(self.table)


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a compiled change."""

    work: Work
    parameters: Parameters
    """With the hidden values of the compiled SQL."""
    values: Mapping[str, object]
    """The values of the `?` by name, unless they come as a batch."""
    batch: range | None = None
    """The row numbers of a batch: as many parameter rows run as one statement."""
    rows: Table | None = None
    """The parameter rows of a batch."""

    def new_rows(self, counted: bool) -> range:
        """Row numbers for what the statement adds; `counted` when each parameter row adds one row."""
        if self.batch is not None:
            return self.batch
        return self.work.new_rows(1) if counted else self.work.new_rows()

    def execute(self, sql: Sql, **values: object) -> duckdb.DuckDBPyConnection:
        """Run generated SQL with the values that it refers to."""
        return execute_over(self.rows, self.work.connection, sql.text, self.named(sql, **values))

    def named(self, sql: Sql, **values: object) -> dict[str, object]:
        """The values that generated SQL refers to."""
        return self.work.named(sql, self.parameters.hidden, {**self.values, **values})

    def number(self, sql: Sql, **values: object) -> int:
        """Run generated SQL that answers with one number, such as how many rows it changed."""
        rows = self.execute(sql, **values).fetchall()
        return int(rows[0][0]) if rows else 0

    def rids(self, sql: Sql, **values: object) -> list[int]:
        """Run generated SQL that gives the numbers of rows."""
        found: list[int] = self.execute(sql, **values).fetchnumpy()["_rid"].tolist()
        return found

    def counts(self, done: int) -> list[int]:
        """Rows affected, as the client gets them: one entry for each parameter row."""
        return [1] * len(self.batch) if self.batch is not None else [done]


class Program(Protocol):
    """A compiled change."""

    def run(self, execution: Execution) -> tuple[list[int], list[Effect]]:
        """Change the rows; gives the rows affected and what the journal must know."""
