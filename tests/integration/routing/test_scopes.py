"""`stay()` and `tenant()` in the installed hana_ai and gen_ai_hub: who is asked, and with whose key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hana_ai.api import routing
from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.local.together import LocalTogether, ScriptedEngine
from tests.conftest import ScriptedTogether, export
from tests.integration.routing import sap
from tests.integration.routing.conftest import activated
from tests.secrets_watch import MARK

pytestmark = pytest.mark.filterwarnings("ignore")

PAIRS = [("red house", "a dog"), ("red house", "the red house")]


@pytest.fixture(autouse=True)
def rerank_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_DEFAULT_RERANK_MODEL", ScriptedEngine.RERANK)


@pytest.fixture
def together(routed_together: ScriptedTogether) -> ScriptedTogether:
    return routed_together


# --- stay ---

SERVICES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "HANAVectorEmbeddings": (lambda: sap.HANAVectorEmbeddings(sap.Context()), lambda made: made.embed_query("a")),
    "PALModelEmbeddings": (
        lambda: sap.PALModelEmbeddings(sap.Context()),
        lambda made: made.embed_documents(["a"]),
    ),
    "PALCrossEncoder": (lambda: sap.PALCrossEncoder(sap.Context()), lambda made: made.predict(PAIRS)),
}


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_made_in_a_block_that_stays_is_the_databases_for_its_life(
    together: ScriptedTogether, name: str
) -> None:
    make, use = SERVICES[name]
    outside = make()
    with routing.stay():
        inside = make()
        with pytest.raises(sap.NoDatabase):
            use(inside)
        asked = len(together.engine.requests)
        # What was made outside has its model, and keeps it: a table of its must not get the database's vectors.
        use(outside)
    assert len(together.engine.requests) > asked
    with pytest.raises(sap.NoDatabase):
        use(inside)
    routing.deactivate()
    routing.activate()
    with pytest.raises(sap.NoDatabase):
        use(inside)
    use(make())


def test_the_stand_in_made_in_a_block_that_stays_scores_0(together: ScriptedTogether) -> None:
    from hana_ai.agents.hanaml_rag_agent import CrossEncoder

    with routing.stay():
        inside = CrossEncoder("any")
    assert inside.predict(PAIRS) == [0.0, 0.0]
    assert CrossEncoder("any").predict(PAIRS)[1] > 0


@pytest.mark.parametrize("make", [sap.init_llm, sap.init_embedding_model, sap.GenAIHubEmbeddings])
def test_models_of_the_hub_that_are_made_in_a_block_that_stays_are_saps(
    together: ScriptedTogether, make: Any
) -> None:
    with routing.stay(), sap.ASKED_FOR_CREDENTIALS:
        make("gpt-4.1")
    make("gpt-4.1")


def test_the_drop_ins_of_this_package_are_togethers_in_every_block(together: ScriptedTogether) -> None:
    from hana_ai.api import init_embedding_model as our_embeddings
    from hana_ai.api import init_llm as our_llm

    with routing.stay():
        assert isinstance(our_llm("gpt-4.1"), ChatTogetherAI)
        assert isinstance(our_embeddings("text-embedding-3-small"), TogetherAIEmbeddings)


# --- tenants ---


@pytest.fixture
def open_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedEngine]:
    """A server that takes any key, with the routing active and a key of nobody's in the environment."""
    engine = ScriptedEngine()
    with LocalTogether(engine, api_key=None) as server:
        export(monkeypatch, {"TOGETHER_BASE_URL": server.base_url, "TOGETHER_API_KEY": f"{MARK}-of-the-process"})
        monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
        with activated():
            yield engine


@pytest.mark.parametrize("calls", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_two_tenants_in_threads_never_use_each_others_key(open_server: ScriptedEngine, calls: int) -> None:
    shared = (
        sap.HANAVectorEmbeddings(sap.Context()),
        sap.PALModelEmbeddings(sap.Context()),
        sap.PALCrossEncoder(sap.Context()),
    )
    keys = {name: f"{MARK}-{name}" for name in ("first", "second")}

    def by_block(name: str, text: str, number: int) -> None:
        with routing.tenant(keys[name]):
            own = sap.HANAVectorEmbeddings(sap.Context())
            ways: list[Callable[[], object]] = [
                lambda: shared[0].embed_query(text),
                lambda: shared[1].embed_documents([text]),
                lambda: shared[2].predict([(text, text)]),
                lambda: sap.init_llm("gpt-4.1").invoke(text),
                lambda: sap.init_embedding_model("text-embedding-3-small").embed_query(text),
                lambda: sap.GenAIHubEmbeddings().embed_documents([text]),
            ]
            ways[number % len(ways)]()
        if number % 10 == 0:
            own.embed_query(text)

    def by_argument(name: str, text: str, number: int) -> None:
        if number % 2:
            sap.init_llm("gpt-4.1", api_key=keys[name]).invoke(text)
        else:
            sap.init_embedding_model("text-embedding-3-small", api_key=keys[name]).embed_query(text)

    def work(name: str) -> None:
        for number in range(calls):
            (by_argument if number % 4 == 3 else by_block)(name, f"{name} asks {number}", number)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, keys))
    asked = dict.fromkeys(keys, 0)
    for request in open_server.requests:
        key = request.headers["authorization"].removeprefix("Bearer ")
        assert key in keys.values(), request.path
        for name, own in keys.items():
            if f"{name} asks" in str(request.body):
                assert key == own, request.path
                asked[name] += 1
    assert all(count >= calls for count in asked.values()), asked


def test_a_model_keeps_the_key_that_it_was_made_with(open_server: ScriptedEngine) -> None:
    with routing.tenant(f"{MARK}-first"):
        llm, embeddings = sap.init_llm("gpt-4.1"), sap.init_embedding_model("text-embedding-3-small")
    with routing.tenant(f"{MARK}-second"):
        llm.invoke("a")
        embeddings.embed_query("a")
    assert {request.headers["authorization"] for request in open_server.requests} == {f"Bearer {MARK}-first"}
