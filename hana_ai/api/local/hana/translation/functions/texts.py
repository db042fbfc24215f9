"""Functions on texts and bytes."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.language import nodes as syntax_nodes
from hana_ai.api.local.hana.translation.binding import Binding, Handler, NodeHandler, order_items
from hana_ai.api.local.hana.translation.conversions import concatenated
from hana_ai.api.local.hana.translation.fragments import NOTHING, Sql, compose, joined
from hana_ai.api.local.hana.translation.functions.signatures import FIRST, Simple, bind_arguments, by_name
from hana_ai.api.local.hana.translation.scope import Bound, Scope, aggregated
from hana_ai.api.local.hana.types import INTEGER, nvarchar, varbinary

_SIMPLE = (
    Simple("UPPER UCASE", "s", FIRST, "upper({0})"),
    Simple("LOWER LCASE", "s", FIRST, "lower({0})"),
    Simple("INITCAP", "s", FIRST, "hana_initcap({0})"),
    Simple("LENGTH", "s", INTEGER, "length({0})"),
    Simple("LTRIM", "s?s", FIRST, "ltrim({0}, ' ')", "ltrim({0}, {1})"),
    Simple("RTRIM", "s?s", FIRST, "rtrim({0}, ' ')", "rtrim({0}, {1})"),
    Simple("LEFT", "si", FIRST, "left({0}, greatest({1}, 0))"),
    Simple("RIGHT", "si", FIRST, "right({0}, greatest({1}, 0))"),
    Simple("REVERSE", "s", FIRST, "reverse({0})"),
    Simple("REPLACE", "sss", nvarchar(), "replace({0}, {1}, {2})"),
    Simple("TRANSLATE", "sss", nvarchar(), "translate({0}, {1}, {2})"),
    Simple("ASCII", "s", INTEGER, "ascii({0})"),
    Simple("UNICODE", "s", INTEGER, "unicode({0})"),
    Simple("CHAR NCHAR", "i", nvarchar(1), "chr({0})"),
    Simple("REPEAT", "si", nvarchar(), "repeat({0}, {1})"),
    Simple("LPAD", "si?s", nvarchar(), "lpad({0}, {1}, ' ')", "lpad({0}, {1}, {2})"),
    Simple("RPAD", "si?s", nvarchar(), "rpad({0}, {1}, ' ')", "rpad({0}, {1}, {2})"),
    Simple(
        "HAMMING_DISTANCE", "ss", INTEGER,
        "(CASE WHEN length({0}) <> length({1}) THEN -1 ELSE hamming({0}, {1}) END)",
    ),
    Simple("LEVENSHTEIN_DISTANCE", "ss", INTEGER, "levenshtein({0}, {1})"),
    Simple(
        "SUBSTR_BEFORE SUBSTRING_BEFORE", "ss", FIRST,
        "(CASE WHEN instr({0}, {1}) > 0 THEN left({0}, instr({0}, {1}) - 1) ELSE '' END)",
    ),
    Simple(
        "SUBSTR_AFTER SUBSTRING_AFTER", "ss", FIRST,
        "(CASE WHEN instr({0}, {1}) > 0 THEN substr({0}, instr({0}, {1}) + length({1})) ELSE '' END)",
    ),
    Simple("HASH_MD5", "y", varbinary(16), "unhex(md5({0}))"),
    Simple("HASH_SHA256", "y", varbinary(32), "unhex(sha256({0}))"),
    Simple("BINTOHEX", "y", nvarchar(), "hex({0})"),
    Simple("BINTOSTR BINTONSTR", "y", nvarchar(), "decode({0})"),
    Simple("HEXTOBIN", "s", varbinary(), "unhex({0})"),
    Simple("STRTOBIN", "s?s", varbinary(), "encode({0})"),
    Simple("ESCAPE_SINGLE_QUOTES", "s", nvarchar(), "replace({0}, '''', '''''')"),
    Simple("ESCAPE_DOUBLE_QUOTES", "s", nvarchar(), "replace({0}, '\"', '\"\"')"),
    Simple(
        "IS_SQL_INJECTION_SAFE", "s?i", INTEGER, "hana_injection_safe({0}, 1)", "hana_injection_safe({0}, {1})"
    ),
    Simple("SYSUUID NEWUID", "", varbinary(16), "unhex(replace(CAST(uuid() AS VARCHAR), '-', ''))"),
)  # fmt: skip


def _substring(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    bounds = bind_arguments(binder, "SUBSTRING", "si?i", nodes, scope)
    text, start = bounds[0], compose("greatest({}, 1)", bounds[1].sql)
    if len(bounds) == 2:
        return text.with_sql(compose("substr({}, {})", text.sql, start))
    return text.with_sql(compose("substr({}, {}, greatest({}, 0))", text.sql, start, bounds[2].sql))


def _concat(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    bounds = bind_arguments(binder, "CONCAT", "ss*", nodes, scope)
    text = compose("({})", joined(" || ", (bound.sql for bound in bounds)))
    return Bound(text, concatenated([bound.type for bound in bounds]))


def _locate(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    bounds = bind_arguments(binder, "LOCATE", "ss?ii", nodes, scope)
    text, needle = bounds[0].sql, bounds[1].sql
    if len(bounds) == 2:
        return Bound(compose("CAST(instr({}, {}) AS INTEGER)", text, needle), INTEGER, exact=True)
    occurrence = bounds[3].sql if len(bounds) == 4 else "1"
    return Bound(
        compose("hana_locate({}, {}, {}, {})", text, needle, bounds[2].sql, occurrence), INTEGER, exact=True
    )


def _trim(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    value = binder.coerce(binder.bind(node.this, scope), nvarchar())
    chars: Sql | str = "' '"
    if node.args.get("chars"):
        chars = binder.coerce(binder.bind(node.args["chars"], scope), nvarchar()).sql
    function = {"BOTH": "trim", "LEADING": "ltrim", "TRAILING": "rtrim"}[node.args["side"]]
    return Bound(compose("{}({}, {})", function, value.sql, chars), value.type)


def _string_agg(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    distinct = isinstance(node.this, exp.Distinct)
    value = binder.coerce(binder.bind(node.this.expressions[0] if distinct else node.this, scope), nvarchar())
    separator = node.args.get("separator")
    between: Sql | str = binder.bind(separator, scope).sql if separator is not None else "''"
    order = node.args.get("order")
    ordering = compose(" ORDER BY {}", order_items(binder, order, scope)) if order is not None else NOTHING
    word = "DISTINCT " if distinct else ""
    call = compose("string_agg({}{}, {}{})", word, value.sql, between, ordering)
    return aggregated(call, types.nvarchar(5000))


FUNCTIONS: dict[str, Handler] = {
    **by_name(_SIMPLE),
    "SUBSTRING": _substring,
    "SUBSTR": _substring,
    "CONCAT": _concat,
    "CONCAT_NAZ": _concat,
    "LOCATE": _locate,
}
NODES: dict[type[exp.Expr], NodeHandler] = {
    syntax_nodes.TrimChars: _trim,
    syntax_nodes.StringAgg: _string_agg,
}
