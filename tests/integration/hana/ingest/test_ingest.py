"""Each chunk of a corpus is embedded and written once, whatever is added, changed, removed or broken."""

from __future__ import annotations

import gc
import logging
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hdbcli import dbapi
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import index

from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIAuthenticationError, TogetherAIInputError, TogetherAIServerError
from hana_ai.api.hana import (
    HanaRecordManager,
    IngestInterrupted,
    IngestProgress,
    IngestResult,
    estimate_ingest,
    ingest_documents,
    list_tables,
)
from hana_ai.api.hana.ingest.reading import AT_ONCE
from hana_ai.api.hana.vector_store import TogetherHanaDB
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import Received, Reply, ScriptedEngine
from tests.integration.hana.ingest.corpus import content, embedded, rows, text_of, write_files
from tests.integration.local.together.conftest import wait_until

Ingest = Callable[..., IngestResult]


@pytest.fixture
def ingest(connection: dbapi.Connection, local_hana: LocalHana, embeddings: TogetherAIEmbeddings) -> Ingest:
    def run(source: object, table: str = "T", **options: Any) -> IngestResult:
        return ingest_documents(
            source, table, connection, **{"embedding": embeddings, "connect": local_hana.connect, **options}
        )

    return run


def test_the_first_run_writes_all_and_the_second_embeds_what_has_changed(
    tmp_path: Path, ingest: Ingest, engine: ScriptedEngine, connection: dbapi.Connection
) -> None:
    folder = write_files(tmp_path, 150)
    first = ingest(folder)
    assert (first.progress.written, first.progress.unchanged) == (150, 0)
    assert first.progress.rows == len(content(connection)) == sum(embedded(engine).values())
    assert {info.table: info.model for info in list_tables(connection)}["T"] == first.model

    engine.requests.clear()
    changed = [folder / "part-000" / f"file-{number:05}.txt" for number in (3, 50, 99)]
    for path in changed:
        path.write_text(path.read_text().replace("paragraph", "section"))
    for number in (7, 70):
        (folder / "part-000" / f"file-{number:05}.txt").unlink()
    second = ingest(folder, sync=True)
    assert (second.progress.written, second.progress.unchanged, second.removed) == (3, 145, 2)
    assert all("section" in text for text in embedded(engine))
    assert sum(embedded(engine).values()) == second.progress.rows

    fresh = ingest(folder, "FRESH", name=str(folder.resolve()))
    assert fresh.progress.written == 148
    assert content(connection) == content(connection, "FRESH")


def test_what_has_vanished_stays_without_sync(
    tmp_path: Path, ingest: Ingest, connection: dbapi.Connection
) -> None:
    folder = write_files(tmp_path, 3)
    ingest(folder)
    before = content(connection)
    (folder / "part-000" / "file-00001.txt").unlink()
    assert ingest(folder).removed == 0
    assert content(connection) == before


def test_two_folders_share_a_table_and_sync_touches_one(
    tmp_path: Path, ingest: Ingest, connection: dbapi.Connection
) -> None:
    one, two = write_files(tmp_path / "one", 3), write_files(tmp_path / "two", 2)
    ingest(one)
    ingest(two)
    (one / "part-000" / "file-00000.txt").unlink()
    ingest(one, sync=True)
    assert rows(connection, 'SELECT COUNT(*) FROM "T"') == [(4,)]


def shuffled(documents: list[Document], seed: int) -> Iterator[Document]:
    mixed = list(documents)
    random.Random(seed).shuffle(mixed)
    return iter(mixed)


def test_documents_of_a_source_are_not_embedded_again_however_they_fall_into_batches(
    ingest: Ingest, engine: ScriptedEngine, connection: dbapi.Connection, make: Callable[..., TogetherHanaDB]
) -> None:
    pages = [
        Document(f"Page {page} of book {book}.", metadata={"source": f"book {book}", "page": page})
        for book in range(3)
        for page in range(100)
    ]
    ingest(shuffled(pages, 1), name="library")
    for seed, window in ((2, 7), (3, 100), (4, 2048)):
        engine.requests.clear()
        again = ingest(shuffled(pages, seed), name="library", window=window)
        assert not embedded(engine)
        assert (again.progress.unchanged, again.removed) == (300, 0)
    changed = [*pages[:-1], Document("Another last page.", metadata={"source": "book 2", "page": 99})]
    done = ingest(shuffled(changed, 5), name="library")
    assert dict(embedded(engine)) == {"Another last page.": 1}
    assert done.removed == 1, "the old page goes, since its book was met"
    assert rows(connection, 'SELECT COUNT(*) FROM "T"') == [(300,)]

    # LangChain's own clean-up, on the same: it embeds what fell into another batch again.
    records = HanaRecordManager("library", connection)
    records.create_schema()
    store = make(table_name="INDEXED")
    wanted: dict[str, Any] = {"cleanup": "incremental", "source_id_key": "source", "key_encoder": "sha256"}
    index(pages, records, store, batch_size=40, **wanted)
    engine.requests.clear()
    index(shuffled(changed, 6), records, store, batch_size=40, **wanted)
    assert sum(embedded(engine).values()) >= 1
    assert rows(connection, 'SELECT COUNT(*) FROM "INDEXED"') == [(300,)]


def test_a_document_that_comes_twice_counts_once(ingest: Ingest, connection: dbapi.Connection) -> None:
    given = [Document(f"text {number % 400}", id=f"{number % 400}") for number in range(800)]
    done = ingest(given)
    assert (done.progress.written, done.progress.duplicates) == (400, 400)
    other = [Document("first", id="x"), *given[:300], Document("second", id="x")]
    ingest(other, "OTHER")
    assert ("first",) in rows(connection, 'SELECT TO_NVARCHAR("VEC_TEXT") FROM "OTHER"')
    assert ("second",) not in rows(connection, 'SELECT TO_NVARCHAR("VEC_TEXT") FROM "OTHER"')


def test_metadata_that_changes_is_written_without_embedding(
    ingest: Ingest, engine: ScriptedEngine, connection: dbapi.Connection
) -> None:
    ingest([Document("text", metadata={"tag": "old"}, id="1")])
    engine.requests.clear()
    ingest([Document("text", metadata={"tag": "new"}, id="1")])
    assert not embedded(engine)
    assert rows(connection, """SELECT JSON_VALUE("VEC_META", '$.tag') FROM "T" """) == [("new",)]


# --- what cannot be embedded or read ---


def poison(request: Received) -> Reply | None:
    given = request.body["input"]
    if any("poison" in text for text in ([given] if isinstance(given, str) else given)):
        return Reply(status=400, error={"message": "the input is not acceptable"})
    return None


def test_a_poisoned_document_is_named_and_the_rest_goes_on(
    tmp_path: Path, ingest: Ingest, engine: ScriptedEngine, connection: dbapi.Connection
) -> None:
    folder = write_files(tmp_path, 40)
    bad = folder / "part-000" / "file-00020.txt"
    bad.write_text(text_of(20, 30) + "\n\npoison\n\n" + text_of(21, 30))
    engine.always(poison)
    done = ingest(folder)
    assert (done.progress.written, done.progress.failed) == (39, 1)
    [(source, reason)] = done.problems
    assert source == "part-000/file-00020.txt"
    assert "not acceptable" in reason
    errors = 'SELECT "SOURCE", "REASON" FROM "HANA_AI_TOGETHER_INGEST_ERRORS"'
    assert rows(connection, errors) == [(source, reason)]
    assert not [row for row in content(connection) if "file-00020" in str(row[2])], "no half of a document"

    engine.requests.clear()
    again = ingest(folder)
    assert not embedded(engine), "it is not sent again while it is the same"
    assert (again.progress.failed, again.progress.unchanged) == (1, 39)
    engine.reset()
    assert ingest(folder, retry_failed=True).progress.written == 1
    assert rows(connection, errors) == []


def test_a_text_that_breaks_the_server_is_found_and_tried_again_in_the_next_run(
    ingest: Ingest, engine: ScriptedEngine, embeddings: TogetherAIEmbeddings
) -> None:
    def breaks(request: Received) -> Reply | None:
        return Reply(status=500, error={"message": "out of memory"}) if poison(request) else None

    engine.always(breaks)
    given = [Document(f"text {number}" if number != 5 else "poison", id=str(number)) for number in range(20)]
    calm = embeddings.model_copy(update={"max_retries": 0})
    assert ingest(given, embedding=calm).progress.failed == 1
    engine.reset()
    assert ingest(given, embedding=calm).progress.written == 1


def test_an_outage_is_no_poison(
    ingest: Ingest, engine: ScriptedEngine, embeddings: TogetherAIEmbeddings, connection: dbapi.Connection
) -> None:
    given = [Document(f"text {number}", id=str(number)) for number in range(300)]
    ingest(given[:100])
    engine.always(Reply(status=500, error={"message": "down"}))
    with pytest.raises(TogetherAIServerError, match="down"):
        ingest(given, embedding=embeddings.model_copy(update={"max_retries": 0}))
    engine.reset()
    done = ingest(given)
    assert (done.progress.written, done.progress.unchanged) == (200, 100)
    engine.always(Reply(status=401, error={"message": "no such key"}))
    with pytest.raises(TogetherAIAuthenticationError):
        ingest([Document("new")])
    assert rows(connection, 'SELECT COUNT(*) FROM "T"') == [(300,)]


def test_what_cannot_be_read_keeps_its_rows_and_is_named(
    tmp_path: Path, ingest: Ingest, connection: dbapi.Connection
) -> None:
    folder = write_files(tmp_path, 2)
    ingest(folder)
    before = content(connection)
    bad = folder / "part-000" / "file-00000.txt"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0")
    (folder / ".hidden").write_text("x")
    (folder / "away").symlink_to(folder / "nowhere")
    done = ingest(folder, sync=True)
    assert dict(done.problems).keys() == {"part-000/file-00000.txt", ".hidden", "away"}
    assert (done.progress.unreadable, done.removed) == (3, 0)
    assert content(connection) == before


# --- models and tables ---


def test_a_table_of_another_model_is_refused_before_anything_is_sent(
    tmp_path: Path, ingest: Ingest, engine: ScriptedEngine, connection: dbapi.Connection, embeddings: Any
) -> None:
    TogetherHanaDB(connection, "hana", table_name="T").add_texts(["a"])
    folder = write_files(tmp_path, 2)
    with pytest.raises(TogetherAIInputError, match="holds vectors of SAP_NEB"):
        ingest(folder)
    with pytest.raises(TogetherAIInputError, match="holds vectors of SAP_NEB"):
        estimate_ingest(folder, "T", connection, embedding=embeddings)
    assert not embedded(engine)


def test_a_column_of_another_width_is_refused(
    tmp_path: Path, ingest: Ingest, connection: dbapi.Connection
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            'CREATE TABLE "T" ("VEC_ID" NVARCHAR(255) PRIMARY KEY, "VEC_TEXT" NCLOB, "VEC_META" NCLOB, '
            '"VEC_VECTOR" REAL_VECTOR(8))'
        )
    with pytest.raises(TogetherAIInputError, match=r"REAL_VECTOR\(8\), but .* 256 numbers"):
        ingest(write_files(tmp_path, 2))
    assert rows(connection, 'SELECT COUNT(*) FROM "T"') == [(0,)]


def test_a_table_that_was_dropped_is_filled_again(
    tmp_path: Path, ingest: Ingest, connection: dbapi.Connection
) -> None:
    folder = write_files(tmp_path, 3)
    ingest(folder)
    with connection.cursor() as cursor:
        cursor.execute('DROP TABLE "T"')
    assert ingest(folder).progress.written == 3


def test_half_vectors_and_an_index_at_the_end(
    tmp_path: Path, ingest: Ingest, connection: dbapi.Connection
) -> None:
    folder = write_files(tmp_path, 3)
    assert ingest(folder, vector_type="HALF_VECTOR", hnsw=True).index
    [info] = [info for info in list_tables(connection) if info.table == "T"]
    assert info.type == "HALF_VECTOR"
    assert info.index is not None
    assert not ingest(folder, hnsw=True).index, "there is one"


@pytest.mark.parametrize("writers", [1, 4])
def test_many_writers_and_one_connection_write_the_same(
    writers: int, tmp_path: Path, ingest: Ingest, connection: dbapi.Connection
) -> None:
    folder = write_files(tmp_path, 30, paragraphs=30)
    ingest(folder, writers=writers, window=64, chunk_tokens=60, overlap_tokens=0)
    ingest(folder, "ALONE", connect=None, name=str(folder.resolve()), chunk_tokens=60, overlap_tokens=0)
    assert len(content(connection)) > 150
    assert content(connection) == content(connection, "ALONE")
    states = rows(connection, 'SELECT DISTINCT LENGTH("STATE") FROM "HANA_AI_TOGETHER_RECORDS"')
    assert states == [(32,)], "every document is complete"


@pytest.mark.parametrize("writers", [2, 4])
def test_several_writers_do_not_collide_on_documents_of_several_batches(
    writers: int, tmp_path: Path, ingest: Ingest, embeddings: TogetherAIEmbeddings, connection: dbapi.Connection
) -> None:
    few = embeddings.model_copy(update={"batch_size": 3})
    folder = write_files(tmp_path, 25, paragraphs=24)
    # A transaction of three rows or some more: nearly each of the documents is in several.
    ingest(folder, writers=writers, embedding=few, window=9, chunk_tokens=60, overlap_tokens=0)
    assert len(content(connection)) > 120
    states = rows(connection, 'SELECT DISTINCT LENGTH("STATE") FROM "HANA_AI_TOGETHER_RECORDS"')
    assert states == [(32,)], "every document is complete"


def test_two_runs_at_once_end_with_the_rows_of_one(
    tmp_path: Path, ingest: Ingest, local_hana: LocalHana, embeddings: Any, connection: dbapi.Connection
) -> None:
    folder = write_files(tmp_path, 60)
    few = embeddings.model_copy(update={"batch_size": 2})

    def run() -> None:
        with closing(local_hana.connect()) as own:
            ingest_documents(folder, "T", own, embedding=few, connect=local_hana.connect, name="files", window=8)

    # From its first rows on it is known whose a table is.
    ingest([Document("the first")], name="first")
    first = content(connection)
    with ThreadPoolExecutor(2) as runs:
        # Of new documents, of those again, and of new versions of them.
        for _ in range(2):
            for done in [runs.submit(run) for _ in range(2)]:
                done.result()
        for file in folder.rglob("*.txt"):
            file.write_text(file.read_text().replace("paragraph", "section"))
        for done in [runs.submit(run) for _ in range(2)]:
            done.result()
    states = rows(connection, 'SELECT DISTINCT LENGTH("STATE") FROM "HANA_AI_TOGETHER_RECORDS"')
    assert states == [(32,)], "every document is complete"
    ingest(folder, "ALONE", name="files")
    assert content(connection) == sorted(first + content(connection, "ALONE"))


def test_a_first_run_finds_what_another_one_writes_meanwhile(
    ingest: Ingest,
    engine: ScriptedEngine,
    connection: dbapi.Connection,
    local_hana: LocalHana,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    group = 256
    monkeypatch.setattr("hana_ai.api.hana.ingest.reading.AT_ONCE", group)
    count, last = 2 * group + 100, group + 50
    pages = [
        Document(text_of(number, 1), id=str(number), metadata={"source": f"book {number // group}"})
        for number in range(count)
    ]
    other = pages[group:]
    other[last - group] = Document("another version", id=str(last), metadata=pages[last].metadata)

    def slowly() -> Iterator[Document]:
        for number, page in enumerate(pages):
            if number == group:
                ingest(other, name="pages")
            if number == 2 * group:
                wait_until(lambda: versions() == 0)
            yield page

    def versions() -> int:
        with closing(local_hana.connect()) as own:
            return int(rows(own, "SELECT COUNT(*) FROM T WHERE VEC_TEXT = 'another version'")[0][0])

    for table in ("T", "ALONE"):
        # From its first rows on it is known whose a table is.
        ingest(pages[:1], table, name="first")
    engine.requests.clear()
    first = ingest(slowly(), name="pages", window=128)
    asked = embedded(engine)
    assert len(asked) == count + 1
    assert sum(asked.values()) == len(asked) + group - 1, "what was looked up before"
    assert first.progress.documents == count
    recorded = 'SELECT COUNT(*), MIN(LENGTH("STATE")) FROM "HANA_AI_TOGETHER_RECORDS"'
    states = rows(connection, f"{recorded} WHERE \"NAMESPACE\" LIKE '%T/pages'")
    assert states == [(count, 32)]
    ingest(pages, "ALONE", name="pages")
    assert content(connection) == content(connection, "ALONE"), "nothing of the other version"


# --- people ---


def test_ctrl_c_writes_what_was_sent_and_the_next_run_goes_on(
    tmp_path: Path, ingest: Ingest, engine: ScriptedEngine, connection: dbapi.Connection
) -> None:
    engine.latency = 0.05
    folder = write_files(tmp_path, 300)

    told: list[IngestProgress] = []

    def interrupt(now: IngestProgress) -> None:
        if now.rows and not told:
            told.append(now)
            raise KeyboardInterrupt

    with pytest.raises(IngestInterrupted) as caught:
        ingest(folder, window=32, on_progress=interrupt)
    written = rows(connection, 'SELECT COUNT(*) FROM "T"')[0][0]
    assert 0 < written == caught.value.result.progress.rows
    assert sum(embedded(engine).values()) == written, "what was paid for is there"
    ingest(folder)
    assert max(embedded(engine).values()) == 1


def test_progress_tells_rows_tokens_cost_and_the_time_left(
    tmp_path: Path, ingest: Ingest, engine: ScriptedEngine
) -> None:
    engine.latency = 0.05
    seen: list[IngestProgress] = []
    done = ingest(write_files(tmp_path, 400), window=32, on_progress=seen.append)
    assert [now.rows for now in seen] == sorted(now.rows for now in seen)
    halfway = next(now for now in seen if now.share and now.share < 1)
    assert halfway.total == 400
    assert halfway.seconds_left is not None
    assert done.progress.tokens > 400 * 40
    assert done.progress.cost_usd == 0


def test_an_estimate_writes_and_sends_nothing(
    tmp_path: Path, ingest: Ingest, engine: ScriptedEngine, connection: dbapi.Connection, embeddings: Any
) -> None:
    folder = write_files(tmp_path, 30)
    found = estimate_ingest(folder, "T", connection, embedding=embeddings)
    assert (found.documents, found.to_write, found.unchanged) == (30, 30, 0)
    assert found.tokens > 1_000
    assert found.cost_usd == 0
    assert not embedded(engine)
    assert list_tables(connection) == []
    done = ingest(folder)
    assert done.progress.rows == found.chunks
    again = estimate_ingest(folder, "T", connection, embedding=embeddings)
    assert (again.to_write, again.unchanged, again.chunks) == (0, 30, 0)


def test_the_log_is_quiet(tmp_path: Path, ingest: Ingest, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        ingest(write_files(tmp_path, 3))
    assert [record for record in caplog.records if record.name.startswith("hana_ai.api.hana.ingest")] == []


def test_memory_does_not_depend_on_the_size_of_the_corpus(ingest: Ingest) -> None:
    least = [sys.maxsize] * 5

    def given() -> Iterator[Document]:
        # How much is under way varies with the load; the least of each part of the run does not.
        for number in range(AT_ONCE * len(least)):
            if number % 250 == 0:
                gc.collect()
            part = number // AT_ONCE
            least[part] = min(least[part], tracemalloc.get_traced_memory()[0])
            yield Document(f"text {number} " * 20, id=str(number))

    embedding = DeterministicFakeEmbedding(size=32)
    ingest([Document("imports, connections and encoders", id="0")], "WARM", embedding=embedding)
    tracemalloc.start()
    try:
        done = ingest(given(), embedding=embedding, window=64)
    finally:
        tracemalloc.stop()
    assert done.progress.rows == AT_ONCE * len(least)
    assert least[-1] - least[1] < 3 * AT_ONCE * 64, f"{least}: more than 64 bytes of each document are kept"
