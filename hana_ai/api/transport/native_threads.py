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
from types import ModuleType
from typing import TYPE_CHECKING

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


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop for such a thread."""
    monkey = _gevent("selectors") or _gevent("select")
    if monkey is None:
        return asyncio.new_event_loop()
    for name in ("EpollSelector", "KqueueSelector", "SelectSelector"):
        try:
            return asyncio.SelectorEventLoop(monkey.get_original("selectors", name)())
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
