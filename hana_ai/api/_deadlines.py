"""Exact deadlines for synchronous calls.

A timeout of httpx is one for each read, so that a server that sends a byte now and then can hold a thread for
ever. Here every operation on a socket is bounded by what is left of the time that its thread has, as `until` says.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpcore

if TYPE_CHECKING:
    import httpx

_WRITE = 64 * 1024


class _Now(threading.local):
    deadline: float | None = None


_now = _Now()


class until:  # noqa: N801 - reads as a word of the statement that it begins: `with until(deadline):`
    """Bound what this thread does on the network in a block.

    Parameters
    ----------
    deadline : float
        On the clock of `time.monotonic`.
    """

    __slots__ = ("_before", "_deadline")

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._before: float | None = None

    def __enter__(self) -> None:
        self._before, _now.deadline = _now.deadline, self._deadline

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        _now.deadline = self._before


def bound(client: httpx.Client) -> bool:
    """Make a client's connections heed `until`; says whether it could be done.

    httpx has no public way to hand its pool a backend. Where the private one is gone, httpx's timeouts remain.
    """
    done = False
    for transport in (getattr(client, "_transport", None), *getattr(client, "_mounts", {}).values()):
        pool = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if isinstance(backend, httpcore.NetworkBackend):
            pool._network_backend = _Backend(backend)  # type: ignore[union-attr]
            done = True
    return done


def is_bound(stream: object) -> bool:
    """Whether a connection heeds `until`."""
    return isinstance(stream, _Stream)


def _left(timeout: float | None, error: type[Exception]) -> float | None:
    """The timeout of the next operation."""
    deadline = _now.deadline
    if deadline is None:
        return timeout
    left = deadline - time.monotonic()
    if left <= 0:
        raise error("the call's time is over")
    return left if timeout is None or left < timeout else timeout


class _Stream(httpcore.NetworkStream):
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
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
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
                return _Stream(self._inner.connect_tcp(address, port, left, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(addresses) - 1:
                    raise
        raise httpcore.ConnectError(f"no address for {host}")

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.connect_unix_socket(path, left, socket_options))


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise httpcore.ConnectError(str(exc)) from exc
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
