"""Translate HANA queries into DuckDB SQL: FROM, joins, grouping, set operations, common table expressions.

Every relation gets an alias of its own (r1, r2 ...) and every query's columns are called c1, c2 ...; which HANA
name means which of them is kept in the scope. So names that differ only in case, duplicate names and names that
DuckDB reserves need no care in the generated SQL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlglot import exp
from sqlglot.errors import ErrorLevel

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import ColumnInfo, TableInfo, ViewInfo
from hana_ai.api.local.hana.errors import syntax, unknown_table, unsupported
from hana_ai.api.local.hana.interface import HanaError, SqlType
from hana_ai.api.local.hana.language import dialect, nodes
from hana_ai.api.local.hana.language.unsupported import REFUSED_FUNCTIONS
from hana_ai.api.local.hana.translation import functions_aggregate, functions_data, functions_time
from hana_ai.api.local.hana.translation.expressions import ExpressionBinder, direction, name_of, position_of
from hana_ai.api.local.hana.translation.jsontable import json_table
from hana_ai.api.local.hana.translation.scope import (
    AGGREGATE_END,
    Bound,
    BoundQuery,
    OutColumn,
    Parameters,
    Relation,
    Scope,
)
from hana_ai.api.local.hana.translation.system_views import system_view

# Importing them fills the function tables.
_REGISTERED = (functions_aggregate, functions_data, functions_time)


def label_of(node: exp.Expr) -> str:
    """The name HANA gives to an expression without an alias: its text, without quotes and blanks."""
    if isinstance(node, exp.Column):
        name = name_of(node.this)
        if name in {"NEXTVAL", "CURRVAL"} and node.args.get("table"):
            return f"{name_of(node.args['table'])}.{name}"
        return name
    if isinstance(node, exp.Literal):
        return f"'{node.this}'" if node.args.get("is_string") else str(node.this)
    if isinstance(node, exp.Placeholder):
        return "?"
    if isinstance(node, nodes.StringAgg):
        parts = [node.this, node.args.get("separator")]
        return f"STRING_AGG({','.join(label_of(part) for part in parts if part is not None)})"
    if isinstance(node, nodes.TypedCast):
        return f"CAST({label_of(node.this)} AS {types.shown(node.args['to'])})"
    if isinstance(node, nodes.JsonScalar):
        return f"{node.args['name']}({label_of(node.this)},{label_of(node.args['path'])})"
    copied = node.copy()
    for identifier in copied.find_all(exp.Identifier):
        identifier.set("this", name_of(identifier))
        identifier.set("quoted", False)
    for special in list(copied.find_all(exp.Placeholder)):
        special.set("this", None)
    try:
        text = copied.sql(dialect=dialect.Hana, normalize_functions="upper", unsupported_level=ErrorLevel.IGNORE)
    except (ValueError, AttributeError, KeyError):
        # sqlglot cannot write the dialect's own nodes; any name will do for them.
        return type(node).__name__.upper()
    return (
        text.replace(", ", ",")
        .replace(" + ", "+")
        .replace(" - ", "-")
        .replace(" * ", "*")
        .replace(" / ", "/")[:127]
    )


class Binder(ExpressionBinder):
    """Translates one statement.

    Parameters
    ----------
    environment : Environment
        Whose names and privileges count.
    parameters : Parameters
        The statement's `?`, filled with their types while binding.
    """

    def __init__(self, environment: Environment, parameters: Parameters, counter: list[int] | None = None) -> None:
        self.environment = environment
        self.parameters = parameters
        self._counter = counter if counter is not None else [0]
        self.uses_sequence = False
        self._dummy = ""

    def alias(self) -> str:
        """A DuckDB alias that nothing else has."""
        self._counter[0] += 1
        return f"r{self._counter[0]}"

    # --- whole queries ---
    def top_query(self, node: exp.Expr) -> BoundQuery:
        """Translate a query whose rows go to the client; every column gets a type."""
        bound = self.bind_query(node, None)
        for column in bound.columns:
            if column.type is None:
                column.type = types.nvarchar()
        return BoundQuery(bound.sql.replace(AGGREGATE_END, ""), bound.columns)

    def bind_query(self, node: exp.Expr, scope: Scope | None) -> BoundQuery:
        """Translate a query or a subquery in parentheses."""
        outer = Scope(parent=scope)
        with_node = node.args.get("with_")
        prefix = ""
        if with_node is not None:
            prefix = self._with(with_node, outer)
        if isinstance(node, exp.Subquery):
            inner = self.bind_query(node.this, outer)
            if any(node.args.get(key) for key in ("order", "limit", "offset")):
                inner = self._modified(node, inner)
        elif isinstance(node, exp.SetOperation):
            inner = self._set_operation(node, outer)
        elif isinstance(node, exp.Select):
            inner = self._select(node, outer)
        else:
            raise syntax(f'"{node.key}"', position_of(node))
        return BoundQuery(prefix + inner.sql, inner.columns)

    def _with(self, node: exp.Expr, scope: Scope) -> str:
        if node.args.get("recursive"):
            raise unsupported("recursive WITH")
        parts = []
        for cte in node.expressions:
            query = self.bind_query(cte.this, scope)
            alias = cte.args["alias"]
            name = self.alias()
            columns = self._renamed(query.columns, alias)
            scope.ctes[name_of(alias.this)] = (name, columns)
            parts.append(f"{name} AS ({query.sql})")
        return f"WITH {', '.join(parts)} "

    def _renamed(self, columns: list[OutColumn], alias: exp.Expr | None) -> list[OutColumn]:
        names = alias.args.get("columns") if alias is not None else None
        if not names:
            return columns
        if len(names) != len(columns):
            raise HanaError(269 if len(columns) > len(names) else 270, "the number of columns does not match")
        return [
            OutColumn(name_of(name), column.type, column.sql, column.nullable, column.origin)
            for name, column in zip(names, columns, strict=True)
        ]

    def _set_operation(self, node: exp.Expr, scope: Scope) -> BoundQuery:
        # A long UNION ALL leans to the left; walk it in a loop.
        operations: list[exp.Expr] = []
        current = node
        while isinstance(current, exp.SetOperation) and (current is node or not self._has_modifiers(current)):
            operations.append(current)
            current = current.this
        left = self.bind_query(current, scope)
        for operation in reversed(operations):
            right = self.bind_query(operation.expression, scope)
            left = self._combined(operation, left, right)
        return self._modified(node, left)

    @staticmethod
    def _has_modifiers(node: exp.Expr) -> bool:
        return any(node.args.get(key) for key in ("order", "limit", "offset", "with_"))

    def _combined(self, node: exp.Expr, left: BoundQuery, right: BoundQuery) -> BoundQuery:
        if len(left.columns) != len(right.columns):
            raise HanaError(
                270, "not enough values: the queries of a set operation have different numbers of columns"
            )
        word = (
            "UNION" if isinstance(node, exp.Union) else "EXCEPT" if isinstance(node, exp.Except) else "INTERSECT"
        )
        every = " ALL" if not node.args.get("distinct", True) else ""
        kinds = [types.common(a.type, b.type) for a, b in zip(left.columns, right.columns, strict=True)]
        columns = [
            OutColumn(a.name, kind, a.sql, a.nullable or b.nullable)
            for a, b, kind in zip(left.columns, right.columns, kinds, strict=True)
        ]
        sql = f"{self._cast_all(left, kinds)} {word}{every} {self._cast_all(right, kinds)}"
        return BoundQuery(f"SELECT * FROM ({sql}) AS {self.alias()}", columns)

    def _cast_all(self, query: BoundQuery, kinds: list[SqlType | None]) -> str:
        alias = self.alias()
        items = []
        for index, (column, kind) in enumerate(zip(query.columns, kinds, strict=True)):
            bound = Bound(f"{alias}.{column.sql}", column.type, exact=column.type is not None)
            if kind is not None:
                bound = self.coerce(bound, kind)
            items.append(f"{bound.sql} AS c{index + 1}")
        for index, column in enumerate(query.columns):
            column.sql = f"c{index + 1}"
        return f"(SELECT {', '.join(items)} FROM ({query.sql}) AS {alias})"

    def _modified(self, node: exp.Expr, query: BoundQuery) -> BoundQuery:
        """ORDER BY and LIMIT after a set operation or a subquery in parentheses."""
        order, limit = node.args.get("order"), self._limit(node)
        if order is None and not limit:
            return query
        alias = self.alias()
        relation = Relation(alias, query.columns)
        scope = Scope([relation])
        clause = ""
        if order is not None:
            items = []
            for item in order.expressions:
                if isinstance(item.this, exp.Literal) and not item.this.args.get("is_string"):
                    items.append(f"{alias}.{self._ordinal(item.this, query.columns).sql}{direction(item)}")
                else:
                    items.append(f"{self.bind(item.this, scope).sql}{direction(item)}")
            clause = f" ORDER BY {', '.join(items)}"
        return BoundQuery(f"SELECT * FROM ({query.sql}) AS {alias}{clause}{limit}", query.columns)

    @staticmethod
    def _ordinal(node: exp.Expr, columns: list[Any]) -> Any:
        index = int(node.this) if str(node.this).isdigit() else 0
        if not 1 <= index <= len(columns):
            raise HanaError(280, f"ORDER BY item must be the number of a SELECT-list: {node.this}")
        return columns[index - 1]

    def _limit(self, node: exp.Expr) -> str:
        parts = []
        for key, word in (("limit", "LIMIT"), ("offset", "OFFSET")):
            clause = node.args.get(key)
            if clause is None:
                continue
            bound = self.coerce(self.bind(clause.expression, Scope()), types.BIGINT)
            parts.append(f" {word} {bound.sql}")
        return "".join(parts)

    # --- SELECT ---
    def _select(self, node: exp.Expr, outer: Scope) -> BoundQuery:
        scope = Scope(parent=outer)
        from_node = node.args.get("from_")
        if from_node is None:
            raise syntax("end of statement: FROM is missing (FROM DUMMY)", position_of(node))
        source = self._from(from_node, node.args.get("joins") or [], scope)
        where = node.args.get("where")
        condition = f" WHERE {self.condition(where.this, scope)}" if where is not None else ""
        group = self._group(node, scope)
        items = self._items(node, scope)
        having = node.args.get("having")
        filtered = f" HAVING {self.condition(having.this, scope)}" if having is not None else ""
        columns, written = [], []
        for index, (name, bound) in enumerate(items):
            sql_name = f"c{index + 1}"
            columns.append(OutColumn(name, bound.type, sql_name, bound.nullable, bound.origin))
            sql = bound.sql
            if bound.type is not None and not bound.exact:
                sql = f"CAST({sql} AS {types.storage(bound.type)})"
            written.append(f"{sql} AS {sql_name}")
        order = self._order(node, scope, items)
        distinct = "DISTINCT " if node.args.get("distinct") else ""
        rest = f"{condition}{group}{filtered}{order}{self._limit(node)}"
        selected = f"SELECT {distinct}{', '.join(written)}"
        if source == self._dummy and f"{scope.relations[0].alias}." not in selected + rest:
            # One row without a table: DuckDB needs none, and is twice as fast.
            return BoundQuery(selected + rest, columns)
        return BoundQuery(f"{selected} FROM {source}{rest}", columns)

    def _group(self, node: exp.Expr, scope: Scope) -> str:
        group = node.args.get("group")
        if group is None:
            return ""
        parts = [self._grouping(item, scope) for item in group.expressions]
        if not parts:
            raise syntax('"GROUP BY"', position_of(node))
        return f" GROUP BY {', '.join(parts)}"

    def _grouping(self, item: exp.Expr, scope: Scope) -> str:
        """One element of GROUP BY: an expression, ROLLUP, CUBE or GROUPING SETS."""
        words: dict[type[exp.Expr], str] = {
            exp.Rollup: "ROLLUP",
            exp.Cube: "CUBE",
            exp.GroupingSets: "GROUPING SETS",
        }
        word = words.get(type(item))
        if word is not None:
            return f"{word} ({', '.join(self._grouping(member, scope) for member in item.expressions)})"
        if isinstance(item, exp.Tuple):
            return f"({', '.join(self.bind(member, scope).sql for member in item.expressions)})"
        return self.bind(item, scope).sql

    def _items(self, node: exp.Expr, scope: Scope) -> list[tuple[str, Bound]]:
        items: list[tuple[str, Bound]] = []
        for item in node.expressions:
            if isinstance(item, exp.Star):
                items += self._star(scope, None, position_of(node))
            elif isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
                items += self._star(scope, name_of(item.args["table"]), position_of(item))
            elif isinstance(item, exp.Alias):
                items.append((name_of(item.args["alias"]), self.bind(item.this, scope)))
            else:
                items.append((label_of(item), self.bind(item, scope)))
        return items

    def _star(self, scope: Scope, table: str | None, position: int) -> list[tuple[str, Bound]]:
        found: list[tuple[str, Bound]] = []
        matched = False
        for relation in scope.relations:
            if table is not None and relation.name != table:
                continue
            matched = True
            for column in relation.columns:
                found.append((column.name, Bound(
                    relation.reference(column), column.type, column.nullable or relation.nullable, exact=True,
                    origin=column.origin,
                )))  # fmt: skip
        if not matched:
            raise unknown_table(self.environment.schema, table or "*", position)
        return found

    def _order(self, node: exp.Expr, scope: Scope, items: list[tuple[str, Bound]]) -> str:
        order = node.args.get("order")
        if order is None:
            return ""
        # Only here an alias of the select list is a name.
        scope.outputs = dict(reversed(items))
        by_name = {name: index for index, (name, _) in reversed(list(enumerate(items)))}
        parts = []
        for item in order.expressions:
            this = item.this
            if isinstance(this, exp.Literal) and not this.args.get("is_string"):
                self._ordinal(this, items)
                sql = f"c{this.this}"
            elif isinstance(this, exp.Column) and not this.args.get("table") and name_of(this.this) in by_name:
                sql = f"c{by_name[name_of(this.this)] + 1}"
            else:
                bound = self.bind(this, scope)
                same = next((index for index, (_, other) in enumerate(items) if other.sql == bound.sql), None)
                sql = bound.sql if same is None else f"c{same + 1}"
            parts.append(f"{sql}{direction(item)}")
        return f" ORDER BY {', '.join(parts)}"

    # --- FROM ---
    def _from(self, from_node: exp.Expr, joins: list[exp.Expr], scope: Scope) -> str:
        sql = self.source(from_node.this, scope)
        for join in joins:
            sql += self._join(join, scope)
        names = [(item.name, item.schema) for item in scope.relations if item.name is not None]
        if len(set(names)) < len(names):
            raise HanaError(
                271, f"duplicate alias: {next(n for n, _ in names if [m for m, _ in names].count(n) > 1)}"
            )
        return sql

    def _join(self, join: exp.Expr, scope: Scope) -> str:
        if join.args.get("using") or join.args.get("method"):
            raise unsupported("JOIN ... USING and NATURAL JOIN")
        side, kind = str(join.args.get("side") or "").upper(), str(join.args.get("kind") or "").upper()
        before = list(scope.relations)
        source = self.source(join.this, scope)
        added = scope.relations[len(before) :]
        on = join.args.get("on")
        if side in {"LEFT", "FULL"}:
            for relation in added:
                relation.nullable = True
        if side in {"RIGHT", "FULL"}:
            for relation in before:
                relation.nullable = True
        if on is None:
            if side or kind in {"INNER", "OUTER"}:
                raise syntax("end of statement: ON is missing", position_of(join))
            return f" CROSS JOIN {source}"
        word = f"{side} JOIN" if side else "JOIN"
        return f" {word} {source} ON {self.condition(on, scope)}"

    def source(self, node: exp.Expr, scope: Scope) -> str:
        """Translate one entry of FROM and add its relation to the scope."""
        alias_node = node.args.get("alias")
        name = name_of(alias_node.this) if alias_node is not None and alias_node.this is not None else None
        alias = self.alias()
        extra = node.args.get("joins") or []
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table | exp.Subquery) and name is None:
            inner = self.source(node.this, scope)
            for join in extra:
                inner += self._join(join, scope)
            return f"({inner})" if node.this.args.get("joins") or extra else inner
        if isinstance(node, exp.Subquery):
            query = self.bind_query(node.this, scope.parent)
            if any(node.args.get(key) for key in ("order", "limit", "offset")):
                query = self._modified(node, query)
            scope.relations.append(Relation(alias, self._renamed(query.columns, alias_node), name))
            sql = f"({query.sql}) AS {alias}"
        elif isinstance(node, exp.Table):
            sql = self._table(node, scope, alias, name)
        elif isinstance(node, nodes.JsonTable):
            sql = json_table(self, node, scope, alias, name)
        elif isinstance(node, nodes.TableFunction):
            sql = self._table_function(node, scope, alias, name)
        elif isinstance(node, exp.Lateral):
            query = self.bind_query(node.this, scope)
            scope.relations.append(Relation(alias, self._renamed(query.columns, alias_node), name))
            sql = f"LATERAL ({query.sql}) AS {alias}"
        else:
            raise syntax(f'"{node.key}"', position_of(node))
        for join in extra:
            sql += self._join(join, scope)
        return sql

    def _table(self, node: exp.Expr, scope: Scope, alias: str, name: str | None) -> str:
        identifier = node.this
        if not isinstance(identifier, exp.Identifier):
            raise syntax(f'"{identifier.key}"', position_of(node))
        table = name_of(identifier)
        schema = name_of(node.args["db"]) if node.args.get("db") else None
        cte = scope.cte(table) if schema is None else None
        if cte is not None:
            scope.relations.append(Relation(alias, self._renamed(cte[1], node.args.get("alias")), name or table))
            return f"{cte[0]} AS {alias}"
        found = self.environment.table(schema, table, position_of(node))
        if isinstance(found, TableInfo):
            self.environment.check("SELECT", found)
            scope.relations.append(self.relation(found, alias, name))
            return f"{found.sql} AS {alias}"
        if isinstance(found, ViewInfo):
            self.environment.check("SELECT", found)
            query = self._view(found)
            origin = (found.schema, found.name)
            columns = [
                OutColumn(info.name, info.type, column.sql, column.nullable, origin)
                for info, column in zip(found.columns, query.columns, strict=True)
            ]
            scope.relations.append(Relation(alias, columns, name or found.name, found.schema))
            return f"({query.sql}) AS {alias}"
        columns, sql = system_view(found, self.environment)
        if found == "DUMMY":
            self._dummy = f"({sql}) AS {alias}"
        scope.relations.append(Relation(alias, columns, name or found, "SYS"))
        return f"({sql}) AS {alias}"

    def _view(self, view: ViewInfo) -> BoundQuery:
        from hana_ai.api.local.hana.language.statements import parse
        from hana_ai.api.local.hana.language.syntax import Query

        statement, _ = parse(view.definition)
        assert isinstance(statement, Query)
        inner = Binder(self.environment.inside(view), self.parameters, self._counter)
        try:
            return inner.bind_query(statement.query, None)
        except HanaError as exc:
            if exc.code in {259, 260, 362}:
                raise HanaError(391, f"invalidated view: {view.name}: {exc.message}") from exc
            raise

    def relation(self, table: TableInfo, alias: str, name: str | None = None) -> Relation:
        """A table as an entry of FROM."""
        origin = (table.schema, table.name)
        columns = [
            OutColumn(column.name, column.type, quoted(column), column.nullable, origin)
            for column in table.columns
        ]
        return Relation(alias, columns, name or table.name, table.schema, row_id=True)

    def _table_function(self, node: exp.Expr, scope: Scope, alias: str, name: str | None) -> str:
        function = node.args["name"]
        arguments = node.expressions
        if function in REFUSED_FUNCTIONS:
            raise unsupported(REFUSED_FUNCTIONS[function])
        build: dict[str, Callable[[list[Bound]], str]] = {
            "SERIES_GENERATE_INTEGER": lambda b: f"range({b[1].sql}, {b[2].sql}, {b[0].sql})",
            "SERIES_GENERATE_BIGINT": lambda b: f"range({b[1].sql}, {b[2].sql}, {b[0].sql})",
        }
        if function not in build or len(arguments) != 3:
            raise HanaError(328, f"invalid name of function or procedure: {function}", position_of(node))
        bounds = [self.coerce(self.bind(item, Scope()), types.BIGINT) for item in arguments]
        kind = types.INTEGER if function.endswith("INTEGER") else types.BIGINT
        stored = types.storage(kind)
        step = bounds[0].sql
        columns = [
            OutColumn("GENERATED_PERIOD_START", kind, "c1"),
            OutColumn("GENERATED_PERIOD_END", kind, "c2"),
            OutColumn("ELEMENT_NUMBER", types.BIGINT, "c3"),
            OutColumn("FRACTION_OF_MIN_MAX_RANGE", types.DOUBLE, "c4"),
        ]
        scope.relations.append(Relation(alias, columns, name))
        width = f"({bounds[2].sql} - {bounds[1].sql})"
        return (
            f"(SELECT CAST(v AS {stored}) AS c1, CAST(v + {step} AS {stored}) AS c2, "
            f"CAST((v - {bounds[1].sql}) // {step} + 1 AS BIGINT) AS c3, CAST({step} AS DOUBLE) / {width} AS c4 "
            f"FROM {build[function](bounds)} AS t(v)) AS {alias}"
        )

    def next_value(self, schema: str | None, name: str, current: bool, position: int) -> Bound | None:
        """sequence.NEXTVAL and sequence.CURRVAL."""
        sequence = self.environment.sequence(schema, name)
        if sequence is None:
            return None
        if current:
            state = self.environment.state
            if sequence.physical not in state.sequences_used:
                raise HanaError(
                    326, f"CURRVAL of given sequence is not yet defined in this session: {name}", position
                )
            return Bound(f"currval('{sequence.physical}')", types.BIGINT, False, exact=True)
        self.environment.state.sequences_used.add(sequence.physical)
        self.uses_sequence = True
        return Bound(f"nextval('{sequence.physical}')", types.BIGINT, False, exact=True)


def quoted(column: ColumnInfo) -> str:
    """A column's quoted DuckDB name."""
    return '"' + column.physical.replace('"', '""') + '"'


__all__ = ["Binder", "label_of", "quoted"]
