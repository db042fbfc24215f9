"""Aggregate and window functions."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.interface import HanaError, SqlType
from hana_ai.api.local.hana.translation.binding import (
    Binding,
    Handler,
    NodeHandler,
    function_name,
    is_number,
    order_items,
    position_of,
)
from hana_ai.api.local.hana.translation.conversions import to_number
from hana_ai.api.local.hana.translation.fragments import NOTHING, Sql, cast_to, compose, joined, listed
from hana_ai.api.local.hana.translation.functions.signatures import argument, bind_arguments, wrong_arguments
from hana_ai.api.local.hana.translation.scope import Bound, Scope, aggregated
from hana_ai.api.local.hana.types import BIGINT, DECIMAL, DOUBLE, INTEGER


def _one_argument(nodes: Sequence[exp.Expr], name: str) -> tuple[exp.Expr, str]:
    """The argument of an aggregate, and DISTINCT if it was written."""
    if len(nodes) != 1:
        raise wrong_arguments(name)
    node = nodes[0]
    if isinstance(node, exp.Distinct):
        return node.expressions[0], "DISTINCT "
    return node, ""


def _count(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if len(nodes) == 1 and isinstance(nodes[0], exp.Star):
        call = Sql("count(*)")
    elif len(nodes) == 1 and isinstance(nodes[0], exp.Distinct) and len(nodes[0].expressions) > 1:
        parts = [binder.bind(node, scope).sql for node in nodes[0].expressions]
        complete = joined(" AND ", (compose("{} IS NOT NULL", part) for part in parts))
        call = compose("count(DISTINCT CASE WHEN {} THEN row({}) END)", complete, listed(parts))
    else:
        node, distinct = _one_argument(nodes, "COUNT")
        call = compose("count({}{})", distinct, binder.bind(node, scope).sql)
    return aggregated(call, BIGINT, nullable=False, exact=True)


def _sum(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    node, distinct = _one_argument(nodes, "SUM")
    bound = argument(binder, node, "n", scope)
    kind: SqlType = bound.type or DECIMAL
    if kind.code in types.INTEGERS:
        kind = BIGINT
    elif kind.code in types.FLOATS:
        kind = DOUBLE
    elif kind.scale != types.FLOATING:
        kind = types.decimal(38, kind.scale)
    stored = types.storage(kind)
    call = compose("sum({}{})", distinct, bound.sql)
    return aggregated(call, kind, exact=True, finish=lambda total: cast_to(total, stored))


def _avg(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    node, distinct = _one_argument(nodes, "AVG")
    bound = argument(binder, node, "n", scope)
    if bound.type is not None and bound.type.code in types.FLOATS:
        return aggregated(compose("avg({}{})", distinct, bound.sql), DOUBLE, exact=True)
    return aggregated(
        compose("avg({}CAST({} AS DOUBLE))", distinct, bound.sql),
        DECIMAL,
        exact=True,
        finish=lambda mean: compose("CAST(round({}, 6) AS {})", mean, types.STORED_FLOATING),
    )


def _min_max(name: str) -> Handler:
    def handler(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        node, _ = _one_argument(nodes, name)
        bound = binder.bind(node, scope)
        return aggregated(compose("{}({})", name.lower(), bound.sql), bound.type, exact=bound.exact)

    return handler


def _statistic(name: str) -> Handler:
    def handler(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        node, distinct = _one_argument(nodes, name)
        bound = binder.coerce(argument(binder, node, "n", scope), DOUBLE)
        return aggregated(compose("{}({}{})", name, distinct, bound.sql), DOUBLE, exact=True)

    return handler


def _median(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    node, distinct = _one_argument(nodes, "MEDIAN")
    bound = argument(binder, node, "x", scope)
    if bound.type is not None and types.is_number(bound.type) and bound.type.code not in types.FLOATS:
        return aggregated(
            compose("median({}CAST({} AS DOUBLE))", distinct, bound.sql),
            DECIMAL,
            exact=True,
            finish=lambda middle: cast_to(middle, types.STORED_FLOATING),
        )
    return aggregated(compose("median({}{})", distinct, bound.sql), bound.type)


def _pair(name: str) -> Handler:
    def handler(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        left, right = bind_arguments(binder, name, "dd", nodes, scope)
        return aggregated(compose("{}({}, {})", name, left.sql, right.sql), DOUBLE, exact=True)

    return handler


def _position_value(name: str, ordered: str) -> Handler:
    """FIRST_VALUE and the like; `ordered` is DuckDB's name when the order stands inside the call."""

    def handler(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if not nodes:
            raise wrong_arguments(name)
        arguments = list(nodes)
        order = NOTHING
        # FIRST_VALUE(x ORDER BY y) is an aggregate; with OVER the order stands there. NTH_VALUE(x, n ORDER BY y).
        last = arguments[-1]
        if isinstance(last, exp.Order):
            order = compose(" ORDER BY {}", order_items(binder, last, scope))
            arguments[-1] = last.this
        bound = binder.bind(arguments[0], scope)
        rest = [binder.bind(item, scope).sql for item in arguments[1:]]
        if name == "NTH_VALUE" and order.text and len(rest) == 1:
            return aggregated(
                compose("list({}{})", bound.sql, order),
                bound.type,
                finish=lambda values: compose("list_extract({}, {})", values, rest[0]),
            )
        called = ordered if order.text else name.lower()
        return aggregated(compose("{}({}{})", called, listed([bound.sql, *rest]), order), bound.type)

    return handler


def _rank(name: str, result: SqlType) -> Handler:
    def handler(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        arguments = listed(binder.bind(node, scope).sql for node in nodes)
        return aggregated(compose("{}({})", name.lower(), arguments), result, nullable=False)

    return handler


def _offset(name: str) -> Handler:
    def handler(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if not 1 <= len(nodes) <= 3:
            raise wrong_arguments(name)
        bounds = [binder.bind(node, scope) for node in nodes]
        kind = bounds[0].type
        if len(bounds) == 3 and kind is not None:
            bounds[2] = binder.coerce(bounds[2], kind)
        return aggregated(compose("{}({})", name.lower(), listed(bound.sql for bound in bounds)), kind)

    return handler


INVERSE_DISTRIBUTIONS = ("PERCENTILE_CONT", "PERCENTILE_DISC")
"""What may stand before WITHIN GROUP."""


def _within_group(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    inner = node.this
    name = function_name(inner) if isinstance(inner, exp.Anonymous) else ""
    if name not in INVERSE_DISTRIBUTIONS or len(inner.expressions) != 1:
        raise unsupported(f"{name} WITHIN GROUP", position_of(node))
    given = inner.expressions[0]
    if not is_number(given) or float(given.this) > 1:
        raise HanaError(2048, f"column store error: the percentile of {name} is a constant from 0 to 1")
    fraction = binder.coerce(binder.bind(given, scope), DOUBLE).sql
    item = node.expression.expressions[0]
    value = to_number(binder.bind(item.this, scope))
    if item.args.get("desc"):
        fraction = compose("(1 - {})", fraction)
    if name == "PERCENTILE_CONT":
        value = binder.coerce(value, DOUBLE)
    function = "quantile_cont" if name == "PERCENTILE_CONT" else "quantile_disc"
    return aggregated(compose("{}({}, {})", function, value.sql, fraction), value.type)


AGGREGATES: dict[str, Handler] = {
    "COUNT": _count,
    "SUM": _sum,
    "AVG": _avg,
    "MIN": _min_max("MIN"),
    "MAX": _min_max("MAX"),
    "STDDEV": _statistic("stddev_samp"),
    "STDDEV_SAMP": _statistic("stddev_samp"),
    "STDDEV_POP": _statistic("stddev_pop"),
    "VAR": _statistic("var_samp"),
    "VAR_SAMP": _statistic("var_samp"),
    "VAR_POP": _statistic("var_pop"),
    "MEDIAN": _median,
    "CORR": _pair("corr"),
    "COVAR_POP": _pair("covar_pop"),
    "COVAR_SAMP": _pair("covar_samp"),
    "FIRST_VALUE": _position_value("FIRST_VALUE", "first"),
    "LAST_VALUE": _position_value("LAST_VALUE", "last"),
    "NTH_VALUE": _position_value("NTH_VALUE", "nth_value"),
    "ROW_NUMBER": _rank("ROW_NUMBER", BIGINT),
    "RANK": _rank("RANK", BIGINT),
    "DENSE_RANK": _rank("DENSE_RANK", BIGINT),
    "GROUPING": _rank("GROUPING", INTEGER),
    "GROUPING_ID": _rank("GROUPING_ID", INTEGER),
    "NTILE": _rank("NTILE", BIGINT),
    "PERCENT_RANK": _rank("PERCENT_RANK", DOUBLE),
    "CUME_DIST": _rank("CUME_DIST", DOUBLE),
    "LAG": _offset("LAG"),
    "LEAD": _offset("LEAD"),
}
NODES: dict[type[exp.Expr], NodeHandler] = {exp.WithinGroup: _within_group}
