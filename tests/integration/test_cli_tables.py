"""`hana-ai-together tables` and what `doctor` says of vector tables."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hdbcli import dbapi
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_hana import HanaDB

from hana_ai.api.cli.app import run
from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.hana import list_tables
from hana_ai.api.hana.vector_column import packed
from hana_ai.api.hana.vector_store import TogetherHanaDB
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.hana.pytest_plugin import local_hana
from hana_ai.api.local.together import ScriptedEngine
from tests.conftest import ScriptedTogether
from tests.integration.hana.conftest import connection, hana_environment

__all__ = ["connection", "hana_environment", "local_hana"]

OURS = ScriptedEngine.EMBEDDING
SAP = "SAP_NEB.20240715"
TEXTS = ["The mill is by the river.", "The baker sleeps.", "Bread is made of flour."]


@pytest.fixture(autouse=True)
def environment(
    hana_environment: LocalHana, together_environment: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> ScriptedTogether:
    monkeypatch.setenv("COLUMNS", "100")
    return together_environment


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the person at the terminal types; without it there is no terminal."""
    typed: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)

    def ask(question: str) -> str:
        print(question)
        return typed.pop(0)

    monkeypatch.setattr(builtins, "input", ask)
    return typed


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Iterator[Said]:
    yield Said(capsys)


class Said:
    """Runs a command and gives what it said, in one line."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str, status: int = 0) -> str:
        self.capsys.readouterr()
        assert run(list(arguments)) == status
        output = self.capsys.readouterr()
        return " ".join((output.out + output.err).split())


def unknown(connection: dbapi.Connection, table: str) -> None:
    HanaDB(connection, DeterministicFakeEmbedding(size=16), table_name=table).add_texts(TEXTS)


def mixed(connection: dbapi.Connection, table: str) -> None:
    unknown(connection, table)
    with connection.cursor() as cursor:
        cursor.execute(
            f'INSERT INTO "{table}" ("VEC_TEXT", "VEC_VECTOR") VALUES (?, ?)',
            ("x", packed([0.5] * 8, "REAL_VECTOR")),
        )


# --- tables ---


def test_tables_lists_each_with_how_its_model_is_known(connection: dbapi.Connection, said: Said) -> None:
    assert said("tables") == "There are no vector tables here."
    TogetherHanaDB(connection, table_name="MANUALS").add_texts(TEXTS)
    TogetherHanaDB(connection, table_name="MANUALS").create_hnsw_index(index_name="FAST")
    unknown(connection, "OLDER")
    mixed(connection, "BROKEN")
    text = said("tables")
    assert text.startswith("table rows vectors model known by index")
    assert re.search(r"MANUALS 3 REAL_VECTOR\(256\) local/scripted-embedding stamp FAST", text)
    assert re.search(r"OLDER 3 REAL_VECTOR\(16\) - no stamp -", text)
    assert re.search(r"BROKEN 4 REAL_VECTOR - mixed: vectors of 8 to 16 numbers", text)
    assert "hana-ai-together tables check TABLE" in text
    assert "MANUALS" not in said("tables", "--pattern", "O*")
    assert said("tables", "--schema", "NOBODYS") == "There are no vector tables here."


def test_without_a_database_it_is_said_what_to_set(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HANA_ADDRESS")
    for arguments in (["tables"], ["tables", "check", "T"], ["tables", "migrate", "T"]):
        assert "Set HANA_ADDRESS, HANA_USER and HANA_PASSWORD" in said(*arguments, status=1)


# --- check and stamp ---


def test_check_finds_the_databases_model_and_says_how_to_record_it(
    connection: dbapi.Connection, environment: ScriptedTogether, said: Said
) -> None:
    TogetherHanaDB(connection, "hana", table_name="T").add_texts(TEXTS)
    with connection.cursor() as cursor:
        cursor.execute("""COMMENT ON COLUMN "T"."VEC_VECTOR" IS ''""")
    text = said("tables", "check", "T", "--together", "all", "--yes")
    assert f'{SAP} made the vectors of "DBADMIN"."T".' in text
    assert f"hana-ai-together tables stamp T {SAP}" in text
    assert environment.engine.posts == []
    assert said("tables", "stamp", "T", SAP) == f'"DBADMIN"."T" is stamped with {SAP}.'
    assert "To record that" not in said("tables", "check", "T")
    text = said("tables", "stamp", "T", "another/model", status=1)
    assert text.endswith("If that is a mistake: hana-ai-together tables stamp T another/model --replace")
    said("tables", "stamp", "T", "another/model", "--replace")
    text = said("tables", "check", "T", status=1)
    assert f"But another/model is recorded: hana-ai-together tables stamp T {SAP} --replace" in text


def test_check_sends_texts_to_together_only_when_told(
    connection: dbapi.Connection, environment: ScriptedTogether, said: Said, answers: list[str]
) -> None:
    HanaDB(connection, TogetherAIEmbeddings(), table_name="T").add_texts(TEXTS)
    environment.engine.requests.clear()
    text = said("tables", "check", "T", status=1)
    assert f"{SAP} made none of them" in text
    assert "hana-ai-together tables check T --together MODEL" in text
    assert "hana-ai-together tables stamp T MODEL" in text
    assert "hana-ai-together tables migrate T" in text
    answers.append("n")
    text = said("tables", "check", "T", "--together", OURS, status=1)
    assert f'This sends 3 texts of "DBADMIN"."T" to Together, for {OURS}: about 17 tokens, $0. Go on?' in text
    assert environment.engine.posts == []
    answers.append("y")
    text = said("tables", "check", "T", "--together", "all")
    assert f"{OURS} made all of them Sent to Together: 3 texts." in text
    assert text.count(f"{SAP} made none of them") == 1, "what was answered before the question is not told again"
    assert f"hana-ai-together tables stamp T {OURS}" in text
    assert len(environment.engine.posts) == 1


def test_without_a_terminal_check_says_what_to_pass(
    connection: dbapi.Connection, environment: ScriptedTogether, said: Said
) -> None:
    HanaDB(connection, TogetherAIEmbeddings(), table_name="T").add_texts(TEXTS)
    environment.engine.requests.clear()
    text = said("tables", "check", "T", "--together", OURS, status=1)
    assert text.endswith("about 17 tokens, $0. To agree, pass --yes.")
    assert environment.engine.posts == []
    assert "made all of them" in said("tables", "check", "T", "--together", OURS, "--yes")


# --- migrate ---


def test_migrate_tells_what_it_takes_asks_moves_and_swaps(
    connection: dbapi.Connection, environment: ScriptedTogether, said: Said, answers: list[str]
) -> None:
    unknown(connection, "T")
    answers.append("no")
    text = said("tables", "migrate", "T", status=1)
    assert f"T to T_NEW, with {OURS}: 3 texts to embed, about 17 tokens, $0" in text
    assert environment.engine.posts == []
    assert [info.table for info in list_tables(connection)] == ["T"]
    answers.append("yes")
    text = said("tables", "migrate", "T")
    assert f"T_NEW has 3 rows and 3 vectors of {OURS}. To put it in the place of T, add --swap" in text
    assert f"(made from T, for {OURS})" in said("tables")
    # Nothing is left to embed, so nobody is asked.
    text = said("tables", "migrate", "T", "--swap")
    assert "Embedded: 0 texts." in text
    assert f"T has 3 rows and 3 vectors of {OURS}. Kept: T_OLD." in text
    assert "hana-ai-together tables drop-old T" in text
    assert re.search(r"T_OLD .*\(kept from before T was migrated\)", said("tables"))
    answers.append("y")
    assert said("tables", "drop-old", "T").endswith("Dropped: T_OLD.")
    assert "No table is kept" in said("tables", "drop-old", "T", status=1)


def test_migrate_without_a_terminal_needs_yes_and_takes_a_model_of_the_database(
    connection: dbapi.Connection, environment: ScriptedTogether, said: Said
) -> None:
    unknown(connection, "T")
    with connection.cursor() as cursor:
        cursor.execute('RENAME TABLE "T" TO "Old Manuals"')
    text = said("tables", "migrate", "Old Manuals", status=1)
    assert text.endswith("The texts are embedded again. To agree, pass --yes.")
    text = said("tables", "migrate", "Old Manuals", "--to", "N", "--model", f"hana:{SAP}", "--swap", "--yes")
    assert "3 texts to embed, about 17 tokens, cost unknown Embedded: 3 texts." in text
    assert f"Old Manuals has 3 rows and 3 vectors of {SAP}." in text
    assert "hana-ai-together tables drop-old 'Old Manuals'" in text
    assert environment.engine.posts == []


def test_a_swap_that_was_broken_off_is_completed_by_the_same_command(
    connection: dbapi.Connection, environment: ScriptedTogether, said: Said
) -> None:
    unknown(connection, "T")
    said("tables", "migrate", "T", "--yes")
    with connection.cursor() as cursor:
        cursor.execute(f"""COMMENT ON TABLE "T_NEW" IS '[migration of "T" with {OURS}, kept as "BEFORE"]'""")
        cursor.execute('RENAME TABLE "T" TO "BEFORE"')
    environment.engine.requests.clear()
    text = said("tables", "migrate", "T", "--swap")
    assert f"T has 3 rows and 3 vectors of {OURS}. Kept: BEFORE." in text
    assert environment.engine.posts == []
    assert {info.table: info.comment for info in list_tables(connection)} == {
        "BEFORE": '[replaced by the migration of "T"]',
        "T": "",
    }


def test_a_text_that_is_too_long_ends_a_migration_unless_it_may_be_cut(
    connection: dbapi.Connection, said: Said
) -> None:
    HanaDB(connection, DeterministicFakeEmbedding(size=16), table_name="T").add_texts(["short", "word " * 9000])
    assert "tokens" in said("tables", "migrate", "T", "--yes", status=1)
    assert "Embedded: 2 texts" in said("tables", "migrate", "T", "--yes", "--truncate")


def test_refusals_are_one_clear_line(connection: dbapi.Connection, said: Said) -> None:
    text = said("tables", "check", "NONE", status=1)
    assert text == 'hana-ai-together: There is no table "DBADMIN"."NONE".'
    with connection.cursor() as cursor:
        cursor.execute('CREATE TABLE "P" ("N" INTEGER)')
        cursor.execute('CREATE TABLE "T" ("N" INTEGER, "V" REAL_VECTOR(2), "A" NCLOB, "B" NCLOB)')
    assert said("tables", "migrate", "P", "--yes", status=1).endswith("has no vector column.")
    assert "--text-column" in said("tables", "migrate", "T", "--yes", status=1)


# --- doctor ---


def test_doctor_names_mixed_unstamped_and_mismatched_tables(
    connection: dbapi.Connection, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "vector table" not in said("doctor")
    TogetherHanaDB(connection, table_name="OURS").add_texts(TEXTS)
    TogetherHanaDB(connection, "hana", table_name="SAPS").add_texts(TEXTS)
    text = said("doctor")
    assert "ok 2 vector tables; hana-ai-together tables lists them" in text
    for other in ("several widths", "not recorded", "of another model", "different widths"):
        assert other not in text
    mixed(connection, "BROKEN")
    unknown(connection, "OLDER")
    unknown(connection, "NARROW")
    said("tables", "stamp", "NARROW", OURS)
    monkeypatch.setenv("TOGETHER_DEFAULT_EMBEDDING_MODEL", "another/model")
    text = said("doctor", status=1)
    assert "vectors of several widths, so of several models: BROKEN" in text
    assert "it is not recorded which model made the vectors: OLDER" in text
    assert f"TOGETHER_DEFAULT_EMBEDDING_MODEL=another/model: NARROW ({OURS}), OURS ({OURS})" in text
    assert f"of different widths: NARROW ({OURS}, 16), OURS ({OURS}, 256)" in text
    assert "SAPS" not in text


# --- tables draw ---


def test_draw_writes_a_page_and_replaces_no_other_file(
    connection: dbapi.Connection, said: Said, tmp_path: Path
) -> None:
    TogetherHanaDB(connection, table_name="MANUALS").add_texts(TEXTS)
    page = tmp_path / "map.html"
    for _ in "first", "again":
        assert said("tables", "draw", "MANUALS", "--html", str(page)) == (
            f"The map of 3 documents is in {page}, with their texts."
        )
    assert all(text in page.read_text() for text in TEXTS)
    assert said("tables", "draw", "MANUALS", "--html", str(page), "--limit", "2").startswith("The map of 2 of 3")
    page.write_text("mine")
    assert "is no map, so it was left" in said("tables", "draw", "MANUALS", "--html", str(page), status=1)
    assert page.read_text() == "mine"
