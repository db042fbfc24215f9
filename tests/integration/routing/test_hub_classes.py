"""SAP's LangChain classes for GenAI Hub: constructing one makes Together's model, whenever it was imported."""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import pickle
import subprocess
import sys
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel

from hana_ai import api
from hana_ai.api import routing
from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.llms import TogetherAI
from hana_ai.api.local.together import Received
from tests.conftest import ScriptedTogether
from tests.integration.routing import sap

pytestmark = pytest.mark.filterwarnings("ignore")

with warnings.catch_warnings():
    # Before anything is activated, from the package and from the modules, as programs do.
    warnings.simplefilter("ignore")
    from gen_ai_hub.proxy.langchain import ChatOpenAI, OpenAIEmbeddings
    from gen_ai_hub.proxy.langchain.amazon import BedrockEmbeddings, ChatBedrock, ChatBedrockConverse
    from gen_ai_hub.proxy.langchain.google_genai import ChatGoogleGenerativeAI, GoogleGenerativeAIEmbeddings
    from gen_ai_hub.proxy.langchain.openai import OpenAI

CHAT: list[tuple[Any, dict[str, Any]]] = [
    (ChatOpenAI, {"proxy_model_name": "gpt-4o"}),
    (ChatOpenAI, {"model_name": "gpt-4o"}),
    (ChatBedrock, {"model_name": "anthropic--claude-4.6-sonnet"}),
    (ChatBedrockConverse, {"model_name": "anthropic--claude-4.6-sonnet"}),
    (ChatGoogleGenerativeAI, {"proxy_model_name": "gemini-2.5-pro"}),
    (ChatGoogleGenerativeAI, {"model": "gemini-2.5-pro"}),
]
EMBEDDINGS: list[tuple[Any, dict[str, Any]]] = [
    (OpenAIEmbeddings, {"proxy_model_name": "text-embedding-3-small"}),
    (BedrockEmbeddings, {"model_name": "amazon--titan-embed-text"}),
    (GoogleGenerativeAIEmbeddings, {"proxy_model_name": "gemini-embedding"}),
]


@pytest.fixture
def together(routed_together: ScriptedTogether) -> ScriptedTogether:
    return routed_together


def requests(together: ScriptedTogether) -> list[Received]:
    return [request for request in together.engine.requests if request.method == "POST"]


@pytest.mark.parametrize(("kind", "named"), CHAT)
def test_a_chat_model_is_togethers(together: ScriptedTogether, kind: Any, named: dict[str, Any]) -> None:
    made = kind(**named, temperature=0.5)
    assert isinstance(made, ChatTogetherAI)
    assert isinstance(made, BaseChatModel)
    # None of SAP's: what asks for it by its class has to know.
    assert not isinstance(made, kind)
    assert made.temperature == 0.5
    assert made.invoke("An echo.").content == "An echo."
    [request] = requests(together)
    assert request.path == "/v1/chat/completions"


@pytest.mark.parametrize(("kind", "named"), EMBEDDINGS)
def test_embeddings_are_togethers(together: ScriptedTogether, kind: Any, named: dict[str, Any]) -> None:
    made = kind(**named)
    assert isinstance(made, TogetherAIEmbeddings)
    assert isinstance(made, Embeddings)
    assert len(made.embed_query("a")) == 256
    assert [request.path for request in requests(together)] == ["/v1/embeddings"]


def test_a_model_that_continues_a_text_is_togethers(together: ScriptedTogether) -> None:
    made = OpenAI(proxy_model_name="text-davinci-003", max_tokens=7, streaming=False)
    assert isinstance(made, TogetherAI)
    made.invoke("A text")
    [request] = requests(together)
    assert (request.path, request.body["max_tokens"]) == ("/v1/completions", 7)


def test_what_the_classes_call_otherwise_arrives(together: ScriptedTogether) -> None:
    legacy = {"temperature": 0.25, "maxTokenCount": 5, "topP": 0.5, "stopSequences": ["x"]}
    bedrock = ChatBedrock(model_name="amazon--nova-pro", model_kwargs=legacy, region_name="eu", provider="x")
    assert (bedrock.temperature, bedrock.max_tokens, bedrock.top_p, bedrock.stop) == (0.25, 5, 0.5, ["x"])
    google = ChatGoogleGenerativeAI(model="gemini-2.5-pro", max_output_tokens=6, top_k=3)
    assert (google.max_tokens, google.top_k) == (6, 3)
    openai = ChatOpenAI(
        proxy_model_name="gpt-4o", max_completion_tokens=8, logprobs=True, top_logprobs=4, api_version="2024-10-21"
    )
    assert (openai.max_tokens, openai.logprobs) == (8, 4)
    assert ChatOpenAI(proxy_model_name="gpt-4o", logprobs=True).logprobs == 1
    assert ChatOpenAI(proxy_model_name="gpt-4o", logprobs=False).logprobs is None
    assert ChatOpenAI(proxy_model_name="gpt-4o").max_tokens is None, "init_llm's 256 are not this class's default"
    assert GoogleGenerativeAIEmbeddings(model="gemini-embedding", output_dimensionality=256).dimensions == 256


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (ChatOpenAI, {"use_responses_api": True}, "ChatOpenAI is routed to ChatTogetherAI, which has no use_resp"),
        (ChatGoogleGenerativeAI, {"safety_settings": {}}, "no safety_settings"),
        (ChatBedrock, {"guardrails": {}}, "no guardrails"),
        (OpenAIEmbeddings, {"model_kwargs": {}, "retry_max_seconds": 1}, "no retry_max_seconds"),
    ],
)
def test_what_has_no_field_is_refused_by_its_name(
    together: ScriptedTogether, kind: Any, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(TogetherAIInputError, match=said):
        kind(model_name="any", **given)


OWN: list[dict[str, Any]] = [
    {"deployment_id": "d1"},
    {"config_id": "c1"},
    {"config_name": "c"},
    {"base_url": "https://mine.example"},
]


@pytest.mark.parametrize("own", OWN, ids=lambda own: next(iter(own)))
@pytest.mark.parametrize(("kind", "named"), [CHAT[0], CHAT[2], CHAT[4], EMBEDDINGS[0]])
def test_whoever_names_a_deployment_or_an_address_gets_saps_own(
    together: ScriptedTogether, kind: Any, named: dict[str, Any], own: dict[str, Any]
) -> None:
    try:
        made = kind(**named, **own)
    except Exception as exc:  # noqa: BLE001 - there is no AI Core here
        assert "Together" not in str(exc)
    else:
        assert isinstance(made, kind)
    assert together.engine.requests == type(together.engine.requests)()


@pytest.mark.parametrize("name", ["deployment_id", "config_id", "config_name"])
@pytest.mark.parametrize("kind", [ChatOpenAI, OpenAIEmbeddings])
def test_a_model_answers_for_a_deployment_that_the_map_has(
    together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch, kind: Any, name: str
) -> None:
    monkeypatch.setenv("TOGETHER_MODEL_MAP", "D1ae8=an/own")
    for given in ({name: "d1AE8"}, {name: "d1ae8", "proxy_model_name": "gpt-4o"}):
        made = kind(**given)
        assert not isinstance(made, kind)
        assert made.model == "an/own"


def test_a_mapped_deployment_goes_through_every_door(
    together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_MODEL_MAP", "d1=an/own")
    service = importlib.import_module("hana_ai.vectorstore.embedding_service")
    hub = importlib.import_module("gen_ai_hub.proxy.langchain.init_models")
    doors = [api.init_llm, api.init_embedding_model, hub.init_llm, hub.init_embedding_model]
    made = [door(deployment_id="d1") for door in doors]
    assert [one.model for one in made] == ["an/own"] * 4
    assert service.GenAIHubEmbeddings(deployment_id="d1").model.model == "an/own"


def test_the_log_names_the_entry_that_a_deployment_lacks(
    together: ScriptedTogether, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"), contextlib.suppress(Exception):
        ChatOpenAI(deployment_id="d-without-entry")
    assert "TOGETHER_MODEL_MAP=d-without-entry=owner/model" in caplog.text


class Deployment:
    """As AI Core's client has it."""

    deployment_id, config_id, config_name, model_name = "d1", "c1", "c", "gpt-4o"
    url = "http://127.0.0.1:1"


class Client:
    """A proxy client of the user's own."""

    request_header: Mapping[str, str] = MappingProxyType({})

    def select_deployment(self, **named: str | None) -> Deployment:
        return Deployment()


def test_a_client_of_the_users_own_makes_saps_class(together: ScriptedTogether) -> None:
    made = ChatOpenAI(proxy_model_name="gpt-4o", proxy_client=Client())
    assert type(made) is ChatOpenAI
    assert made.deployment_id == "d1"
    for same in (copy.copy(made), made.model_copy()):
        assert type(same) is ChatOpenAI


class OfTheUser(ChatOpenAI):  # type: ignore[misc, unused-ignore]
    """A subclass."""


def test_a_subclass_of_the_users_stays_saps(together: ScriptedTogether) -> None:
    class Later(ChatOpenAI):  # type: ignore[misc, unused-ignore]
        """One that is defined while the routing is active."""

    for kind in (OfTheUser, Later):
        with sap.ASKED_FOR_CREDENTIALS:
            kind(proxy_model_name="gpt-4o")
        made = kind(proxy_model_name="gpt-4o", proxy_client=Client())
        assert type(made) is kind
        assert isinstance(made, ChatOpenAI)
        routing.deactivate()
        assert type(kind(proxy_model_name="gpt-4o", proxy_client=Client())) is kind
        routing.activate()


@pytest.mark.parametrize(("kind", "named"), [*CHAT, *EMBEDDINGS, (OpenAI, {"proxy_model_name": "davinci"})])
def test_without_the_routing_and_in_a_block_that_stays_each_class_is_saps_own(
    together: ScriptedTogether, kind: Any, named: dict[str, Any]
) -> None:
    routed = type(kind)
    with routing.stay(), sap.ASKED_FOR_CREDENTIALS:
        kind(**named)
    routing.deactivate()
    assert type(kind) is not routed
    with sap.ASKED_FOR_CREDENTIALS:
        kind(**named)
    routing.activate()
    assert not isinstance(kind(**named), kind)


def test_the_switch_for_embeddings_counts_for_the_classes_too(
    together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_ROUTE_EMBEDDINGS", "defaults")
    with sap.ASKED_FOR_CREDENTIALS:
        OpenAIEmbeddings(proxy_model_name="text-embedding-3-small")
    assert isinstance(ChatOpenAI(proxy_model_name="gpt-4o"), ChatTogetherAI)


def test_an_object_made_before_can_be_saved_and_loaded_while_the_routing_is_active(
    together: ScriptedTogether,
) -> None:
    assert pickle.loads(pickle.dumps(ChatOpenAI)) is ChatOpenAI
    made = ChatOpenAI(proxy_model_name="gpt-4o")
    assert type(pickle.loads(pickle.dumps(made))) is ChatTogetherAI


IMPORTED_LATER = """
import warnings; warnings.simplefilter("ignore")
import hana_ai.api.auto
from hana_ai import api
from hana_ai.api import routing
from gen_ai_hub.proxy.langchain import ChatOpenAI, ChatBedrock, ChatGoogleGenerativeAI
for kind in (ChatOpenAI, ChatBedrock, ChatGoogleGenerativeAI):
    print(type(kind(model_name="any")).__name__)
print(*{seam.state for seam in routing.status().seams if "ChatOpenAI" in seam.name or "Bedrock" in seam.name})
"""


def test_classes_that_are_imported_after_the_activation_are_routed(together: ScriptedTogether) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED_LATER], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.stdout.split() == ["ChatTogetherAI"] * 3 + ["routed"], done.stderr


def test_what_is_not_routed_is_listed_with_the_reason(together: ScriptedTogether) -> None:
    found = routing.status()
    for name in ("GenAI Hub's native OpenAI", "GenAI Hub's orchestration, version 2", "hana_ml's PALEmbeddings"):
        assert found[name].state == "stays"
        assert len(found[name].detail) > 10
        assert found[name].version is not None


def test_a_class_looks_as_it_did(together: ScriptedTogether) -> None:
    routed = inspect.signature(ChatOpenAI), type(ChatOpenAI).__name__, ChatOpenAI.model_json_schema
    routing.deactivate()
    assert routed == (inspect.signature(ChatOpenAI), type(ChatOpenAI).__name__, ChatOpenAI.model_json_schema)
