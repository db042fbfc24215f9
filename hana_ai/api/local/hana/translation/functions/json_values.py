"""JSON_VALUE and JSON_QUERY, and what JSON_TABLE shares with them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from hana_ai.api.local.hana.errors import raising, unsupported
from hana_ai.api.local.hana.interface import SqlType
from hana_ai.api.local.hana.language import nodes as syntax_nodes
from hana_ai.api.local.hana.names import literal
from hana_ai.api.local.hana.translation.binding import Binding, NodeHandler
from hana_ai.api.local.hana.translation.conversions import cast
from hana_ai.api.local.hana.translation.fragments import NULL, Sql, cast_to, compose
from hana_ai.api.local.hana.translation.functions.signatures import argument
from hana_ai.api.local.hana.translation.scope import Bound, Scope
from hana_ai.api.local.hana.types import nvarchar


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


@dataclass(frozen=True, slots=True)
class Access:
    """How a value is taken out of a document."""

    path: str
    returning: SqlType
    query: bool
    """Whether objects and arrays are wanted (JSON_QUERY) or scalars (JSON_VALUE)."""
    wrapper: str | None
    """ALWAYS or CONDITIONAL, for the array around the result of JSON_QUERY."""
    on_empty: str | exp.Expr | None
    on_error: str | exp.Expr | None


def _fallback(binder: Binding, given: str | exp.Expr | None, problem: str, scope: Scope) -> Sql | None:
    """What ON EMPTY or ON ERROR gives; None for NULL."""
    if isinstance(given, exp.Expr):
        return binder.coerce(binder.bind(given, scope), nvarchar()).sql
    if given == "ERROR":
        return Sql(raising(1057, problem))
    if given is not None and given.startswith("EMPTY"):
        return Sql("'[]'" if given == "EMPTY ARRAY" else "'{}'")
    return None


def json_access(binder: Binding, document: Sql, access: Access, scope: Scope) -> Bound:
    """The value at a path, with what happens when there is none."""
    failure = _fallback(binder, access.on_error, "JSON: the document or the path is not valid", scope) or NULL
    path = literal(access.path)
    # A constant that is no JSON would fail while the plan is made, whatever CASE stands around it.
    valid = compose("(CASE WHEN json_valid({0}) THEN {0} END)", document)
    kind = compose("json_type({}, {})", valid, path)
    if access.query:
        found = _structure(cast_to(compose("json_extract({}, {})", valid, path), "VARCHAR"), kind, access, failure)
    else:
        found = compose(
            "CASE WHEN {} IN ('OBJECT', 'ARRAY') THEN {} ELSE json_extract_string({}, {}) END",
            kind, failure, valid, path,
        )  # fmt: skip
    empty = _fallback(binder, access.on_empty, "JSON: no value at the path", scope)
    if empty is not None:
        found = compose("CASE WHEN {} IS NULL THEN {} ELSE {} END", kind, empty, found)
    complete = compose(
        "(CASE WHEN {0} IS NULL THEN NULL WHEN NOT json_valid({0}) THEN {1} ELSE {2} END)",
        document, failure, found,
    )  # fmt: skip
    return cast(binder, Bound(complete, nvarchar(), exact=True), access.returning)


def _structure(value: Sql, kind: Sql, access: Access, failure: Sql) -> Sql:
    structured = compose("{} IN ('OBJECT', 'ARRAY')", kind)
    if access.wrapper == "ALWAYS":
        return compose("'[' || {} || ']'", value)
    if access.wrapper == "CONDITIONAL":
        return compose("CASE WHEN {0} THEN {1} ELSE '[' || {1} || ']' END", structured, value)
    return compose("CASE WHEN {} THEN {} ELSE {} END", structured, value, failure)


def _json_scalar(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    document = argument(binder, node.this, "s", scope).sql
    path = binder.bind(node.args["path"], scope)
    if path.text is None:
        raise unsupported("a JSON path that is no constant")
    access = Access(
        json_path(path.text),
        node.args.get("returning") or nvarchar(),
        node.args["name"] == "JSON_QUERY",
        node.args.get("wrapper"),
        node.args.get("on_empty"),
        node.args.get("on_error"),
    )
    return json_access(binder, document, access, scope)


NODES: dict[type[exp.Expr], NodeHandler] = {syntax_nodes.JsonScalar: _json_scalar}
