"""A server with a token bucket of unknown size, in a process of its own: its rate is found, used and shared."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr

from benchmarks.limited import Named, Plan, Statistics, limited_server, statistics_of
from hana_ai.api import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIRateLimitError
from hana_ai.api.local.together import Reply, ScriptedEngine
from hana_ai.api.service import get_transport
from hana_ai.api.transport.call import Call, RetryEvent
from hana_ai.api.transport.transport import Transport
from hana_ai.api.usage.key import UsageKey
from tests.conftest import ScriptedTogether

ROOT = Path(__file__).parents[2]
MODEL = "limited/embedder"
VECTOR = [0.25, -0.5, 0.125, 1.0]

_PROCESS = """
import asyncio, sys, time
from hana_ai.api import TogetherAIEmbeddings

async def work(embeddings, begin, seconds):
    number = begin
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await embeddings.aembed_query(str(number))
        number += 64

async def main(url, name, seconds):
    embeddings = TogetherAIEmbeddings(model="limited/embedder", base_url=url, api_key=name)
    await asyncio.gather(*(work(embeddings, begin, seconds) for begin in range(64)))

print("ready", flush=True)
sys.stdin.readline()
asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
"""


def embed(plan: Plan, count: int, way: str) -> Statistics:
    """Embed texts, one a request, and ask the server how that went."""
    with limited_server(plan) as url:
        embeddings = TogetherAIEmbeddings(model=MODEL, base_url=url, api_key="one", batch_size=1)
        texts = [f"Row {number}" for number in range(count)]
        if way == "sync":
            vectors = embeddings.embed_documents(texts)
        else:
            vectors = asyncio.run(embeddings.aembed_documents(texts))
        told = statistics_of(url)
    assert vectors == [VECTOR] * count
    assert told.answered == count
    return told


def share(seconds: float, plan: Plan, processes: int = 4) -> list[int]:
    """Answers of each of several processes that ask for as long as they can."""
    with ExitStack() as stack:
        url = stack.enter_context(limited_server(plan))
        running = []
        for number in range(processes):
            command = [sys.executable, "-c", _PROCESS, url, f"process-{number}", str(seconds)]
            process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            running.append(stack.enter_context(process))
        for process in running:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(seconds + 60) for process in running] == [0] * processes
        return list(statistics_of(url).clients.values())


# --- the rate is found ---


@pytest.mark.parametrize(("way", "named"), [("sync", "nothing"), ("async", "exact")])
def test_a_short_job_finishes_at_nearly_the_allowed_rate(way: str, named: Named) -> None:
    # The bars are lower than for the long job below: a few seconds a rate are little to learn from. Other programs
    # on the machine only make it slower, so the best of a few tries counts.
    seen = []
    for _ in range(4):
        told = embed(Plan([150, 90, 220, 120], seconds=2, named=named), 900, way)
        seen.append((told.share, told.refused_share))
        if told.share >= 0.7 and told.refused_share < 0.15:
            return
    raise AssertionError(f"shares of the allowed and of the refused requests: {seen}")


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("named", ["nothing", "exact", "seconds"])
def test_20000_embeddings_finish_at_the_allowed_rate_though_it_changes_three_times(named: Named) -> None:
    told = embed(Plan([150, 90, 220, 120], seconds=30, named=named), 20_000, "async")
    assert told.share >= 0.9
    assert told.refused_share < 0.05


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_four_processes_get_equal_shares() -> None:
    counts = share(60, Plan([200]))
    mean = sum(counts) / 4
    assert len(counts) == 4
    assert all(abs(count - mean) < 0.25 * mean for count in counts), counts


# --- what counts as a retry ---


@pytest.fixture
def few() -> Iterator[str]:
    """A server that allows little, and says nothing about when to come again."""
    with limited_server(Plan([40], depth=0.1, latency=0.005)) as url:
        yield url


def call(**values: object) -> Call:
    body = {"model": MODEL, "input": "Hello"}
    return Call(path="/v1/embeddings", body=body, model=MODEL, kind="embedding", **values)  # type: ignore[arg-type]


async def test_a_refusal_is_no_failure_while_the_server_answers_others(few: str) -> None:
    transport = Transport(base_url=few, api_key=SecretStr("one"))
    retries: list[RetryEvent] = []
    replies = await asyncio.gather(
        *(transport.arequest(call(max_retries=1, on_retry=retries.append)) for _ in range(150))
    )
    assert len(replies) == 150
    assert retries
    assert statistics_of(few).answered == 150
    await transport.aclose()


@pytest.mark.parametrize("retries", [0, 2])
async def test_a_server_that_refuses_everybody_is_left_after_the_retries(
    together: ScriptedTogether, engine: ScriptedEngine, retries: int
) -> None:
    transport = Transport(base_url=together.base_url, api_key=SecretStr(str(together.api_key)))
    engine.always(Reply(status=429, headers={"x-ratelimit-reset": "0.01"}))
    with pytest.raises(TogetherAIRateLimitError):
        await transport.arequest(
            Call(path="/v1/embeddings", body={"model": "m", "input": "a"}, model="m", max_retries=retries)
        )
    assert len(engine.posts) == retries + 1
    await transport.aclose()


async def test_a_call_whose_time_ends_while_it_waits_for_its_turn_raises_the_refusal(few: str) -> None:
    transport = Transport(base_url=few, api_key=SecretStr("one"))
    started = time.monotonic()
    results = await asyncio.gather(
        *(transport.arequest(call(timeout=1.5)) for _ in range(200)), return_exceptions=True
    )
    assert time.monotonic() - started < 30
    kinds = {type(result).__name__ for result in results}
    assert "TogetherAIRateLimitError" in kinds
    assert kinds <= {"Reply", "TogetherAIRateLimitError", "QueueTimeoutError", "TogetherAITimeoutError"}
    assert transport.limiter(MODEL).in_use == 0
    await transport.aclose()


# --- one limit for all who share it ---


async def test_transports_of_one_key_share_what_was_learned(together: ScriptedTogether) -> None:
    def transport(key: str, most: int, budget: UsageKey) -> Transport:
        return get_transport(
            base_url=together.base_url, api_key=SecretStr(key), max_concurrency=most, usage=budget
        )

    one, other = transport("same", 4, UsageKey()), transport("same", 8, UsageKey(period="day"))
    assert one is not other
    one.limiter("m").refused(time.monotonic(), 60.0)
    assert other.limiter("m").rate == pytest.approx(one.limiter("m").rate, rel=0.2)
    assert await other.limiter("m").acquire(timeout=0.01) is False
    assert (one.limiter("m").ceiling, other.limiter("m").ceiling) == (4, 8)
    for free in (other.limiter("another model"), transport("another key", 4, UsageKey()).limiter("m")):
        assert free.rate is None
        assert await free.acquire(timeout=0.01)
        free.release()
