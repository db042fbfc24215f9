"""One request to one destination: sent, read and learned from. Runs in the engine."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from hana_ai.api.errors import (
    TogetherAIRateLimitError,
    TogetherAIRequestError,
    TogetherAIResponseError,
    TogetherAIServerError,
)
from hana_ai.api.transport.attempts import queue_timeout
from hana_ai.api.transport.body import Body
from hana_ai.api.transport.call import Call
from hana_ai.api.transport.destinations import Destination
from hana_ai.api.transport.limiter import Limiter
from hana_ai.api.wire.encoding import decode
from hana_ai.api.wire.events import EventReader
from hana_ai.api.wire.failures import forget_frames, status_error, transport_error
from hana_ai.api.wire.headers import request_id_of
from hana_ai.api.wire.schemas import JSONObject

logger = logging.getLogger(__name__)

BREAKAGE = (aiohttp.ClientError, OSError, TimeoutError, EOFError)
"""What aiohttp and the system raise when an exchange fails."""

_LARGEST_ERROR = 64 * 1024
"""Bytes of an error's body that are read; its words stand at the beginning."""
_LONGEST_END = 0.05


@dataclass(slots=True)
class Exchange:
    """Tries of one call, each to the destination that is named."""

    call: Call
    ceiling: int
    """Of the limiter."""
    most_bytes: int
    """Of a reply."""

    async def whole(self, destination: Destination) -> tuple[Any, Mapping[str, str]]:
        """Send the request and return the decoded reply with its headers.

        Raises
        ------
        TogetherAIRequestError
            A subclass of it.
        """
        call = self.call
        limiter = await self._admitted(destination)
        sent = time.monotonic()
        try:
            async with asyncio.timeout(call.remaining):
                response = await self._answered(destination)
                try:
                    data = await Body(response, self.most_bytes, call.model).whole()
                except BaseException:
                    # What was read to its end has given its connection back.
                    response.close()
                    raise
            headers = response.headers
            decoded = decode(
                data,
                model=call.model,
                request_id=request_id_of(headers),
                content_type=headers.get("Content-Type", ""),
                decode_part=call.decode_part,
            )
        except BREAKAGE as exc:
            error = self._learned(limiter, sent, broken_exchange(exc, destination, call.model))
            raise error from error.__cause__
        except TogetherAIRequestError as exc:
            self._learned(limiter, sent, exc)
            raise
        finally:
            limiter.release()
        limiter.succeeded()
        return decoded, headers

    async def opened(self, destination: Destination) -> OpenedStream:
        """Send the request and return the stream once its first chunk has come; raises the same as `whole`."""
        call = self.call
        limiter = await self._admitted(destination)
        sent = time.monotonic()
        opened: OpenedStream | None = None
        try:
            async with asyncio.timeout(call.remaining):
                response = await self._answered(destination)
                opened = OpenedStream(destination, response, limiter, call.stream_idle_timeout)
                opened.read_events(call, self.most_bytes)
                while not opened.chunks and not opened.reader.done and await opened.read_more():
                    pass
        except BaseException as exc:
            if opened is not None:
                opened.response.close()
            limiter.release()
            if isinstance(exc, BREAKAGE):
                error = self._learned(limiter, sent, broken_exchange(exc, destination, call.model))
                raise error from error.__cause__
            if isinstance(exc, TogetherAIRequestError):
                self._learned(limiter, sent, exc)
            raise
        limiter.succeeded()
        return opened

    async def _admitted(self, destination: Destination) -> Limiter:
        call = self.call
        limiter = destination.limiter(call.model, self.ceiling)
        if not await limiter.acquire(call.remaining, again=call.refusal is not None):
            raise queue_timeout(call)
        return limiter

    async def _answered(self, destination: Destination) -> aiohttp.ClientResponse:
        """Send the request and return the reply's head, if it is not an error's."""
        call = self.call
        connect = min(call.connect_timeout, call.timeout)
        if call.method == "GET":
            response = await destination.get(call.path, call.params, connect)
        else:
            response = await destination.post(call.path, call.payload or b"", connect)
        if 200 <= response.status < 300:
            return response
        try:
            data = await _beginning(response)
        finally:
            response.close()
        raise status_error(response.status, response.headers, data, model=call.model)

    def _learned(self, limiter: Limiter, sent: float, error: TogetherAIRequestError) -> TogetherAIRequestError:
        """Tell the limiter of a failure."""
        call = self.call
        call.refusal = None
        if isinstance(error, TogetherAIRateLimitError):
            call.refusal = error
            call.overtaken = limiter.answered_since(call.started)
            limiter.refused(sent, error.retry_after)
        elif isinstance(error, TogetherAIServerError):
            limiter.pause(error.retry_after)
        return error


@dataclass(slots=True)
class OpenedStream:
    """A stream of events."""

    destination: Destination
    response: aiohttp.ClientResponse
    limiter: Limiter
    idle_timeout: float
    """Seconds between two chunks; comments and halves of chunks count as silence."""
    reader: EventReader = field(init=False)
    chunks: list[JSONObject] = field(init=False, default_factory=list)
    """The last that came."""
    _body: Body = field(init=False)

    def read_events(self, call: Call, most_bytes: int) -> None:
        """Prepare to read events.

        Raises
        ------
        TogetherAIResponseError
            The reply is no stream of events.
        """
        headers = self.response.headers
        kind = headers.get("Content-Type", "")
        request_id = request_id_of(headers)
        if "text/event-stream" not in kind:
            raise TogetherAIResponseError(
                f"asked for a stream, but the reply's content type is {kind or 'missing'}",
                model=call.model,
                request_id=request_id,
            )
        self.reader = EventReader(model=call.model, request_id=request_id)
        self._body = Body(self.response, most_bytes, call.model)

    async def read_more(self) -> bool:
        """Read what the network has; False at the end of the bytes."""
        data = await self._body.next()
        if not data:
            self.chunks = []
            self.reader.finish()
            return False
        self.chunks = self.reader.feed(data)
        return True

    async def batches(self) -> AsyncGenerator[list[JSONObject], None]:
        """Yield the chunks of the stream, as many at a time as the network brings.

        The time between two chunks is bounded by the idle timeout; the time that the caller takes is not.
        """
        if self.chunks:
            yield self.chunks
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while not self.reader.done:
            async with asyncio.timeout_at(heard + self.idle_timeout):
                if not await self.read_more():
                    return
            if self.chunks:
                yield self.chunks
                heard = loop.time()
        await self._read_to_the_end()

    async def _read_to_the_end(self) -> None:
        """Read what follows `[DONE]`, so that the connection can be used again.

        HTTP ends a body after its last byte of data; a connection whose body was not read to that end is closed.
        It comes at once, so a server that holds it back is not waited for.
        """
        try:
            async with asyncio.timeout(_LONGEST_END):
                await self._body.next()
        except (*BREAKAGE, TogetherAIResponseError):
            logger.debug("a stream's connection was closed, since its end did not come in %g s", _LONGEST_END)

    def close(self) -> None:
        """Give the connection and the limiter's place back."""
        try:
            self.response.close()
        finally:
            self.limiter.release()


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """Read the beginning of an error's body, or what comes of it until it breaks off."""
    body, parts = Body(response, _LARGEST_ERROR), []
    try:
        while data := await body.next():
            parts.append(data)
    except (*BREAKAGE, TogetherAIResponseError):
        # Ignore a truncated error body: the status says enough.
        logger.debug("the body of an error was not read to its end")
    return b"".join(parts)


def broken_exchange(exc: BaseException, destination: Destination, model: str | None) -> TogetherAIRequestError:
    """Make the error for an exchange that broke, with its cause, but without the frames that hold the key."""
    forget_frames(exc)
    error = transport_error(exc, base_url=destination.base_url, model=model)
    if error is not exc:
        # aiohttp's error for a broken reply holds the request's headers, and with them the key.
        has_headers = isinstance(exc, aiohttp.ClientResponseError)
        error.__cause__ = aiohttp.ClientError(str(exc)) if has_headers else exc
    return error
