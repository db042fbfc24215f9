"""Literals, parameters and columns."""

from __future__ import annotations

import math
import re

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import syntax, unknown_column
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.names import literal
from hana_ai.api.local.hana.translation.binding import Binding, NodeHandler, name_of, position_of
from hana_ai.api.local.hana.translation.conversions import utf16_length
from hana_ai.api.local.hana.translation.fragments import NULL, Sql, cast_to
from hana_ai.api.local.hana.translation.functions.library import NILADIC
from hana_ai.api.local.hana.translation.scope import Bound, Scope
from hana_ai.api.local.hana.types import BIGINT, BOOLEAN, DOUBLE, INTEGER


def _literal(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    text = str(node.this)
    return _text(text) if node.args.get("is_string") else _number(text)


def _national(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    return _text(str(node.this))


def _text(text: str) -> Bound:
    kind = types.nvarchar(max(1, utf16_length(text)))
    return Bound(Sql(literal(text)), kind, False, exact=True, text=text, literal=True)


def _number(text: str) -> Bound:
    if "e" in text.lower():
        if math.isinf(float(text)):
            raise HanaError(314, f"numeric overflow: {text}")
        return Bound(cast_to(Sql(text), "DOUBLE"), DOUBLE, False, exact=True, literal=True)
    if "." in text:
        whole, _, fraction = text.partition(".")
        precision = len(whole.lstrip("0")) + len(fraction)
        if precision > 38:
            raise HanaError(314, f"numeric overflow: {text}")
        return Bound(Sql(text), types.decimal(max(precision, 1), len(fraction)), False, literal=True)
    value = int(text)
    if value < 2**63:
        kind = INTEGER if value < 2**31 else BIGINT
        return Bound(Sql(text), kind, False, exact=True, number=value, literal=True)
    if len(text) > 38:
        raise HanaError(314, f"numeric overflow: {text}")
    exact = types.decimal(len(text))
    return Bound(cast_to(Sql(text), types.storage(exact)), exact, False, literal=True)


def _hex(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    text = str(node.this)
    if len(text) % 2 or not re.fullmatch(r"[0-9A-Fa-f]*", text):
        raise HanaError(257, f"sql syntax error: invalid hexadecimal literal {text}")
    return Bound(Sql(f"unhex('{text}')"), types.varbinary(max(1, len(text) // 2)), False, exact=True)


def _null(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    return Bound(NULL, None)


def _boolean(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    return Bound(Sql("TRUE" if node.this else "FALSE"), BOOLEAN, False, exact=True)


def _placeholder(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    parameters = binder.parameters
    index = parameters.positions[str(node.this)]
    known = parameters.types[index]
    stored = types.storage(known) if known is not None else "VARCHAR"
    return Bound(cast_to(parameters.reference(index), stored), known, parameter=index, exact=known is not None)


def _column(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    identifier = node.this
    position = position_of(node)
    if isinstance(identifier, exp.Star):
        raise syntax('"*"', position)
    name = name_of(identifier)
    if node.args.get("catalog"):
        raise unknown_column(name, position)
    quoted = identifier.args.get("quoted")
    table = name_of(node.args["table"]) if node.args.get("table") else None
    schema = name_of(node.args["db"]) if node.args.get("db") else None
    if table is not None and name in {"NEXTVAL", "CURRVAL"} and not quoted:
        value = binder.next_value(schema, table, name == "CURRVAL", position)
        if value is not None:
            return value
    if table is None and name in scope.outputs and not any(name in item.by_name for item in scope.relations):
        return scope.outputs[name]
    found = scope.column(name, table, schema, position)
    if found is not None:
        return found
    niladic = NILADIC.get(name) if table is None and not quoted else None
    if niladic is not None:
        return niladic(binder, [], scope)
    raise unknown_column(f"{table}.{name}" if table else name, position)


def _identifier(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    return _column(binder, exp.Column(this=node.copy()), scope)


NODES: dict[type[exp.Expr], NodeHandler] = {
    exp.Literal: _literal,
    exp.National: _national,
    exp.HexString: _hex,
    exp.Null: _null,
    exp.Boolean: _boolean,
    exp.Placeholder: _placeholder,
    exp.Column: _column,
    exp.Identifier: _identifier,
}
