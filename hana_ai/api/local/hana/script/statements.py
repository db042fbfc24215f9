"""How each kind of statement is compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.objects import ParameterInfo
from hana_ai.api.local.hana.engine.planning import Change, compiled_change
from hana_ai.api.local.hana.errors import syntax as wrong_syntax
from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import nodes
from hana_ai.api.local.hana.language import script_syntax as script
from hana_ai.api.local.hana.language import syntax as ast
from hana_ai.api.local.hana.script import steps
from hana_ai.api.local.hana.script.arguments import procedure, target_of
from hana_ai.api.local.hana.script.compiler import Compiler, empty_rows
from hana_ai.api.local.hana.script.running import After, Expression, Step
from hana_ai.api.local.hana.translation.conversions import assign
from hana_ai.api.local.hana.translation.fragments import Sql, cast_to, compose, listed
from hana_ai.api.local.hana.translation.routines import (
    argument,
    by_parameter,
    converted,
    find_routine,
    new_table,
    undeclared,
)
from hana_ai.api.local.hana.translation.routines import shape_columns as columns_of
from hana_ai.api.local.hana.translation.scope import (
    Bound,
    BoundQuery,
    Parameters,
    Relation,
    RoutineCall,
    Scope,
    TableShape,
    Variables,
)


def _declare(compiler: Compiler, statement: script.Declare) -> list[Step]:
    found: list[Step] = []
    for name in statement.names:
        kind = statement.type.scalar
        if kind is None:
            shape = compiler.declare_table(name, statement.type.columns)
            found.append(steps.SetTable(statement.place, shape.sql, empty_rows(shape), Parameters({})))
            continue
        value = None
        if statement.value is not None:
            value = compiler.expression(statement.value, kind, name)
        variable = compiler.declare_scalar(name, kind, statement.type.array, statement.constant)
        found.append(steps.SetScalar(statement.place, variable.physical, value))
    return found


def _assign(compiler: Compiler, statement: script.Assign) -> list[Step]:
    place, value = statement.place, statement.value
    copied = isinstance(value, nodes.ScriptVariable) and str(value.this) in compiler.variables.tables
    if copied and statement.name not in compiler.variables.scalars:
        query = exp.select("*").from_(nodes.TableVariable(this=value.this))
        return _assign_table(compiler, script.AssignTable(place, statement.name, query))
    target = compiler.scalar(statement.name, place.position, statement.index is not None)
    compiled = compiler.expression(value, target.type, statement.name)
    if statement.index is not None:
        index = compiler.expression(statement.index, types.INTEGER)
        return [steps.SetElement(place, target.physical, index, compiled)]
    return [steps.SetScalar(place, target.physical, compiled)]


def _assign_table(compiler: Compiler, statement: script.AssignTable) -> list[Step]:
    if statement.name in compiler.variables.scalars:
        value = exp.Subquery(this=statement.query)
        return _assign(compiler, script.Assign(statement.place, statement.name, value))
    binder = compiler.binder()
    return [compiler.set_table(statement.place, statement.name, binder, binder.top_query(statement.query))]


def _unnest(compiler: Compiler, statement: script.AssignUnnest) -> list[Step]:
    names = statement.columns or [f":{name}" for name in statement.arrays]
    if len(names) != len(statement.arrays):
        raise HanaError(1281, "wrong number or types of parameters in call: UNNEST", statement.place.position)
    items, wanted = [], []
    for index, (array, name) in enumerate(zip(statement.arrays, names, strict=True), 1):
        found = compiler.variables.scalars.get(array)
        if found is None or not found.array:
            raise undeclared(array, statement.place.position)
        value = Sql(f"${found.physical}", frozenset({found.physical}))
        items.append(compose("unnest({}) AS c{}", cast_to(value, f"{types.storage(found.type)}[]"), index))
        wanted.append((name, found.type))
    query = BoundQuery(compose("SELECT {}", listed(items)), columns_of(TableShape("", wanted)))
    return [compiler.set_table(statement.place, statement.name, compiler.binder(), query)]


def _map_merge(compiler: Compiler, statement: script.MapMerge) -> list[Step]:
    binder, name = compiler.binder(), statement.function
    shape = compiler.variables.tables.get(statement.table)
    if shape is None:
        raise undeclared(statement.table, statement.place.position)
    routine = find_routine(binder, "FUNCTION", name.schema, name.name, name.position)
    if len(routine.returns) != 1 or routine.returns[0].type is not None:
        raise HanaError(1313, f"MAP_MERGE needs a table function: {name.name}", name.position)
    if len(statement.arguments) != len(routine.parameters):
        raise HanaError(1281, f"wrong number or types of parameters in call: {name.name}", name.position)
    alias = binder.alias()
    scope = Scope([Relation(alias, columns_of(shape), statement.table)])

    def as_column(node: exp.Expr) -> exp.Expr:
        if isinstance(node, nodes.ScriptVariable) and node.args.get("column"):
            if str(node.this) != statement.table:
                raise HanaError(1309, f"invalid use of table variable: {node.this}", statement.place.position)
            return exp.Column(this=exp.to_identifier(str(node.args["column"]), quoted=True))
        return node

    items = [
        argument(binder, routine, parameter, node.transform(as_column), scope)
        for parameter, node in zip(routine.parameters, statement.arguments, strict=True)
    ]
    rows = compose("SELECT {} FROM {} AS {}", listed(items), shape.sql, alias)
    wanted = [(column.name, column.type) for column in routine.returns[0].columns]
    result = TableShape("", wanted)
    empty = compiler.set_table(
        statement.place, statement.name, compiler.binder(), BoundQuery(empty_rows(result), columns_of(result))
    )
    call = RoutineCall(routine, [], "")
    return [steps.MergeCalls(statement.place, empty.table, empty.query, rows, binder.parameters, call)]


def _select_into(compiler: Compiler, statement: script.SelectInto) -> list[Step]:
    place = statement.place
    targets = [compiler.scalar(name, place.position) for name in statement.names]
    binder = compiler.binder()
    query = binder.top_query(statement.query)
    if len(query.columns) != len(targets):
        raise HanaError(1297, "wrong number of values in the INTO list", place.position)
    alias = binder.alias()
    items = []
    for column, target, name in zip(query.columns, targets, statement.names, strict=True):
        bound = Bound(compose("{}.{}", alias, column.sql), column.type, exact=True)
        items.append(assign(binder, bound, target.type, name).sql)
    rows = compose("SELECT {} FROM ({}) AS {} LIMIT 2", listed(items), query.sql, alias)
    defaults = [
        compiler.expression(node, target.type, name)
        for node, target, name in zip(statement.defaults, targets, statement.names, strict=False)
    ]
    names = [target.physical for target in targets]
    return [steps.ReadInto(place, names, Expression(rows, binder.parameters), defaults)]


def _if(compiler: Compiler, statement: script.If) -> list[Step]:
    branches: list[tuple[Expression, script.Place, Sequence[Step]]] = [
        (compiler.condition(condition), place, compiler.conditional(body))
        for condition, place, body in statement.branches
    ]
    return [steps.Branch(statement.place, branches, compiler.conditional(statement.otherwise))]


def _loop_body(compiler: Compiler, body: Sequence[script.ScriptStatement]) -> list[Step]:
    compiler.loops += 1
    try:
        return compiler.conditional(body)
    finally:
        compiler.loops -= 1


def _while(compiler: Compiler, statement: script.While) -> list[Step]:
    condition = compiler.condition(statement.condition) if statement.condition is not None else None
    return [steps.Repeat(statement.place, condition, _loop_body(compiler, statement.body))]


def _for(compiler: Compiler, statement: script.ForRange) -> list[Step]:
    low = compiler.expression(statement.low, types.BIGINT, statement.name)
    high = compiler.expression(statement.high, types.BIGINT, statement.name)
    outside = compiler.variables
    compiler.variables = Variables(dict(outside.scalars), outside.tables)
    try:
        variable = compiler.declare_scalar(statement.name, types.INTEGER, constant=True)
        body = _loop_body(compiler, statement.body)
    finally:
        compiler.variables = outside
    return [steps.CountLoop(statement.place, variable.physical, low, high, statement.reverse, body)]


def _leave(compiler: Compiler, statement: script.Leave) -> list[Step]:
    if not compiler.loops:
        word = "CONTINUE" if statement.again else "BREAK"
        raise HanaError(1292, f"illegal EXIT statement: {word} outside of a loop", statement.place.position)
    return [steps.GoTo(statement.place, After.AGAIN if statement.again else After.LEAVE)]


def _return(compiler: Compiler, statement: script.Return) -> list[Step]:
    place, result = statement.place, compiler.result
    if statement.value is None and statement.query is None:
        return [steps.GoTo(place, After.RETURN)]
    if result is None:
        raise wrong_syntax('"RETURN" with a value', place.position)
    if result.type is not None:
        if statement.value is None:
            raise HanaError(1306, "return type mismatch: a value is expected", place.position)
        target = compiler.variables.scalars[result.name]
        return [steps.ReturnValue(place, target.physical, compiler.expression(statement.value, result.type))]
    query = statement.query
    if isinstance(statement.value, exp.Subquery):
        query = statement.value.this
    elif isinstance(statement.value, nodes.ScriptVariable):
        query = exp.select("*").from_(nodes.TableVariable(this=statement.value.this))
    if query is None:
        raise HanaError(1306, "return type mismatch: a table is expected", place.position)
    binder = compiler.binder()
    found = binder.top_query(query)
    wanted = [(column.name, column.type) for column in result.columns]
    rows = converted(binder, found.sql, found.columns, wanted, code=1306)
    return [steps.ReturnRows(place, rows, binder.parameters)]


def _nested(compiler: Compiler, statement: script.Nested) -> list[Step]:
    return [steps.Inner(statement.place, compiler.inner(statement.body))]


def _require_writing(compiler: Compiler, what: str, place: script.Place) -> None:
    if not compiler.writes:
        raise HanaError(7, f"feature not supported: {what} in a function or read-only procedure", place.position)


def _sql(compiler: Compiler, statement: script.Sql) -> list[Step]:
    inner, place = statement.statement, statement.place
    if isinstance(inner, ast.Query):
        if compiler.is_function:
            raise HanaError(7, "feature not supported: a query without INTO in a function", place.position)
        return [compiler.show(place, inner.query)]
    _require_writing(compiler, "changing data", place)
    if isinstance(inner, Change):
        binder = compiler.binder()
        change = compiled_change(inner, compiler.environment, binder.parameters)
        return [steps.RunChange(place, change)]
    if isinstance(inner, ast.EndTransaction | ast.Savepoint | ast.SetIsolation | script.CreateRoutine):
        raise unsupported(f"{type(inner).__name__} in scripts", place.position)
    if isinstance(inner, ast.CreateTable) and inner.query is not None:
        binder = compiler.binder()
        name = f"rows of {place.position}"
        rows = compiler.set_table(place, name, binder, binder.top_query(inner.query))
        inner.query = exp.select("*").from_(nodes.TableVariable(this=name))
        known = Variables(tables={name: compiler.variables.tables.pop(name)})
        return [steps.CreateFromQuery(place, rows, inner, known)]
    return [steps.RunOther(place, inner)]


def _execute(compiler: Compiler, statement: script.Execute) -> list[Step]:
    _require_writing(compiler, "EXECUTE IMMEDIATE", statement.place)
    return [steps.RunText(statement.place, compiler.expression(statement.text, types.NCLOB))]


def _call(compiler: Compiler, statement: script.CallRoutine) -> list[Step]:
    place, binder = statement.place, compiler.binder()
    routine = procedure(binder, statement.name)
    if not routine.reads_only:
        _require_writing(compiler, "a procedure that changes data", place)
    given = by_parameter(routine, statement.arguments)
    step = steps.CallProcedure(place, RoutineCall(routine, [], ""), [])
    for parameter in routine.parameters:
        node = given.get(parameter.name)
        if parameter.type is None:
            table = new_table()
            step.arguments.append(table)
            if parameter.mode == "IN":
                query = argument(binder, routine, parameter, node, Scope())
                step.inputs.append((table, query, binder.parameters))
            elif node is not None:
                step.outputs[parameter.name] = _out_table(compiler, parameter, node)
            continue
        if parameter.mode == "OUT":
            step.arguments.append(steps.ABSENT)
        else:
            if parameter.mode == "INOUT" and isinstance(node, exp.Column):
                node = nodes.ScriptVariable(this=target_of(node))
            value = argument(binder, routine, parameter, node, Scope())
            step.arguments.append(Expression(compose("SELECT {}", value), binder.parameters))
        if parameter.mode != "IN" and node is not None:
            step.outputs[parameter.name] = compiler.scalar(target_of(node), place.position).physical
    return [step]


def _out_table(compiler: Compiler, parameter: ParameterInfo, node: exp.Expr) -> str:
    name = target_of(node)
    shape = compiler.variables.tables.get(name)
    if shape is None:
        shape = compiler.declare_table(name, [(column.name, column.type) for column in parameter.columns])
    return shape.sql


_COMPILERS: dict[type[script.ScriptStatement], Callable[..., list[Step]]] = {
    script.Declare: _declare,
    script.Assign: _assign,
    script.AssignTable: _assign_table,
    script.AssignUnnest: _unnest,
    script.MapMerge: _map_merge,
    script.SelectInto: _select_into,
    script.If: _if,
    script.While: _while,
    script.ForRange: _for,
    script.Leave: _leave,
    script.Return: _return,
    script.Nested: _nested,
    script.Sql: _sql,
    script.CallRoutine: _call,
    script.Execute: _execute,
}


def compile_statement(compiler: Compiler, statement: script.ScriptStatement) -> list[Step]:
    """Compile one statement."""
    compile_one = _COMPILERS.get(type(statement))
    if compile_one is None:
        raise unsupported(type(statement).__name__, statement.place.position)
    return compile_one(compiler, statement)
