"""Chats become plain turns for a small model, and formats become grammars."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from hana_ai.api.local.together.engines.prompts import (
    ask_for_arguments,
    ask_for_choice,
    ask_to_use_results,
    choice_grammar,
    format_grammar,
    regex_grammar,
    request_text,
    schema_grammar,
    tool_text,
    turns,
)
from hana_ai.api.local.together.refusal import Refusal
from hana_ai.api.local.together.requests import ChatBody, parse

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "where"}}},
    },
}
CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}}


def chat(*messages: Any, **more: Any) -> ChatBody:
    return parse(ChatBody, orjson.dumps({"model": "m", "messages": messages, **more}))


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_tool_calls_and_results_become_plain_text() -> None:
    body = chat(
        {"role": "system", "content": "Be brief."},
        user("Weather in Paris?"),
        {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "tool", "tool_call_id": "c2", "content": "wind"},
    )
    assert turns(body) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather in Paris?"},
        {"role": "assistant", "content": "Let me look."},
        {"role": "user", "content": "The answer of get_weather is: rain\n\nThe answer of the function is: wind"},
    ]
    assert request_text(body) == "Weather in Paris?"


def test_a_call_without_words_is_left_out() -> None:
    body = chat(
        user("Weather?"),
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    )
    (turn,) = ask_to_use_results(turns(body))
    assert turn["content"].startswith("Weather?\n\nThe answer of get_weather is: rain\n\nAnswer")


def test_an_image_is_refused() -> None:
    with pytest.raises(Refusal, match="image_url"):
        turns(chat(user([{"type": "image_url", "image_url": {"url": "data:,"}}])))


def test_text_blocks_become_lines() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert turns(chat(user(parts))) == [{"role": "user", "content": "one\ntwo"}]


def test_the_questions_follow_the_chat() -> None:
    body = chat(user("Weather in Paris?"), tools=[TOOL])
    (tool,) = body.callable_tools()
    assert (
        "get_weather: The weather of a city\n- none"
        in ask_for_choice(turns(body), [tool], free=True)[-1]["content"]
    )
    assert "none" not in ask_for_choice(turns(body), [tool], free=False)[-1]["content"]
    assert ask_for_arguments(turns(body), tool)[-1]["content"].endswith("get_weather: city (where)")
    assert tool_text(tool) == "get weather: The weather of a city"
    assert [turn["role"] for turn in ask_for_arguments([{"role": "assistant", "content": "x"}], tool)] == [
        "assistant",
        "user",
    ]


def grammar_schema(schema: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = orjson.loads(schema_grammar(schema).partition("%json ")[2])
    made.pop("x-guidance")
    return made


def test_open_ends_of_a_schema_are_bounded() -> None:
    made = grammar_schema(
        {
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "list": {"type": "array", "items": {"type": "integer"}},
                "half": {"type": "number", "minimum": 2e9},
            },
        }
    )
    assert made["additionalProperties"] is False
    assert made["properties"]["text"] == {"type": "string", "maxLength": 200}
    assert made["properties"]["list"]["maxItems"] == 8
    assert made["properties"]["list"]["items"]["maximum"] == 1_000_000_000
    assert made["properties"]["half"]["maximum"] >= made["properties"]["half"]["minimum"]


def test_bounds_that_are_there_stay() -> None:
    given = {
        "type": "object",
        "properties": {
            "a": {"type": "string", "maxLength": 3},
            "b": {"enum": ["x", "y"], "type": "string"},
            "c": {"type": "array", "items": {"const": 1}, "minItems": 20},
            "d": {"anyOf": [{"type": "string", "pattern": "^a+$"}, {"type": "null"}]},
        },
        "additionalProperties": True,
    }
    made = grammar_schema(given)
    assert made["properties"]["c"].pop("maxItems") == 20
    assert made == given


def test_a_type_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Refusal, match="strin"):
        schema_grammar({"type": "object", "properties": {"a": {"type": "strin"}}})


@pytest.mark.parametrize("pattern", ["(", "(?=a)b", "(?<!a)b", r"(a)\1"])
def test_a_pattern_that_no_grammar_can_hold_is_refused(pattern: str) -> None:
    with pytest.raises(Refusal, match="pattern"):
        regex_grammar(pattern)


def test_a_pattern_is_taken_as_a_whole() -> None:
    assert regex_grammar("^a/b$").endswith(r"/a\/b/")
    assert regex_grammar(r"5\$").endswith(r"/5\$/")


@pytest.mark.parametrize(
    ("wanted", "grammar"),
    [
        ({"type": "text"}, False),
        ({"type": "json_object"}, True),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, True),
        ({"type": "regex", "pattern": "a"}, True),
    ],
)
def test_only_a_format_needs_a_grammar(wanted: Any, grammar: bool) -> None:
    assert (format_grammar(chat(user("x"), response_format=wanted)) is not None) is grammar
    assert format_grammar(chat(user("x"))) is None


def test_a_choice_is_one_of_the_names() -> None:
    assert choice_grammar(["a", 'b"']).endswith('start: "a" | "b\\""')
