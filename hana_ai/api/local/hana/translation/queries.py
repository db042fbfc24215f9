"""Translate HANA queries into DuckDB SQL: SELECT, grouping, set operations, common table expressions.

Every relation gets an alias of its own (r1, r2 ...) and every query's columns are called c1, c2 ...; which HANA
name means which of them is kept in the scope. So names that differ only in case, duplicate names and names that
DuckDB reserves need no care in the generated SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TypeVar

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import ViewInfo
from hana_ai.api.local.hana.errors import syntax, unknown_table, unsupported
from hana_ai.api.local.hana.interface import HanaError, SqlType
from hana_ai.api.local.hana.language.statements import parse
from hana_ai.api.local.hana.language.syntax import Query
from hana_ai.api.local.hana.translation.binding import direction, is_number, name_of, position_of
from hana_ai.api.local.hana.translation.expressions import ExpressionBinder
from hana_ai.api.local.hana.translation.fragments import NOTHING, Sql, cast_to, compose, joined, listed
from hana_ai.api.local.hana.translation.labels import label_of
from hana_ai.api.local.hana.translation.scope import Bound, BoundQuery, OutColumn, Parameters, Relation, Scope
from hana_ai.api.local.hana.translation.sources import from_clause, renamed

_Item = TypeVar("_Item")

_SET_OPERATIONS: dict[type[exp.Expr], str] = {
    exp.Union: "UNION",
    exp.Except: "EXCEPT",
    exp.Intersect: "INTERSECT",
}
_GROUPINGS: dict[type[exp.Expr], str] = {
    exp.Rollup: "ROLLUP",
    exp.Cube: "CUBE",
    exp.GroupingSets: "GROUPING SETS",
}


class Binder(ExpressionBinder):
    """Translates one statement; `numbers` are those of its aliases, shared with the views that it reads."""

    def __init__(
        self, environment: Environment, parameters: Parameters, numbers: count[int] | None = None
    ) -> None:
        super().__init__(environment, parameters)
        self._numbers = numbers if numbers is not None else count(1)
        self.uses_sequence = False

    def alias(self) -> str:
        """A DuckDB alias that nothing else has."""
        return f"r{next(self._numbers)}"

    # --- whole queries ---
    def top_query(self, node: exp.Expr) -> BoundQuery:
        """Translate a query whose rows go to the client; every column gets a type."""
        query = self.bind_query(node, None)
        for column in query.columns:
            if column.type is None:
                column.type = types.nvarchar()
        return query

    def bind_query(self, node: exp.Expr, scope: Scope | None) -> BoundQuery:
        """Translate a query or a subquery in parentheses."""
        outer = Scope(parent=scope)
        with_node = node.args.get("with_")
        tables = self._with(with_node, outer) if with_node is not None else NOTHING
        if isinstance(node, exp.Subquery):
            inner = self.ordered(node, self.bind_query(node.this, outer))
        elif isinstance(node, exp.SetOperation):
            inner = self._set_operation(node, outer)
        elif isinstance(node, exp.Select):
            inner = self._select(node, outer)
        else:
            raise syntax(f'"{node.key}"', position_of(node))
        return BoundQuery(joined("", [tables, inner.sql]), inner.columns)

    def _with(self, node: exp.Expr, scope: Scope) -> Sql:
        if node.args.get("recursive"):
            raise unsupported("recursive WITH")
        parts = []
        for cte in node.expressions:
            query = self.bind_query(cte.this, scope)
            alias = cte.args["alias"]
            name = self.alias()
            scope.ctes[name_of(alias.this)] = (name, renamed(query.columns, alias))
            parts.append(compose("{} AS ({})", name, query.sql))
        return compose("WITH {} ", listed(parts))

    def view_query(self, view: ViewInfo) -> BoundQuery:
        """Translate a view's definition, with its owner's names and privileges.

        Raises
        ------
        HanaError
            391 when what it names is no longer there.
        """
        statement, _ = parse(view.definition)
        assert isinstance(statement, Query)
        inner = Binder(self.environment.inside(view), self.parameters, self._numbers)
        try:
            return inner.bind_query(statement.query, None)
        except HanaError as exc:
            if exc.code in {259, 260, 362}:
                raise HanaError(391, f"invalidated view: {view.name}: {exc.message}") from exc
            raise

    def _set_operation(self, node: exp.Expr, scope: Scope) -> BoundQuery:
        # A long UNION ALL leans to the left; walk it in a loop.
        operations: list[exp.Expr] = []
        current = node
        while isinstance(current, exp.SetOperation) and (current is node or not _has_modifiers(current)):
            operations.append(current)
            current = current.this
        left = self.bind_query(current, scope)
        for operation in reversed(operations):
            left = self._combined(operation, left, self.bind_query(operation.expression, scope))
        return self.ordered(node, left)

    def _combined(self, node: exp.Expr, left: BoundQuery, right: BoundQuery) -> BoundQuery:
        if len(left.columns) != len(right.columns):
            raise HanaError(
                270, "not enough values: the queries of a set operation have different numbers of columns"
            )
        every = " ALL" if not node.args.get("distinct", True) else ""
        pairs = list(zip(left.columns, right.columns, strict=True))
        kinds = [types.common(a.type, b.type) for a, b in pairs]
        columns = [
            OutColumn(a.name, kind, Sql(f"c{index}"), a.nullable or b.nullable)
            for index, ((a, b), kind) in enumerate(zip(pairs, kinds, strict=True), 1)
        ]
        rows = compose(
            "SELECT * FROM ({} {}{} {}) AS {}",
            self._cast_all(left, kinds), _SET_OPERATIONS[type(node)], every, self._cast_all(right, kinds),
            self.alias(),
        )  # fmt: skip
        return BoundQuery(rows, columns)

    def _cast_all(self, query: BoundQuery, kinds: list[SqlType | None]) -> Sql:
        alias = self.alias()
        items = []
        for index, (column, kind) in enumerate(zip(query.columns, kinds, strict=True), 1):
            bound = Bound(compose("{}.{}", alias, column.sql), column.type, exact=column.type is not None)
            if kind is not None:
                bound = self.coerce(bound, kind)
            items.append(compose("{} AS c{}", bound.sql, index))
        return compose("(SELECT {} FROM ({}) AS {})", listed(items), query.sql, alias)

    def ordered(self, node: exp.Expr, query: BoundQuery) -> BoundQuery:
        """Add the ORDER BY, LIMIT and OFFSET that stand behind a set operation or a query in parentheses."""
        order, limit = node.args.get("order"), self._limit(node)
        if order is None and limit == NOTHING:
            return query
        relation = Relation(self.alias(), query.columns)
        scope = Scope([relation])
        clause = NOTHING
        if order is not None:
            items = []
            for item in order.expressions:
                if is_number(item.this):
                    by = relation.reference(_ordinal(item.this, query.columns))
                else:
                    by = self.bind(item.this, scope).sql
                items.append(compose("{}{}", by, direction(item)))
            clause = compose(" ORDER BY {}", listed(items))
        rows = compose("SELECT * FROM ({}) AS {}{}{}", query.sql, relation.alias, clause, limit)
        return BoundQuery(rows, query.columns)

    def _limit(self, node: exp.Expr) -> Sql:
        parts = []
        for key, word in (("limit", "LIMIT"), ("offset", "OFFSET")):
            clause = node.args.get(key)
            if clause is not None:
                bound = self.coerce(self.bind(clause.expression, Scope()), types.BIGINT)
                parts.append(compose(" {} {}", word, bound.sql))
        return joined("", parts)

    # --- SELECT ---
    def _select(self, node: exp.Expr, outer: Scope) -> BoundQuery:
        scope = Scope(parent=outer)
        from_node = node.args.get("from_")
        if from_node is None:
            raise syntax("end of statement: FROM is missing (FROM DUMMY)", position_of(node))
        rows = compose(" FROM {}", from_clause(self, from_node, node.args.get("joins") or [], scope))
        where = self._filter("WHERE", node.args.get("where"), scope)
        group = self._group(node, scope)
        items = self._items(node, scope)
        having = self._filter("HAVING", node.args.get("having"), scope)
        columns, written = [], []
        for index, (name, bound) in enumerate(items, 1):
            out = Sql(f"c{index}")
            columns.append(OutColumn(name, bound.type, out, bound.nullable, bound.origin))
            value = bound.sql
            if bound.type is not None and not bound.exact:
                value = cast_to(value, types.storage(bound.type))
            written.append(compose("{} AS {}", value, out))
        order = self._order(node, scope, items)
        limit = self._limit(node)
        if len(scope.relations) == 1 and scope.relations[0].one_row and not scope.relations[0].used:
            # One row without a table: DuckDB needs none, and is twice as fast.
            rows = NOTHING
        distinct = "DISTINCT " if node.args.get("distinct") else ""
        selected = compose("SELECT {}{}", distinct, listed(written))
        return BoundQuery(joined("", [selected, rows, where, group, having, order, limit]), columns)

    def _filter(self, word: str, node: exp.Expr | None, scope: Scope) -> Sql:
        return compose(" {} {}", word, self.condition(node.this, scope)) if node is not None else NOTHING

    def _group(self, node: exp.Expr, scope: Scope) -> Sql:
        group = node.args.get("group")
        if group is None:
            return NOTHING
        parts = [self._grouping(item, scope) for item in group.expressions]
        if not parts:
            raise syntax('"GROUP BY"', position_of(node))
        return compose(" GROUP BY {}", listed(parts))

    def _grouping(self, item: exp.Expr, scope: Scope) -> Sql:
        """One element of GROUP BY: an expression, ROLLUP, CUBE or GROUPING SETS."""
        word = _GROUPINGS.get(type(item))
        if word is not None:
            members = listed(self._grouping(member, scope) for member in item.expressions)
            return compose("{} ({})", word, members)
        if isinstance(item, exp.Tuple):
            return compose("({})", listed(self.bind(member, scope).sql for member in item.expressions))
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
        relations = [relation for relation in scope.relations if table is None or relation.name == table]
        if not relations:
            raise unknown_table(self.environment.schema, table or "*", position)
        return [
            (column.name, Bound(
                relation.reference(column), column.type, column.nullable or relation.nullable, exact=True,
                origin=column.origin,
            ))
            for relation in relations
            for column in relation.columns
        ]  # fmt: skip

    def _order(self, node: exp.Expr, scope: Scope, items: list[tuple[str, Bound]]) -> Sql:
        order = node.args.get("order")
        if order is None:
            return NOTHING
        # Only here an alias of the select list is a name.
        scope.outputs = dict(reversed(items))
        by_name = {name: index for index, (name, _) in reversed(list(enumerate(items, 1)))}
        parts = []
        for item in order.expressions:
            this = item.this
            if is_number(this):
                _ordinal(this, items)
                by = Sql(f"c{this.this}")
            elif isinstance(this, exp.Column) and not this.args.get("table") and name_of(this.this) in by_name:
                by = Sql(f"c{by_name[name_of(this.this)]}")
            else:
                by = self.bind(this, scope).sql
                same = next((index for index, (_, other) in enumerate(items, 1) if other.sql == by), None)
                by = by if same is None else Sql(f"c{same}")
            parts.append(compose("{}{}", by, direction(item)))
        return compose(" ORDER BY {}", listed(parts))

    def next_value(self, schema: str | None, name: str, current: bool, position: int) -> Bound | None:
        """sequence.NEXTVAL and sequence.CURRVAL; None when no such sequence exists."""
        sequence = self.environment.sequence(schema, name)
        if sequence is None:
            return None
        used = self.environment.state.sequences_used
        if current and sequence.physical not in used:
            raise HanaError(326, f"CURRVAL of given sequence is not yet defined in this session: {name}", position)
        if not current:
            used.add(sequence.physical)
            self.uses_sequence = True
        function = "currval" if current else "nextval"
        return Bound(Sql(f"{function}('{sequence.physical}')"), types.BIGINT, False, exact=True)


def _has_modifiers(node: exp.Expr) -> bool:
    return any(node.args.get(key) for key in ("order", "limit", "offset", "with_"))


def _ordinal(node: exp.Expr, columns: Sequence[_Item]) -> _Item:
    index = int(node.this) if str(node.this).isdigit() else 0
    if not 1 <= index <= len(columns):
        raise HanaError(280, f"ORDER BY item must be the number of a SELECT-list: {node.this}")
    return columns[index - 1]
