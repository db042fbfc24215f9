"""Vector stores that are made in blocks of `stay` and `tenant`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hana_ai.api import routing
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import LocalModel, LocalTogether, ScriptedEngine
from tests.conftest import export
from tests.integration.routing.conftest import activated
from tests.secrets_watch import MARK

pytestmark = pytest.mark.filterwarnings("ignore")

ANOTHER = "local/another-embedding"


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    engine = ScriptedEngine(
        models=[
            LocalModel(ScriptedEngine.CHAT, "chat", 8192),
            LocalModel(ScriptedEngine.EMBEDDING, "embedding", 8192, dimensions=8),
            LocalModel(ANOTHER, "embedding", 8192, dimensions=8),
        ]
    )
    with LocalTogether(engine, api_key=None) as server, LocalHana() as hana:
        export(
            monkeypatch,
            {
                "TOGETHER_BASE_URL": server.base_url,
                "TOGETHER_API_KEY": f"{MARK}-process",
                "ENABLE_TOGETHER_AI": "true",
                **hana.environment(),
            },
        )
        from hana_ml.dataframe import ConnectionContext

        cc = ConnectionContext(**hana.connection_options())
        with activated():
            yield engine, cc
        cc.close()


def keys(engine: Any) -> set[str]:
    """The ends of the keys with which texts were embedded."""
    return {
        request.headers["authorization"].removeprefix(f"Bearer {MARK}-")
        for request in engine.requests
        if request.path == "/v1/embeddings"
    }


def store(cc: Any, table: str, service: Any) -> Any:
    from langchain_hana import HanaDB

    return HanaDB(connection=cc.connection, embedding=service, table_name=table)


def service(cc: Any) -> Any:
    from hana_ai.vectorstore.embedding_service import HANAVectorEmbeddings

    return HANAVectorEmbeddings(cc)


def test_a_store_and_a_service_made_in_a_block_that_stays_are_the_databases(stack: Any) -> None:
    engine, cc = stack
    with routing.stay():
        made = store(cc, "A", service(cc))
    made.add_texts(["a"])
    made.similarity_search("a")
    assert keys(engine) == set()


def test_a_store_made_in_a_block_that_stays_is_the_databases_whatever_it_is_given(stack: Any) -> None:
    engine, cc = stack
    s = service(cc)
    with routing.stay():
        made = store(cc, "B", s)
    made.add_texts(["a"])
    assert keys(engine) == set()


def test_a_store_made_outside_keeps_its_model_inside(stack: Any) -> None:
    engine, cc = stack
    made = store(cc, "C", service(cc))
    with routing.stay():
        made.add_texts(["a"])
        made.similarity_search("a")
    assert keys(engine) == {"process"}


def test_a_table_whose_name_stays_is_the_databases(stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, cc = stack
    monkeypatch.setenv("TOGETHER_ROUTE_TABLES", "*, !SAP_*, !LEGACY.*")
    made = store(cc, "SAP_D", service(cc))
    made.add_texts(["a"])
    assert keys(engine) == set()
    store(cc, "OUR_D", service(cc)).add_texts(["a"])
    assert keys(engine) == {"process"}


def test_a_store_that_two_tenants_use_sends_the_key_of_each(stack: Any) -> None:
    engine, cc = stack
    made = store(cc, "E", service(cc))
    for name in ("one", "two"):
        engine.requests.clear()
        with routing.tenant(f"{MARK}-{name}"):
            made.add_texts(["a"])
            made.similarity_search("a")
        assert keys(engine) == {name}


def test_a_knowledge_table_of_another_model_is_embedded_for_with_the_key_of_each(
    monkeypatch: pytest.MonkeyPatch, stack: Any
) -> None:
    engine, cc = stack
    from hana_ai.vectorstore.hana_vector_engine import HANAMLinVectorEngine

    knowledge = {"id": ["1"], "description": ["Counting rows"], "example": ["count()"]}
    monkeypatch.setenv("TOGETHER_DEFAULT_EMBEDDING_MODEL", ANOTHER)
    HANAMLinVectorEngine(cc, "KNOWN").upsert_knowledge(knowledge)
    monkeypatch.setenv("TOGETHER_DEFAULT_EMBEDDING_MODEL", ScriptedEngine.EMBEDDING)
    for name in ("one", "two"):
        engine.requests.clear()
        with routing.tenant(f"{MARK}-{name}"):
            opened = HANAMLinVectorEngine(cc, "KNOWN")
            opened.upsert_knowledge({**knowledge, "id": ["2"]})
            assert "count()" in str(opened.query("How many rows?"))
        assert keys(engine) == {name}
        asked = [request.body["model"] for request in engine.requests if request.path == "/v1/embeddings"]
        assert set(asked) == {ANOTHER}
