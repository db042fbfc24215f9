"""A reply decoded by parts is the reply decoded at once, or is not decoded by parts."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hana_ai.api.wire import long_lists

_WORDS = st.sampled_from(['"data":[', "},{", "}]", "{", "[", '"', "\\", "text", ""])
_TEXTS = st.lists(_WORDS, max_size=4).map("".join)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)
_ENTRIES = st.lists(
    st.fixed_dictionaries({"index": _VALUES, "embedding": st.lists(st.floats(-1, 1), max_size=4)}), max_size=6
)


@pytest.fixture(autouse=True)
def _short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_lists, "PART", 8)


def _whole(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except ValueError:
        return "no JSON"


def _check(data: bytes) -> bool:
    """Whether it was decoded by parts; then it is what it is at once."""
    decoded: list[Any] = []

    def decode_part(part: bytes) -> list[Any]:
        decoded.extend(entries := orjson.loads(part))
        return entries

    made = long_lists.decoded(data, decode_part)
    if made is None:
        return False
    assert made == _whole(data)
    assert made["data"] == decoded
    return True


@given(_ENTRIES, st.dictionaries(_TEXTS, _VALUES, max_size=2), st.dictionaries(_TEXTS, _VALUES, max_size=2))
def test_any_reply_is_the_same(entries: list[Any], before: dict[str, Any], behind: dict[str, Any]) -> None:
    _check(orjson.dumps({**before, "data": entries, **behind}))


@given(_ENTRIES.filter(bool), st.data())
@example([{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [2.0]}], None)
def test_a_broken_reply_is_never_more_than_it_is(entries: list[Any], draw: Any) -> None:
    data = orjson.dumps({"object": "list", "data": entries, "usage": {"total_tokens": 1}})
    if draw is not None:
        begin = draw.draw(st.integers(0, len(data)))
        end = draw.draw(st.integers(begin, min(len(data), begin + 3)))
        data = data[:begin] + draw.draw(_TEXTS).encode() + data[end:]
    _check(data)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("count", [1, 2, 50])
def test_a_reply_of_vectors_is_decoded_by_parts(separators: tuple[str, str], count: int) -> None:
    entries = [{"object": "embedding", "embedding": [0.5, -2], "index": number} for number in range(count)]
    for reply in (
        {"object": "list", "data": entries, "model": "m"},
        {"model": "m", "data": entries},
        {"data": entries},
    ):
        assert _check(json.dumps(reply, separators=separators).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"data":[]}',
        b'{"data":[1,2]}',
        b'[{"data":[{"index":0}]}]',
        b'{"x":{"data":[{"index":0}]}}',
        b'{"model":"\\"data\\":[{","data":[{"index":0}]}',
        b'{"data":[{"index":0}],"data":[]}',
        b'{"data":[{"index":0}]',
        b'{"data":[{"index":0},{"index":]}',
    ],
)
def test_what_is_no_such_reply_is_left_alone(data: bytes) -> None:
    assert not _check(data)
