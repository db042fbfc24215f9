"""What the product believes of the streams of Together's models."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.openapi import check_chunk

from .plan import PATHS, PLAN
from .report import shape
from .together_world import Streamed, TogetherWorld

Saw = Callable[[str, Any], None]


def _streamed(world: TogetherWorld, name: str) -> Streamed:
    streamed = world.stream(name)
    assert streamed.status == 200, streamed.refusal
    return streamed


@pytest.mark.parametrize("name", ["stream", "stream, tool", "stream, usage asked for", "stream, completion"])
def test_a_stream_is_as_documented(together_world: TogetherWorld, saw: Saw, name: str) -> None:
    streamed = _streamed(together_world, name)
    saw(f"{name}, content type", streamed.content_type.partition(";")[0])
    saw(f"{name}, shape of the first chunk", shape(streamed.chunks[0]))
    saw(f"{name}, shape of the last chunk", shape(streamed.chunks[-1]))
    saw(f"{name}, last event", streamed.events[-1])
    assert streamed.content_type.startswith("text/event-stream")
    assert streamed.events[-1] == "[DONE]"
    for chunk in streamed.chunks:
        check_chunk(PATHS[PLAN[name].operation], chunk)


@pytest.mark.parametrize("name", ["stream", "stream, usage asked for", "stream, completion"])
def test_usage_comes_with_the_last_chunk(together_world: TogetherWorld, saw: Saw, name: str) -> None:
    chunks = _streamed(together_world, name).chunks
    where = [len(chunks) - 1 - number for number, chunk in enumerate(chunks) if chunk.get("usage")]
    saw(f"{name}, chunks with usage, counted from the end", where)
    assert where[-1:] == [0]
    usage = chunks[-1]["usage"]
    saw(f"{name}, fields of usage", sorted(usage))
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_ends_with_a_finish_reason(together_world: TogetherWorld, saw: Saw) -> None:
    chunks = _streamed(together_world, "stream").chunks
    reasons = [choice.get("finish_reason") for chunk in chunks for choice in chunk["choices"]]
    saw("stream, chunks with a finish reason", sum(reason is not None for reason in reasons))
    assert reasons[-1] in ("stop", "eos", "length")
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_the_parts_of_a_streamed_call_are_its_arguments(together_world: TogetherWorld, saw: Saw) -> None:
    chunks = _streamed(together_world, "stream, tool").chunks
    deltas = [
        delta
        for chunk in chunks
        for choice in chunk["choices"]
        for delta in choice["delta"].get("tool_calls") or []
    ]
    saw("stream, tool, first part", shape(deltas[0]))
    saw("stream, tool, last part", shape(deltas[-1]))
    assert deltas[0]["function"]["name"] == "weather"
    first = deltas[0]["index"]
    parts = [delta["function"].get("arguments") or "" for delta in deltas if delta["index"] == first]
    assert isinstance(json.loads("".join(parts))["city"], str)


def test_a_refusal_of_a_stream_is_an_http_error(together_world: TogetherWorld, saw: Saw) -> None:
    streamed = together_world.stream("stream of an unknown model")
    saw("stream of an unknown model, status", streamed.status)
    assert streamed.status == 404
    assert "error" in streamed.refusal
