"""Parts of a source and stages of a run survive pickling, and a coordinator keeps its books without a cluster."""

from __future__ import annotations

import asyncio
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas
import polars
import pyarrow
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from pyarrow import parquet
from pydantic import SecretStr

from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIBudgetExceededError, TogetherAIClusterError, TogetherAIInputError
from hana_ai.api.hana.cluster.coordinator import MOST_TRIES, Coordinator, Money, pickled
from hana_ai.api.hana.cluster.engines import LocalEngine, engine_from
from hana_ai.api.hana.connections import Connections
from hana_ai.api.hana.ingest.documents import SourceDocument, Unreadable
from hana_ai.api.hana.ingest.parts import Between, Part, parts_of
from hana_ai.api.hana.ingest.plan import Plan
from hana_ai.api.hana.ingest.sources import Asked, source_from
from hana_ai.api.hana.ingest.splitting import splitter_for
from hana_ai.api.hana.ingest.spread import IngestTask, ReportingCounter
from hana_ai.api.hana.ingest.tables import Columns
from hana_ai.api.hana.mapping.result_table import ResultTable
from hana_ai.api.hana.mapping.shapes import Shape
from hana_ai.api.hana.mapping.source import Source as MapSource
from hana_ai.api.hana.mapping.spread import MapTask
from hana_ai.api.hana.mapping.stages import Prompt, RowTask

NOWHERE = Connections(connect=lambda: pytest.fail("nothing is read from the database"))
ROWS = {"ID": [1, 2, 3], "TEXT": ["one", "two", "three"]}


def _files(folder: Path) -> object:
    for name in "abc":
        (folder / f"{name}.md").write_text(f"# {name}")
    (folder / ".hidden").write_text("x")
    return folder


def _parquet(folder: Path) -> object:
    parquet.write_table(pyarrow.table(ROWS), folder / "rows.parquet")
    return folder / "rows.parquet"


SOURCES: dict[str, Any] = {
    "files": _files,
    "parquet": _parquet,
    "pandas": lambda _: pandas.DataFrame(ROWS),
    "polars": lambda _: polars.DataFrame(ROWS),
    "arrow": lambda _: pyarrow.table(ROWS),
    "documents": lambda _: iter([Document("one", id="1"), Document("two", metadata={"a": 1}), "none"]),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_the_parts_of_every_source_survive_pickling(kind: str, tmp_path: Path) -> None:
    asked = Asked(("TEXT",), ("ID",)) if kind not in ("files", "documents") else Asked()

    def items() -> list[object]:
        source = source_from(SOURCES[kind](tmp_path), NOWHERE, asked, "corpus")
        return [_plain(item) for item in source]

    source = source_from(SOURCES[kind](tmp_path), NOWHERE, asked, "corpus")
    parts = [pickle.loads(pickle.dumps(part)) for part in parts_of(source, 2)]
    assert len(parts) == 2
    assert [_plain(item) for part in parts for item in part.documents(NOWHERE)] == items()


def _plain(item: SourceDocument | Unreadable) -> object:
    if isinstance(item, Unreadable):
        return item
    return item.source, item.part, dict(item.metadata), item.digest(), list(item.texts())


def test_a_range_of_rows_survives_pickling() -> None:
    part: Part = Between("T", Columns(("TEXT",), ("ID",)), "SELECT * FROM T", (1,), (Decimal("7.5"),))
    assert pickle.loads(pickle.dumps(part)) == part


def _plan(embedding: Any) -> Plan:
    splitter = splitter_for("model", 512, None, None)
    return Plan("corpus", "model", embedding, splitter, "S", "T", "REAL_VECTOR", 256, 1, False)


def test_the_stages_of_an_ingest_survive_pickling_without_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "key-of-who-began-the-run"
    monkeypatch.setenv("TOGETHER_API_KEY", key)
    data = pickle.dumps(IngestTask(_plan(TogetherAIEmbeddings(model="m"))))
    assert key.encode() not in data
    # The process that loads it has another one.
    monkeypatch.setenv("TOGETHER_API_KEY", "key-of-the-worker")
    plan = pickle.loads(data).plan
    assert plan.embedding.api_key == SecretStr("key-of-the-worker")
    assert (plan.splitter, plan.sizes()) == (_plan(DeterministicFakeEmbedding(size=3)).splitter, plan.sizes())
    assert pickle.loads(pickle.dumps(plan.embedder())).type == "REAL_VECTOR"


def test_what_a_worker_of_a_map_does_survives_pickling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", "secret-of-this-process")
    source = MapSource(None, "SELECT 1", ("ID", "TEXT"), ("ID",), ("INTEGER",), frozenset({"TEXT"}), "T")
    task = RowTask(Prompt("{TEXT}"), Shape.of(["good", "bad"]), {"model": "m"})
    given = MapTask(ResultTable(None, "S", "R", source, task), ChatTogetherAI(model="m"), 16, None)
    data = pickle.dumps(given)
    assert b"secret-of-this-process" not in data
    loaded = pickle.loads(data)
    assert loaded.result == given.result
    assert loaded.result.task.request({"TEXT": "x"}) == task.request({"TEXT": "x"})


def test_an_unknown_engine_is_refused() -> None:
    assert isinstance(engine_from("local"), LocalEngine)
    with pytest.raises(TogetherAIInputError, match="'spark'"):
        engine_from("spark")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(TogetherAIInputError, match=r"pip install 'hana-ai-together\[ray\]'"):
        engine_from("ray")


# --- the coordinator ---


async def test_parts_of_a_lost_worker_go_to_another_one_and_its_ghost_is_not_heard() -> None:
    now = [0.0]
    desk = Coordinator(4, lost_after=10.0, clock=lambda: now[0])
    assert await desk.offer(b"a")
    first = (0, await desk.join(0))
    lease = await desk.next_part(first)
    assert lease is not None
    await desk.report(first, lease.number, {"documents": 3}, ())
    await desk.end()
    second = (1, await desk.join(1))
    waiting = asyncio.ensure_future(desk.next_part(second))
    now[0] = 11.0
    assert await desk.beat(second)
    assert not (await desk.news()).done
    taken = await waiting
    assert taken is not None
    assert (taken.part, taken.counted) == (b"a", {"documents": 3})

    assert not await desk.beat(first)
    await desk.done(first, lease.number)
    await desk.report(first, lease.number, {"documents": 9}, ())
    assert not await desk.is_over()
    await desk.done(second, taken.number)
    news = await desk.news()
    assert (news.done, news.counts, list(news.finished)) == (True, {}, [0])


async def test_a_part_that_ends_worker_after_worker_ends_the_run() -> None:
    desk = Coordinator(4)
    await desk.offer(b"a")
    for _ in range(MOST_TRIES):
        assert await desk.next_part((0, await desk.join(0))) is not None
    await desk.join(0)
    news = await desk.news()
    assert news.done
    assert news.error is not None
    assert isinstance(pickle.loads(news.error), TogetherAIClusterError)


async def test_the_feeder_waits_for_room_and_leaves_when_the_run_is_stopped() -> None:
    desk = Coordinator(1)
    assert await desk.offer(b"a")
    second = asyncio.ensure_future(desk.offer(b"b"))
    await asyncio.sleep(0)
    assert not second.done()
    await desk.stop()
    assert not await second
    assert await desk.next_part((0, await desk.join(0))) is None


async def test_the_places_of_a_lost_worker_are_free_again() -> None:
    desk = Coordinator(1)
    limit = ("m at a", 2)
    lost, other = (0, await desk.join(0)), (1, await desk.join(1))
    assert await desk.take(lost, limit, 1.0, again=False) is not None
    assert await desk.take(lost, limit, 1.0, again=False) is not None
    assert await desk.take(other, limit, 0.01, again=False) is None
    await desk.join(0)
    assert await desk.take(other, limit, 1.0, again=False) is not None
    # What the lost one gives back is not its own any more.
    await desk.tell(lost, limit, "released", 0.0, 0.0)
    assert await desk.take(other, limit, 1.0, again=False) is not None
    assert await desk.take(other, limit, 0.01, again=False) is None


async def test_money_is_one_for_all() -> None:
    desk = Coordinator(1, Money(Decimal(1), "month", Decimal("0.5")))
    worker = (0, await desk.join(0))
    assert await desk.take(worker, ("m", 9), 1.0, again=False) is not None
    await desk.spend(Decimal("0.5"), 1e12)
    refused = await desk.take(worker, ("m", 9), 1.0, again=False)
    assert isinstance(refused, TogetherAIBudgetExceededError)
    assert refused.spent_usd == 1


def test_an_error_that_cannot_be_pickled_says_the_same() -> None:
    class Odd(Exception):
        pass

    assert str(pickle.loads(pickled(Odd("of its own")))) == "Odd: of its own"
    assert isinstance(pickle.loads(pickled(TogetherAIInputError("x"))), TogetherAIInputError)


def test_what_a_lost_worker_had_counted_is_not_counted_again() -> None:
    told: list[dict[str, int]] = []
    counter = ReportingCounter(lambda counts, _: told.append(dict(counts)), {"documents": 5, "unreadable": 1})
    counter.add(unreadable=1, documents=1)
    for _ in range(5):
        counter.add(duplicates=1, documents=1)
    # Four of them are those that are recorded; the fifth is a second one indeed.
    names = ("documents", "unreadable", "duplicates")
    assert [sum(counts.get(name, 0) for counts in told) for name in names] == [1, 0, 1]
