"""An ingest that is killed at any moment goes on to the table of an undisturbed run, and little is sent twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from hdbcli import dbapi
from langchain_core.documents import Document
from langchain_core.indexing import index

from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.hana import HanaRecordManager, IngestResult, ingest_documents
from hana_ai.api.hana.vector_store import TogetherHanaDB
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import ScriptedEngine
from tests.conftest import ScriptedTogether
from tests.integration.hana.ingest.corpus import content, embedded, rows, text_of, write_files
from tests.warm import COMMAND_LINE, Started, Warm

WINDOW = 64
CHUNKS = {"chunk_tokens": 60, "overlap_tokens": 0}
"""A chunk for each paragraph."""

Start = Callable[..., Started]


@pytest.fixture
def start(together: ScriptedTogether, local_hana: LocalHana, programs: Warm) -> Start:
    """Starts the command in a process of its own."""
    variables = {**os.environ, **together.environment(), **local_hana.environment()}

    def run(folder: Path, table: str, *options: str) -> Started:
        return programs.start(
            COMMAND_LINE,
            *("ingest", str(folder), table, *options),
            *("--window", str(WINDOW), "--chunk-tokens", "60", "--overlap-tokens", "0"),
            environment={**variables, "TOGETHER_EMBEDDING_BATCH_SIZE": "16"},
        )

    return run


def ended(process: Started) -> str:
    said = "".join(process.communicate(timeout=200))
    assert process.returncode == 0, said
    return said


def corpus(folder: Path, files: int) -> Path:
    write_files(folder, files)
    # Long ones, of which some rows are written when the process dies.
    for number in range(files, files + 4):
        (folder / f"long-{number}.txt").write_text(text_of(number, 60))
    return folder


def written(connection: dbapi.Connection) -> int:
    if not rows(connection, "SELECT 1 FROM SYS.TABLES WHERE TABLE_NAME = 'T' AND SCHEMA_NAME = CURRENT_SCHEMA"):
        return 0
    return int(rows(connection, 'SELECT COUNT(*) FROM "T"')[0][0])


@pytest.mark.shows_a_key("the command's own output is read")
@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_ingest_ends_with_the_rows_of_an_undisturbed_one(
    kills: int, tmp_path: Path, start: Start, engine: ScriptedEngine, connection: dbapi.Connection
) -> None:
    engine.latency = 0.03
    folder = corpus(tmp_path, 40 * kills)
    moments = random.Random(kills)
    ended(start(folder, "WHOLE"))
    expected = content(connection, "WHOLE")
    once = embedded(engine)
    engine.requests.clear()

    killed = 0
    for number in range(kills):
        process = start(folder, "T")
        aim = written(connection) + 1 + moments.randrange(len(expected) // kills)
        while process.poll() is None and written(connection) < aim:
            time.sleep(0.005)
        time.sleep(moments.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        assert written(connection) <= len(expected), number
    assert killed >= kills - 1
    ended(start(folder, "T"))

    assert content(connection) == expected
    assert embedded(engine).keys() == once.keys()
    again = sum(embedded(engine).values()) - sum(once.values())
    assert again <= killed * WINDOW, "a kill costs what was sent and not committed"
    states = rows(connection, 'SELECT COUNT(*) FROM "HANA_AI_TOGETHER_RECORDS" WHERE LENGTH("STATE") <> 32')
    assert states == [(0,)]


@pytest.mark.shows_a_key("the command's own output is read")
def test_ctrl_c_at_the_terminal_says_how_to_go_on(
    tmp_path: Path, start: Start, engine: ScriptedEngine, connection: dbapi.Connection
) -> None:
    engine.latency = 0.1
    folder = corpus(tmp_path, 60)
    process = start(folder, "T")
    while process.poll() is None and not written(connection):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = "".join(process.communicate(timeout=60))
    assert process.returncode == 130, said
    assert f"hana-ai-together ingest {folder} T" in said
    assert sum(embedded(engine).values()) <= written(connection)
    engine.latency = 0.0
    assert "Unchanged: " in ended(start(folder, "T"))


def change_some(folder: Path) -> None:
    """Change three of 5,000 files, and remove two."""
    for number in (10, 2_000, 4_999):
        path = folder / f"part-{number // 100:03}" / f"file-{number:05}.txt"
        path.write_text(path.read_text().replace("paragraph", "section"))
    for number in (11, 3_000):
        (folder / f"part-{number // 100:03}" / f"file-{number:05}.txt").unlink()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_thousand_files_of_which_three_changed_and_two_are_gone(
    tmp_path: Path,
    engine: ScriptedEngine,
    connection: dbapi.Connection,
    local_hana: LocalHana,
    embeddings: TogetherAIEmbeddings,
) -> None:
    engine.latency = 0.02
    folder = write_files(tmp_path, 5_000, paragraphs=6)

    def ingested(table: str, **options: object) -> tuple[IngestResult, float]:
        began = time.monotonic()
        wanted = {"embedding": embeddings, "connect": local_hana.connect, **CHUNKS, **options}
        return ingest_documents(folder, table, connection, **wanted), time.monotonic() - began

    first = ingested("T", sync=True)[1]
    engine.requests.clear()
    change_some(folder)
    done, second = ingested("T", sync=True)
    print(f"{first:.1f} s, then {second:.1f} s")
    assert (done.progress.unchanged, done.progress.written, done.removed) == (4_995, 3, 2)
    assert done.progress.rows == sum(embedded(engine).values()) == 3 * 6
    assert all("section" in text for text in embedded(engine))
    assert second < first / 10, f"{first:.1f} s, then {second:.1f} s"
    ingested("WHOLE", name=str(folder.resolve()))
    assert content(connection) == content(connection, "WHOLE")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cleanup", ["incremental", "full"])
def test_what_index_of_langchain_embeds_again_of_five_thousand_files(
    cleanup: Literal["incremental", "full"],
    tmp_path: Path,
    engine: ScriptedEngine,
    connection: dbapi.Connection,
    make: Callable[..., TogetherHanaDB],
) -> None:
    """The folder, the changes and the chunks are those of the test before; store and records are ours."""
    engine.latency = 0.02
    folder = write_files(tmp_path, 5_000, paragraphs=6)
    store = make(table_name="INDEXED")
    records = HanaRecordManager("folder", connection)
    records.create_schema()

    def chunks() -> Iterator[Document]:
        for path in sorted(folder.rglob("*.txt")):
            for text in path.read_text().split("\n\n"):
                yield Document(text, metadata={"source": str(path)})

    def indexed() -> float:
        began = time.monotonic()
        index(chunks(), records, store, cleanup=cleanup, source_id_key="source", key_encoder="sha256")
        return time.monotonic() - began

    first, sent = indexed(), sum(embedded(engine).values())
    engine.requests.clear()
    change_some(folder)
    second = indexed()
    again = [text for text in embedded(engine).elements() if "section" not in text]
    stale = rows(connection, """SELECT COUNT(*) FROM "INDEXED" WHERE "VEC_META" LIKE '%file-03000%'""")[0][0]
    print(
        f"{cleanup}: {sent} texts in {first:.1f} s; then {sum(embedded(engine).values())} in {second:.1f} s, "
        f"{len(again)} of them unchanged; {stale} rows of a file that is gone"
    )
    if cleanup == "full":
        assert not again
        assert stale == 0
    else:
        # A file whose chunks fall into two batches loses those of the second with the first.
        assert len(again) > 3 * 6
        assert stale == 6, "only what was met is cleaned up"
