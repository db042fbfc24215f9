"""The arguments of CALL."""

from __future__ import annotations

from collections.abc import Sequence

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


def by_parameter(routine: RoutineInfo, arguments: Sequence[tuple[str | None, exp.Expr]]) -> dict[str, exp.Expr]:
    """The arguments of a call by the names of their parameters.

    Raises
    ------
    HanaError
        1281 when they do not fit.
    """
    names = [item.name for item in routine.parameters]
    found: dict[str, exp.Expr] = {}
    for place, (name, node) in enumerate(arguments):
        key = name if name is not None else names[place] if place < len(names) else ""
        if key not in names or key in found:
            raise HanaError(1281, f"wrong number or types of parameters in call: {routine.name}")
        found[key] = node
    missing = [item.name for item in routine.parameters if item.name not in found and item.mode != "OUT"]
    missing = [name for name in missing if routine.parameters[names.index(name)].default is None]
    if missing:
        raise HanaError(
            1281, f"wrong number or types of parameters in call: {routine.name}: {missing[0]} is missing"
        )
    return found
