"""Bodies, replies and chunks of completions, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.load import dumps, loads
from langchain_core.outputs import Generation

from hana_ai.api.errors import TogetherAIInputError, TogetherAIResponseError, TogetherAISettingsError
from hana_ai.api.langchain.completions import CompletionReader, generations_from_wire, llm_result
from hana_ai.api.llms import TogetherAI
from tests.generation import PARAMETERS
from tests.openapi import check_request

KEY = "tgp_v1_watched-secret-key-of-a-test"


def make(**fields: object) -> TogetherAI:
    return TogetherAI(**{"model": "some/model", "api_key": KEY, **fields})


def body_of(
    llm: TogetherAI, given_stop: list[str] | None = None, *, stream: bool = False, **kwargs: object
) -> dict:
    body = llm._body("Once", given_stop, kwargs, stream=stream)
    check_request("/v1/completions", body)
    return body


def test_a_body_without_parameters_has_only_model_and_prompt() -> None:
    assert body_of(make()) == {"model": "some/model", "prompt": "Once"}


def test_every_parameter_of_the_document_is_a_field() -> None:
    body = body_of(make(**PARAMETERS))
    assert body == {"model": "some/model", "prompt": "Once", **PARAMETERS}


def test_a_field_can_be_assigned_later_and_none_leaves_it_out() -> None:
    llm = make(temperature=0.5, top_p=0.9)
    llm.top_p = None
    llm.max_tokens = 3
    assert body_of(llm) == {"model": "some/model", "prompt": "Once", "temperature": 0.5, "max_tokens": 3}


@pytest.mark.parametrize(
    ("fields", "stop", "kwargs", "expected"),
    [
        ({"stop": "x"}, None, {}, ["x"]),
        ({"stop_sequences": ["x", "y"]}, None, {}, ["x", "y"]),
        ({"stop": "x"}, ["z"], {}, ["z"]),
        ({}, None, {"stop": "w"}, ["w"]),
        ({"model_kwargs": {"stop": "v"}}, None, {}, ["v"]),
        ({"extra_body": {"stop": "u"}}, ["z"], {}, ["u"]),
        ({"stop": "x"}, [], {}, None),
    ],
)
def test_stop_is_always_a_list(fields: dict, stop: list[str] | None, kwargs: dict, expected: object) -> None:
    assert body_of(make(**fields), stop, **kwargs).get("stop") == expected


def test_a_stop_that_is_no_string_is_refused() -> None:
    with pytest.raises(TogetherAIInputError, match="list of strings"):
        body_of(make(), [1])  # type: ignore[list-item]


def test_a_stream_asks_for_usage_unless_told_not_to() -> None:
    assert body_of(make(), stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in body_of(make(), stream=True, stream_usage=False)
    assert "stream_options" not in body_of(make(stream_usage=False), stream=True)


def test_a_stream_of_several_answers_is_refused() -> None:
    with pytest.raises(TogetherAIInputError, match="n > 1"):
        body_of(make(n=2), stream=True)


def test_the_cache_key_differs_with_everything_that_changes_the_body() -> None:
    objects = [
        make(),
        make(temperature=0.0),
        make(model="another"),
        make(model_kwargs={"own": 1}),
        make(extra_body={"own": 2}),
        make(stop="x"),
    ]
    keys = {str(sorted(llm.asdict().items())) for llm in objects}
    assert len(keys) == len(objects)
    assert make()._llm_type == "together-ai"


def test_langsmith_learns_provider_model_and_limits() -> None:
    params = make(temperature=0.5, max_tokens=9)._get_ls_params(stop=["x"], model="another")
    assert params == {
        "ls_provider": "together",
        "ls_model_type": "llm",
        "ls_model_name": "another",
        "ls_temperature": 0.5,
        "ls_max_tokens": 9,
        "ls_stop": ["x"],
    }


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_saving_and_loading_keeps_the_fields_but_not_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    text = dumps(make(temperature=0.5, stop=["x"]))
    assert KEY not in text
    monkeypatch.setenv("TOGETHER_API_KEY", "another-key")
    loaded = loads(text, valid_namespaces=["hana_ai"], allowed_objects=[TogetherAI], secrets_from_env=True)
    assert isinstance(loaded, TogetherAI)
    assert (loaded.temperature, loaded.stop, loaded.model) == (0.5, ["x"], "some/model")
    assert loaded.api_key is not None
    assert loaded.api_key.get_secret_value() == "another-key"


def test_the_key_is_in_no_text_of_the_object() -> None:
    llm = make()
    assert KEY not in repr(llm) + str(llm) + str(llm.asdict())


def test_without_a_key_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "never-read")
    with pytest.raises(TogetherAISettingsError, match="TOGETHER_API_KEY"):
        TogetherAI(model="some/model")


# --- replies ---

REPLY = {
    "id": "req-1",
    "model": "some/model",
    "created": 5,
    "object": "text.completion",
    "prompt": [{"text": "Once", "logprobs": {"tokens": ["Once"], "token_logprobs": [None]}}],
    "choices": [
        {"text": " upon", "finish_reason": "length", "seed": 2**60, "logprobs": {"tokens": [" upon"]}},
        {"text": " more", "finish_reason": "stop"},
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}


def test_each_choice_becomes_a_generation_and_usage_is_given_once() -> None:
    first, second = generations_from_wire(REPLY, request_id="req-1")
    assert (first.text, second.text) == (" upon", " more")
    assert first.generation_info == {
        "model_provider": "together",
        "model_name": "some/model",
        "id": "req-1",
        "created": 5,
        "request_id": "req-1",
        "finish_reason": "length",
        "seed": 2**60,
        "logprobs": {"tokens": [" upon"]},
        "prompt": REPLY["prompt"],
        "token_usage": REPLY["usage"],
    }
    assert second.generation_info is not None
    assert "token_usage" not in second.generation_info


@pytest.mark.parametrize(
    "reply", [None, [], {}, {"choices": []}, {"choices": [{}]}, {"choices": ["a"]}, {"choices": "abc"}]
)
def test_a_reply_without_text_is_an_error(reply: object) -> None:
    with pytest.raises(TogetherAIResponseError, match=r"does not fit at (choices|its top)"):
        generations_from_wire(reply, model="some/model")


def answer(usage: dict | None, name: str | None = "some/model") -> list[Generation]:
    info = {"model_name": name, **({"token_usage": usage} if usage else {})}
    return [Generation(text="", generation_info=info)]


def test_usage_of_several_prompts_is_added() -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 1}}
    result = llm_result([answer({"a": 1, "b": 2, **details}), answer({"a": 3, "c": 4})], model="asked")
    assert result.llm_output == {"model_name": "some/model", "token_usage": {"a": 4, "b": 2, "c": 4}}


def test_unknown_usage_is_not_zero() -> None:
    assert llm_result([answer({"a": 1}), answer(None, None)], model="asked").llm_output == {
        "model_name": "some/model"
    }
    assert llm_result([], model="asked").llm_output == {"model_name": "asked"}


# --- streams ---


def test_a_chunk_may_carry_its_text_in_any_of_three_places() -> None:
    reader = CompletionReader()
    token = {"id": 1, "text": "d", "logprob": 0, "special": False}
    chunks = [
        {"choices": [{"index": 0, "text": "a"}], "token": token},
        {"choices": [{"index": 0, "delta": {"content": "b"}}], "token": token},
        {"choices": [{"index": 0}], "token": token},
        {"choices": [], "token": token},
        {"choices": [], "token": {**token, "special": True, "text": "</s>"}},
        {"choices": [{"index": 1, "text": "another answer"}]},
        {},
    ]
    texts = [chunk.text for wire in chunks for chunk in reader.read(wire)]
    assert texts == ["a", "b", "d", "d"]
    assert reader.partial() == "abdd"


def test_log_probabilities_of_chunks_join_to_those_of_a_whole_answer() -> None:
    reader = CompletionReader()
    chunks = []
    for number, text in enumerate(("a", "b")):
        wire = {
            "choices": [{"index": 0, "text": text, "logprobs": -0.5, "top_logprobs": {text: -0.5}}],
            "token": {"id": number, "text": text},
        }
        chunks += reader.read(wire)
    chunks += reader.finish()
    joined = chunks[0] + chunks[1] + chunks[2]
    assert joined.generation_info["logprobs"] == {
        "tokens": ["a", "b"],
        "token_logprobs": [-0.5, -0.5],
        "token_ids": [0, 1],
        "top_logprobs": [{"a": -0.5}, {"b": -0.5}],
    }


def test_log_probabilities_that_come_as_an_object_stay_as_they_are() -> None:
    [chunk] = CompletionReader().read({"choices": [{"text": "a", "logprobs": {"tokens": ["a"]}}]})
    assert chunk.generation_info == {"logprobs": {"tokens": ["a"]}}


@given(
    parts=st.lists(st.text(min_size=1), min_size=1),
    repeats=st.integers(1, 3),
    usage_at=st.sets(st.integers(0, 40)),
)
def test_finish_reason_and_usage_come_once_however_often_the_wire_repeats_them(
    parts: list[str], repeats: int, usage_at: set[int]
) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    wires: list[dict] = [{"id": "1", "model": "m", "choices": [{"index": 0, "text": part}]} for part in parts]
    wires += [{"id": "1", "model": "m", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}] * repeats
    wires = [{**wire, "usage": usage if place in usage_at else None} for place, wire in enumerate(wires)]
    reader = CompletionReader()
    chunks = [chunk for wire in wires for chunk in reader.read(wire)] + reader.finish()
    joined = chunks[0]
    for chunk in chunks[1:]:
        joined = joined + chunk
    assert joined.text == "".join(parts)
    assert joined.generation_info["finish_reason"] == "stop"
    assert joined.generation_info["model_name"] == "m"
    assert joined.generation_info.get("token_usage") == (usage if usage_at & set(range(len(wires))) else None)
