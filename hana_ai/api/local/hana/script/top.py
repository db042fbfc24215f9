"""Anonymous blocks and CALL as statements of their own."""

from __future__ import annotations

from sqlglot import exp

from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import ParameterInfo
from hana_ai.api.local.hana.engine.planning import Plan, compiled_change, finish_parameters
from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.interface import FunctionCode, HanaError, Parameter
from hana_ai.api.local.hana.language import nodes
from hana_ai.api.local.hana.language import script_syntax as script
from hana_ai.api.local.hana.language import syntax as ast
from hana_ai.api.local.hana.script.arguments import procedure
from hana_ai.api.local.hana.script.compiler import Compiler, empty_rows
from hana_ai.api.local.hana.script.program import Program, Slot, TopProgram
from hana_ai.api.local.hana.script.running import Expression
from hana_ai.api.local.hana.script.statements import compile_statement
from hana_ai.api.local.hana.script.steps import ABSENT, CallProcedure, ShowRows
from hana_ai.api.local.hana.translation.conversions import assign
from hana_ai.api.local.hana.translation.fragments import Sql, compose
from hana_ai.api.local.hana.translation.queries import Binder
from hana_ai.api.local.hana.translation.routines import argument, by_parameter, new_table
from hana_ai.api.local.hana.translation.scope import Parameters, RoutineCall, Scope, TableShape


def compile_top(plan: Plan, environment: Environment) -> TopProgram:
    """Compile the block or the call of a plan, and say what its parameters are.

    Raises
    ------
    HanaError
        What is wrong, with its place in the block.
    """
    statement = plan.statement
    plan.function_code = FunctionCode.CALL
    if isinstance(statement, script.Block):
        top = _Block(plan, environment).compile(statement)
    else:
        assert isinstance(statement, script.Call)
        top = _Call(plan, environment).compile(statement)
    finish_parameters(plan)
    plan.parameters = top.parameters
    plan.columns = None
    return top


def _show_all(compiler: Compiler, name: str) -> ShowRows:
    query = exp.select("*").from_(nodes.TableVariable(this=name))
    return compiler.show(script.Place(1, 1, 1), query)


class _Top:
    """What blocks and calls have in common."""

    def __init__(self, plan: Plan, environment: Environment) -> None:
        self.plan = plan
        self.environment = environment
        self.top = TopProgram(Program("", script.Place(1, 1, 1)))
        self.modes: dict[str, tuple[str, ParameterInfo]] = {}
        """The `?` that are bound to a parameter, by their place in the text."""

    def note_marks(self, bound: list[tuple[str, ParameterInfo, exp.Expr | None]]) -> None:
        """Say which `?` the client gives a value for; those of OUT parameters it only reads."""
        for mode, parameter, node in bound:
            if isinstance(node, exp.Placeholder):
                self.modes[str(node.this)] = (mode, parameter)
        inputs = [mark for mark in self.plan.bound.positions if self.modes.get(mark, ("IN",))[0] != "OUT"]
        self.plan.bound = Parameters({mark: index for index, mark in enumerate(inputs)})

    def binder(self) -> Binder:
        """A binder for what parameters are bound to."""
        return Binder(self.environment, self.plan.bound)

    def finish(self) -> TopProgram:
        """Say what the client sends and reads."""
        found = []
        kinds = iter(self.plan.bound.types)
        for mark in sorted({*self.modes, *self.plan.bound.positions}, key=int):
            mode, parameter = self.modes.get(mark, ("IN", None))
            kind = next(kinds) if mode != "OUT" else None
            if parameter is not None and parameter.type is None:
                continue
            shown = parameter.type if parameter is not None and parameter.type is not None else kind
            if shown is None:
                raise HanaError(1281, "wrong number or types of parameters in call")
            found.append(Parameter(shown, True, mode, parameter.name if parameter is not None else None))
        self.top.parameters = tuple(found)
        return self.top


class _Block(_Top):
    """DO (parameters) BEGIN ... END."""

    def compile(self, statement: script.Block) -> TopProgram:
        """See `compile_top`."""
        compiler = Compiler(self.environment, self.plan.sql, "", compile_statement)
        parameters = [ParameterInfo(item.name, item.mode, item.type.scalar) for item in statement.parameters]
        arguments = [
            item.argument if isinstance(item.argument, exp.Expr) else None for item in statement.parameters
        ]
        self.note_marks([(item.mode, item, node) for item, node in zip(parameters, arguments, strict=True)])
        writers: list[ast.Insert] = []
        shown: list[str] = []
        for item, info, node in zip(statement.parameters, parameters, arguments, strict=True):
            if info.type is None:
                writers += self._table(compiler, item, shown)
                continue
            slot = Slot(item.name, compiler.declare_scalar(item.name, info.type).physical)
            if item.mode != "OUT":
                assert node is not None
                binder = self.binder()
                value = assign(binder, binder.bind(node, Scope()), info.type, item.name).sql
                self.top.given.append((slot, Expression(compose("SELECT {}", value), self.plan.bound)))
            if item.mode != "IN":
                if not isinstance(node, exp.Placeholder):
                    raise HanaError(1282, f"output parameter is not a variable: {item.name}")
                self.top.outputs.append(slot)
        self.top.program.steps = compiler.body(statement.body)
        self.top.program.empty = compiler.empty
        self.top.shown = [_show_all(compiler, name) for name in shown]
        for insert in writers:
            binder = compiler.binder()
            self.top.written.append(compiled_change(insert, self.environment, binder.parameters))
        return self.finish()

    def _table(self, compiler: Compiler, item: script.ParameterDef, shown: list[str]) -> list[ast.Insert]:
        shape = compiler.declare_table(item.name, item.type.columns)
        slot = Slot(item.name, shape.sql, True)
        if item.mode == "OUT":
            compiler.empty[shape.sql] = empty_rows(shape)
            if isinstance(item.argument, exp.Placeholder):
                shown.append(item.name)
                return []
            assert isinstance(item.argument, ast.Name)
            rows = exp.select("*").from_(nodes.TableVariable(this=item.name))
            return [ast.Insert(item.argument, [], query=rows)]
        if item.mode != "IN" or not isinstance(item.argument, ast.Name):
            raise unsupported(f"the table parameter {item.name} of this mode")
        name = item.argument
        table = exp.Table(
            this=exp.to_identifier(name.name, quoted=True),
            db=exp.to_identifier(name.schema, quoted=True) if name.schema else None,
        )
        binder = compiler.binder()
        step = compiler.set_table(
            script.Place(1, 1, 1), item.name, binder, binder.top_query(exp.select("*").from_(table))
        )
        self.top.tables.append((slot, step.query, step.parameters))
        return []


class _Call(_Top):
    """CALL procedure(arguments)."""

    def compile(self, statement: script.Call) -> TopProgram:
        """See `compile_top`."""
        binder = self.binder()
        routine = procedure(binder, statement.name)
        given = by_parameter(routine, statement.arguments)
        self.note_marks([(item.mode, item, given.get(item.name)) for item in routine.parameters])
        binder = self.binder()
        compiler = Compiler(self.environment, self.plan.sql, "", compile_statement)
        step = CallProcedure(script.Place(1, 1, 1), RoutineCall(routine, [], ""), [])
        for number, item in enumerate(routine.parameters):
            node = given.get(item.name)
            physical = f"a{number}"
            if item.type is None:
                table = new_table()
                step.arguments.append(table)
                if item.mode == "IN":
                    query = argument(binder, routine, item, node, Scope())
                    self.top.tables.append((Slot(item.name, table, True), query, self.plan.bound))
                else:
                    step.outputs[item.name] = table
                    columns = [(column.name, column.type) for column in item.columns]
                    compiler.variables.tables[item.name] = TableShape(table, columns)
                    self.top.shown.append(_show_all(compiler, item.name))
                continue
            if item.mode != "OUT":
                value = argument(binder, routine, item, node, Scope())
                self.top.given.append(
                    (Slot(item.name, physical), Expression(compose("SELECT {}", value), self.plan.bound))
                )
            else:
                self.top.given.append((Slot(item.name, physical), ABSENT))
            step.arguments.append(Expression(Sql(f"SELECT ${physical}", frozenset({physical})), Parameters({})))
            if item.mode != "IN":
                step.outputs[item.name] = physical
                if isinstance(node, exp.Placeholder):
                    self.top.outputs.append(Slot(item.name, physical))
        self.top.program.steps = [step]
        return self.finish()
