"""Functions and procedures as programs, and CREATE and DROP for them."""

from __future__ import annotations

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import ColumnInfo, ParameterInfo, RoutineInfo, key_of
from hana_ai.api.local.hana.engine.ddl_context import Ddl
from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.interface import HanaError, SqlType
from hana_ai.api.local.hana.language import script_syntax as script
from hana_ai.api.local.hana.language import syntax as ast
from hana_ai.api.local.hana.language.statements import parse
from hana_ai.api.local.hana.script.compiler import Compiler, empty_rows
from hana_ai.api.local.hana.script.program import Program, Slot
from hana_ai.api.local.hana.script.statements import compile_statement
from hana_ai.api.local.hana.translation.conversions import assign
from hana_ai.api.local.hana.translation.queries import Binder
from hana_ai.api.local.hana.translation.scope import Parameters, Scope

FUNCTION_RESULT = "_SYS_RESULT"
"""What holds the value of RETURN in a function whose result has no name."""


def compile_routine(routine: RoutineInfo, environment: Environment) -> Program:
    """Compile a function or procedure.

    Raises
    ------
    HanaError
        What is wrong with its text, or with the objects that it names.
    """
    statement, _ = parse(routine.definition)
    assert isinstance(statement, script.CreateRoutine)
    inside = environment.inside_routine(routine)
    label = f'"{routine.schema}"."{routine.name}"'
    is_function = routine.kind == "FUNCTION"
    result = routine.returns[0] if is_function and len(routine.returns) == 1 else None
    writes = not (is_function or routine.reads_only)
    compiler = Compiler(
        inside, routine.definition, label, compile_statement, writes=writes, result=result, is_function=is_function
    )
    place = statement.body[0].place if statement.body else script.Place(1, 1, 1)
    program = Program(label, place)
    for parameter in routine.parameters:
        slot = _slot(compiler, parameter)
        (program.inputs if parameter.mode != "OUT" else program.outputs).append(slot)
        if parameter.mode == "INOUT":
            program.outputs.append(slot)
    for item in routine.returns:
        if item.type is not None:
            program.outputs.append(_slot(compiler, item))
    program.gives_rows = result is not None and result.type is None
    program.steps = compiler.body(statement.body)
    program.empty.update(compiler.empty)
    program.reads_tables = bool(inside.depends)
    return program


def _slot(compiler: Compiler, parameter: ParameterInfo) -> Slot:
    if parameter.type is not None:
        return Slot(parameter.name, compiler.declare_scalar(parameter.name, parameter.type).physical)
    shape = compiler.declare_table(parameter.name, [(item.name, item.type) for item in parameter.columns])
    if parameter.mode == "OUT":
        compiler.empty[shape.sql] = empty_rows(shape)
    return Slot(parameter.name, shape.sql, True)


def create_routine(ddl: Ddl, statement: script.CreateRoutine) -> None:
    """CREATE [OR REPLACE] FUNCTION and PROCEDURE."""
    schema, name = ddl.home(statement.name), statement.name.name
    existing = ddl.catalog.routine(schema, name)
    if existing is not None and not (statement.replace and existing.kind == statement.kind):
        raise HanaError(329, f"duplicate function or procedure name: {name}", statement.name.position)
    returns = [_parameter(ddl, item, item.name or FUNCTION_RESULT) for item in statement.returns]
    if len(returns) > 1 and any(item.type is None for item in returns):
        raise unsupported("several results of a function with a table among them", statement.name.position)
    routine = RoutineInfo(
        schema, name, ddl.catalog.new_oid(), statement.kind, statement.sql, ddl.environment.user,
        ddl.environment.schema, [_parameter(ddl, item, item.name) for item in statement.parameters], returns,
        statement.invoker, statement.reads_only, statement.deterministic,
    )  # fmt: skip
    names = [item.name for item in (*routine.parameters, *routine.returns)]
    duplicate = next((item for item in names if names.count(item) > 1), None)
    if duplicate is not None:
        raise HanaError(1284, f"duplicate parameters are not allowed: {duplicate}", statement.name.position)
    compile_routine(routine, ddl.environment)
    ddl.change.put.append(routine)


def _parameter(ddl: Ddl, item: script.ParameterDef, name: str) -> ParameterInfo:
    columns = [ColumnInfo(column, kind) for column, kind in item.type.columns]
    default = _default(ddl.environment, item.default, item.type.scalar, name)
    return ParameterInfo(name, item.mode, item.type.scalar, columns, default)


def _default(environment: Environment, node: exp.Expr | None, kind: SqlType | None, name: str) -> str | None:
    if node is None:
        return None
    binder = Binder(environment, Parameters({}))
    value = assign(binder, binder.bind(node, Scope()), kind or types.NVARCHAR, name).sql
    if kind is None or value.names:
        raise unsupported(f"the default of the parameter {name}")
    return value.text


def drop_routine(ddl: Ddl, statement: ast.Drop) -> None:
    """DROP FUNCTION and PROCEDURE."""
    name = statement.name
    found = ddl.catalog.routine(name.schema or ddl.environment.schema, name.name)
    if found is None or found.kind != statement.kind:
        if statement.if_exists:
            return
        raise HanaError(328, f"invalid name of function or procedure: {name.name}", name.position)
    ddl.require("DROP", found.schema, found.name)
    ddl.change.drop.append(key_of(found))
