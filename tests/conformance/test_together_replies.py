"""What the product believes of the answers of Together's models."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.openapi import check_response

from .plan import PATHS, PLAN
from .report import shape
from .together_world import Answer, TogetherWorld

Saw = Callable[[str, Any], None]
_REPLIES = [
    name
    for name in (
        "chat",
        "chat, sampled",
        "chat, two choices",
        "chat, log probabilities",
        "chat, JSON mode",
        "chat, any JSON",
        "chat, answer of a tool",
        "chat, unknown field",
        "completion",
        "embedding",
        "embedding, one text",
        "rerank",
        "rerank, best two",
    )
    if name in PLAN
]


def _asked(world: TogetherWorld, name: str) -> Answer:
    answer = world.ask(name)
    assert answer.status == 200, answer.body
    return answer


def _text(answer: Answer) -> str:
    return str(answer.body["choices"][0]["message"]["content"] or "")


@pytest.mark.parametrize("name", _REPLIES)
def test_a_reply_is_as_documented(together_world: TogetherWorld, saw: Saw, name: str) -> None:
    answer = together_world.ask(name)
    saw(f"{name}, status", answer.status)
    saw(f"{name}, shape", shape(answer.body))
    saw(f"{name}, content type", answer.headers["content-type"].partition(";")[0])
    saw(f"{name}, has a request id", "x-request-id" in answer.headers)
    assert answer.status == 200, answer.body
    check_response(PATHS[PLAN[name].operation], answer.body)
    usage = answer.body["usage"]
    saw(f"{name}, fields of usage", sorted(usage))
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage.get("completion_tokens", 0)
    assert usage["prompt_tokens"] > 0


def test_an_answer_names_the_model_that_was_asked(together_world: TogetherWorld, saw: Saw) -> None:
    answer = _asked(together_world, "chat, four tokens")
    saw("model of an answer", together_world.neutral(answer.body["model"]))
    saw("finish reason at the bound", answer.body["choices"][0]["finish_reason"])
    assert answer.body["choices"][0]["finish_reason"] == "length"
    assert answer.body["usage"]["completion_tokens"] <= 4


def test_max_completion_tokens_bounds_an_answer(together_world: TogetherWorld, saw: Saw) -> None:
    answer = together_world.ask("chat, max_completion_tokens")
    saw("max_completion_tokens, status", answer.status)
    assert answer.status == 200, answer.body
    heeded = answer.body["usage"]["completion_tokens"] <= 4
    saw("max_completion_tokens is heeded", heeded)
    assert heeded


def test_as_many_choices_come_as_were_asked_for(together_world: TogetherWorld) -> None:
    answer = _asked(together_world, "chat, two choices")
    assert [choice["index"] for choice in answer.body["choices"]] == [0, 1]


def test_a_stop_ends_the_answer_before_it(together_world: TogetherWorld, saw: Saw) -> None:
    answer = _asked(together_world, "chat, stopped")
    saw("finish reason at a stop", answer.body["choices"][0]["finish_reason"])
    assert "three" not in _text(answer)


def test_a_stop_as_a_string_is_seen(together_world: TogetherWorld, saw: Saw) -> None:
    """The document wants a list; the product always sends one, so either answer will do."""
    answer = together_world.ask("chat, stop as a string")
    saw("stop as a string, status", answer.status)
    assert answer.status in (200, 400, 422)


def test_json_mode_keeps_to_the_schema(together_world: TogetherWorld) -> None:
    answer = _asked(together_world, "chat, JSON mode")
    assert isinstance(json.loads(_text(answer))["city"], str)


def test_any_json_is_an_object(together_world: TogetherWorld) -> None:
    assert isinstance(json.loads(_text(_asked(together_world, "chat, any JSON"))), dict)


@pytest.mark.parametrize("name", ["chat, tool", "chat, named tool"])
def test_a_tool_that_must_be_called_is_called(together_world: TogetherWorld, saw: Saw, name: str) -> None:
    answer = _asked(together_world, name)
    choice = answer.body["choices"][0]
    saw(f"{name}, shape", shape(choice["message"]))
    saw(f"{name}, finish reason", choice["finish_reason"])
    check_response(PATHS["chat"], answer.body)
    [call, *_] = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert isinstance(json.loads(call["function"]["arguments"])["city"], str)


def test_tools_with_a_response_format_are_seen(together_world: TogetherWorld, saw: Saw) -> None:
    """Together's guide forbids them in one request; the product never sends both. The loopback server refuses."""
    answer = together_world.ask("chat, tools with response_format")
    saw("tools with response_format, status", answer.status)
    if answer.status == 200:
        message = answer.body["choices"][0]["message"]
        saw("tools with response_format, answered by", "a call" if message.get("tool_calls") else "text")
    else:
        saw("tools with response_format, error", answer.error.get("type"))
    if not together_world.is_real:
        assert answer.status == 400


def test_vectors_of_equal_length_in_the_order_of_the_texts(together_world: TogetherWorld) -> None:
    answer = _asked(together_world, "embedding")
    vectors = [entry["embedding"] for entry in answer.body["data"]]
    assert [entry["index"] for entry in answer.body["data"]] == [0, 1]
    assert len(vectors[0]) == len(vectors[1]) > 0
    alone = _asked(together_world, "embedding, one text").body["data"]
    assert len(alone) == 1
    # The same text, alone or not, up to the rounding of a batch.
    assert sum(a * b for a, b in zip(alone[0]["embedding"], vectors[0], strict=True)) == pytest.approx(
        sum(a * a for a in vectors[0]), rel=0.02
    )


def test_ranks_fall_and_name_each_document_once(together_world: TogetherWorld, saw: Saw) -> None:
    results = _asked(together_world, "rerank").body["results"]
    scores = [result["relevance_score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert sorted(result["index"] for result in results) == [0, 1, 2]
    best = _asked(together_world, "rerank, best two").body["results"]
    saw("rerank, best two, results", shape(best))
    assert [result["index"] for result in best] == [result["index"] for result in results[:2]]
    assert all(result["document"] for result in best)
