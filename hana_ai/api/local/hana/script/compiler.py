"""Compile scripts: every expression and statement is translated once, with the types of the variables it sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import ParameterInfo
from hana_ai.api.local.hana.engine import inputs
from hana_ai.api.local.hana.engine.planning import result_columns
from hana_ai.api.local.hana.interface import HanaError, SqlType
from hana_ai.api.local.hana.language import nodes
from hana_ai.api.local.hana.language import script_syntax as script
from hana_ai.api.local.hana.script import steps
from hana_ai.api.local.hana.script.running import Expression, ScriptError, Step, placed
from hana_ai.api.local.hana.translation.conversions import assign
from hana_ai.api.local.hana.translation.fragments import Sql, cast_to, compose
from hana_ai.api.local.hana.translation.queries import Binder
from hana_ai.api.local.hana.translation.routines import converted, new_table, undeclared
from hana_ai.api.local.hana.translation.scope import (
    BoundQuery,
    Parameters,
    ScalarVariable,
    Scope,
    TableShape,
    Variables,
)

_values = count(1)


def empty_rows(shape: TableShape) -> Sql:
    """A query of no rows of this shape."""
    items = [
        cast_to(Sql("NULL"), types.storage(kind)).text + f" AS c{index}"
        for index, (_, kind) in enumerate(shape.columns, 1)
    ]
    return Sql(f"SELECT {', '.join(items)} WHERE FALSE")


class Compiler:
    """Compiles the statements of one script.

    Parameters
    ----------
    environment : Environment
        Whose names and privileges count.
    text : str
        What the script stands in, to say where an error is.
    label : str
        The name of the routine, empty for an anonymous block.
    compile_statement : callable
        Compiles one statement; `statements.compile_statement`.
    writes : bool
        Whether it may change data.
    result : ParameterInfo, optional
        What a function with one result gives.
    is_function : bool
        Whether it is a function, which shows the client nothing.
    """

    def __init__(
        self,
        environment: Environment,
        text: str,
        label: str,
        compile_statement: Callable[[Compiler, script.ScriptStatement], list[Step]],
        *,
        writes: bool = True,
        result: ParameterInfo | None = None,
        is_function: bool = False,
    ) -> None:
        self.environment = environment
        self.variables = Variables()
        self.empty: dict[str, Sql] = {}
        self._text = text
        self._label = label
        self.writes = writes
        self.result = result
        self.is_function = is_function
        self._compile_statement = compile_statement
        self.loops = 0
        self.conditions = 0

    # --- variables ---
    def declare_scalar(
        self, name: str, kind: SqlType, array: bool = False, constant: bool = False
    ) -> ScalarVariable:
        """A new scalar variable."""
        found = ScalarVariable(f"v{next(_values)}", kind, array, constant)
        self.variables.scalars[name] = found
        return found

    def declare_table(self, name: str, columns: Sequence[tuple[str, SqlType]]) -> TableShape:
        """A new table variable."""
        found = TableShape(new_table(), list(columns))
        self.variables.tables[name] = found
        return found

    def binder(self) -> Binder:
        """A binder for one statement of the script."""
        return Binder(self.environment, Parameters({}, variables=self.variables))

    def expression(self, node: exp.Expr, kind: SqlType | None = None, name: str = "") -> Expression:
        """Compile an expression, converted to a type when one is given."""
        binder = self.binder()
        bound = binder.bind(self._with_variables(node), Scope())
        if kind is not None:
            bound = assign(binder, bound, kind, name)
        return Expression(compose("SELECT {}", bound.sql), binder.parameters)

    def condition(self, node: exp.Expr) -> Expression:
        """Compile a condition; unknown is false."""
        binder = self.binder()
        return Expression(
            compose("SELECT coalesce({}, FALSE)", binder.condition(self._with_variables(node), Scope())),
            binder.parameters,
        )

    def _with_variables(self, node: exp.Expr) -> exp.Expr:
        """An expression whose bare names of variables are variables: outside a query there are no columns."""

        def variable(part: exp.Expr) -> exp.Expr:
            if not isinstance(part, exp.Column) or part.args.get("table") or part.find_ancestor(exp.Query):
                return part
            identifier = part.this
            name = str(identifier.this) if identifier.args.get("quoted") else str(identifier.this).upper()
            return nodes.ScriptVariable(this=name) if name in self.variables.scalars else part

        return node.transform(variable, copy=False)

    # --- statements ---
    def body(self, statements: Sequence[script.ScriptStatement]) -> list[Step]:
        """Compile statements in their order.

        Raises
        ------
        ScriptError
            With the place of the statement that is wrong.
        """
        found: list[Step] = []
        for statement in statements:
            try:
                found += self._compile_statement(self, statement)
            except ScriptError:
                raise
            except HanaError as exc:
                place = self._place_of(exc.position) if exc.position else statement.place
                raise placed(exc, place, self._label) from exc
        return found

    def _place_of(self, position: int) -> script.Place:
        before = self._text[: position - 1]
        return script.Place(before.count("\n") + 1, position - 1 - before.rfind("\n"), position)

    def inner(self, statements: Sequence[script.ScriptStatement]) -> list[Step]:
        """Compile a block whose declarations end with it."""
        outside = self.variables
        # A table variable that was not declared belongs to the whole script.
        self.variables = Variables(dict(outside.scalars), outside.tables)
        try:
            return self.body(statements)
        finally:
            self.variables = outside

    def conditional(self, statements: Sequence[script.ScriptStatement]) -> list[Step]:
        """Compile statements that may not run, or not at once."""
        self.conditions += 1
        try:
            return self.inner(statements)
        finally:
            self.conditions -= 1

    def scalar(self, name: str, position: int, index: bool = False) -> ScalarVariable:
        """The variable that a statement writes.

        Raises
        ------
        HanaError
            1287 when it is not declared, 1288 when it cannot be written.
        """
        found = self.variables.scalars.get(name)
        if found is None:
            raise undeclared(name, position)
        if found.constant or found.array != index:
            raise HanaError(1288, f"expression cannot be used as an assignment target: {name}", position)
        return found

    def set_table(self, place: script.Place, name: str, binder: Binder, query: BoundQuery) -> steps.SetTable:
        """Give a table variable the rows of a query; its first query says what its columns are."""
        shape = self.variables.tables.get(name)
        if shape is None:
            wanted = [(column.name, column.type or types.nvarchar()) for column in query.columns]
            rows = converted(binder, query.sql, query.columns, wanted)
            shape = self.declare_table(name, wanted)
            if self.conditions:
                self.empty[shape.sql] = empty_rows(shape)
        else:
            rows = converted(binder, query.sql, query.columns, shape.columns)
        return steps.SetTable(place, shape.sql, rows, binder.parameters)

    def show(self, place: script.Place, query: exp.Expr) -> steps.ShowRows:
        """A query whose rows the client gets."""
        binder = self.binder()
        found = binder.top_query(query)
        columns = result_columns(found)
        outputs = inputs.output_converters([column.type for column in columns])
        return steps.ShowRows(place, Expression(found.sql, binder.parameters), tuple(columns), outputs)
