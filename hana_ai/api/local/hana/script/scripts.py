"""Run programs for a session: blocks, calls of procedures, and the functions that statements call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

import duckdb

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import RoutineInfo
from hana_ai.api.local.hana.engine.planning import CompiledChange
from hana_ai.api.local.hana.engine.row_calls import RowCalls
from hana_ai.api.local.hana.engine.work import Work
from hana_ai.api.local.hana.errors import marked, unsupported
from hana_ai.api.local.hana.interface import FunctionCode, HanaError, Result
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.script.program import Program, Slot, TopProgram
from hana_ai.api.local.hana.script.routines import compile_routine
from hana_ai.api.local.hana.script.running import Frame, Row, Rows
from hana_ai.api.local.hana.translation.fragments import Sql, cast_to
from hana_ai.api.local.hana.translation.scope import Parameters, RoutineCall, Variables

DEEPEST = 32
"""How many routines may call each other."""


class Services(Protocol):
    """What scripts need of their session."""

    work: Work

    @property
    def has_changes(self) -> bool:
        """Whether the transaction has changed something."""

    def version(self) -> tuple[object, ...]:
        """What programs are compiled for."""

    def change_inside(self, change: CompiledChange, values: Mapping[str, object]) -> int:
        """Run a change as a part of the running statement."""

    def other_inside(self, statement: syntax.Statement, variables: Variables | None) -> None:
        """Run a statement that is neither a query nor a change."""

    def text_inside(self, sql: str) -> Rows | None:
        """Run a statement given as text."""

    def row_scripts(self) -> tuple[Scripts, Callable[[], None]]:
        """The scripts of a session of its own with the same user, and what closes it."""


class Scripts:
    """The scripts of one session.

    Parameters
    ----------
    services : Services
        The session.
    row_calls : RowCalls
        Where DuckDB finds functions that are called for each row.
    """

    def __init__(self, services: Services, row_calls: RowCalls) -> None:
        self._services = services
        self._row_calls = row_calls
        self._idle: dict[int, list[Program]] = {}
        self._version: tuple[object, ...] = ()
        self._depth = 0

    # --- running.Host ---
    def environment(self) -> Environment:
        """See `running.Host`."""
        return self._services.work.environment()

    def query(self, sql: Sql, parameters: Parameters, values: Mapping[str, object]) -> list[Row]:
        """See `running.Host`."""
        work = self._services.work
        with self.supplied(parameters, values) as complete:
            named = work.named(sql, parameters.hidden, complete)
            found: Sequence[Row] = work.connection.execute(sql.text, named).fetchall()
            return list(found)

    def change(self, change: CompiledChange, values: Mapping[str, object]) -> int:
        """See `running.Host`."""
        return self._services.change_inside(change, values)

    def other(self, statement: syntax.Statement, variables: Variables | None) -> None:
        """See `running.Host`."""
        self._services.other_inside(statement, variables)

    def text(self, sql: str) -> Rows | None:
        """See `running.Host`."""
        return self._services.text_inside(sql)

    def drop_rows(self, table: str) -> None:
        """See `running.Host`."""
        # After an error in a transaction DuckDB refuses even this; the rollback that follows drops them, too.
        with suppress(duckdb.Error):
            self._services.work.connection.execute(f"DROP TABLE IF EXISTS {table}")

    def invoke(self, call: RoutineCall, arguments: Sequence[object], destination: str) -> object:
        """See `running.Host`."""
        with self._program(call.routine) as program:
            frame = Frame(self, program.label, destination=destination)
            frame.values.update({slot.physical: None for slot in program.outputs if not slot.is_table})
            try:
                for slot, value in zip(program.inputs, arguments, strict=True):
                    self._give(frame, slot, value)
                program.run(frame)
            finally:
                self._forget(frame)
            return frame.values[program.outputs[0].physical] if program.outputs else None

    def run_procedure(self, call: RoutineCall, arguments: Sequence[object], frame: Frame) -> dict[str, object]:
        """See `running.Host`."""
        with self._program(call.routine) as program:
            inner = Frame(self, program.label, results=frame.results)
            by_name = dict(zip((item.name for item in call.routine.parameters), arguments, strict=True))
            inner.values.update({slot.physical: None for slot in program.outputs if not slot.is_table})
            kept = {slot.physical for slot in program.outputs if slot.is_table}
            try:
                for slot in program.inputs:
                    self._give(inner, slot, by_name[slot.name])
                program.run(inner)
            except BaseException:
                kept = set()
                raise
            finally:
                inner.tables = [table for table in inner.tables if table not in kept]
                self._forget(inner)
            return {
                slot.name: slot.physical if slot.is_table else inner.values[slot.physical]
                for slot in program.outputs
            }

    def _give(self, frame: Frame, slot: Slot, value: object) -> None:
        if not slot.is_table:
            frame.values[slot.physical] = value
        else:
            frame.fill(slot.physical, Sql(f"SELECT * FROM {value}"), Parameters({}))

    def _forget(self, frame: Frame) -> None:
        for table in frame.tables:
            self.drop_rows(table)

    @contextmanager
    def _program(self, routine: RoutineInfo) -> Iterator[Program]:
        """A compiled routine that nothing else runs now."""
        if self._version != self._services.version():
            self._version = self._services.version()
            self._idle.clear()
        if self._depth >= DEEPEST:
            raise HanaError(438, f"nesting depth of trigger and procedure is exceeded: {routine.name}")
        idle = self._idle.setdefault(routine.oid, [])
        program = idle.pop() if idle else compile_routine(routine, self.environment())
        self._depth += 1
        try:
            yield program
        finally:
            self._depth -= 1
            idle.append(program)

    # --- what statements call ---
    @contextmanager
    def supplied(self, parameters: Parameters, values: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
        """The values of a statement with those of the functions that it calls, for as long as it runs."""
        if not parameters.calls:
            yield values
            return
        complete = dict(values)
        endings: list[Callable[[], None]] = []
        try:
            for call in parameters.calls:
                self._supply(call, parameters, complete, endings)
            yield complete
        finally:
            for end in reversed(endings):
                end()

    def _supply(
        self,
        call: RoutineCall,
        parameters: Parameters,
        values: dict[str, object],
        endings: list[Callable[[], None]],
    ) -> None:
        work = self._services.work
        if call.each:
            values[call.name] = self._call_each(call, endings)
            return
        arguments: list[object] = []
        tables: list[str] = []
        try:
            for parameter, sql in zip(call.routine.parameters, call.arguments, strict=True):
                if parameter.type is None:
                    table = f"temp.main.script_argument_{id(call)}_{len(tables)}"
                    text = f"CREATE OR REPLACE TEMP TABLE {table.rpartition('.')[2]} AS {sql.text}"
                    work.connection.execute(text, work.named(sql, parameters.hidden, values))
                    tables.append(table)
                    arguments.append(table)
                else:
                    named = work.named(sql, parameters.hidden, values)
                    arguments.append(work.connection.execute(f"SELECT {sql.text}", named).fetchall()[0][0])
            if call.table:
                endings.append(lambda: self.drop_rows(call.table))
                name = call.table.rpartition(".")[2]
                self.invoke(call, arguments, f"CREATE OR REPLACE TEMP TABLE {name} AS ")
            else:
                values[call.name] = self.invoke(call, arguments, "")
        finally:
            for table in tables:
                self.drop_rows(table)

    def _call_each(self, call: RoutineCall, endings: list[Callable[[], None]]) -> int:
        with self._program(call.routine) as program:
            if program.reads_tables and self._services.has_changes:
                raise unsupported(
                    f"a function that reads tables, called for each row after changes of its transaction: "
                    f"{call.routine.name}"
                )
        scripts, close = self._services.row_scripts()
        number = self._row_calls.add(RowFunction(scripts, call))
        endings.append(close)
        endings.append(lambda: self._row_calls.remove(number))
        return number

    # --- blocks and calls ---
    def run_top(self, top: TopProgram, row: Mapping[str, object]) -> list[Result]:
        """Run a block or a call; gives its results, the values of its parameters with the first."""
        frame = Frame(self, top.program.label, values=dict(row))
        frame.values.update({slot.physical: None for slot in top.outputs})
        try:
            for slot, value in top.given:
                frame.values[slot.physical] = value.value(frame)
            for slot, query, parameters in top.tables:
                frame.fill(slot.physical, query, parameters)
            top.program.run(frame)
            for change in top.written:
                self.change(change, frame.values)
            for step in top.shown:
                step.run(frame)
        finally:
            self._forget(frame)
        found = [Result(FunctionCode.CALL_WITH_RESULT, rows.columns, iter(rows.rows)) for rows in frame.results]
        found = found or [Result(FunctionCode.CALL)]
        if top.outputs:
            found[0].outputs = tuple(frame.values[slot.physical] for slot in top.outputs)  # type: ignore[misc]
        return found


class RowFunction:
    """A function as DuckDB calls it for each row, from whichever of its threads."""

    def __init__(self, scripts: Scripts, call: RoutineCall) -> None:
        self._scripts = scripts
        self._call = call
        self._lock = threading.Lock()
        kind = call.routine.returns[0].type
        assert kind is not None
        value = cast_to(Sql("$v", frozenset({"v"})), types.storage(kind))
        self._as_text = cast_to(value, "VARCHAR")

    def __call__(self, arguments: list[str | None]) -> str | None:
        """See `row_calls.RowFunction`."""
        with self._lock:
            try:
                value = self._scripts.invoke(self._call, arguments, "")
                found = self._scripts.query(
                    Sql(f"SELECT {self._as_text.text}", self._as_text.names), Parameters({}), {"v": value}
                )
            except HanaError as exc:
                raise marked(exc) from exc
        return None if found[0][0] is None else str(found[0][0])
