"""UNNEST: arrays as the columns of a table."""

from __future__ import annotations

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import syntax
from hana_ai.api.local.hana.interface import SqlType
from hana_ai.api.local.hana.language import nodes
from hana_ai.api.local.hana.translation.binding import Binding, position_of
from hana_ai.api.local.hana.translation.fragments import Sql, cast_to, compose, listed
from hana_ai.api.local.hana.translation.routines import undeclared
from hana_ai.api.local.hana.translation.scope import OutColumn, Scope


def unnest(binder: Binding, node: exp.Expr, scope: Scope) -> tuple[list[OutColumn], Sql]:
    """The columns and the rows; an array that is shorter than another ends in NULLs.

    Raises
    ------
    HanaError
        257 without an alias.
    """
    if node.args.get("alias") is None:
        raise syntax("UNNEST(...): AS is missing", position_of(node))
    arrays = [_array(binder, item, scope) for item in node.expressions]
    columns = [OutColumn(f"COL{index}", kind, Sql(f"c{index}")) for index, (_, kind) in enumerate(arrays, 1)]
    items = [compose("unnest({}) AS c{}", array, index) for index, (array, _) in enumerate(arrays, 1)]
    if node.args.get("ordinality"):
        number = Sql(f"c{len(arrays) + 1}")
        columns.append(OutColumn("ORDINALITY", types.BIGINT, number, False))
        most = listed(compose("coalesce(len({}), 0)", array) for array, _ in arrays)
        items.append(compose("unnest(range(1, 1 + greatest({}))) AS {}", most, number))
    return columns, compose("SELECT {}", listed(items))


def _array(binder: Binding, node: exp.Expr, scope: Scope) -> tuple[Sql, SqlType]:
    """A DuckDB list, and the type of its elements."""
    if isinstance(node, nodes.ScriptVariable):
        names = binder.parameters.variables
        found = names.scalars.get(str(node.this)) if names is not None else None
        if found is None or not found.array:
            raise undeclared(str(node.this), position_of(node))
        value = Sql(f"${found.physical}", frozenset({found.physical}))
        return cast_to(value, f"{types.storage(found.type)}[]"), found.type
    bounds, kind = binder.unify(*(binder.bind(item, scope) for item in node.expressions))
    known = kind or types.nvarchar()
    elements = listed(cast_to(bound.sql, types.storage(known)) for bound in bounds)
    return compose("[{}]", elements), known
