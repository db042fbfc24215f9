"""Cases of embeddings: thousands of texts in batches, and hundreds as langchain-together sends them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson

from benchmarks import peers
from benchmarks.case import Case, Contestant, Run, Setting
from benchmarks.figures import FLOOR, OURS, Bar
from benchmarks.server import DIMENSIONS, EMBEDDINGS_PATH, FAST, SLOW

TEXTS = [f"Row {number}: the customer asked about an invoice of last month." for number in range(5000)]
FEW = 500
BATCH = 128
"""Texts a request, our default; the floor and the peers are given as many."""

_BATCHES = [TEXTS[begin : begin + BATCH] for begin in range(0, len(TEXTS), BATCH)]


def _check(vectors: list[list[float]], texts: int) -> None:
    assert len(vectors) == texts
    assert len(vectors[-1]) == DIMENSIONS


def _checked(texts: int, embed: Callable[[], list[list[float]]]) -> Run:
    return lambda: _check(embed(), texts)


def _ours(setting: Setting) -> Run:
    model = peers.embeddings(setting, FAST, batch_size=BATCH)
    return _checked(len(TEXTS), lambda: model.embed_documents(TEXTS))


def _aours(setting: Setting) -> Run:
    model = peers.embeddings(setting, FAST, batch_size=BATCH)

    async def run() -> None:
        _check(await model.aembed_documents(TEXTS), len(TEXTS))

    return run


def _floor(setting: Setting) -> Run:
    from benchmarks.floors import AsyncPoster

    poster = AsyncPoster(setting.url, EMBEDDINGS_PATH)

    async def batch(texts: list[str]) -> list[list[float]]:
        reply = orjson.loads(await poster.post(orjson.dumps({"model": FAST, "input": texts})))
        return [entry["embedding"] for entry in reply["data"]]

    async def run() -> None:
        batches = await asyncio.gather(*(batch(texts) for texts in _BATCHES))
        _check([vector for vectors in batches for vector in vectors], len(TEXTS))

    return run


def _one_after_the_other(send: Callable[[list[str]], Any]) -> Run:
    def embed() -> list[list[float]]:
        replies = [send(texts) for texts in _BATCHES]
        return [_vector(entry) for reply in replies for entry in reply.data]

    return _checked(len(TEXTS), embed)


def _vector(entry: Any) -> list[float]:
    """An entry of a reply; litellm leaves it a dict."""
    vector: list[float] = entry["embedding"] if isinstance(entry, dict) else entry.embedding
    return vector


def _litellm(setting: Setting) -> Run:
    litellm, told = peers.litellm_told(setting, FAST)
    return _one_after_the_other(lambda texts: litellm.embedding(input=texts, **told))


def _sdk(setting: Setting) -> Run:
    client = peers.sdk(setting)
    return _one_after_the_other(lambda texts: client.embeddings.create(model=FAST, input=texts))


def _few(model: Any) -> Run:
    return _checked(FEW, lambda: model.embed_documents(TEXTS[:FEW]))


_OURS = "hana-ai-together"
_FLOOR = Contestant("floor: aiohttp and orjson, without LangChain", _floor)

CASES = (
    Case(
        "embed",
        f"embed {len(TEXTS):,} texts of {DIMENSIONS:,} numbers",
        "ms",
        {
            FLOOR: _FLOOR,
            OURS: Contestant(_OURS, _ours),
            peers.LITELLM: Contestant(f"{peers.LABELS[peers.LITELLM]}, batch by batch", _litellm),
            peers.SDK: Contestant(f"{peers.LABELS[peers.SDK]}, so, too", _sdk),
        },
        (Bar(1.5),),
    ),
    Case(
        "aembed",
        f"embed {len(TEXTS):,} texts of {DIMENSIONS:,} numbers, aembed_documents",
        "ms",
        {FLOOR: _FLOOR, OURS: Contestant(_OURS, _aours)},
        (Bar(1.5),),
    ),
    Case(
        "embed-few",
        f"embed {FEW} texts, answered after 20 ms",
        "ms",
        {
            OURS: Contestant(_OURS, lambda setting: _few(peers.embeddings(setting, SLOW))),
            peers.LANGCHAIN_TOGETHER: Contestant(
                f"{peers.LABELS[peers.LANGCHAIN_TOGETHER]}, which sends one text a request",
                lambda setting: _few(peers.peer_embeddings(setting, SLOW)),
            ),
        },
        (Bar(1 / 40, peers.LANGCHAIN_TOGETHER),),
    ),
)
