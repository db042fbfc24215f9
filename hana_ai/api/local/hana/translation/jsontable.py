"""JSON_TABLE: rows and columns out of a JSON document."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.names import literal
from hana_ai.api.local.hana.translation.binding import Binding, name_of
from hana_ai.api.local.hana.translation.fragments import Sql, compose, joined, listed
from hana_ai.api.local.hana.translation.functions.json_values import Access, json_access, json_path
from hana_ai.api.local.hana.translation.functions.signatures import constant_text
from hana_ai.api.local.hana.translation.scope import OutColumn, Relation, Scope

_ROWS = "SELECT unnest(l) AS v, generate_subscripts(l, 1) AS o FROM (SELECT {} AS l)"
_FLAT_ROWS = "SELECT unnest(list_zip({0}, range(1, 1 + len({0})))) AS z"
"""DuckDB joins every row with its whole document, unless the lateral query is nothing but an unnest."""


def _path(node: exp.Expr | None) -> str:
    return json_path(constant_text(node or exp.Null(), "a JSON path that is no constant"))


def _elements(document: Sql, path: str) -> Sql:
    """A DuckDB list of the JSON values that a path selects."""
    if "*" in path:
        return compose("json_extract({}, {})", document, literal(path))
    return compose(
        "(CASE WHEN json_exists({0}, {1}) THEN [json_extract({0}, {1})] ELSE [] END)", document, literal(path)
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """Where a row's JSON value and its number, from 1, are found."""

    value: str
    number: str


@dataclass(slots=True)
class _Parts:
    """What the columns of a JSON_TABLE add to the generated SELECT."""

    items: list[Sql] = field(default_factory=list)
    joins: list[Sql] = field(default_factory=list)
    rows: list[_Row] = field(default_factory=list)
    out: list[OutColumn] = field(default_factory=list)


def _columns(binder: Binding, nodes: list[exp.Expr], row: _Row, scope: Scope, parts: _Parts) -> None:
    parts.rows.append(row)
    for node in nodes:
        nested = node.args.get("nested")
        if nested is not None:
            inner = binder.alias()
            rows = compose(_ROWS, _elements(Sql(row.value), _path(node.args.get("path"))))
            parts.joins.append(compose(" LEFT JOIN LATERAL ({}) AS {} ON TRUE", rows, inner))
            _columns(binder, nested, _Row(f"{inner}.v", f"{inner}.o"), scope, parts)
            continue
        kind = types.BIGINT
        value = Sql(f"CAST({row.number} AS BIGINT)")
        if not node.args.get("ordinality"):
            kind = node.args["to"]
            access = Access(
                _path(node.args.get("path")), kind, bool(node.args.get("format_json")), None,
                node.args.get("on_empty"), node.args.get("on_error"),
            )  # fmt: skip
            value = json_access(binder, Sql(f"CAST({row.value} AS VARCHAR)"), access, scope).sql
        out = Sql(f"c{len(parts.out) + 1}")
        parts.items.append(compose("{} AS {}", value, out))
        parts.out.append(OutColumn(name_of(node.args["name"]), kind, out))


def json_table(binder: Binding, node: exp.Expr, scope: Scope, alias: str, name: str | None) -> Sql:
    """Translate JSON_TABLE in FROM; the document may come from a table before it."""
    document = binder.coerce(binder.bind(node.this, scope), types.nvarchar()).sql
    nested = any(column.args.get("nested") is not None for column in node.args["columns"])
    rows = compose(_ROWS if nested else _FLAT_ROWS, _elements(document, _path(node.args["path"])))
    row = binder.alias()
    parts = _Parts()
    first = _Row(f"{row}.v", f"{row}.o") if nested else _Row(f"{row}.z[1]", f"{row}.z[2]")
    _columns(binder, node.args["columns"], first, scope, parts)
    scope.relations.append(Relation(alias, parts.out, name))
    # Without joins the rows come in the order of the document.
    order = f" ORDER BY {', '.join(one.number for one in parts.rows)}" if nested else ""
    return compose(
        "(SELECT {} FROM ({}) AS {}{}{}) AS {}",
        listed(parts.items), rows, row, joined("", parts.joins), order, alias,
    )  # fmt: skip
