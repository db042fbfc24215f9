"""Nothing vanishes: a name that is one edit away from a right one gives an error or a warning with the right one.

The names are computed from the classes, the settings and Together's OpenAPI document, not written down here.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import warnings
from collections.abc import Callable, Collection
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_settings import BaseSettings

from hana_ai.api import (
    ChatTogetherAI,
    TogetherAI,
    TogetherAIClient,
    TogetherAIConnector,
    TogetherAIEmbeddings,
    TogetherAIRerank,
    TogetherAISettings,
    init_embedding_model,
    init_llm,
)
from hana_ai.api.addresses.spelling import edits, similar
from hana_ai.api.connector.deployment_plan import EndpointConfig
from hana_ai.api.connector.uploads import Uploads
from hana_ai.api.errors import TogetherAIError, TogetherAIInputError, TogetherAISettingsError
from hana_ai.api.local.together import Reply, ScriptedEngine
from tests import openapi
from tests.conftest import ScriptedTogether, export
from tests.misspelling import misspelled
from tests.secrets_watch import MARK

CLASSES: dict[str, type[BaseModel]] = {
    kind.__name__: kind for kind in (ChatTogetherAI, TogetherAI, TogetherAIEmbeddings, TogetherAIRerank)
}
REQUESTS = {
    "ChatTogetherAI": "ChatCompletionRequest",
    "TogetherAI": "CompletionRequest",
    "TogetherAIEmbeddings": "EmbeddingsRequest",
    "TogetherAIRerank": "RerankRequest",
}
VARIABLES = {name.upper() for name in TogetherAISettings.model_fields}
OF_THE_SDK = (
    "TOGETHER_LOG",
    "TOGETHER_CUSTOM_HEADERS",
    "TOGETHER_CREDENTIALS_PATH",
    "TOGETHER_TELEMETRY_DISABLED",
    "TOGETHER_DISABLE_VERSION_CHECK",
    "TOGETHER_UPLOAD_CONCURRENCY",
    "TOGETHER_API_BASE_URL",
    "TOGETHERAI_API_KEY",
    "HANA_HOST",
)
"""Variables of the official SDK and of other programs."""

EACH = max(1, 100 // settings().max_examples)
"""Of so many slips one is tried; every one where slow tests run, too."""

every_class = pytest.mark.parametrize("name", CLASSES)


def documented(name: str) -> set[str]:
    """The fields of a class's requests, as Together's document has them."""
    return set(openapi.schemas()[REQUESTS[name]]["properties"])


def names_of(kind: type[BaseModel]) -> set[str]:
    """The names that a class's fields can be given by."""
    found = set(kind.model_fields)
    for field in kind.model_fields.values():
        found |= {str(choice) for choice in getattr(field.validation_alias, "choices", ())}
    return found


def unnamed(names: Collection[str], attempt: Callable[[str], object], valid: Collection[str]) -> list[str]:
    """The misspelled names that an attempt took, or refused without the right one, in an error of ours."""
    wrong, cases = [], 0
    for slip, right in itertools.islice(misspelled(names, valid), 0, None, EACH):
        cases += 1
        try:
            attempt(slip)
        except TogetherAIError as exc:
            if right not in str(exc) or slip not in str(exc):
                wrong.append(f"{slip}: {exc}")
        else:
            wrong.append(f"{slip} passed")
    assert cases
    return wrong


# --- the rule ---


@given(st.text("abcdefg_", min_size=4, max_size=12), st.data())
def test_one_edit_of_a_name_of_four_letters_is_always_close(name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(name) - 1))
    letter = data.draw(st.sampled_from("abcdefg_"))
    for slip in (
        name[:place] + name[place + 1 :],
        name[:place] + letter + name[place:],
        name[:place] + letter + name[place + 1 :],
        name[:place] + name[place + 1 : place + 2] + name[place : place + 1] + name[place + 2 :],
    ):
        assert edits(slip, name) <= 1
        assert edits(name, slip) == edits(slip, name)
        assert (similar(slip, [name, "quite_another"]) == [name]) is (slip != name)


@given(st.text("abc", max_size=8), st.text("abc", max_size=8), st.integers(1, 3))
def test_edits_are_counted_up_to_the_most_that_matters(one: str, other: str, most: int) -> None:
    assert edits(one, other, most) == min(edits(one, other, len(one) + len(other)), most + 1)


@pytest.mark.parametrize(
    ("slip", "close"),
    [
        ("max-tokens", ["max_tokens"]),
        ("maxTokens", ["max_tokens"]),
        ("Temperature", ["temperature"]),
        ("temprture", ["temperature"]),
        ("top_x", ["top_k", "top_p"]),
        ("top_p", []),
        ("n", []),
        ("nn", []),
        ("seat", []),
        ("quite_another", []),
    ],
)
def test_what_is_close(slip: str, close: list[str]) -> None:
    assert similar(slip, ["max_tokens", "temperature", "top_k", "top_p", "n", "seed"]) == close


# --- objects ---


@every_class
def test_a_misspelled_argument_of_a_class_is_an_error(name: str, together: ScriptedTogether) -> None:
    kind = CLASSES[name]
    right = names_of(kind) | documented(name)

    def make(slip: str) -> None:
        kind(**{"model": "m", **together.client, slip: f"{MARK}-whatever-it-was-for"})

    assert unnamed(right, make, right) == []


@every_class
def test_a_misspelled_argument_of_a_client_s_objects_is_an_error(name: str, together: ScriptedTogether) -> None:
    kind = CLASSES[name]
    client = TogetherAIClient(TogetherAISettings(**{f"together_{k}": v for k, v in together.client.items()}))
    make = {
        "ChatTogetherAI": client.chat_model,
        "TogetherAI": client.llm,
        "TogetherAIEmbeddings": client.embeddings,
        "TogetherAIRerank": client.reranker,
    }[name]
    right = names_of(kind) | documented(name)
    # A method has its own first argument, of which Python itself says that it is misspelled.
    assert unnamed(right, lambda slip: make(**{slip: 1}), right) == []


@every_class
def test_a_misspelled_field_is_neither_assigned_nor_copied(name: str, together: ScriptedTogether) -> None:
    made = CLASSES[name](model="m", **together.client)
    right = set(CLASSES[name].model_fields)
    valid = right | set(dir(made))
    assert unnamed(right, lambda slip: setattr(made, slip, 1), valid) == []
    assert unnamed(right, lambda slip: made.model_copy(update={slip: 1}), valid) == []


@pytest.mark.parametrize("name", ["ChatTogetherAI", "TogetherAI"])
@pytest.mark.parametrize("slip", ["m", "nn", "an", "no"])
def test_a_name_too_short_to_be_refused_for_is_asked_for(name: str, slip: str, together: ScriptedTogether) -> None:
    with pytest.warns(UserWarning, match=rf"{slip} was transferred .*; did you mean n\?$"):
        CLASSES[name](**{"model": "m", **together.client, slip: 2})


@every_class
def test_any_other_argument_goes_to_model_kwargs_with_langchains_warning(
    name: str, together: ScriptedTogether
) -> None:
    with pytest.warns(UserWarning, match="whatever was transferred to model_kwargs") as caught:
        made: Any = CLASSES[name](model="m", whatever=1, **together.client)
    assert made.model_kwargs == {"whatever": 1}
    assert caught[0].filename == __file__
    with pytest.raises(TogetherAISettingsError, match="whatever is given by itself and in model_kwargs"):
        CLASSES[name](model="m", whatever=1, model_kwargs={"whatever": 2}, **together.client)


@every_class
def test_a_valid_name_is_never_taken_for_another(name: str, together: ScriptedTogether) -> None:
    for field in sorted(documented(name) - names_of(CLASSES[name])):
        with pytest.warns(UserWarning, match="transferred to model_kwargs"):
            CLASSES[name](model="m", **{field: None}, **together.client)
    for other in ("min_tokens", "prompt_cache_key", "eos_token"):
        with pytest.warns(UserWarning, match=f"{other} was transferred"):
            CLASSES[name](model="m", **{other: 2}, **together.client)


@every_class
@pytest.mark.parametrize(
    "secret", ["openai_api_key", "hf_token", "password", "client_secret", "default_headers", "api_kye"]
)
def test_what_may_hold_a_secret_is_neither_sent_nor_shown(
    name: str, secret: str, together: ScriptedTogether
) -> None:
    with pytest.raises(TogetherAISettingsError, match=secret) as caught:
        CLASSES[name](model="m", **{secret: {"Authorization": f"{MARK}-of-another"}}, **together.client)
    traceback = caught.tb.tb_next
    while traceback is not None:
        assert MARK not in repr(traceback.tb_frame.f_locals)
        traceback = traceback.tb_next


@every_class
def test_what_no_request_could_have_is_refused(name: str, together: ScriptedTogether) -> None:
    with pytest.raises(
        TogetherAISettingsError, match="no argument http_client, and a value of type object can't be sent"
    ):
        CLASSES[name](model="m", http_client=object(), **together.client)


@every_class
def test_model_kwargs_are_warned_of_and_extra_body_is_not(name: str, together: ScriptedTogether) -> None:
    with pytest.warns(UserWarning, match="model_kwargs has modle; did you mean model"):
        CLASSES[name](model="m", model_kwargs={"modle": 1}, **together.client)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CLASSES[name](model="m", extra_body={"modle": 1}, **together.client)


# --- calls ---


def calls(together: ScriptedTogether) -> dict[str, tuple[set[str], Callable[..., object]]]:
    client = TogetherAIClient(TogetherAISettings(**{f"together_{k}": v for k, v in together.client.items()}))
    chat, llm = ChatTogetherAI(model="m", **together.client), TogetherAI(model="m", **together.client)
    rerank = TogetherAIRerank(model="m", **together.client)
    of_chat, of_llm = documented("ChatTogetherAI"), documented("TogetherAI")
    return {
        "invoke": (of_chat, lambda **given: chat.invoke("x", **given)),
        "ainvoke": (of_chat, lambda **given: asyncio.run(chat.ainvoke("x", **given))),
        "stream": (of_chat, lambda **given: list(chat.stream("x", **given))),
        "bind": (of_chat, lambda **given: chat.bind(**given).invoke("x")),
        "bind_tools": (of_chat, lambda **given: chat.bind_tools([], **given).invoke("x")),
        "llm.invoke": (of_llm, lambda **given: llm.invoke("x", **given)),
        "llm.stream": (of_llm, lambda **given: list(llm.stream("x", **given))),
        "rerank": (documented("TogetherAIRerank"), lambda **given: rerank.rerank("x", ["y"], **given)),
        "generate_completion": (of_llm, lambda **given: client.generate_completion("x", **given)),
        "generate_chat_completion": (of_chat, lambda **given: client.generate_chat_completion("x", **given)),
        "get_text_embedding_batch": (
            {"show_progress"},
            lambda **given: TogetherAIEmbeddings(model="m", **together.client).get_text_embedding_batch(
                ["x"], **given
            ),
        ),
    }


CALLS = (
    "invoke", "ainvoke", "stream", "bind", "bind_tools", "llm.invoke", "llm.stream", "rerank",
    "generate_completion", "generate_chat_completion", "get_text_embedding_batch",
)  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_a_misspelled_argument_of_a_call_is_an_error_before_anything_is_sent(
    call: str, together: ScriptedTogether
) -> None:
    right, ask = calls(together)[call]
    # What LangChain's methods and Python's own signatures know.
    valid = {*right, "input", "config", "tools", "prompt", "query"}
    assert unnamed(right - {"prompt", "query", "messages", "input"}, lambda slip: ask(**{slip: 1}), valid) == []
    assert not together.engine.requests
    assert set(calls(together)) == set(CALLS)


def test_what_is_unknown_is_sent_by_a_call_and_what_belongs_to_the_object_is_refused(
    together: ScriptedTogether, engine: ScriptedEngine
) -> None:
    engine.always(Reply(text="a"))
    chat = ChatTogetherAI(model=engine.CHAT, **together.client)
    chat.invoke("x", whatever=3, max_completion_tokens=5, stop_sequences="s")
    [request] = engine.requests
    assert {"whatever": 3, "max_tokens": 5, "stop": ["s"]}.items() <= request.body.items()
    for name in ("timeout", "api_key", "base_url", "max_retries", "fallback", "model_kwargs"):
        with pytest.raises(
            TogetherAIInputError, match=rf"{name} is no part of a request.*ChatTogetherAI\({name}="
        ):
            chat.invoke("x", **{name: "3"})
    with pytest.raises(TogetherAIInputError, match="may hold a secret"):
        chat.invoke("x", openai_api_key="sk")
    assert len(engine.requests) == 1


@pytest.mark.parametrize("name", REQUESTS)
def test_every_field_of_the_document_is_known_to_a_call(name: str) -> None:
    from hana_ai.api.langchain.arguments import taken_by

    assert documented(name) - {"stream"} <= taken_by(CLASSES[name]).known


def test_what_has_no_further_arguments_is_refused_by_python(together: ScriptedTogether) -> None:
    client = TogetherAIClient(TogetherAISettings(**{f"together_{k}": v for k, v in together.client.items()}))
    for method in (client.generate_embeddings, client.get_available_models):
        for slip, _ in misspelled(inspect.signature(method).parameters):
            with pytest.raises(TypeError, match=slip):
                method(**{slip: "x"})


# --- settings ---


def test_a_misspelled_setting_is_an_error() -> None:
    options = {name for name in inspect.signature(BaseSettings.__init__).parameters if name[:2] == "_e"}
    right = {*TogetherAISettings.model_fields, *options}
    assert unnamed(right, lambda slip: TogetherAISettings(**{slip: "1"}), right) == []
    with pytest.raises(TogetherAISettingsError, match="has no whatever"):
        TogetherAISettings(whatever=1)

    class Own(TogetherAISettings):
        whatever: int = 0

    assert Own(whatever=1).whatever == 1


def test_a_misspelled_variable_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slips = list(misspelled(VARIABLES))
    assert len(slips) > 150
    export(monkeypatch, {slip: "1" for slip, _ in slips})
    TogetherAISettings(_env_file=None)
    said = {line.split()[0]: line for line in caplog.messages}
    assert [slip for slip, right in slips if right not in said.get(slip, "")] == []
    assert all("in the environment is not read" in line for line in caplog.messages)
    caplog.clear()
    TogetherAISettings(_env_file=None)
    assert caplog.messages == []


def test_a_misspelled_line_of_the_file_is_warned_of_with_the_file(caplog: pytest.LogCaptureFixture) -> None:
    slips = list(misspelled(VARIABLES))
    lines = [f"{'export ' * (number % 2)}{slip} = 1" for number, (slip, _) in enumerate(slips)]
    Path(".env").write_text("\n".join(["# TOGETHER_COMMENTD=1", *lines]))
    TogetherAISettings()
    said = {line.split()[0]: line for line in caplog.messages}
    assert [slip for slip, right in slips if right not in said.get(slip, "") or ".env" not in said[slip]] == []
    assert len(said) == len(slips)


def test_variables_of_other_programs_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    export(monkeypatch, dict.fromkeys((*OF_THE_SDK, "TOGETHER_SOMETHING_ELSE"), "1"))
    TogetherAISettings(_env_file=None)
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
    assert any("TOGETHER_SOMETHING_ELSE" in line for line in caplog.messages)


def test_another_packages_name_for_the_address_is_warned_of_unless_ours_is_set_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TOGETHER_API_BASE", "https://gateway.example")
    (Path.cwd() / ".env").write_text("TOGETHER_API_BASE=https://a\nTOGETHER_BASE_URL=https://b\n")
    TogetherAISettings()
    assert [line for line in caplog.messages if "TOGETHER_API_BASE" in line] == [
        "TOGETHER_API_BASE in the environment is not read; did you mean TOGETHER_BASE_URL?"
    ]


def test_a_misspelled_switch_is_warned_of_where_nothing_is_routed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from hana_ai.api.routing import is_enabled

    names = ["ENABLE_TOGETHER_AI", "ENABLE_GPU_ACCELERATION"]
    # Each is said once in a process, and the tests above have their own.
    slips = sorted({*misspelled(names, seed="of the switch")} - {*misspelled(names)})
    export(monkeypatch, {f"{slip}": "true" for slip, _ in slips[::2]})
    Path(".env").write_text("".join(f"{slip}=true\n" for slip, _ in slips[1::2]))
    assert not is_enabled()
    said = {line.split()[0]: line for line in caplog.messages}
    assert [slip for slip, right in slips if right not in said.get(slip, "")] == []


# --- the connector, and SAP's functions ---


def test_a_misspelled_key_of_a_connector_is_an_error(together: ScriptedTogether) -> None:
    config = {**together.client, "project_id": "p"}

    def connect(slip: str) -> None:
        asyncio.run(TogetherAIConnector().connect({**config, slip: "1"}))

    assert unnamed(config, connect, config) == []


def test_a_misspelled_key_of_an_endpoint_or_an_upload_is_an_error() -> None:
    keys = {field.name for field in fields(EndpointConfig)}
    assert unnamed(keys, lambda slip: EndpointConfig.read({slip: 1}), keys) == []
    metadata = {"name": "a", "base_model": "b", "description": "c", "token": "d"}

    def upload(slip: str) -> None:
        asyncio.run(Uploads(None).upload("/nowhere", {**metadata, slip: "x"}, None))  # type: ignore[arg-type]

    assert unnamed(metadata, upload, metadata) == []


@pytest.mark.parametrize("streaming", [False, True])
def test_a_misspelled_key_of_a_generation_config_is_an_error(streaming: bool, together: ScriptedTogether) -> None:
    right = documented("ChatTogetherAI") - {"messages", "model", "stream"}

    async def ask(slips: list[str]) -> dict[str, str]:
        said: dict[str, str] = {}
        async with TogetherAIConnector(together.client) as connector:
            for slip in slips:
                try:
                    if streaming:
                        async for _ in connector.inference_streaming("m", "x", {slip: 1}):
                            pass
                    else:
                        await connector.inference("m", "x", {slip: 1})
                except TogetherAIInputError as exc:
                    said[slip] = str(exc)
        return said

    slips = dict(misspelled(right, documented("ChatTogetherAI")))
    said = asyncio.run(ask(list(slips)))
    assert [slip for slip, name in slips.items() if name not in said.get(slip, "")] == []


def test_a_misspelled_argument_of_saps_functions_is_an_error(
    together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(monkeypatch, together.environment())
    of_chat = names_of(ChatTogetherAI) - {"model", "model_name"}
    assert unnamed(of_chat, lambda slip: init_llm("m/m", **{slip: 1}), of_chat | {"model_id"}) == []
    of_embeddings = names_of(TogetherAIEmbeddings) - {"model", "model_name"}
    assert unnamed(of_embeddings, lambda slip: init_embedding_model("m/m", **{slip: 1}), of_embeddings) == []


# --- ranges ---

OUTSIDE: list[tuple[str, object, str]] = [
    ("temperature", 9, "from 0 to 2"),
    ("temperature", -0.1, "from 0 to 2"),
    ("temperature", float("nan"), "from 0 to 2"),
    ("top_p", 1.5, "from 0 to 1"),
    ("top_k", -2, "-1 or more"),
    ("min_p", 2, "from 0 to 1"),
    ("max_tokens", 0, "1 or more"),
    ("repetition_penalty", -1, "0 or more"),
    ("presence_penalty", 2.5, "from -2 to 2"),
    ("frequency_penalty", -3, "from -2 to 2"),
    ("n", 129, "from 1 to 128"),
    ("n", 0, "from 1 to 128"),
    ("logprobs", 21, "from 0 to 20"),
]


@pytest.mark.parametrize(("name", "value", "span"), OUTSIDE, ids=[f"{name}={value}" for name, value, _ in OUTSIDE])
def test_a_value_out_of_its_range_is_refused_by_name_before_anything_is_sent(
    name: str, value: Any, span: str, together: ScriptedTogether
) -> None:
    said = rf"{name} is {value}(\.0)?; it must be {span}"
    for kind in (ChatTogetherAI, TogetherAI):
        with pytest.raises(TogetherAISettingsError, match=said):
            kind(model="m", **{name: value}, **together.client)
        made = kind(model="m", **together.client)
        setattr(made, name, value)
        with pytest.raises(TogetherAIInputError, match=said):
            made.invoke("x")
        setattr(made, name, None)
        with pytest.raises(TogetherAIInputError, match=said):
            made.invoke("x", **{name: value})
    for call in ("ainvoke", "stream", "llm.stream", "generate_completion", "generate_chat_completion"):
        with pytest.raises(TogetherAIInputError, match=said):
            calls(together)[call][1](**{name: value})
    assert not together.engine.requests


@pytest.mark.parametrize(
    ("kind", "name", "value", "span"),
    [
        (ChatTogetherAI, "timeout", -1, "greater than 0"),
        (ChatTogetherAI, "max_retries", -1, "greater than or equal to 0"),
        (TogetherAIEmbeddings, "dimensions", 0, "greater than or equal to 1"),
        (TogetherAIRerank, "top_n", 0, "greater than or equal to 1"),
    ],
)
def test_the_other_fields_say_their_value_and_what_is_allowed(
    kind: type[Any], name: str, value: int, span: str, together: ScriptedTogether
) -> None:
    with pytest.raises(TogetherAISettingsError, match=rf"{name} is {value}; it should be {span}\."):
        kind(model="m", **{name: value}, **together.client)


def test_the_bounds_of_the_document_are_those_of_the_code() -> None:
    from hana_ai.api.langchain.ranges import RANGES

    for request in ("ChatCompletionRequest", "CompletionRequest"):
        for name, field in openapi.schemas()[request]["properties"].items():
            if {"minimum", "maximum"} & field.keys():
                assert RANGES[name] == (field.get("minimum"), field.get("maximum"))


def test_what_is_no_number_is_refused_and_extra_body_is_sent_unchecked(
    together: ScriptedTogether, engine: ScriptedEngine
) -> None:
    engine.always(Reply(text="a"))
    chat = ChatTogetherAI(model=engine.CHAT, **together.client)
    with pytest.raises(TogetherAIInputError, match="temperature is 'hot'; it must be from 0 to 2"):
        chat.invoke("x", temperature="hot")
    chat.invoke("x", extra_body={"temperature": 9})
    assert engine.requests[-1].body["temperature"] == 9
