"""What overtakes: replies, pages of lists and events of streams that come in another order than they were sent."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest

from hana_ai.api import (
    ChatTogetherAI,
    TogetherAI,
    TogetherAIConnector,
    TogetherAIEmbeddings,
    TogetherAIError,
    TogetherAIRerank,
)
from hana_ai.api.local.together import ScriptedEngine
from tests.conftest import ScriptedTogether
from tests.faults import said
from tests.faults.faces import FACES, Face
from tests.faults.mutations import EveryPath
from tests.faults.server import Exchange, FaultyServer, Good

AT_A_TIME = 6


class Overtaking:
    """Holds replies until all of a group are there, and sends them in another order."""

    def __init__(self, paths: str, size: int, seed: int) -> None:
        self._paths = paths
        self._size = size
        self._moments = random.Random(seed)
        self._held: list[asyncio.Future[None]] = []
        self.orders: list[list[int]] = []

    async def __call__(self, exchange: Exchange) -> None:
        good = await exchange.good()
        if exchange.request.path.partition("?")[0].endswith(self._paths):
            mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._held.append(mine)
            if len(self._held) == self._size:
                held, self._held = self._held, []
                order = list(range(self._size))
                while order == sorted(order):
                    self._moments.shuffle(order)
                self.orders.append(order)
                for place in order:
                    held[place].set_result(None)
                    # Each is written before the next one is let go.
                    await asyncio.sleep(0.005)
            await mine
        await exchange.send(good.wire())


TEXTS = [f"text number {number}" for number in range(AT_A_TIME)]


def _threads(ask: Callable[[str], object]) -> list[object]:
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(ask, TEXTS))


async def _tasks(ask: Callable[[str], Any]) -> list[object]:
    return list(await asyncio.gather(*map(ask, TEXTS)))


def _chat(url: str, key: str) -> ChatTogetherAI:
    return ChatTogetherAI(base_url=url, api_key=key, model=ScriptedEngine.CHAT, max_concurrency=AT_A_TIME)


def _embeddings(url: str, key: str) -> TogetherAIEmbeddings:
    return TogetherAIEmbeddings(
        base_url=url, api_key=key, model=ScriptedEngine.EMBEDDING, chunk_size=1, max_concurrency=AT_A_TIME
    )


def _rerank(url: str, key: str) -> TogetherAIRerank:
    return TogetherAIRerank(base_url=url, api_key=key, model=ScriptedEngine.RERANK, max_concurrency=AT_A_TIME)


def _llm(url: str, key: str) -> TogetherAI:
    return TogetherAI(base_url=url, api_key=key, model=ScriptedEngine.CHAT, max_concurrency=AT_A_TIME)


async def _streamed(chat: ChatTogetherAI, text: str) -> str:
    return "".join([str(chunk.content) async for chunk in chat.astream(text)])


CONCURRENT: dict[str, tuple[str, Callable[[str, str], list[Any]]]] = {
    "chat in threads": ("/chat/completions", lambda u, k: _threads(lambda text: _chat(u, k).invoke(text).content)),
    "chat in tasks": (
        "/chat/completions",
        lambda u, k: [one.content for one in asyncio.run(_tasks(_chat(u, k).ainvoke))],  # type: ignore[attr-defined]
    ),
    "streams in tasks": (
        "/chat/completions",
        lambda u, k: asyncio.run(_tasks(lambda text: _streamed(_chat(u, k), text))),
    ),
    "batch": ("/chat/completions", lambda u, k: [one.content for one in _chat(u, k).batch(TEXTS)]),
    "llm prompts": ("/completions", lambda u, k: [one[0].text for one in _llm(u, k).generate(TEXTS).generations]),
    "embeddings": ("/embeddings", lambda u, k: _embeddings(u, k).embed_documents(TEXTS)),
    "embeddings async": ("/embeddings", lambda u, k: asyncio.run(_embeddings(u, k).aembed_documents(TEXTS))),
    "rerankings": (
        "/rerank",
        lambda u, k: _threads(lambda text: _rerank(u, k).rerank(text, TEXTS)),
    ),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", CONCURRENT)
def test_each_caller_gets_its_own_reply_in_whatever_order_they_come(
    faulty: FaultyServer, good_server: ScriptedTogether, name: str, seed: int
) -> None:
    path, ask = CONCURRENT[name]
    expected = ask(good_server.base_url, str(good_server.api_key))
    assert len({str(one) for one in expected}) == AT_A_TIME
    play = Overtaking(path, AT_A_TIME, seed)
    with faulty.listen(play, EveryPath()) as listener:
        assert ask(listener.url, str(good_server.api_key)) == expected
    assert play.orders


async def test_lists_that_are_read_at_a_time_keep_their_own_pages(
    faulty: FaultyServer, good_server: ScriptedTogether
) -> None:
    key = str(good_server.api_key)

    async def read(url: str) -> list[object]:
        async with TogetherAIConnector({"base_url": url, "api_key": key}) as connector:
            models = asyncio.gather(*(connector.list_available_models() for _ in range(3)))
            lists = asyncio.gather(*(connector.list_endpoints() for _ in range(3)))
            return [*(await models), *(await lists)]

    expected = await read(good_server.base_url)
    play = Overtaking("/endpoints", 3, 0)
    with faulty.listen(play, EveryPath()) as listener:
        assert str(await read(listener.url)).replace(listener.url, good_server.base_url) == str(expected)
    assert play.orders


# --- the events of one stream ---

_DONE = b"data: [DONE]"


def _orders(count: int, seed: int) -> list[tuple[int, ...]]:
    """Every two neighbours exchanged, and some orders by chance."""
    usual = tuple(range(count))
    swaps = [(*usual[:at], at + 1, at, *usual[at + 2 :]) for at in range(count - 1)]
    chance = random.Random(seed)
    return [*swaps, *(tuple(chance.sample(usual, count)) for _ in range(10)), usual[::-1]]


def _said(good: Good, order: tuple[int, ...], read: Callable[..., str]) -> str | None:
    """What the events say in their new order, up to the one that ends them; None where that is no answer."""
    events = [good.events[place].strip() for place in order]
    before = list(itertools.takewhile(lambda event: event != _DONE, events))
    try:
        return read([orjson.loads(event.removeprefix(b"data: ")) for event in before], strict=False)
    except said.RefusedError:
        return None


STREAMS = [face for face in FACES if face.kind == "stream"]


@pytest.mark.parametrize("face", STREAMS, ids=lambda face: face.name.replace(" ", "-"))
def test_events_out_of_order_are_read_as_they_come_or_are_an_error(
    faulty: FaultyServer, good_server: ScriptedTogether, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_MAX_RETRIES", "0")
    read = said.completion_stream if face.part == "llm" else said.chat_stream
    ends = set()
    for order in _orders(6, 1):
        seen: list[str | None] = []

        async def play(exchange: Exchange, order: tuple[int, ...] = order, seen: list[str | None] = seen) -> None:
            good = await exchange.good()
            assert len(good.events) == len(order)
            seen.append(_said(good, order, read))
            await exchange.send(good.wire(b"".join(good.events[place] for place in order)))

        with faulty.listen(play) as listener:
            try:
                answer = face.ask(listener.url, str(good_server.api_key))
            except TogetherAIError:
                ends.add("error")
                assert seen[-1] is None
            else:
                ends.add("answer")
                assert answer == seen[-1]
    assert ends == {"answer", "error"}
