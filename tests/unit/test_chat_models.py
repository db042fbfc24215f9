"""Bodies of chat requests, tools, serialisation and secrets, without a server."""

from __future__ import annotations

import copy
import logging
import pickle
from typing import Any

import pytest
from langchain_core.load import dumps, loads
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from pydantic import BaseModel, SecretStr

from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.errors import TogetherAIError, TogetherAIInputError, TogetherAISettingsError
from tests import generation
from tests.openapi import check_request

KEY = "tgp_v1_watched-secret-key-of-a-test"
SAID = [{"role": "user", "content": "Hello"}]

PARAMETERS: dict[str, Any] = {
    **generation.PARAMETERS,
    "response_format": {"type": "json_object"},
    "compliance": "hipaa",
    "context_length_exceeded_behavior": "truncate",
    "reasoning": {"enabled": False},
    "reasoning_effort": "high",
    "chat_template_kwargs": {"clear_thinking": False},
}
ZEROS: dict[str, Any] = {
    "temperature": 0,
    "top_k": 0,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "seed": 0,
    "logprobs": 0,
    "echo": False,
}

every_parameter = pytest.mark.parametrize(("name", "value"), PARAMETERS.items(), ids=PARAMETERS)


def make(**fields: Any) -> ChatTogetherAI:
    return ChatTogetherAI(**{"model": "some/model", "api_key": KEY, **fields})


def body_of(chat: Any, given_stop: Any = None, *, stream: bool = False, **kwargs: Any) -> dict[str, Any]:
    bound = chat if isinstance(chat, ChatTogetherAI) else chat.bound
    more = {} if isinstance(chat, ChatTogetherAI) else chat.kwargs
    body: dict[str, Any] = bound._body([HumanMessage("Hello")], given_stop, {**more, **kwargs}, stream=stream)
    check_request("/v1/chat/completions", body)
    return body


class Weather(BaseModel):
    """Tell the weather."""

    city: str


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


# --- parameters ---


def test_a_body_without_parameters_has_only_model_and_messages() -> None:
    assert body_of(make()) == {"model": "some/model", "messages": SAID}


@every_parameter
def test_a_parameter_given_to_the_class_is_sent(name: str, value: Any) -> None:
    assert body_of(make(**{name: value})) == {"model": "some/model", "messages": SAID, name: value}


@every_parameter
def test_a_parameter_assigned_later_is_sent_and_none_leaves_it_out_again(name: str, value: Any) -> None:
    chat = make()
    setattr(chat, name, value)
    assert body_of(chat)[name] == value
    setattr(chat, name, None)
    assert name not in body_of(chat)


@every_parameter
def test_a_parameter_of_one_call_is_sent_and_none_leaves_the_field_out(name: str, value: Any) -> None:
    assert body_of(make(), **{name: value})[name] == value
    assert name not in body_of(make(**{name: value}), **{name: None})
    assert body_of(make().bind(**{name: value}))[name] == value


@pytest.mark.parametrize(("name", "value"), ZEROS.items(), ids=ZEROS)
def test_zero_and_false_are_values_and_are_sent(name: str, value: Any) -> None:
    assert body_of(make(**{name: value}))[name] == value


def test_every_parameter_of_the_document_is_a_field() -> None:
    sent_otherwise = {"model", "messages", "tools", "tool_choice", "function_call", "stream"}
    assert sent_otherwise | set(PARAMETERS) >= set(documented_parameters())


def documented_parameters() -> list[str]:
    from tests import openapi

    return list(openapi.schemas()["ChatCompletionRequest"]["properties"])


@pytest.mark.parametrize(
    ("other", "name", "value"),
    [
        ("max_completion_tokens", "max_tokens", 5),
        ("stop_sequences", "stop", ["x"]),
        ("model_name", "model", "another"),
        ("request_timeout", "timeout", 5.0),
        ("together_api_base", "base_url", "https://gateway.example"),
    ],
)
def test_the_names_of_other_providers_are_understood(other: str, name: str, value: Any) -> None:
    chat = ChatTogetherAI(**{"api_key": KEY, other: value})
    assert getattr(chat, name) == value
    assert ChatTogetherAI(together_api_key=KEY).api_key == SecretStr(KEY)


def test_the_toolkit_can_take_top_p_away() -> None:
    chat = make(temperature=0.0, top_p=0.9)
    chat.top_p = None
    assert body_of(chat) == {"model": "some/model", "messages": SAID, "temperature": 0.0}


@pytest.mark.parametrize(
    ("fields", "stop", "kwargs", "expected"),
    [
        ({"stop": "x"}, None, {}, ["x"]),
        ({"stop": "x"}, ["z"], {}, ["z"]),
        ({"stop": "x"}, "z", {}, ["z"]),
        ({}, None, {"stop": "w"}, ["w"]),
        ({"model_kwargs": {"stop": "v"}}, None, {}, ["v"]),
        ({"extra_body": {"stop": "u"}}, ["z"], {}, ["u"]),
        ({"stop": "x"}, [], {}, None),
        ({"stop": []}, None, {}, None),
    ],
)
def test_stop_is_always_a_list(fields: dict[str, Any], stop: Any, kwargs: dict[str, Any], expected: Any) -> None:
    assert body_of(make(**fields), stop, **kwargs).get("stop") == expected


def test_a_stop_that_is_no_string_is_refused() -> None:
    with pytest.raises(TogetherAIInputError, match="list of strings"):
        body_of(make(), [1])


def test_a_stream_asks_for_usage_unless_told_not_to() -> None:
    body = body_of(make(), stream=True)
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert "stream_options" not in body_of(make(), stream=True, stream_usage=False)
    assert "stream_options" not in body_of(make(stream_usage=False), stream=True)
    own = {"include_usage": False}
    assert body_of(make(), stream=True, stream_options=own)["stream_options"] == own


@pytest.mark.parametrize("n", [2, None])
def test_only_a_stream_of_several_answers_is_refused(n: int | None) -> None:
    if n is None:
        assert "n" not in body_of(make(n=None), stream=True)
        return
    for chat, kwargs in ((make(n=n), {}), (make(), {"n": n}), (make(extra_body={"n": n}), {})):
        with pytest.raises(TogetherAIInputError, match="n > 1 works with invoke"):
            body_of(chat, stream=True, **kwargs)


def test_what_only_langchain_reads_is_not_sent() -> None:
    traced = {"kwargs": {"method": "json_mode"}, "schema": None}
    assert body_of(make(), ls_structured_output_format=traced, strict=True, stream=False) == body_of(make())


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_tokens", 0), ("n", 0), ("n", 129), ("logprobs", 21), ("timeout", 0), ("max_retries", -1)],
)
def test_a_value_that_no_request_can_have_is_refused_when_it_is_given(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        make(**{field: value})


# --- tools ---


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        (False, None),
        ("auto", "auto"),
        ("none", "none"),
        ("any", "required"),
        ("required", "required"),
        (True, "required"),
        ("add", {"type": "function", "function": {"name": "add"}}),
        ({"type": "function", "function": {"name": "add"}}, {"type": "function", "function": {"name": "add"}}),
        ({"type": "tool", "name": "add"}, {"type": "function", "function": {"name": "add"}}),
        ({"type": "any"}, "required"),
        ({"type": "required"}, "required"),
        ({"type": "auto"}, "auto"),
        ({"type": "none"}, "none"),
    ],
)
def test_every_form_of_a_tool_choice_is_understood(choice: Any, expected: Any) -> None:
    body = body_of(make().bind_tools([Weather, add], tool_choice=choice))
    assert [one["function"]["name"] for one in body["tools"]] == ["Weather", "add"]
    assert body.get("tool_choice") == expected


@pytest.mark.parametrize("choice", ["subtract", {"type": "tool", "name": "subtract"}, {"type": "function"}])
def test_a_tool_choice_that_names_no_bound_tool_is_refused(choice: Any) -> None:
    with pytest.raises(TogetherAIInputError, match="the tools are Weather, add"):
        make().bind_tools([Weather, add], tool_choice=choice)


def test_a_tool_may_be_called_auto() -> None:
    def auto() -> None:
        """Drive."""

    body = body_of(make().bind_tools([auto], tool_choice="auto"))
    assert body["tool_choice"] == {"type": "function", "function": {"name": "auto"}}


def test_tools_come_in_every_form() -> None:
    def twice(number: int) -> int:
        """Double a number."""
        return 2 * number

    wire = {"type": "function", "function": {"name": "wire", "description": "As it is.", "parameters": {}}}
    anthropic = {"name": "claude", "description": "Anthropic's.", "input_schema": {"type": "object"}}
    body = body_of(make().bind_tools([Weather, add, twice, wire, anthropic]))
    assert [one["function"]["name"] for one in body["tools"]] == ["Weather", "add", "twice", "wire", "claude"]


def test_strict_and_parallel_calls_and_further_fields_are_sent() -> None:
    body = body_of(make().bind_tools([Weather], strict=True, parallel_tool_calls=False, temperature=0.5))
    assert body["tools"][0]["function"]["strict"] is True
    assert body["tools"][0]["function"]["parameters"]["additionalProperties"] is False
    assert body["parallel_tool_calls"] is False
    assert body["temperature"] == 0.5
    plain = body_of(make().bind_tools([Weather]))
    assert "parallel_tool_calls" not in plain
    assert "strict" not in plain["tools"][0]["function"]


# --- where it comes from ---


def test_the_model_comes_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_DEFAULT_MODEL", "some/default")
    chat = ChatTogetherAI(api_key=KEY)
    assert chat.model == "some/default"
    assert make().model == "some/model"


def test_without_a_key_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "never-read")
    with pytest.raises(TogetherAISettingsError, match="TOGETHER_API_KEY") as caught:
        ChatTogetherAI(model="some/model")
    assert "never-read" not in str(caught.value)


def test_the_key_of_another_provider_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "never-read")
    monkeypatch.setenv("TOGETHER_API_KEY", KEY)
    chat = ChatTogetherAI(model="some/model")
    assert chat.api_key == SecretStr(KEY)


# --- saving, tracing, secrets ---


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_saving_and_loading_keeps_the_fields_but_not_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    text = dumps(make(temperature=0.5, stop=["x"], reasoning={"enabled": False}, extra_body={"own": 1}))
    assert KEY not in text
    monkeypatch.setenv("TOGETHER_API_KEY", "another-key")
    loaded = loads(text, valid_namespaces=["hana_ai"], allowed_objects=[ChatTogetherAI], secrets_from_env=True)
    assert isinstance(loaded, ChatTogetherAI)
    assert loaded.api_key == SecretStr("another-key")
    assert (loaded.temperature, loaded.stop, loaded.model) == (0.5, ["x"], "some/model")
    assert (loaded.reasoning, loaded.extra_body) == ({"enabled": False}, {"own": 1})


def test_the_key_is_in_no_text_of_the_object(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    chat = make()
    texts = [repr(chat), str(chat), str(chat.asdict()), dumps(chat), str(chat._identifying_params)]
    texts += [repr(chat.transport), str(chat._get_ls_params()), chat._get_llm_string(), str(chat.lc_attributes)]
    texts += [repr(chat.bind_tools([add])), caplog.text]
    for make_wrong in (
        lambda: make(temperature="warm"),
        lambda: make(api_key=f"{KEY}\nx"),
        lambda: make(base_url="ftp://x"),
    ):
        with pytest.raises(ValueError) as caught:
            make_wrong()
        texts += [str(caught.value), repr(caught.value)]
    assert not [text for text in texts if KEY in text]
    assert chat.lc_secrets == {"api_key": "TOGETHER_API_KEY"}


def test_a_copy_and_a_pickle_are_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = make(temperature=0.5, stop=["x"])
    assert chat.api_key is not None
    monkeypatch.setenv("TOGETHER_API_KEY", chat.api_key.get_secret_value())
    for other in (copy.deepcopy(chat), pickle.loads(pickle.dumps(chat)), chat.model_copy()):
        assert other == chat
        assert body_of(other) == body_of(chat)
        assert other.transport is chat.transport


def test_langsmith_learns_provider_model_and_limits() -> None:
    params = make(temperature=0.5, max_tokens=9)._get_ls_params(stop=["x"], model="another")
    assert {name: value for name, value in params.items() if name.startswith("ls_")} == {
        "ls_provider": "together",
        "ls_model_type": "chat",
        "ls_model_name": "another",
        "ls_temperature": 0.5,
        "ls_max_tokens": 9,
        "ls_stop": ["x"],
    }
    assert make()._llm_type == "together-ai-chat"


def test_the_cache_key_differs_with_everything_that_changes_the_body() -> None:
    objects = [
        make(),
        *(make(**{name: value}) for name, value in PARAMETERS.items()),
        make(model="another"),
        make(base_url="https://gateway.example"),
        make(model_kwargs={"own": 1}),
        make(extra_body={"own": 2}),
    ]
    assert len({chat._get_llm_string() for chat in objects}) == len(objects)
    assert make()._get_llm_string() == make(api_key="another")._get_llm_string()


def test_batches_add_their_usage() -> None:
    outputs = [
        {"model_name": "some/model", "token_usage": {"prompt_tokens": 1, "total_tokens": 2, "details": {}}},
        None,
        {"model_name": None, "token_usage": {"prompt_tokens": 2, "total_tokens": 3}},
        {},
    ]
    assert make()._combine_llm_outputs(outputs) == {
        "model_name": "some/model",
        "token_usage": {"prompt_tokens": 3, "total_tokens": 5},
    }
    assert make()._combine_llm_outputs([None]) == {"model_name": "some/model"}


def test_errors_of_this_class_are_errors_of_this_package() -> None:
    with pytest.raises(TogetherAIError):
        make().with_structured_output(None, method="function_calling")
