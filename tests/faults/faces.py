"""The ways to ask, each as a function of an address that gives something to compare."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from hana_ai.api import (
    ChatTogetherAI,
    TogetherAI,
    TogetherAIConnector,
    TogetherAIEmbeddings,
    TogetherAIRerank,
)
from hana_ai.api.local.together import ScriptedEngine
from tests.faults.server import ACCOUNT, INFERENCE

TEXT = "one two three four"
TEXTS = ["one", "two words", "three more words"]


@dataclass(frozen=True)
class Face:
    """One way to ask."""

    part: str
    ask: Callable[[str, str], Any]
    """Asks an address with a key."""
    kind: Literal["plain", "stream", "account"]
    is_async: bool

    @property
    def name(self) -> str:
        """For the matrix."""
        return f"{self.part} {'async' if self.is_async else 'sync'} {self.kind}"

    @property
    def paths(self) -> tuple[str, ...]:
        """Which of its requests are damaged."""
        return ACCOUNT if self.kind == "account" else INFERENCE


class LeftoverError(AssertionError):
    """A task was left behind."""


def _run(ask: Callable[[str, str], Awaitable[Any]]) -> Callable[[str, str], Any]:
    async def watched(url: str, key: str) -> Any:
        before = asyncio.all_tasks()
        try:
            return await ask(url, key)
        finally:
            for _ in range(50):
                left = asyncio.all_tasks() - before
                if not left:
                    break
                await asyncio.sleep(0)  # generators that were left are closed in tasks of the loop's own
            if left:
                raise LeftoverError(left)

    return lambda url, key: asyncio.run(watched(url, key))


def _chat(url: str, key: str) -> ChatTogetherAI:
    return ChatTogetherAI(base_url=url, api_key=key, model=ScriptedEngine.CHAT)


def _llm(url: str, key: str) -> TogetherAI:
    return TogetherAI(base_url=url, api_key=key, model=ScriptedEngine.CHAT)


def _embeddings(url: str, key: str) -> TogetherAIEmbeddings:
    return TogetherAIEmbeddings(base_url=url, api_key=key, model=ScriptedEngine.EMBEDDING)


def _rerank(url: str, key: str) -> TogetherAIRerank:
    return TogetherAIRerank(base_url=url, api_key=key, model=ScriptedEngine.RERANK)


async def _chat_ainvoke(url: str, key: str) -> Any:
    return (await _chat(url, key).ainvoke(TEXT)).content


async def _chat_astream(url: str, key: str) -> Any:
    return "".join([str(chunk.content) async for chunk in _chat(url, key).astream(TEXT)])


async def _llm_ainvoke(url: str, key: str) -> Any:
    return await _llm(url, key).ainvoke(TEXT)


async def _llm_astream(url: str, key: str) -> Any:
    return "".join([part async for part in _llm(url, key).astream(TEXT)])


async def _aembed(url: str, key: str) -> Any:
    return await _embeddings(url, key).aembed_documents(TEXTS)


async def _arerank(url: str, key: str) -> Any:
    return await _rerank(url, key).arerank("two", TEXTS)


async def _infer(url: str, key: str) -> Any:
    async with TogetherAIConnector({"base_url": url, "api_key": key}) as connector:
        return (await connector.inference(ScriptedEngine.CHAT, TEXT))["text"]


async def _infer_streaming(url: str, key: str) -> Any:
    async with TogetherAIConnector({"base_url": url, "api_key": key}) as connector:
        stream = connector.inference_streaming(ScriptedEngine.CHAT, TEXT)
        return "".join([chunk["text"] async for chunk in stream])


async def _connect(url: str, key: str) -> Any:
    connector = TogetherAIConnector()
    try:
        return await connector.connect({"base_url": url, "api_key": key})
    finally:
        await connector.disconnect()


FACES = (
    Face("chat", lambda url, key: _chat(url, key).invoke(TEXT).content, "plain", False),
    Face("chat", _run(_chat_ainvoke), "plain", True),
    Face("chat", lambda url, key: "".join(str(c.content) for c in _chat(url, key).stream(TEXT)), "stream", False),
    Face("chat", _run(_chat_astream), "stream", True),
    Face("llm", lambda url, key: _llm(url, key).invoke(TEXT), "plain", False),
    Face("llm", _run(_llm_ainvoke), "plain", True),
    Face("llm", lambda url, key: "".join(_llm(url, key).stream(TEXT)), "stream", False),
    Face("llm", _run(_llm_astream), "stream", True),
    Face("embeddings", lambda url, key: _embeddings(url, key).embed_documents(TEXTS), "plain", False),
    Face("embeddings", _run(_aembed), "plain", True),
    Face("rerank", lambda url, key: _rerank(url, key).rerank("two", TEXTS), "plain", False),
    Face("rerank", _run(_arerank), "plain", True),
    Face("connector", _run(_infer), "plain", True),
    Face("connector", _run(_infer_streaming), "stream", True),
    Face("connector", _run(_connect), "account", True),
)
