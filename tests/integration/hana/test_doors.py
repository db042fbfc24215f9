"""Every door to a vector table, every state of the table, routed, not routed, and switched in between.

The right rows come back or the right error does, no table holds vectors of two models, and no stamp is false.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hdbcli import dbapi
from langchain_core.embeddings import Embeddings
from langchain_hana import HanaDB

from hana_ai.api import routing
from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import LocalModel, ScriptedEngine
from tests.board import DOORS as BOARD
from tests.conftest import ScriptedTogether, export
from tests.integration.hana.conftest import rows, run
from tests.integration.hana.doors import (
    DOORS,
    Door,
    Opened,
    imported,
)
from tests.integration.hana.states import (
    KNOWLEDGE,
    LANGCHAIN,
    NEW,
    OURS,
    SAP,
    THERE,
    Layout,
    empty,
    generated,
    new,
    of_sap,
    of_two_models,
    of_two_widths,
    stamp,
    stamped,
    stored,
    unknown,
)

pytestmark = pytest.mark.filterwarnings("ignore")

ANOTHER = "another/model"
NOBODY = "nobody who could be asked"


@dataclass(frozen=True)
class State:
    """A table as it is found.

    Attributes
    ----------
    owner
        The model that wrote it; None if it has no rows.
    width
        Of the vectors that Together's model makes; SAP's are of 256 numbers.
    """

    make: Callable[[dbapi.Connection, Layout, Embeddings], None]
    owner: str | None
    width: int = 256


STATES = {
    "new": State(new, None),
    "new, of another width": State(new, None, 128),
    "empty": State(empty, None),
    "ours": State(stamped(OURS), OURS),
    "ours, of another width": State(stamped(OURS), OURS, 128),
    "another Together model's": State(stamped(ANOTHER), ANOTHER),
    "SAP's, generated": State(generated, SAP),
    "SAP's, generated, of another width": State(generated, SAP, 128),
    "SAP's documents": State(of_sap("DOCUMENT"), SAP),
    "SAP's queries": State(of_sap("QUERY"), SAP),
    "SAP's, of another width": State(of_sap("DOCUMENT"), SAP, 128),
    "unknown": State(unknown, NOBODY),
    "unknown, of another width": State(unknown, NOBODY, 128),
    "mixed, of one width": State(of_two_models, NOBODY),
    "mixed, of two widths": State(of_two_widths, NOBODY),
}
MODES = {
    "routed": (True, True),
    "not routed": (False, False),
    "switched on": (False, True),
    "switched off": (True, False),
}


def switch(on: bool) -> None:
    """Switch as a program does that imports `hana_ai.api.auto`."""
    routing.deactivate()
    os.environ["ENABLE_TOGETHER_AI"] = str(on)
    assert routing.activate() is on


@pytest.fixture
def switched(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
    switch(True)
    # They import langchain_community's HanaDB, which is there only while the toolkit is routed.
    for name in ("hana_ai.mem0.hana_mem0_adapter", "hana_ai.agents.hanaml_rag_agent"):
        importlib.import_module(name)
    yield
    routing.deactivate()


def makers(connection: dbapi.Connection, layout: Layout, ours: Embeddings) -> set[str]:
    """Whose vectors a table holds: compared with what each model makes of the texts."""
    found = set()
    by_sap = ", ".join(
        f"TO_NVARCHAR(VECTOR_EMBEDDING(\"{layout.text}\", '{purpose}', '{SAP}'))"
        for purpose in ("DOCUMENT", "QUERY")
    )
    for vector, text, *saps in rows(
        connection, f'SELECT TO_NVARCHAR("{layout.vector}"), "{layout.text}", {by_sap} FROM "T"'
    ):
        if vector in saps:
            found.add(SAP)
        else:
            numbers = [float(number) for number in vector.strip("[]").split(",")]
            same = numbers == pytest.approx(ours.embed_query(text), abs=1e-6)
            found.add("Together's" if same else "somebody's")
    return found


def expected(door: Door, state: State, mode: str) -> str:
    """The model that goes on, `refused`, or `no vectors` where the toolkit's engine would write none."""
    opened, used = MODES[mode]
    if door.keeps == "Together":
        return OURS if state.owner in (None, OURS) else "refused"
    if door.keeps == "SAP":
        return SAP if state.owner in (None, SAP) else "refused"
    if not opened and not used:
        if state.owner not in (None, SAP):
            return "refused"
        if door.layout is KNOWLEDGE and state.make not in (new, generated):
            return "no vectors"
        return SAP
    if state.owner == NOBODY:
        return "refused"
    if state.owner is None and not opened and door.layout is KNOWLEDGE and state.make is new:
        # Made by the toolkit before it was routed.
        return SAP
    return state.owner or OURS


class Room:
    """A door, a database, and a Together server whose model makes vectors of a width."""

    def __init__(self, door: Door, context: Any, connection: dbapi.Connection, server: ScriptedTogether) -> None:
        self.door = door
        self.layout = door.layout
        self.context = context
        self.connection = connection
        self.server = server
        self.ours = TogetherAIEmbeddings(model=OURS, **server.client)

    def open(self, mode: str) -> Opened:
        """Go through the door, with the routing switched as it is to be then and afterwards."""
        opened_on, used_on = MODES[mode]
        switch(opened_on)
        opened = self.door.open(self.context)
        switch(used_on)
        return opened

    def try_state(self, state: State, mode: str) -> str:
        """Make a table, use it, and check what came of it; a letter for it."""
        with contextlib.suppress(dbapi.Error):
            run(self.connection, 'DROP TABLE "T"')
        state.make(self.connection, self.layout, self.ours)
        before = self.stored() if state.make is not new else []
        self.server.engine.requests.clear()
        outcome = expected(self.door, state, mode)
        if not MODES[mode][0] and self.door is DOORS["HanaDB, GenAIHubEmbeddings"]:
            # SAP's own SDK, which nobody has told where its AI Core is.
            with pytest.raises(Exception, match=r"(?i)AICORE|credential|auth|config"):
                self.open(mode)
            assert state.make is new or self.stored() == before
            return "c"
        if outcome == "no vectors":
            self.write_no_vectors(state, mode, before)
            return "n"
        if outcome == "refused":
            self.be_refused(mode, before)
            assert stamp(self.connection, self.layout.vector) in (None, state.owner)
            return "r"
        self.go_on(state, mode, outcome, before)
        return "S" if outcome == SAP else "T"

    def stored(self) -> list[tuple[Any, ...]]:
        """The rows."""
        return stored(self.connection, self.layout)

    def write_no_vectors(self, state: State, mode: str, before: object) -> None:
        """Search what SAP's model wrote; the toolkit's engine leaves a new row's vector empty, or fails."""
        opened = self.open(mode)
        if state.owner is not None:
            assert opened.search(THERE[0]) == [THERE[0]]
        with contextlib.suppress(dbapi.Error, AttributeError):
            opened.write(NEW)
        with_vectors = f'SELECT COUNT("{self.layout.vector}") FROM "T"'
        assert rows(self.connection, with_vectors) == [(len(THERE) if state.owner is not None else 0,)]
        assert stamp(self.connection, self.layout.vector) is None
        assert self.server.engine.posts == []

    def be_refused(self, mode: str, before: object) -> None:
        """Get an error, at the door or later, and nothing sent or changed."""
        for _ in range(2):
            with pytest.raises(TogetherAIInputError):
                self.open(mode).write(NEW)
            with pytest.raises(TogetherAIInputError):
                self.open(mode).search(NEW)
        assert self.stored() == before
        assert not self.server.engine.posts, "nothing was sent to be embedded"

    def go_on(self, state: State, mode: str, model: str, before: object) -> None:
        """Write and search, with the right model alone."""
        opened = self.open(mode)
        if state.make is generated and self.layout is LANGCHAIN:
            with pytest.raises((TogetherAIInputError, dbapi.Error), match=r"generated|GENERATED"):
                opened.write(NEW)
            assert self.stored() == before
        else:
            opened.write(NEW)
            assert opened.search(NEW) == [NEW]
        if state.owner is not None:
            assert opened.search(THERE[0]) == [THERE[0]]
        asked = {post.body["model"] for post in self.server.engine.posts}
        assert asked == (set() if model == SAP else {model})
        assert makers(self.connection, self.layout, self.ours) == {SAP if model == SAP else "Together's"}
        left = stamp(self.connection, self.layout.vector)
        if MODES[mode] == (True, True):
            assert left == (None if state.make is generated else model)
        elif MODES[mode] == (False, False) and model == SAP:
            assert left is None
        else:
            assert left in (None, model)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[int, ScriptedTogether]]:
    """Together servers by the width of their models' vectors."""
    with contextlib.ExitStack() as running:
        yield {
            width: running.enter_context(
                ScriptedTogether(
                    ScriptedEngine(
                        models=[
                            LocalModel(OURS, "embedding", 8192, dimensions=width),
                            LocalModel(ANOTHER, "embedding", 8192, dimensions=width),
                            LocalModel(ScriptedEngine.CHAT, "chat", 8192),
                        ]
                    )
                )
            )
            for width in (256, 128)
        }


def sample() -> dict[tuple[str, str], list[str]]:
    """States by door and mode: every two of door, state and mode meet, and every kind of outcome comes about."""
    modes = list(MODES)
    taken = [
        (door, modes[(row + column) % len(modes)], state)
        for row, door in enumerate(DOORS)
        for column, state in enumerate(STATES)
    ]
    seen = {kind(*cell) for cell in taken}
    for cell in itertools.product(DOORS, MODES, STATES):
        if kind(*cell) not in seen:
            seen.add(kind(*cell))
            taken.append(cell)
    found: dict[tuple[str, str], list[str]] = {}
    for door, mode, state in taken:
        found.setdefault((door, mode), []).append(state)
    return found


def kind(door: str, mode: str, state: str) -> tuple[object, ...]:
    """What tells an outcome from others: whose model the door keeps, the layout, the mode and what comes of it."""
    way = DOORS[door]
    return way.keeps, way.layout, way.always, mode, expected(way, STATES[state], mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("states", [pytest.param("all", marks=pytest.mark.slow), "sample"])
def test_a_table_goes_on_with_the_model_that_wrote_it(
    states: str,
    door: str,
    mode: str,
    context: Any,
    connection: dbapi.Connection,
    servers: dict[int, ScriptedTogether],
    switched: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = {}
    for name in STATES if states == "all" else sample()[door, mode]:
        state = STATES[name]
        server = servers[state.width]
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setenv("TOGETHER_DEFAULT_EMBEDDING_MODEL", OURS)
        try:
            mark = Room(DOORS[door], context, connection, server).try_state(state, mode)
        except (Exception, pytest.fail.Exception) as exc:  # noqa: BLE001 - raised with the others'
            mark, wrong[name] = "X", exc
        BOARD.note(f"{name}, {mode}", door, mark)
    if wrong:
        raise ExceptionGroup(f"{door}, {mode}: {', '.join(wrong)}", list(wrong.values()))


@pytest.fixture
def asks_ours(routed: None, servers: dict[int, ScriptedTogether], monkeypatch: pytest.MonkeyPatch) -> None:
    """The toolkit routed to the server whose vectors are as wide as SAP's."""
    export(monkeypatch, servers[256].environment())


@pytest.mark.parametrize("state", ["new", "SAP's, generated"])
@pytest.mark.parametrize("own_class", [False, True], ids=["the toolkit's", "a subclass"])
def test_a_question_is_no_sql(
    state: str, own_class: bool, context: Any, connection: dbapi.Connection, asks_ours: None
) -> None:
    run(connection, 'CREATE TABLE "SECRETS" ("S" NVARCHAR(100))')
    run(connection, """INSERT INTO "SECRETS" VALUES ('the secret')""")
    STATES[state].make(connection, KNOWLEDGE, TogetherAIEmbeddings(model=OURS))
    engine = imported("HANAMLinVectorEngine")
    owner: Any = type("Mine", (engine,), {}) if own_class else engine
    engine = owner(context, "T")
    if state == "new" and not own_class:
        engine.upsert_knowledge({"id": ["1"], "description": [NEW], "example": ["one"]})
    elif state == "new":
        run(connection, f'INSERT INTO "T" ("id", "description", "example") VALUES (\'1\', \'{NEW}\', \'one\')')
    allowed = {"one", *THERE}
    for question in (
        "What's the motor's warranty?",
        "x', 'QUERY', 'SAP_NEB.20240715'))), (SELECT \"S\" FROM \"SECRETS\") --",
        '\') UNION ALL SELECT "S", 1, \'m\' FROM "SECRETS" --',
        '";DROP TABLE "SECRETS',
        "",
        "?",
        "\u00e4\U0001f41d\\'",
    ):
        assert engine.query(question) in allowed
    assert rows(connection, 'SELECT "S" FROM "SECRETS"') == [("the secret",)]


@pytest.mark.parametrize("layout", ["HanaDB", "knowledge"])
def test_of_many_first_writers_one_is_the_first(
    layout: str, local_hana: LocalHana, connection: dbapi.Connection, asks_ours: None
) -> None:
    kind = LANGCHAIN if layout == "HanaDB" else KNOWLEDGE
    empty(connection, kind, TogetherAIEmbeddings(model=OURS))
    ready = threading.Barrier(6)

    def write(number: int) -> str:
        model = (OURS, ANOTHER)[number % 2]
        embeddings = TogetherAIEmbeddings(model=model)
        if layout == "HanaDB":
            own = local_hana.connect()
            store: Any = HanaDB(own, embeddings, table_name="T")
            insert = partial(store.add_texts, [f"{model} {number}"])
        else:
            context = imported("ConnectionContext")(**local_hana.connection_options())
            own = context.connection
            store = imported("TogetherVectorEngine")(context, "T", embedding=embeddings)
            text = f"{model} {number}"
            insert = partial(store.upsert_knowledge, {"id": text, "description": text, "example": ""})
        ready.wait()
        try:
            insert()
        except TogetherAIInputError as exc:
            assert "holds vectors of" in str(exc)
            return ""
        finally:
            own.close()
        return model

    with ThreadPoolExecutor(6) as threads:
        wrote = [model for model in threads.map(write, range(6)) if model]
    assert len(wrote) == 3
    assert len(set(wrote)) == 1
    assert stamp(connection, kind.vector) == wrote[0]
    assert {text[:-2] for text, _ in stored(connection, kind)} == set(wrote)
