"""langchain-hana, unmodified, over TCP: the vector store, embeddings in the database, reranking."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hdbcli import dbapi
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_hana import HanaDB, HanaInternalEmbeddings
from langchain_hana.utils import DistanceStrategy
from langchain_hana.vectorstores import HanaReranker

from hana_ai.api.local.hana.process import LocalHana

pytest_plugins = ["hana_ai.api.local.hana.pytest_plugin"]

TEXTS = ["foo", "bar", "baz", "bak", "cat"]
METADATA: list[dict[str, Any]] = [
    {"name": "Adam Johnson", "start": 1, "ready": True, "height": 5.5, "day": "2020-01-01", "quality": "good"},
    {"name": "Bob Smith", "start": 2, "ready": False, "height": 2.0, "day": "2021-06-15", "quality": "bad"},
    {"name": "Jane Doe", "start": 3, "ready": True, "height": 3.25, "day": "2022-12-31", "quality": "ugly"},
    {"name": "Bobby Tables", "start": 4, "ready": False, "height": 4.0, "day": "1999-01-01"},
    {"name": "astral 😀", "start": 5, "ready": True, "height": -1.0, "day": "2020-02-29", "quality": "good"},
]


class HashEmbeddings(Embeddings):
    """Vectors that depend on nothing but the text."""

    def __init__(self, size: int = 16) -> None:
        self.size = size

    def embed_query(self, text: str) -> list[float]:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        return [float(value) for value in np.random.default_rng(seed).normal(size=self.size)]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]


@pytest.fixture
def store(local_hana_connection: dbapi.Connection) -> Iterator[HanaDB]:
    _drop(local_hana_connection, "STORE")
    made = HanaDB(local_hana_connection, HashEmbeddings(), table_name="STORE")
    made.add_texts(TEXTS, METADATA)
    yield made


def _drop(connection: dbapi.Connection, table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f'DROP TABLE IF EXISTS "{table}" CASCADE')


def _starts(store: HanaDB, condition: dict[str, Any]) -> list[int]:
    return sorted(doc.metadata["start"] for doc in store.similarity_search("foo", k=10, filter=condition))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"start": 1}, [1]),
        ({"start": {"$eq": 2}}, [2]),
        ({"start": {"$ne": 2}}, [1, 3, 4, 5]),
        ({"start": {"$gt": 3}}, [4, 5]),
        ({"start": {"$gte": 3}}, [3, 4, 5]),
        ({"start": {"$lt": 2}}, [1]),
        ({"start": {"$lte": 2}}, [1, 2]),
        ({"height": {"$gt": 3.5}}, [1, 4]),
        ({"height": {"$between": (2.0, 4.0)}}, [2, 3, 4]),
        ({"start": {"$between": (2, 3)}}, [2, 3]),
        ({"start": {"$in": [1, 5, 9]}}, [1, 5]),
        ({"start": {"$nin": [1, 5, 9]}}, [2, 3, 4]),
        ({"name": {"$in": ["Jane Doe", "nobody"]}}, [3]),
        ({"name": {"$like": "Bob%"}}, [2, 4]),
        ({"name": {"$like": "%Doe"}}, [3]),
        ({"name": "astral 😀"}, [5]),
        ({"ready": True}, [1, 3, 5]),
        ({"ready": {"$eq": False}}, [2, 4]),
        ({"quality": {"$eq": None}}, [4]),
        ({"quality": None}, [4]),
        ({"quality": {"$ne": None}}, [1, 2, 3, 5]),
        ({"day": {"type": "date", "date": "2020-01-01"}}, [1]),
        ({"day": {"$gt": {"type": "date", "date": "2020-12-31"}}}, [2, 3]),
        (
            {
                "day": {
                    "$between": ({"type": "date", "date": "2020-01-01"}, {"type": "date", "date": "2020-12-31"})
                }
            },
            [1, 5],
        ),
        ({"$and": [{"start": {"$gt": 1}}, {"ready": True}]}, [3, 5]),
        ({"$or": [{"start": 1}, {"name": {"$like": "Bob%"}}]}, [1, 2, 4]),
        ({"$and": [{"$or": [{"start": 1}, {"start": 2}]}, {"ready": False}]}, [2]),
        ({"start": {"$gt": 1}, "ready": True}, [3, 5]),
        ({"name": {"$contains": "bob"}}, [2]),
        ({"name": {"$contains": "Johnson Adam"}}, [1]),
        ({"name": {"$contains": "bo"}}, []),
        ({"$or": [{"name": {"$contains": "jane"}}, {"start": 5}]}, [3, 5]),
        ({"VEC_TEXT": {"$contains": "foo"}}, [1]),
    ],
)
def test_every_filter_operator(store: HanaDB, condition: dict[str, Any], expected: list[int]) -> None:
    assert _starts(store, condition) == expected


def test_the_nearest_document_comes_first(store: HanaDB) -> None:
    found = store.similarity_search_with_score("bar", k=3)
    assert found[0][0].page_content == "bar"
    assert found[0][1] == pytest.approx(1.0, abs=1e-5)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    relevance = store.similarity_search_with_relevance_scores("bar", k=1)
    assert relevance[0][1] == pytest.approx(1.0, abs=1e-5)


def test_scores_equal_numpys(store: HanaDB) -> None:
    embedding = HashEmbeddings()
    query = np.array(embedding.embed_query("question"), dtype=np.float32)
    for document, score in store.similarity_search_with_score("question", k=5):
        vector = np.array(embedding.embed_query(document.page_content), dtype=np.float32)
        expected = vector @ query / np.linalg.norm(vector) / np.linalg.norm(query)
        assert score == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("vector_type", ["REAL_VECTOR", "HALF_VECTOR"])
@pytest.mark.parametrize("strategy", [DistanceStrategy.COSINE, DistanceStrategy.EUCLIDEAN_DISTANCE])
@pytest.mark.parametrize("length", [-1, 16])
def test_both_vector_types_and_distances(
    local_hana_connection: dbapi.Connection, vector_type: str, strategy: DistanceStrategy, length: int
) -> None:
    _drop(local_hana_connection, "TYPED")
    store = HanaDB(
        local_hana_connection, HashEmbeddings(), strategy, table_name="TYPED", vector_column_type=vector_type,
        vector_column_length=length,
    )  # fmt: skip
    store.add_texts(TEXTS)
    assert store.similarity_search("baz", k=1)[0].page_content == "baz"
    store.create_hnsw_index(index_name="IDX_TYPED", m=16, ef_construction=100, ef_search=50)
    assert store.similarity_search("cat", k=1)[0].page_content == "cat"
    mmr = store.max_marginal_relevance_search("foo", k=2, fetch_k=5)
    assert len(mmr) == 2
    assert mmr[0].page_content == "foo"


def test_a_wrong_dimension_is_refused(local_hana_connection: dbapi.Connection) -> None:
    _drop(local_hana_connection, "NARROW")
    store = HanaDB(local_hana_connection, HashEmbeddings(8), table_name="NARROW", vector_column_length=16)
    with pytest.raises(dbapi.Error):
        store.add_texts(["x"])
    with local_hana_connection.cursor() as cursor:
        cursor.execute('SELECT COUNT(*) FROM "NARROW"')
        assert cursor.fetchone()[0] == 0


def test_specific_metadata_columns(local_hana_connection: dbapi.Connection) -> None:
    _drop(local_hana_connection, "SPECIFIC")
    with local_hana_connection.cursor() as cursor:
        cursor.execute(
            'CREATE TABLE "SPECIFIC" ("VEC_TEXT" NCLOB, "VEC_META" NCLOB, "VEC_VECTOR" REAL_VECTOR, '
            '"quality" NVARCHAR(50), "start" INTEGER)'
        )
    store = HanaDB(
        local_hana_connection,
        HashEmbeddings(),
        table_name="SPECIFIC",
        specific_metadata_columns=["quality", "start"],
    )
    store.add_texts(TEXTS, METADATA)
    assert _starts(store, {"quality": "good"}) == [1, 5]
    assert _starts(store, {"start": {"$gt": 3}}) == [4, 5]
    assert _starts(store, {"quality": {"$like": "%d"}}) == [1, 2, 5]
    assert _starts(store, {"quality": {"$contains": "good"}}) == [1, 5]
    assert _starts(store, {"quality": None}) == [4]
    with local_hana_connection.cursor() as cursor:
        cursor.execute('SELECT "quality", "start" FROM "SPECIFIC" ORDER BY "start"')
        assert [tuple(row) for row in cursor.fetchall()][:2] == [("good", 1), ("bad", 2)]


def test_delete_by_filter(store: HanaDB) -> None:
    assert store.delete(filter={"start": {"$gt": 3}})
    assert _starts(store, {}) == [1, 2, 3]
    assert store.delete(filter={})
    assert store.similarity_search("foo", k=5) == []


def test_texts_of_any_kind_survive(local_hana_connection: dbapi.Connection) -> None:
    _drop(local_hana_connection, "ODD")
    store = HanaDB(local_hana_connection, HashEmbeddings(), table_name="ODD")
    texts = ["", "it's", 'a "quote"', "line\nbreak", "😀" * 100, "x" * 100_000, "? :name $p0 $1"]
    store.add_texts(texts, [{"n": number, "t": text[:50]} for number, text in enumerate(texts)])
    for number, text in enumerate(texts):
        (found,) = store.similarity_search(text, k=1, filter={"n": number})
        assert found.page_content == text
        assert found.metadata["t"] == text[:50]


def test_embeddings_inside_the_database(local_hana_connection: dbapi.Connection) -> None:
    _drop(local_hana_connection, "INTERNAL")
    embeddings = HanaInternalEmbeddings(internal_embedding_model_id="SAP_NEB.20240715")
    store = HanaDB(local_hana_connection, embeddings, table_name="INTERNAL")
    store.add_texts(
        ["a cat sat on the mat", "the stock market fell", "dogs bark at night"], [{"n": n} for n in range(3)]
    )
    assert store.similarity_search("kitten on a rug", k=1)[0].metadata == {"n": 0}
    assert store.similarity_search("shares lost value", k=1)[0].metadata == {"n": 1}
    assert len(store.max_marginal_relevance_search("puppy", k=2, fetch_k=3)) == 2


def test_an_unknown_embedding_model_is_refused(local_hana_connection: dbapi.Connection) -> None:
    with pytest.raises(dbapi.Error):
        HanaDB(local_hana_connection, HanaInternalEmbeddings("NO_SUCH_MODEL"), table_name="INTERNAL2")


def test_reranking(store: HanaDB, local_hana_connection: dbapi.Connection) -> None:
    reranker = HanaReranker(connection=local_hana_connection, model_id="SAP_CER.20250701")
    documents = [
        Document(page_content=text, metadata={"title": text}) for text in ("stock market", "a small cat", "bread")
    ]
    ranked = reranker.rerank(documents, "kitten", top_n=2)
    assert ranked[0][2].page_content == "a small cat"
    assert ranked[0][1] >= ranked[1][1]
    assert reranker.rerank(documents, "kitten", top_n=1, rank_fields=["title"])[0][0] == 1
    assert reranker.compress_documents(documents, "kitten")[0].metadata["relevance_score"] > 0
    found = store.similarity_search(
        "foo",
        k=3,
        rerank_config={"query": "cat", "top_n": 2, "model_id": "SAP_CER.20250701", "rank_fields": ["name"]},
    )
    assert len(found) == 2


async def test_the_asynchronous_methods(store: HanaDB) -> None:
    assert (await store.asimilarity_search("bak", k=1))[0].page_content == "bak"
    await store.aadd_texts(["new"], [{"start": 6}])
    assert _starts(store, {"start": 6}) == [6]


def test_two_stores_of_one_table_see_each_other(store: HanaDB, local_hana: LocalHana) -> None:
    other = local_hana.connect()
    second = HanaDB(other, HashEmbeddings(), table_name="STORE")
    second.add_texts(["second"], [{"start": 9}])
    other.close()
    assert _starts(store, {"start": 9}) == [9]
