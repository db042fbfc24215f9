"""The guard of the vector tables where nothing is routed: how it comes about, what it refuses and leaves alone.

The doors and the states of a table are in tests/integration/hana/test_doors.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hdbcli import dbapi
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_hana import HanaDB, HanaInternalEmbeddings

from hana_ai.api import routing
from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana import stamp_table
from tests.conftest import ScriptedTogether
from tests.integration.hana.conftest import run
from tests.integration.hana.states import LANGCHAIN, OURS, SAP, THERE, empty, of_sap, stamp, stamped, unknown


class Somebodys(DeterministicFakeEmbedding):
    """Gives numbers of Python's, which langchain_hana writes into its statement."""

    def embed_query(self, text: str) -> list[float]:
        return [float(number) for number in super().embed_query(text)]


GUARDED = """
import json, sys
import hana_ai.api.auto
from hana_ai.api import routing

class Others:
    # Of somebody else: it comes first, and finds nothing.
    find_spec = staticmethod(lambda *names: None)

sys.meta_path.insert(0, Others)
heavy = [name for name in ("pydantic", "langchain_core") if name in sys.modules]
from langchain_hana import HanaDB
again = HanaDB.add_texts
states = {seam.name: seam.state for seam in routing.status().seams}
routing.deactivate()
print(json.dumps([heavy, states["HanaDB"], states["HANAVectorEmbeddings"], HanaDB.add_texts is again]))
"""


@pytest.mark.parametrize(("value", "state", "same"), [("true", "guards", False), ("false", "off", True)])
def test_a_program_that_imports_a_store_afterwards_is_guarded(value: str, state: str, same: bool) -> None:
    environment = {**os.environ, "ENABLE_TOGETHER_AI": "false", "TOGETHER_GUARD_TABLES": value}
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", GUARDED],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert json.loads(said.stdout) == [[], state, "off", same]


@pytest.fixture
def ours(together_environment: ScriptedTogether) -> TogetherAIEmbeddings:
    return TogetherAIEmbeddings(model=OURS)


@pytest.fixture(autouse=True)
def guarded() -> Iterator[None]:
    assert not routing.activate()
    yield
    routing.deactivate()


def test_a_refusal_says_that_nothing_is_routed_and_nothing_is_embedded(
    connection: dbapi.Connection, ours: TogetherAIEmbeddings, together: ScriptedTogether
) -> None:
    stamped(OURS)(connection, LANGCHAIN, ours)
    together.engine.requests.clear()
    store = HanaDB(connection, HanaInternalEmbeddings(SAP), table_name="T")
    for use in (lambda: store.add_texts(["new"]), lambda: store.similarity_search("mill")):
        with pytest.raises(
            TogetherAIInputError, match=r"(?s)holds vectors of .*ENABLE_TOGETHER_AI=true.*GUARD_TABLES"
        ):
            use()
    assert not together.engine.requests


def test_sap_writes_its_own_tables_as_before_and_leaves_no_stamp(
    connection: dbapi.Connection, ours: TogetherAIEmbeddings
) -> None:
    empty(connection, LANGCHAIN, ours)
    stores = [HanaDB(connection, HanaInternalEmbeddings(SAP), table_name="T") for _ in range(2)]
    for number, store in enumerate(stores):
        store.add_texts([f"row {number}", "another"])
        store.add_texts([f"more {number}"])
        assert store.similarity_search(f"more {number}", k=1)[0].page_content == f"more {number}"
    assert stamp(connection) is None
    with pytest.raises(TogetherAIInputError, match=SAP):
        HanaDB(connection, ours, table_name="T").add_texts(["ours"])


def test_togethers_embeddings_stamp_the_table_that_they_write(
    connection: dbapi.Connection, ours: TogetherAIEmbeddings
) -> None:
    empty(connection, LANGCHAIN, ours)
    run(connection, 'DROP TABLE "T"')
    HanaDB(connection, ours, table_name="T").add_texts(THERE)
    assert stamp(connection) == OURS


def test_somebody_elses_embeddings_are_refused_only_where_another_model_is_recorded(
    connection: dbapi.Connection, ours: TogetherAIEmbeddings
) -> None:
    fake = Somebodys(size=256)
    unknown(connection, LANGCHAIN, ours)
    store = HanaDB(connection, fake, table_name="T")
    store.add_texts(["new"])
    assert store.similarity_search(THERE[0], k=1)[0].page_content == THERE[0]
    assert stamp(connection) is None
    stamp_table(connection, "T", OURS)
    with pytest.raises(TogetherAIInputError, match="holds vectors of"):
        HanaDB(connection, fake, table_name="T").similarity_search(THERE[0])


def test_a_store_that_was_opened_under_the_guard_is_routed_later(
    connection: dbapi.Connection, ours: TogetherAIEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_sap("DOCUMENT")(connection, LANGCHAIN, ours)
    store = HanaDB(connection, ours, table_name="T")
    with pytest.raises(TogetherAIInputError, match="TOGETHER_GUARD_TABLES"):
        store.add_texts(["new"])
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
    assert routing.activate()
    with pytest.raises(TogetherAIInputError, match=SAP) as refused:
        store.add_texts(["new"])
    assert "TOGETHER_GUARD_TABLES" not in str(refused.value)
    assert stamp(connection) == SAP
