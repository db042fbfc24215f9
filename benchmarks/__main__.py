"""Measure both peers in one run and print the ratios: ``python -m benchmarks [--only NAME] [--rounds N]``.

Both talk to the same server (`benchmarks.server`), alternate, and are judged by their medians. The exit status
is 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks import hana, limits
from benchmarks.process import ROOT, running
from benchmarks.server import CHUNKS, DIMENSIONS, LATENCY, SLOW

FAST = "bench/fast"
TEXTS = [f"Row {number}: the customer asked about an invoice of last month." for number in range(500)]


@dataclass
class Result:
    """Seconds of every round of both peers, and the bar: `ours / peer` may be `at_most` at most."""

    name: str
    unit: str
    ours: list[float]
    peer: list[float]
    at_most: float
    scale: float = 1e3

    @property
    def ratio(self) -> float:
        """Median of ours over median of the peer's."""
        return statistics.median(self.ours) / statistics.median(self.peer)

    @property
    def met(self) -> bool:
        """Whether the bar is met."""
        return self.ratio <= self.at_most

    def row(self) -> str:
        """A line of the table."""
        ours, peer = (statistics.median(values) * self.scale for values in (self.ours, self.peer))
        faster = self.at_most < 0.5
        ratio = f"{1 / self.ratio:.1f} x faster" if faster else f"{self.ratio:.2f} of it"
        bar = f">= {1 / self.at_most:.0f} x" if faster else f"<= {self.at_most:.2f}"
        verdict = "met" if self.met else "MISSED"
        return f"{self.name:<34}{ours:>10.2f}{peer:>11.2f} {self.unit:<9}{ratio:>15}{bar:>9}  {verdict}"


@contextmanager
def server() -> Iterator[str]:
    """Run the server in a process of its own and give its address."""
    with running("benchmarks.server") as url:
        yield url


def alternate(
    ours: Callable[[], object], peer: Callable[[], object], rounds: int, calls: int = 1
) -> tuple[list[float], list[float]]:
    """Seconds a call of both, in turns, after one call each that is not counted."""
    ours()
    peer()
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        order = ((0, ours), (1, peer)) if number % 2 == 0 else ((1, peer), (0, ours))
        for which, call in order:
            gc.collect()
            started = time.perf_counter()
            for _ in range(calls):
                call()
            times[which].append((time.perf_counter() - started) / calls)
    return times


async def alternate_async(
    ours: Callable[[], Awaitable[object]], peer: Callable[[], Awaitable[object]], rounds: int
) -> tuple[list[float], list[float]]:
    """`alternate` for coroutines, all in one event loop: the peer's client knows only the first it saw."""
    await ours()
    await peer()
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        order = ((0, ours), (1, peer)) if number % 2 == 0 else ((1, peer), (0, ours))
        for which, call in order:
            gc.collect()
            started = time.perf_counter()
            await call()
            times[which].append(time.perf_counter() - started)
    return times


def chats(url: str, model: str) -> tuple[Any, Any]:
    """A chat model of both, told the same."""
    from langchain_together import ChatTogether

    from hana_ai.api.chat_models import ChatTogetherAI

    return (
        ChatTogetherAI(model=model, base_url=url, api_key="bench"),
        ChatTogether(model=model, base_url=f"{url}/v1", api_key="bench"),
    )


def embed(url: str, rounds: int) -> Result:
    """Embed 500 texts."""
    from langchain_together import TogetherEmbeddings

    from hana_ai.api.embeddings import TogetherAIEmbeddings

    ours = TogetherAIEmbeddings(model=SLOW, base_url=url, api_key="bench")
    peer = TogetherEmbeddings(model=SLOW, base_url=f"{url}/v1", api_key="bench")
    expected = (len(TEXTS), DIMENSIONS)
    for vectors in (ours.embed_documents(TEXTS[:300]), peer.embed_documents(TEXTS[:2])):
        assert len(vectors[0]) == expected[1]
    times = alternate(lambda: ours.embed_documents(TEXTS), lambda: peer.embed_documents(TEXTS), rounds)
    return Result("embed 500 texts", "ms", *times, at_most=1 / 40)


def concurrent(url: str, rounds: int) -> Result:
    """500 calls of ainvoke at the same time."""
    ours, peer = chats(url, SLOW)

    def many(model: Any) -> Callable[[], Awaitable[object]]:
        async def run() -> None:
            answers = await asyncio.gather(*(model.ainvoke("Hello") for _ in range(500)))
            assert all(answer.content for answer in answers)

        return run

    times = asyncio.run(alternate_async(many(ours), many(peer), rounds))
    return Result("500 concurrent ainvoke", "ms", *times, at_most=1 / 4)


def stream(url: str, rounds: int) -> Result:
    """One chunk of a long stream."""
    ours, peer = chats(url, FAST)

    def read(model: Any) -> Callable[[], object]:
        def run() -> None:
            assert sum(1 for chunk in model.stream("Hello") if chunk.content) == CHUNKS - 1

        return run

    times = alternate(read(ours), read(peer), 3 * rounds)
    per_chunk = ([seconds / CHUNKS for seconds in values] for values in times)
    return Result("a streamed chunk", "us", *per_chunk, at_most=1 / 5, scale=1e6)


def astream(url: str, rounds: int) -> Result:
    """One chunk of a long stream, read by a coroutine."""
    ours, peer = chats(url, FAST)

    def read(model: Any) -> Callable[[], Awaitable[object]]:
        async def run() -> None:
            count = 0
            async for chunk in model.astream("Hello"):
                count += bool(chunk.content)
            assert count == CHUNKS - 1

        return run

    times = asyncio.run(alternate_async(read(ours), read(peer), 3 * rounds))
    per_chunk = ([seconds / CHUNKS for seconds in values] for values in times)
    return Result("a streamed chunk, astream", "us", *per_chunk, at_most=1 / 5, scale=1e6)


def importing(url: str, rounds: int) -> Result:
    """Importing in a fresh interpreter."""

    def fresh(module: str) -> float:
        code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=ROOT, env=cached, check=True, capture_output=True, text=True)
        return float(done.stdout)

    # pip compiles what it installs; a checkout is compiled by its first import, unless that is forbidden.
    cached = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    modules = ("hana_ai.api.chat_models", "langchain_together")
    for module in modules:
        fresh(module)
    ours, peer = [], []
    for _ in range(3 * rounds):
        ours.append(fresh(modules[0]))
        peer.append(fresh(modules[1]))
    return Result("import", "ms", ours, peer, at_most=0.6)


def invoke(url: str, rounds: int) -> Result:
    """One invoke."""
    ours, peer = chats(url, FAST)
    times = alternate(lambda: ours.invoke("Hello"), lambda: peer.invoke("Hello"), 10 * rounds, calls=20)
    return Result("one invoke", "ms", *times, at_most=0.7)


BENCHMARKS: dict[str, Callable[[str, int], Result]] = {
    "embed": embed,
    "concurrent": concurrent,
    "stream": stream,
    "astream": astream,
    "import": importing,
    "invoke": invoke,
}


def main() -> int:
    """Run, print the table, and say whether every bar is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        choices=[*BENCHMARKS, "limits", "hana"],
        help="run this one alone; may be repeated",
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each peer")
    arguments = parser.parse_args()
    # Neither the user's key nor their settings take part.
    for name in [name for name in os.environ if name.startswith(("TOGETHER_", "OPENAI_"))]:
        del os.environ[name]
    print(
        f"Server on 127.0.0.1, {LATENCY * 1000:.0f} ms latency for embed and concurrent, {DIMENSIONS} dims, "
        f"medians.\n\n{'':<34}{'ours':>10}{'together':>11} {'':<9}{'ratio':>15}{'bar':>9}"
    )
    met = True
    with server() as url:
        for name, run in BENCHMARKS.items():
            if arguments.only and name not in arguments.only:
                continue
            result = run(url, arguments.rounds)
            print(result.row(), flush=True)
            met = met and result.met
    if not arguments.only or "limits" in arguments.only:
        rates = ", ".join(f"{rate:g}" for rate in limits.PLAN.rates)
        print(f"\nA limit of {rates} requests a second, each for {limits.PLAN.seconds:g} s, not told to anyone.\n")
        for line in limits.figures():
            print(line, flush=True)
    if not arguments.only or "hana" in arguments.only:
        print("\nThe loopback HANA by hdbcli, medians.\n")
        for line in hana.figures():
            print(line, flush=True)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
