"""Threads and event loops of the operating system's kind, also where gevent has replaced them.

A process that gevent has patched makes greenlets of new threads. An event loop in one would be taken for the
running loop of all others in the same thread, so the engine needs a real thread, with a real selector.
"""

from __future__ import annotations

import _thread
import asyncio
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _thread import LockType


def start_thread(function: Callable[[], None], name: str | None = None) -> None:
    """Run a function in a daemon thread. Give a name to a thread that stays: threading keeps what it knows of it.

    Not by `Thread.start`: a signal's handler that raises in it breaks the thread, or leaves a lock behind.
    """
    monkey = _gevent("threading")
    start = _thread.start_new_thread if monkey is None else monkey.get_original("_thread", "start_new_thread")
    start(_named, (function, name if monkey is None else None))


def _named(function: Callable[[], None], name: str | None) -> None:
    if name is not None:
        # What a debugger or coverage asks every new thread to do.
        sys.settrace(threading.gettrace())
        threading.current_thread().name = name
    function()


def allocate_lock() -> LockType:
    """Make a lock for such threads."""
    monkey = _gevent("threading")
    made: LockType = (
        _thread.allocate_lock() if monkey is None else monkey.get_original("_thread", "allocate_lock")()
    )
    return made


handshake_seconds: ContextVar[float] = ContextVar("handshake_seconds", default=10.0)
"""How long a TLS handshake may take, for the connections that a task opens."""


class _BoundedHandshakes(asyncio.BaseEventLoop):
    """Gives up a TLS handshake in the time of its task, where asyncio takes 60 s.

    The time-out around a connection is not enough: if it passes before the handshake has begun, asyncio can no
    longer stop it (closing a TLS transport that is not wrapped yet does nothing), and the socket stays open.
    """

    async def create_connection(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        """Open a connection; parameters as of asyncio's."""
        if options.get("ssl"):
            options.setdefault("ssl_handshake_timeout", handshake_seconds.get())
        return await super().create_connection(protocol_factory, *args, **options)


class _SelectorEventLoop(_BoundedHandshakes, asyncio.SelectorEventLoop):
    pass


if sys.platform == "win32":

    class _EventLoop(_BoundedHandshakes, asyncio.ProactorEventLoop):
        pass

else:
    _EventLoop = _SelectorEventLoop


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop for such a thread: asyncio's own, whatever policy the process has set."""
    monkey = _gevent("selectors") or _gevent("select")
    if monkey is None:
        return _EventLoop()
    for name in ("EpollSelector", "KqueueSelector", "SelectSelector"):
        try:
            return _SelectorEventLoop(monkey.get_original("selectors", name)())
        except AttributeError:
            continue
    raise RuntimeError("gevent has left no selector of the system's; start the process without its patches")


def _gevent(patched: str) -> ModuleType | None:
    """gevent's module of patches, if it has patched one of the standard library's."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey if monkey is not None and monkey.is_module_patched(patched) else None


class GreenletWaiter:
    """Lets a greenlet wait for the engine, while the other greenlets of its thread go on."""

    __slots__ = ("_awake", "_event", "_watcher")

    def __init__(self) -> None:
        from gevent import event, get_hub

        self._event = event.Event()
        self._watcher = get_hub().loop.async_()
        self._awake = False

    def wake(self) -> None:
        """Wake the greenlet, or let its next `wait` return at once; called in the engine's thread."""
        self._awake = True
        self._watcher.send()

    def wait(self) -> None:
        """Wait until `wake` is called."""
        self._watcher.start(self._event.set)
        try:
            # Asked after the start: from then on nothing that is sent is missed.
            if not self._awake:
                self._event.wait()
        finally:
            self._watcher.stop()
            self._event.clear()
        self._awake = False


def has_greenlets() -> bool:
    """Whether threads of this process are greenlets."""
    return _gevent("threading") is not None
