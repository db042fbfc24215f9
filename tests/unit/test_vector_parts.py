"""Vectors read by simdjson beside those read by orjson."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.hana.vector_column import Packing
from hana_ai.api.langchain.embedding_replies import LARGEST
from hana_ai.api.langchain.vector_parts import WIDTH, _packed, decoder
from tests.unit.test_embeddings import entry

pytest.importorskip("simdjson", reason="simdjson has no wheel for this version of Python")

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1, 1),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([0, -0.0, LARGEST, 65519.999, 65520, 5e-324, 1 + 2**-11, 1 + 2**-24]),
)


@given(st.lists(st.lists(NUMBERS, max_size=5), max_size=4), st.sampled_from(["REAL_VECTOR", "HALF_VECTOR"]))
def test_vectors_are_the_same_with_and_without_floats(vectors: list[list[float]], type: str) -> None:
    pack = Packing(type)
    part = orjson.dumps([entry(index, vector) for index, vector in enumerate(vectors)])
    plain = _packed(pack, part)
    for one, other in zip(decoder(pack)(part), plain, strict=True):
        for key in ("index", "embedding", WIDTH):
            assert one.get(key) == other.get(key)


def test_no_python_float_is_made() -> None:
    given = []

    class Watched(Packing):
        def blocks(self, vectors: Sequence[memoryview[float]]) -> list[bytes]:
            given.extend(vectors)
            return super().blocks(vectors)

    decoder(Watched("REAL_VECTOR"))(orjson.dumps([entry(0, [0.5, 1]), entry(1, [2, 0.25])]))
    assert [vector.tolist() for vector in given] == [[0.5, 1.0], [2.0, 0.25]]
