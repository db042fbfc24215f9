"""Translate HANA expressions into DuckDB SQL while inferring their HANA types."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.errors import syntax
from hana_ai.api.local.hana.interface import SqlType, TypeCode
from hana_ai.api.local.hana.translation import calls, leaves, operators, routines
from hana_ai.api.local.hana.translation.binding import NodeHandler, position_of
from hana_ai.api.local.hana.translation.conversions import convert
from hana_ai.api.local.hana.translation.fragments import Sql, cast_to
from hana_ai.api.local.hana.translation.functions import library
from hana_ai.api.local.hana.translation.scope import Bound, BoundQuery, Parameters, Scope
from hana_ai.api.local.hana.types import BOOLEAN

_HANDLERS: dict[type[exp.Expr], NodeHandler] = {
    **leaves.NODES,
    **operators.NODES,
    **calls.NODES,
    **routines.NODES,
    **library.NODES,
}


class ExpressionBinder(ABC):
    """The expression half of the binder; `queries.Binder` adds the query half.

    Parameters
    ----------
    environment : Environment
        Whose names and privileges count.
    parameters : Parameters
        The statement's `?`, filled with their types while binding.
    """

    def __init__(self, environment: Environment, parameters: Parameters) -> None:
        self.environment = environment
        self.parameters = parameters

    @abstractmethod
    def alias(self) -> str:
        """A DuckDB alias that nothing else has."""

    @abstractmethod
    def bind_query(self, node: exp.Expr, scope: Scope | None) -> BoundQuery:
        """Translate a query or a subquery in parentheses."""

    @abstractmethod
    def next_value(self, schema: str | None, name: str, current: bool, position: int) -> Bound | None:
        """sequence.NEXTVAL and sequence.CURRVAL; None when no such sequence exists."""

    def bind(self, node: exp.Expr | None, scope: Scope) -> Bound:
        """Translate one expression."""
        if node is None:
            raise syntax("end of statement")
        handler = _HANDLERS.get(type(node))
        if handler is None:
            raise syntax(f'"{node.key}"', position_of(node))
        return handler(self, node, scope)

    def condition(self, node: exp.Expr, scope: Scope) -> Sql:
        """Translate a predicate."""
        bound = self.bind(node, scope)
        if bound.type is None:
            bound = self.coerce(bound, BOOLEAN)
        if bound.type is not None and bound.type.code != TypeCode.BOOLEAN:
            raise syntax("a value where a condition is expected", position_of(node))
        return bound.sql

    def coerce(self, bound: Bound, target: SqlType) -> Bound:
        """Convert to a type as HANA does implicitly; a parameter takes the type."""
        index = bound.parameter
        if index is not None and self.parameters.types[index] is None:
            self.parameters.types[index] = target
            return Bound(
                cast_to(self.parameters.reference(index), types.storage(target)), target, True, exact=True
            )
        return convert(bound, target)

    def unify(self, *bounds: Bound) -> tuple[list[Bound], SqlType | None]:
        """Convert all to the type that can hold each."""
        kind: SqlType | None = None
        for bound in bounds:
            kind = types.common(kind, bound.type)
        if kind is None:
            return list(bounds), None
        return [self.coerce(bound, kind) for bound in bounds], kind
