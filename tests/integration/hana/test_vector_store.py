"""TogetherHanaDB: ids, batches, and a table that keeps to one embedding model."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hdbcli import dbapi
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import VectorStore
from langchain_hana import HanaDB, HanaInternalEmbeddings
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIInputError, TogetherAIInvalidRequestError, TogetherAISettingsError
from hana_ai.api.hana import stamp_table
from hana_ai.api.hana.vector_store import TogetherHanaDB
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import Reply, ScriptedEngine
from tests.conftest import ScriptedTogether, export
from tests.integration.hana.conftest import Make, rows

TEXTS = ["foo", "bar", "baz"]


class TestStandard(VectorStoreIntegrationTests):
    """LangChain's own tests."""

    @pytest.fixture
    def vectorstore(self, connection: dbapi.Connection) -> Iterator[VectorStore]:  # type: ignore[override]
        yield TogetherHanaDB(connection, self.get_embeddings(), table_name="STANDARD")


# --- the table ---


def test_a_new_table_has_the_models_width_ids_as_primary_key_and_once_it_has_rows_the_models_name(
    make: Make, connection: dbapi.Connection
) -> None:
    columns = (
        "SELECT COLUMN_NAME, DATA_TYPE_NAME, LENGTH, COMMENTS FROM SYS.TABLE_COLUMNS "
        "WHERE SCHEMA_NAME = CURRENT_SCHEMA AND TABLE_NAME = 'STORE' ORDER BY POSITION"
    )
    store = make()
    found = rows(connection, columns)
    assert found[0][:3] == ("VEC_ID", "NVARCHAR", 255)
    assert found[3] == ("VEC_VECTOR", "REAL_VECTOR", 256, None)
    store.add_texts(TEXTS)
    assert rows(connection, columns)[3][3] == "[embedding model: local/scripted-embedding]"


def test_another_model_is_refused_before_any_row_is_written(
    make: Make, connection: dbapi.Connection, embeddings: TogetherAIEmbeddings
) -> None:
    make().add_texts(TEXTS)
    other = embeddings.model_copy(update={"model": "another/model"})
    with pytest.raises(TogetherAIInputError) as caught:
        make(embedding=other)
    assert str(caught.value) == (
        '"STORE"."VEC_VECTOR" holds vectors of local/scripted-embedding, but another/model would embed now; '
        "vectors of two models cannot be compared. Either stay with it (model='local/scripted-embedding' or "
        "TOGETHER_DEFAULT_EMBEDDING_MODEL=local/scripted-embedding), or embed the texts again into a new table: "
        "hana-ai-together tables migrate STORE"
    )
    store = make()
    with pytest.raises(TogetherAIInputError, match="another/model"):
        store.set_embedding(other)
    assert rows(connection, 'SELECT COUNT(*) FROM "STORE"') == [(3,)]


def test_another_process_that_was_first_is_noticed_before_the_first_row(
    make: Make, connection: dbapi.Connection, embeddings: TogetherAIEmbeddings
) -> None:
    HanaDB(connection, embeddings, table_name="STORE")
    first = make(id_column=None)
    second = make(id_column=None, embedding=embeddings.model_copy(update={"model": "another/model"}))
    first.add_texts(["a"])
    with pytest.raises(TogetherAIInputError, match="local/scripted-embedding"):
        second.add_texts(["b"], embeddings=[[0.5] * 256])
    assert rows(connection, 'SELECT COUNT(*) FROM "STORE"') == [(1,)]


def test_another_width_is_refused_before_any_row_is_written_and_both_are_named(
    make: Make, connection: dbapi.Connection
) -> None:
    with connection.cursor() as cursor:
        cursor.execute('CREATE TABLE "STORE" ("VEC_TEXT" NCLOB, "VEC_META" NCLOB, "VEC_VECTOR" REAL_VECTOR(768))')
    store = make()
    with pytest.raises(TogetherAIInputError) as caught:
        store.add_texts(TEXTS)
    assert str(caught.value) == (
        '"STORE"."VEC_VECTOR" is a REAL_VECTOR(768), but local/scripted-embedding makes vectors of 256 numbers. '
        'Either embed with the model that wrote the table (if that is SAP\'s: embedding="hana", or '
        "TOGETHER_ROUTE_EMBEDDINGS=off for the toolkit's own classes), or embed the texts again into a new table: "
        "hana-ai-together tables migrate STORE"
    )
    with pytest.raises(TogetherAIInputError, match=r"REAL_VECTOR\(768\).*256"):
        store.similarity_search("foo")
    assert rows(connection, 'SELECT COUNT(*) FROM "STORE"') == [(0,)]


def test_a_table_of_any_width_keeps_the_width_of_its_rows(make: Make, connection: dbapi.Connection) -> None:
    HanaDB(connection, DeterministicFakeEmbedding(size=768), table_name="STORE").add_texts(["theirs"])
    with pytest.raises(TogetherAIInputError, match=r"1 row, .*stamp_table"):
        make()
    stamp_table(connection, "STORE", "local/scripted-embedding")
    with pytest.raises(TogetherAIInputError, match=r"768.*256"):
        make().add_texts(TEXTS)
    assert rows(connection, 'SELECT COUNT(*) FROM "STORE"') == [(1,)]


def test_a_width_that_is_asked_for_has_to_be_the_models(make: Make) -> None:
    with pytest.raises(TogetherAIInputError, match=r"REAL_VECTOR\(768\).*256"):
        make(vector_column_length=768)


def test_a_column_that_holds_no_vectors_is_named_with_its_type(make: Make, connection: dbapi.Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute('CREATE TABLE "STORE" ("VEC_TEXT" NCLOB, "VEC_META" NCLOB, "VEC_VECTOR" INTEGER)')
    with pytest.raises(AttributeError, match="VEC_VECTOR has the wrong type: INTEGER"):
        make()


def test_the_comment_that_a_column_has_already_stays(
    make: Make, connection: dbapi.Connection, embeddings: TogetherAIEmbeddings
) -> None:
    HanaDB(connection, embeddings, table_name="STORE")
    with connection.cursor() as cursor:
        cursor.execute("""COMMENT ON COLUMN "STORE"."VEC_VECTOR" IS 'Ann''s vectors'""")
    make().add_texts(TEXTS)
    [(comment,)] = rows(
        connection,
        "SELECT COMMENTS FROM SYS.TABLE_COLUMNS WHERE TABLE_NAME = 'STORE' AND COLUMN_NAME = 'VEC_VECTOR'",
    )
    assert comment == "Ann's vectors [embedding model: local/scripted-embedding]"


def test_who_may_insert_but_not_change_the_table_is_told_that_the_model_is_not_recorded(
    local_hana: LocalHana,
    connection: dbapi.Connection,
    embeddings: TogetherAIEmbeddings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    HanaDB(connection, embeddings, table_name="STORE")
    with connection.cursor() as cursor:
        cursor.execute('CREATE USER CLERK PASSWORD "Clerk1234567" NO FORCE_FIRST_PASSWORD_CHANGE')
        cursor.execute('GRANT SELECT, INSERT ON "DBADMIN"."STORE" TO CLERK')
    clerk = local_hana.connect(user="CLERK", password="Clerk1234567")
    try:
        store = TogetherHanaDB(clerk, embeddings, table_name="STORE", schema_name="DBADMIN")
        store.add_texts(TEXTS)
    finally:
        clerk.close()
        with connection.cursor() as cursor:
            cursor.execute("DROP USER CLERK CASCADE")
    [said] = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert 'The embedding model of "DBADMIN"."STORE"."VEC_VECTOR" cannot be recorded' in said
    assert rows(connection, 'SELECT COUNT(*) FROM "STORE"') == [(3,)]


# --- writing ---


def test_ids_are_given_and_accepted(make: Make) -> None:
    store = make()
    assert store.add_texts(TEXTS, ids=["1", "2", "3"]) == ["1", "2", "3"]
    made = store.add_texts(["a", "b"])
    assert len(set(made)) == 2
    assert [found.page_content for found in store.get_by_ids(made)] == ["a", "b"]


def test_a_row_whose_id_is_there_is_replaced(make: Make, connection: dbapi.Connection) -> None:
    store = make()
    store.add_texts(TEXTS, [{"n": number} for number in range(3)], ids=["1", "2", "3"])
    store.add_texts(["new"], [{"n": 9}], ids=["2"])
    assert rows(connection, 'SELECT COUNT(*) FROM "STORE"') == [(3,)]
    assert store.get_by_ids(["2"]) == [Document(page_content="new", metadata={"n": 9}, id="2")]
    assert store.similarity_search("new", k=1)[0].id == "2"


def test_the_last_of_an_id_wins_within_a_batch_too(make: Make) -> None:
    store = make()
    assert store.add_texts(["a", "b", "c"], ids=["1", "2", "1"]) == ["1", "2", "1"]
    assert {found.id: found.page_content for found in store.get_by_ids(["1", "2"])} == {"1": "c", "2": "b"}


def test_generators_are_read_batch_by_batch_and_each_batch_is_committed(make: Make, local_hana: LocalHana) -> None:
    other = local_hana.connect()
    seen: list[int] = []

    def texts() -> Iterator[str]:
        for number in range(10):
            if number % 4 == 0 and number:
                seen.append(rows(other, 'SELECT COUNT(*) FROM "STORE"')[0][0])
            yield f"text {number}"

    ids = make(batch_size=4).add_texts(texts(), ({"n": n} for n in range(10)), ids=(str(n) for n in range(10)))
    other.close()
    assert ids == [str(number) for number in range(10)]
    assert seen == [4, 8]


def test_documents_may_come_from_a_generator_and_keep_their_ids(make: Make) -> None:
    store = make(batch_size=2)
    documents = (Document(page_content=text, id=text.upper()) for text in TEXTS)
    assert store.add_documents(documents) == ["FOO", "BAR", "BAZ"]
    assert store.add_documents([Document(page_content="x")], ids=["X"]) == ["X"]


def test_a_batch_that_fails_leaves_nothing_of_itself_and_all_of_the_earlier_ones(
    make: Make, connection: dbapi.Connection, engine: ScriptedEngine
) -> None:
    store = make(batch_size=2)

    engine.on("/v1/embeddings", lambda request: Reply(status=400) if "bad" in request.body["input"] else None)
    with pytest.raises(TogetherAIInvalidRequestError):
        store.add_texts(["a", "b", "c", "bad", "e"])
    assert rows(connection, 'SELECT COUNT(*) FROM "STORE"') == [(2,)]
    assert connection.getautocommit()


@pytest.mark.parametrize("way", ["sync", "async", "documents"])
def test_a_load_that_is_resumed_embeds_and_writes_only_what_is_missing_or_different(
    make: Make, connection: dbapi.Connection, engine: ScriptedEngine, way: str
) -> None:
    store = make(batch_size=2)
    metadata: list[dict[str, Any]] = [{"page": 1, "at": (1, 2)}, {"page": 2}, {"page": 3}]
    store.add_texts(TEXTS, metadata, ids=["a", "b", "c"])
    engine.requests.clear()
    texts = ["foo", "bar", "another baz", "new"]
    metadata = [metadata[0], {"page": 20}, metadata[2], {}]
    ids = ["a", "b", "c", "d"]
    if way == "sync":
        assert store.add_texts(texts, metadata, ids=ids, resume=True) == ids
    elif way == "async":
        assert asyncio.run(store.aadd_texts(texts, metadata, ids=ids, resume=True)) == ids
    else:
        documents = [
            Document(id=name, page_content=text, metadata=more)
            for name, text, more in zip(ids, texts, metadata, strict=True)
        ]
        assert store.add_documents(documents, resume=True) == ids
    assert [request.body["input"] for request in engine.posts] == [["bar"], ["another baz", "new"]]
    found = store.get_by_ids(ids)
    assert [document.page_content for document in found] == texts
    assert [document.metadata for document in found] == [{"page": 1, "at": [1, 2]}, *metadata[1:]]


def test_without_being_told_to_resume_every_row_is_embedded_again(make: Make, engine: ScriptedEngine) -> None:
    store = make()
    for _ in range(2):
        engine.requests.clear()
        store.add_texts(TEXTS, ids=["a", "b", "c"])
        assert [request.body["input"] for request in engine.posts] == [TEXTS]
    with pytest.raises(TogetherAIInputError, match="no column for ids"):
        make(table_name="WITHOUT", id_column=None).add_texts(TEXTS, resume=True)


def test_iterables_of_different_lengths_are_named(make: Make) -> None:
    with pytest.raises(TogetherAIInputError, match="metadatas ended after 1 entries"):
        make().add_texts(["a", "b"], [{}])
    with pytest.raises(TogetherAIInputError, match=r"texts\[1\] is a int"):
        make().add_texts(["a", 1])  # type: ignore[list-item]
    with pytest.raises(TogetherAIInputError, match=r"ids\[0\]"):
        make().add_texts(["a"], ids=["x" * 256])
    with pytest.raises(TogetherAIInputError, match="texts is a string"):
        make().add_texts("a")


def test_vectors_that_are_given_are_not_made_again(make: Make, engine: ScriptedEngine) -> None:
    store = make()
    before = len(engine.posts)
    store.add_texts(["a"], embeddings=[[1] * 256], ids=["1"])
    assert len(engine.posts) == before
    found = store.similarity_search_with_score_and_vector_by_vector([1] * 256, k=1)
    assert found[0][1] == pytest.approx(1.0)
    assert found[0][2] == [1.0] * 256


def test_metadata_in_columns_of_their_own_is_written_for_rows_without_metadata_too(
    make: Make, connection: dbapi.Connection
) -> None:
    make()
    with connection.cursor() as cursor:
        cursor.execute('ALTER TABLE "STORE" ADD ("CITY" NVARCHAR(20))')
    store = make(specific_metadata_columns=["CITY"])
    store.add_texts(["a", "b"], [{"CITY": "Ulm"}, None], ids=["1", "2"])
    assert rows(connection, 'SELECT "VEC_ID", "CITY" FROM "STORE" ORDER BY 1') == [("1", "Ulm"), ("2", None)]
    assert [found.id for found in store.similarity_search("b", filter={"CITY": "Ulm"})] == ["1"]


def test_nothing_to_write_asks_nobody(make: Make, engine: ScriptedEngine) -> None:
    store = make()
    before = len(engine.posts)
    assert store.add_texts([]) == []
    assert store.add_documents(iter(())) == []
    assert len(engine.posts) == before


# --- ids ---


def test_documents_are_read_in_the_order_of_the_ids_and_missing_ones_left_out(make: Make) -> None:
    store = make()
    store.add_texts([str(number) for number in range(1200)], ids=[str(number) for number in range(1200)])
    wanted = ["1199", "none", "0", "600", "0"]
    assert [found.id for found in store.get_by_ids(wanted)] == ["1199", "0", "600"]
    assert len(store.get_by_ids([str(number) for number in range(1200)])) == 1200


def test_deleting_takes_ids_or_a_filter(make: Make, connection: dbapi.Connection) -> None:
    store = make()
    store.add_texts(TEXTS, [{"n": n} for n in range(3)], ids=["1", "2", "3"])
    assert store.delete(["1", "none"])
    assert store.delete(filter={"n": 1})
    assert store.delete([])
    assert rows(connection, 'SELECT "VEC_ID" FROM "STORE"') == [("3",)]
    for wrong in ({}, {"ids": ["3"], "filter": {}}):
        with pytest.raises(TogetherAIInputError, match="delete takes"):
            store.delete(**wrong)


def test_a_table_of_langchain_hanas_is_read_and_written_as_it_is(
    make: Make, connection: dbapi.Connection, embeddings: TogetherAIEmbeddings
) -> None:
    theirs = HanaDB(connection, embeddings, table_name="STORE")
    theirs.add_texts(["theirs"], [{"n": 1}])
    stamp_table(connection, "STORE", "local/scripted-embedding")
    store = make()
    assert store.add_texts(["ours"], [{"n": 2}]) == []
    assert {found.page_content for found in theirs.similarity_search("ours")} == {"theirs", "ours"}
    assert store.similarity_search("theirs", k=1)[0].metadata == {"n": 1}
    for call in (
        lambda: store.get_by_ids(["1"]),
        lambda: store.delete(["1"]),
        lambda: store.add_texts(["a"], ids=["1"]),
    ):
        with pytest.raises(TogetherAIInputError, match=r'ALTER TABLE "STORE" ADD \("VEC_ID"'):
            call()
    with connection.cursor() as cursor:
        cursor.execute('ALTER TABLE "STORE" ADD ("VEC_ID" NVARCHAR(255))')
        cursor.execute('UPDATE "STORE" SET "VEC_ID" = TO_NVARCHAR("VEC_TEXT")')
        cursor.execute('ALTER TABLE "STORE" ADD PRIMARY KEY ("VEC_ID")')
    assert make().get_by_ids(["ours"])[0].metadata == {"n": 2}


# --- threads ---


async def test_the_async_methods_never_share_a_connection_between_threads(
    local_hana: LocalHana, connection: dbapi.Connection, embeddings: TogetherAIEmbeddings
) -> None:
    busy: dict[int, str] = {}
    most = 0
    lock = threading.Lock()

    class Watched:
        """A connection that notices a second thread."""

        def __init__(self) -> None:
            self.inner = local_hana.connect()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def cursor(self) -> Any:
            nonlocal most
            with lock:
                user = threading.current_thread().name
                assert busy.setdefault(id(self), user) == user, "two threads on one connection"
                most = max(most, len(busy))
            cursor, outer = self.inner.cursor(), self

            class Cursor:
                def __getattr__(self, name: str) -> Any:
                    return getattr(cursor, name)

                def close(self) -> None:
                    cursor.close()
                    with lock:
                        busy.pop(id(outer), None)

            return Cursor()

    store = TogetherHanaDB(embedding=embeddings, connect=Watched, table_name="STORE")
    await store.aadd_texts([f"text {number}" for number in range(20)], ids=[str(n) for n in range(20)])
    found = await asyncio.gather(*(store.asimilarity_search(f"text {number}", k=1) for number in range(20)))
    assert [documents[0].id for documents in found] == [str(number) for number in range(20)]
    assert most > 1, "and yet several work at the same time"
    assert (await store.aget_by_ids(["7"]))[0].page_content == "text 7"
    assert await store.adelete(["7"])
    assert await store.aget_by_ids(["7"]) == []
    store.close()


def test_with_one_connection_threads_take_turns(make: Make) -> None:
    store = make()
    store.add_texts(TEXTS, ids=TEXTS)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: store.similarity_search(text, k=1)[0].id, TEXTS * 20))
    assert found == TEXTS * 20


def test_connections_come_from_the_settings(
    local_hana: LocalHana,
    connection: dbapi.Connection,
    together_environment: ScriptedTogether,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(TogetherAISettingsError, match="HANA_ADDRESS"):
        TogetherHanaDB()
    export(monkeypatch, local_hana.environment())
    store = TogetherHanaDB(table_name="STORE")
    store.add_texts(TEXTS, ids=TEXTS)
    assert store.similarity_search("bar", k=1)[0].id == "bar"
    assert rows(connection, 'SELECT COUNT(*) FROM "STORE"') == [(3,)]
    store.close()


# --- names, and what the database can do itself ---


def test_names_are_quoted_and_not_stripped_of_their_characters(make: Make, connection: dbapi.Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute('CREATE SCHEMA "My schema"')
    try:
        store = make(table_name="Sales-2026; é'", schema_name="My schema")
        store.add_texts(TEXTS, ids=TEXTS)
        assert store.similarity_search("baz", k=1)[0].id == "baz"
        assert store.delete(["baz"])
        store.create_hnsw_index()
        found = rows(connection, "SELECT TABLE_NAME FROM SYS.TABLES WHERE SCHEMA_NAME = 'My schema'")
        assert found == [("Sales-2026; é'",)]
    finally:
        with connection.cursor() as cursor:
            cursor.execute('DROP SCHEMA "My schema" CASCADE')


@pytest.mark.parametrize("name", ['a"b', "", "a\nb", "x" * 128, "a\x00"])
def test_what_cannot_be_a_name_is_refused(make: Make, name: str) -> None:
    with pytest.raises(TogetherAIInputError, match="is no name"):
        make(table_name=name)
    with pytest.raises(TogetherAIInputError, match="is no name"):
        make(content_column=name)


@pytest.mark.parametrize("argument", ["embedding", "embeddings"])
def test_embeddings_hana_embeds_in_the_database_and_asks_nobody_else(
    connection: dbapi.Connection, together_environment: ScriptedTogether, argument: str
) -> None:
    store = TogetherHanaDB(connection, table_name="STORE", **{argument: "hana"})  # type: ignore[arg-type]
    assert isinstance(store.embedding, HanaInternalEmbeddings)
    store.add_texts(["The mill stands by the river.", "Trains are late."], ids=["1", "2"])
    assert store.similarity_search("Where is the mill?", k=1)[0].id == "1"
    assert store.get_by_ids(["2"])[0].page_content == "Trains are late."
    assert together_environment.engine.posts == []


def test_a_table_embedded_in_the_database_and_one_by_together_refuse_each_other(
    connection: dbapi.Connection, make: Make
) -> None:
    TogetherHanaDB(connection, "hana", table_name="THEIRS").add_texts(["a"])
    with pytest.raises(TogetherAIInputError, match=r"SAP_NEB\.\d+.*embedding=\"hana\""):
        make(table_name="THEIRS")
    make().add_texts(["a"])
    with pytest.raises(TogetherAIInputError, match="local/scripted-embedding"):
        TogetherHanaDB(connection, "hana", table_name="STORE")
    with pytest.raises(TogetherAIInputError, match='"hana" or "hana:NAME"'):
        TogetherHanaDB(connection, "some/model", table_name="STORE")


def test_half_vectors_are_kept_in_half_the_space(make: Make, connection: dbapi.Connection) -> None:
    store = make(vector_column_type="HALF_VECTOR")
    store.add_texts(TEXTS, ids=TEXTS)
    assert store.similarity_search("bar", k=1)[0].id == "bar"
    with pytest.raises(AttributeError, match="wrong type: HALF_VECTOR"):
        make(vector_column_type="REAL_VECTOR")


def test_from_texts_and_the_rest_of_hanadb_work(make: Make, connection: dbapi.Connection) -> None:
    store = TogetherHanaDB.from_texts(
        TEXTS, make().embedding, [{"n": n} for n in range(3)], connection, ids=TEXTS, table_name="MADE"
    )
    assert [found.id for found in store.max_marginal_relevance_search("bar", k=1)] == ["bar"]
    assert [found.id for found in store.similarity_search("x", filter={"n": {"$gte": 1}})] != []
    assert len(store.similarity_search("x", filter={"name": {"$contains": "Ann"}})) == 0
    assert store.similarity_search_with_relevance_scores("foo", k=1)[0][1] == pytest.approx(1.0)
    retriever = store.as_retriever(search_kwargs={"k": 1})
    assert retriever.invoke("baz")[0].id == "baz"
    with pytest.raises(TogetherAIInputError, match="k is 0"):
        store.similarity_search("x", k=0)
