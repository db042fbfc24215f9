"""Prepare a statement: parse it, translate it, find the types of its parameters and columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import duckdb
from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import TableInfo
from hana_ai.api.local.hana.engine import inputs
from hana_ai.api.local.hana.engine.dml import compile_delete, compile_insert, compile_update
from hana_ai.api.local.hana.engine.merge import compile_merge
from hana_ai.api.local.hana.engine.upsert import compile_upsert
from hana_ai.api.local.hana.engine.work import Program
from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.interface import Column, FunctionCode, Parameter, SqlType, TypeCode, Value
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.language.statements import parse
from hana_ai.api.local.hana.translation.binding import name_of
from hana_ai.api.local.hana.translation.fragments import Sql
from hana_ai.api.local.hana.translation.queries import Binder
from hana_ai.api.local.hana.translation.scope import BoundQuery, Parameters

BATCH = "p"
"""The alias under which generated SQL reads the rows of a batch."""


@dataclass(slots=True)
class CompiledQuery:
    """A query as DuckDB runs it."""

    sql: Sql
    parameters: Parameters
    outputs: list[tuple[int, Callable[[Value], Value]]]
    """Columns whose values need a conversion, and which."""
    uses_sequence: bool = False
    lock: CompiledChange | None = None
    """The change that takes the row locks of FOR UPDATE."""
    parsed: duckdb.Statement | None = None
    """DuckDB's parse of the query, kept from the second execution on."""
    executions: int = 0


@dataclass(frozen=True, slots=True)
class CompiledChange:
    """A change as DuckDB runs it."""

    program: Program
    parameters: Parameters
    table: int
    """The object id of what is changed."""


@dataclass(slots=True)
class Plan:
    """See `interface.Prepared`."""

    sql: str
    statement: syntax.Statement
    function_code: FunctionCode
    made_for: tuple[object, ...]
    """Versions of the catalog and the session that the plan is valid for."""
    bound: Parameters
    """The parameters with the types found for them."""
    parameters: tuple[Parameter, ...] = ()
    columns: tuple[Column, ...] | None = None
    converters: list[Callable[[Value], object]] = field(default_factory=list)
    vectors: dict[int, int] = field(default_factory=dict)
    """Parameters that are vectors of 32-bit floats: their place, and the dimension, 0 where it is any."""
    temporary: list[TableInfo] = field(default_factory=list)
    """The global temporary tables that the statement reads or writes."""
    query: CompiledQuery | None = None
    script: object | None = None
    """The program of a block or a CALL."""
    change: CompiledChange | None = None
    batch: CompiledChange | None = None
    """The change for many parameter rows as one statement, compiled when it is first needed."""

    @property
    def is_recorded(self) -> bool:
        """Whether the statement is one of those in M_SQL_PLAN_CACHE: a query, a change or a call."""
        return self.query is not None or self.change is not None or self.script is not None

    @property
    def bulk(self) -> bool:
        """Whether many parameter rows can run as one statement."""
        statement = self.statement
        return isinstance(statement, syntax.Insert) and statement.values is not None and statement.where is None


Change = syntax.Insert | syntax.Update | syntax.Delete | syntax.Merge

_CHANGES: dict[type[syntax.Statement], FunctionCode] = {
    syntax.Insert: FunctionCode.INSERT,
    syntax.Update: FunctionCode.UPDATE,
    syntax.Delete: FunctionCode.DELETE,
    syntax.Merge: FunctionCode.UPDATE,
}


def make_plan(environment: Environment, sql: str, made_for: tuple[object, ...]) -> Plan:
    """Parse and translate a statement.

    Raises
    ------
    HanaError
        257 for wrong syntax, 7 for what is refused, 258 without the privilege, 259 and 260 for unknown names.
    """
    statement, marks = parse(sql)
    code = _CHANGES.get(type(statement), FunctionCode.DDL)
    plan = Plan(sql, statement, code, made_for, Parameters(marks))
    if isinstance(statement, syntax.Query):
        _plan_query(plan, statement, environment)
    elif isinstance(statement, Change):
        # The first translation finds the types of the parameters, which the second one needs to know.
        compile_change(statement, environment, plan.bound)
        finish_parameters(plan)
        plan.change = compiled_change(statement, environment, plan.bound.typed())
    else:
        finish_parameters(plan)
    plan.temporary = [
        table
        for schema, name in dict.fromkeys(environment.depends)
        if (table := environment.catalog.table(schema, name)) is not None and table.temporary == "GLOBAL"
    ]
    return plan


def batch_change(plan: Plan, environment: Environment) -> CompiledChange:
    """The plan's change for many parameter rows at once."""
    if plan.batch is None:
        assert isinstance(plan.statement, Change)
        plan.batch = compiled_change(plan.statement, environment, plan.bound.typed(BATCH))
    return plan.batch


def compiled_change(statement: Change, environment: Environment, parameters: Parameters) -> CompiledChange:
    """Translate a change for parameters whose types are known."""
    program = compile_change(statement, environment, parameters)
    name: syntax.Name = statement.table
    found = environment.table(name.schema, name.name, name.position)
    assert isinstance(found, TableInfo)
    return CompiledChange(program, parameters, found.oid)


def compile_change(statement: Change, environment: Environment, parameters: Parameters) -> Program:
    """Translate INSERT, UPSERT, UPDATE, DELETE or MERGE."""
    match statement:
        case syntax.Insert():
            compile_rows = compile_upsert if statement.upsert else compile_insert
            return compile_rows(statement, environment, parameters)
        case syntax.Update():
            return compile_update(statement, environment, parameters)
        case syntax.Delete():
            return compile_delete(statement, environment, parameters)
        case syntax.Merge():
            return compile_merge(statement, environment, parameters)


def _plan_query(plan: Plan, statement: syntax.Query, environment: Environment) -> None:
    binder = Binder(environment, plan.bound)
    query = binder.top_query(statement.query)
    columns = result_columns(query)
    plan.columns = tuple(columns)
    outputs = inputs.output_converters([column.type for column in columns])
    plan.query = CompiledQuery(query.sql, plan.bound, outputs, binder.uses_sequence)
    plan.function_code = FunctionCode.SELECT
    finish_parameters(plan)
    if statement.for_update:
        plan.function_code = FunctionCode.SELECT_FOR_UPDATE
        plan.query.lock = compiled_change(_locking(statement.query), environment, plan.bound.typed())


def result_columns(query: BoundQuery) -> list[Column]:
    """The columns as the client gets them."""
    found = []
    for out in query.columns:
        home, table = out.origin or (None, None)
        found.append(Column(out.name, out.type or types.nvarchar(), out.nullable, table, home))
    return found


def _locking(query: exp.Expr) -> syntax.Update:
    """An UPDATE that changes nothing, for the rows of a simple query."""
    source = query.args.get("from_")
    table = source.this if source is not None else None
    simple = isinstance(query, exp.Select) and not query.args.get("joins")
    if not simple or any(query.args.get(key) for key in ("group", "distinct", "limit")):
        table = None
    if not isinstance(table, exp.Table):
        raise unsupported("FOR UPDATE of anything but one table")
    alias, where = table.args.get("alias"), query.args.get("where")
    return syntax.Update(
        syntax.Name(name_of(table.this), name_of(table.args["db"]) if table.args.get("db") else None),
        name_of(alias.this) if alias is not None else None,
        [],
        None,
        where.this if where is not None else None,
    )


def finish_parameters(plan: Plan) -> None:
    """Say what the parameters are; those without a type are texts."""
    bound = plan.bound
    kinds: list[SqlType] = [kind or types.nvarchar() for kind in bound.types]
    bound.types = list(kinds)
    plan.parameters = tuple(Parameter(kind) for kind in kinds)
    plan.vectors = {index: kind.length for index, kind in enumerate(kinds) if kind.code == TypeCode.REAL_VECTOR}
    plan.converters = [inputs.converter(kind, bound.vectors.get(index)) for index, kind in enumerate(kinds)]
