"""Pieces become Together's shapes, whole and streamed."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from hana_ai.api.local.together.engine import Piece, TokenLogprob, ToolCallDelta, Usage
from hana_ai.api.local.together.replies import ChatStream, Collected, completion_chunks, request_id, seed_of
from tests.openapi import check_chunk, check_response
from tests.recordings import recorded_chunks

TEXT = [
    Piece(text="Hello", token_id=9906),
    Piece(text="!"),
    Piece(token_id=128009, finish_reason="stop", usage=Usage(45, 3)),
]
CALL = [
    Piece(tool_call=ToolCallDelta(0, "call_yu1mxtmex7x48nximi9c8jpo", "get_weather", "")),
    Piece(tool_call=ToolCallDelta(0, arguments='{"city":"Paris"}')),
    Piece(token_id=128009, finish_reason="tool_calls", usage=Usage(194, 19)),
]


def streamed(pieces: list[Piece], *, logprobs: bool = False, model: str = "m") -> list[dict[str, Any]]:
    stream = ChatStream(id="id", model=model, seed=1, logprobs=logprobs)
    return [orjson.loads(orjson.dumps(chunk)) for piece in pieces for chunk in stream.chunks(piece)]


def without_identity(chunk: dict[str, Any]) -> dict[str, Any]:
    """A chunk without what differs from call to call."""
    choices = [
        {**choice, "seed": bool(choice["seed"])} if "seed" in choice else choice for choice in chunk["choices"]
    ]
    return {**chunk, "id": "", "created": 0, "model": "", "choices": choices}


def test_a_streamed_text_has_exactly_the_recorded_shape() -> None:
    recorded = [without_identity(chunk) for chunk in recorded_chunks("text")]
    assert [without_identity(chunk) for chunk in streamed(TEXT)] == recorded


def test_a_streamed_tool_call_has_exactly_the_recorded_shape() -> None:
    recorded = [without_identity(chunk) for chunk in recorded_chunks("tool-call")]
    assert [without_identity(chunk) for chunk in streamed(CALL)] == recorded


def test_the_order_of_a_streamed_chunks_fields_is_the_recorded_one() -> None:
    for name, pieces in (("text", TEXT), ("tool-call", CALL)):
        for made, recorded in zip(streamed(pieces), recorded_chunks(name), strict=True):
            assert list(made) == list(recorded)
            assert list(made["choices"][0]) == list(recorded["choices"][0])
            assert list(made["choices"][0]["delta"]) == list(recorded["choices"][0]["delta"])


words = st.lists(st.text(min_size=1, max_size=8), max_size=6)
calls = st.lists(st.tuples(st.sampled_from(["add", "search"]), words), max_size=3)


@st.composite
def answers(draw: st.DrawFn) -> list[Piece]:
    """One choice of an answer as an engine yields it: reasoning, text, calls, end."""
    pieces = [Piece(reasoning=part) for part in draw(words)]
    pieces += [Piece(text=part, logprobs=(TokenLogprob(part, -0.5, 1),)) for part in draw(words)]
    called = draw(calls)
    for index, (name, arguments) in enumerate(called):
        pieces.append(Piece(tool_call=ToolCallDelta(index, f"call_{index}", name)))
        pieces += [Piece(tool_call=ToolCallDelta(index, arguments=part)) for part in arguments]
    pieces.append(Piece(finish_reason="tool_calls" if called else "stop", usage=Usage(3, len(pieces))))
    return pieces


@settings(max_examples=40, deadline=None)
@given(answers(), st.booleans())
def test_a_stream_says_what_the_whole_answer_says(pieces: list[Piece], logprobs: bool) -> None:
    collected = Collected()
    for piece in pieces:
        collected.add(piece)
    whole = collected.chat(id="id", model="m", seed=1, logprobs=logprobs, prompt=None)
    whole = orjson.loads(orjson.dumps(whole))
    check_response("/v1/chat/completions", whole)
    message = whole["choices"][0]["message"]

    chunks = streamed(pieces, logprobs=logprobs)
    for chunk in chunks:
        check_chunk("/v1/chat/completions", chunk)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta["content"] for delta in deltas) == message["content"]
    assert "".join(delta.get("reasoning", "") for delta in deltas) == message.get("reasoning", "")
    merged: dict[int, dict[str, str]] = {}
    for delta in deltas:
        for call in delta.get("tool_calls", []):
            function = call["function"]
            entry = merged.setdefault(
                call["index"], {"id": call.get("id"), "name": function.get("name"), "arguments": ""}
            )
            entry["arguments"] += function["arguments"]
    assert list(merged.values()) == [
        {"id": call["id"], "name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        for call in message["tool_calls"]
    ]
    assert [chunk["usage"] for chunk in chunks if chunk.get("usage")] == [whole["usage"]]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]


@settings(max_examples=40, deadline=None)
@given(answers(), st.booleans())
def test_a_streamed_completion_says_what_the_whole_completion_says(pieces: list[Piece], logprobs: bool) -> None:
    pieces = [piece for piece in pieces if piece.tool_call is None and not piece.reasoning]
    collected = Collected()
    make = completion_chunks(id="id", model="m", seed=1, logprobs=logprobs)
    chunks = []
    for piece in pieces:
        collected.add(piece)
        chunks += [orjson.loads(orjson.dumps(chunk)) for chunk in make(piece)]
    whole = collected.completion(id="id", model="m", seed=1, logprobs=logprobs, prompt="p")
    whole = orjson.loads(orjson.dumps(whole))
    check_response("/v1/completions", whole)
    for chunk in chunks:
        check_chunk("/v1/completions", chunk)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]
    assert chunks[-1]["usage"] == whole["usage"]
    assert whole["prompt"] == [{"text": "p", "logprobs": None}]


def test_an_error_event_is_sent_as_it_is() -> None:
    assert streamed([Piece(error={"message": "no"})]) == [{"error": {"message": "no"}}]


def test_a_usage_of_its_own_comes_in_a_chunk_without_choices() -> None:
    (chunk,) = streamed([Piece(usage=Usage(1, 2))])
    assert chunk["choices"] == []
    assert chunk["usage"]["total_tokens"] == 3
    check_chunk("/v1/chat/completions", chunk)


def test_reasoning_tokens_are_counted_apart_only_where_there_are_some() -> None:
    assert "completion_tokens_details" not in Usage(1, 2).wire()
    assert Usage(1, 2, reasoning_tokens=1).wire()["completion_tokens_details"] == {"reasoning_tokens": 1}


def test_several_choices_have_seeds_of_their_own_within_64_bits() -> None:
    collected = Collected()
    for index in range(3):
        collected.add(Piece(index, "x", finish_reason="stop"))
    whole: Any = collected.chat(id="id", model="m", seed=2**64 - 1, logprobs=False, prompt=None)
    assert [choice["seed"] for choice in whole["choices"]] == [2**64 - 1, 0, 1]


def test_ids_look_like_together_s_and_differ() -> None:
    ids = {request_id() for _ in range(100)}
    assert len(ids) == 100
    assert all([len(part) for part in id.split("-")] == [7, 6, 16] for id in ids)


def test_the_seed_of_the_request_is_the_seed_of_the_answer() -> None:
    assert seed_of(7) == 7
    assert 0 <= seed_of(None) < 2**64
