"""Whatever is in texts, metadata, ids, filters and names: it changes nothing but data."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hdbcli import dbapi
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.embeddings import DeterministicFakeEmbedding

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.vector_store import TogetherHanaDB
from hana_ai.api.storage.quoting import literal, quoted
from tests.integration.hana.conftest import rows

BAIT = [
    '"; DROP TABLE "BYSTANDER"; --',
    '\'; DROP TABLE "BYSTANDER"; --',
    "' OR '1'='1",
    "x') OR 1=1 --",
    '" (A INT); DROP TABLE BYSTANDER; --',
    "BYSTANDER\x00",
    "?",
    "$.a', '$') OR 1=1 --",
    "/* */",
    "\\'; DELETE FROM BYSTANDER --",
]
WORDS = st.sampled_from(BAIT) | st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00"), min_size=1, max_size=40
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS, lambda inner: st.lists(inner, max_size=3)
)
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
EMBEDDING = DeterministicFakeEmbedding(size=8)
RELAXED = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def bystander(connection: dbapi.Connection) -> Iterator[dbapi.Connection]:
    """A connection to a database with a table that nobody has any business with."""
    with connection.cursor() as cursor:
        cursor.execute('CREATE TABLE "BYSTANDER" ("A" INTEGER)')
        cursor.execute('INSERT INTO "BYSTANDER" VALUES (1)')
    yield connection
    assert rows(connection, 'SELECT * FROM "BYSTANDER"') == [(1,)]


def tables(connection: dbapi.Connection) -> set[str]:
    found = rows(connection, "SELECT TABLE_NAME FROM SYS.TABLES WHERE SCHEMA_NAME = CURRENT_SCHEMA")
    return {name for (name,) in found}


@RELAXED
@given(texts=st.lists(WORDS, min_size=1, max_size=3), metadata=st.dictionaries(KEYS, JSON, max_size=3), id=WORDS)
def test_texts_metadata_and_ids_come_back_as_they_were(
    bystander: dbapi.Connection, texts: list[str], metadata: dict[str, Any], id: str
) -> None:
    store = TogetherHanaDB(bystander, EMBEDDING, table_name="STORE")
    store.delete(filter={})
    ids = [f"{number} {id}" for number in range(len(texts))]
    store.add_texts(texts, [metadata] * len(texts), ids=ids)
    assert [found.page_content for found in store.get_by_ids(ids)] == texts
    assert all(found.metadata == json.loads(json.dumps(metadata)) for found in store.get_by_ids(ids))
    assert len(store.similarity_search(texts[0], k=5)) == len(texts)
    assert store.delete(ids[:1])
    assert len(store.get_by_ids(ids)) == len(texts) - 1
    assert tables(bystander) == {"BYSTANDER", "STORE"}


@RELAXED
@given(key=WORDS | KEYS, value=WORDS)
def test_filters_find_what_they_name_or_are_refused(bystander: dbapi.Connection, key: str, value: str) -> None:
    store = TogetherHanaDB(bystander, EMBEDDING, table_name="STORE")
    store.delete(filter={})
    store.add_texts(["a", "b"], [{"safe": "x"}, {"safe": "y"}], ids=["1", "2"])
    for use in (store.delete, lambda filter: store.similarity_search("a", filter=filter)):
        with contextlib.suppress(ValueError):
            use(filter={key: value, "safe": "x"})
    assert [found.id for found in store.get_by_ids(["1", "2"])] in (["2"], ["1", "2"])


@RELAXED
@given(key=WORDS)
def test_a_metadata_key_that_is_no_name_is_refused(bystander: dbapi.Connection, key: str) -> None:
    store = TogetherHanaDB(bystander, EMBEDDING, table_name="STORE")
    store.delete(filter={})
    try:
        store.add_texts(["a"], [{key: 1}], ids=["1"])
    except ValueError:
        assert store.get_by_ids(["1"]) == []
    else:
        assert store.get_by_ids(["1"])[0].metadata == {key: 1}


@RELAXED
@given(name=WORDS)
def test_a_table_has_the_very_name_that_was_asked_for_or_there_is_none(
    bystander: dbapi.Connection, name: str
) -> None:
    if name == "BYSTANDER":
        return
    before = tables(bystander)
    try:
        store = TogetherHanaDB(bystander, EMBEDDING, table_name=name)
    except TogetherAIInputError:
        assert tables(bystander) == before
        return
    assert tables(bystander) == before | {name}
    store.add_texts(["a"], ids=["1"])
    assert store.get_by_ids(["1"])[0].page_content == "a"
    with bystander.cursor() as cursor:
        cursor.execute(f"DROP TABLE {quoted(name)}")


@RELAXED
@given(name=WORDS)
def test_a_column_or_schema_that_is_none_is_refused(bystander: dbapi.Connection, name: str) -> None:
    before = tables(bystander)
    for argument in ("content_column", "metadata_column", "vector_column", "id_column", "schema_name"):
        with pytest.raises((TogetherAIInputError, dbapi.Error)):
            TogetherHanaDB(bystander, EMBEDDING, table_name="STORE", **{argument: name + "'"})  # type: ignore[arg-type]
    assert tables(bystander) == before


@given(st.text(max_size=20))
def test_a_literal_has_no_quotation_mark_of_its_own(text: str) -> None:
    made = literal(text)
    assert made[0] == made[-1] == "'"
    assert "'" not in made[1:-1].replace("''", "")


@RELAXED
@given(model=WORDS)
def test_the_name_of_a_model_is_recorded_as_data(bystander: dbapi.Connection, model: str) -> None:
    class Named(DeterministicFakeEmbedding):
        model: str = ""

    with bystander.cursor() as cursor:
        cursor.execute('DROP TABLE IF EXISTS "STORE"')
    named = Named(size=8, model=model)
    TogetherHanaDB(bystander, named, table_name="STORE").add_texts(["a"])
    TogetherHanaDB(bystander, named, table_name="STORE").add_texts(["b"])
    assert tables(bystander) == {"BYSTANDER", "STORE"}
    assert rows(bystander, 'SELECT COUNT(*) FROM "STORE"') == [(2,)]
