"""The tables with the agents' memory keep to the model that wrote them, and to langchain_hana's layout."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from hdbcli import dbapi
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_hana import HanaDB, HanaInternalEmbeddings

from hana_ai.api import routing
from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.local.hana import LocalHana
from tests.conftest import ScriptedTogether
from tests.integration.hana.conftest import rows

pytestmark = pytest.mark.filterwarnings("ignore")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from hana_ml.dataframe import ConnectionContext


@pytest.fixture
def context(
    local_hana: LocalHana,
    connection: dbapi.Connection,
    together_environment: ScriptedTogether,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ConnectionContext]:
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
    assert routing.activate()
    made = ConnectionContext(**local_hana.connection_options(), vectoroutputtype="list")
    yield made
    made.close()
    routing.deactivate()


def adapter(context: ConnectionContext, table: str = "MEMORY") -> object:
    module = importlib.import_module("hana_ai.mem0.hana_mem0_adapter")
    return module.Mem0HanaAdapter(context, table, reranker=False)


def test_a_memory_of_saps_goes_on_with_saps_model_and_an_unknown_one_is_refused(
    context: ConnectionContext, connection: dbapi.Connection, together_environment: ScriptedTogether
) -> None:
    sap = HanaDB(connection, HanaInternalEmbeddings("SAP_NEB.20240715"), table_name="MEMORY")
    sap.add_texts(["SAP wrote this."])
    memory: Any = adapter(context)
    memory.add([{"text": "And this."}])
    assert [found.text for found in memory.search("And this.", top_k=1, rerank=False)] == ["And this."]
    assert together_environment.engine.posts == []
    HanaDB(connection, DeterministicFakeEmbedding(size=768), table_name="UNKNOWN").add_texts(["Who wrote this?"])
    with pytest.raises(TogetherAIInputError, match=r"1 row, .*SAP_NEB\.20240715 made none.*stamp_table"):
        adapter(context, "UNKNOWN")
    assert rows(connection, 'SELECT COUNT(*) FROM "MEMORY"') == [(2,)]
    assert rows(connection, 'SELECT COUNT(*) FROM "UNKNOWN"') == [(1,)]


def test_a_memory_of_togethers_can_be_used_without_this_package(
    context: ConnectionContext, connection: dbapi.Connection
) -> None:
    adapter(context).add([{"text": "a"}, {"text": "b"}])  # type: ignore[attr-defined]
    routing.deactivate()
    plain = HanaDB(connection, DeterministicFakeEmbedding(size=256), table_name="MEMORY")
    plain.add_texts(["c"])
    assert len(plain.similarity_search_by_vector([0.5] * 256, k=9)) == 3
    [(comment,)] = rows(
        connection,
        "SELECT COMMENTS FROM SYS.TABLE_COLUMNS WHERE TABLE_NAME = 'MEMORY' AND COLUMN_NAME = 'VEC_VECTOR'",
    )
    assert comment == "[embedding model: local/scripted-embedding]"


def test_switched_off_the_toolkit_meets_its_own_model_again_and_a_table_of_togethers_refuses_it(
    context: ConnectionContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter(context).add([{"text": "a"}])  # type: ignore[attr-defined]
    monkeypatch.setenv("TOGETHER_ROUTE_EMBEDDINGS", "off")
    with pytest.raises(TogetherAIInputError, match=r"local/scripted-embedding, but SAP_NEB\.20240715 would embed"):
        adapter(context)
