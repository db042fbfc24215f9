"""Functions on vectors, and the models that make them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import orjson
from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.translation.binding import Binding, Handler, name_of
from hana_ai.api.local.hana.translation.conversions import convert
from hana_ai.api.local.hana.translation.fragments import cast_to, compose, listed
from hana_ai.api.local.hana.translation.functions.signatures import (
    FIRST,
    Simple,
    argument,
    bind_arguments,
    by_name,
    wrong_arguments,
)
from hana_ai.api.local.hana.translation.scope import Bound, Scope
from hana_ai.api.local.hana.types import BIGINT, DOUBLE, NCLOB, vector

_SIMPLE = (
    Simple("L2NORM", "v", DOUBLE, "sqrt(CAST(list_inner_product({0}, {0}) AS DOUBLE))"),
    Simple(
        "L2NORMALIZE", "v", FIRST,
        "list_transform({0}, lambda x: CAST(x / sqrt(list_inner_product({0}, {0})) AS FLOAT))",
    ),
    Simple("CARDINALITY", "v", BIGINT, "len({0})"),
    Simple("MEMBER_AT", "vi", types.REAL, "list_extract({0}, {1})"),
    Simple("SUBVECTOR", "vii", vector(), "list_slice({0}, {1}, {1} + {2} - 1)"),
)  # fmt: skip


def _distance(name: str, template: str) -> Handler:
    def handler(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        left, right = bind_arguments(binder, name, "vv", nodes, scope)
        sizes = [bound.type.length for bound in (left, right) if bound.type is not None and bound.type.length]
        if len(set(sizes)) > 1:
            raise HanaError(
                2048, f"column store error: the vectors have different dimensions: {sizes[0]} and {sizes[1]}"
            )
        return Bound(cast_to(compose(template, left.sql, right.sql), "DOUBLE"), DOUBLE, exact=True)

    return handler


def vector_of_text(text: str) -> list[float]:
    """The numbers of ``[1, 0.5]``.

    Raises
    ------
    HanaError
        339 for anything else.
    """
    try:
        found = orjson.loads(text)
        if isinstance(found, list) and found and all(isinstance(item, int | float) for item in found):
            values = [float(item) for item in found]
            if all(map(math.isfinite, values)):
                return values
    except (ValueError, OverflowError):
        pass  # The error below tells the caller.
    raise HanaError(339, f"invalid number: {text[:40]!r} is not a vector such as '[1,2]'")


def _to_vector(name: str, half: bool) -> Handler:
    def handler(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if len(nodes) != 1:
            raise wrong_arguments(name)
        bound = binder.bind(nodes[0], scope)
        kind = vector(half=half)
        if bound.parameter is not None and bound.type in {None, NCLOB}:
            # Declared NCLOB, because that lets hdbcli send text and bytes alike.
            binder.parameters.types[bound.parameter] = NCLOB
            binder.parameters.vectors[bound.parameter] = half
            return Bound(cast_to(binder.parameters.reference(bound.parameter), "FLOAT[]"), kind, exact=True)
        if bound.text is not None:
            values = vector_of_text(bound.text)
            given = cast_to(binder.parameters.hide(values), "FLOAT[]")
            if half:
                given = compose("hana_half({})", given)
            return Bound(given, vector(len(values), half), False, exact=True)
        if bound.type is not None and bound.type.code in types.BINARIES:
            read = compose("hana_fvecs({}, {})", bound.sql, "TRUE" if half else "FALSE")
            return Bound(read, kind, exact=True)
        return convert(bound, kind)

    return handler


def _embedding(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if len(nodes) not in {3, 4, 5}:
        raise wrong_arguments("VECTOR_EMBEDDING")
    if len(nodes) > 3:
        source = ".".join(name_of(part.this if isinstance(part, exp.Column) else part) for part in nodes[3:])
        raise unsupported(
            f"VECTOR_EMBEDDING through the remote source {source}: nothing is sent to another service"
        )
    text, kind, model = (argument(binder, node, "s", scope) for node in nodes[:3])
    embedded = compose("hana_embed({}, {}, {})", text.sql, kind.sql, model.sql)
    return Bound(embedded, vector(), text.nullable, exact=True)


def _cross_encode(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    bounds = bind_arguments(binder, "CROSS_ENCODE", "sss", nodes, scope)
    return Bound(compose("hana_cross({})", listed(bound.sql for bound in bounds)), DOUBLE, exact=True)


FUNCTIONS: dict[str, Handler] = {
    **by_name(_SIMPLE),
    "COSINE_SIMILARITY": _distance(
        "COSINE_SIMILARITY", "nullif(list_cosine_similarity({0}, {1}), CAST('nan' AS FLOAT))"
    ),
    "L2DISTANCE": _distance("L2DISTANCE", "list_distance({0}, {1})"),
    "INNER_PRODUCT": _distance("INNER_PRODUCT", "list_inner_product({0}, {1})"),
    "DOT_PRODUCT": _distance("INNER_PRODUCT", "list_inner_product({0}, {1})"),
    "TO_REAL_VECTOR": _to_vector("TO_REAL_VECTOR", False),
    "TO_HALF_VECTOR": _to_vector("TO_HALF_VECTOR", True),
    "VECTOR_EMBEDDING": _embedding,
    "CROSS_ENCODE": _cross_encode,
}
