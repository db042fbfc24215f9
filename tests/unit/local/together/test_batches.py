"""A batch goes through its states by the clock alone; nothing is asked over a socket here."""

from __future__ import annotations

import asyncio
import gc
import heapq
import tracemalloc
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from hana_ai.api.local.together.api.batches import Answer, Batch, Batches
from hana_ai.api.local.together.api.clock import Clock
from hana_ai.api.local.together.api.files import DataFile, FileStore
from hana_ai.api.local.together.refusal import Refusal

CHAT = "/v1/chat/completions"
DAY = 24 * 3600.0


class TurnedClock(Clock):
    """Stands still until it is turned."""

    def __init__(self) -> None:
        self._now = 0.0
        self._waiting: list[tuple[float, int, asyncio.Event]] = []

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        heapq.heappush(self._waiting, (self._now + seconds, id(woken), woken))
        self._wake()
        await woken.wait()

    async def turn(self, seconds: float) -> None:
        """Go on, and let everything that is due happen."""
        await settled()
        end = self._now + seconds
        while self._waiting and self._waiting[0][0] <= end:
            self._now = self._waiting[0][0]
            self._wake()
            await settled()
        self._now = end
        await settled()

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._now:
            heapq.heappop(self._waiting)[2].set()


async def settled() -> None:
    """Let tasks and the one thread go as far as they can without the clock."""
    for _ in range(3):
        for _ in range(20):
            await asyncio.sleep(0)
        await asyncio.to_thread(int)  # whatever the thread does comes before


class World:
    """Batches over a turned clock, and an application that answers each request with its own body."""

    def __init__(self) -> None:
        self.clock = TurnedClock()
        self.files = FileStore(self.clock)
        self.batches = Batches(self.files, self.clock)
        self.asked: list[Any] = []

    async def ask(self, path: str, body: bytes) -> Answer:
        request = orjson.loads(body)
        self.asked.append((path, request))
        if "refuse" in request:
            return Answer(400, orjson.dumps({"error": {"message": request["refuse"], "type": "t"}}))
        return Answer(200, orjson.dumps({"said": request["text"]}))

    def known(self, model: str, endpoint: str) -> None:
        if model != "m":
            raise Refusal(404, f"Unable to access model {model}.")

    async def file(self, content: bytes) -> DataFile:
        async def chunks() -> AsyncIterator[bytes]:
            yield content

        made = self.files.reserve("in.jsonl", "batch-api", "jsonl")
        await self.files.write(made, chunks())
        self.files.take(made)
        return made

    async def start(self, content: bytes, model: str = "") -> Batch:
        return self.batches.start(await self.file(content), CHAT, model, self.ask, self.known)

    def lines(self, id: str) -> dict[str, Any]:
        """The lines of a file by their `custom_id`, which no two have."""
        if not id:
            return {}
        found = [orjson.loads(line) for line in self.files.find(id).path.read_bytes().splitlines()]
        assert len({one["custom_id"] for one in found}) == len(found)
        return {one.pop("custom_id"): one for one in found}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    yield made
    made.files.close()


def line(id: object, **body: Any) -> bytes:
    return orjson.dumps({"custom_id": id, "body": {"model": "m", "text": "x", **body}}) + b"\n"


def lines(count: int) -> bytes:
    return b"".join(line(f"r{number}", text=f"t{number}") for number in range(count))


async def test_a_batch_is_validated_answered_and_completed(world: World) -> None:
    world.batches.dials.validating, world.batches.dials.line, world.batches.dials.concurrency = 5, 10, 1
    batch = await world.start(lines(3) + line("bad", refuse="no"))
    await world.clock.turn(4.9)
    assert (batch.status, batch.progress) == ("VALIDATING", 0)
    await world.clock.turn(0.1)
    assert (batch.status, batch.progress, batch.model) == ("IN_PROGRESS", 0, "m")
    await world.clock.turn(10)
    assert (batch.status, batch.progress) == ("IN_PROGRESS", 25)
    assert batch.output_file_id == ""
    await world.clock.turn(30)
    assert (batch.status, batch.progress) == ("COMPLETED", 100)
    assert world.lines(batch.output_file_id) == {
        f"r{number}": {"response": {"status_code": 200, "body": {"said": f"t{number}"}}} for number in range(3)
    }
    assert world.lines(batch.error_file_id) == {"bad": {"error": {"message": "no", "type": "t"}}}
    assert [path for path, _ in world.asked] == [CHAT] * 4


async def test_moments_follow_the_clock(world: World) -> None:
    world.batches.dials.validating = 60
    batch = await world.start(lines(1))
    await world.clock.turn(60)
    await world.clock.turn(0)
    shown = batch.wire()
    created, deadline, completed = (str(shown[name]) for name in ("created_at", "job_deadline", "completed_at"))
    assert created < completed < deadline
    assert created[10:] == deadline[10:]  # 24 hours later


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n \n", "no requests"),
        (line("a") + b"{\n", "Line 2 is not JSON"),
        (b"\n" + b"[]\n", "Line 2 must be a JSON object"),
        (line("a") + line("a"), "Line 2: custom_id 'a' is not unique"),
        (line("a", model="other"), "Unable to access model other"),
        (line(""), "custom_id must be a string of 1 to 64"),
        (line("x" * 65), "custom_id must be a string of 1 to 64"),
        (line(7), "custom_id must be a string of 1 to 64"),
        (b'{"body": {}}\n', "custom_id must be"),
        (b'{"custom_id": "a"}\n', "body must be a JSON object"),
        (b'{"custom_id": "a", "body": {}}\n', "body.model is missing"),
        (b'{"custom_id": "a", "body": {"model": 1}}\n', "body.model must be a string"),
        (b'{"custom_id": "\xff", "body": {"model": "m"}}\n', "Line 1 is not JSON"),
    ],
)
async def test_a_wrong_file_fails_before_anything_is_asked(world: World, content: bytes, words: str) -> None:
    batch = await world.start(content)
    await world.clock.turn(1)
    assert batch.status == "FAILED"
    assert words in batch.error
    assert (world.asked, batch.output_file_id, batch.error_file_id) == ([], "", "")


async def test_a_batch_is_bounded(world: World) -> None:
    world.batches.dials.most_requests = 3
    full, more = await world.start(lines(3)), await world.start(lines(4))
    await world.clock.turn(1)
    assert (full.status, more.status) == ("COMPLETED", "FAILED")
    assert more.error == "The file has more than 3 requests."
    world.batches.dials.most_bytes = 50
    large = await world.start(lines(3))
    await world.clock.turn(1)
    assert large.error == "The file has more than 50 bytes."


async def test_the_model_of_the_batch_is_for_lines_without_one(world: World) -> None:
    batch = await world.start(b'{"custom_id": "a", "body": {"text": "x"}}\n', model="m")
    await world.clock.turn(1)
    assert batch.status == "COMPLETED"
    assert [request["model"] for _, request in world.asked] == ["m"]


async def test_a_batch_expires_with_what_it_has(world: World) -> None:
    world.batches.dials.line, world.batches.dials.concurrency = DAY / 2, 1
    batch = await world.start(lines(5))
    await world.clock.turn(DAY - 1)
    assert (batch.status, batch.progress) == ("IN_PROGRESS", 20)
    await world.clock.turn(1)
    assert batch.status == "EXPIRED"
    assert set(world.lines(batch.output_file_id)) == {"r0"}
    errors = world.lines(batch.error_file_id)
    assert set(errors) == {"r1", "r2", "r3", "r4"}
    assert errors["r1"]["error"]["code"] == "batch_expired"
    await world.clock.turn(DAY)
    assert (batch.status, len(world.asked)) == ("EXPIRED", 1)


async def test_a_batch_expires_while_it_is_validated(world: World) -> None:
    world.batches.dials.hour = 0.01
    world.batches.dials.validating = 1
    batch = await world.start(lines(1))
    await world.clock.turn(0.24)
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("EXPIRED", "", "")


async def test_a_cancelled_batch_keeps_what_it_has(world: World) -> None:
    world.batches.dials.line, world.batches.dials.concurrency = 1, 2
    batch = await world.start(lines(7))
    await world.clock.turn(2.5)
    assert await world.batches.cancel(batch.id) is batch
    assert batch.status == "CANCELLED"
    done, left = world.lines(batch.output_file_id), world.lines(batch.error_file_id)
    assert set(done) == {f"r{number}" for number in range(batch.done)}
    assert set(done) | set(left) == {f"r{number}" for number in range(7)}
    assert not set(done) & set(left)
    with pytest.raises(Refusal, match="is CANCELLED and cannot be cancelled"):
        await world.batches.cancel(batch.id)


async def test_a_request_that_is_under_way_is_broken_off(world: World) -> None:
    async def never(path: str, body: bytes) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    batch = world.batches.start(await world.file(lines(2)), CHAT, "", never, world.known)
    await world.clock.turn(1)
    assert batch.status == "IN_PROGRESS"
    await world.batches.cancel(batch.id)
    assert set(world.lines(batch.error_file_id)) == {"r0", "r1"}


async def test_a_dial_fails_the_next_batch(world: World) -> None:
    world.batches.dials.next_failure = "Out of luck."
    failed = await world.start(lines(1))
    await world.clock.turn(1)
    assert (failed.status, failed.error) == ("FAILED", "Out of luck.")
    good = await world.start(lines(1))
    await world.clock.turn(1)
    assert good.status == "COMPLETED"


async def test_a_file_may_be_deleted_once_the_batch_has_begun(world: World) -> None:
    world.batches.dials.line = 10
    batch, early = await world.start(lines(2)), await world.start(lines(1))
    world.files.delete(early.input)
    await world.clock.turn(1)
    world.files.delete(batch.input)
    await world.clock.turn(30)
    assert batch.status == "COMPLETED"
    assert (early.status, early.error) == ("FAILED", f"File {early.input.id} has been deleted.")


async def test_an_answer_that_is_no_json_is_an_error(world: World) -> None:
    async def odd(path: str, body: bytes) -> Answer:
        return Answer(200, b"<html>") if orjson.loads(body)["text"] == "t0" else Answer(502, b'"gone"')

    batch = world.batches.start(await world.file(lines(2)), CHAT, "", odd, world.known)
    await world.clock.turn(1)
    errors = world.lines(batch.error_file_id)
    assert [errors[id]["error"]["message"] for id in ("r0", "r1")] == ["The answer is not JSON.", "gone"]


async def test_a_request_that_streams_is_refused(world: World) -> None:
    batch = await world.start(line("a", stream=True))
    await world.clock.turn(1)
    assert world.asked == []
    assert world.lines(batch.error_file_id)["a"]["error"]["param"] == "stream"


async def test_a_batch_cannot_end_twice(world: World) -> None:
    batch = await world.start(lines(1))
    await world.clock.turn(1)
    with pytest.raises(RuntimeError, match="COMPLETED cannot become FAILED"):
        batch.end("FAILED", 0)
    with pytest.raises(RuntimeError, match="cannot begin"):
        batch.begin(1, "m")


async def test_a_server_may_end_at_any_moment(world: World) -> None:
    world.batches.clock = Clock()
    world.batches.dials.validating = 0
    content = lines(3) + line("bad", refuse="no")
    for ticks in range(60):
        batch = await world.start(content)
        for _ in range(ticks):
            await asyncio.sleep(0)
        if ticks % 3 == 0:
            await asyncio.to_thread(int)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        assert batch.ended or not batch.output_file_id
    gc.collect()  # a file that nobody closed is an error here


async def test_fifty_thousand_requests_take_little_memory() -> None:
    files = FileStore()
    world = World()
    world.files, world.batches = files, Batches(files)
    world.batches.dials.validating = 0

    async def ask(path: str, body: bytes) -> Answer:
        return Answer(200, b'{"said":"' + b"y" * 500 + b'"}')

    input = await world.file(b"".join(line(f"request-{number}", text="x" * 500) for number in range(50_000)))
    gc.collect()
    tracemalloc.start()
    try:
        batch = world.batches.start(input, CHAT, "", ask, world.known)
        await world.batches.finished(batch.id)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert batch.status == "COMPLETED", batch.error
    assert len(world.lines(batch.output_file_id)) == 50_000
    assert peak < 25 * 1024 * 1024  # the two files have 29 MB each
    files.close()
