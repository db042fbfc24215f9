"""A server between client and loopback server that damages what passes, as a script says.

`FaultyServer` runs an event loop in a thread. Each `listen` opens a port of its own with a `Play`, a coroutine
that gets an `Exchange` for each request: it can have the good reply from the loopback server, and send what it
likes in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

INFERENCE = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank")
ACCOUNT = ("/v3/whoami",)
_HANDSHAKE = b"\x16"
"""What TLS begins with, and no request."""
_RESET = struct.pack("ii", 1, 0)


@dataclass
class Request:
    """A request as it came in."""

    method: str
    path: str
    head: bytes
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case name."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


@dataclass
class Good:
    """A reply of the loopback server, to be sent on in any form."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_stream(self) -> bool:
        """Whether it is made of events."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def events(self) -> list[bytes]:
        """The events of a stream, each with its end."""
        return [event + b"\n\n" for event in self.body.split(b"\n\n") if event]

    @property
    def json(self) -> Any:
        """The decoded body."""
        return orjson.loads(self.body)

    def wire(self, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
        """The whole reply as bytes: a stream in chunks, one an event, anything else with its length."""
        body = self.body if body is None else body
        given = {**self.headers, **(headers or {})}
        if self.is_stream:
            parts = [event + b"\n\n" for event in body.split(b"\n\n") if event]
            return head(self.status, {**given, "transfer-encoding": "chunked"}) + b"".join(
                map(chunk, [*parts, b""])
            )
        return head(self.status, {"content-length": str(len(body)), **given}) + body


def head(status: int | str, headers: Mapping[str, str]) -> bytes:
    """A status line and headers."""
    lines = [f"HTTP/1.1 {status} Said"] + [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """A part of a body in chunks; the empty one ends it."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class LeftError(Exception):
    """The connection is over, as planned."""


class Exchange:
    """One request and the ways to answer it."""

    def __init__(
        self,
        listener: Listener,
        request: Request,
        number: int,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.request = request
        self.number = number
        """How many requests were damaged before, from 0."""
        self._listener = listener
        self._reader, self._writer = streams

    async def good(self) -> Good:
        """Have the request answered by the loopback server."""
        reader, writer = await asyncio.open_connection(*self._listener.upstream)
        try:
            lines = [
                line
                for line in self.request.head.split(b"\r\n")
                if line and not line.lower().startswith((b"connection:", b"accept-encoding:"))
            ]
            writer.write(b"\r\n".join([*lines, b"connection: close", b"", b""]) + self.request.body)
            raw = await reader.read()
        finally:
            writer.close()
        top, _, body = raw.partition(b"\r\n\r\n")
        lines_of_top = top.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines_of_top)
        }
        if headers.get("transfer-encoding") == "chunked":
            body = _joined(body)
        kept = {name: headers[name] for name in ("content-type", "x-request-id", "etag") if name in headers}
        return Good(int(lines_of_top[0].split()[1]), kept, body)

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def drip(self, data: bytes, every: float, size: int = 1) -> None:
        """Send bytes a few at a time."""
        for begin in range(0, len(data), size):
            await self.send(data[begin : begin + size])
            await asyncio.sleep(every)

    async def stall(self) -> None:
        """Say nothing more until the client leaves."""
        await self._reader.read(1)
        raise LeftError

    async def reset(self) -> None:
        """End the connection with RST."""
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()
        raise LeftError

    async def close(self) -> None:
        """End the connection with FIN."""
        raise LeftError


Play = Callable[[Exchange], Awaitable[None]]


@dataclass
class Listener:
    """An open port."""

    upstream: tuple[str, int]
    play: Play
    paths: tuple[str, ...]
    """Which requests are damaged; the others pass."""
    port: int = 0
    secure: bool = False
    requests: list[Request] = field(default_factory=list)
    """The damaged ones."""
    accepted: int = 0
    """Connections so far."""
    open: int = 0
    """Connections now."""
    left_at: float = 0.0
    """`time.monotonic()` when a connection was last found to be over."""
    problems: list[BaseException] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.accepted += 1
        self.open += 1
        try:
            while (request := await _request(reader)) is not None:
                if request.method == "TLS":
                    writer.write(head(400, {"content-length": "0"}))
                    break
                if request.path.partition("?")[0] in self.paths:
                    self.requests.append(request)
                    await self.play(Exchange(self, request, len(self.requests) - 1, (reader, writer)))
                else:
                    exchange = Exchange(self, request, 0, (reader, writer))
                    await exchange.send((await exchange.good()).wire())
        except (LeftError, OSError, asyncio.IncompleteReadError):
            pass
        except Exception as exc:  # noqa: BLE001 - shown when the port is closed
            self.problems.append(exc)
        finally:
            self.left_at = time.monotonic()
            self.open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class FaultyServer:
    """Ports that damage what passes to `upstream`; a context manager."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.removeprefix("http://").partition(":")
        self._upstream = (host, int(port))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-server", daemon=True)

    def __enter__(self) -> FaultyServer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @contextlib.contextmanager
    def listen(
        self, play: Play, paths: tuple[str, ...] = INFERENCE, tls: ssl.SSLContext | None = None
    ) -> Iterator[Listener]:
        """Open a port for the length of a block."""
        listener = Listener(self._upstream, play, paths, secure=tls is not None)
        serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            serving[task] = writer
            try:
                await listener.serve(reader, writer)
            finally:
                del serving[task]

        async def begin() -> asyncio.Server:
            server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
            listener.port = server.sockets[0].getsockname()[1]
            return server

        async def end(server: asyncio.Server) -> None:
            server.close()
            waiting = dict(serving)
            for writer in waiting.values():
                writer.transport.abort()
            if waiting:
                await asyncio.wait(waiting, timeout=10)

        server = self._run(begin())
        try:
            yield listener
        finally:
            self._run(end(server))
            assert not listener.problems, listener.problems

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)


@contextlib.contextmanager
def closed_port() -> Iterator[str]:
    """The address of a port where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextlib.contextmanager
def deaf_port(host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """The address of a port whose queue is full, so that connecting gets no answer."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket(family))
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def silent_port(scheme: str = "http") -> Iterator[str]:
    """The address of a port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"


async def _request(reader: asyncio.StreamReader) -> Request | None:
    try:
        top = await reader.readexactly(1)
        if top == _HANDSHAKE:
            return Request("TLS", "", top, b"")
        top += await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, path, _ = top.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    request = Request(method, path, top, b"")
    length = int(request.headers.get("content-length", "0"))
    request.body = await reader.readexactly(length)
    return request


def _joined(body: bytes) -> bytes:
    parts = []
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        parts.append(body[:length])
        body = body[length + 2 :]
    return b"".join(parts)
