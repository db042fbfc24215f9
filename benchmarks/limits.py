"""Embeddings against a limit that is not known: how much of it is used, how much is refused, what fails.

langchain-together has no batches and no concurrency of its own for embeddings: beside `embed_documents`, which
sends one text after the other, stands what its users do about that, `aembed_query` for 64 texts at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.limited import Plan, Statistics, limited_server, statistics_of

PLAN = Plan([150, 90, 220, 120], seconds=8.0)
TEXTS = 4000
MODEL = "limited/embedder"

Job = Callable[[str, list[str]], int]


def ours(url: str, texts: list[str]) -> int:
    """TogetherAIEmbeddings, one text a request so that both send as many; returns the failed texts."""
    from hana_ai.api import TogetherAIEmbeddings

    embeddings = TogetherAIEmbeddings(model=MODEL, base_url=url, api_key="bench", batch_size=1)
    return len(texts) - len(asyncio.run(embeddings.aembed_documents(texts)))


def one_by_one(url: str, texts: list[str]) -> int:
    """langchain-together's own way."""
    from langchain_together import TogetherEmbeddings

    embeddings = TogetherEmbeddings(model=MODEL, base_url=f"{url}/v1", api_key="bench")  # type: ignore[call-arg]
    return len(texts) - len(embeddings.embed_documents(texts))


def at_the_same_time(url: str, texts: list[str]) -> int:
    """langchain-together with 64 calls at a time."""
    from langchain_together import TogetherEmbeddings

    embeddings = TogetherEmbeddings(model=MODEL, base_url=f"{url}/v1", api_key="bench")  # type: ignore[call-arg]

    async def embed(waiting: Iterator[str]) -> int:
        failed = 0
        for text in waiting:
            try:
                await embeddings.aembed_query(text)
            except Exception:  # noqa: BLE001 - counted, whatever it is
                failed += 1
        return failed

    async def run() -> int:
        waiting = iter(texts)
        return sum(await asyncio.gather(*(embed(waiting) for _ in range(64))))

    return asyncio.run(run())


JOBS: dict[str, tuple[Job, int]] = {
    "ours": (ours, TEXTS),
    "langchain-together": (one_by_one, TEXTS // 8),
    "langchain-together, 64 at a time": (at_the_same_time, TEXTS),
}


@dataclass(frozen=True, slots=True)
class Use:
    """How somebody has used a limit."""

    name: str
    texts: int
    failed: int
    told: Statistics
    judged: bool
    """Whether there is a bar: 90 % of what is allowed is used, 5 % of the requests are refused at most."""

    @property
    def met(self) -> bool:
        """Whether the bar is met, if there is one."""
        return not self.judged or (self.told.share >= 0.9 and self.told.refused_share <= 0.05)

    def row(self) -> str:
        """A line of the table that `header` begins."""
        share, refused = self.told.share, self.told.refused_share
        verdict = f"  {'met' if self.met else 'MISSED'}" if self.judged else ""
        return (
            f"{self.name:<34}{self.texts:>7}{self.told.seconds:>9.1f}{share:>12.1%} {refused:>8.1%}"
            f"{self.failed:>8}{verdict}"
        )


def header() -> str:
    """The head of the table."""
    rates = ", ".join(f"{rate:g}" for rate in PLAN.rates)
    told = f"A limit of {rates} requests a second, each for {PLAN.seconds:g} s, not told to anyone"
    return f"{told}\n{'':<34}{'texts':>7}{'seconds':>9}{'of the rate':>13}{'refused':>9}{'failed':>8}"


def uses() -> Iterator[Use]:
    """Run all jobs, each against a server of its own."""
    for name, (job, count) in JOBS.items():
        with limited_server(PLAN) as url:
            failed = job(url, [f"Row {number}" for number in range(count)])
            yield Use(name, count, failed, statistics_of(url), judged=job is ours)
