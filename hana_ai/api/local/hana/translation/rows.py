"""The rows that a change writes: given values, defaults, generated columns and the row number.

Every table has a hidden column `_rid`, a number that no other row of the database ever has. Defaults, identity
values and generated columns are computed by the statement itself, so that DuckDB's table needs none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import ColumnInfo, TableInfo
from hana_ai.api.local.hana.errors import unknown_column, unsupported
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.language.statements import parse
from hana_ai.api.local.hana.translation.conversions import assign
from hana_ai.api.local.hana.translation.fragments import Sql, compose, listed
from hana_ai.api.local.hana.translation.queries import Binder
from hana_ai.api.local.hana.translation.scope import Bound, OutColumn, Parameters, Relation, Scope

Values = Mapping[str, Sql]
"""The values of columns, by their HANA names."""


def expression_binder(environment: Environment) -> Binder:
    """A binder for an expression of the catalog: a default, a check, a generated column."""
    return Binder(environment, Parameters({}))


def parse_expression(text: str) -> exp.Expr:
    """An expression kept in the catalog."""
    statement, _ = parse(f"SELECT {text} FROM DUMMY")
    assert isinstance(statement, syntax.Query)
    found: exp.Expr = statement.query.expressions[0]
    return found


def table_scope(table: TableInfo) -> Scope:
    """The columns of a table under their bare DuckDB names, as in a CHECK."""
    columns = [
        OutColumn(column.name, column.type, Sql(column.quoted), column.nullable) for column in table.columns
    ]
    return Scope([Relation("", columns, table.name, table.schema)])


def default_value(binder: Binder, column: ColumnInfo) -> Bound:
    """What a column gets when nothing is given for it."""
    if column.default is not None and not (column.identity and column.sequence):
        return assign(binder, binder.bind(parse_expression(column.default), Scope()), column.type, column.name)
    value = f"nextval('{column.sequence}')" if column.identity and column.sequence else "NULL"
    return Bound(Sql(f"CAST({value} AS {types.storage(column.type)})"), column.type, exact=True)


class Target:
    """The table of a change, with what its columns need.

    Parameters
    ----------
    binder : Binder
        Translates the expressions of the statement and of the catalog.
    table : TableInfo
        The table.
    """

    def __init__(self, binder: Binder, table: TableInfo) -> None:
        self.binder = binder
        self.table = table

    def columns(self, names: Sequence[str], count: int | None) -> list[ColumnInfo]:
        """The columns that a statement writes, in its order; `count` is how many values it has.

        Raises
        ------
        HanaError
            260 for an unknown column, 272 for one that is named twice, 1031 for a generated one.
        """
        writable = [column for column in self.table.columns if column.generated is None]
        if not names:
            if count is not None and count == len(writable) - 1:
                without = [column for column in writable if column.identity is None]
                if len(without) == count:
                    writable = without
            return writable
        found: list[ColumnInfo] = []
        for name in names:
            column = self.table.column(name)
            if column is None:
                raise unknown_column(name)
            if column.generated is not None:
                raise HanaError(1031, f"GENERATED ALWAYS column cannot be changed: {name}")
            if column in found:
                raise HanaError(272, f"duplicate column name: {name}")
            found.append(column)
        return found

    def given(
        self, columns: Sequence[ColumnInfo], values: Sequence[exp.Expr], scope: Scope | None = None
    ) -> dict[str, Sql]:
        """The values of a VALUES clause, converted to their columns' types; DEFAULT gives none."""
        if len(columns) != len(values):
            few = len(columns) > len(values)
            raise HanaError(270 if few else 269, "not enough values" if few else "too many values")
        found = {}
        for column, value in zip(columns, values, strict=True):
            if isinstance(value, exp.Var):
                continue
            if column.identity == "ALWAYS":
                raise HanaError(1031, f"GENERATED ALWAYS AS IDENTITY column cannot be inserted: {column.name}")
            found[column.name] = self._assigned(column, self.binder.bind(value, scope or Scope()))
        return found

    def selected(self, columns: Sequence[ColumnInfo], out: Sequence[OutColumn], alias: str) -> dict[str, Sql]:
        """The values that a query gives, converted to their columns' types."""
        if len(columns) != len(out):
            raise HanaError(270 if len(columns) > len(out) else 269, "not enough or too many values")
        found = {}
        for column, one in zip(columns, out, strict=True):
            bound = Bound(compose("{}.{}", alias, one.sql), one.type, one.nullable, exact=one.type is not None)
            found[column.name] = self._assigned(column, bound)
        return found

    def assigned(self, assignments: Sequence[tuple[list[str], exp.Expr]], scope: Scope) -> dict[str, Sql]:
        """The values of a SET clause, converted to their columns' types."""
        found: dict[str, Sql] = {}
        for names, value in assignments:
            columns = self.columns(names, None)
            values = list(value.expressions) if isinstance(value, exp.Tuple) else [value]
            if len(values) != len(columns):
                raise unsupported("SET (...) = (subquery)")
            for column, item in zip(columns, values, strict=True):
                if column.name in found:
                    raise HanaError(272, f"duplicate column name: {column.name}")
                if isinstance(item, exp.Var):
                    found[column.name] = default_value(self.binder, column).sql
                else:
                    found[column.name] = self._assigned(column, self.binder.bind(item, scope))
        return found

    def _assigned(self, column: ColumnInfo, bound: Bound) -> Sql:
        return assign(self.binder, bound, column.type, column.name).sql

    def select(self, given: Values, source: Sql, rid: str | Sql) -> Sql:
        """A SELECT of complete rows: the given columns, defaults, generated columns and the row number."""
        items = [
            compose("{} AS {}", given.get(column.name) or default_value(self.binder, column).sql, column.quoted)
            for column in self.table.columns
            if column.generated is None
        ]
        inner = compose("SELECT {}, {} AS _rid{}", listed(items), rid, source)
        if all(column.generated is None for column in self.table.columns):
            return inner
        return compose("SELECT {}, g._rid FROM ({}) AS g", self.complete("g", self.generated("g")), inner)

    def complete(self, alias: str, values: Values) -> Sql:
        """All columns of `alias`, those in `values` replaced."""
        return listed(
            compose("{} AS {}", values[column.name], column.quoted)
            if column.name in values
            else Sql(f"{alias}.{column.quoted}")
            for column in self.table.columns
        )

    def generated(self, alias: str, replaced: Values | None = None) -> dict[str, Sql]:
        """Generated columns and their expressions over the columns of `alias`, some of them `replaced`."""
        values = replaced or {}
        columns = [
            OutColumn(column.name, column.type, values.get(column.name) or Sql(f"{alias}.{column.quoted}"))
            for column in self.table.columns
            if column.generated is None
        ]
        scope = Scope([Relation("", columns)])
        return {
            column.name: self._assigned(column, self.binder.bind(parse_expression(column.generated), scope))
            for column in self.table.columns
            if column.generated is not None
        }

    def set_clause(self, alias: str, assigned: Values) -> Sql:
        """A SET clause with the given values and the generated columns that follow from them."""
        values = {**assigned, **self.generated(alias, assigned)}
        items = [
            compose("{} = {}", column.quoted, values[column.name])
            for column in self.table.columns
            if column.name in values
        ]
        # SELECT ... FOR UPDATE changes nothing, but holds the row like a change.
        return listed(items) if items else Sql(f"_rid = {alias}._rid")
