"""Aggregate and window functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.interface import SqlType
from hana_ai.api.local.hana.translation.functions import (
    AGGREGATES,
    Handler,
    argument,
    bind_arguments,
    wrong_arguments,
)
from hana_ai.api.local.hana.translation.scope import AGGREGATE_END, Bound, Scope
from hana_ai.api.local.hana.types import BIGINT, DECIMAL, DOUBLE, INTEGER

if TYPE_CHECKING:
    from hana_ai.api.local.hana.translation.expressions import ExpressionBinder


def aggregate_argument(nodes: Sequence[exp.Expr], name: str) -> tuple[exp.Expr, str]:
    """The one argument of an aggregate, and DISTINCT if it was written."""
    if len(nodes) != 1:
        raise wrong_arguments(name)
    node = nodes[0]
    if isinstance(node, exp.Distinct):
        return node.expressions[0], "DISTINCT "
    return node, ""


def _count(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if len(nodes) == 1 and isinstance(nodes[0], exp.Star):
        return Bound(f"count(*){AGGREGATE_END}", BIGINT, False, exact=True)
    if len(nodes) == 1 and isinstance(nodes[0], exp.Distinct) and len(nodes[0].expressions) > 1:
        parts = [binder.bind(node, scope).sql for node in nodes[0].expressions]
        whole = " AND ".join(f"{part} IS NOT NULL" for part in parts)
        row = f"CASE WHEN {whole} THEN row({', '.join(parts)}) END"
        return Bound(f"count(DISTINCT {row}){AGGREGATE_END}", BIGINT, False, exact=True)
    node, distinct = aggregate_argument(nodes, "COUNT")
    return Bound(f"count({distinct}{binder.bind(node, scope).sql}){AGGREGATE_END}", BIGINT, False, exact=True)


def _sum(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    node, distinct = aggregate_argument(nodes, "SUM")
    bound = argument(binder, node, "n", scope)
    kind: SqlType = bound.type or DECIMAL
    if kind.code in types.INTEGERS:
        kind = BIGINT
    elif kind.code in types.FLOATS:
        kind = DOUBLE
    elif kind.scale != types.FLOATING:
        kind = types.decimal(38, kind.scale)
    return Bound(f"CAST(sum({distinct}{bound.sql}){AGGREGATE_END} AS {types.storage(kind)})", kind, exact=True)


def _avg(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    node, distinct = aggregate_argument(nodes, "AVG")
    bound = argument(binder, node, "n", scope)
    if bound.type is not None and bound.type.code in types.FLOATS:
        return Bound(f"avg({distinct}{bound.sql}){AGGREGATE_END}", DOUBLE, exact=True)
    sql = f"avg({distinct}CAST({bound.sql} AS DOUBLE)){AGGREGATE_END}"
    return Bound(f"CAST(round({sql}, 6) AS {types.STORED_FLOATING})", DECIMAL, exact=True)


def _min_max(name: str) -> Handler:
    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        node, _ = aggregate_argument(nodes, name)
        bound = binder.bind(node, scope)
        return Bound(f"{name.lower()}({bound.sql}){AGGREGATE_END}", bound.type, exact=bound.exact)

    return handler


def _statistic(name: str) -> Handler:
    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        node, distinct = aggregate_argument(nodes, name)
        bound = binder.coerce(argument(binder, node, "n", scope), DOUBLE)
        return Bound(f"{name}({distinct}{bound.sql}){AGGREGATE_END}", DOUBLE, exact=True)

    return handler


def _median(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    node, distinct = aggregate_argument(nodes, "MEDIAN")
    bound = argument(binder, node, "x", scope)
    if types.is_number(bound.type) and bound.type is not None and bound.type.code not in types.FLOATS:
        sql = f"median({distinct}CAST({bound.sql} AS DOUBLE)){AGGREGATE_END}"
        return Bound(f"CAST({sql} AS {types.STORED_FLOATING})", DECIMAL, exact=True)
    return Bound(f"median({distinct}{bound.sql}){AGGREGATE_END}", bound.type)


def _pair(name: str) -> Handler:
    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        left, right = bind_arguments(binder, name, "dd", nodes, scope)
        sql = f"{name}({left.sql}, {right.sql}){AGGREGATE_END}"
        return Bound(sql, DOUBLE, exact=True)

    return handler


def _position_value(name: str) -> Handler:
    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if not nodes:
            raise wrong_arguments(name)
        node: Any = nodes[0]
        rest = list(nodes[1:])
        order = ""
        # FIRST_VALUE(x ORDER BY y) is an aggregate; with OVER the order stands there. NTH_VALUE(x, n ORDER BY y).
        last = nodes[-1]
        if isinstance(last, exp.Order):
            order = f" ORDER BY {binder.order_items(last, scope)}"
            if len(nodes) == 1:
                node = last.this
            else:
                rest[-1] = last.this
        bound = binder.bind(node, scope)
        if name == "NTH_VALUE" and order and len(rest) == 1:
            number = binder.bind(rest[0], scope).sql
            return Bound(f"list_extract(list({bound.sql}{order}){AGGREGATE_END}, {number})", bound.type)
        extra = "".join(f", {binder.bind(item, scope).sql}" for item in rest)
        called = {"FIRST_VALUE": "first", "LAST_VALUE": "last"}.get(name, name.lower()) if order else name.lower()
        return Bound(f"{called}({bound.sql}{extra}{order}){AGGREGATE_END}", bound.type)

    return handler


def _rank(name: str, result: SqlType) -> Handler:
    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        arguments = ", ".join(binder.bind(node, scope).sql for node in nodes)
        return Bound(f"{name.lower()}({arguments}){AGGREGATE_END}", result, False)

    return handler


def _offset(name: str) -> Handler:
    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if not 1 <= len(nodes) <= 3:
            raise wrong_arguments(name)
        bounds = [binder.bind(node, scope) for node in nodes]
        kind = bounds[0].type
        if len(bounds) == 3 and kind is not None:
            bounds[2] = binder.coerce(bounds[2], kind)
        return Bound(f"{name.lower()}({', '.join(bound.sql for bound in bounds)}){AGGREGATE_END}", kind)

    return handler


AGGREGATES.update(
    {
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
        "FIRST_VALUE": _position_value("FIRST_VALUE"),
        "LAST_VALUE": _position_value("LAST_VALUE"),
        "NTH_VALUE": _position_value("NTH_VALUE"),
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
)
