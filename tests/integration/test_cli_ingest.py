"""`hana-ai-together ingest` tells what it will do, what it did, and in one line what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hdbcli import dbapi

from hana_ai.api.cli.app import run
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import ScriptedEngine
from tests.conftest import ScriptedTogether
from tests.integration.hana.conftest import connection, hana_environment, local_hana
from tests.integration.hana.ingest.corpus import embedded, rows, write_files

__all__ = ["connection", "hana_environment", "local_hana"]

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(
    together_environment: ScriptedTogether,
    hana_environment: LocalHana,
    connection: dbapi.Connection,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    def ingest(*arguments: str) -> tuple[int, str]:
        status = run(["ingest", *arguments])
        captured = capsys.readouterr()
        return status, " ".join((captured.out + captured.err).split())

    return ingest


def test_it_tells_before_and_after(
    tmp_path: Path, command: Command, engine: ScriptedEngine, connection: dbapi.Connection
) -> None:
    folder = str(write_files(tmp_path / "folder", 5))
    status, said = command(folder, "T", "--dry-run")
    assert status == 0
    assert "5 chunks of 5 documents to embed: about" in said
    assert said.endswith("Nothing was written.")
    assert not embedded(engine)

    status, said = command(folder, "T", "--hnsw", "--half")
    assert status == 0
    assert "T: 5 rows of 5 documents written" in said
    assert "The vector index was made." in said
    assert rows(connection, 'SELECT COUNT(*) FROM "T"') == [(5,)]

    (Path(folder) / "picture.png").write_bytes(b"\x89PNG\0\0")
    status, said = command(folder, "T", "--sync")
    assert status == 1
    assert "Unchanged: 5 documents. Removed: 0. Not in the table: 1 document." in said
    assert "picture.png: neither text nor a known document format (.png)" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere", "T"), "There is no file or folder nowhere."),
        (("hana:NOWHERE", "T", "--text", "A"), "The source cannot be read:"),
        ((".", "T", "--chunk-tokens", "100000"), "are too long"),
        ((".", "T", "--writers", "0"), "writers is 0; it must be 1 or more."),
        ((".", "T", "--model", "local/none"), "local/none"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: tuple[str, ...], words: str, command: Command) -> None:
    status, said = command(*arguments)
    assert status == 1
    assert said.startswith("hana-ai-together: ")
    assert words in said


def test_a_missing_key_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOGETHER_API_KEY")
    monkeypatch.setenv("TOGETHER_BASE_URL", "https://together.invalid")
    status, said = command(".", "T")
    assert status == 1
    assert "TOGETHER_API_KEY" in said
