"""The seams in the installed hana_ai and gen_ai_hub: what is routed, what is left, what `deactivate` restores."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from enum import Enum
from importlib import metadata
from types import ModuleType
from typing import Any

import pytest

from hana_ai.api import routing
from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.local.together import Call, Received, Reply
from hana_ai.api.routing import models
from hana_ai.api.routing.seams import Patcher, UpstreamChanged
from hana_ai.api.routing.workarounds import MAKERS, STOPPED
from tests.conftest import ScriptedTogether
from tests.integration.routing import sap

pytestmark = pytest.mark.filterwarnings("ignore")

DIMENSIONS = 256


@pytest.fixture
def together(routed_together: ScriptedTogether) -> ScriptedTogether:
    return routed_together


def inputs(together: ScriptedTogether, path: str = "/v1/embeddings") -> list[Any]:
    return [request.body["input"] for request in requests(together, path)]


def requests(together: ScriptedTogether, path: str) -> list[Received]:
    return [request for request in together.engine.requests if request.path == path]


# --- embeddings ---


@pytest.mark.parametrize("kind", [sap.HANAVectorEmbeddings, sap.PALModelEmbeddings])
def test_embeddings_of_the_toolkit_go_to_together(together: ScriptedTogether, kind: Any) -> None:
    embeddings = kind(sap.Context())
    assert len(embeddings.embed_query("a")) == DIMENSIONS
    assert [len(vector) for vector in embeddings.embed_documents(["a", "b"])] == [DIMENSIONS] * 2
    assert [len(vector) for vector in embeddings("a")] == [DIMENSIONS]
    assert len(embeddings.get_text_embedding_batch(["a"])) == 1


@pytest.mark.parametrize("kind", [sap.HANAVectorEmbeddings, sap.PALModelEmbeddings, sap.GenAIHubEmbeddings])
def test_queries_and_documents_are_told_apart(
    together: ScriptedTogether, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = kind() if kind is sap.GenAIHubEmbeddings else kind(sap.Context())
    asked = "text-embedding-ada-002" if kind is sap.GenAIHubEmbeddings else service.model_version
    found = models.embeddings(asked)
    assert found is not None
    found.query_prefix, found.document_prefix = "query: ", "passage: "
    service.embed_query("a")
    service.embed_documents(["b"])
    service("c")
    service(["d"])
    assert inputs(together) == [["query: a"], ["passage: b"], ["query: c"], ["passage: d"]]


@pytest.mark.parametrize("kind", [sap.HANAVectorEmbeddings, sap.PALModelEmbeddings, sap.GenAIHubEmbeddings])
def test_prefixes_of_the_settings_reach_the_toolkits_embeddings(
    together: ScriptedTogether, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_EMBEDDING_QUERY_PREFIX", "query: ")
    monkeypatch.setenv("TOGETHER_EMBEDDING_DOCUMENT_PREFIX", "passage: ")
    service = kind() if kind is sap.GenAIHubEmbeddings else kind(sap.Context())
    service.embed_query("a")
    service.embed_documents(["b"])
    assert inputs(together) == [["query: a"], ["passage: b"]]


def test_pal_embeddings_for_queries_take_lists_as_queries(together: ScriptedTogether) -> None:
    service = sap.PALModelEmbeddings(sap.Context(), is_query=True)
    found = models.embeddings(None)
    assert found is not None
    found.query_prefix = "query: "
    service.embed_documents(["a"])
    assert inputs(together) == [["query: a"]]


def test_objects_made_before_the_activation_are_routed_and_work_by_themselves_again_afterwards(
    together: ScriptedTogether,
) -> None:
    routing.deactivate()
    before = sap.HANAVectorEmbeddings(sap.Context())
    with pytest.raises(sap.NoDatabase):
        before.embed_query("a")
    routing.activate()
    assert len(before.embed_query("a")) == DIMENSIONS
    during = sap.HANAVectorEmbeddings(sap.Context())
    routing.deactivate()
    for embeddings in (before, during):
        with pytest.raises(sap.NoDatabase):
            embeddings.embed_query("a")


def test_with_defaults_only_what_the_user_constructs_stays(
    together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_ROUTE_EMBEDDINGS", "defaults")
    users = sap.HANAVectorEmbeddings(sap.Context())
    with pytest.raises(sap.NoDatabase):
        users.embed_query("a")
    from hana_ai.mem0.hana_mem0_adapter import Mem0HanaAdapter

    with pytest.raises(sap.NoDatabase, match="connection"):
        Mem0HanaAdapter(sap.Context(), "A_TABLE")
    scope = {"__name__": "hana_ai.agents.some_agent", "made": sap.HANAVectorEmbeddings, "context": sap.Context()}
    exec("toolkits = made(context)", scope)
    assert len(scope["toolkits"].embed_query("a")) == DIMENSIONS  # type: ignore[attr-defined]


def test_off_leaves_all_embeddings_and_the_status_says_so(
    together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_ROUTE_EMBEDDINGS", "off")
    with pytest.raises(sap.NoDatabase):
        sap.HANAVectorEmbeddings(sap.Context()).embed_query("a")
    found = routing.status()["HANAVectorEmbeddings"]
    assert (found.state, found.detail) == ("stays", "TOGETHER_ROUTE_EMBEDDINGS=off")
    assert isinstance(sap.init_llm("gpt-4.1"), ChatTogetherAI)


# --- reranking ---


def test_a_list_is_scored_by_together_where_a_rerank_model_is_set(
    together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = sap.PALCrossEncoder(sap.Context())
    pairs = [("red house", "a dog"), ("red house", "the red house")]
    with pytest.raises(sap.NoDatabase):
        encoder.predict(pairs)
    monkeypatch.setenv("TOGETHER_DEFAULT_RERANK_MODEL", "local/scripted-rerank")
    scores = encoder.predict(pairs)
    assert scores.shape == (2,)
    assert scores[1] > scores[0]
    with pytest.raises(sap.NoDatabase):
        encoder.predict(pairs, return_table=True)
    with pytest.raises(ValueError, match="DataFrame"):
        encoder.predict("neither")
    assert routing.status()["PALCrossEncoder"].state == "routed"


def test_the_stand_in_that_scores_everything_0_scores_by_together(
    together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hana_ai.agents.hanaml_rag_agent import CrossEncoder

    pairs = [("red house", "a dog"), ("red house", "the red house")]
    assert CrossEncoder("any").predict(pairs) == [0.0, 0.0]
    monkeypatch.setenv("TOGETHER_DEFAULT_RERANK_MODEL", "local/scripted-rerank")
    assert CrossEncoder("any").predict(pairs)[1] > 0


# --- SAP's GenAI Hub ---


def test_functions_imported_before_the_activation_make_togethers_models(together: ScriptedTogether) -> None:
    llm = sap.init_llm("gpt-4.1", max_tokens=1000, temperature=0.5)
    assert isinstance(llm, ChatTogetherAI)
    assert (llm.max_tokens, llm.temperature, llm.top_p) == (1000, 0.5, 1.0)
    assert llm.invoke("An echo.").content == "An echo."
    assert isinstance(sap.init_llm(model_name="anthropic--claude-4.6-sonnet"), ChatTogetherAI)
    assert isinstance(sap.init_embedding_model("text-embedding-3-small"), TogetherAIEmbeddings)


def test_the_map_chooses_the_model(together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_DEFAULT_MODEL", "the/default")
    monkeypatch.setenv("TOGETHER_MODEL_MAP", "gpt-4o=chosen/one")
    assert [sap.init_llm(name).model for name in ("gpt-4o", "gpt-4.1")] == ["chosen/one", "the/default"]


class Deployment:
    """What SAP's function asks of a proxy's deployment class."""

    @staticmethod
    def get_main_model_identification_kwargs() -> str:
        return "model_name"

    @staticmethod
    def get_model_identification_kwargs() -> tuple[str, ...]:
        return ("model_name", "deployment_id")


class Client:
    """A proxy client of the user's own."""

    deployment_class = Deployment

    def select_deployment(self, **named: str) -> str:
        return f"deployed {named['model_name']}"


def make(proxy_client: Any, deployment: str, **fields: Any) -> str:
    return deployment


def test_an_explicit_proxy_client_init_func_or_deployment_is_respected(together: ScriptedTogether) -> None:
    assert sap.init_llm("gpt-4.1", proxy_client=Client(), init_func=make) == "deployed gpt-4.1"
    for explicit in ({"init_func": make}, {"deployment_id": "d1"}):
        # SAP's own function goes on to ask for credentials of AI Core.
        with pytest.raises(Exception, match=r"(?i)credential|base_url|auth|AICORE"):
            sap.init_llm("gpt-4.1", **explicit)
    assert requests(together, "/v1/chat/completions") == []


def test_the_drop_ins_hand_an_explicit_client_or_function_to_saps_own(together: ScriptedTogether) -> None:
    from hana_ai.api import init_embedding_model as our_embeddings
    from hana_ai.api import init_llm as our_llm

    for ours in (our_llm, our_embeddings):
        assert ours("gpt-4.1", proxy_client=Client(), init_func=make) == "deployed gpt-4.1"
        with pytest.raises(Exception, match=r"(?i)credential|base_url|auth|AICORE"):
            ours("gpt-4.1", init_func=make)


def test_embeddings_of_the_hub_stay_where_the_switch_leaves_the_users_own(
    together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_ROUTE_EMBEDDINGS", "defaults")
    for make in (sap.init_embedding_model, sap.GenAIHubEmbeddings):
        with pytest.raises(Exception, match=r"(?i)credential|base_url|auth|AICORE"):
            make("text-embedding-3-small")


def test_the_toolkit_embeds_through_the_hubs_class_without_saps_sdk(
    together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = importlib.import_module("hana_ai.vectorstore.embedding_service")
    monkeypatch.setattr(service, "gen_ai_hub_embedding_model", None)
    assert len(sap.GenAIHubEmbeddings().embed_query("a")) == DIMENSIONS
    routing.deactivate()
    # The toolkit's first releases with the class call what they could not import.
    with pytest.raises((ImportError, TypeError), match=r"generative-ai-hub-sdk|NoneType"):
        sap.GenAIHubEmbeddings()


# --- everything at once ---

PLACES: list[tuple[str, str]] = [
    ("gen_ai_hub.proxy.langchain.init_models", "_init_model"),
    ("hana_ai.vectorstore.embedding_service", "HANAVectorEmbeddings.__call__"),
    ("hana_ai.vectorstore.embedding_service", "HANAVectorEmbeddings.__init__"),
    ("hana_ai.vectorstore.embedding_service", "PALModelEmbeddings.__call__"),
    ("hana_ai.vectorstore.embedding_service", "GenAIHubEmbeddings.__init__"),
    ("hana_ai.vectorstore.pal_cross_encoder", "PALCrossEncoder.predict"),
    ("hana_ai.vectorstore.union_vector_stores", "merge_hana_vector_store"),
]


def what_is_there() -> list[Any]:
    found = []
    for module, path in PLACES:
        owner, _, name = path.rpartition(".")
        place = importlib.import_module(module)
        found.append(vars(getattr(place, owner) if owner else place)[name])
    return found


def test_deactivate_restores_every_place(together: ScriptedTogether) -> None:
    routed = what_is_there()
    assert all(hasattr(found, "__wrapped__") for found in routed)
    routing.deactivate()
    restored = what_is_there()
    assert [found.__wrapped__ for found in routed] == restored
    assert not routing.is_active()


def test_the_status_lists_every_seam_with_its_version_and_none_has_changed_upstream(
    together: ScriptedTogether,
) -> None:
    for module in (
        "langchain_community.vectorstores.hanavector",
        "hana_ai.agents.hanaml_rag_agent",
        "hana_ai.agents.mem0_hana_agent",
        "multiprocessing.spawn",
        "hana_ai.mem0.hana_mem0_adapter",
        "hana_ai.vectorstore.union_vector_stores",
        "langchain.chat_models.base",
        "langchain.embeddings.base",
        "langchain_classic.chat_models.base",
        "langchain_classic.embeddings",
    ):
        importlib.import_module(module)
    found = routing.status()
    states = {seam.name: seam.state for seam in found.seams}
    assert set(states.values()) <= {"routed", "stays", "not needed"}, str(found)
    assert found["GenAIHubEmbeddings"].version == metadata.version("hana-ai")
    assert "routed" in str(found)
    assert str(found).startswith("The toolkit is routed to Together AI.")
    with pytest.raises(KeyError, match="no such seam"):
        found["no such seam"]
    routing.deactivate()
    assert str(routing.status()).startswith("The toolkit is not routed to Together AI; call activate().")


def test_a_hub_of_another_shape_is_reported_as_changed(together: ScriptedTogether) -> None:
    from hana_ai.api.routing.gen_ai_hub import SEAMS

    [seam] = SEAMS
    module = ModuleType("another_hub")
    with pytest.raises(UpstreamChanged, match=r"another_hub.ModelType has \[\]"):
        seam.patch(module, Patcher(lambda: True))
    module.ModelType = Enum("ModelType", ["LLM", "EMBEDDINGS"])  # type: ignore[attr-defined]
    module.init_llm = lambda *args: None  # type: ignore[attr-defined]
    with pytest.raises(UpstreamChanged, match="init_llm does not go through _init_model"):
        seam.patch(module, Patcher(lambda: True))


# --- workarounds ---


def agent_executor(**limits: Any) -> Any:
    from hana_ai.langchain_compat import build_agent_executor
    from langchain_core.tools import tool

    @tool
    def look(where: str) -> str:
        """Look somewhere."""
        return f"nothing in {where}"

    return build_agent_executor(sap.init_llm("gpt-4.1"), [look], system_prompt="Look.", **limits)


def test_an_agent_stops_at_its_limit(together: ScriptedTogether) -> None:
    together.engine.always(Reply(tool_calls=[Call("look", {"where": "the box"})]))
    answer = agent_executor(max_iterations=3, return_intermediate_steps=True).invoke({"input": "Find it."})
    assert answer["output"] == STOPPED
    assert len(requests(together, "/v1/chat/completions")) in (3, 4)
    [(action, observation), *more] = answer["intermediate_steps"]
    assert (action.tool, action.tool_input, observation) == ("look", {"where": "the box"}, "nothing in the box")
    assert len(more) == 2
    agent_executor().invoke({"input": "Find it."})
    assert len(requests(together, "/v1/chat/completions")) < 30, "20 is the toolkit's default"


def test_an_agent_within_its_limit_answers_as_ever(together: ScriptedTogether) -> None:
    together.engine.reply(Reply(tool_calls=[Call("look", {"where": "the box"})]), Reply(text="It is lost."))
    executor = agent_executor()
    answer = executor.invoke({"input": "Find it."})
    assert answer["output"] == "It is lost."
    assert "intermediate_steps" not in answer
    assert [message.type for message in answer["messages"]] == ["human", "ai", "tool", "ai"]
    routing.deactivate()
    together.engine.reply(Reply(text="By itself."))
    assert executor.invoke({"input": "Find it."})["output"] == "By itself."


def test_the_steps_reach_what_the_toolkit_makes_of_them(together: ScriptedTogether) -> None:
    from hana_ai.agents.hanaml_rag_agent import stateless_chat
    from langchain_core.tools import tool

    @tool
    def cap_artifacts_for_bas(project: str) -> str:
        """Generate a project."""
        return "made"

    together.engine.reply(
        Reply(tool_calls=[Call("cap_artifacts_for_bas", {"project": "x"})]), Reply(text="It is made.")
    )
    found = stateless_chat("Make it.", [cap_artifacts_for_bas], sap.init_llm("gpt-4.1"), [])
    assert found["generated_cap_project"] is True


def test_the_workaround_for_the_limits_of_agents_is_still_needed() -> None:
    """When this fails, hana_ai heeds the limits itself: remove the workaround."""
    compat = importlib.import_module("hana_ai.langchain_compat")
    graph_part = inspect.getsource(compat.build_agent_executor).partition("elif create_graph_agent:")[2]
    assert graph_part
    assert "max_iterations" not in graph_part
    assert "recursion_limit" not in inspect.getsource(compat.GraphAgentExecutor)


def test_the_drop_ins_have_the_signatures_of_saps_functions() -> None:
    from hana_ai.api import init_embedding_model as our_embeddings
    from hana_ai.api import init_llm as our_llm

    for ours, theirs in ((our_llm, sap.init_llm), (our_embeddings, sap.init_embedding_model)):
        found, expected = inspect.signature(ours).parameters, inspect.signature(theirs).parameters
        assert [(p.name, p.kind, p.default) for p in found.values()] == [
            (p.name, p.kind, p.default) for p in expected.values()
        ]


def test_the_workaround_for_the_missing_vector_store_is_still_needed(together: ScriptedTogether) -> None:
    """When this fails, hana_ai or langchain_community has fixed it: remove the workaround."""
    [maker] = MAKERS
    assert maker.is_missing()
    source = importlib.util.find_spec("hana_ai.mem0.hana_mem0_adapter")
    assert source is not None
    assert source.loader is not None
    assert "langchain_community.vectorstores.hanavector" in source.loader.get_source(source.name)  # type: ignore[attr-defined]


def test_with_the_workaround_the_module_is_langchain_hanas_class_and_without_it_there_is_none(
    together: ScriptedTogether,
) -> None:
    from langchain_hana import HanaDB

    name = "langchain_community.vectorstores.hanavector"
    sys.modules.pop(name, None)
    assert importlib.import_module(name).HanaDB is HanaDB
    assert routing.status()["langchain_community's HanaDB"].state == "routed"
    routing.deactivate()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(name)
