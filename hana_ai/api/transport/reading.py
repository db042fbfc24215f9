"""The bytes of a reply, read within a size and a deadline."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from hana_ai.api.errors import TogetherAIResponseError, TogetherAITimeoutError
from hana_ai.api.transport.body import abody_of, aclose, body_of, close
from hana_ai.api.transport.connections import breakage
from hana_ai.api.transport.deadlines import is_bound, until
from hana_ai.api.wire.failures import EventReader, decode, request_id_of

if TYPE_CHECKING:
    import httpx

    from hana_ai.api.transport.call import Call
    from hana_ai.api.transport.limiter import Limiter

logger = logging.getLogger(__name__)

MAX_REPLY_BYTES = 256 * 1024 * 1024
"""A reply larger than this is refused while it is read."""

_LONGEST_END = 0.05


@dataclass(slots=True)
class Opened:
    """A stream whose first chunk has come."""

    response: httpx.Response
    limiter: Limiter
    bytes: Any
    reader: EventReader
    idle_timeout: float = 60.0
    """Seconds between two chunks; comments and halves of chunks count as silence."""
    chunks: list[dict[str, Any]] = field(default_factory=list)
    """The last that came."""
    size: int = 0
    """Bytes so far."""

    def add(self, part: bytes) -> bool:
        """Take bytes; True when there is a first chunk (or the end)."""
        self._take(part)
        return bool(self.chunks) or self.reader.done

    def more(self, heard: float) -> bool:
        """Read on, for at most the idle timeout after `heard`; False at the end of the bytes."""
        with until(heard + self.idle_timeout):
            data = next(self.bytes, None)
        return self._take(data)

    async def amore(self, heard: float) -> bool:
        """Read on in a coroutine; see `more`."""
        if self.chunks:
            # The usual case: aiohttp's own timeout bounds a gap without a byte.
            data = await anext(self.bytes, None)
        else:
            async with within(heard + self.idle_timeout - time.monotonic()):
                data = await anext(self.bytes, None)
        return self._take(data)

    def _take(self, data: bytes | None) -> bool:
        if data is None:
            self.chunks = []
            self.reader.finish()
            return False
        self.size += len(data)
        if self.size > MAX_REPLY_BYTES:
            raise _too_large(self.reader.model)
        self.chunks = self.reader.feed(data)
        return True


def read_reply(call: Call, response: httpx.Response) -> tuple[Any, Mapping[str, str]]:
    """Read a reply to its end, close it, and return what it says, with its headers.

    Raises
    ------
    TogetherAIResponseError
        It is too large, or no JSON.
    TogetherAITimeoutError
        The call's deadline passed.
    """
    size, parts = 0, []
    try:
        for part in body_of(response):
            size += len(part)
            check(call, size)
            parts.append(part)
    finally:
        close(response)
    return _decoded(call, response, b"".join(parts))


async def aread_reply(call: Call, response: httpx.Response) -> tuple[Any, Mapping[str, str]]:
    """Read a reply to its end in a coroutine; see `read_reply`."""
    size, parts = 0, []
    try:
        async for part in abody_of(response):
            size += len(part)
            check(call, size)
            parts.append(part)
    finally:
        await aclose(response)
    return _decoded(call, response, b"".join(parts))


def check(call: Call, size: int) -> None:
    """Bound size and time while a reply is read."""
    if size > MAX_REPLY_BYTES:
        raise _too_large(call.model)
    if time.monotonic() > call.deadline:
        raise TogetherAITimeoutError(
            f"timed out after {call.timeout:g} s while reading the reply",
            model=call.model,
            hint="Raise TOGETHER_TIMEOUT.",
        )


def _too_large(model: str | None) -> TogetherAIResponseError:
    return TogetherAIResponseError(
        f"the reply is larger than {MAX_REPLY_BYTES} bytes and was refused", model=model
    )


def _decoded(call: Call, response: httpx.Response, data: bytes) -> tuple[Any, Mapping[str, str]]:
    headers = response.headers
    decoded = decode(
        data,
        model=call.model,
        request_id=request_id_of(headers),
        content_type=headers.get("content-type", ""),
    )
    return decoded, headers


def event_reader(call: Call, response: httpx.Response) -> EventReader:
    """Return a reader for a stream's events.

    Raises
    ------
    TogetherAIResponseError
        The reply is no stream of events.
    """
    headers = response.headers
    kind = headers.get("content-type", "")
    if "text/event-stream" not in kind:
        raise TogetherAIResponseError(
            f"asked for a stream, but the reply's content type is {kind or 'missing'}",
            model=call.model,
            request_id=request_id_of(headers),
        )
    return EventReader(model=call.model, request_id=request_id_of(headers))


def read_to_the_end(opened: Opened) -> None:
    """Read what follows `[DONE]`, so that the connection can be used again.

    HTTP ends a body after its last byte of data; a connection whose body was not read to that end is closed. It
    comes at once, so a server that holds it back is not waited for.
    """
    if not is_bound(opened.response.extensions.get("network_stream")):
        return
    try:
        with until(time.monotonic() + _LONGEST_END):
            next(opened.bytes, None)
    except breakage():
        logger.debug("a stream's connection was closed, since its end did not come in %g s", _LONGEST_END)


async def aread_to_the_end(opened: Opened) -> None:
    """Read what follows `[DONE]` in a coroutine; see `read_to_the_end`."""
    try:
        async with within(_LONGEST_END):
            await anext(opened.bytes, None)
    except breakage():
        logger.debug("a stream's connection was closed, since its end did not come in %g s", _LONGEST_END)


def within(seconds: float) -> AbstractAsyncContextManager[Any]:
    """Bound a coroutine's block; raises TimeoutError."""
    if sys.version_info >= (3, 11):
        return asyncio.timeout(seconds)
    from async_timeout import timeout  # aiohttp brings it where asyncio has none

    return cast("AbstractAsyncContextManager[Any]", timeout(seconds))
