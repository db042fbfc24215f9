"""Functions on numbers."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import raising, unsupported
from hana_ai.api.local.hana.translation.binding import Binding, Handler
from hana_ai.api.local.hana.translation.fragments import Sql, compose
from hana_ai.api.local.hana.translation.functions.signatures import (
    FIRST,
    Simple,
    bind_arguments,
    by_name,
    wrong_arguments,
)
from hana_ai.api.local.hana.translation.scope import Bound, Scope
from hana_ai.api.local.hana.types import BIGINT, DECIMAL, DOUBLE, INTEGER

_INVALID = raising(2, "general error: invalid argument")


def _finite(template: str) -> str:
    problem = raising(314, "numeric overflow")
    return f"(CASE WHEN isfinite({template}) THEN {template} WHEN {template} IS NULL THEN NULL ELSE {problem} END)"


_SIMPLE = (
    Simple("SQRT", "d", DOUBLE, f"(CASE WHEN {{0}} < 0 THEN {_INVALID} ELSE sqrt({{0}}) END)"),
    Simple("LN", "d", DOUBLE, f"(CASE WHEN {{0}} <= 0 THEN {_INVALID} ELSE ln({{0}}) END)"),
    Simple("EXP", "d", DOUBLE, _finite("exp({0})")),
    Simple("POWER", "dd", DOUBLE, _finite("pow({0}, {1})")),
    *(
        Simple(name, "d", DOUBLE, f"{name.lower()}({{0}})")
        for name in ("SIN", "COS", "TAN", "ASIN", "ACOS", "ATAN", "SINH", "COSH", "TANH", "COT")
    ),
    Simple("ATAN2", "dd", DOUBLE, "atan2({0}, {1})"),
    Simple("LOG", "dd", DOUBLE, "(ln({1}) / ln({0}))"),
    Simple("RAND RAND_SECURE", "", DOUBLE, "random()"),
    Simple("SIGN", "n", INTEGER, "CAST(sign({0}) AS INTEGER)"),
    Simple("UMINUS", "n", FIRST, "(-{0})"),
    Simple("BITAND", "bb*", BIGINT, "({0} & {1})"),
    Simple("BITOR", "bb*", BIGINT, "({0} | {1})"),
    Simple("BITXOR", "bb*", BIGINT, "xor({0}, {1})"),
    Simple("BITNOT", "b", BIGINT, "(~{0})"),
    Simple("BITCOUNT", "b", INTEGER, "CAST(bit_count({0}) AS INTEGER)"),
    Simple("ABS", "n", FIRST, "abs({0})"),
)


def _whole(name: str) -> Handler:
    def handler(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        (bound,) = bind_arguments(binder, name, "n", nodes, scope)
        if bound.type is not None and bound.type.code in types.INTEGERS:
            return bound
        return Bound(compose("{}({})", name, bound.sql), bound.type, bound.nullable)

    return handler


def _round(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if len(nodes) > 2:
        raise unsupported("rounding modes")
    bounds = bind_arguments(binder, "ROUND", "n?i", nodes, scope)
    value = bounds[0]
    rounded = compose("round({}, {})", value.sql, bounds[1].sql if len(bounds) > 1 else "0")
    if value.type is None or value.type.code not in types.FLOATS:
        rounded = compose("CAST({} AS {})", rounded, types.storage(value.type or DECIMAL))
    return Bound(rounded, value.type, value.nullable)


def _mod(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    left, right = bind_arguments(binder, "MOD", "nn", nodes, scope)
    kind = types.common(left.type, right.type)
    rest = compose("(CASE WHEN {0} = 0 THEN {1} ELSE {1} % {0} END)", right.sql, left.sql)
    return Bound(rest, kind, left.nullable or right.nullable)


def _ndiv0(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    left, right = bind_arguments(binder, "NDIV0", "nn", nodes, scope)
    return Bound(
        compose(
            "(CASE WHEN {1} = 0 THEN 0 ELSE CAST({0} AS DOUBLE) / CAST({1} AS DOUBLE) END)", left.sql, right.sql
        ),
        DOUBLE,
    )


def _extreme(name: str, operator: str) -> Handler:
    def handler(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if not nodes:
            raise wrong_arguments(name)
        bounds, kind = binder.unify(*(binder.bind(node, scope) for node in nodes))
        result: Sql = bounds[0].sql
        for bound in bounds[1:]:
            # NULL wins in HANA; DuckDB's own functions skip it.
            result = compose(
                "(CASE WHEN {0} IS NULL OR {1} IS NULL THEN NULL WHEN {0} {2} {1} THEN {0} ELSE {1} END)",
                result,
                bound.sql,
                operator,
            )
        return Bound(result, kind)

    return handler


FUNCTIONS: dict[str, Handler] = {
    **by_name(_SIMPLE),
    "CEIL": _whole("ceil"),
    "CEILING": _whole("ceil"),
    "FLOOR": _whole("floor"),
    "ROUND": _round,
    "MOD": _mod,
    "NDIV0": _ndiv0,
    "GREATEST": _extreme("GREATEST", ">="),
    "LEAST": _extreme("LEAST", "<="),
}
