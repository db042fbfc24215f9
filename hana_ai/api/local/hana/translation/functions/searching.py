"""Regular expressions and full-text search."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.language import nodes as syntax_nodes
from hana_ai.api.local.hana.translation.binding import Binding, Handler, NodeHandler, is_number
from hana_ai.api.local.hana.translation.fragments import Sql, compose, joined
from hana_ai.api.local.hana.translation.functions.signatures import Simple, argument, by_name, wrong_arguments
from hana_ai.api.local.hana.translation.scope import Bound, Scope
from hana_ai.api.local.hana.types import DOUBLE, INTEGER, nvarchar


def _flags(node: exp.Expr | None) -> str:
    if node is None:
        return ""
    if not isinstance(node, exp.Literal) or set(str(node.this)) - set("ims"):
        raise unsupported("regular expression flags other than i, m, s")
    return str(node.this)


def _pattern(binder: Binding, node: exp.Expr, flags: str, scope: Scope) -> Sql:
    pattern = argument(binder, node, "s", scope).sql
    return compose("('(?{})' || {})", flags, pattern) if flags else pattern


def _like_regexpr(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    text = argument(binder, node.this, "s", scope).sql
    pattern = _pattern(binder, node.args["pattern"], _flags(node.args.get("flag")), scope)
    return Bound(compose("regexp_matches({}, {})", text, pattern), types.BOOLEAN)


def _regexpr(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    name = node.args["name"]
    text = argument(binder, node.args["text"], "s", scope).sql
    pattern = _pattern(binder, node.args["pattern"], _flags(node.args.get("flag")), scope)
    if name == "REPLACE_REGEXPR":
        return _replace(binder, node, text, pattern, scope)
    start = _whole(binder, node.args.get("start"), scope)
    occurrence = _whole(binder, node.args.get("occurrence"), scope) or "1"
    group = _whole(binder, node.args.get("group"), scope) or "0"
    if name == "LOCATE_REGEXPR":
        place = compose("hana_regex_locate({}, {}, {}, {}, {})", pattern, text, start or "1", occurrence, group)
        return Bound(place, INTEGER, exact=True)
    if start is not None:
        text = compose("substr({}, {})", text, start)
    if name == "OCCURRENCES_REGEXPR":
        count = compose("CAST(len(regexp_extract_all({}, {})) AS INTEGER)", text, pattern)
        return Bound(count, INTEGER, exact=True)
    found = compose("list_extract(regexp_extract_all({}, {}, {}), {})", text, pattern, group, occurrence)
    return Bound(found, nvarchar())


def _whole(binder: Binding, node: exp.Expr | None, scope: Scope) -> Sql | None:
    return argument(binder, node, "i", scope).sql if node is not None else None


def _replace(binder: Binding, node: exp.Expr, text: Sql, pattern: Sql, scope: Scope) -> Bound:
    if node.args.get("start") is not None:
        raise unsupported("REPLACE_REGEXPR ... FROM")
    occurrence = node.args.get("occurrence")
    if occurrence is not None and not (is_number(occurrence) and str(occurrence.this) == "1"):
        raise unsupported("REPLACE_REGEXPR ... OCCURRENCE other than 1 or ALL")
    given = node.args.get("replacement")
    replacement: Sql | str = argument(binder, given, "s", scope).sql if given is not None else "''"
    options = ", 'g'" if occurrence is None else ""
    return Bound(compose("regexp_replace({}, {}, {}{})", text, pattern, replacement, options), nvarchar())


def _contains(columns: Sequence[Bound], query: Bound) -> Sql:
    text = joined(" || ' ' || ", (compose("coalesce({}, '')", column.sql) for column in columns))
    return compose("hana_contains({}, {})", text, query.sql)


def _score(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    query = argument(binder, node.this, "s", scope)
    columns = [argument(binder, column, "s", scope) for column in node.args["columns"]]
    return Bound(compose("(CASE WHEN {} THEN 1.0 ELSE 0.0 END)", _contains(columns, query)), DOUBLE, False)


def _contains_call(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if len(nodes) < 2:
        raise wrong_arguments("CONTAINS")
    first = nodes[0]
    if isinstance(first, exp.Star):
        raise unsupported("CONTAINS over all columns")
    columns = first.expressions if isinstance(first, exp.Tuple) else [first]
    bounds = [argument(binder, column, "s", scope) for column in columns]
    return Bound(_contains(bounds, argument(binder, nodes[1], "s", scope)), types.BOOLEAN, False)


FUNCTIONS: dict[str, Handler] = {
    **by_name([Simple("SCORE", "", DOUBLE, "CAST(1 AS DOUBLE)")]),
    "CONTAINS": _contains_call,
}
NODES: dict[type[exp.Expr], NodeHandler] = {
    syntax_nodes.LikeRegexpr: _like_regexpr,
    syntax_nodes.Regexpr: _regexpr,
    syntax_nodes.SearchScore: _score,
}
