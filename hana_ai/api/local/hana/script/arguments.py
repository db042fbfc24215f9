"""The arguments of CALL."""

from __future__ import annotations

from sqlglot import exp

from hana_ai.api.local.hana.catalog.objects import RoutineInfo
from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import nodes
from hana_ai.api.local.hana.language import syntax as ast
from hana_ai.api.local.hana.translation.queries import Binder
from hana_ai.api.local.hana.translation.routines import find_routine


def target_of(node: exp.Expr) -> str:
    """The variable that an OUT parameter is bound to."""
    if isinstance(node, nodes.ScriptVariable) and not node.args.get("index"):
        return str(node.this)
    if isinstance(node, exp.Column) and not node.args.get("table"):
        identifier = node.this
        return str(identifier.this) if identifier.args.get("quoted") else str(identifier.this).upper()
    raise HanaError(1282, "output parameter is not a variable")


def procedure(binder: Binder, name: ast.Name) -> RoutineInfo:
    """The procedure that CALL names.

    Raises
    ------
    HanaError
        7 for those of HANA's application function libraries, 328 for an unknown one.
    """
    if name.schema == "_SYS_AFL":
        raise unsupported(f"PAL, APL and every other AFL: {name.name}", name.position)
    return find_routine(binder, "PROCEDURE", name.schema, name.name, name.position)
