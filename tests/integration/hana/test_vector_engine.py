"""TogetherVectorEngine: the toolkit's knowledge table with Together's vectors, wherever the toolkit's own goes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from hdbcli import dbapi
from langchain_core.embeddings import DeterministicFakeEmbedding

from hana_ai.api import routing
from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import ScriptedEngine
from tests.conftest import ScriptedTogether
from tests.integration.hana.conftest import rows
from tests.integration.routing.answers import agent_answers

pytestmark = pytest.mark.filterwarnings("ignore")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from hana_ai.vectorstore import union_vector_stores
    from hana_ai.vectorstore.corrective_retriever import CorrectiveRetriever
    from hana_ai.vectorstore.hana_vector_engine import HANAMLinVectorEngine
    from hana_ai.vectorstore.union_vector_stores import UnionVectorStores
    from hana_ml.dataframe import ConnectionContext

    from hana_ai.api.hana.knowledge import read_knowledge
    from hana_ai.api.hana.vector_engine import TogetherVectorEngine

KNOWLEDGE = {
    "id": ["count", "plot", "it's"],
    "description": ["Count rows", "Plot a series", "Quote ' a text"],
    "example": ["cc.table('T').count()", "plot(df)", "'it''s'"],
}


@pytest.fixture
def context(local_hana: LocalHana, connection: dbapi.Connection) -> Iterator[ConnectionContext]:
    context = ConnectionContext(**local_hana.connection_options())
    yield context
    context.close()


@pytest.fixture
def knowledge(context: ConnectionContext, embeddings: TogetherAIEmbeddings) -> TogetherVectorEngine:
    made = TogetherVectorEngine(context, "KNOWLEDGE", embedding=embeddings)
    made.upsert_knowledge(KNOWLEDGE)
    return made


def test_the_closest_example_is_found_and_what_the_base_class_tells_is_told(
    knowledge: TogetherVectorEngine,
) -> None:
    assert knowledge.query("Plot a series") == "plot(df)"
    assert knowledge.current_query_distance == pytest.approx(1.0)
    assert (knowledge.current_query_rows, knowledge.model_type) == (1, "plot")
    assert knowledge.query("Plot a series", top_n=2) != "plot(df)"
    assert knowledge.query("Plot a series", top_n=99) is not None
    assert knowledge.current_query_rows == 3
    assert knowledge.query("Count rows", distance="l2distance") == "cc.table('T').count()"
    assert knowledge.query("Quote ' a text") == "'it''s'"


def test_an_entry_whose_id_is_there_is_replaced(
    knowledge: TogetherVectorEngine, connection: dbapi.Connection
) -> None:
    knowledge.upsert_knowledge([{"id": "plot", "description": "Draw", "example": "draw()"}])
    knowledge.upsert_knowledge(pd.DataFrame({"id": ["x"], "description": ["X marks"], "example": ["x"]}))
    assert rows(connection, 'SELECT COUNT(*) FROM "KNOWLEDGE"') == [(4,)]
    assert knowledge.query("Draw") == "draw()"
    assert knowledge.get_knowledge().count() == 4


def test_the_toolkits_own_templates_are_written(
    context: ConnectionContext, embeddings: TogetherAIEmbeddings
) -> None:
    made = TogetherVectorEngine(context, "TEMPLATES", embedding=embeddings)
    assert made.query("anything") is None
    made.create_knowledge()
    assert made.get_knowledge().count() > 5


def test_another_model_or_width_is_refused(
    knowledge: TogetherVectorEngine, context: ConnectionContext, connection: dbapi.Connection
) -> None:
    other = DeterministicFakeEmbedding(size=8)
    with pytest.raises(TogetherAIInputError, match=r"local/scripted-embedding.*DeterministicFakeEmbedding"):
        TogetherVectorEngine(context, "KNOWLEDGE", embedding=other)
    with connection.cursor() as cursor:
        cursor.execute("""COMMENT ON COLUMN "KNOWLEDGE"."embeddings" IS ''""")
    with pytest.raises(TogetherAIInputError, match=r"3 rows.*stamp_table"):
        TogetherVectorEngine(context, "KNOWLEDGE", embedding=other)
    assert rows(connection, 'SELECT COUNT(*) FROM "KNOWLEDGE"') == [(3,)]
    with connection.cursor() as cursor:
        cursor.execute('DELETE FROM "KNOWLEDGE"')
    with pytest.raises(TogetherAIInputError, match=r"REAL_VECTOR\(256\).*8"):
        TogetherVectorEngine(context, "KNOWLEDGE", embedding=other).upsert_knowledge(KNOWLEDGE)
    assert rows(connection, 'SELECT COUNT(*) FROM "KNOWLEDGE"') == [(0,)]


def test_only_what_can_be_a_query_is_one(knowledge: TogetherVectorEngine) -> None:
    for wrong in ({"top_n": 0}, {"top_n": "1; DROP"}, {"distance": "x(1), "}):
        with pytest.raises(TogetherAIInputError):
            knowledge.query("a", **wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"id": "1"}, {"id": ["1"], "description": [], "example": []}, [{"id": "1", "example": "x"}]],
)
def test_knowledge_that_lacks_something_is_refused(wrong: Any) -> None:
    with pytest.raises(TogetherAIInputError, match="knowledge"):
        read_knowledge(wrong)


def test_one_entry_is_knowledge_too() -> None:
    entry = {"id": "1", "description": "description", "example": "example"}
    assert read_knowledge(entry) == [("1", "description", "example")]


@pytest.mark.parametrize("table", ["MERGED", None])
def test_merged_stores_keep_their_embeddings_where_the_toolkit_is_routed(
    knowledge: TogetherVectorEngine,
    context: ConnectionContext,
    connection: dbapi.Connection,
    embeddings: TogetherAIEmbeddings,
    table: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    second = TogetherVectorEngine(context, "SECOND", embedding=embeddings)
    second.upsert_knowledge({"id": "more", "description": "More of it", "example": "more()"})
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
    assert routing.activate()
    try:
        merged = union_vector_stores.merge_hana_vector_store([knowledge, second], table)
        other = TogetherVectorEngine(context, "OTHER", embedding=DeterministicFakeEmbedding(size=8))
        with pytest.raises(TogetherAIInputError, match=r"DeterministicFakeEmbedding and local/scripted-embedding"):
            union_vector_stores.merge_hana_vector_store([knowledge, other], "NEVER")
    finally:
        routing.deactivate()
    assert isinstance(merged, TogetherVectorEngine)
    assert merged.query("More of it") == "more()"
    assert merged.query("Plot a series") == "plot(df)"
    merged.upsert_knowledge({"id": "new", "description": "Something new", "example": "new()"})
    assert merged.query("Something new") == "new()"
    assert knowledge.query("Something new") != "new()"
    if table is not None:
        with pytest.raises(TogetherAIInputError, match="holds vectors of local/scripted-embedding"):
            TogetherVectorEngine(context, table, embedding=DeterministicFakeEmbedding(size=256))


def test_merging_the_toolkits_own_stores_is_the_toolkits(
    context: ConnectionContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = []
    for name in ("FIRST", "SECOND"):
        context.create_table(
            name,
            table_structure={
                "id": "NVARCHAR(5000)",
                "description": "NVARCHAR(5000)",
                "example": "NCLOB",
                "embeddings": "REAL_VECTOR(768)",
            },
        )
        stores.append(HANAMLinVectorEngine(context, name))
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
    assert routing.activate()
    try:
        assert type(union_vector_stores.merge_hana_vector_store(stores, "MERGED")) is HANAMLinVectorEngine
    finally:
        routing.deactivate()


def test_the_union_and_the_corrective_retriever_take_it(
    knowledge: TogetherVectorEngine,
    context: ConnectionContext,
    embeddings: TogetherAIEmbeddings,
    together: ScriptedTogether,
    engine: ScriptedEngine,
) -> None:
    second = TogetherVectorEngine(context, "SECOND", embedding=embeddings)
    second.upsert_knowledge({"id": "more", "description": "More", "example": "more()"})
    union = UnionVectorStores([knowledge, second])
    assert union.is_hana
    assert union.query("More") in {"more()", *KNOWLEDGE["example"]}

    engine.always(agent_answers)
    chat = ChatTogetherAI(model=together.model("chat"), **together.client)
    assert CorrectiveRetriever(knowledge, chat).query("Plot a series") == "plot(df)"
