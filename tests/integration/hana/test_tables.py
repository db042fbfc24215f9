"""What is said of vector tables, and what their vectors say themselves."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hdbcli import dbapi
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_hana import HanaDB

from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana import check_table, draw_table, list_tables, stamp_table
from hana_ai.api.hana.tables import VectorTableInfo
from hana_ai.api.hana.vector_column import packed
from hana_ai.api.hana.vector_store import TogetherHanaDB
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import LocalModel, Reply, ScriptedEngine
from tests.conftest import ScriptedTogether
from tests.integration.hana.conftest import rows, run

OURS = ScriptedEngine.EMBEDDING
SAP = "SAP_NEB.20240715"
OTHER_SAP = "SAP_GXY.20250407"
TEXTS = ["The mill is by the river.", "The baker sleeps.", "Bread is made of flour.", "Water turns the wheel."]


def filled(connection: dbapi.Connection, table: str, embedding: Any, texts: list[str] | None = None) -> None:
    """A table as HanaDB makes it, without a stamp."""
    HanaDB(connection, embedding, table_name=table).add_texts(texts or TEXTS)


def widened(connection: dbapi.Connection, table: str) -> None:
    run(connection, f'INSERT INTO "{table}" ("VEC_TEXT", "VEC_VECTOR") VALUES (?, ?)', "mixed in",
        packed([0.5] * 8, "REAL_VECTOR"))  # fmt: skip


def found(connection: dbapi.Connection, table: str) -> VectorTableInfo:
    [info] = list_tables(connection, pattern=table)
    return info


# --- listing ---


def test_every_state_is_listed_with_how_the_model_is_known(
    connection: dbapi.Connection, embeddings: TogetherAIEmbeddings
) -> None:
    run(connection, 'CREATE TABLE "PLAIN" ("N" INTEGER)')
    run(connection, 'CREATE TABLE "EMPTY" ("VEC_TEXT" NCLOB, "VEC_META" NCLOB, "VEC_VECTOR" HALF_VECTOR(32))')
    run(connection, 'CREATE TABLE "EMPTY_OF_ANY_WIDTH" ("VEC_TEXT" NCLOB, "VEC_VECTOR" REAL_VECTOR)')
    run(
        connection,
        'CREATE COLUMN TABLE "GENERATED" ("id" VARCHAR(50), "description" VARCHAR(500), "example" NCLOB, '
        f"\"embeddings\" REAL_VECTOR GENERATED ALWAYS AS VECTOR_EMBEDDING(\"description\", 'DOCUMENT', '{SAP}'))",
    )
    run(connection, """INSERT INTO "GENERATED" ("id", "description") VALUES ('1', 'Count rows')""")
    TogetherHanaDB(connection, embeddings, table_name="STAMPED").add_texts(TEXTS)
    TogetherHanaDB(connection, embeddings, table_name="STAMPED").create_hnsw_index(index_name="FAST")
    filled(connection, "UNKNOWN", DeterministicFakeEmbedding(size=16))
    filled(connection, "MIXED", DeterministicFakeEmbedding(size=16))
    widened(connection, "MIXED")
    filled(connection, "STAMPED_BUT_MIXED", DeterministicFakeEmbedding(size=16))
    stamp_table(connection, "STAMPED_BUT_MIXED", "a/model")
    widened(connection, "STAMPED_BUT_MIXED")
    listed = {
        info.table: (info.rows, info.vectors, info.type, info.widths, info.model, info.known, info.generated)
        for info in list_tables(connection)
    }
    assert listed == {
        "EMPTY": (0, 0, "HALF_VECTOR", (32, 32), None, "empty", False),
        "EMPTY_OF_ANY_WIDTH": (0, 0, "REAL_VECTOR", (0, 0), None, "empty", False),
        "GENERATED": (1, 1, "REAL_VECTOR", (256, 256), SAP, "generated", True),
        "MIXED": (5, 5, "REAL_VECTOR", (8, 16), None, "mixed", False),
        "STAMPED": (4, 4, "REAL_VECTOR", (256, 256), OURS, "stamp", False),
        "STAMPED_BUT_MIXED": (5, 5, "REAL_VECTOR", (8, 16), "a/model", "mixed", False),
        "UNKNOWN": (4, 4, "REAL_VECTOR", (16, 16), None, "unknown", False),
    }
    assert found(connection, "STAMPED").index == "FAST"
    assert found(connection, "UNKNOWN").index is None
    texts = {info.table: info.text_column for info in list_tables(connection)}
    assert texts.pop("GENERATED") == "description"
    assert set(texts.values()) == {"VEC_TEXT"}
    assert [info.table for info in list_tables(connection, pattern="*MIXED")] == ["MIXED", "STAMPED_BUT_MIXED"]
    assert list_tables(connection, schema="SYS") == []


def test_a_table_with_two_vector_columns_comes_twice(connection: dbapi.Connection) -> None:
    run(connection, 'CREATE TABLE "T" ("A" REAL_VECTOR(2), "one" NCLOB, "two" NCLOB, "B" HALF_VECTOR(3))')
    assert [(info.vector_column, info.width, info.text_column) for info in list_tables(connection)] == [
        ("A", 2, None),
        ("B", 3, None),
    ]
    with pytest.raises(TogetherAIInputError, match="several vector columns, A, B: name one"):
        check_table(connection, "T")
    run(connection, 'INSERT INTO "T" ("A") VALUES (?)', packed([1, 2], "REAL_VECTOR"))
    with pytest.raises(TogetherAIInputError, match="Name the column"):
        check_table(connection, "T", vector_column="A")


def test_a_table_that_may_not_be_read_is_listed_without_its_rows(
    local_hana: LocalHana, connection: dbapi.Connection
) -> None:
    filled(connection, "T", DeterministicFakeEmbedding(size=16))
    run(connection, 'CREATE USER CLERK PASSWORD "Clerk1234567" NO FORCE_FIRST_PASSWORD_CHANGE')
    run(connection, 'GRANT INSERT ON "DBADMIN"."T" TO CLERK')
    clerk = local_hana.connect(user="CLERK", password="Clerk1234567")
    try:
        [info] = list_tables(clerk, "DBADMIN")
        assert (info.rows, info.vectors, info.known) == (None, None, "unknown")
    finally:
        clerk.close()
        run(connection, "DROP USER CLERK CASCADE")


# --- asking the vectors ---


@pytest.mark.parametrize("model", [SAP, OTHER_SAP])
def test_the_databases_models_are_asked_without_sending_anything(
    model: str, connection: dbapi.Connection, together_environment: ScriptedTogether
) -> None:
    TogetherHanaDB(connection, f"hana:{model}", table_name="T").add_texts(TEXTS)
    run(connection, """COMMENT ON COLUMN "T"."VEC_VECTOR" IS ''""")
    for together in (False, True, OURS):
        answer = check_table(connection, "T", together=together, consent=True)
        assert (answer.owner, answer.sent, answer.agrees) == (model, 0, False)
    assert together_environment.engine.posts == []
    assert found(connection, "T").model is None, "checking writes nothing"


def test_without_consent_no_text_is_sent_and_with_it_three(
    connection: dbapi.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [
        LocalModel("a/wide", "embedding", 8192, price_input=1, dimensions=32),
        LocalModel("b/other", "embedding", 8192, price_input=2, dimensions=16),
        LocalModel("c/writer", "embedding", 8192, price_input=3, dimensions=16),
        LocalModel("d/more", "embedding", 8192, price_input=4, dimensions=16),
        LocalModel("e/chat", "chat", 8192),
    ]
    engine = ScriptedEngine(models=models)
    with ScriptedTogether(engine) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        filled(connection, "T", TogetherAIEmbeddings(model="c/writer"))
        # The scripted models of one width agree.
        engine.on(
            "/v1/embeddings", lambda request: Reply(status=400) if request.body["model"] == "b/other" else None
        )
        engine.requests.clear()
        answer = check_table(connection, "T", together=True)
        assert engine.posts == []
        assert (answer.owner, answer.sent, answer.texts) == (None, 0, 3)
        assert answer.models == ("a/wide", "b/other", "c/writer", "d/more")
        assert answer.answers == tuple(f"{name} made none of them" for name in (SAP, OTHER_SAP))
        assert answer.tokens is not None
        assert answer.cost_usd == Decimal(1 + 2 + 3 + 4) * (answer.tokens // 4) / 1_000_000
        answer = check_table(connection, "T", together=True, consent=True)
        assert answer.owner == "c/writer"
        assert answer.answers[2] == "a/wide makes vectors of 32 numbers"
        assert answer.answers[3].startswith("b/other cannot be asked (")
        assert answer.answers[4] == "c/writer made all of them"
        sent = [text for request in engine.posts for text in request.body["input"]]
        assert answer.sent == len(sent) == 9
        assert len(set(sent)) == 3
        assert set(sent) <= set(TEXTS)


def test_a_model_that_did_not_make_them_is_told_from_one_that_made_some(
    connection: dbapi.Connection, embeddings: TogetherAIEmbeddings, engine: ScriptedEngine
) -> None:
    filled(connection, "T", DeterministicFakeEmbedding(size=256))
    asked = check_table(connection, "T", embedding=embeddings, consent=True)
    assert (asked.owner, asked.answers[-1]) == (None, f"{OURS} made none of them")
    filled(connection, "U", DeterministicFakeEmbedding(size=256), TEXTS[:1])
    filled(connection, "U", embeddings, TEXTS[1:2])
    asked = check_table(connection, "U", embedding=embeddings, consent=True)
    assert (asked.owner, asked.answers[-1]) == (None, f"{OURS} made only some of them")


def test_a_stamp_is_checked_too(
    connection: dbapi.Connection, together_environment: ScriptedTogether, embeddings: TogetherAIEmbeddings
) -> None:
    TogetherHanaDB(connection, embeddings, table_name="T").add_texts(TEXTS)
    assert check_table(connection, "T", together=True, consent=True).agrees
    TogetherHanaDB(connection, "hana", table_name="U").add_texts(TEXTS)
    stamp_table(connection, "U", OURS, replace_stamp=True)
    answer = check_table(connection, "U")
    assert (answer.owner, answer.agrees) == (SAP, False)


def test_mixed_generated_and_empty_tables_are_not_asked(
    connection: dbapi.Connection, together_environment: ScriptedTogether
) -> None:
    filled(connection, "MIXED", DeterministicFakeEmbedding(size=16))
    widened(connection, "MIXED")
    run(connection, 'CREATE TABLE "EMPTY" ("VEC_TEXT" NCLOB, "VEC_VECTOR" REAL_VECTOR(8))')
    run(
        connection,
        'CREATE COLUMN TABLE "GENERATED" ("VEC_TEXT" NVARCHAR(500), "VEC_VECTOR" REAL_VECTOR GENERATED ALWAYS AS '
        f"VECTOR_EMBEDDING(\"VEC_TEXT\", 'DOCUMENT', '{SAP}'))",
    )
    said = {}
    for table in ("MIXED", "EMPTY", "GENERATED"):
        answer = check_table(connection, table, together=OURS, consent=True)
        assert answer.sent == 0
        said[table] = (answer.owner, answer.answers[0])
    assert said["EMPTY"] == (None, "There are no vectors.")
    assert said["GENERATED"] == (SAP, "The database makes these vectors itself.")
    assert said["MIXED"][1].startswith("There are vectors of 8 to 16 numbers")
    assert together_environment.engine.posts == []


def test_half_vectors_are_asked_as_well(connection: dbapi.Connection, embeddings: TogetherAIEmbeddings) -> None:
    run(connection, 'CREATE TABLE "T" ("VEC_TEXT" NCLOB, "VEC_META" NCLOB, "VEC_VECTOR" HALF_VECTOR(256))')
    HanaDB(connection, embeddings, table_name="T", vector_column_type="HALF_VECTOR").add_texts(TEXTS)
    assert check_table(connection, "T", embedding=embeddings, consent=True).owner == OURS
    assert rows(connection, "SELECT COUNT(*) FROM SYS.TABLE_COLUMNS WHERE COMMENTS LIKE '%embedding model%'") == [
        (0,)
    ]


# --- a map ---


def test_a_map_has_documents_that_are_alike_near_each_other(connection: dbapi.Connection) -> None:
    run(connection, 'CREATE TABLE "TWO" ("VEC_TEXT" NCLOB, "VEC_VECTOR" REAL_VECTOR(4))')
    insert = 'INSERT INTO "TWO" ("VEC_TEXT", "VEC_VECTOR") VALUES (?, TO_REAL_VECTOR(?))'
    for number in range(6):
        run(connection, insert, f"mill {number}", f"[1, 0.0{number}, 0, 0]")
        run(connection, insert, f"bread {number}", f"[0, 0, 1, 0.0{number}]")
    run(connection, insert, None, "[1, 1, 1, 1]")
    run(connection, 'INSERT INTO "TWO" ("VEC_TEXT") VALUES (?)', "without a vector")
    drawing = draw_table(connection, "TWO")
    assert drawing.rows == len(drawing.documents) == 12
    sides: dict[str, set[bool]] = {text.split()[0]: set() for text in drawing.documents}
    for text, (x, _) in zip(drawing.documents, drawing.points, strict=True):
        sides[text.split()[0]].add(x > 0)
    assert sorted(sides.values(), key=sorted) == [{False}, {True}]
    for limit in (1, 5, 7, 11):
        sample = draw_table(connection, "TWO", limit=limit)
        assert (len(set(sample.documents)), sample.rows) == (limit, 12)
        assert set(sample.documents) < set(drawing.documents)


def test_what_cannot_be_drawn_is_said(connection: dbapi.Connection) -> None:
    filled(connection, "MIXED", DeterministicFakeEmbedding(size=16))
    widened(connection, "MIXED")
    run(connection, 'CREATE TABLE "EMPTY" ("VEC_TEXT" NCLOB, "VEC_VECTOR" REAL_VECTOR)')
    with pytest.raises(TogetherAIInputError, match="vectors of 8 to 16 numbers"):
        draw_table(connection, "MIXED")
    with pytest.raises(TogetherAIInputError, match="nothing to draw"):
        draw_table(connection, "EMPTY")
    with pytest.raises(TogetherAIInputError, match="1 to 5,000 documents, not 0"):
        draw_table(connection, "EMPTY", limit=0)
