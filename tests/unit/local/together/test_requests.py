"""Bodies are checked as Together checks them, and what is wrong is said in its words."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hana_ai.api.local.together.refusal import Refusal
from hana_ai.api.local.together.requests import ChatBody, CompletionBody, EmbeddingsBody, RerankBody, parse
from tests.openapi import check_request
from tests.recordings import recording

HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def chat(**more: Any) -> ChatBody:
    return parse(ChatBody, orjson.dumps({**HELLO, **more}))


def refused(kind: Any, body: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        parse(kind, body if isinstance(body, bytes) else orjson.dumps(body))
    return caught.value


@pytest.mark.parametrize("name", ["text", "tool-call"])
def test_the_recorded_requests_are_taken(name: str) -> None:
    body = recording(name)["request"]["body"]
    parsed = parse(ChatBody, orjson.dumps(body))
    assert parsed.stream
    assert parsed.max_tokens == body["max_tokens"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", "hot"),
        ("top_p", 1.1),
        ("min_p", -1),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("n", 0),
        ("n", 129),
        ("logprobs", 21),
        ("logprobs", True),
        ("stop", "a string"),
        ("presence_penalty", 3),
        ("repetition_penalty", 0),
        ("stream", "yes"),
        ("messages", []),
        ("messages", [{"role": "robot", "content": "x"}]),
        ("messages", [{"role": "user"}]),
        ("messages", [{"role": "tool", "content": "x"}]),
        ("response_format", {"type": "xml"}),
        ("tool_choice", "sometimes"),
        ("compliance", "gdpr"),
        ("context_length_exceeded_behavior", "ignore"),
    ],
)
def test_a_wrong_field_is_refused_by_name(field: str, value: Any) -> None:
    refusal = refused(ChatBody, {**HELLO, field: value})
    assert refusal.status == 400
    assert refusal.param == field
    assert refusal.type == "invalid_request_error"


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff"])
def test_what_is_not_a_json_object_is_refused(raw: bytes) -> None:
    assert refused(ChatBody, raw).status == 400


def test_fields_that_the_document_does_not_name_are_ignored() -> None:
    assert chat(stream_options={"include_usage": True}, something="else").model == "m"


def test_a_rerank_request_takes_no_other_fields() -> None:
    assert refused(RerankBody, {"model": "m", "query": "q", "documents": ["d"], "k": 1}).param == "k"


def test_tools_need_not_be_called_unless_the_choice_says_so() -> None:
    assert chat().calls() == "none"
    assert chat(tools=[TOOL]).calls() == "auto"
    assert chat(tools=[TOOL], tool_choice="none").calls() == "none"
    assert chat(tools=[TOOL], tool_choice="required").calls() == "required"


def test_a_named_tool_is_the_only_one_that_can_be_called() -> None:
    other = {"type": "function", "function": {"name": "other"}}
    body = chat(tools=[other, TOOL], tool_choice={"type": "function", "function": {"name": "add"}})
    assert body.calls() == "required"
    assert [tool.function.name for tool in body.callable_tools()] == ["add"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
        {"type": "regex", "pattern": "yes|no"},
    ],
    ids=lambda wanted: str(wanted["type"]),
)
@pytest.mark.parametrize("choice", [None, "none", "auto", "required"])
def test_tools_with_a_response_format_are_refused(wanted: dict[str, Any], choice: str | None) -> None:
    body = {**HELLO, "tools": [TOOL], "response_format": wanted, **({"tool_choice": choice} if choice else {})}
    assert refused(ChatBody, body).param == "response_format"
    assert chat(tools=[], response_format=wanted).response_format is not None
    assert chat(tools=[TOOL], response_format={"type": "text"}).tools


def test_a_tool_choice_without_its_tool_is_refused() -> None:
    choice = {"type": "function", "function": {"name": "add"}}
    assert refused(ChatBody, {**HELLO, "tool_choice": choice}).param == "tool_choice"
    assert refused(ChatBody, {**HELLO, "tool_choice": "required"}).param == "tool_choice"


def test_embeddings_take_one_text_or_many() -> None:
    assert parse(EmbeddingsBody, b'{"model": "m", "input": "a"}').texts() == ["a"]
    assert parse(EmbeddingsBody, b'{"model": "m", "input": ["a", "b"]}').texts() == ["a", "b"]
    assert refused(EmbeddingsBody, {"model": "m", "input": [1, 2]}).param == "input"


@pytest.mark.parametrize(
    ("fields", "text"),
    [(None, "body"), (["title"], "head"), (["title", "text"], "head\nbody"), (["none"], "")],
)
def test_rerank_looks_at_the_fields_that_are_named_else_at_the_text(fields: Any, text: str) -> None:
    document = {"title": "head", "text": "body"}
    body = {"model": "m", "query": "q", "documents": [document], **({"rank_fields": fields} if fields else {})}
    assert parse(RerankBody, orjson.dumps(body)).texts() == [text]


def test_rerank_looks_at_all_fields_of_a_document_without_text() -> None:
    body = {"model": "m", "query": "q", "documents": [{"title": "head", "page": 3}]}
    assert parse(RerankBody, orjson.dumps(body)).texts() == ["head\n3"]


sampling = st.fixed_dictionaries(
    {"model": st.text(min_size=1)},
    optional={
        "max_tokens": st.integers(1, 10_000),
        "stop": st.lists(st.text()),
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1),
        "top_k": st.integers(-1, 1000),
        "min_p": st.floats(0, 1),
        "repetition_penalty": st.floats(0.1, 2),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "seed": st.integers(0, 2**63),
        "n": st.integers(1, 128),
        "logprobs": st.integers(0, 20),
        "echo": st.booleans(),
        "stream": st.booleans(),
        "logit_bias": st.dictionaries(st.text(max_size=5), st.floats(-100, 100), max_size=3),
    },
)
part = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": st.text()}),
    st.just({"type": "image_url", "image_url": {"url": "https://localhost/x.png"}}),
)
message = st.one_of(
    st.fixed_dictionaries({"role": st.just("system"), "content": st.text()}),
    st.fixed_dictionaries({"role": st.just("user"), "content": st.text() | st.lists(part, min_size=1)}),
    st.fixed_dictionaries({"role": st.just("assistant"), "content": st.text() | st.none()}),
    st.fixed_dictionaries({"role": st.just("tool"), "content": st.text(), "tool_call_id": st.text()}),
)


@settings(max_examples=40, deadline=None)
@given(sampling, st.lists(message, min_size=1, max_size=5))
def test_what_the_document_allows_is_taken(parameters: dict[str, Any], messages: list[Any]) -> None:
    body = {**parameters, "messages": messages}
    check_request("/v1/chat/completions", body)
    parsed = parse(ChatBody, orjson.dumps(body))
    assert len(parsed.messages) == len(messages)
    assert parsed.temperature == body.get("temperature")


@settings(max_examples=40, deadline=None)
@given(sampling, st.text())
def test_what_the_document_allows_as_a_completion_is_taken(parameters: dict[str, Any], prompt: str) -> None:
    body = {**parameters, "prompt": prompt}
    check_request("/v1/completions", body)
    assert parse(CompletionBody, orjson.dumps(body)).prompt == prompt
