"""Operators, predicates and CASE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import syntax, unsupported
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import nodes as syntax_nodes
from hana_ai.api.local.hana.translation import conversions
from hana_ai.api.local.hana.translation.binding import Binding, NodeHandler, position_of
from hana_ai.api.local.hana.translation.conversions import comparable
from hana_ai.api.local.hana.translation.fragments import NOTHING, NULL, Sql, cast_to, compose, joined, listed
from hana_ai.api.local.hana.translation.scope import Bound, BoundQuery, OutColumn, Scope
from hana_ai.api.local.hana.types import BOOLEAN, DECIMAL, INTEGER

_COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
}  # fmt: skip
_MANY = 16
"""Parameters of an IN that are worth a list."""
_LISTED = ("VARCHAR", "INTEGER", "BIGINT")
"""DuckDB's types of which a list can be passed."""
_ARITHMETIC: dict[type[exp.Expr], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/"}


def _parentheses(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    inner = binder.bind(node.this, scope)
    if inner.parameter is not None:
        return inner
    return replace(inner, sql=compose("({})", inner.sql), number=None, origin=None, windowed=None)


def _negative(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    inner = binder.bind(node.this, scope)
    if inner.type is None:
        inner = binder.coerce(inner, DECIMAL)
    inner = conversions.to_number(inner)
    if inner.type == types.TINYINT:
        inner = binder.coerce(inner, types.SMALLINT)
    if inner.number == 2**31:
        return Bound(Sql("(-2147483648)"), INTEGER, False, exact=True, literal=True)
    return Bound(compose("(-{})", inner.sql), inner.type, inner.nullable, literal=inner.literal)


def _and_or(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    word = " AND " if isinstance(node, exp.And) else " OR "
    # Long chains (SQL that programs write) would nest as deep as they are long.
    parts: list[exp.Expr] = []
    stack = [node]
    while stack:
        current = stack.pop()
        if type(current) is type(node):
            stack += [current.expression, current.this]
        else:
            parts.append(current)
    return Bound(compose("({})", joined(word, [binder.condition(part, scope) for part in parts])), BOOLEAN)


def _not(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    return Bound(compose("(NOT {})", binder.condition(node.this, scope)), BOOLEAN)


def _comparison(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    operator = _COMPARISONS[type(node)]
    right_node = node.expression
    if isinstance(right_node, exp.Any | exp.All):
        return _quantified(binder, node, operator, right_node, scope)
    if isinstance(node.this, exp.Tuple) or isinstance(right_node, exp.Tuple):
        return _row_comparison(binder, node, operator, scope)
    left, right = comparable(binder, binder.bind(node.this, scope), binder.bind(right_node, scope))
    return Bound(compose("({} {} {})", left.sql, operator, right.sql), BOOLEAN)


def _row_comparison(binder: Binding, node: exp.Expr, operator: str, scope: Scope) -> Bound:
    left, right = node.this, node.expression
    if not (isinstance(left, exp.Tuple) and isinstance(right, exp.Tuple)) or operator not in {"=", "<>"}:
        raise unsupported("comparing rows", position_of(node))
    if len(left.expressions) != len(right.expressions):
        raise HanaError(270, "not enough values: the rows have different lengths")
    parts = []
    for first, second in zip(left.expressions, right.expressions, strict=True):
        a, b = comparable(binder, binder.bind(first, scope), binder.bind(second, scope))
        parts.append(compose("({} = {})", a.sql, b.sql))
    return Bound(compose("({})" if operator == "=" else "(NOT ({}))", joined(" AND ", parts)), BOOLEAN)


def _quantified(binder: Binding, node: exp.Expr, operator: str, quantifier: exp.Expr, scope: Scope) -> Bound:
    word = "ANY" if isinstance(quantifier, exp.Any) else "ALL"
    left = binder.bind(node.this, scope)
    inner = quantifier.this
    if not isinstance(inner, exp.Query | exp.Subquery):
        raise unsupported(f"{word} with a list")
    query = binder.bind_query(inner, scope)
    left, rows = _beside_query(binder, left, query)
    return Bound(compose("({} {} {} ({}))", left.sql, operator, word, rows), BOOLEAN)


def _beside_query(binder: Binding, left: Bound, query: BoundQuery) -> tuple[Bound, Sql]:
    """A value and the rows of a query, brought to one type for a comparison."""
    column = _only_column(query)
    if column.type is None or left.type == column.type:
        return left, query.sql
    if left.type is None or not (types.is_number(left.type) and types.is_number(column.type)):
        return binder.coerce(left, column.type), query.sql
    # Neither type need hold the other's values: 1.5 among INTEGERs, 12.5 among DECIMAL(2, 2).
    alias = binder.alias()
    (value, item), _ = binder.unify(left, Bound(compose("{}.{}", alias, column.sql), column.type, exact=True))
    return value, compose("SELECT {} FROM ({}) AS {}", item.sql, query.sql, alias)


def _arithmetic(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    # Sums that programs write can be hundreds of terms long; follow the left side in a loop.
    chain: list[exp.Expr] = []
    while type(node) in _ARITHMETIC:
        chain.append(node)
        node = node.this
    left = binder.bind(node, scope)
    for item in reversed(chain):
        right = binder.bind(item.expression, scope)
        left = conversions.arithmetic(binder, _ARITHMETIC[type(item)], left, right)
    return left


def _concat(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    chain: list[exp.Expr] = []
    while isinstance(node, exp.DPipe):
        chain.append(node.expression)
        node = node.this
    chain.append(node)
    parts: list[Bound] = []
    for part in reversed(chain):
        bound = binder.bind(part, scope)
        if types.is_vector(bound.type):
            raise HanaError(266, "inconsistent datatype: a vector cannot be concatenated")
        parts.append(bound if types.is_string(bound.type) else binder.coerce(bound, types.nvarchar()))
    text = compose("({})", joined(" || ", (part.sql for part in parts)))
    return Bound(text, conversions.concatenated([part.type for part in parts]))


def _between(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    this = binder.bind(node.this, scope)
    low, high = binder.bind(node.args["low"], scope), binder.bind(node.args["high"], scope)
    a, low = comparable(binder, this, low)
    b, high = comparable(binder, this, high)
    return Bound(compose("({} >= {} AND {} <= {})", a.sql, low.sql, b.sql, high.sql), BOOLEAN)


def _in(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    query = node.args.get("query")
    if query is not None:
        return _in_query(binder, node, query, scope)
    if isinstance(node.this, exp.Tuple):
        rows = [
            _row_comparison(binder, exp.EQ(this=node.this.copy(), expression=item.copy()), "=", scope).sql
            for item in node.expressions
        ]
        return Bound(compose("({})", joined(" OR ", rows)), BOOLEAN)
    left = binder.bind(node.this, scope)
    items = [binder.bind(item, scope) for item in node.expressions]
    if not items:
        raise syntax('")"', position_of(node))
    pairs = [comparable(binder, left, item) for item in items]
    if len({pair[0].sql for pair in pairs}) == 1:
        values = _as_list(binder, items, [pair[1].sql for pair in pairs])
        return Bound(compose("({} IN ({}))", pairs[0][0].sql, values), BOOLEAN)
    return Bound(compose("({})", joined(" OR ", (compose("{} = {}", a.sql, b.sql) for a, b in pairs))), BOOLEAN)


def _as_list(binder: Binding, items: Sequence[Bound], values: Sequence[Sql]) -> Sql:
    """What stands in the parentheses of IN: many parameters of one type are a list, which is planned faster."""
    parameters = binder.parameters
    indexes = [item.parameter for item in items if item.parameter is not None]
    if len(indexes) == len(items) >= _MANY and parameters.rows is None:
        for stored in _LISTED:
            if all(
                value == cast_to(parameters.reference(index), stored)
                for index, value in zip(indexes, values, strict=True)
            ):
                return compose("SELECT unnest(CAST({} AS {}[]))", parameters.gather(indexes), stored)
    return listed(values)


def _in_query(binder: Binding, node: exp.Expr, query: exp.Expr, scope: Scope) -> Bound:
    bound = binder.bind_query(query, scope)
    if isinstance(node.this, exp.Tuple):
        items = listed(binder.bind(item, scope).sql for item in node.this.expressions)
        return Bound(compose("(({}) IN ({}))", items, bound.sql), BOOLEAN)
    left, rows = _beside_query(binder, binder.bind(node.this, scope), bound)
    return Bound(compose("({} IN ({}))", left.sql, rows), BOOLEAN)


def _is(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    if not isinstance(node.expression, exp.Null):
        raise syntax(f'"{node.expression.sql()}"', position_of(node))
    word = "IS NOT NULL" if node.args.get("negate") else "IS NULL"
    return Bound(compose("({} {})", binder.bind(node.this, scope).sql, word), BOOLEAN, False)


def _like(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    escape = NOTHING
    if isinstance(node, exp.Escape):
        escape = compose(" ESCAPE {}", binder.coerce(binder.bind(node.expression, scope), types.nvarchar()).sql)
        node = node.this
    left = binder.coerce(binder.bind(node.this, scope), types.nvarchar())
    right = binder.coerce(binder.bind(node.expression, scope), types.nvarchar())
    word = "NOT LIKE" if node.args.get("negate") else "LIKE"
    return Bound(compose("({} {} {}{})", left.sql, word, right.sql, escape), BOOLEAN)


def _case(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    subject = binder.bind(node.this, scope) if node.this else None
    conditions, results = [], []
    for branch in node.args["ifs"]:
        if subject is None:
            conditions.append(binder.condition(branch.this, scope))
        else:
            left, right = comparable(binder, subject, binder.bind(branch.this, scope))
            conditions.append(compose("{} = {}", left.sql, right.sql))
        results.append(binder.bind(branch.args["true"], scope))
    default = node.args.get("default")
    results.append(binder.bind(default, scope) if default is not None else Bound(NULL, None))
    results, kind = binder.unify(*results)
    branches = joined(
        " ", (compose("WHEN {} THEN {}", c, r.sql) for c, r in zip(conditions, results, strict=False))
    )
    chosen = compose("(CASE {} ELSE {} END)", branches, results[-1].sql)
    return Bound(chosen, kind, any(item.nullable for item in results))


def _cast(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    return conversions.cast(binder, binder.bind(node.this, scope), node.args["to"])


def _subquery(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    query = binder.bind_query(node, scope)
    return Bound(compose("({})", query.sql), _only_column(query).type, exact=True)


def _only_column(query: BoundQuery) -> OutColumn:
    if len(query.columns) != 1:
        raise HanaError(269, "too many values: the subquery must give one column")
    return query.columns[0]


def _exists(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    return Bound(compose("EXISTS ({})", binder.bind_query(node.this, scope).sql), BOOLEAN, False)


def _refused(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    raise unsupported("method calls and array access", position_of(node))


NODES: dict[type[exp.Expr], NodeHandler] = {
    exp.Paren: _parentheses,
    exp.Neg: _negative,
    exp.And: _and_or,
    exp.Or: _and_or,
    exp.Not: _not,
    **dict.fromkeys(_COMPARISONS, _comparison),
    **dict.fromkeys(_ARITHMETIC, _arithmetic),
    exp.DPipe: _concat,
    exp.Between: _between,
    exp.In: _in,
    exp.Is: _is,
    exp.Like: _like,
    exp.Escape: _like,
    exp.Case: _case,
    exp.Subquery: _subquery,
    exp.Select: _subquery,
    exp.Union: _subquery,
    exp.Exists: _exists,
    exp.Dot: _refused,
    exp.Bracket: _refused,
    syntax_nodes.TypedCast: _cast,
}
