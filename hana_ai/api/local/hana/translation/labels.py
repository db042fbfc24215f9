"""The names of columns without an alias."""

from __future__ import annotations

from sqlglot import exp
from sqlglot.errors import ErrorLevel

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.language import nodes
from hana_ai.api.local.hana.language.dialect import Hana
from hana_ai.api.local.hana.translation.binding import name_of

_LONGEST = 127


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
    return _written(node)


def _written(node: exp.Expr) -> str:
    copied = node.copy()
    for identifier in copied.find_all(exp.Identifier):
        identifier.set("this", name_of(identifier))
        identifier.set("quoted", False)
    for special in list(copied.find_all(exp.Placeholder)):
        special.set("this", None)
    try:
        text = copied.sql(dialect=Hana, normalize_functions="upper", unsupported_level=ErrorLevel.IGNORE)
    except (ValueError, AttributeError, KeyError):
        # sqlglot cannot write the dialect's own nodes; any name will do for them.
        return type(node).__name__.upper()
    text = text.replace(", ", ",")
    for operator in "+-*/":
        text = text.replace(f" {operator} ", operator)
    return text[:_LONGEST]
