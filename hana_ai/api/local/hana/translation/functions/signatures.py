"""The arguments of functions, and functions that a line of a table describes.

A signature is a word of kinds: `s` text, `n` number, `d` DOUBLE, `i` INTEGER, `b` BIGINT, `D` DATE, `T` TIMESTAMP,
`t` TIME, `v` vector, `B` BOOLEAN, `y` bytes, `x` anything; `?` makes the rest optional, `*` repeats the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.interface import HanaError, SqlType
from hana_ai.api.local.hana.translation.binding import Binding, Handler, is_number
from hana_ai.api.local.hana.translation.conversions import convert, to_number
from hana_ai.api.local.hana.translation.fragments import compose
from hana_ai.api.local.hana.translation.scope import Bound, Scope

_KINDS: dict[str, SqlType] = {
    "s": types.nvarchar(),
    "d": types.DOUBLE,
    "i": types.INTEGER,
    "b": types.BIGINT,
    "D": types.DATE,
    "T": types.TIMESTAMP,
    "t": types.TIME,
    "v": types.vector(),
    "B": types.BOOLEAN,
    "y": types.BLOB,
}

FIRST = 0
"""The result of a `Simple` function that has the type of its first argument."""


@dataclass(frozen=True, slots=True)
class Simple:
    """A function that only needs its arguments converted and put into a template.

    Parameters
    ----------
    names : str
        All its names, the first one for messages.
    signature : str
        See the module.
    result : SqlType or int
        Its type, or which argument's type it has.
    template : str
        DuckDB SQL with ``{0}`` for the first argument.
    longer : str, optional
        The template when optional arguments are given.
    """

    names: str
    signature: str
    result: SqlType | int
    template: str
    longer: str | None = None

    def __call__(self, binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        bounds = bind_arguments(binder, self.names, self.signature, nodes, scope)
        required = len(self.signature.partition("?")[0].rstrip("*"))
        template = self.longer if self.longer is not None and len(bounds) > required else self.template
        kind = bounds[self.result].type if isinstance(self.result, int) else self.result
        nullable = not bounds or any(bound.nullable for bound in bounds)
        return Bound(compose(template, *(bound.sql for bound in bounds)), kind, nullable)


def by_name(functions: Iterable[Simple]) -> dict[str, Handler]:
    """The functions under all their names."""
    return {name: function for function in functions for name in function.names.split()}


def wrong_arguments(name: str) -> HanaError:
    """316, HANA's error for a wrong number of arguments."""
    return HanaError(316, f"wrong number or types of parameters in call: {name}")


def argument(binder: Binding, node: exp.Expr, kind: str, scope: Scope) -> Bound:
    """Translate one argument, converted to the kind that a signature asks for."""
    bound = binder.bind(node, scope)
    if kind == "x":
        return bound
    if kind == "n":
        return binder.coerce(bound, types.DECIMAL) if bound.type is None else to_number(bound)
    if kind == "v":
        return _vector(binder, bound)
    if kind == "y" and types.is_string(bound.type):
        return convert(bound, types.BLOB)
    return binder.coerce(bound, _KINDS[kind])


def _vector(binder: Binding, bound: Bound) -> Bound:
    # A parameter becomes a vector; text does not without TO_REAL_VECTOR.
    if bound.type is None:
        return binder.coerce(bound, types.vector())
    if not types.is_vector(bound.type):
        raise HanaError(266, f"inconsistent datatype: {bound.type.name} is not a vector")
    return bound


def bind_arguments(
    binder: Binding, name: str, signature: str, nodes: Sequence[exp.Expr], scope: Scope
) -> list[Bound]:
    """Translate all arguments by a signature.

    Raises
    ------
    HanaError
        316 when there are too many or too few.
    """
    required, _, optional = signature.partition("?")
    repeated = required.endswith("*")
    kinds = required.rstrip("*")
    if repeated and len(nodes) > len(kinds):
        kinds += kinds[-1] * (len(nodes) - len(kinds))
    if not len(kinds) <= len(nodes) <= len(kinds + optional):
        raise wrong_arguments(name)
    return [argument(binder, node, kind, scope) for node, kind in zip(nodes, kinds + optional, strict=False)]


def constant_text(node: exp.Expr, what: str = "a format that is no constant") -> str:
    """A text written in the SQL text."""
    if isinstance(node, exp.Literal) and node.args.get("is_string"):
        return str(node.this)
    raise unsupported(what)


def constant_number(node: exp.Expr) -> int:
    """A whole number written in the SQL text."""
    if is_number(node):
        return int(node.this)
    raise unsupported("a size that is no constant")
