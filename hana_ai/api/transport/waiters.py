"""How callers wait for the engine: threads, greenlets, and coroutines of any event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from hana_ai.api.transport.native_threads import GreenletWaiter, has_greenlets


class Letterbox:
    """Calls into an event loop from other threads, with one wake-up for as many as come before it."""

    __slots__ = ("_letters", "_loop", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._letters: deque[Callable[[], None]] = deque()
        self._woken = False

    def post(self, letter: Callable[[], None]) -> None:
        """Call a function in the loop, soon.

        Raises
        ------
        RuntimeError
            The loop is closed.
        """
        try:
            self._letters.append(letter)
            if not self._woken:
                self._woken = True
                self._loop.call_soon_threadsafe(self._deliver)
        except BaseException:
            # A signal handler may raise between the two lines: the next letter has to wake the loop then.
            self._woken = False
            raise

    def _deliver(self) -> None:
        self._woken = False
        letters = self._letters
        while letters:
            letters.popleft()()


class Waiter(Protocol):
    """How a caller is woken."""

    def wake(self) -> None:
        """Wake the caller; called in the engine's thread."""


class ThreadWaiter:
    """Lets a thread wait."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        """Wake the thread, or let its next `wait` return at once."""
        if self._lock.locked():
            self._lock.release()

    def wait(self) -> None:
        """Wait until `wake` is called; a signal's handler may raise meanwhile."""
        self._lock.acquire()


def blocking_waiter() -> ThreadWaiter | GreenletWaiter:
    """What lets the caller wait that is no coroutine."""
    return GreenletWaiter() if has_greenlets() else ThreadWaiter()


class LoopWaiter:
    """Lets a coroutine of any event loop wait."""

    __slots__ = ("_awake", "_future", "_letters", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._letters = _letterbox_of(self.loop)
        self._future: asyncio.Future[None] | None = None
        self._awake = False

    def wake(self) -> None:
        """Wake the coroutine, or let its next `wait` return at once.

        Raises
        ------
        RuntimeError
            Its loop is closed.
        """
        self._letters.post(self._resolve)

    def _resolve(self) -> None:
        self._awake = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        """Wait until `wake` is called."""
        if not self._awake:
            self._future = self.loop.create_future()
            try:
                await self._future
            finally:
                self._future = None
        self._awake = False


class _Letterboxes(threading.local):
    """The letterbox of the loop that this thread runs."""

    loop: asyncio.AbstractEventLoop | None = None
    letterbox: Letterbox


_letterboxes = _Letterboxes()


def _letterbox_of(loop: asyncio.AbstractEventLoop) -> Letterbox:
    if _letterboxes.loop is not loop:
        _letterboxes.letterbox = Letterbox(loop)
        _letterboxes.loop = loop
    return _letterboxes.letterbox
