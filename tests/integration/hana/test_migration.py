"""A table moves to another model: every row once, no text embedded twice, whatever ends the process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import pytest
from hana_ml import ConnectionContext
from hdbcli import dbapi
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_hana import HanaDB, HanaInternalEmbeddings

from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIError, TogetherAIInputError
from hana_ai.api.hana import (
    MigrationProgress,
    drop_replaced,
    estimate_migration,
    list_tables,
    migrate_table,
)
from hana_ai.api.hana.vector_column import packed
from hana_ai.api.hana.vector_engine import TogetherVectorEngine
from hana_ai.api.hana.vector_store import TogetherHanaDB
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import LocalModel, Reply, ScriptedEngine
from tests.conftest import ScriptedTogether
from tests.integration.hana.conftest import rows, run
from tests.integration.hana.migrations import OURS, SAP, filled, sent, stamps, texts_of
from tests.integration.hana.mortal import MortalConnection

# --- what is there in the end ---


def test_the_new_table_has_the_same_rows_with_the_models_vectors(
    connection: dbapi.Connection, embeddings: TogetherAIEmbeddings, engine: ScriptedEngine
) -> None:
    texts = ["The mill is by the river.", "The baker sleeps.", 'It\'s "quoted", naïve 🙂\n[brackets]']
    filled(connection, texts)
    before = rows(connection, 'SELECT "VEC_ID", "VEC_TEXT", "VEC_META" FROM "T" ORDER BY 1')
    seen: list[MigrationProgress] = []
    done = migrate_table(connection, "T", embedding=embeddings, batch_size=2, on_progress=seen.append)
    assert (done.table, done.rows, done.vectors, done.embedded, done.swapped) == ("T_NEW", 3, 3, 3, False)
    assert [(now.done, now.total) for now in seen] == [(2, 3), (3, 3)]
    assert rows(connection, 'SELECT "VEC_ID", "VEC_TEXT", "VEC_META" FROM "T_NEW" ORDER BY 1') == before
    assert sent(engine) == Counter(texts)
    assert stamps(connection) == {"T": SAP, "T_NEW": OURS}
    columns = [
        rows(
            connection,
            "SELECT COLUMN_NAME, DATA_TYPE_NAME, LENGTH FROM SYS.TABLE_COLUMNS WHERE TABLE_NAME = ? "
            "AND COLUMN_NAME <> 'VEC_VECTOR' ORDER BY POSITION",
            name,
        )
        for name in ("T", "T_NEW")
    ]
    assert columns[0] == columns[1]
    store = TogetherHanaDB(connection, embeddings, table_name="T_NEW")
    for text in texts:
        assert store.similarity_search(text, k=1)[0].page_content == text
    store.add_texts(["one more"], ids=["id-0"])
    assert store.get_by_ids(["id-0"])[0].page_content == "one more"


def test_swapped_by_renaming_and_kept_until_told(
    connection: dbapi.Connection, embeddings: TogetherAIEmbeddings, engine: ScriptedEngine
) -> None:
    filled(connection, ["first", "second"])
    run(connection, """COMMENT ON TABLE "T" IS 'Ann''s manuals'""")
    done = migrate_table(connection, "T", embedding=embeddings, swap=True)
    assert (done.table, done.swapped, done.kept) == ("T", True, ("T_OLD",))
    assert stamps(connection) == {"T": OURS, "T_OLD": SAP}
    assert rows(connection, "SELECT COMMENTS FROM SYS.TABLES WHERE TABLE_NAME = 'T'") == [("Ann's manuals",)]
    assert TogetherHanaDB(connection, "hana", table_name="T_OLD").similarity_search("first", k=1)[0].id == "id-0"
    engine.requests.clear()
    again = migrate_table(connection, "T", embedding=embeddings, swap=True)
    assert (again.table, again.embedded, again.swapped, again.kept) == ("T", 0, True, ("T_OLD",))
    assert not sent(engine)
    assert drop_replaced(connection, "T") == ["T_OLD"]
    assert drop_replaced(connection, "T") == []
    assert stamps(connection) == {"T": OURS}


def test_a_table_that_was_migrated_is_swapped_later_without_embedding_again(
    connection: dbapi.Connection, embeddings: TogetherAIEmbeddings, engine: ScriptedEngine
) -> None:
    filled(connection, ["first", "second"])
    migrate_table(connection, "T", embedding=embeddings)
    before = sent(engine)
    done = migrate_table(connection, "T", embedding=embeddings, swap=True, keep_old=False)
    assert (done.embedded, done.swapped, done.kept) == (0, True, ())
    assert sent(engine) == before
    assert stamps(connection) == {"T": OURS}


def test_and_back_to_a_model_of_the_database(
    connection: dbapi.Connection, embeddings: TogetherAIEmbeddings, engine: ScriptedEngine
) -> None:
    TogetherHanaDB(connection, embeddings, table_name="T").add_texts(["first", "second", "third"])
    engine.requests.clear()
    done = migrate_table(connection, "T", embedding=f"hana:{SAP}", swap=True, batch_size=2)
    assert (done.embedded, done.vectors, done.width) == (3, 3, 256)
    assert engine.posts == []
    found = TogetherHanaDB(connection, f"hana:{SAP}", table_name="T").similarity_search("second", k=1)
    assert found[0].page_content == "second"


def test_what_does_not_go_along_with_a_swap_is_said(
    connection: dbapi.Connection, embeddings: TogetherAIEmbeddings
) -> None:
    filled(connection, ["first"]).create_hnsw_index(index_name="FAST")
    run(
        connection, 'CREATE TABLE "USES" ("ID" NVARCHAR(255), CONSTRAINT "TO_T" FOREIGN KEY ("ID") REFERENCES "T")'
    )
    run(connection, 'ALTER TABLE "T" ADD CONSTRAINT "SHORT" CHECK (LENGTH("VEC_ID") < 100)')
    run(connection, 'CREATE USER CLERK PASSWORD "Clerk1234567" NO FORCE_FIRST_PASSWORD_CHANGE')
    run(connection, 'GRANT SELECT ON "T" TO CLERK')
    try:
        done = migrate_table(connection, "T", embedding=embeddings, swap=True)
    finally:
        run(connection, "DROP USER CLERK CASCADE")
    assert done.notes == (
        "Indexes stay with the old table; create them for the new one: FAST.",
        "Constraints stay with the old table; create them for the new one: SHORT.",
        "Foreign keys to it stay with the old table; create them for the new one: TO_T.",
        'Privileges stay with the old table; grant them again: GRANT SELECT ON "DBADMIN"."T" TO "CLERK".',
    )


def test_rows_that_come_during_the_swap_are_not_lost(
    local_hana: LocalHana, connection: dbapi.Connection, embeddings: TogetherAIEmbeddings, engine: ScriptedEngine
) -> None:
    store = filled(connection, texts_of(3))
    late = ["late"]

    class Watched(MortalConnection):
        def step(self, sql: str) -> None:
            if sql.startswith("COMMENT ON TABLE") and late:
                store.add_texts([late.pop()], [{}], ids=["late"])

    watched = Watched(local_hana.connect(), 0)
    try:
        with pytest.raises(TogetherAIInputError, match="added or deleted during the swap"):
            migrate_table(watched, "T", embedding=embeddings, swap=True)
        assert stamps(connection) == {"T": SAP, "T_NEW": OURS}
        done = migrate_table(watched, "T", embedding=embeddings, swap=True)
    finally:
        watched.real.close()
    assert (done.rows, done.vectors, done.embedded, done.swapped) == (4, 4, 1, True)
    assert sent(engine) == Counter([*texts_of(3), "late"])


# --- kinds of tables ---


def test_a_table_of_langchain_without_a_key_and_with_columns_of_its_own(
    connection: dbapi.Connection, embeddings: TogetherAIEmbeddings, engine: ScriptedEngine
) -> None:
    run(
        connection,
        'CREATE COLUMN TABLE "T" ("price" DECIMAL(10, 2), "made" TIMESTAMP, "name" NVARCHAR(20) DEFAULT \'x\' '
        'NOT NULL, "VEC_TEXT" NCLOB, "VEC_META" NCLOB, "VEC_VECTOR" HALF_VECTOR(8), "size" INTEGER DEFAULT 3)',
    )
    store = HanaDB(
        connection,
        DeterministicFakeEmbedding(size=8),
        table_name="T",
        specific_metadata_columns=["price", "made", "name"],
        vector_column_type="HALF_VECTOR",
    )
    metadata = {"price": "1.50", "made": "2026-01-02 03:04:05", "name": "n"}
    store.add_texts(["twice", "twice", "once"], [metadata] * 3)
    names = '"price", "made", "name", "VEC_TEXT", "VEC_META", "size"'
    before = sorted(map(repr, rows(connection, f'SELECT {names} FROM "T"')))
    done = migrate_table(connection, "T", embedding=embeddings, swap=True)
    assert (done.rows, done.embedded) == (3, 3)
    assert sorted(map(repr, rows(connection, f'SELECT {names} FROM "T"'))) == before
    assert [info.type for info in list_tables(connection, pattern="T")] == ["HALF_VECTOR"]
    moved = HanaDB(connection, embeddings, table_name="T", vector_column_type="HALF_VECTOR")
    assert moved.similarity_search("once", k=1)[0].page_content == "once"
    run(connection, """INSERT INTO "T" ("VEC_TEXT") VALUES ('with the defaults')""")
    assert rows(connection, """SELECT "name", "size" FROM "T" WHERE "made" IS NULL""") == [("x", 3)]


@pytest.fixture
def context(local_hana: LocalHana, connection: dbapi.Connection) -> Iterator[ConnectionContext]:
    made = ConnectionContext(**local_hana.connection_options(), vectoroutputtype="list")
    yield made
    made.close()


def test_the_toolkits_knowledge_whose_vectors_the_database_generates(
    context: ConnectionContext, embeddings: TogetherAIEmbeddings, engine: ScriptedEngine
) -> None:
    connection = context.connection
    run(
        connection,
        'CREATE COLUMN TABLE "T" ("id" VARCHAR(5000) PRIMARY KEY, "description" VARCHAR(5000), "example" NCLOB, '
        f"\"embeddings\" REAL_VECTOR GENERATED ALWAYS AS VECTOR_EMBEDDING(\"description\", 'DOCUMENT', '{SAP}'))",
    )
    for name in ("rows", "columns"):
        run(
            connection,
            'INSERT INTO "T" ("id", "description", "example") VALUES (?, ?, ?)',
            name,
            f"Count {name}",
            "x",
        )
    with pytest.raises(TogetherAIInputError, match="is generated by the database"):
        TogetherVectorEngine(context, "T", embedding=embeddings)
    done = migrate_table(context, "T", embedding=embeddings, swap=True)
    assert (done.rows, done.vectors, done.kept) == (2, 2, ("T_OLD",))
    assert sent(engine) == Counter(["Count rows", "Count columns"])
    knowledge = TogetherVectorEngine(context, "T", embedding=embeddings)
    knowledge.upsert_knowledge({"id": "rows", "description": "Count all rows", "example": "y"})
    assert knowledge.query("Count all rows") == "y"


def test_rows_without_a_vector_or_a_text_get_none_and_are_counted(
    connection: dbapi.Connection, embeddings: TogetherAIEmbeddings, engine: ScriptedEngine
) -> None:
    run(connection, 'CREATE TABLE "T" ("VEC_TEXT" NVARCHAR(50), "VEC_META" NCLOB, "VEC_VECTOR" REAL_VECTOR(8))')
    vector = packed([0.5] * 8, "REAL_VECTOR")
    none: list[tuple[str, bytes | None]] = [("no vector", None)] * 20
    for text, given in (("usual", vector), *none, ("", vector), (None, vector), (" \n", vector), ("last", vector)):
        run(connection, 'INSERT INTO "T" ("VEC_TEXT", "VEC_VECTOR") VALUES (?, ?)', text, given)
    estimate = estimate_migration(connection, "T", embedding=embeddings)
    assert (estimate.rows, estimate.without_vector, estimate.without_text) == (25, 20, 2)
    done = migrate_table(connection, "T", embedding=embeddings, batch_size=1)
    assert (done.rows, done.vectors, done.embedded) == (25, 2, 2)
    assert sent(engine) == Counter(["usual", "last"])
    there = rows(connection, 'SELECT "VEC_TEXT" FROM "T_NEW" WHERE "VEC_VECTOR" IS NOT NULL ORDER BY 1')
    assert there == [("last",), ("usual",)]


def test_a_table_of_two_models_becomes_one_models(
    connection: dbapi.Connection, embeddings: TogetherAIEmbeddings
) -> None:
    HanaDB(connection, DeterministicFakeEmbedding(size=16), table_name="T").add_texts(["first"])
    HanaDB(connection, DeterministicFakeEmbedding(size=8), table_name="T").add_texts(["second"])
    assert [info.known for info in list_tables(connection)] == ["mixed"]
    migrate_table(connection, "T", embedding=embeddings, swap=True, keep_old=False)
    [info] = list_tables(connection)
    assert (info.known, info.model, info.width, info.vectors) == ("stamp", OURS, 256, 2)
    store = TogetherHanaDB(connection, embeddings, table_name="T")
    assert store.similarity_search("second", k=1)[0].page_content == "second"


def test_an_empty_table_moves_too(connection: dbapi.Connection, embeddings: TogetherAIEmbeddings) -> None:
    run(connection, 'CREATE TABLE "T" ("VEC_TEXT" NVARCHAR(50), "VEC_META" NCLOB, "VEC_VECTOR" REAL_VECTOR(8))')
    done = migrate_table(connection, "T", embedding=embeddings, swap=True)
    assert (done.rows, done.vectors, done.width) == (0, 0, 256)
    assert stamps(connection) == {"T": OURS, "T_OLD": None}


# --- before it begins ---


def test_the_estimate_tells_rows_tokens_and_cost_and_sends_nothing(connection: dbapi.Connection) -> None:
    filled(connection, ["x" * 400, "y" * 403])
    model = LocalModel("m", "embedding", 8192, price_input=20, dimensions=8)
    engine = ScriptedEngine(models=[model])
    with ScriptedTogether(engine) as server:
        embeddings = TogetherAIEmbeddings(model="m", **server.client)
        estimate = estimate_migration(connection, "T", embedding=embeddings)
        assert (estimate.rows, estimate.to_embed, estimate.tokens, estimate.resumed) == (2, 2, 201, False)
        assert estimate.cost_usd == Decimal("0.00402")
        assert engine.posts == []
        assert estimate_migration(connection, "T", embedding=DeterministicFakeEmbedding(size=8)).cost_usd is None
        done = migrate_table(connection, "T", embedding=embeddings)
        assert done.tokens == sum(len(text.split()) for text in sent(engine).elements())
        assert done.cost_usd == Decimal(20) * (done.tokens or 0) / 1_000_000
        after = estimate_migration(connection, "T", embedding=embeddings)
        assert (after.to_embed, after.tokens, after.cost_usd, after.resumed) == (0, 0, 0, True)


# --- refused ---


def test_another_model_cannot_go_on_with_the_new_table(
    connection: dbapi.Connection, embeddings: TogetherAIEmbeddings, engine: ScriptedEngine
) -> None:
    filled(connection, ["good", "bad"])
    engine.on("/v1/embeddings", lambda request: Reply(status=400) if "bad" in request.body["input"] else None)
    with pytest.raises(TogetherAIError):
        migrate_table(connection, "T", embedding=embeddings, batch_size=1)
    engine.reset()
    with pytest.raises(
        TogetherAIInputError, match=r"is being filled with vectors of local/scripted-embedding, but"
    ):
        migrate_table(connection, "T", embedding=DeterministicFakeEmbedding(size=256))
    with pytest.raises(TogetherAIInputError, match="unfinished table of a migration"):
        migrate_table(connection, "T_NEW", embedding=embeddings)
    with pytest.raises(TogetherAIInputError, match="holds vectors of local/scripted-embedding, but Determin"):
        TogetherHanaDB(connection, DeterministicFakeEmbedding(size=256), table_name="T_NEW")
    assert estimate_migration(connection, "T", embedding=embeddings).to_embed == 1
    assert migrate_table(connection, "T", embedding=embeddings).embedded == 1
    assert sent(engine) == Counter(["bad"])


def test_names_that_are_taken_and_columns_that_cannot_be_copied_are_refused_before_anything_is_sent(
    connection: dbapi.Connection, embeddings: TogetherAIEmbeddings, engine: ScriptedEngine
) -> None:
    filled(connection, ["first"])
    filled(connection, ["other"], "T_NEW")
    filled(connection, ["other"], "T_OLD")
    run(connection, 'CREATE TABLE "I" ("N" INTEGER GENERATED BY DEFAULT AS IDENTITY, "VEC_TEXT" NCLOB, '
        '"VEC_VECTOR" REAL_VECTOR(8))')  # fmt: skip
    run(connection, 'CREATE TABLE "P" ("N" INTEGER)')
    for table, options, refused in (
        ("T", {}, r'There is a table "DBADMIN"."T_NEW" already, which is no migration'),
        ("T", {"to": "U", "swap": True}, r'There is a table "DBADMIN"."T_OLD" already, so the old table cannot'),
        ("T", {"to": "T"}, "needs another name"),
        ("T", {"to": 'a"b'}, "no name for a table"),
        ("T", {"batch_size": 0}, "must be 1 or more"),
        ("T", {"vector_column": "NONE"}, "There is no column"),
        ("I", {}, r'"I"."N" is an identity column'),
        ("P", {}, "has no vector column"),
        ("NONE", {}, "There is no table"),
    ):
        with pytest.raises(TogetherAIInputError, match=refused):
            migrate_table(connection, table, embedding=embeddings, **options)  # type: ignore[arg-type]
    assert not engine.posts
    assert set(stamps(connection)) == {"I", "T", "T_NEW", "T_OLD"}


# --- what changes meanwhile ---


def test_what_changed_in_a_table_with_a_key_is_brought_up_to_date(
    connection: dbapi.Connection, embeddings: TogetherAIEmbeddings, engine: ScriptedEngine
) -> None:
    store = filled(connection, texts_of(6))
    migrate_table(connection, "T", embedding=embeddings)
    before = sent(engine)
    store.delete(["id-0"])
    store.add_texts(["changed", "added"], [{"number": 1}, {"number": 9}], ids=["id-1", "id-9"])
    done = migrate_table(connection, "T", embedding=embeddings, swap=True)
    assert (done.embedded, done.vectors) == (2, 6)
    assert sent(engine) - before == Counter(["changed", "added"])
    found = TogetherHanaDB(connection, embeddings, table_name="T").get_by_ids([f"id-{n}" for n in range(10)])
    assert [document.page_content for document in found] == ["changed", *texts_of(6)[2:], "added"]


def test_a_table_without_a_key_that_changed_is_not_swapped(
    connection: dbapi.Connection, embeddings: TogetherAIEmbeddings
) -> None:
    store = HanaDB(connection, HanaInternalEmbeddings(SAP), table_name="T")
    store.add_texts(["first", "second"])
    migrate_table(connection, "T", embedding=embeddings)
    run(connection, """UPDATE "T" SET "VEC_TEXT" = 'changed' WHERE TO_NVARCHAR("VEC_TEXT") = 'first'""")
    with pytest.raises(TogetherAIInputError, match=r"has 2 rows and .* has 2, and they differ.* no primary key"):
        migrate_table(connection, "T", embedding=embeddings, swap=True)
    assert stamps(connection) == {"T": None, "T_NEW": OURS}
