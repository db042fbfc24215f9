"""Exact deadlines for synchronous calls.

A timeout of httpx is one for each read, so that a server that sends a byte now and then can hold a thread for
ever. Here every operation on a socket is bounded by what is left of the time that its thread has, as `until` says.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx


class Now(threading.local):
    """Until when the present thread may take."""

    deadline: float | None = None


now = Now()


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
        self._before, now.deadline = now.deadline, self._deadline

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        now.deadline = self._before


def bound(client: httpx.Client) -> bool:
    """Make a client's connections heed `until`; says whether it could be done.

    httpx has no public way to hand its pool a backend. Where the private one is gone, httpx's timeouts remain.
    """
    import httpcore

    from hana_ai.api.transport.bounded_sockets import BoundedBackend

    done = False
    for transport in (getattr(client, "_transport", None), *getattr(client, "_mounts", {}).values()):
        pool = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if isinstance(backend, httpcore.NetworkBackend):
            pool._network_backend = BoundedBackend(backend)  # type: ignore[union-attr]
            done = True
    return done


def is_bound(stream: object) -> bool:
    """Whether a connection heeds `until`."""
    return getattr(stream, "bounded", False)
