"""Whatever a server sends, only errors of this package come out. A fixed number of cases, the same in each run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hana_ai.api.catalog.catalog import Catalog
from hana_ai.api.catalog.model_info import read_model
from hana_ai.api.errors import TogetherAIError, TogetherAIResponseError
from hana_ai.api.langchain.chat_chunks import ChunkReader
from hana_ai.api.langchain.completions import CompletionReader, generations_from_wire, llm_result
from hana_ai.api.langchain.embedding_job import vectors_from_wire
from hana_ai.api.langchain.messages import chat_result, message_from_wire, usage_from_wire
from hana_ai.api.langchain.reranking import results_from_wire
from hana_ai.api.transport.call import Call, Reply
from hana_ai.api.wire.encoding import MAX_DEPTH, decode, loads
from hana_ai.api.wire.error_bodies import error_from_body
from hana_ai.api.wire.events import EventReader
from hana_ai.api.wire.failures import status_error
from hana_ai.api.wire.headers import request_id_of, retry_after_of
from hana_ai.api.wire.token_counts import Tokens, read_tokens, sum_token_counts, token_counts
from tests.recordings import recorded_chunks

# More where slow tests run, too.
FUZZ = settings(
    max_examples=settings().max_examples * 3 // 2,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    deadline=None,
)

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**63, -(2**63), 2**64 - 1, 1e308, -0.0, 5e-324, 0.5]),
    st.text(max_size=8),
    st.sampled_from(["", "stop", "<think>", "</think>", "assistant", "0", "error", "[DONE]"]),
)
JSON = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(
                st.text(max_size=4),
                st.sampled_from(["index", "content", "text", "tokens", "function", "id", "choices", "delta"]),
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=8,
)

USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 5,
    "total_tokens": 8,
    "cached_tokens": 1,
    "prompt_tokens_details": {"cached_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
TOOL_CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
CHAT = {
    "id": "r",
    "model": "m",
    "created": 1,
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "seed": 7,
            "logprobs": {"tokens": ["a"], "token_logprobs": [-0.1]},
            "message": {"role": "assistant", "content": "a", "reasoning": "b", "tool_calls": [TOOL_CALL]},
        }
    ],
    "prompt": [{"text": "p"}],
    "usage": USAGE,
    "warnings": [{"message": "w"}],
}
COMPLETION = {
    **CHAT,
    "choices": [{"index": 0, "text": "a", "finish_reason": "stop", "logprobs": {"tokens": ["a"]}}],
}
EMBEDDINGS = {
    "model": "m",
    "data": [{"index": 1, "embedding": [0.5, 1]}, {"index": 0, "embedding": [0.25, 2.0]}],
    "usage": USAGE,
}
RERANK = {
    "results": [
        {"index": 1, "relevance_score": 0.5, "document": {"text": "b"}},
        {"index": 0, "relevance_score": 0.1, "document": {"text": "a"}},
    ],
    "usage": USAGE,
}
MODELS = {
    "data": [
        {
            "id": "m",
            "name": "m",
            "displayType": "chat",
            "capabilities": ["CAPABILITY_CHAT"],
            "contextLength": 10,
            "pricing": {"input": "0.1", "output": 0.2},
            "features": ["FEATURE_X"],
            "status": "s",
        }
    ],
    "next_cursor": "n",
}


@st.composite
def damaged(draw: st.DrawFn, valid: Any) -> Any:
    """A valid value with arbitrary values in arbitrary places, or places missing."""
    root = [copy.deepcopy(valid)]
    for _ in range(draw(st.integers(1, 3))):
        place: Any = root
        key: Any = 0
        while isinstance(place[key], (dict, list)) and place[key] and draw(st.integers(0, 5)):
            place = place[key]
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if place is not root and draw(st.integers(0, 3)) == 0:
            del place[key]
        else:
            place[key] = draw(JSON)
        if place is root and draw(st.booleans()):
            break
    return root[0]


def bears(read: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Read, and let only errors of this package pass."""
    try:
        return read(*arguments, **named)
    except TogetherAIError as exc:
        assert len(str(exc)) < 3000
        return None


STREAMS = [stream[:6] + stream[-3:] for stream in map(recorded_chunks, ("text", "tool-call"))] + [
    [
        {"id": "r", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}, "logprobs": -0.5}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [TOOL_CALL]}, "logprobs": {"tokens": ["a"]}}]},
        {"choices": [{"index": 0, "text": "b", "delta": {"content": "b"}}], "token": {"id": 1, "text": "b"}},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "seed": 5}], "usage": USAGE},
    ]
]


@FUZZ
@given(
    st.lists(
        st.one_of(st.binary(max_size=40), st.sampled_from([b"data: ", b"\n\n", b"[DONE]", b'{"a":1}', b"\r"]))
    )
)
def test_any_bytes_of_a_stream(parts: list[bytes]) -> None:
    reader = EventReader(model="m", request_id="r")

    def read() -> None:
        for part in parts:
            assert all(isinstance(chunk, dict) for chunk in reader.feed(part))
        reader.finish()

    bears(read)


@FUZZ
@given(st.lists(damaged(STREAMS[-1]), max_size=3))
def test_any_json_in_a_stream(streams: list[Any]) -> None:
    reader = EventReader(model="m", request_id="r")
    for value in streams:
        for event in value if isinstance(value, list) else [value]:
            bears(reader.feed, b"data: " + orjson.dumps(event) + b"\n\n")
    bears(reader.finish)
    read_tokens(reader.usage)


@FUZZ
@given(st.binary(max_size=200))
def test_any_bytes_of_a_reply(data: bytes) -> None:
    bears(decode, data, model="m", request_id="r", content_type="x")


_HEADERS = st.dictionaries(
    st.sampled_from(
        ["retry-after", "retry-after-ms", "x-ratelimit-reset", "x-should-retry", "x-request-id", "content-type"]
    ),
    st.one_of(
        st.text(max_size=30),
        st.floats().map(str),
        st.integers().map(str),
        st.datetimes().map(lambda when: when.strftime("%a, %d %b %Y %H:%M:%S GMT")),
        st.sampled_from(["Mon, 99 Jan 99999 99:99:99 +9999", "9" * 5000, "1e999", "-inf", "0x10", "\u0661"]),
    ),
)


@FUZZ
@given(st.integers(100, 999), _HEADERS, st.one_of(st.binary(max_size=100), JSON.map(orjson.dumps)))
def test_any_error_status(status: int, headers: dict[str, str], data: bytes) -> None:
    error = status_error(status, headers, data, model="m")
    assert str(status) in str(error)
    wait = retry_after_of(headers)
    assert wait is None or 0 <= wait <= 3600
    request_id_of(headers)


@FUZZ
@given(
    st.integers(400, 599), damaged({"error": {"message": "a", "type": "b", "code": "c", "param": None}, "id": "r"})
)
def test_any_json_of_an_error(status: int, body: Any) -> None:
    assert str(error_from_body(status, body)).startswith(f"Error code: {status}")


@FUZZ
@given(damaged(CHAT))
def test_any_chat(reply: Any) -> None:
    result = bears(chat_result, reply, request_id="r", model="m")
    if result is not None:
        assert all(isinstance(generation.text, str) for generation in result.generations)
        assert isinstance(result.generations[0].message.tool_calls, list)  # type: ignore[attr-defined]


@FUZZ
@given(damaged(CHAT["choices"][0]["message"]))  # type: ignore[index]
def test_any_message(wire: Any) -> None:
    if isinstance(wire, dict):
        bears(message_from_wire, wire)


def _add(parts: Iterator[Any]) -> Any:
    """All chunks as one, as LangChain makes it of them."""
    total = None
    for part in parts:
        total = part if total is None else total + part
    return total


@pytest.mark.parametrize("stream", STREAMS, ids=range(len(STREAMS)))
def test_any_chunks_of_a_chat(stream: list[dict[str, Any]]) -> None:
    @FUZZ
    @given(damaged(stream))
    def run(chunks: Any) -> None:
        reader = ChunkReader("r")

        def read() -> Iterator[Any]:
            for chunk in chunks if isinstance(chunks, list) else [chunks]:
                if isinstance(chunk, dict):  # the reader of the events lets nothing else pass
                    yield from reader.read(chunk)
            yield from reader.finish()

        total = bears(_add, read())
        assert total is None or isinstance(total.text, str)
        assert isinstance(reader.partial().content, str)

    run()


@FUZZ
@given(damaged(COMPLETION))
def test_any_completion(reply: Any) -> None:
    generations = bears(generations_from_wire, reply, request_id="r", model="m")
    if generations is not None:
        llm_result([generations], model="m")


@FUZZ
@given(damaged(STREAMS[-1]))
def test_any_chunks_of_a_completion(chunks: Any) -> None:
    reader = CompletionReader()

    def read() -> Iterator[Any]:
        for chunk in chunks if isinstance(chunks, list) else [chunks]:
            if isinstance(chunk, dict):
                yield from reader.read(chunk)
        yield from reader.finish()

    total = bears(_add, read())
    assert total is None or isinstance(total.text, str)
    assert isinstance(reader.partial(), str)


@FUZZ
@given(damaged(EMBEDDINGS))
def test_any_embeddings(reply: Any) -> None:
    vectors = bears(vectors_from_wire, reply, 2, model="m", request_id="r")
    assert vectors is None or all(type(number) is float for vector in vectors for number in vector)
    sum_token_counts([token_counts(reply)])


@FUZZ
@given(damaged(RERANK))
def test_any_ranking(reply: Any) -> None:
    body = {"model": "m", "documents": ["a", "b"], "return_documents": True}
    results = bears(results_from_wire, reply, body, request_id="r")
    assert results is None or {result["index"] for result in results} == {0, 1}


@FUZZ
@given(damaged(USAGE))
def test_any_usage(usage: Any) -> None:
    found = usage_from_wire(usage)
    assert found is None or all(count >= 0 for count in (found["input_tokens"], found["output_tokens"]))
    assert all(count is None or count >= 0 for count in read_tokens(usage))


class Sender:
    """A server that answers everything in one way."""

    base_url = "https://api.together.test"

    def __init__(self, data: Any) -> None:
        self._data = data

    def request(self, call: Call) -> Reply:
        return Reply(self._data, None, 0.0, 0)

    async def arequest(self, call: Call) -> Reply:
        return self.request(call)


@FUZZ
@given(damaged(MODELS))
def test_any_catalogue(data: Any) -> None:
    models = bears(Catalog(Sender(data)).models) or {}
    for model in models.values():
        model.profile()
        model.cost_of(Tokens(1, 1, 0))
    if isinstance(data, dict):
        read_model(data)


# --- depth ---


def _nested(depth: int, opening: bytes, inner: bytes, closing: bytes) -> bytes:
    return opening * depth + inner + closing * depth


@pytest.mark.parametrize("pair", [(b"[", b"]"), (b'{"a":', b"}")], ids=["lists", "objects"])
@pytest.mark.parametrize("before", [b"", b"[" + b"0.5," * 40_000], ids=["small", "large"])
def test_json_is_read_to_a_depth(pair: tuple[bytes, bytes], before: bytes) -> None:
    opening, closing = pair
    after, used = (b"]", 1) if before else (b"", 0)
    fine = before + _nested(MAX_DEPTH - used, opening, b"1", closing) + after
    assert loads(fine) == orjson.loads(fine)
    for depth in (MAX_DEPTH - used + 1, 800, 100_000):
        deep = before + _nested(depth, opening, b"1", closing) + after
        with pytest.raises(ValueError, match=r"more than 200|[Dd]epth|[Rr]ecursion"):
            loads(deep)
        with pytest.raises(TogetherAIResponseError, match="not JSON"):
            decode(deep, model="m", request_id="r")


def test_brackets_in_texts_and_beside_each_other_are_not_depth() -> None:
    for value in ({"text": "[{" * 5000}, [[]] * 5000, [{"embedding": [0.5] * 1000}] * 200, [[1.5] * 100 + [None]]):
        assert loads(orjson.dumps(value)) == value
