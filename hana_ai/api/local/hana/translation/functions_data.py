"""Vector, JSON, regular-expression, search, embedding and session functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson
from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import raising, unsupported
from hana_ai.api.local.hana.interface import HanaError, SqlType, TypeCode
from hana_ai.api.local.hana.names import literal
from hana_ai.api.local.hana.translation.conversions import cast, convert
from hana_ai.api.local.hana.translation.functions import (
    FUNCTIONS,
    NILADIC,
    Handler,
    argument,
    bind_arguments,
    define,
    function,
    wrong_arguments,
)
from hana_ai.api.local.hana.translation.scope import Bound, Scope
from hana_ai.api.local.hana.types import BIGINT, DOUBLE, INTEGER, NCLOB, nvarchar, vector

if TYPE_CHECKING:
    from hana_ai.api.local.hana.catalog.environment import SessionState
    from hana_ai.api.local.hana.translation.expressions import ExpressionBinder

# --- vectors ---
define("L2NORM", "v", DOUBLE, "sqrt(CAST(list_inner_product({0}, {0}) AS DOUBLE))")
define(
    "L2NORMALIZE", "v", "0", "list_transform({0}, lambda x: CAST(x / sqrt(list_inner_product({0}, {0})) AS FLOAT))"
)
define("CARDINALITY", "v", BIGINT, "len({0})")
define("MEMBER_AT", "vi", types.REAL, "list_extract({0}, {1})")
define("SUBVECTOR", "vii", vector(), "list_slice({0}, {1}, {1} + {2} - 1)")


def _distance(name: str, sql: str) -> Handler:
    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        left, right = bind_arguments(binder, name, "vv", nodes, scope)
        sizes = [bound.type.length for bound in (left, right) if bound.type is not None and bound.type.length]
        if len(set(sizes)) > 1:
            raise HanaError(
                2048, f"column store error: the vectors have different dimensions: {sizes[0]} and {sizes[1]}"
            )
        return Bound(f"CAST({sql.format(left.sql, right.sql)} AS DOUBLE)", DOUBLE, exact=True)

    return handler


FUNCTIONS["COSINE_SIMILARITY"] = _distance(
    "COSINE_SIMILARITY", "nullif(list_cosine_similarity({0}, {1}), CAST('nan' AS FLOAT))"
)
FUNCTIONS["L2DISTANCE"] = _distance("L2DISTANCE", "list_distance({0}, {1})")
FUNCTIONS["INNER_PRODUCT"] = FUNCTIONS["DOT_PRODUCT"] = _distance("INNER_PRODUCT", "list_inner_product({0}, {1})")


def vector_of_text(text: str) -> list[float]:
    """The numbers of ``[1, 0.5]``.

    Raises
    ------
    HanaError
        339 for anything else.
    """
    try:
        found = orjson.loads(text)
        if isinstance(found, list) and found and all(isinstance(item, int | float) for item in found):
            values = [float(item) for item in found]
            if all(map(math.isfinite, values)):
                return values
    except (ValueError, OverflowError):
        pass  # The error below tells the caller.
    raise HanaError(339, f"invalid number: {text[:40]!r} is not a vector such as '[1,2]'")


def _to_vector(half: bool) -> Handler:
    name = "TO_HALF_VECTOR" if half else "TO_REAL_VECTOR"

    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if len(nodes) != 1:
            raise wrong_arguments(name)
        bound = binder.bind(nodes[0], scope)
        kind = vector(half=half)
        if bound.parameter is not None and bound.type in {None, NCLOB}:
            # Declared NCLOB, because that lets hdbcli send text and bytes alike.
            binder.parameters.types[bound.parameter] = NCLOB
            binder.parameters.vectors[bound.parameter] = half
            return Bound(f"CAST({binder.parameters.reference(bound.parameter)} AS FLOAT[])", kind, exact=True)
        if bound.text is not None:
            values = vector_of_text(bound.text)
            reference = binder.parameters.hide(values)
            sql = f"CAST({reference} AS FLOAT[])"
            kind = vector(len(values), half)
            return Bound(f"hana_half({sql})" if half else sql, kind, False, exact=True)
        if bound.type is not None and bound.type.code in types.BINARIES:
            return Bound(f"hana_fvecs({bound.sql}, {'TRUE' if half else 'FALSE'})", kind, exact=True)
        return convert(bound, kind)

    return handler


FUNCTIONS["TO_REAL_VECTOR"] = _to_vector(False)
FUNCTIONS["TO_HALF_VECTOR"] = _to_vector(True)


# --- models ---
@function("VECTOR_EMBEDDING")
def _embedding(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if len(nodes) not in {3, 5}:
        raise wrong_arguments("VECTOR_EMBEDDING")
    if len(nodes) == 5:
        raise unsupported("VECTOR_EMBEDDING through a remote source")
    text, kind, model = (argument(binder, node, "s", scope) for node in nodes[:3])
    return Bound(f"hana_embed({text.sql}, {kind.sql}, {model.sql})", vector(), text.nullable, exact=True)


@function("CROSS_ENCODE")
def _cross_encode(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    bounds = bind_arguments(binder, "CROSS_ENCODE", "sss", nodes, scope)
    return Bound(f"hana_cross({', '.join(bound.sql for bound in bounds)})", DOUBLE, exact=True)


# --- search ---
def _contains(columns: Sequence[Bound], query: Bound) -> str:
    text = " || ' ' || ".join(f"coalesce({column.sql}, '')" for column in columns)
    return f"hana_contains({text}, {query.sql})"


@function("<SearchScore>")
def _score(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    node = nodes[0]
    query = argument(binder, node.this, "s", scope)
    columns = [argument(binder, column, "s", scope) for column in node.args["columns"]]
    return Bound(f"(CASE WHEN {_contains(columns, query)} THEN 1.0 ELSE 0.0 END)", DOUBLE, False)


@function("CONTAINS")
def _contains_call(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if len(nodes) < 2:
        raise wrong_arguments("CONTAINS")
    first = nodes[0]
    if isinstance(first, exp.Star):
        raise unsupported("CONTAINS over all columns")
    columns = first.expressions if isinstance(first, exp.Tuple) else [first]
    bounds = [argument(binder, column, "s", scope) for column in columns]
    return Bound(_contains(bounds, argument(binder, nodes[1], "s", scope)), types.BOOLEAN, False)


define("SCORE", "", DOUBLE, "CAST(1 AS DOUBLE)")


# --- JSON ---
def json_path(text: str) -> str:
    """A path as DuckDB reads it; HANA's modes are left out.

    Raises
    ------
    HanaError
        7 for filters and methods.
    """
    path = text.strip()
    for mode in ("lax ", "strict "):
        path = path.removeprefix(mode)
    if not path.startswith("$") or "?" in path or "(" in path:
        raise unsupported(f"JSON path {text}")
    return path


@function("<JsonScalar>")
def _json_scalar(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    node = nodes[0]
    document = argument(binder, node.this, "s", scope).sql
    path_bound = binder.bind(node.args["path"], scope)
    if path_bound.text is None:
        raise unsupported("a JSON path that is no constant")
    path = literal(json_path(path_bound.text))
    returning: SqlType = node.args.get("returning") or nvarchar()
    return json_access(
        binder, document, path, scope, query=node.args["name"] == "JSON_QUERY", returning=returning,
        wrapper=node.args.get("wrapper"), on_empty=node.args.get("on_empty"), on_error=node.args.get("on_error"),
    )  # fmt: skip


def json_access(
    binder: ExpressionBinder, document: str, path: str, scope: Scope, *, query: bool, returning: SqlType,
    wrapper: str | None, on_empty: object, on_error: object,
) -> Bound:  # fmt: skip
    """The value at a path, with what happens when there is none."""
    failure = "NULL"
    if on_error == "ERROR":
        failure = raising(1057, "JSON: the document or the path is not valid")
    elif isinstance(on_error, exp.Expr):
        failure = binder.coerce(binder.bind(on_error, scope), nvarchar()).sql
    elif isinstance(on_error, str) and on_error.startswith("EMPTY"):
        failure = "'[]'" if on_error == "EMPTY ARRAY" else "'{}'"
    given = document
    # A constant that is no JSON would fail while the plan is made, whatever CASE stands around it.
    document = f"(CASE WHEN json_valid({given}) THEN {given} END)"
    kind = f"json_type({document}, {path})"
    if query:
        value = f"CAST(json_extract({document}, {path}) AS VARCHAR)"
        structured = f"{kind} IN ('OBJECT', 'ARRAY')"
        if wrapper == "ALWAYS":
            found = f"'[' || {value} || ']'"
        elif wrapper == "CONDITIONAL":
            found = f"CASE WHEN {structured} THEN {value} ELSE '[' || {value} || ']' END"
        else:
            found = f"CASE WHEN {structured} THEN {value} ELSE {failure} END"
    else:
        value = f"json_extract_string({document}, {path})"
        found = f"CASE WHEN {kind} IN ('OBJECT', 'ARRAY') THEN {failure} ELSE {value} END"
    if on_empty == "ERROR":
        found = f"CASE WHEN {kind} IS NULL THEN {raising(1057, 'JSON: no value at the path')} ELSE {found} END"
    elif isinstance(on_empty, exp.Expr):
        default = binder.coerce(binder.bind(on_empty, scope), nvarchar()).sql
        found = f"CASE WHEN {kind} IS NULL THEN {default} ELSE {found} END"
    elif isinstance(on_empty, str) and on_empty.startswith("EMPTY"):
        empty = "'[]'" if on_empty == "EMPTY ARRAY" else "'{}'"
        found = f"CASE WHEN {kind} IS NULL THEN {empty} ELSE {found} END"
    sql = f"(CASE WHEN {given} IS NULL THEN NULL WHEN NOT json_valid({given}) THEN {failure} ELSE {found} END)"
    return cast(binder, Bound(sql, nvarchar(), exact=True), returning)


# --- regular expressions ---
def _flags(node: exp.Expr | None) -> str:
    if node is None:
        return ""
    if not isinstance(node, exp.Literal) or set(str(node.this)) - set("ims"):
        raise unsupported("regular expression flags other than i, m, s")
    return str(node.this)


def _pattern(binder: ExpressionBinder, node: exp.Expr, flags: str, scope: Scope) -> str:
    pattern = argument(binder, node, "s", scope).sql
    return f"('(?{flags})' || {pattern})" if flags else pattern


@function("<LikeRegexpr>")
def _like_regexpr(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    node = nodes[0]
    text = argument(binder, node.this, "s", scope).sql
    pattern = _pattern(binder, node.args["pattern"], _flags(node.args.get("flag")), scope)
    return Bound(f"regexp_matches({text}, {pattern})", types.BOOLEAN)


@function("<Regexpr>")
def _regexpr(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    node = nodes[0]
    name = node.args["name"]
    text = argument(binder, node.args["text"], "s", scope).sql
    pattern = _pattern(binder, node.args["pattern"], _flags(node.args.get("flag")), scope)
    start = node.args.get("start")
    if start is not None:
        position = argument(binder, start, "i", scope).sql
        if name == "REPLACE_REGEXPR":
            raise unsupported("REPLACE_REGEXPR ... FROM")
        if name != "LOCATE_REGEXPR":
            text = f"substr({text}, {position})"
    occurrence_node, group_node = node.args.get("occurrence"), node.args.get("group")
    occurrence = argument(binder, occurrence_node, "i", scope).sql if occurrence_node is not None else None
    group = argument(binder, group_node, "i", scope).sql if group_node is not None else "0"
    if name == "REPLACE_REGEXPR":
        replacement = (
            argument(binder, node.args["replacement"], "s", scope).sql if node.args.get("replacement") else "''"
        )
        if occurrence not in {None, "1"}:
            raise unsupported("REPLACE_REGEXPR ... OCCURRENCE other than 1 or ALL")
        options = "" if occurrence == "1" else ", 'g'"
        return Bound(f"regexp_replace({text}, {pattern}, {replacement}{options})", nvarchar())
    if name == "OCCURRENCES_REGEXPR":
        return Bound(f"CAST(len(regexp_extract_all({text}, {pattern})) AS INTEGER)", INTEGER, exact=True)
    if name == "LOCATE_REGEXPR":
        begin = argument(binder, start, "i", scope).sql if start is not None else "1"
        return Bound(
            f"hana_regex_locate({pattern}, {text}, {begin}, {occurrence or '1'}, {group})", INTEGER, exact=True
        )
    return Bound(f"list_extract(regexp_extract_all({text}, {pattern}, {group}), {occurrence or '1'})", nvarchar())


# --- session ---
def _session_text(attribute: str) -> Handler:
    def value(state: SessionState) -> object:
        return str(getattr(state, attribute))

    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        return Bound(f"CAST({binder.parameters.hide(value)} AS VARCHAR)", nvarchar(256), False, exact=True)

    return handler


NILADIC["SYSUUID"] = FUNCTIONS["SYSUUID"]
NILADIC["CURRENT_USER"] = NILADIC["SESSION_USER"] = _session_text("user")
NILADIC["CURRENT_SCHEMA"] = _session_text("schema")


@function("CURRENT_CONNECTION")
def _current_connection(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    def value(state: SessionState) -> object:
        return state.connection_id

    return Bound(f"CAST({binder.parameters.hide(value)} AS INTEGER)", INTEGER, False, exact=True)


NILADIC["CURRENT_CONNECTION"] = FUNCTIONS["CURRENT_CONNECTION"]


@function("CURRENT_TRANSACTION_ISOLATION_LEVEL")
def _isolation(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    return Bound("'READ COMMITTED'", nvarchar(30), False, exact=True)


NILADIC["CURRENT_TRANSACTION_ISOLATION_LEVEL"] = FUNCTIONS["CURRENT_TRANSACTION_ISOLATION_LEVEL"]


@function("CURRENT_IDENTITY_VALUE")
def _identity(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    def value(state: SessionState) -> object:
        return state.last_identity

    return Bound(f"CAST({binder.parameters.hide(value)} AS BIGINT)", BIGINT, exact=True)


@function("CURRENT_OBJECT_SCHEMA")
def _object_schema(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    return NILADIC["CURRENT_SCHEMA"](binder, nodes, scope)


@function("SESSION_CONTEXT")
def _session_context(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    (key,) = bind_arguments(binder, "SESSION_CONTEXT", "s", nodes, scope)
    if key.text is None:
        raise unsupported("SESSION_CONTEXT of something that is no constant")
    wanted = key.text

    def value(state: SessionState) -> object:
        return state.context(wanted)

    return Bound(f"CAST({binder.parameters.hide(value)} AS VARCHAR)", nvarchar(512), exact=True)


__all__ = ["TypeCode", "json_access", "json_path", "vector_of_text"]
