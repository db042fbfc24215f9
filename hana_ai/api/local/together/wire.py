"""What happens on the wire: who connected, what was exchanged, and connections that are cut on purpose."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from .refusal import JSON

Exchange: TypeAlias = Callable[[str, JSON, int, object], None]
"""Called after every request with path, request body, status, and the answer's body or a stream's chunks.

An answer that was cut short has None for a body, or the whole chunks before the cut; status 0 means that not even
the status line was sent.
"""

Transports: TypeAlias = "dict[tuple[str, int], asyncio.Transport]"


@dataclass
class Statistics:
    """Counts since the start or the last reset.

    Attributes
    ----------
    connections
        Connections opened.
    open_connections
        Connections open now; a reset leaves it alone.
    requests, active
        Requests that came in, and that are being answered now.
    peak_active
        The most requests that were being answered at one time.
    disconnects
        Answers that the client did not wait for.
    """

    connections: int = 0
    open_connections: int = 0
    requests: int = 0
    active: int = 0
    peak_active: int = 0
    disconnects: int = 0

    def reset(self) -> None:
        """Start counting again."""
        self.connections = self.requests = self.peak_active = self.disconnects = 0


def counting_protocol(statistics: Statistics, transports: Transports) -> type[H11Protocol]:
    """A uvicorn protocol that counts connections and keeps their transports, by the client's address."""

    class CountingProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            statistics.connections += 1
            statistics.open_connections += 1
            if self.client is not None:
                transports[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            statistics.open_connections -= 1
            if self.client is not None:
                transports.pop(self.client, None)

    return CountingProtocol


@dataclass(eq=False)
class Observed:
    """Counts requests, hands whole exchanges to a hook, and lets whatever is inside cut the connection."""

    app: ASGIApp
    statistics: Statistics
    transports: Transports
    on_exchange: Exchange | None
    failures: list[BaseException]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and look at it."""
        statistics = self.statistics
        statistics.requests += 1
        statistics.active += 1
        statistics.peak_active = max(statistics.peak_active, statistics.active)
        client = scope.get("client")
        transport = self.transports.get(tuple(client)) if client else None
        scope.setdefault("state", {})["transport"] = transport
        seen = _Seen() if self.on_exchange is not None else None
        try:
            if seen is None:
                await self.app(scope, receive, send)
            else:
                await self.app(scope, seen.receive(receive), seen.send(send))
        finally:
            statistics.active -= 1
            if transport is not None and transport.is_closing():
                statistics.disconnects += 1
            if seen is not None:
                self._report(scope["path"], seen)

    def _report(self, path: str, seen: _Seen) -> None:
        assert self.on_exchange is not None
        try:
            self.on_exchange(path, _json_or_text(bytes(seen.request)), seen.status, seen.answer())
        except Exception as exc:  # noqa: BLE001 - the hook is a test's: LocalTogether.close() raises it there
            self.failures.append(exc)


class _Seen:
    """The bytes of one exchange."""

    def __init__(self) -> None:
        self.request = bytearray()
        self.status = 0
        self.complete = False
        self._body = bytearray()
        self._streamed = False

    def receive(self, receive: Receive) -> Receive:
        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                self.request += message.get("body", b"")
            return message

        return receiving

    def send(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                types = [value for name, value in message["headers"] if name == b"content-type"]
                self._streamed = bool(types) and types[0].startswith(b"text/event-stream")
            else:
                self._body += message.get("body", b"")
                self.complete = not message.get("more_body", False)
            await send(message)

        return sending

    def answer(self) -> JSON:
        """The JSON body, or the chunks of a stream without `[DONE]`."""
        body = bytes(self._body)
        if not self._streamed:
            return _json_or_text(body) if self.complete else None
        # What follows the last blank line is empty, or an event that was cut short.
        events = (event.removeprefix(b"data: ") for event in body.split(b"\n\n")[:-1])
        return [_json_or_text(event) for event in events if event != b"[DONE]"]


def _json_or_text(body: bytes) -> JSON:
    if not body:
        return None
    try:
        parsed: JSON = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")
    return parsed


async def cut_connection(scope: Scope, receive: Receive) -> None:
    """Close the client's connection without another byte, and wait until it is closed."""
    transport: asyncio.Transport | None = scope.get("state", {}).get("transport")
    if transport is None:
        raise RuntimeError("This server does not know the connection, so it cannot cut it.")
    transport.close()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(client_left(receive), timeout=5)


async def client_left(receive: Receive) -> None:
    """Wait until the client closes the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
