"""Calls of functions and window functions."""

from __future__ import annotations

from sqlglot import exp

from hana_ai.api.local.hana.errors import syntax, unsupported
from hana_ai.api.local.hana.language.unsupported import REFUSED_FUNCTIONS
from hana_ai.api.local.hana.translation.binding import (
    Binding,
    NodeHandler,
    function_name,
    order_items,
    position_of,
)
from hana_ai.api.local.hana.translation.fragments import Sql, compose, joined, listed
from hana_ai.api.local.hana.translation.functions.library import FUNCTIONS, NILADIC
from hana_ai.api.local.hana.translation.routines import scalar_call
from hana_ai.api.local.hana.translation.scope import Bound, Scope


def _call(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    name = function_name(node)
    refused = REFUSED_FUNCTIONS.get(name)
    if refused is not None:
        raise unsupported(refused, position_of(node))
    arguments = list(node.expressions)
    handler = FUNCTIONS.get(name)
    if handler is None and not arguments:
        handler = NILADIC.get(name)
    if handler is None:
        return scalar_call(binder, None, name, node, scope)
    return handler(binder, arguments, scope)


def _window(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    inner = node.this
    bound = binder.bind(inner, scope)
    if isinstance(inner, exp.Anonymous) and function_name(inner) == "CROSS_ENCODE":
        # A window function by syntax only: each row is scored by itself.
        return bound
    parts = []
    partition = node.args.get("partition_by") or []
    if partition:
        parts.append(compose("PARTITION BY {}", listed(binder.bind(item, scope).sql for item in partition)))
    order = node.args.get("order")
    if order is not None:
        parts.append(compose("ORDER BY {}", order_items(binder, order, scope)))
    spec = node.args.get("spec")
    if spec is not None:
        parts.append(_frame(binder, spec, scope))
    if bound.windowed is None:
        raise syntax('"OVER"', position_of(node))
    return Bound(bound.windowed(compose("OVER ({})", joined(" ", parts))), bound.type, bound.nullable)


def _frame(binder: Binding, spec: exp.Expr, scope: Scope) -> Sql:
    def side(value: exp.Expr | str, direction: str | None) -> Sql:
        if isinstance(value, str):
            return Sql(f"{value} {direction}" if value == "UNBOUNDED" else value)
        return compose("{} {}", binder.bind(value, scope).sql, direction or "")

    start = side(spec.args["start"], spec.args.get("start_side"))
    end = spec.args.get("end")
    if end is None:
        return compose("{} {}", spec.args["kind"], start)
    return compose("{} BETWEEN {} AND {}", spec.args["kind"], start, side(end, spec.args.get("end_side")))


NODES: dict[type[exp.Expr], NodeHandler] = {exp.Anonymous: _call, exp.Window: _window}
