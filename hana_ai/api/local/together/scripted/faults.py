"""The part of a script that acts on the wire: raw replies, delays, stalls and cuts."""

from __future__ import annotations

import asyncio
from typing import Protocol

import orjson
from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..refusal import JSON
from ..replies import request_id
from ..wire import client_left, cut_connection
from .script import CURRENT, Received, Reply

_DEFAULT_ERROR = {
    400: ("invalid_request_error", "The request is not valid."),
    401: ("invalid_request_error", "Invalid API key provided."),
    402: ("credit_limit", "Credit limit exceeded, please navigate to your billing settings to add credit."),
    429: ("rate_limit", "You have reached the rate limit specific to this model."),
    503: ("service_unavailable", "The server is overloaded or not ready yet."),
}


class Director(Protocol):
    """Decides what happens to a request; times are in seconds."""

    latency: float
    chunk_delay: float

    def next_reply(self, request: Received) -> Reply:
        """What to do with a request."""
        ...


class ScriptedWire:
    """The part of the script that acts on the wire."""

    def __init__(self, app: ASGIApp, engine: Director) -> None:
        self._app = app
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request as scripted."""
        raw = await _read(receive)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = dict(QueryParams(scope["query_string"]))
        scripted = self._engine.next_reply(Received(scope["method"], scope["path"], _decoded(raw), headers, query))
        if scripted.stall:
            await client_left(receive)
            return
        if delay := scripted.delay + self._engine.latency:
            await asyncio.sleep(delay)
        if scripted.drop:
            await cut_connection(scope, receive)
            return
        sender = _Sender(scripted, self._engine.chunk_delay, scope, receive, send)
        if scripted.status != 200 or scripted.body is not None:
            await _send_raw(scripted, sender)
            return
        token = CURRENT.set(scripted)
        try:
            await self._app(scope, _replayed(raw, receive), sender)
        except _CutError:
            return
        finally:
            CURRENT.reset(token)


_ARRIVAL = 0.2
"""Seconds for sent chunks to be read."""


class _CutError(Exception):
    """The connection has been closed on purpose."""


class _Sender:
    """Passes an answer on, late, in part, or with an error in the middle."""

    def __init__(self, reply: Reply, chunk_delay: float, scope: Scope, receive: Receive, send: Send) -> None:
        self._reply = reply
        self._chunk_delay = reply.chunk_delay or chunk_delay
        self._scope = scope
        self._receive = receive
        self._send = send
        self._chunk = 0
        self._left = reply.break_at_byte

    async def __call__(self, message: Message) -> None:
        """Send one message of the answer."""
        if message["type"] == "http.response.start":
            more = [(name.lower().encode(), value.encode()) for name, value in self._reply.headers.items()]
            await self._send({**message, "headers": [*message["headers"], *more]})
            return
        body: bytes = message.get("body", b"")
        if body:
            await self._before_chunk()
            self._chunk += 1
        if self._left is not None and len(body) > self._left:
            await self._send({**message, "body": body[: self._left], "more_body": True})
            await self._cut()
        if self._left is not None:
            self._left -= len(body)
        await self._send(message)

    async def _before_chunk(self) -> None:
        reply = self._reply
        if self._chunk_delay and self._chunk:
            await asyncio.sleep(self._chunk_delay)
        if reply.stall_at_chunk == self._chunk:
            await client_left(self._receive)
            raise _CutError
        if reply.break_at_chunk == self._chunk:
            if self._chunk:
                # A reset discards what the client has not read yet; what was sent earlier must still arrive.
                await asyncio.sleep(_ARRIVAL)
            await self._cut()
        if reply.error_at_chunk == self._chunk:
            event = b"data: " + orjson.dumps({"error": _error(reply)}) + b"\n\n"
            await self._send({"type": "http.response.body", "body": event, "more_body": False})
            raise _CutError

    async def _cut(self) -> None:
        await cut_connection(self._scope, self._receive)
        raise _CutError


async def _send_raw(reply: Reply, send: _Sender) -> None:
    raw = isinstance(reply.body, str | bytes)
    if reply.body is None:
        body = orjson.dumps({"id": request_id(), "error": _error(reply)})
    elif isinstance(reply.body, bytes):
        body = reply.body
    else:
        body = reply.body.encode() if isinstance(reply.body, str) else orjson.dumps(reply.body)
    content_type = reply.content_type or ("text/html" if raw else "application/json")
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id().encode()),
    ]
    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    except _CutError:
        return


def _error(reply: Reply) -> dict[str, JSON]:
    type, message = _DEFAULT_ERROR.get(reply.status, ("server_error", "The server had an error."))
    return {"message": message, "type": type, "param": None, "code": None, **(reply.error or {})}


async def _read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(raw: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _decoded(raw: bytes) -> object:
    try:
        return orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError:
        return None
