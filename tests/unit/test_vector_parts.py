"""Vectors made where a part of their reply is decoded: checked lists, and what simdjson reads beside orjson."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.errors import TogetherAIResponseError
from hana_ai.api.hana.vector_column import Packing
from hana_ai.api.langchain.embedding_replies import vectors_from_wire
from hana_ai.api.langchain.vector_parts import LARGEST, _packed, decode_checked, decoder
from hana_ai.api.wire.encoding import loads
from tests.unit.test_embeddings import NOT_A_VECTOR_A_TEXT, entry

needs_simdjson = pytest.mark.skipif(
    find_spec("simdjson") is None, reason="simdjson has no wheel for this version of Python"
)

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1, 1),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([0, -0.0, LARGEST, 65519.999, 65520, 5e-324, 1 + 2**-11, 1 + 2**-24]),
)
VECTORS = st.lists(st.lists(NUMBERS, max_size=5), max_size=4)


def _as_json(reply: Any) -> bytes | None:
    """A reply as it comes from the wire; None where orjson cannot read it."""
    try:
        data = json.dumps(reply, allow_nan=False).encode()
        orjson.loads(data)
    except ValueError:
        return None
    return data


@pytest.mark.parametrize(
    ("data", "what"),
    [(data, what) for reply, what in NOT_A_VECTOR_A_TEXT if (data := _as_json(reply)) is not None],
)
def test_a_wrong_vector_is_told_alike_where_it_is_checked_as_it_is_decoded(data: bytes, what: str) -> None:
    with pytest.raises(TogetherAIResponseError, match=what):
        vectors_from_wire(loads(data, decode_checked), 2)


@given(VECTORS)
def test_vectors_are_the_same_where_they_are_checked_as_they_are_decoded(vectors: list[list[float]]) -> None:
    data = orjson.dumps({"data": [entry(index, vector) for index, vector in enumerate(vectors)]})

    def read(reply: Any) -> Any:
        try:
            made = vectors_from_wire(reply, len(vectors))
        except TogetherAIResponseError as exc:
            return str(exc)
        return [[(type(number), number) for number in vector] for vector in made]

    assert read(loads(data, decode_checked)) == read(orjson.loads(data))


@needs_simdjson
@given(VECTORS, st.sampled_from(["REAL_VECTOR", "HALF_VECTOR"]))
def test_vectors_are_the_same_with_and_without_floats(vectors: list[list[float]], type: str) -> None:
    pack = Packing(type)
    part = orjson.dumps([entry(index, vector) for index, vector in enumerate(vectors)])
    plain = _packed(pack, part)
    for one, other in zip(decoder(pack)(part), plain, strict=True):
        for key in ("index", "embedding"):
            assert one.get(key) == other.get(key)


@needs_simdjson
def test_no_python_float_is_made() -> None:
    given = []

    class Watched(Packing):
        def blocks(self, vectors: Sequence[memoryview[float]]) -> list[bytes]:
            given.extend(vectors)
            return super().blocks(vectors)

    decode = decoder(Watched("REAL_VECTOR"))
    decode(orjson.dumps([entry(0, [0.5, 1]), entry(1, [2, 0.25])]))
    assert [vector.tolist() for vector in given] == [[0.5, 1.0], [2.0, 0.25]]
    # The parser serves the next part as well, after one that is none, too.
    decode(orjson.dumps([entry(0, ["a"])]))
    with pytest.raises(orjson.JSONDecodeError):
        decode(b"[")
    decode(orjson.dumps([entry(2, [4.0, 8.0, 16.0]), entry(3, [32.0])]))
    assert [vector.tolist() for vector in given[2:]] == [[4.0, 8.0, 16.0], [32.0]]
