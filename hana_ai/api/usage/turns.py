"""Work that is done in a thread of its own, once for all who wait for it, and for which nobody has to wait."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable


class Turns:
    """Does one thing at a time, and once for all who came while the last turn was being taken. Thread-safe.

    Parameters
    ----------
    work : callable
        Runs in a thread that ends when nobody waits any more.
    name : str
        Of the thread.
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._work = work
        self._name = name
        self._lock = threading.Lock()
        self._next: concurrent.futures.Future[None] | None = None
        self._running = False

    def wait(self, seconds: float) -> bool:
        """Have it done, from now on; whether that came to an end in time. Raises what the work does."""
        return _ended(self._turn(), seconds)

    async def await_(self, seconds: float) -> bool:
        """Have it done, from a coroutine; see `wait`."""
        turn = asyncio.wrap_future(self._turn())
        try:
            done, _ = await asyncio.wait([turn], timeout=seconds)
        finally:
            # The turn goes on: others may wait for it.
            turn.cancel()
        if done:
            turn.result()
        return bool(done)

    def _turn(self) -> concurrent.futures.Future[None]:
        """The first turn that begins from now on."""
        with self._lock:
            turn = self._next
            if turn is None:
                turn = self._next = concurrent.futures.Future()
                # Whoever leaves does not cancel it.
                turn.set_running_or_notify_cancel()
            start, self._running = not self._running, True
        if start:
            try:
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
            except RuntimeError:
                # At the end of the interpreter no thread can be started.
                self._run()
        return turn

    def _run(self) -> None:
        while True:
            with self._lock:
                turn, self._next = self._next, None
                if turn is None:
                    self._running = False
                    return
            try:
                self._work()
            except Exception as exc:  # noqa: BLE001 - whoever waits for the turn gets it
                turn.set_exception(exc)
            else:
                turn.set_result(None)


def _ended(turn: concurrent.futures.Future[None], seconds: float) -> bool:
    if not concurrent.futures.wait([turn], seconds).done:
        return False
    turn.result()
    return True
