"""Small servers that keep every byte they are sent: an API that answers one thing, and a proxy."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ANSWER = {
    "id": "answer-1",
    "object": "chat.completion",
    "created": 1,
    "model": "a/model",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}, "text": "Hi"}
    ],
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "results": [{"index": 0, "relevance_score": 0.5}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
CHUNK = {
    **{name: ANSWER[name] for name in ("id", "created", "model", "usage")},
    "object": "chat.completion.chunk",
    "choices": [{"index": 0, "finish_reason": "stop", "delta": {"role": "assistant", "content": "Hi"}}],
}


class Wire(socketserver.ThreadingTCPServer):
    """Listens on loopback; what comes in stands in `requests`, each head and body as it came."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, handler: type[socketserver.BaseRequestHandler]) -> None:
        self.requests: list[bytes] = []
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def port(self) -> int:
        return self.server_address[1]

    @property
    def seen(self) -> bytes:
        return b"".join(self.requests)


class Api(Wire):
    """Answers everything with one reply, over TLS when it has a certificate and its key."""

    def __init__(self, certificate: tuple[Path, Path] | None = None, headers: str = "") -> None:
        self.tls: ssl.SSLContext | None = None
        self.headers = headers
        if certificate is not None:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(*certificate)
        super().__init__(_ApiHandler)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = super().get_request()
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up, or trusts no certificate, is what is tested."""


class _ApiHandler(socketserver.StreamRequestHandler):
    server: Api

    def handle(self) -> None:
        while True:
            head = _head(self.rfile)
            if not head:
                return
            size = next((int(v) for k, v in _headers(head) if k == "content-length"), 0)
            body = self.rfile.read(size)
            self.server.requests.append(head + body)
            if b'"stream":true' in body:
                data = f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n".encode()
                kind = "text/event-stream"
            else:
                data, kind = json.dumps(ANSWER).encode(), "application/json"
            self.wfile.write(
                f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}\r\n"
                f"{self.server.headers}\r\n".encode()
                + data
            )


class Proxy(Wire):
    """Takes CONNECT and leads every tunnel to one port; with `refuse`, it wants other credentials."""

    def __init__(self, target: int, refuse: bool = False) -> None:
        self.target = target
        self.refuse = refuse
        super().__init__(_ProxyHandler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what is tested."""


class _ProxyHandler(socketserver.StreamRequestHandler):
    server: Proxy
    rbufsize = 0

    def handle(self) -> None:
        head = _head(self.rfile)
        self.server.requests.append(head)
        if not head.startswith(b"CONNECT "):
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            return
        if self.server.refuse:
            self.wfile.write(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n"
                b"content-length: 0\r\nconnection: close\r\n\r\n"
            )
            return
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(("127.0.0.1", self.server.target)) as target:
            back = threading.Thread(target=_pump, args=(target, self.connection), daemon=True)
            back.start()
            while data := self.connection.recv(65_536):
                self.server.requests.append(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
            back.join(10)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            sink.sendall(data)
    except OSError:
        pass


def _head(stream: object) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return b""
        head += line
    return head


def _headers(head: bytes) -> list[tuple[str, str]]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines if line)]


def header_names(request: bytes) -> list[str]:
    """The names of a request's headers, as they came."""
    return [name for name, _ in _headers(request.split(b"\r\n\r\n")[0])]


@contextmanager
def running(server: Wire) -> Iterator[Wire]:
    """Serve in a thread until the block ends."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
