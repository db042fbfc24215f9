"""A relay between a connector and its server, which notes every request and can change answers on their way."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

Change = Callable[[Any], None]

_OF_ONE_HOP = ("connection", "transfer-encoding", "content-length", "date", "server")


class Relay(ThreadingHTTPServer):
    """Passes requests on to a server; `base_url` is where it listens."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target)
        self.requests: list[str] = []
        """Method and path of each, with the query."""
        self.forgets_cursors = False
        """Whether every page of a list is its first one."""
        self._changes: list[tuple[str, Change]] = []

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def change(self, path: str, change: Change) -> None:
        """Let a function change the JSON of every successful answer from a path whose end matches a pattern."""
        self._changes.append((path, change))

    def changed(self, path: str, body: bytes) -> bytes:
        for end, change in self._changes:
            if re.search(f"{end}$", path.partition("?")[0]):
                value = json.loads(body)
                change(value)
                body = json.dumps(value).encode()
        return body

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Relay

    def _pass_on(self) -> None:
        body = self._body()
        self.server.requests.append(f"{self.command} {self.path}")
        target = http.client.HTTPConnection(self.server.target.hostname or "", self.server.target.port, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
        path = re.sub(r"\bafter=[^&]*", "", self.path) if self.server.forgets_cursors else self.path
        with closing(target):
            target.request(self.command, path, body, headers)
            answer = target.getresponse()
            data = answer.read()
        if answer.status == http.client.OK:
            data = self.server.changed(self.path, data)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _OF_ONE_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        # Whoever gave up waiting is no fault of the relay's.
        with suppress(ConnectionError):
            self.end_headers()
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def log_message(self, *arguments: object) -> None:
        """Say nothing: standard error is the tests'."""
