"""The least that each case can take: LangChain's core with a model that does nothing, and bare HTTP.

The do-nothing model sends a request where a case has one and takes no notice of what comes back: no limits, no
retries, no errors, no token counts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http.client import HTTPConnection
from threading import local
from typing import Any
from urllib.parse import urlsplit

import orjson
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from benchmarks.server import CHAT_PATH, CHUNKS

_TEXT = "A column store keeps the values of one column side by side. " * 5


class DoNothing(BaseChatModel):
    """Answers with one text, or `max_tokens` chunks of which the last is empty, whatever the question."""

    post: Callable[[], object] | None = None
    """Called before each answer."""
    apost: Callable[[], Awaitable[object]] | None = None
    """Awaited before each answer of a coroutine."""

    @property
    def _llm_type(self) -> str:
        return "nothing"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        if self.post is not None:
            self.post()
        return _answer()

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        if self.apost is not None:
            await self.apost()
        return _answer()

    def _stream(
        self, messages: list[BaseMessage], *_: Any, max_tokens: int = CHUNKS, **__: Any
    ) -> Iterator[ChatGenerationChunk]:
        for number in range(max_tokens - 1):
            yield _chunk(f" word{number % CHUNKS}")
        yield _chunk("")

    async def _astream(
        self, messages: list[BaseMessage], *_: Any, max_tokens: int = CHUNKS, **__: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for number in range(max_tokens - 1):
            yield _chunk(f" word{number % CHUNKS}")
        yield _chunk("")


def _answer() -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=AIMessage(content=_TEXT))])


def _chunk(text: str) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=text))


def chat_body(model: str) -> bytes:
    """The body of a request with one short question."""
    return orjson.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})


def poster(url: str, model: str) -> Callable[[], bytes]:
    """Post a question over http.client; each thread keeps its own connection."""
    address, body, kept = urlsplit(url).netloc, chat_body(model), local()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer bench"}

    def post() -> bytes:
        connection: HTTPConnection | None = getattr(kept, "connection", None)
        if connection is None:
            connection = kept.connection = HTTPConnection(address)
        connection.request("POST", CHAT_PATH, body, headers)
        with connection.getresponse() as response:
            return response.read()

    return post


class AsyncPoster:
    """Post over aiohttp, in a session that is opened in the event loop of the first request."""

    def __init__(self, url: str, path: str) -> None:
        self._address = url + path
        self._session: Any = None

    async def post(self, body: bytes) -> bytes:
        """Give the body of the reply."""
        import aiohttp

        if self._session is None:
            headers = {"Content-Type": "application/json", "Authorization": "Bearer bench"}
            self._session = aiohttp.ClientSession(headers=headers)
        async with self._session.post(self._address, data=body) as response:
            read: bytes = await response.read()
            return read

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None
