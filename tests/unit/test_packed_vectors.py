"""Replies into vectors in the database's binary form, packed where a reply is decoded."""

from __future__ import annotations

import json
import re
import struct
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

from hana_ai.api.errors import TogetherAIResponseError
from hana_ai.api.hana.vector_column import Packing
from hana_ai.api.langchain import vector_parts
from hana_ai.api.langchain.embedding_job import BatchSize, EmbeddingRules
from hana_ai.api.langchain.embedding_replies import packed_from_wire
from hana_ai.api.langchain.packed_vectors import PackedJob
from hana_ai.api.langchain.vector_parts import LARGEST, decoder
from hana_ai.api.wire.encoding import decode
from tests.unit.test_embeddings import NOT_A_VECTOR_A_TEXT, entry

HAS_SIMDJSON = find_spec("simdjson") is not None
WITH = pytest.param(True, id="with simdjson", marks=pytest.mark.skipif(not HAS_SIMDJSON, reason="it has no wheel"))


@pytest.fixture(autouse=True, params=[WITH, pytest.param(False, id="without")])
def simdjson(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to read a reply, where there are two."""
    if not request.param:
        monkeypatch.setattr(vector_parts, "_parser", lambda: None)


def packed_from(reply: Any) -> list[bytes]:
    """The packed vectors of a reply to two texts, as it comes from the wire."""
    rules, pack = EmbeddingRules("m", 4), Packing("REAL_VECTOR")
    job = PackedJob(pack, ["a", "b"], rules, size=BatchSize(), widths={})
    assert job.begin_round()
    assert len(list(job.bodies())) == 1
    data = decode(json.dumps(reply).encode(), model="m", request_id=None, decode_part=job.decode_part)
    job.take(0, SimpleNamespace(data=data, request_id=None))  # type: ignore[arg-type]
    return job.packed().vectors


@pytest.mark.parametrize(("reply", "what"), NOT_A_VECTOR_A_TEXT)
def test_a_packed_reply_is_refused_for_the_same_reasons(reply: Any, what: str) -> None:
    no_json = re.search("NaN|Infinity|0{400}", json.dumps(reply))
    with pytest.raises(TogetherAIResponseError, match="is not JSON" if no_json else what):
        packed_from(reply)


def test_a_packed_reply_may_be_in_any_order() -> None:
    first, second = [1, 2, 3], [0.5, -2, LARGEST]
    reply = {"data": [entry(1, second), entry(0, first)]}
    assert packed_from(reply) == [struct.pack("<I3f", 3, *numbers) for numbers in (first, second)]


@pytest.mark.parametrize("place", ["data", "embedding", "usage"])
def test_a_packed_reply_is_not_deep(place: str) -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    reply = {"data": [entry(0, [1]), entry(1, deep if place == "embedding" else [1])], "usage": {}}
    if place != "embedding":
        reply[place] = deep
    with pytest.raises(TogetherAIResponseError, match="is not JSON"):
        packed_from(reply)


def test_a_long_reply_is_packed_part_by_part() -> None:
    first, second = [0.123456789] * 40_000, [-0.987654321] * 40_000
    pack, parts = Packing("REAL_VECTOR"), []
    decode_part = decoder(pack)

    def counted(part: bytes) -> list[Any]:
        parts.append(len(entries := decode_part(part)))
        return entries

    def read(reply: Any) -> tuple[list[bytes], int]:
        data = json.dumps(reply, separators=(",", ":")).encode()
        made = decode(data, model="m", request_id=None, decode_part=counted)
        assert isinstance(made["data"][0]["embedding"][0], bytes), "no list of floats is left"
        return packed_from_wire(made, 2, pack)

    reply = {"data": [entry(0, first), entry(1, second)]}
    assert read(reply) == ([pack(first), pack(second)], 40_000)
    assert parts == [1, 1]
    second[17] = True
    with pytest.raises(TogetherAIResponseError, match=r"data\[1\]\.embedding"):
        read(reply)


@pytest.mark.parametrize(
    "vector", [[[1.0], [2.0]], [[1.0, 2.0]], [1.0, [2.0]], [], [1.0, None], [1.0, "2"], [1e30]]
)
def test_what_is_no_list_of_numbers_is_not_packed(vector: list[Any]) -> None:
    entries = [entry(0, [0.5]), entry(1, vector)]
    part = json.dumps(entries).encode()
    made = decoder(Packing("HALF_VECTOR"))(part)
    assert made[0]["embedding"] == (struct.pack("<Ie", 1, 0.5), 1)
    assert made[1]["embedding"] == vector


@pytest.mark.parametrize("part", [b"", b"[", b"[{]", b"[1]]", b'["\xff"]'])
def test_what_is_no_json_is_a_value_error(part: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decoder(Packing("REAL_VECTOR"))(part)
