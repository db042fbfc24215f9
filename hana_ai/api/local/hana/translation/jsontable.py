"""JSON_TABLE: rows and columns out of a JSON document."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.names import literal
from hana_ai.api.local.hana.translation.expressions import name_of
from hana_ai.api.local.hana.translation.functions import constant_text
from hana_ai.api.local.hana.translation.functions_data import json_access, json_path
from hana_ai.api.local.hana.translation.scope import OutColumn, Relation, Scope

if TYPE_CHECKING:
    from hana_ai.api.local.hana.translation.queries import Binder


def _elements(document: str, path: str) -> str:
    """A DuckDB list of the JSON values that a path selects."""
    marked = literal(path)
    if "*" in path:
        return f"json_extract({document}, {marked})"
    return f"(CASE WHEN json_exists({document}, {marked}) THEN [json_extract({document}, {marked})] ELSE [] END)"


@dataclass(slots=True)
class _Parts:
    """What the columns of a JSON_TABLE add to the generated SELECT."""

    items: list[str] = field(default_factory=list)
    joins: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    out: list[OutColumn] = field(default_factory=list)


def _columns(binder: Binder, nodes: list[exp.Expr], row: str, scope: Scope, parts: _Parts) -> None:
    parts.rows.append(row)
    for node in nodes:
        nested = node.args.get("nested")
        path_node = node.args.get("path") or exp.Null()
        if nested is not None:
            inner = binder.alias()
            elements = _elements(f"{row}.v", json_path(constant_text(path_node)))
            parts.joins.append(
                f" LEFT JOIN LATERAL (SELECT unnest(l) AS v, generate_subscripts(l, 1) AS o "
                f"FROM (SELECT {elements} AS l)) AS {inner} ON TRUE"
            )
            _columns(binder, nested, inner, scope, parts)
            continue
        name, sql_name = name_of(node.args["name"]), f"c{len(parts.out) + 1}"
        if node.args.get("ordinality"):
            parts.items.append(f"CAST({row}.o AS BIGINT) AS {sql_name}")
            parts.out.append(OutColumn(name, types.BIGINT, sql_name))
            continue
        kind = node.args["to"]
        value = json_access(
            binder,
            f"CAST({row}.v AS VARCHAR)",
            literal(json_path(constant_text(path_node))),
            scope,
            query=bool(node.args.get("format_json")),
            returning=kind,
            wrapper=None,
            on_empty=node.args.get("on_empty"),
            on_error=node.args.get("on_error"),
        )
        parts.items.append(f"{value.sql} AS {sql_name}")
        parts.out.append(OutColumn(name, kind, sql_name))


def json_table(binder: Binder, node: exp.Expr, scope: Scope, alias: str, name: str | None) -> str:
    """Translate JSON_TABLE in FROM; the document may come from a table before it."""
    document = binder.coerce(binder.bind(node.this, scope), types.nvarchar()).sql
    path_node = node.args["path"]
    if not isinstance(path_node, exp.Literal):
        raise unsupported("a JSON path that is no constant")
    elements = _elements(document, json_path(constant_text(path_node)))
    row = binder.alias()
    parts = _Parts()
    _columns(binder, node.args["columns"], row, scope, parts)
    scope.relations.append(Relation(alias, parts.out, name))
    source = f"(SELECT unnest(l) AS v, generate_subscripts(l, 1) AS o FROM (SELECT {elements} AS l)) AS {row}"
    order = ", ".join(f"{name}.o" for name in parts.rows)
    return f"(SELECT {', '.join(parts.items)} FROM {source}{''.join(parts.joins)} ORDER BY {order}) AS {alias}"
