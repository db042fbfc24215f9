"""A table belongs to the model that wrote it: every door, and every state in which a table may be found."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from hdbcli import dbapi
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from hana_ai.api import routing
from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIInputError, TogetherAIInvalidRequestError
from hana_ai.api.hana import stamp_table
from hana_ai.api.hana.vector_column import packed
from hana_ai.api.hana.vector_store import TogetherHanaDB
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import Reply, ScriptedEngine
from tests.conftest import ScriptedTogether
from tests.integration.hana.conftest import Make, rows

pytestmark = pytest.mark.filterwarnings("ignore")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from hana_ml.dataframe import ConnectionContext

    from hana_ai.api.hana.vector_engine import TogetherVectorEngine

OURS = "local/scripted-embedding"
SAP = "SAP_NEB.20240715"
THERE = ["The mill stands by the river.", "Trains are late in winter.", "Invoices are paid within thirty days."]
NEW = "Bees sleep in the hive."


# --- the doors ---


class Door(Protocol):
    """Writes to a table and searches it."""

    def write(self, text: str) -> object:
        """Write a row with this text."""

    def search(self, text: str) -> list[str]:
        """The closest text."""


@dataclass(frozen=True)
class Layout:
    """The columns that a door expects."""

    key: str
    text: str
    vector: str
    other: str

    def create(self, connection: dbapi.Connection, vector: str) -> None:
        run(
            connection,
            f'CREATE COLUMN TABLE "T" ({self.key}"{self.text}" NVARCHAR(5000), {self.other}, '
            f'"{self.vector}" {vector})',
        )


LANGCHAIN = Layout("", "VEC_TEXT", "VEC_VECTOR", "\"VEC_META\" NCLOB DEFAULT '{}'")
KNOWLEDGE = Layout(
    '"id" NVARCHAR(5000) DEFAULT SYSUUID PRIMARY KEY, ', "description", "embeddings", '"example" NCLOB'
)


class StoreDoor:
    layout = LANGCHAIN

    def __init__(self, context: ConnectionContext, embeddings: Embeddings) -> None:
        self.store = TogetherHanaDB(context.connection, embeddings, table_name="T")

    def write(self, text: str) -> object:
        return self.store.add_texts([text])

    def search(self, text: str) -> list[str]:
        return [found.page_content for found in self.store.similarity_search(text, k=1)]


class EngineDoor:
    layout = KNOWLEDGE

    def __init__(self, context: ConnectionContext, embeddings: Embeddings) -> None:
        self.engine = TogetherVectorEngine(context, "T", embedding=embeddings)

    def write(self, text: str) -> object:
        return self.engine.upsert_knowledge({"id": text, "description": text, "example": text})

    def search(self, text: str) -> list[str]:
        found = self.engine.query(text)
        return [] if found is None else [found]


class MemoryDoor:
    layout = LANGCHAIN

    def __init__(self, context: ConnectionContext, embeddings: Embeddings) -> None:
        module = importlib.import_module("hana_ai.mem0.hana_mem0_adapter")
        self.memory: Any = module.Mem0HanaAdapter(context, "T", reranker=False)

    def write(self, text: str) -> object:
        return self.memory.add([{"text": text}])

    def search(self, text: str) -> list[str]:
        return [found.text for found in self.memory.search(text, top_k=1, rerank=False)]


DOORS: dict[str, Any] = {"store": StoreDoor, "engine": EngineDoor, "memory": MemoryDoor}


# --- the states of a table ---


def run(connection: dbapi.Connection, sql: str, *parameters: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)


def columns(layout: Layout) -> str:
    example = ', "example"' if layout is KNOWLEDGE else ""
    return f'"{layout.text}"{example}'


def values(layout: Layout, text: str) -> list[object]:
    return [text, text] if layout is KNOWLEDGE else [text]


def new(connection: dbapi.Connection, layout: Layout, made: Embeddings) -> None:
    pass


def empty(connection: dbapi.Connection, layout: Layout, made: Embeddings) -> None:
    layout.create(connection, "REAL_VECTOR(256)")


def written(connection: dbapi.Connection, layout: Layout, made: Embeddings) -> None:
    layout.create(connection, "REAL_VECTOR")
    for text, vector in zip(THERE, made.embed_documents(THERE), strict=True):
        given = values(layout, text)
        run(
            connection,
            f'INSERT INTO "T" ({columns(layout)}, "{layout.vector}") VALUES ({"?, " * len(given)}?)',
            *given,
            packed(vector, "REAL_VECTOR"),
        )


def stamped(model: str) -> Callable[[dbapi.Connection, Layout, Embeddings], None]:
    def make(connection: dbapi.Connection, layout: Layout, made: Embeddings) -> None:
        written(connection, layout, made)
        stamp_table(connection, "T", model, vector_column=layout.vector)

    return make


def generated(connection: dbapi.Connection, layout: Layout, made: Embeddings) -> None:
    layout.create(
        connection, f"REAL_VECTOR GENERATED ALWAYS AS VECTOR_EMBEDDING(\"{layout.text}\", 'DOCUMENT', '{SAP}')"
    )
    for text in THERE:
        given = values(layout, text)
        run(connection, f'INSERT INTO "T" ({columns(layout)}) VALUES ({", ".join("?" * len(given))})', *given)


def of_sap(purpose: str) -> Callable[[dbapi.Connection, Layout, Embeddings], None]:
    def make(connection: dbapi.Connection, layout: Layout, made: Embeddings) -> None:
        layout.create(connection, "REAL_VECTOR")
        for text in THERE:
            given = values(layout, text)
            run(
                connection,
                f'INSERT INTO "T" ({columns(layout)}, "{layout.vector}") '
                f"VALUES ({'?, ' * len(given)}VECTOR_EMBEDDING(?, '{purpose}', ?))",
                *given,
                text,
                SAP,
            )

    return make


def unknown(connection: dbapi.Connection, layout: Layout, made: Embeddings) -> None:
    written(connection, layout, DeterministicFakeEmbedding(size=256))


def of_two_widths(connection: dbapi.Connection, layout: Layout, made: Embeddings) -> None:
    of_sap("DOCUMENT")(connection, layout, made)
    given = values(layout, "mixed in")
    run(
        connection,
        f'INSERT INTO "T" ({columns(layout)}, "{layout.vector}") VALUES ({"?, " * len(given)}?)',
        *given,
        packed([0.5] * 8, "REAL_VECTOR"),
    )


BY_SAP = rf"holds vectors of {SAP}, but {OURS} would embed now.*embedding=\"hana\""
UNKNOWN = rf"holds vectors in 3 rows, .*{SAP} made none of them; SAP_GXY\.\d+ made none of them.*stamp_table"
STATES: dict[str, tuple[Any, int, str | None, str | None]] = {
    # the state, the width of the door's model, the error if it is refused, the stamp that is left
    "new": (new, 256, None, OURS),
    "empty": (empty, 256, None, OURS),
    "ours": (stamped(OURS), 256, None, OURS),
    "another Together model's": (stamped("another/model"), 256, "holds vectors of another/model", "another/model"),
    "generated": (generated, 256, r"is generated by the database \(VECTOR_EMBEDDING", None),
    "SAP's documents": (of_sap("DOCUMENT"), 256, BY_SAP, SAP),
    "SAP's queries": (of_sap("QUERY"), 256, BY_SAP, SAP),
    "SAP's of another width": (of_sap("DOCUMENT"), 128, BY_SAP, SAP),
    "unknown": (unknown, 256, UNKNOWN, None),
    "unknown of another width": (unknown, 128, UNKNOWN, None),
    "of two widths": (of_two_widths, 256, "vectors of 8 to 256 numbers in 4 rows", None),
}


@pytest.fixture
def context(local_hana: LocalHana, connection: dbapi.Connection) -> Iterator[ConnectionContext]:
    made = ConnectionContext(**local_hana.connection_options(), vectoroutputtype="list")
    yield made
    made.close()


@pytest.fixture
def routed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
    assert routing.activate()
    yield
    routing.deactivate()


def stored(connection: dbapi.Connection, layout: Layout) -> list[tuple[Any, ...]]:
    return rows(connection, f'SELECT "{layout.text}", TO_NVARCHAR("{layout.vector}") FROM "T" ORDER BY 1')


def stamp(connection: dbapi.Connection, vector: str = "VEC_VECTOR", table: str = "T") -> str | None:
    found = rows(
        connection,
        "SELECT COMMENTS FROM SYS.TABLE_COLUMNS "
        "WHERE SCHEMA_NAME = CURRENT_SCHEMA AND TABLE_NAME = ? AND COLUMN_NAME = ?",
        table,
        vector,
    )
    comment: str | None = found[0][0]
    return comment and comment.removeprefix("[embedding model: ").removesuffix("]")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("door", DOORS)
def test_the_right_rows_come_back_or_the_right_error(
    door: str,
    state: str,
    context: ConnectionContext,
    connection: dbapi.Connection,
    routed: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make, width, refused, left = STATES[state]
    layout = DOORS[door].layout
    with ScriptedTogether(ScriptedEngine(dimensions=width)) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        embeddings = TogetherAIEmbeddings(model=OURS)
        make(connection, layout, embeddings)
        server.engine.requests.clear()

        def use() -> list[list[str]]:
            opened: Door = DOORS[door](context, embeddings)
            opened.write(NEW)
            return [opened.search(text) for text in (NEW, THERE[0])]

        if refused is not None:
            before = stored(connection, layout)
            for _ in range(2):
                with pytest.raises(TogetherAIInputError, match=refused):
                    use()
            assert stored(connection, layout) == before
            assert not server.engine.posts, "nothing was sent to be embedded"
        else:
            found = use()
            assert found == [[NEW], [THERE[0]]] if state == "ours" else found[0] == [NEW]
            sizes = rows(connection, f'SELECT DISTINCT CARDINALITY("{layout.vector}") FROM "T"')
            assert sizes == [(256,)]
    assert stamp(connection, layout.vector) == left


@pytest.mark.parametrize("by", ["SAP", "unknown", "another Together model's"])
@pytest.mark.parametrize("door", DOORS)
def test_a_table_that_somebody_else_filled_after_it_was_opened_is_refused(
    door: str,
    by: str,
    context: ConnectionContext,
    connection: dbapi.Connection,
    together_environment: ScriptedTogether,
    routed: None,
) -> None:
    layout = DOORS[door].layout
    embeddings = TogetherAIEmbeddings(model=OURS)
    layout.create(connection, "REAL_VECTOR(256)")
    opened: Door = DOORS[door](context, embeddings)
    run(connection, 'DROP TABLE "T"')
    key = {"SAP": "SAP's documents"}.get(by, by)
    make, _, refused, left = STATES[key]
    make(connection, layout, embeddings)
    before = stored(connection, layout)
    with pytest.raises(TogetherAIInputError, match=refused):
        opened.search(THERE[0])
    with pytest.raises(TogetherAIInputError, match=refused):
        opened.write(NEW)
    assert stored(connection, layout) == before
    assert stamp(connection, layout.vector) == left


def test_a_table_that_changed_hands_after_the_first_write_is_not_written_again(
    make: Make, connection: dbapi.Connection
) -> None:
    store = make()
    store.add_texts(["first"])
    run(connection, 'DROP TABLE "STORE"')
    make(embedding=DeterministicFakeEmbedding(size=256)).add_texts(["theirs"])
    with pytest.raises(TogetherAIInputError, match="holds vectors of DeterministicFakeEmbedding"):
        store.add_texts(["mixed in"])
    assert rows(connection, 'SELECT TO_NVARCHAR("VEC_TEXT") FROM "STORE"') == [("theirs",)]


def test_a_first_write_that_fails_leaves_no_stamp(
    make: Make, connection: dbapi.Connection, engine: ScriptedEngine
) -> None:
    run(
        connection,
        'CREATE TABLE "STORE" ("VEC_TEXT" NVARCHAR(4), "VEC_META" NCLOB, "VEC_VECTOR" REAL_VECTOR(256))',
    )
    store = make()
    engine.on("/v1/embeddings", lambda request: Reply(status=400) if "bad" in request.body["input"] else None)
    with pytest.raises(TogetherAIInvalidRequestError):
        store.add_texts(["bad"])
    with pytest.raises(dbapi.Error):
        store.add_texts(["good", "too long"])
    assert stamp(connection, table="STORE") is None
    store.add_texts(["good"])
    assert stamp(connection, table="STORE") == OURS


def test_saps_model_goes_on_with_its_own_table_and_what_was_found_is_logged_once(
    connection: dbapi.Connection, together_environment: ScriptedTogether, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hana_ai.api.hana")
    of_sap("DOCUMENT")(connection, LANGCHAIN, DeterministicFakeEmbedding(size=256))
    for _ in range(2):
        store = TogetherHanaDB(connection, "hana", table_name="T")
        assert store.similarity_search("Where is the mill?", k=1)[0].page_content == THERE[0]
    store.add_texts([NEW])
    assert store.similarity_search(NEW, k=1)[0].page_content == NEW
    assert stamp(connection) == SAP
    assert [record.message for record in caplog.records if record.levelno == logging.INFO] == [
        f'"T"."VEC_VECTOR" holds vectors of {SAP}, which makes the same of its texts.'
    ]
    assert together_environment.engine.posts == []


def test_an_agents_memory_of_saps_goes_on_where_embeddings_are_not_routed(
    context: ConnectionContext,
    connection: dbapi.Connection,
    together_environment: ScriptedTogether,
    routed: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_sap("QUERY")(connection, LANGCHAIN, DeterministicFakeEmbedding(size=256))
    monkeypatch.setenv("TOGETHER_ROUTE_EMBEDDINGS", "off")
    memory = MemoryDoor(context, DeterministicFakeEmbedding(size=256))
    memory.write(NEW)
    assert memory.search(NEW) == [NEW]
    assert memory.search(THERE[1]) == [THERE[1]]
    assert stamp(connection) == SAP
    monkeypatch.setenv("TOGETHER_ROUTE_EMBEDDINGS", "all")
    for use in (memory.search, memory.write):
        with pytest.raises(TogetherAIInputError, match=BY_SAP):
            use("switched in between")
    assert len(stored(connection, LANGCHAIN)) == len(THERE) + 1


def test_what_the_database_generates_may_be_searched_with_its_model_but_not_written(
    connection: dbapi.Connection,
) -> None:
    generated(connection, LANGCHAIN, DeterministicFakeEmbedding(size=256))
    store = TogetherHanaDB(connection, f"hana:{SAP}", table_name="T")
    assert store.similarity_search("Where is the mill?", k=1)[0].page_content == THERE[0]
    before = stored(connection, LANGCHAIN)
    with pytest.raises(TogetherAIInputError, match=r"is generated by the database .* no vector can be written"):
        store.add_texts([NEW])
    with pytest.raises(TogetherAIInputError, match="is generated by the database"):
        stamp_table(connection, "T", SAP)
    assert stored(connection, LANGCHAIN) == before
    assert stamp(connection) is None


def test_half_vectors_are_recognized_too(make: Make, connection: dbapi.Connection) -> None:
    TogetherHanaDB(connection, "hana", table_name="STORE", vector_column_type="HALF_VECTOR").add_texts(THERE)
    run(connection, """COMMENT ON COLUMN "STORE"."VEC_VECTOR" IS 'Ann''s'""")
    with pytest.raises(TogetherAIInputError, match=BY_SAP):
        make(vector_column_type="HALF_VECTOR")
    assert stamp(connection, table="STORE") == f"Ann's [embedding model: {SAP}"


def test_who_may_not_stamp_the_table_goes_on_writing_and_is_told_once(
    local_hana: LocalHana,
    connection: dbapi.Connection,
    embeddings: TogetherAIEmbeddings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    LANGCHAIN.create(connection, "REAL_VECTOR(256)")
    run(connection, 'CREATE USER CLERK PASSWORD "Clerk1234567" NO FORCE_FIRST_PASSWORD_CHANGE')
    run(connection, 'GRANT SELECT, INSERT ON "DBADMIN"."T" TO CLERK')
    clerk = local_hana.connect(user="CLERK", password="Clerk1234567")
    try:
        store = TogetherHanaDB(clerk, embeddings, table_name="T", schema_name="DBADMIN", batch_size=1)
        store.add_texts(THERE)
        assert store.similarity_search(THERE[0], k=1)[0].page_content == THERE[0]
    finally:
        clerk.close()
        run(connection, "DROP USER CLERK CASCADE")
    [said] = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert "cannot be recorded" in said
    assert f"stamp_table with the model {OURS}" in said


def test_a_person_names_the_model(
    make: Make,
    context: ConnectionContext,
    connection: dbapi.Connection,
    embeddings: TogetherAIEmbeddings,
) -> None:
    written(connection, LANGCHAIN, embeddings)
    with pytest.raises(TogetherAIInputError, match=UNKNOWN):
        make(table_name="T")
    stamp_table(context, "T", OURS, schema="DBADMIN")
    stamp_table(connection, "T", OURS)
    store = make(table_name="T")
    assert store.similarity_search(THERE[0], k=1)[0].page_content == THERE[0]
    with pytest.raises(
        TogetherAIInputError, match=r"is stamped with local/scripted-embedding.*replace_stamp=True"
    ):
        stamp_table(connection, "T", "another/model")
    assert stamp(connection) == OURS
    stamp_table(connection, "T", "another/model", replace_stamp=True)
    assert stamp(connection) == "another/model"
    for wrong in ({"table": "NONE", "model": OURS}, {"table": "T", "model": OURS, "vector_column": "NONE"}):
        with pytest.raises(TogetherAIInputError, match="There is no column"):
            stamp_table(connection, **wrong)
    with pytest.raises(TogetherAIInputError, match="must be the name"):
        stamp_table(connection, "T", " ")
