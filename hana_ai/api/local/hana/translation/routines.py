"""Variables of scripts and calls of user-defined functions in SQL.

DuckDB cannot run a script, so a statement only says which functions it calls. What does not depend on a row is
called before the statement runs, and its value or its rows are passed in; the rest is called for each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.objects import ParameterInfo, RoutineInfo
from hana_ai.api.local.hana.errors import no_privilege, unsupported
from hana_ai.api.local.hana.interface import HanaError, SqlType
from hana_ai.api.local.hana.language import nodes
from hana_ai.api.local.hana.translation.binding import Binding, NodeHandler, name_of, position_of
from hana_ai.api.local.hana.translation.conversions import assign
from hana_ai.api.local.hana.translation.fragments import Sql, cast_to, compose, listed
from hana_ai.api.local.hana.translation.scope import Bound, OutColumn, Relation, RoutineCall, Scope, TableShape

_numbers = count(1)


def new_table() -> str:
    """A name in DuckDB that no other rows of a script have."""
    return f"temp.main.script_rows_{next(_numbers)}"


def undeclared(name: str, position: int = 0) -> HanaError:
    """1287."""
    return HanaError(1287, f"identifier must be declared: {name}", position)


def _variable(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    names, name = binder.parameters.variables, str(node.this)
    found = names.scalars.get(name) if names is not None else None
    if found is None or node.args.get("column"):
        if names is not None and name in names.tables:
            raise HanaError(1309, f"invalid use of table variable: {name}", position_of(node))
        raise undeclared(name, position_of(node))
    value = Sql(f"${found.physical}", frozenset({found.physical}))
    stored = types.storage(found.type)
    index = node.args.get("index")
    if found.array != (index is not None):
        raise HanaError(1310, f"scalar type is not allowed: {name}", position_of(node))
    if index is not None:
        at = binder.coerce(binder.bind(index, scope), types.INTEGER)
        return Bound(compose("list_extract({}, {})", cast_to(value, f"{stored}[]"), at.sql), found.type)
    return Bound(cast_to(value, stored), found.type, exact=True)


def variable_relation(binder: Binding, node: exp.Expr, alias: str, name: str | None) -> tuple[Relation, Sql]:
    """A table variable as an entry of FROM."""
    names, variable = binder.parameters.variables, str(node.this)
    shape = names.tables.get(variable) if names is not None else None
    if shape is None:
        raise undeclared(variable, position_of(node))
    return Relation(alias, shape_columns(shape), name or variable), compose("{} AS {}", shape.sql, alias)


def shape_columns(shape: TableShape) -> list[OutColumn]:
    """The columns of a table variable; in DuckDB they are called c1, c2 ..."""
    return [OutColumn(name, kind, Sql(f"c{index}")) for index, (name, kind) in enumerate(shape.columns, 1)]


def find_routine(binder: Binding, kind: str, schema: str | None, name: str, position: int) -> RoutineInfo:
    """The routine of this name.

    Raises
    ------
    HanaError
        328 when there is none, 258 without EXECUTE.
    """
    environment = binder.environment
    found = environment.meant(environment.catalog.routine, schema, name)
    if found is None or found.kind != kind:
        raise HanaError(328, f"invalid name of function or procedure: {name}", position)
    if not environment.catalog.allowed(environment.user, "EXECUTE", found.schema, found.name):
        raise no_privilege()
    return found


def scalar_call(binder: Binding, schema: str | None, name: str, node: exp.Expr, scope: Scope) -> Bound:
    """A call of a user-defined function as an expression."""
    position = position_of(node)
    routine = find_routine(binder, "FUNCTION", schema, name, position)
    if len(routine.returns) != 1 or routine.returns[0].type is None:
        raise unsupported(f"{name}, which gives a table or several values, in an expression", position)
    kind = routine.returns[0].type
    each = binder.parameters.rows is not None
    if not each:
        try:
            arguments = _arguments(binder, routine, list(node.expressions), Scope())
        except HanaError as exc:
            if exc.code != 260:
                raise
            each = True
    if each:
        arguments = _arguments(binder, routine, list(node.expressions), scope)
    call = RoutineCall(routine, arguments, f"f{next(_numbers)}", each=each)
    binder.parameters.calls.append(call)
    value = Sql(f"${call.name}", frozenset({call.name}))
    if each:
        texts = listed(cast_to(item, "VARCHAR") for item in arguments)
        value = compose("hana_routine(CAST({} AS BIGINT), CAST([{}] AS VARCHAR[]))", value, texts)
    return Bound(cast_to(value, types.storage(kind)), kind, exact=True)


def table_call(binder: Binding, node: exp.Expr, alias: str, name: str | None) -> tuple[Relation, Sql]:
    """A call of a user-defined table function in FROM."""
    function = str(node.args["name"])
    routine = find_routine(binder, "FUNCTION", node.args.get("schema"), function, position_of(node))
    if len(routine.returns) != 1 or routine.returns[0].type is not None:
        raise HanaError(328, f"invalid name of function or procedure: {function}", position_of(node))
    shape = TableShape(new_table(), [(column.name, column.type) for column in routine.returns[0].columns])
    arguments = _arguments(binder, routine, list(node.expressions), Scope())
    binder.parameters.calls.append(RoutineCall(routine, arguments, "", table=shape.sql))
    return Relation(alias, shape_columns(shape), name or function), compose("{} AS {}", shape.sql, alias)


def _arguments(binder: Binding, routine: RoutineInfo, given: list[exp.Expr], scope: Scope) -> list[Sql]:
    named = [
        (node.args["name"], node.this) if isinstance(node, nodes.NamedArgument) else (None, node) for node in given
    ]
    found = by_parameter(routine, named)
    return [argument(binder, routine, item, found.get(item.name), scope) for item in routine.parameters]


def by_parameter(routine: RoutineInfo, arguments: Sequence[tuple[str | None, exp.Expr]]) -> dict[str, exp.Expr]:
    """The arguments of a call by the names of their parameters.

    Raises
    ------
    HanaError
        1281 when they do not fit.
    """
    names = [item.name for item in routine.parameters]
    found: dict[str, exp.Expr] = {}
    for place, (name, node) in enumerate(arguments):
        key = name if name is not None else names[place] if place < len(names) else ""
        if key not in names or key in found:
            raise HanaError(1281, f"wrong number or types of parameters in call: {routine.name}")
        found[key] = node
    missing = [item.name for item in routine.parameters if item.name not in found and item.mode != "OUT"]
    missing = [name for name in missing if routine.parameters[names.index(name)].default is None]
    if missing:
        raise HanaError(
            1281, f"wrong number or types of parameters in call: {routine.name}: {missing[0]} is missing"
        )
    return found


def argument(
    binder: Binding, routine: RoutineInfo, parameter: ParameterInfo, node: exp.Expr | None, scope: Scope
) -> Sql:
    """One argument: an expression, or the query of the rows for a table parameter."""
    if node is None and parameter.default is not None:
        return Sql(parameter.default)
    if node is None:
        raise HanaError(1281, f"wrong number or types of parameters in call: {routine.name}: {parameter.name}")
    if parameter.type is not None:
        return assign(binder, binder.bind(node, scope), parameter.type, parameter.name).sql
    if isinstance(node, nodes.ScriptVariable):
        node = exp.select("*").from_(nodes.TableVariable(this=node.this))
    elif isinstance(node, exp.Column):
        table = exp.Table(this=node.this.copy(), db=node.args["table"].copy() if node.args.get("table") else None)
        node = exp.select("*").from_(table)
    query = binder.bind_query(node, None)
    return converted(binder, query.sql, query.columns, [(item.name, item.type) for item in parameter.columns])


def converted(
    binder: Binding, rows: Sql, columns: list[OutColumn], wanted: list[tuple[str, SqlType]], code: int = 1281
) -> Sql:
    """A query with its columns converted to those of a table type.

    Raises
    ------
    HanaError
        `code` when their number differs.
    """
    if len(columns) != len(wanted):
        text = "return type mismatch" if code == 1306 else "wrong number or types of parameters"
        raise HanaError(code, f"{text}: {len(wanted)} columns expected, {len(columns)} given")
    alias = binder.alias()
    items = []
    for index, (column, (name, kind)) in enumerate(zip(columns, wanted, strict=True), 1):
        bound = Bound(compose("{}.{}", alias, column.sql), column.type, exact=column.type is not None)
        items.append(compose("{} AS c{}", assign(binder, bound, kind, name).sql, index))
    return compose("SELECT {} FROM ({}) AS {}", listed(items), rows, alias)


def _qualified(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    """schema.function(arguments)."""
    call = node.expression
    this = node.this
    if isinstance(this, exp.Column):
        this = this.this
    if not isinstance(call, exp.Anonymous) or not isinstance(this, exp.Identifier):
        raise HanaError(257, "sql syntax error: a name with a point is no value", position_of(node))
    function = call.this
    name = name_of(function) if isinstance(function, exp.Identifier) else str(function).upper()
    return scalar_call(binder, name_of(this), name, call, scope)


NODES: dict[type[exp.Expr], NodeHandler] = {nodes.ScriptVariable: _variable, exp.Dot: _qualified}
