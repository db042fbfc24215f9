"""All functions by name, and all nodes that are calls with a syntax of their own."""

from __future__ import annotations

from sqlglot import exp

from hana_ai.api.local.hana.translation.binding import Handler, NodeHandler
from hana_ai.api.local.hana.translation.functions import (
    aggregates,
    choices,
    json_values,
    moments,
    numbers,
    searching,
    sessions,
    texts,
    vectors,
)

FUNCTIONS: dict[str, Handler] = {
    **texts.FUNCTIONS,
    **numbers.FUNCTIONS,
    **choices.FUNCTIONS,
    **moments.FUNCTIONS,
    **vectors.FUNCTIONS,
    **searching.FUNCTIONS,
    **sessions.FUNCTIONS,
    **aggregates.AGGREGATES,
}
NILADIC: dict[str, Handler] = {
    **moments.NILADIC,
    **sessions.NILADIC,
    "SYSUUID": texts.FUNCTIONS["SYSUUID"],
}
"""Those that are called without parentheses."""
NODES: dict[type[exp.Expr], NodeHandler] = {
    **texts.NODES,
    **aggregates.NODES,
    **moments.NODES,
    **json_values.NODES,
    **searching.NODES,
}
