"""Cases of streams: what one chunk takes, in a thread and in a coroutine."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any

from benchmarks import peers
from benchmarks.case import Case, Contestant, Prepare, Run, Setting
from benchmarks.figures import FLOOR, OURS, Bar
from benchmarks.server import CHUNKS, FAST, QUESTION

_Open = Callable[[], Any]


def _content(chunk: Any) -> object:
    """The text of a chunk of LangChain's; the APIs' own chunks have it in a delta."""
    return chunk.content if hasattr(chunk, "content") else chunk.choices and chunk.choices[0].delta.content


def _read(begin: _Open) -> Run:
    def run() -> None:
        chunks: Iterable[Any] = begin()
        assert sum(1 for chunk in chunks if _content(chunk)) == CHUNKS - 1

    return run


def _aread(begin: _Open) -> Run:
    async def run() -> None:
        begun = begin()
        chunks: AsyncIterable[Any] = await begun if isinstance(begun, Awaitable) else begun
        count = 0
        async for chunk in chunks:
            count += bool(_content(chunk))
        assert count == CHUNKS - 1

    return run


def _streams(chat: Any, asynchronous: bool) -> _Open:
    return lambda: (chat.astream if asynchronous else chat.stream)(QUESTION)


def _ours(setting: Setting, asynchronous: bool) -> _Open:
    return _streams(peers.chat(setting, FAST), asynchronous)


def _floor(_: Setting, asynchronous: bool) -> _Open:
    from benchmarks.floors import DoNothing

    return _streams(DoNothing(), asynchronous)


def _langchain_together(setting: Setting, asynchronous: bool) -> _Open:
    return _streams(peers.peer_chat(setting, FAST), asynchronous)


def _litellm(setting: Setting, asynchronous: bool) -> _Open:
    litellm, told = peers.litellm_told(setting, FAST)
    complete = litellm.acompletion if asynchronous else litellm.completion
    return lambda: complete(messages=peers.MESSAGES, stream=True, **told)


def _sdk(setting: Setting, asynchronous: bool) -> _Open:
    client = peers.async_sdk(setting) if asynchronous else peers.sdk(setting)
    return lambda: client.chat.completions.create(model=FAST, messages=peers.MESSAGES, stream=True)


def _prepared(prepare: Callable[[Setting, bool], _Open], asynchronous: bool) -> Prepare:
    read = _aread if asynchronous else _read
    return lambda setting: read(prepare(setting, asynchronous))


def _case(name: str, title: str, *, asynchronous: bool) -> Case:
    labels = {
        FLOOR: "floor: core doing nothing, nothing sent",
        OURS: "hana-ai-together",
        **peers.LABELS,
    }
    prepare = (_floor, _ours, _langchain_together, _litellm, _sdk)
    contestants = {
        who: Contestant(label, _prepared(each, asynchronous))
        for (who, label), each in zip(labels.items(), prepare, strict=True)
    }
    bars = (Bar(1.35), Bar(1 / 5, peers.LANGCHAIN_TOGETHER))
    return Case(name, title, "us", contestants, bars, operations=CHUNKS, rounds=3)


CASES = (
    _case("stream", "a streamed chunk", asynchronous=False),
    _case("astream", "a streamed chunk, astream", asynchronous=True),
)
