"""Cases of chat: one call after the other, many coroutines, many threads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks import peers
from benchmarks.case import Case, Contestant, Run, Setting
from benchmarks.figures import BASELINE, FLOOR, OURS, Bar
from benchmarks.server import CHAT_PATH, FAST, QUESTION, SLOW

CALLS_IN_A_ROW = 50
CALLS_AT_A_TIME = 500
THREADS = 64


# --- one call, in each contestant's way ---


def _ours(setting: Setting, model: str) -> Callable[[], object]:
    chat = peers.chat(setting, model)
    return lambda: chat.invoke(QUESTION)


def _floor(setting: Setting, model: str) -> Callable[[], object]:
    from benchmarks.floors import DoNothing, poster

    chat = DoNothing(post=poster(setting.url, model))
    return lambda: chat.invoke(QUESTION)


def _langchain_together(setting: Setting, model: str) -> Callable[[], object]:
    chat = peers.peer_chat(setting, model)
    return lambda: chat.invoke(QUESTION)


def _litellm(setting: Setting, model: str) -> Callable[[], object]:
    litellm, told = peers.litellm_told(setting, model)
    return lambda: litellm.completion(messages=peers.MESSAGES, **told)


def _sdk(setting: Setting, model: str) -> Callable[[], object]:
    client = peers.sdk(setting)
    return lambda: client.chat.completions.create(model=model, messages=peers.MESSAGES)


def _aours(setting: Setting, model: str) -> Callable[[], Awaitable[object]]:
    chat = peers.chat(setting, model)
    return lambda: chat.ainvoke(QUESTION)


def _afloor(setting: Setting, model: str) -> Callable[[], Awaitable[object]]:
    from benchmarks.floors import AsyncPoster, DoNothing, chat_body

    poster, body = AsyncPoster(setting.url, CHAT_PATH), chat_body(model)
    chat = DoNothing(apost=lambda: poster.post(body))
    return lambda: chat.ainvoke(QUESTION)


def _alangchain_together(setting: Setting, model: str) -> Callable[[], Awaitable[object]]:
    chat = peers.peer_chat(setting, model)
    return lambda: chat.ainvoke(QUESTION)


def _alitellm(setting: Setting, model: str) -> Callable[[], Awaitable[object]]:
    litellm, told = peers.litellm_told(setting, model)
    return lambda: litellm.acompletion(messages=peers.MESSAGES, **told)


def _asdk(setting: Setting, model: str) -> Callable[[], Awaitable[object]]:
    client = peers.async_sdk(setting)
    return lambda: client.chat.completions.create(model=model, messages=peers.MESSAGES)


# --- rounds of many calls ---

_Call = Callable[[Setting, str], Callable[[], Any]]


def _in_a_row(call: _Call) -> Callable[[Setting], Run]:
    def prepare(setting: Setting) -> Run:
        once = call(setting, FAST)

        def run() -> None:
            for _ in range(CALLS_IN_A_ROW):
                assert once() is not None

        return run

    return prepare


def _in_threads(call: _Call) -> Callable[[Setting], Run]:
    def prepare(setting: Setting) -> Run:
        once, threads = call(setting, SLOW), ThreadPoolExecutor(THREADS)

        def run() -> None:
            answers = threads.map(lambda _: once(), range(CALLS_AT_A_TIME))
            assert None not in list(answers)

        return run

    return prepare


def _in_coroutines(call: _Call) -> Callable[[Setting], Run]:
    def prepare(setting: Setting) -> Run:
        once = call(setting, SLOW)

        async def run() -> None:
            answers = await asyncio.gather(*(once() for _ in range(CALLS_AT_A_TIME)))
            assert None not in answers

        return run

    return prepare


def _contestants(
    way: Callable[[_Call], Callable[[Setting], Run]], floor: str, calls: dict[str, _Call]
) -> dict[str, Contestant]:
    labels = {OURS: "hana-ai-together", FLOOR: f"floor: {floor}", **peers.LABELS}
    return {name: Contestant(labels[name], way(call)) for name, call in calls.items()}


_SYNC: dict[str, _Call] = {
    FLOOR: _floor,
    OURS: _ours,
    peers.LANGCHAIN_TOGETHER: _langchain_together,
    peers.LITELLM: _litellm,
    peers.SDK: _sdk,
}
_ASYNC: dict[str, _Call] = {
    FLOOR: _afloor,
    OURS: _aours,
    peers.LANGCHAIN_TOGETHER: _alangchain_together,
    peers.LITELLM: _alitellm,
    peers.SDK: _asdk,
}
_OVER_HTTP_CLIENT = "core doing nothing, http.client"

CASES = (
    Case(
        "invoke",
        "one invoke",
        "us",
        _contestants(_in_a_row, _OVER_HTTP_CLIENT, _SYNC),
        (Bar(1.9), Bar(0.7, peers.LANGCHAIN_TOGETHER)),
        operations=CALLS_IN_A_ROW,
        rounds=4,
    ),
    Case(
        "concurrent",
        f"{CALLS_AT_A_TIME} concurrent ainvoke, answered after 20 ms",
        "ms",
        _contestants(_in_coroutines, "core doing nothing, aiohttp", _ASYNC),
        (Bar(1.8), Bar(1 / 5, peers.LANGCHAIN_TOGETHER)),
    ),
    Case(
        "threads",
        f"{CALLS_AT_A_TIME} invoke in {THREADS} threads, answered after 20 ms",
        "ms",
        _contestants(_in_threads, _OVER_HTTP_CLIENT, _SYNC),
        (Bar(1 / 1.5, BASELINE),),
        rounds=2,
    ),
)
