"""Cases of streams: what one chunk takes, in a thread and in a coroutine."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any

from benchmarks import peers
from benchmarks.case import Case, Contestant, Run, Setting
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


def _ours(setting: Setting) -> Run:
    chat = peers.chat(setting, FAST)
    return _read(lambda: chat.stream(QUESTION))


def _floor(_: Setting) -> Run:
    from benchmarks.floors import DoNothing

    chat = DoNothing()
    return _read(lambda: chat.stream(QUESTION))


def _langchain_together(setting: Setting) -> Run:
    chat = peers.peer_chat(setting, FAST)
    return _read(lambda: chat.stream(QUESTION))


def _litellm(setting: Setting) -> Run:
    litellm, told = peers.litellm_told(setting, FAST)
    return _read(lambda: litellm.completion(messages=peers.MESSAGES, stream=True, **told))


def _sdk(setting: Setting) -> Run:
    client = peers.sdk(setting)
    return _read(lambda: client.chat.completions.create(model=FAST, messages=peers.MESSAGES, stream=True))


def _aours(setting: Setting) -> Run:
    chat = peers.chat(setting, FAST)
    return _aread(lambda: chat.astream(QUESTION))


def _afloor(_: Setting) -> Run:
    from benchmarks.floors import DoNothing

    chat = DoNothing()
    return _aread(lambda: chat.astream(QUESTION))


def _alangchain_together(setting: Setting) -> Run:
    chat = peers.peer_chat(setting, FAST)
    return _aread(lambda: chat.astream(QUESTION))


def _alitellm(setting: Setting) -> Run:
    litellm, told = peers.litellm_told(setting, FAST)
    return _aread(lambda: litellm.acompletion(messages=peers.MESSAGES, stream=True, **told))


def _asdk(setting: Setting) -> Run:
    client = peers.async_sdk(setting)
    return _aread(lambda: client.chat.completions.create(model=FAST, messages=peers.MESSAGES, stream=True))


def _case(name: str, title: str, *prepare: Callable[[Setting], Run]) -> Case:
    labels = {
        FLOOR: "floor: core doing nothing, nothing sent",
        OURS: "hana-ai-together",
        **peers.LABELS,
    }
    contestants = {
        who: Contestant(label, each) for (who, label), each in zip(labels.items(), prepare, strict=True)
    }
    bars = (Bar(1.35), Bar(1 / 5, peers.LANGCHAIN_TOGETHER))
    return Case(name, title, "us", contestants, bars, operations=CHUNKS, rounds=3)


CASES = (
    _case("stream", "a streamed chunk", _floor, _ours, _langchain_together, _litellm, _sdk),
    _case("astream", "a streamed chunk, astream", _afloor, _aours, _alangchain_together, _alitellm, _asdk),
)
