"""One connection's session: statements in, results out, with HANA's transactions over DuckDB's."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import duckdb

from hana_ai.api.local.hana.catalog.environment import SessionState
from hana_ai.api.local.hana.catalog.objects import Catalog, TableInfo
from hana_ai.api.local.hana.catalog.statement_record import StatementRecord
from hana_ai.api.local.hana.engine import inputs, planning
from hana_ai.api.local.hana.engine.arrow import batch_table
from hana_ai.api.local.hana.engine.draft import Drafting
from hana_ai.api.local.hana.engine.journal import Effect, Transaction
from hana_ai.api.local.hana.engine.planning import CompiledChange, CompiledQuery, Plan
from hana_ai.api.local.hana.engine.reading import OpenResult
from hana_ai.api.local.hana.engine.recording import counting, note_preparation, noted
from hana_ai.api.local.hana.engine.row_calls import RowCalls
from hana_ai.api.local.hana.engine.script_services import ScriptServices
from hana_ai.api.local.hana.engine.table_locks import TableLocks
from hana_ai.api.local.hana.engine.work import Creation, Execution, RowCounts, Work
from hana_ai.api.local.hana.errors import from_duckdb, is_conflict
from hana_ai.api.local.hana.interface import FunctionCode, HanaError, Prepared, Result, Value
from hana_ai.api.local.hana.language import script_syntax, syntax
from hana_ai.api.local.hana.script.program import TopProgram
from hana_ai.api.local.hana.script.top import compile_top
from hana_ai.api.local.hana.translation.scope import Variables

_PLANS = 256
"""Plans that a session keeps."""
_SEARCHED = 2_000
"""In a failed batch of up to this many rows, the wrong one is searched for."""


class Database(RowCounts, Protocol):
    """What a session needs of the engine."""

    catalog: Catalog
    ddl_lock: threading.Lock
    table_locks: TableLocks
    row_calls: RowCalls
    record: StatementRecord

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection of its own."""

    def lock_deadline(self) -> float:
        """Until when a change may wait for a row, by `time.monotonic`."""

    def transaction_ended(self, session: object) -> None:
        """Release a session's tables, and wake those who wait for them or for a row."""

    def wait_for_ending(self, deadline: float) -> bool:
        """Wait a moment for another transaction to end; False when the deadline has passed."""


class DuckDBSession:
    """See `interface.EngineSession`."""

    def __init__(self, engine: Database, user: str, connection_id: int) -> None:
        self.engine = engine
        self.connection = engine.cursor()
        self.state = SessionState(user, user, connection_id, record=engine.record)
        self.transaction = Transaction(self.connection)
        self.work = Work(self.connection, engine.catalog, self.state, engine)
        self.scripts = ScriptServices(self, engine.row_calls, lambda: DuckDBSession(engine, user, connection_id))
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._open: OpenResult | None = None
        self._drafting = Drafting(self.work, self.transaction, engine.ddl_lock)
        self._closed = False

    # --- EngineSession ---
    def prepare(self, sql: str) -> Plan:
        """Parse, translate and check a statement."""
        known = self._plans.get(sql)
        if known is not None and known.made_for == self.version():
            self._plans.move_to_end(sql)
            return known
        begun = time.perf_counter()
        environment = self.work.environment()
        plan = planning.make_plan(environment, sql, self.version())
        if isinstance(plan.statement, script_syntax.Block | script_syntax.Call):
            plan.script = compile_top(plan, environment)
        if environment.changing:
            plan.made_for = ()
        note_preparation(self.state, plan, begun)
        self._plans[sql] = plan
        if len(self._plans) > _PLANS:
            self._plans.popitem(last=False)
        return plan

    def execute(self, prepared: Prepared, rows: Sequence[Sequence[Value]] = ((),)) -> Result:
        """Run a statement; see `interface.EngineSession.execute`."""
        assert isinstance(prepared, Plan)
        plan = prepared if prepared.made_for == self.version() else self.prepare(prepared.sql)
        with noted(self.state, plan):
            self._drain()
            self.state.now = datetime.now(UTC).replace(tzinfo=None)
            converted = self._converted(plan, rows)
            for table in plan.temporary:
                if self.work.ensure_temporary(table) and self.transaction.active:
                    self.transaction.record(Effect(table.sql, creation=Creation(self.work, table)))
            if plan.query is not None:
                return self.query(plan, plan.query, converted[0])
            if isinstance(plan.script, TopProgram):
                results = [result for row in converted for result in self.scripts.run(plan.script, _by_name(row))]
                results[0].more = results[1:]
                return results[0]
            if plan.change is not None:
                affected = self._change(plan, plan.change, converted)
                counting(self.state, plan)(sum(affected))
                return Result(plan.function_code, rows_affected=affected)
            return self.other(plan.statement)

    def commit(self) -> None:
        """Make the changes permanent and visible to others."""
        # A result outside a transaction can stay in DuckDB: there is nothing to commit that would end it.
        if self.transaction.active:
            self._drain()
            try:
                for table in self._cleared_on_commit():
                    self.connection.execute(f"DELETE FROM {table.sql}")
                self.transaction.commit()
                self._drafting.end(committed=True)
            finally:
                self._drafting.end(committed=False)
                self.engine.transaction_ended(self)

    def rollback(self) -> None:
        """Undo the changes since the last commit."""
        if self.transaction.active:
            self._drain()
            self._drafting.end(committed=False)
            self.transaction.rollback()
            self.engine.transaction_ended(self)

    @property
    def in_transaction(self) -> bool:
        """Whether changes wait for `commit`."""
        return self.transaction.active

    def set_variables(self, variables: Mapping[str, str]) -> None:
        """Session variables from CLIENTINFO."""
        self.state.variables.update({key.upper(): value for key, value in variables.items()})

    def close(self) -> None:
        """Roll back and drop the session's temporary tables."""
        if self._closed:
            return
        self._closed = True
        self._open = None
        self._drafting.end(committed=False)
        if self.transaction.active:
            self.transaction.rollback()
            self.engine.transaction_ended(self)
        self.connection.close()

    # --- reading ---
    def version(self) -> tuple[object, ...]:
        """What plans are made for."""
        return (self.work.catalog.version, self.state.temporary_version, self.state.schema)

    def _converted(self, plan: Plan, rows: Sequence[Sequence[Value]]) -> list[list[object]]:
        width = len(plan.converters)
        for row in rows:
            if len(row) != width:
                raise HanaError(2, f"general error: {width} parameter values expected, {len(row)} given")
        converters = self._at_once(plan, rows) if len(rows) > 1 else dict(enumerate(plan.converters))
        converted = []
        for number, row in enumerate(rows):
            made: list[object] = [*row]
            try:
                for place, convert in converters.items():
                    made[place] = convert(row[place])
            except HanaError as exc:
                if len(rows) > 1:
                    exc.rows_affected = [-3 if index == number else 0 for index in range(len(rows))]
                raise
            converted.append(made)
        return converted

    @staticmethod
    def _at_once(plan: Plan, rows: Sequence[Sequence[Value]]) -> dict[int, Callable[[Value], object]]:
        """The converters by place, but for columns that stay as they are; those of vectors give what is done."""
        converters = dict(enumerate(plan.converters))

        def in_turn(vectors: Iterator[object]) -> Callable[[Value], object]:
            return lambda _: next(vectors)

        for place, values in enumerate(zip(*rows, strict=True)):
            kind = plan.bound.types[place]
            if place in plan.vectors:
                found = inputs.vectors_of(values, plan.vectors[place])
                if found is not None:
                    converters[place] = in_turn(iter(found))
            elif kind is not None and place not in plan.bound.vectors and inputs.is_plain(values, kind):
                del converters[place]
        return converters

    def query(self, plan: Plan, query: CompiledQuery, row: Sequence[object]) -> Result:
        """Run a query."""
        if query.lock is not None:
            self._change(plan, query.lock, [list(row)])
        if self.state.reads_one_snapshot:
            self.transaction.begin()
        if self.transaction.active:
            self.transaction.prepare_for_failure()
        query.executions += 1
        if query.executions == 2:
            query.parsed = self.connection.extract_statements(query.sql.text)[0]
        try:
            with self.scripts.supplied(query.parameters, _by_name(row)) as values:
                named = self.work.named(query.sql, query.parameters.hidden, values)
                opened = OpenResult.started(self.connection.execute(query.parsed or query.sql.text, named))
                if self.transaction.active or query.uses_sequence or query.parameters.calls:
                    opened.drain()
        except duckdb.Error as exc:
            self.undo()
            raise from_duckdb(exc) from exc
        except HanaError:
            self.undo()
            raise
        self._open = None if opened.complete else opened
        return Result(plan.function_code, plan.columns, opened.rows(query.outputs, counting(self.state, plan)))

    def _drain(self) -> None:
        if self._open is not None:
            opened, self._open = self._open, None
            try:
                opened.drain()
            except duckdb.Error as exc:
                raise from_duckdb(exc) from exc

    def undo(self) -> None:
        """Undo the running statement."""
        if self.transaction.active:
            try:
                self.transaction.undo_statement()
            finally:
                if not self.transaction.active:
                    self._drafting.end(committed=False)
                    self.engine.transaction_ended(self)

    # --- changing ---
    def _change(self, plan: Plan, change: CompiledChange, rows: list[list[object]]) -> list[int]:
        if not rows:
            return []
        deadline = self.engine.lock_deadline()
        while not self.engine.table_locks.allow(change.table, self):
            self.wait(deadline)
        while True:
            try:
                return self._attempt(plan, change, rows)
            except duckdb.Error as exc:
                if self.state.reads_one_snapshot and is_conflict(exc):
                    self.rollback()
                    raise HanaError(138, f"transaction serialization failure: rolled back, {exc}") from exc
                self.undo()
                if not is_conflict(exc):
                    error = from_duckdb(exc)
                    error.rows_affected = self._failing_row(change, rows)
                    raise error from exc
                # HANA waits for the row's lock; so wait until some transaction has ended, then try again.
                self.wait(deadline)
            except BaseException:
                self.undo()
                raise

    def wait(self, deadline: float) -> None:
        """Wait for another transaction to end, or raise 131."""
        if not self.engine.wait_for_ending(deadline):
            self.rollback()
            raise HanaError(131, "transaction rolled back by lock wait timeout")

    def _lock_table(self, statement: syntax.LockTable) -> None:
        name = statement.table
        table = self.work.environment().base_table(name.schema, name.name, "UPDATE", name.position)
        deadline = self.engine.lock_deadline()
        while not self.engine.table_locks.take(table.oid, self):
            if statement.no_wait:
                raise HanaError(146, "resource busy and acquire with NOWAIT specified")
            self.wait(deadline)
        # Begun after the wait, so that it sees what the one before has committed.
        self.transaction.begin()

    def _failing_row(self, change: CompiledChange, rows: list[list[object]]) -> list[int] | None:
        """Which row of a batch was wrong, found by trying them one after the other; nothing is kept of it."""
        if len(rows) == 1:
            return None
        if len(rows) > _SEARCHED:
            return [-3] * len(rows)
        self.transaction.begin()
        failing = len(rows)
        try:
            for failing, row in enumerate(rows):  # noqa: B007
                self._single(change, row)
        except (duckdb.Error, HanaError):
            return [-3 if index == failing else 0 for index in range(len(rows))]
        finally:
            self.undo()
        return [-3] * len(rows)

    def _attempt(self, plan: Plan, change: CompiledChange, rows: list[list[object]]) -> list[int]:
        self.transaction.begin()
        self.transaction.prepare_for_failure()
        if len(rows) > 1 and plan.bulk:
            counts, effects = self._bulk(plan, rows)
        else:
            counts, effects = [], []
            for row in rows:
                done, new = self._single(change, row)
                counts += done
                effects += new
        self.transaction.record(*effects)
        self.engine.rows_removed(sum(len(effect.removed) for effect in effects))
        return counts

    def _single(self, change: CompiledChange, row: list[object]) -> tuple[list[int], list[Effect]]:
        with self.scripts.supplied(change.parameters, _by_name(row)) as values:
            return change.program.run(Execution(self.work, change.parameters, values))

    def _bulk(self, plan: Plan, rows: list[list[object]]) -> tuple[list[int], list[Effect]]:
        change = planning.batch_change(plan, self.work.environment())
        numbers = self.work.new_rows(len(rows))
        batch = batch_table(plan.bound, rows, numbers)
        with self.scripts.supplied(change.parameters, {}) as values:
            return change.program.run(Execution(self.work, change.parameters, values, numbers, batch))

    def _cleared_on_commit(self) -> Iterator[TableInfo]:
        for table in (*self.work.catalog.all(TableInfo), *self.state.temporary.values()):
            if table.on_commit_delete and (
                table.temporary == "LOCAL" or table.physical in self.state.global_temporary
            ):
                yield table

    # --- everything else ---
    def other(self, statement: syntax.Statement, variables: Variables | None = None) -> Result:
        """Run a statement that is neither a query nor a change."""
        if isinstance(statement, syntax.SetSchema):
            known = self.work.catalog.schema(statement.name)
            if known is None and statement.name not in {"SYS", "PUBLIC"}:
                raise HanaError(362, f"invalid schema name: {statement.name}")
            self.state.schema = statement.name
        elif isinstance(statement, syntax.SetVariable):
            if statement.value is None:
                self.state.variables.pop(statement.name.upper(), None)
            else:
                self.state.variables[statement.name.upper()] = statement.value
        elif isinstance(statement, syntax.EndTransaction):
            if statement.commit:
                self.commit()
                return Result(FunctionCode.COMMIT)
            self.rollback()
            return Result(FunctionCode.ROLLBACK)
        elif isinstance(statement, syntax.Savepoint):
            try:
                _SAVEPOINTS[statement.action](self.transaction, statement.name)
            finally:
                if not self.transaction.active:
                    self._drafting.end(committed=False)
                    self.engine.transaction_ended(self)
        elif isinstance(statement, syntax.SetIsolation):
            self.state.isolation = statement.level
        elif isinstance(statement, syntax.SetAutocommitDdl):
            self.state.commits_ddl = statement.on
        elif isinstance(statement, syntax.LockTable):
            self._lock_table(statement)
        elif not isinstance(statement, syntax.SetNothing):
            return self._ddl(statement, variables)
        return Result(FunctionCode.DDL)

    def _ddl(self, statement: syntax.Statement, variables: Variables | None) -> Result:
        if self.state.commits_ddl:
            self.commit()
        if not self._drafting.lock(self.engine.lock_deadline()):
            self.rollback()
            raise HanaError(131, "transaction rolled back by lock wait timeout")
        try:
            if self.state.commits_ddl:
                rows = self._drafting.run_alone(statement, variables, lambda: self.engine.transaction_ended(self))
            else:
                rows = self._drafting.run(statement, variables, self.undo)
        except duckdb.Error as exc:
            raise from_duckdb(exc) from exc
        return Result(FunctionCode.DDL, rows_affected=[rows] if rows else [])


_SAVEPOINTS: dict[str, Callable[[Transaction, str], None]] = {
    "set": Transaction.set_savepoint,
    "release": Transaction.release_savepoint,
    "return": Transaction.return_to_savepoint,
}


def _by_name(row: Sequence[object]) -> dict[str, object]:
    return {f"p{index}": inputs.for_duckdb(value) for index, value in enumerate(row)}
