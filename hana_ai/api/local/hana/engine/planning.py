"""Prepare a statement: parse it, translate or check it, find the types of its parameters and columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import TableInfo
from hana_ai.api.local.hana.engine import inputs
from hana_ai.api.local.hana.engine.dml import Run, run_delete, run_insert, run_update, run_upsert
from hana_ai.api.local.hana.engine.journal import Effect
from hana_ai.api.local.hana.engine.merge import run_merge
from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.interface import Column, FunctionCode, Parameter, SqlType, TypeCode
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.language.statements import parse
from hana_ai.api.local.hana.translation.expressions import name_of
from hana_ai.api.local.hana.translation.queries import Binder
from hana_ai.api.local.hana.translation.scope import Parameters

if TYPE_CHECKING:
    from hana_ai.api.local.hana.engine.connection import DuckDBSession


@dataclass(slots=True)
class Plan:
    """See `interface.Prepared`."""

    sql: str
    statement: syntax.Statement
    function_code: FunctionCode
    made_for: tuple[object, ...]
    """Versions of the catalog and the session that the plan is valid for."""
    parameters: tuple[Parameter, ...] = ()
    columns: tuple[Column, ...] | None = None
    query_sql: str | None = None
    parameters_bound: Parameters = field(default_factory=lambda: Parameters({}))
    converters: list[Callable[[Any], Any]] = field(default_factory=list)
    vectors: dict[int, int] = field(default_factory=dict)
    """Parameters that are vectors of a fixed dimension: their place, and the dimension."""
    outputs: list[tuple[int, Callable[[Any], Any]]] = field(default_factory=list)
    bulk: bool = False
    """Whether many parameter rows run as one statement."""
    lock: Plan | None = None
    """The change that takes the row locks of FOR UPDATE."""
    temporary: list[TableInfo] = field(default_factory=list)
    uses_sequence: bool = False
    parsed: duckdb.Statement | None = None
    """DuckDB's parse of the query, kept from the second execution on."""
    executions: int = 0
    compiled: dict[str, Any] = field(default_factory=dict)
    """Translated changes, kept between executions."""

    def fresh_parameters(self) -> Parameters:
        """Parameters with known types and no hidden values yet."""
        fresh = Parameters(self.parameters_bound.positions)
        fresh.types = list(self.parameters_bound.types)
        fresh.vectors = dict(self.parameters_bound.vectors)
        return fresh


class _Nothing:
    """Answers every generated statement with nothing: planning binds, it does not run."""

    def execute(self, sql: str, values: object = None) -> _Nothing:
        return self

    def fetchall(self) -> list[Any]:
        return []

    def fetchnumpy(self) -> dict[str, Any]:
        import numpy as np

        return {"_rid": np.zeros(0, dtype=np.int64)}


class _DryEngine:
    reserve = 1

    @staticmethod
    def reserve_rids(count: int) -> int:
        return 0


class _DrySession:
    """Stands in for the session while a change is only checked."""

    def __init__(self, session: DuckDBSession) -> None:
        self.connection = _Nothing()
        self.engine = _DryEngine()
        self.state = _DryState()
        self.real = session

    def named(self, *ignored: object) -> dict[str, object]:
        return {}

    def ensure_temporary(self, table: TableInfo) -> None:
        return None

    def check_foreign_keys(self, table: TableInfo, condition: str, rids: list[int] | None = None) -> None:
        return None

    def cascade(self, table: TableInfo) -> list[Effect]:
        return []


class _DryState:
    last_identity: int | None = None


_CODES: dict[type[syntax.Statement], FunctionCode] = {
    syntax.Insert: FunctionCode.INSERT,
    syntax.Update: FunctionCode.UPDATE,
    syntax.Delete: FunctionCode.DELETE,
    syntax.Merge: FunctionCode.UPDATE,
}


def make_plan(session: DuckDBSession, sql: str, made_for: tuple[object, ...]) -> Plan:
    """Parse and check a statement for this session."""
    statement, marks = parse(sql)
    parameters = Parameters(marks)
    environment = Environment(session.engine.catalog, session.state)
    if isinstance(statement, syntax.Query):
        plan = Plan(sql, statement, FunctionCode.SELECT, made_for, parameters_bound=parameters)
        return _query_plan(session, plan, statement, environment)
    plan = Plan(
        sql, statement, _CODES.get(type(statement), FunctionCode.DDL), made_for, parameters_bound=parameters
    )
    if type(statement) in _CODES:
        _check_change(session, statement, parameters, environment)
        plan.bulk = (
            isinstance(statement, syntax.Insert) and statement.values is not None and statement.where is None
        )
    _finish_parameters(plan)
    return plan


def _check_change(
    session: DuckDBSession, statement: syntax.Statement, parameters: Parameters, environment: Environment
) -> None:
    run = Run(_DrySession(session), parameters, {})  # type: ignore[arg-type]
    if isinstance(statement, syntax.Insert):
        (run_upsert if statement.upsert else run_insert)(run, statement, environment)
    elif isinstance(statement, syntax.Update):
        run_update(run, statement, environment)
    elif isinstance(statement, syntax.Delete):
        run_delete(run, statement, environment)
    elif isinstance(statement, syntax.Merge):
        run_merge(run, statement, environment)


def _query_plan(session: DuckDBSession, plan: Plan, statement: syntax.Query, environment: Environment) -> Plan:
    binder = Binder(environment, plan.parameters_bound)
    query = binder.top_query(statement.query)
    if statement.for_update:
        plan.function_code = FunctionCode.SELECT_FOR_UPDATE
    columns = []
    for out in query.columns:
        home, table = out.origin or (None, None)
        columns.append(Column(out.name, out.type or types.nvarchar(), out.nullable, table, home))
    plan.columns = tuple(columns)
    plan.query_sql = query.sql
    plan.uses_sequence = binder.uses_sequence
    plan.outputs = inputs.output_converters([column.type for column in columns])
    plan.temporary = [
        found
        for schema, name in environment.depends
        if (found := session.engine.catalog.table(schema, name)) is not None and found.temporary == "GLOBAL"
    ]
    _finish_parameters(plan)
    if statement.for_update:
        plan.lock = _lock_plan(plan, statement.query)
    return plan


def _lock_plan(plan: Plan, query: exp.Expr) -> Plan:
    """An UPDATE that changes nothing, for the rows of a simple query."""
    source = query.args.get("from_")
    table = source.this if source is not None else None
    simple = isinstance(query, exp.Select) and isinstance(table, exp.Table) and not query.args.get("joins")
    if not simple or any(query.args.get(key) for key in ("group", "distinct", "limit")):
        raise unsupported("FOR UPDATE of anything but one table")
    assert table is not None
    schema = name_of(table.args["db"]) if table.args.get("db") else None
    alias = table.args.get("alias")
    where = query.args.get("where")
    statement = syntax.Update(
        syntax.Name(name_of(table.this), schema),
        name_of(alias.this) if alias is not None else None,
        [],
        None,
        where.this if where is not None else None,
    )
    locking = Plan(
        plan.sql, statement, FunctionCode.UPDATE, plan.made_for, parameters_bound=plan.fresh_parameters()
    )
    _finish_parameters(locking)
    return locking


def _finish_parameters(plan: Plan) -> None:
    bound = plan.parameters_bound
    kinds: list[SqlType] = [kind or types.nvarchar() for kind in bound.types]
    bound.types = list(kinds)
    plan.parameters = tuple(Parameter(kind) for kind in kinds)
    plan.vectors = {
        index: kind.length for index, kind in enumerate(kinds) if kind.code == TypeCode.REAL_VECTOR and kind.length
    }
    plan.converters = [inputs.converter(kind, bound.vectors.get(index)) for index, kind in enumerate(kinds)]
