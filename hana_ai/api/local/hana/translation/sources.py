"""FROM: tables, views, subqueries, functions that give rows, and joins."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.objects import TableInfo, ViewInfo
from hana_ai.api.local.hana.errors import syntax, unsupported
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import nodes
from hana_ai.api.local.hana.language.unsupported import REFUSED_FUNCTIONS
from hana_ai.api.local.hana.translation.binding import Binding, name_of, position_of
from hana_ai.api.local.hana.translation.fragments import Sql, compose, joined
from hana_ai.api.local.hana.translation.jsontable import json_table
from hana_ai.api.local.hana.translation.routines import table_call, variable_relation
from hana_ai.api.local.hana.translation.scope import BoundQuery, OutColumn, Relation, Scope
from hana_ai.api.local.hana.translation.system_views import DUMMY, system_view
from hana_ai.api.local.hana.translation.unnest import unnest

Written: TypeAlias = "tuple[str | None, str]"
"""The schema, if it was written, and the name."""


class QueryBinding(Binding, Protocol):
    """What FROM needs besides the translation of expressions."""

    def view_query(self, view: ViewInfo) -> BoundQuery:
        """Translate a view's definition."""

    def ordered(self, node: exp.Expr, query: BoundQuery) -> BoundQuery:
        """Add the ORDER BY, LIMIT and OFFSET that stand behind a query in parentheses."""


def from_clause(binder: QueryBinding, from_node: exp.Expr, joins: list[exp.Expr], scope: Scope) -> Sql:
    """Translate a whole FROM and add its relations to the scope.

    Raises
    ------
    HanaError
        271 when two of them have the same name.
    """
    parts = [source(binder, from_node.this, scope), *(_join(binder, join, scope) for join in joins)]
    names = [(item.name, item.schema) for item in scope.relations if item.name is not None]
    duplicate = next((name for name, schema in names if names.count((name, schema)) > 1), None)
    if duplicate is not None:
        raise HanaError(271, f"duplicate alias: {duplicate}")
    return joined("", parts)


def _join(binder: QueryBinding, join: exp.Expr, scope: Scope) -> Sql:
    if join.args.get("using") or join.args.get("method"):
        raise unsupported("JOIN ... USING and NATURAL JOIN")
    side, kind = str(join.args.get("side") or "").upper(), str(join.args.get("kind") or "").upper()
    before = list(scope.relations)
    joining = source(binder, join.this, scope)
    if side in {"LEFT", "FULL"}:
        for relation in scope.relations[len(before) :]:
            relation.nullable = True
    if side in {"RIGHT", "FULL"}:
        for relation in before:
            relation.nullable = True
    on = join.args.get("on")
    if on is None:
        if side or kind in {"INNER", "OUTER"}:
            raise syntax("end of statement: ON is missing", position_of(join))
        return compose(" CROSS JOIN {}", joining)
    word = f"{side} JOIN" if side else "JOIN"
    return compose(" {} {} ON {}", word, joining, binder.condition(on, scope))


def source(binder: QueryBinding, node: exp.Expr, scope: Scope) -> Sql:
    """Translate one entry of FROM and add its relation to the scope."""
    alias_node = node.args.get("alias")
    name = name_of(alias_node.this) if alias_node is not None and alias_node.this is not None else None
    alias = binder.alias()
    joins = node.args.get("joins") or []
    if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table | exp.Subquery) and name is None:
        parts = [source(binder, node.this, scope), *(_join(binder, join, scope) for join in joins)]
        grouped = node.this.args.get("joins") or joins
        return compose("({})" if grouped else "{}", joined("", parts))
    if isinstance(node, exp.Subquery):
        query = binder.ordered(node, binder.bind_query(node.this, scope.parent))
        scope.relations.append(Relation(alias, renamed(query.columns, alias_node), name))
        found = compose("({}) AS {}", query.sql, alias)
    elif isinstance(node, exp.Table):
        found = _table(binder, node, scope, alias, name)
    elif isinstance(node, nodes.JsonTable):
        found = json_table(binder, node, scope, alias, name)
    elif isinstance(node, nodes.Unnest):
        columns, rows = unnest(binder, node, scope)
        scope.relations.append(Relation(alias, renamed(columns, alias_node), name))
        found = compose("({}) AS {}", rows, alias)
    elif isinstance(node, nodes.TableFunction) and node.args["name"] in SERIES:
        found = _series(binder, node, scope, alias, name)
    elif isinstance(node, nodes.TableFunction | nodes.TableVariable):
        found = _rows_of_script(binder, node, scope, alias, name)
    elif isinstance(node, exp.Lateral):
        query = binder.bind_query(node.this, scope)
        scope.relations.append(Relation(alias, renamed(query.columns, alias_node), name))
        found = compose("LATERAL ({}) AS {}", query.sql, alias)
    else:
        raise syntax(f'"{node.key}"', position_of(node))
    return joined("", [found, *(_join(binder, join, scope) for join in joins)])


def _rows_of_script(binder: Binding, node: exp.Expr, scope: Scope, alias: str, name: str | None) -> Sql:
    """A table variable, or the rows of a user-defined function."""
    if isinstance(node, nodes.TableVariable):
        relation, found = variable_relation(binder, node, alias, name)
    else:
        function = node.args["name"]
        if function in REFUSED_FUNCTIONS:
            raise unsupported(REFUSED_FUNCTIONS[function])
        relation, found = table_call(binder, node, alias, name)
    relation.columns = renamed(relation.columns, node.args.get("alias"))
    scope.relations.append(Relation(alias, relation.columns, relation.name))
    return found


def renamed(columns: list[OutColumn], alias: exp.Expr | None) -> list[OutColumn]:
    """The columns under the names that an alias gives them: ``AS t (a, b)``."""
    names = alias.args.get("columns") if alias is not None else None
    if not names:
        return columns
    if len(names) != len(columns):
        raise HanaError(269 if len(columns) > len(names) else 270, "the number of columns does not match")
    return [
        OutColumn(name_of(name), column.type, column.sql, column.nullable, column.origin)
        for name, column in zip(names, columns, strict=True)
    ]


def _table(binder: QueryBinding, node: exp.Expr, scope: Scope, alias: str, name: str | None) -> Sql:
    identifier = node.this
    if not isinstance(identifier, exp.Identifier):
        raise syntax(f'"{identifier.key}"', position_of(node))
    table = name_of(identifier)
    schema = name_of(node.args["db"]) if node.args.get("db") else None
    cte = scope.cte(table) if schema is None else None
    if cte is not None:
        scope.relations.append(Relation(alias, renamed(cte[1], node.args.get("alias")), name or table))
        return compose("{} AS {}", cte[0], alias)
    found = binder.environment.table(schema, table, position_of(node))
    if isinstance(found, TableInfo):
        binder.environment.check("SELECT", found)
        scope.relations.append(table_relation(found, alias, name, (schema, table)))
        return compose("{} AS {}", found.sql, alias)
    if isinstance(found, ViewInfo):
        relation, rows = _view(binder, found, alias, name, (schema, table))
        scope.relations.append(relation)
        return rows
    columns, rows = system_view(found, binder.environment, _names_in(node))
    scope.relations.append(Relation(alias, columns, name or table, "SYS", one_row=found == DUMMY))
    return compose("({}) AS {}", rows, alias)


def _names_in(table: exp.Expr) -> set[str] | None:
    """The names in the statement, among which are the columns that it takes; None if it may take all."""
    alias = table.args.get("alias")
    if alias is not None and alias.args.get("columns"):
        return None
    names = set()
    for node in table.root().walk():
        if isinstance(node, exp.Identifier):
            names.add(node.name.upper())
        elif _takes_all(node):
            return None
    return names


def _takes_all(node: exp.Expr) -> bool:
    """Whether a part of a statement takes columns that it does not name."""
    if isinstance(node, exp.Join):
        return node.args.get("method") is not None
    return isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count)


def _view(
    binder: QueryBinding, view: ViewInfo, alias: str, name: str | None, written: Written
) -> tuple[Relation, Sql]:
    binder.environment.check("SELECT", view)
    query = binder.view_query(view)
    columns = [
        OutColumn(info.name, info.type, column.sql, column.nullable, (view.schema, view.name))
        for info, column in zip(view.columns, query.columns, strict=True)
    ]
    schema, shown = _shown(view, written)
    return Relation(alias, columns, name or shown, schema), compose("({}) AS {}", query.sql, alias)


def _shown(found: TableInfo | ViewInfo, written: Written) -> Written:
    """The name that may qualify the columns: that of the table or view, or the synonym that stands for it."""
    schema, name = written
    if (schema or found.schema, name) == (found.schema, found.name):
        return found.schema, found.name
    return written


def table_relation(table: TableInfo, alias: str, name: str | None, written: Written) -> Relation:
    """A table as an entry of FROM, with its alias and the name that the statement has for it."""
    columns = [
        OutColumn(column.name, column.type, Sql(column.quoted), column.nullable, (table.schema, table.name))
        for column in table.columns
    ]
    schema, shown = _shown(table, written)
    return Relation(alias, columns, name or shown, schema, row_id=True)


SERIES = {"SERIES_GENERATE_INTEGER": types.INTEGER, "SERIES_GENERATE_BIGINT": types.BIGINT}
"""The functions that generate series, and the types of their values."""


def _series(binder: Binding, node: exp.Expr, scope: Scope, alias: str, name: str | None) -> Sql:
    function = node.args["name"]
    kind = SERIES[function]
    if len(node.expressions) != 3:
        raise HanaError(328, f"invalid name of function or procedure: {function}", position_of(node))
    step, low, high = (binder.coerce(binder.bind(item, Scope()), types.BIGINT).sql for item in node.expressions)
    columns = [
        OutColumn("GENERATED_PERIOD_START", kind, Sql("c1")),
        OutColumn("GENERATED_PERIOD_END", kind, Sql("c2")),
        OutColumn("ELEMENT_NUMBER", types.BIGINT, Sql("c3")),
        OutColumn("FRACTION_OF_MIN_MAX_RANGE", types.DOUBLE, Sql("c4")),
    ]
    scope.relations.append(Relation(alias, columns, name))
    return compose(
        "(SELECT CAST(v AS {0}) AS c1, CAST(v + {1} AS {0}) AS c2, CAST((v - {2}) // {1} + 1 AS BIGINT) AS c3, "
        "CAST({1} AS DOUBLE) / ({3} - {2}) AS c4 FROM range({2}, {3}, {1}) AS t(v)) AS {4}",
        types.storage(kind), step, low, high, alias,
    )  # fmt: skip
