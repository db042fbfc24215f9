"""What a running script has: its variables, its results, and the session that runs its statements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

import duckdb

from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.engine.planning import CompiledChange
from hana_ai.api.local.hana.errors import from_duckdb, is_conflict
from hana_ai.api.local.hana.interface import Column, HanaError, Value
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.language.script_syntax import Place
from hana_ai.api.local.hana.translation.fragments import Sql
from hana_ai.api.local.hana.translation.scope import Parameters, RoutineCall, Variables

Row = Sequence[object]


@dataclass(slots=True)
class Rows:
    """A result set of a script."""

    columns: tuple[Column, ...]
    rows: list[Sequence[Value]]


class Host(Protocol):
    """The session as a script needs it."""

    def environment(self) -> Environment:
        """The names as the session means them."""

    def query(self, sql: Sql, parameters: Parameters, values: Mapping[str, object]) -> list[Row]:
        """Run generated SQL, with the functions that it calls, and read all its rows."""

    def change(self, change: CompiledChange, values: Mapping[str, object]) -> int:
        """Run a change as a part of the statement that runs; gives the number of rows."""

    def other(self, statement: syntax.Statement, variables: Variables | None) -> None:
        """Run a statement that is neither a query nor a change."""

    def text(self, sql: str) -> Rows | None:
        """Run a statement given as text; gives the rows of a query."""

    def drop_rows(self, table: str) -> None:
        """Forget the rows of a table variable."""

    def invoke(self, call: RoutineCall, arguments: Sequence[object], destination: str) -> object:
        """Call a function; the rows of a table function go behind `destination`, the start of a statement."""

    def run_procedure(self, call: RoutineCall, arguments: Sequence[object], frame: Frame) -> dict[str, object]:
        """Call a procedure; gives the values of its OUT parameters, tables as DuckDB names."""


class After(Enum):
    """What comes after a statement, unless it is the next one."""

    LEAVE = auto()
    AGAIN = auto()
    RETURN = auto()


class ScriptError(HanaError):
    """An error that names its place in a script."""


@dataclass(slots=True)
class Frame:
    """One run of a program."""

    host: Host
    label: str
    """What errors call the script."""
    values: dict[str, object] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    """The DuckDB tables that go with it."""
    results: list[Rows] = field(default_factory=list)
    destination: str = ""
    """The start of the statement that takes the rows of a table function."""

    def fill(self, table: str, query: Sql, parameters: Parameters) -> None:
        """Give a table variable the rows of a query."""
        text = Sql(f"CREATE OR REPLACE TEMP TABLE {table.rpartition('.')[2]} AS {query.text}", query.names)
        self.host.query(text, parameters, self.values)
        if table not in self.tables:
            self.tables.append(table)


@dataclass(frozen=True, slots=True)
class Step(ABC):
    """A compiled statement of a script."""

    place: Place
    """Where it stands."""

    @abstractmethod
    def run(self, frame: Frame) -> After | None:
        """Do it."""


def run_steps(steps: Sequence[Step], frame: Frame) -> After | None:
    """Do statements one after the other.

    Raises
    ------
    ScriptError
        With the place of the statement that failed.
    """
    for step in steps:
        try:
            after = step.run(frame)
        except ScriptError:
            raise
        except HanaError as exc:
            raise placed(exc, step.place, frame.label) from exc
        except duckdb.Error as exc:
            if is_conflict(exc):
                # The session waits for the other transaction, and runs all of it again.
                raise
            raise placed(from_duckdb(exc), step.place, frame.label) from exc
        if after is not None:
            return after
    return None


def placed(error: HanaError, place: Place, label: str = "") -> ScriptError:
    """The error with its place, as HANA writes it."""
    where = f"{label}: {place}" if label else str(place)
    return ScriptError(error.code, f"{error.message}: {where}", 0 if label else place.position)


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression."""

    sql: Sql
    """A query of one row."""
    parameters: Parameters

    def value(self, frame: Frame) -> object:
        """Its value now."""
        return frame.host.query(self.sql, self.parameters, frame.values)[0][0]
