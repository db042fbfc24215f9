"""Workers of a Ray cluster give the table of one process, whoever of them is lost."""

from __future__ import annotations

import importlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hdbcli import dbapi
from langchain_core.documents import Document

from benchmarks.limited import Plan, limited_server, statistics_of
from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import (
    TogetherAIAuthenticationError,
    TogetherAIBudgetExceededError,
    TogetherAIClusterError,
)
from hana_ai.api.hana import IngestInterrupted, IngestProgress, IngestResult, ingest_documents, map_table
from hana_ai.api.hana.cluster.ray_engine import RayEngine
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import LocalModel, Received, Reply, ScriptedEngine
from tests.conftest import ScriptedTogether, export
from tests.integration.hana.conftest import rows, run
from tests.integration.hana.ingest.corpus import content, embedded, text_of, write_files

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed (make .venv/.ray)"),
]

Ingest = Callable[..., IngestResult]
WORKERS = 2
OF_RAY = {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture
def settings(
    together_environment: ScriptedTogether, local_hana: LocalHana, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """What workers find in their environment."""
    export(monkeypatch, {**local_hana.environment(), **OF_RAY})
    return {**together_environment.environment(), **local_hana.environment()}


@contextmanager
def cluster_of(settings: dict[str, str]) -> Iterator[Any]:
    """A cluster on this machine, of as many CPUs as workers, which find the settings in their environment."""
    import ray

    ray.init(
        num_cpus=WORKERS,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        object_store_memory=100_000_000,
        runtime_env={"env_vars": settings},
    )
    try:
        yield ray
    finally:
        ray.shutdown()


@pytest.fixture
def cluster(settings: dict[str, str]) -> Iterator[Any]:
    """One for a test, with the settings of all of them."""
    with cluster_of(settings) as ray:
        yield ray


@pytest.fixture
def ingest(connection: dbapi.Connection, embeddings: TogetherAIEmbeddings, local_hana: LocalHana) -> Ingest:
    def run(source: object, table: str = "T", **options: Any) -> IngestResult:
        own = {} if "engine" in options else {"connect": local_hana.connect}
        return ingest_documents(source, table, connection, **{"embedding": embeddings, **own, **options})

    return run


def on_ray(**options: Any) -> RayEngine:
    return RayEngine(WORKERS, **options)


def workers_of_the_cluster() -> list[int]:
    """The processes of workers that have begun a task."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command, parents = (folder / "cmdline").read_bytes(), _ancestors(int(folder.name))
            except OSError:
                continue
            if b"ray::" in command and b"Seat" in command and os.getpid() in parents:
                found.append(int(folder.name))
    return found


def _ancestors(pid: int) -> set[int]:
    found: set[int] = set()
    while pid > 1 and pid not in found:
        found.add(pid)
        pid = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return found


class Killer:
    """Kills a worker once, when so many rows are written."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.killed: list[int] = []

    def __call__(self, now: Any) -> None:
        done = now.rows if isinstance(now, IngestProgress) else now.done
        if done >= self._rows and not self.killed and (pids := workers_of_the_cluster()):
            os.kill(pids[0], signal.SIGKILL)
            self.killed.append(pids[0])


# --- ingest ---


def test_a_folder_gives_the_same_table_and_the_same_summary(
    tmp_path: Path, cluster: Any, ingest: Ingest, engine: ScriptedEngine, connection: dbapi.Connection
) -> None:
    folder = write_files(tmp_path / "files", 150)
    (folder / "picture.bin").write_bytes(b"\0\1\2")
    name = str(folder.resolve())
    alone = ingest(folder, "ALONE")
    engine.requests.clear()
    together = ingest(folder, engine=on_ray(), part_size=16)
    assert content(connection) == content(connection, "ALONE")
    assert sum(embedded(engine).values()) == together.progress.rows
    for field in (
        "documents",
        "written",
        "unchanged",
        "duplicates",
        "unreadable",
        "failed",
        "rows",
        "tokens",
        "cost_usd",
    ):
        assert getattr(together.progress, field) == getattr(alone.progress, field), field
    assert together.problems == alone.problems

    engine.requests.clear()
    changed = folder / "part-000" / "file-00003.txt"
    changed.write_text(changed.read_text().replace("paragraph", "section"))
    (folder / "part-001" / "file-00100.txt").unlink()
    second = ingest(folder, engine=on_ray(), part_size=16, sync=True)
    assert (second.progress.written, second.progress.unchanged, second.removed) == (1, 148, 1)
    assert all("section" in text for text in embedded(engine))
    ingest(folder, "FRESH", name=name)
    assert content(connection) == content(connection, "FRESH")


def test_rows_and_documents_give_the_same_table(
    cluster: Any, ingest: Ingest, connection: dbapi.Connection
) -> None:
    run(connection, 'CREATE COLUMN TABLE "S" ("A" INTEGER, "B" NVARCHAR(9), "TEXT" NCLOB, PRIMARY KEY ("A", "B"))')
    with connection.cursor() as cursor:
        cursor.executemany(
            'INSERT INTO "S" VALUES (?, ?, ?)', [(n // 7, f"b{n % 7}", text_of(n, 1)) for n in range(200)]
        )
    ingest("hana:S", "ALONE", text_columns=["TEXT"])
    ingest("hana:S", engine=on_ray(), part_size=30, text_columns=["TEXT"])
    assert content(connection) == content(connection, "ALONE")
    assert len(content(connection)) == 200

    # The first of a name counts, wherever the second one comes.
    documents = [Document(text_of(n, 1), id=str(n % 90), metadata={"source": "wiki"}) for n in range(180)]
    alone = ingest(iter(documents), "ALONE", name="wiki")
    together = ingest(iter(documents), engine=on_ray(), part_size=20, name="wiki")
    assert content(connection) == content(connection, "ALONE")
    assert (together.progress.duplicates, together.progress.written) == (90, 90)
    assert together.progress.documents == alone.progress.documents


def test_a_poisoned_document_goes_to_the_table_of_errors(
    tmp_path: Path, cluster: Any, ingest: Ingest, engine: ScriptedEngine, connection: dbapi.Connection
) -> None:
    folder = write_files(tmp_path / "files", 40)

    def poison(received: Received) -> Reply | None:
        given = (received.body or {}).get("input", ())
        bad = any("Document 17," in text for text in ([given] if isinstance(given, str) else given))
        return Reply(status=400, error={"message": "the input is not acceptable"}) if bad else None

    engine.always(poison)
    done = ingest(folder, engine=on_ray(), part_size=10)
    assert (done.progress.failed, done.progress.written) == (1, 39)
    assert [source for source, _ in done.problems] == ["part-000/file-00017.txt"]
    assert rows(connection, 'SELECT "SOURCE" FROM HANA_AI_TOGETHER_INGEST_ERRORS') == [
        ("part-000/file-00017.txt",)
    ]


def test_a_killed_worker_is_survived(
    tmp_path: Path, cluster: Any, ingest: Ingest, engine: ScriptedEngine, connection: dbapi.Connection
) -> None:
    folder = write_files(tmp_path / "files", 160)
    (folder / "long.txt").write_text(text_of(999, 60))
    alone = ingest(folder, "ALONE")
    engine.latency = 0.2
    killer = Killer(20)
    done = ingest(folder, engine=on_ray(), part_size=8, window=256, on_progress=killer)
    assert killer.killed
    assert content(connection) == content(connection, "ALONE")
    assert done.progress.documents == alone.progress.documents
    assert done.progress.duplicates == 0


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """What runs in the background of a shell ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupting(rows: int) -> tuple[Callable[[Any], None], list[int]]:
    """What sends Ctrl-C once, when so many rows are written, and how many there were."""
    sent: list[int] = []

    def interrupt(now: Any) -> None:
        done = now.rows if isinstance(now, IngestProgress) else now.done
        if done >= rows and not sent:
            sent.append(done)
            os.kill(os.getpid(), signal.SIGINT)

    return interrupt, sent


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_ends_an_ingest_and_the_next_run_goes_on(
    tmp_path: Path, cluster: Any, ingest: Ingest, engine: ScriptedEngine, connection: dbapi.Connection
) -> None:
    folder = write_files(tmp_path / "files", 160)
    ingest(folder, "ALONE")
    engine.requests.clear()
    engine.latency = 0.2
    interrupt, sent = interrupting(20)
    with pytest.raises(IngestInterrupted, match="run it again to go on") as caught:
        ingest(folder, engine=on_ray(), part_size=8, on_progress=interrupt)
    assert sent
    written = len(content(connection))
    assert written < len(content(connection, "ALONE"))
    assert caught.value.result.progress.rows == written
    # What was sent has been paid for, and is written.
    assert sum(embedded(engine).values()) == written

    engine.latency = 0.0
    ingest(folder, engine=on_ray(), part_size=8)
    assert content(connection) == content(connection, "ALONE")
    assert set(embedded(engine).values()) == {1}


def test_a_wrong_key_ends_the_run_with_its_own_error(
    tmp_path: Path, settings: dict[str, str], cluster: Any, ingest: Ingest, engine: ScriptedEngine
) -> None:
    engine.always(Reply(status=401, error={"message": "no such key"}))
    with pytest.raises(TogetherAIAuthenticationError):
        ingest(write_files(tmp_path / "files", 30), engine=on_ray(), part_size=4)


def test_without_the_coordinator_the_run_ends(
    tmp_path: Path, cluster: Any, ingest: Ingest, engine: ScriptedEngine
) -> None:
    engine.latency = 0.3
    killed: list[str] = []

    def kill_it(now: IngestProgress) -> None:
        if now.rows and not killed:
            names = cluster.util.list_named_actors(all_namespaces=True)
            killed.extend(found["name"] for found in names)
            for found in names:
                cluster.kill(cluster.get_actor(found["name"], namespace=found["namespace"]))

    with pytest.raises(TogetherAIClusterError, match="coordinator"):
        ingest(write_files(tmp_path / "files", 200), engine=on_ray(), part_size=4, on_progress=kill_it)
    assert killed


# --- map ---


@pytest.fixture
def reviews(connection: dbapi.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_DEFAULT_MODEL", ScriptedEngine.CHAT)
    with connection.cursor() as cursor:
        cursor.execute('CREATE COLUMN TABLE "S" ("ID" INTEGER PRIMARY KEY, "TEXT" NVARCHAR(200))')
        cursor.executemany('INSERT INTO "S" VALUES (?, ?)', [(number, f"row {number}") for number in range(300)])


def answers(connection: dbapi.Connection, table: str) -> list[tuple[Any, ...]]:
    return rows(connection, f'SELECT "ID", TO_NVARCHAR("ANSWER"), "ERROR" FROM "{table}" ORDER BY 1')


def test_a_map_gives_the_same_table_and_survives_a_killed_worker(
    reviews: None, cluster: Any, engine: ScriptedEngine, connection: dbapi.Connection
) -> None:
    asked = {"connection": connection, "prompt": "Say {TEXT}", "batch_size": 16}
    alone = map_table("S", "ALONE", **asked)
    together = map_table("S", "R", engine=on_ray(), **asked)
    assert answers(connection, "R") == answers(connection, "ALONE")
    assert (together.rows, together.asked, together.tokens) == (alone.rows, alone.asked, alone.tokens)

    engine.latency = 0.1
    killer = Killer(30)
    map_table("S", "K", engine=on_ray(), on_progress=killer, **asked)
    assert killer.killed
    assert answers(connection, "K") == answers(connection, "ALONE")


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_ends_a_map_and_the_next_run_goes_on(
    reviews: None, cluster: Any, engine: ScriptedEngine, connection: dbapi.Connection
) -> None:
    asked = {"connection": connection, "prompt": "Say {TEXT}", "batch_size": 16}
    engine.latency = 0.1
    interrupt, sent = interrupting(30)
    with pytest.raises(KeyboardInterrupt):
        map_table("S", "R", engine=on_ray(), on_progress=interrupt, **asked)
    assert sent
    assert len(answers(connection, "R")) < 300
    engine.latency = 0.0
    done = map_table("S", "R", engine=on_ray(), **asked)
    assert (done.rows, done.failed) == (300, 0)
    assert 0 < done.asked < 300, "what was answered is not asked again"
    map_table("S", "ALONE", **asked)
    assert answers(connection, "R") == answers(connection, "ALONE")


# --- limits ---


def test_the_budget_is_one_for_all_workers(
    connection: dbapi.Connection, local_hana: LocalHana, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LocalModel("dear/chat", "chat", 8192, price_input=1000.0, price_output=1000.0)
    with ScriptedTogether(ScriptedEngine(models=[model])) as server:
        settings = {**server.environment(), **local_hana.environment(), "TOGETHER_DEFAULT_MODEL": "dear/chat"}
        export(monkeypatch, {**settings, "TOGETHER_BUDGET_USD": "0.5"})
        with connection.cursor() as cursor:
            cursor.execute('CREATE COLUMN TABLE "S" ("ID" INTEGER PRIMARY KEY, "TEXT" NVARCHAR(200))')
            cursor.executemany('INSERT INTO "S" VALUES (?, ?)', [(n, f"row {n}") for n in range(400)])
        server.engine.latency = 0.02
        with cluster_of(settings), pytest.raises(TogetherAIBudgetExceededError):
            map_table("S", "R", connection=connection, prompt="Say {TEXT}", batch_size=8, engine=on_ray())
    spent = rows(connection, 'SELECT SUM("PROMPT_TOKENS" + "COMPLETION_TOKENS") FROM "R"')[0][0] * 0.001
    # What was under way is paid for: eight rows at most for each worker.
    assert 0.5 <= spent < 0.5 + 2 * 8 * 0.03


def test_the_rate_of_the_server_is_used_and_it_hardly_refuses(
    connection: dbapi.Connection, local_hana: LocalHana, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate, texts, requests = 20, 16, 1500
    seen: list[tuple[float, int]] = []
    with limited_server(Plan([rate])) as url:
        settings = {
            **local_hana.environment(),
            "TOGETHER_BASE_URL": f"{url}/v1",
            "TOGETHER_API_KEY": "any",
            "TOGETHER_EMBEDDING_BATCH_SIZE": str(texts),
            **OF_RAY,
        }
        export(monkeypatch, settings)
        documents = [Document(f"row {number}", id=str(number)) for number in range(requests * texts)]
        embedding = TogetherAIEmbeddings(model="limited/embedding")
        with cluster_of(settings):
            done = ingest_documents(
                documents, "T", connection, embedding=embedding, name="rows", engine=on_ray(),
                on_progress=lambda now: seen.append((time.monotonic(), now.rows)),
            )  # fmt: skip
        told = statistics_of(url)
    assert done.progress.rows == requests * texts
    # One more tells the width of the model's vectors.
    assert told.answered == requests + 1
    assert told.refused_share < 0.05
    # The workers take their time to start.
    began, first = next((moment, rows) for moment, rows in seen if rows)
    ended, last = next((moment, rows) for moment, rows in seen if rows >= 0.9 * requests * texts)
    assert (last - first) / (ended - began) >= 0.9 * rate * texts
