"""httpcore's connections, bounded by `_deadlines.until`. On their own, since httpcore is loaded when needed."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore

from hana_ai.api.transport.deadlines import now

_WRITE = 64 * 1024


def _left(timeout: float | None, error: type[Exception]) -> float | None:
    """The timeout of the next operation."""
    deadline = now.deadline
    if deadline is None:
        return timeout
    left = deadline - time.monotonic()
    if left <= 0:
        raise error("the call's time is over")
    return left if timeout is None or left < timeout else timeout


class BoundedStream(httpcore.NetworkStream):
    """A connection whose operations take no longer than the thread has."""

    bounded = True

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # In parts: within one write, each packet would have the whole time anew.
        for begin in range(0, len(buffer), _WRITE):
            part = buffer[begin : begin + _WRITE] if len(buffer) > _WRITE else buffer
            self._inner.write(part, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return BoundedStream(self._inner.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class BoundedBackend(httpcore.NetworkBackend):
    """Makes connections that heed `until`, and heeds it itself."""

    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        deadline = None if left is None else time.monotonic() + left
        addresses = _addresses(host, port)
        for number, address in enumerate(addresses):
            if deadline is not None:
                # Each address gets its share, so that a dead one leaves time for the next; all of them together
                # get the one timeout.
                left = max(0.001, (deadline - time.monotonic()) / (len(addresses) - number))
            try:
                return BoundedStream(self._inner.connect_tcp(address, port, left, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(addresses) - 1:
                    raise
        raise httpcore.ConnectError(f"no address for {host}")

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return BoundedStream(self._inner.connect_unix_socket(path, left, socket_options))


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise httpcore.ConnectError(str(exc)) from exc
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
