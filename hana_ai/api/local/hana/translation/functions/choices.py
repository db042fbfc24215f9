"""Functions that choose between values, and conversions without a format."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.interface import SqlType
from hana_ai.api.local.hana.translation.binding import Binding, Handler
from hana_ai.api.local.hana.translation.conversions import cast, comparable
from hana_ai.api.local.hana.translation.fragments import NULL, compose, joined, listed
from hana_ai.api.local.hana.translation.functions.signatures import constant_number, wrong_arguments
from hana_ai.api.local.hana.translation.scope import Bound, Scope
from hana_ai.api.local.hana.types import DECIMAL


def _coalesce(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if len(nodes) < 2:
        raise wrong_arguments("COALESCE")
    bounds, kind = binder.unify(*(binder.bind(node, scope) for node in nodes))
    first = compose("coalesce({})", listed(bound.sql for bound in bounds))
    return Bound(first, kind, all(bound.nullable for bound in bounds))


def _nullif(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if len(nodes) != 2:
        raise wrong_arguments("NULLIF")
    first = binder.bind(nodes[0], scope)
    left, right = comparable(binder, first, binder.bind(nodes[1], scope))
    return Bound(compose("(CASE WHEN {} = {} THEN NULL ELSE {} END)", left.sql, right.sql, first.sql), first.type)


def _map(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if len(nodes) < 3:
        raise wrong_arguments("MAP")
    subject = binder.bind(nodes[0], scope)
    rest = list(nodes[1:])
    default = binder.bind(rest.pop(), scope) if len(rest) % 2 else Bound(NULL, None)
    keys = [binder.bind(node, scope) for node in rest[::2]]
    values, kind = binder.unify(*(binder.bind(node, scope) for node in rest[1::2]), default)
    branches = []
    for key, value in zip(keys, values, strict=False):
        left, right = comparable(binder, subject, key)
        # MAP(NULL, NULL, x) matches.
        branches.append(compose("WHEN {} IS NOT DISTINCT FROM {} THEN {}", left.sql, right.sql, value.sql))
    return Bound(compose("(CASE {} ELSE {} END)", joined(" ", branches), values[-1].sql), kind)


def _conversion(name: str, target: SqlType) -> Handler:
    def handler(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if len(nodes) != 1:
            raise wrong_arguments(name)
        return cast(binder, binder.bind(nodes[0], scope), target)

    return handler


def _to_decimal(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if not 1 <= len(nodes) <= 3:
        raise wrong_arguments("TO_DECIMAL")
    sizes = [constant_number(node) for node in nodes[1:]]
    return cast(binder, binder.bind(nodes[0], scope), types.decimal(*sizes) if sizes else DECIMAL)


_CONVERSIONS: dict[str, SqlType] = {
    "TO_DOUBLE": types.DOUBLE,
    "TO_REAL": types.REAL,
    "TO_INTEGER": types.INTEGER,
    "TO_INT": types.INTEGER,
    "TO_BIGINT": types.BIGINT,
    "TO_SMALLINT": types.SMALLINT,
    "TO_TINYINT": types.TINYINT,
    "TO_BOOLEAN": types.BOOLEAN,
    "TO_SMALLDECIMAL": types.DECIMAL,
    "TO_CLOB": types.CLOB,
    "TO_NCLOB": types.NCLOB,
    "TO_BLOB": types.BLOB,
    "TO_BINARY": types.varbinary(),
    "TO_VARBINARY": types.varbinary(),
}

FUNCTIONS: dict[str, Handler] = {
    "IFNULL": _coalesce,
    "COALESCE": _coalesce,
    "NVL": _coalesce,
    "NULLIF": _nullif,
    "MAP": _map,
    "DECODE": _map,
    "TO_DECIMAL": _to_decimal,
    **{name: _conversion(name, target) for name, target in _CONVERSIONS.items()},
}
