"""One connection's session: statements in, results out, with HANA's transactions over DuckDB's."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb

from hana_ai.api.local.hana.catalog.environment import Environment, SessionState
from hana_ai.api.local.hana.catalog.objects import Change, TableInfo
from hana_ai.api.local.hana.catalog.users import drop_user, run_user_statement
from hana_ai.api.local.hana.engine import constraints, inputs, planning
from hana_ai.api.local.hana.engine.ddl import DdlRunner
from hana_ai.api.local.hana.engine.dml import Run, batch_table, run_delete, run_insert, run_update, run_upsert
from hana_ai.api.local.hana.engine.journal import Effect, Transaction
from hana_ai.api.local.hana.engine.merge import run_merge
from hana_ai.api.local.hana.engine.planning import Plan
from hana_ai.api.local.hana.engine.tables import create_physical
from hana_ai.api.local.hana.errors import from_duckdb, is_conflict, no_privilege, unsupported
from hana_ai.api.local.hana.interface import FunctionCode, HanaError, Prepared, Result, Value
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.translation.scope import Parameters

if TYPE_CHECKING:
    from hana_ai.api.local.hana.engine.engine import DuckDBEngine

_NAMES = re.compile(r"\$([ph]\d+|rids?)\b")
_CHUNK = 10_000
_PLANS = 256
_SEARCHED = 2_000
"""Up to so many rows of a failed batch are tried to find the wrong one."""
_USER_STATEMENTS = (syntax.CreateUser, syntax.AlterUser, syntax.Grant)
_CHANGES = (syntax.Insert, syntax.Update, syntax.Delete, syntax.Merge)


@dataclass(slots=True)
class _Open:
    """A result whose rows are still in DuckDB: read them all before the connection runs something else."""

    fetch: Callable[[int], list[tuple[Any, ...]]]
    rest: list[tuple[Any, ...]] | None = None
    buffered: list[list[tuple[Any, ...]]] = field(default_factory=list)

    def drain(self) -> None:
        while self.rest is None:
            rows = self.fetch(_CHUNK)
            if not rows:
                self.rest = []
                return
            self.buffered.append(rows)


class DuckDBSession:
    """See `interface.EngineSession`."""

    def __init__(self, engine: DuckDBEngine, user: str, connection_id: int) -> None:
        self.engine = engine
        self.connection = engine.cursor()
        self.state = SessionState(user, user, connection_id)
        self.transaction = Transaction(self.connection)
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._open: _Open | None = None
        self._batch: object | None = None
        self._closed = False

    # --- EngineSession ---
    def prepare(self, sql: str) -> Plan:
        """Parse, translate and check a statement."""
        known = self._plans.get(sql)
        if known is not None and known.made_for == self._version():
            self._plans.move_to_end(sql)
            return known
        plan = planning.make_plan(self, sql, self._version())
        self._plans[sql] = plan
        if len(self._plans) > _PLANS:
            self._plans.popitem(last=False)
        return plan

    def execute(self, prepared: Prepared, rows: Sequence[Sequence[Value]] = ((),)) -> Result:
        """Run a statement; see `interface.EngineSession.execute`."""
        assert isinstance(prepared, Plan)
        plan = prepared if prepared.made_for == self._version() else self.prepare(prepared.sql)
        self._drain()
        self.state.now = datetime.now(UTC).replace(tzinfo=None)
        converted = self._converted(plan, rows)
        statement = plan.statement
        if isinstance(statement, syntax.Query):
            return self._query(plan, converted[0])
        if isinstance(statement, _CHANGES):
            return self._change(plan, converted)
        return self._other(statement)

    def commit(self) -> None:
        """Make the changes permanent and visible to others."""
        # A result outside a transaction can stay in DuckDB: there is nothing to commit that would end it.
        if self.transaction.active:
            self._drain()
            try:
                for table in self._cleared_on_commit():
                    self.connection.execute(f"DELETE FROM {table.sql}")
                self.transaction.commit()
            finally:
                self.engine.transaction_ended()

    def rollback(self) -> None:
        """Undo the changes since the last commit."""
        if self.transaction.active:
            self._drain()
            self.transaction.rollback()
            self.engine.transaction_ended()

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
        if self.transaction.active:
            self.transaction.rollback()
            self.engine.transaction_ended()
        self.connection.close()

    # --- reading ---
    def _version(self) -> tuple[object, ...]:
        return (self.engine.catalog.version, self.state.temporary_version, self.state.schema)

    def _converted(self, plan: Plan, rows: Sequence[Sequence[Value]]) -> list[list[Any]]:
        converters = self._at_once(plan, rows) if len(rows) > 1 and plan.vectors else plan.converters
        width = len(converters)
        converted = []
        for number, row in enumerate(rows):
            if len(row) != width:
                raise HanaError(2, f"general error: {width} parameter values expected, {len(row)} given")
            try:
                converted.append([convert(value) for convert, value in zip(converters, row, strict=True)])
            except HanaError as exc:
                if len(rows) > 1:
                    exc.rows_affected = [-3 if index == number else 0 for index in range(len(rows))]
                raise
        return converted

    @staticmethod
    def _at_once(plan: Plan, rows: Sequence[Sequence[Value]]) -> list[Callable[[Any], Any]]:
        """The converters, those of vector columns replaced by what was converted for all rows at once."""
        converters = list(plan.converters)
        for place, dimension in plan.vectors.items():
            found = inputs.vectors_of([row[place] if place < len(row) else None for row in rows], dimension)
            if found is not None:
                vectors = iter(found)
                converters[place] = lambda _, vectors=vectors: next(vectors)  # type: ignore[misc]
        return converters

    def named(
        self, sql: str, values: Mapping[str, Any], parameters: Parameters, extra: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The values that generated SQL names: parameters, session values, row numbers."""
        found: dict[str, Any] = {}
        for name in set(_NAMES.findall(sql)):
            if name in extra:
                found[name] = extra[name]
            elif name in values:
                found[name] = values[name]
            elif name[0] == "h" and int(name[1:]) < len(parameters.hidden):
                hidden = parameters.hidden[int(name[1:])]
                found[name] = hidden(self.state) if callable(hidden) else hidden
        return found

    def _query(self, plan: Plan, row: Sequence[Any]) -> Result:
        assert plan.query_sql is not None and plan.columns is not None
        for table in plan.temporary:
            self.ensure_temporary(table)
        if plan.lock is not None:
            self._change(plan.lock, [list(row)])
        if self.transaction.active:
            self.transaction.prepare_for_failure()
        values = {f"p{index}": inputs.for_duckdb(value) for index, value in enumerate(row)}
        plan.executions += 1
        if plan.executions == 2:
            plan.parsed = self.connection.extract_statements(plan.query_sql)[0]
        named = self.named(plan.query_sql, values, plan.parameters_bound, {})
        try:
            running = self.connection.execute(plan.parsed or plan.query_sql, named)
            first = running.fetchmany(_CHUNK)
            opened = _Open(running.fetchmany)
            if len(first) < _CHUNK:
                # DuckDB calls a result unfinished until a fetch has given nothing.
                running.fetchmany(1)
                opened.rest = []
            elif self.transaction.active or plan.uses_sequence:
                opened.drain()
        except duckdb.Error as exc:
            self._undo()
            raise from_duckdb(exc) from exc
        self._open = opened if opened.rest is None else None
        code = (
            FunctionCode.SELECT_FOR_UPDATE
            if plan.function_code == FunctionCode.SELECT_FOR_UPDATE
            else FunctionCode.SELECT
        )
        return Result(code, plan.columns, _rows(first, opened, plan.outputs))

    def _drain(self) -> None:
        if self._open is not None:
            opened, self._open = self._open, None
            try:
                opened.drain()
            except duckdb.Error as exc:
                raise from_duckdb(exc) from exc

    def _undo(self) -> None:
        if self.transaction.active:
            self.transaction.undo_statement()
            if not self.transaction.active:
                self.engine.transaction_ended()
        self._release_batch()

    # --- changing ---
    def _change(self, plan: Plan, rows: list[list[Any]]) -> Result:
        if not rows:
            return Result(plan.function_code, rows_affected=[])
        deadline = self.engine.lock_deadline()
        while True:
            try:
                counts = self._attempt(plan, rows)
                return Result(plan.function_code, rows_affected=counts)
            except duckdb.Error as exc:
                self._undo()
                if not is_conflict(exc):
                    error = from_duckdb(exc)
                    error.rows_affected = self._failing_row(plan, rows)
                    raise error from exc
                # HANA waits for the row's lock; so wait until some transaction has ended, then try again.
                if not self.engine.wait_for_ending(deadline):
                    self.rollback()
                    raise HanaError(131, "transaction rolled back by lock wait timeout") from exc
            except BaseException:
                self._undo()
                raise

    def _failing_row(self, plan: Plan, rows: list[list[Any]]) -> list[int] | None:
        """Which row of a batch was wrong, found by trying them one after the other; nothing is kept of it."""
        if len(rows) == 1:
            return None
        if len(rows) > _SEARCHED:
            return [-3] * len(rows)
        self.transaction.begin()
        failing = len(rows)
        try:
            for failing, row in enumerate(rows):  # noqa: B007
                self._single(plan, row, Environment(self.engine.catalog, self.state))
        except (duckdb.Error, HanaError):
            return [-3 if index == failing else 0 for index in range(len(rows))]
        finally:
            self._undo()
        return [-3] * len(rows)

    def _single(self, plan: Plan, row: list[Any], environment: Environment) -> tuple[list[int], list[Effect]]:
        values = {f"p{index}": inputs.for_duckdb(value) for index, value in enumerate(row)}
        run = Run(self, plan.fresh_parameters(), values, compiled=plan.compiled)
        return self._run(run, plan.statement, environment)

    def _attempt(self, plan: Plan, rows: list[list[Any]]) -> list[int]:
        self.transaction.begin()
        self.transaction.prepare_for_failure()
        environment = Environment(self.engine.catalog, self.state)
        parameters = plan.fresh_parameters()
        if len(rows) > 1 and plan.bulk:
            counts, effects = self._bulk(plan, parameters, rows, environment)
        else:
            counts, effects = [], []
            for row in rows:
                done, new = self._single(plan, row, environment)
                counts += done
                effects += new
        self.transaction.record(*effects)
        return counts

    def _bulk(
        self, plan: Plan, parameters: Parameters, rows: list[list[Any]], environment: Environment
    ) -> tuple[list[int], list[Effect]]:
        parameters.rows = "p"
        first = self.engine.reserve_rids(len(rows))
        # Named, because DuckDB reads its memory until the statement has ended.
        table = batch_table(parameters, rows, first)
        self.connection.register("batch_rows", table)
        self._batch = table
        run = Run(self, parameters, {}, len(rows), True, first, plan.compiled)
        done = self._run(run, plan.statement, environment)
        self._release_batch()
        return done

    def _release_batch(self) -> None:
        # Not while a transaction is aborted: DuckDB refuses even this then.
        if self._batch is not None:
            self.connection.unregister("batch_rows")
            self._batch = None

    @staticmethod
    def _run(run: Run, statement: syntax.Statement, environment: Environment) -> tuple[list[int], list[Effect]]:
        if isinstance(statement, syntax.Insert):
            return (
                run_upsert(run, statement, environment)
                if statement.upsert
                else run_insert(run, statement, environment)
            )
        if isinstance(statement, syntax.Update):
            return run_update(run, statement, environment)
        if isinstance(statement, syntax.Delete):
            return run_delete(run, statement, environment)
        assert isinstance(statement, syntax.Merge)
        return run_merge(run, statement, environment)

    def check_foreign_keys(self, table: TableInfo, condition: str, rids: list[int] | None = None) -> None:
        """See `constraints.check_foreign_keys`."""
        constraints.check_foreign_keys(self, table, condition, rids)

    def cascade(self, table: TableInfo) -> list[Effect]:
        """See `constraints.cascade`."""
        return constraints.cascade(self, table)

    def ensure_temporary(self, table: TableInfo) -> None:
        """Make this connection's part of a global temporary table on first use."""
        if table.temporary == "GLOBAL" and table.physical not in self.state.global_temporary:
            create_physical(self.connection, table, Environment(self.engine.catalog, self.state))
            self.state.global_temporary.add(table.physical)

    def _cleared_on_commit(self) -> Iterator[TableInfo]:
        for table in (*self.engine.catalog.tables(), *self.state.temporary.values()):
            if table.on_commit_delete and (
                table.temporary == "LOCAL" or table.physical in self.state.global_temporary
            ):
                yield table

    # --- everything else ---
    def _other(self, statement: syntax.Statement) -> Result:
        if isinstance(statement, syntax.SetSchema):
            known = self.engine.catalog.schema(statement.name)
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
        elif isinstance(statement, syntax.LockTable):
            raise unsupported("LOCK TABLE")
        elif not isinstance(statement, syntax.SetNothing):
            return self._ddl(statement)
        return Result(FunctionCode.DDL)

    def _ddl(self, statement: syntax.Statement) -> Result:
        self.commit()
        with self.engine.ddl_lock:
            runner = DdlRunner(self)
            self.transaction.begin()
            rows = 0
            try:
                if isinstance(statement, _USER_STATEMENTS):
                    change: Change = run_user_statement(self, statement)
                elif isinstance(statement, syntax.Drop) and statement.kind == "USER":
                    change = drop_user(self, statement)
                else:
                    rows = runner.run(statement)
                    change = runner.change
                self.engine.catalog.store(self.connection, change)
                self.transaction.commit()
            except duckdb.Error as exc:
                self.transaction.rollback()
                raise from_duckdb(exc) from exc
            except BaseException:
                self.transaction.rollback()
                raise
            finally:
                self.engine.transaction_ended()
            self.engine.catalog.apply(change)
            for action in runner.after:
                action()
        return Result(FunctionCode.DDL, rows_affected=[rows] if rows else [])


def _rows(
    first: list[tuple[Any, ...]], opened: _Open, outputs: list[tuple[int, Callable[[Any], Any]]]
) -> Iterator[Sequence[Value]]:
    def chunks() -> Iterator[list[tuple[Any, ...]]]:
        yield first
        while opened.rest is None or opened.buffered:
            if opened.buffered:
                yield opened.buffered.pop(0)
                continue
            try:
                rows = opened.fetch(_CHUNK)
            except duckdb.Error as exc:
                raise from_duckdb(exc) from exc
            if not rows:
                opened.rest = []
                return
            yield rows

    try:
        for chunk in chunks():
            if not outputs:
                yield from chunk
                continue
            for row in chunk:
                changed = list(row)
                for index, convert in outputs:
                    changed[index] = convert(changed[index])
                yield changed
    finally:
        # Whoever stops reading does not want the rest: it must not be drained for them.
        opened.rest = []
        opened.buffered.clear()


__all__ = ["DuckDBSession", "no_privilege"]
