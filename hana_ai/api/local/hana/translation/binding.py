"""What the translation of one expression needs of the statement around it, so that its modules form no circle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from sqlglot import exp

from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.interface import SqlType
from hana_ai.api.local.hana.translation.fragments import Sql, compose, listed
from hana_ai.api.local.hana.translation.scope import Bound, BoundQuery, Parameters, Scope


class Binding(Protocol):
    """One statement being translated; implemented by `queries.Binder`."""

    environment: Environment
    parameters: Parameters

    def alias(self) -> str:
        """A DuckDB alias that nothing else has."""

    def bind(self, node: exp.Expr | None, scope: Scope) -> Bound:
        """Translate an expression."""

    def condition(self, node: exp.Expr, scope: Scope) -> Sql:
        """Translate a predicate."""

    def coerce(self, bound: Bound, target: SqlType) -> Bound:
        """Convert as HANA does implicitly; a parameter takes the type."""

    def unify(self, *bounds: Bound) -> tuple[list[Bound], SqlType | None]:
        """Convert all to the type that can hold each."""

    def bind_query(self, node: exp.Expr, scope: Scope | None) -> BoundQuery:
        """Translate a query or a subquery in parentheses."""

    def next_value(self, schema: str | None, name: str, current: bool, position: int) -> Bound | None:
        """sequence.NEXTVAL and sequence.CURRVAL; None when no such sequence exists."""


Handler: TypeAlias = Callable[[Binding, Sequence[exp.Expr], Scope], Bound]
"""Translates the call of a function, given its arguments."""

NodeHandler: TypeAlias = Callable[[Binding, exp.Expr, Scope], Bound]
"""Translates one kind of node."""


def name_of(identifier: exp.Expr) -> str:
    """The HANA name of an identifier: folded unless quoted."""
    text = str(identifier.this)
    return text if identifier.args.get("quoted") else text.upper()


def position_of(node: exp.Expr) -> int:
    """Where the node's first name stands, in characters from 1; 0 when unknown."""
    for part in (node, *node.find_all(exp.Identifier)):
        start = part.meta.get("start")
        if start is not None:
            return int(start) + 1
    return 0


def function_name(node: exp.Expr) -> str:
    """The name of a call, folded."""
    this = node.this
    return name_of(this) if isinstance(this, exp.Identifier) else str(this).upper()


def is_number(node: exp.Expr | None) -> bool:
    """Whether the node is a number as written in the SQL text."""
    return isinstance(node, exp.Literal) and not node.args.get("is_string")


def direction(item: exp.Expr) -> str:
    """DESC and the place of NULLs, always spelled out: HANA's default differs from DuckDB's."""
    descending = " DESC" if item.args.get("desc") else ""
    return f"{descending} NULLS {'FIRST' if item.args.get('nulls_first') else 'LAST'}"


def order_items(binder: Binding, order: exp.Expr, scope: Scope) -> Sql:
    """The items of an ORDER BY inside a call or a window."""
    return listed(
        compose("{}{}", binder.bind(item.this, scope).sql, direction(item)) for item in order.expressions
    )
