"""Asks the server's own application as a client would, without a socket."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

import orjson
from starlette.types import ASGIApp, Message, Scope

from ...refusal import Refusal


@dataclass(frozen=True)
class Answer:
    """Status and body of an answer."""

    status: int
    body: bytes


class Asking(Protocol):
    """What answers one request of a batch."""

    async def __call__(self, path: str, body: bytes) -> Answer:
        """The answer to a POST request."""
        ...


class InProcess:
    """Asks an application, which takes this key."""

    def __init__(self, app: ASGIApp, api_key: str | None) -> None:
        self._app = app
        self._api_key = api_key or "batch"

    async def __call__(self, path: str, body: bytes) -> Answer:
        """The answer to a POST request; 500 where the application breaks off."""
        taken = _Taken(body)
        try:
            await self._app(self._scope(path, body), taken.receive, taken.send)
        except Exception as exc:  # noqa: BLE001 - a request that breaks must not end the others; its line says so
            taken.failure = type(exc).__name__
        return taken.answer()

    def _scope(self, path: str, body: bytes) -> Scope:
        headers = {
            "host": "127.0.0.1",
            "authorization": f"Bearer {self._api_key}",
            "content-type": "application/json",
            "content-length": str(len(body)),
        }
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": None,
            "server": None,
        }


class _Taken:
    """Both ends of one exchange."""

    def __init__(self, body: bytes) -> None:
        self._request: bytes | None = body
        self._status = 0
        self._body = bytearray()
        self._complete = False
        self.failure = ""

    async def receive(self) -> Message:
        if self._request is None:
            await asyncio.Event().wait()  # this client never leaves; it is cancelled
        body, self._request = self._request or b"", None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            self._complete = not message.get("more_body", False)

    def answer(self) -> Answer:
        if self._complete:
            return Answer(self._status, bytes(self._body))
        refusal = Refusal(500, f"The answer broke off. {self.failure}".strip(), type="server_error")
        return Answer(500, orjson.dumps({"error": refusal.error()}))
