"""Work that is done once for all who wait for it, and for which nobody has to wait for longer than they want."""

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
        Is told for how many seconds it may wait. Runs in a thread that ends when nobody waits any more.
    name : str
        Of the thread.
    seconds : float
        How long the work may wait in that thread.
    punctual : bool
        Whether the work keeps to its seconds by itself, so that a thread that waits can do it: that is faster.
    """

    def __init__(self, work: Callable[[float], None], name: str, *, seconds: float, punctual: bool) -> None:
        self._work = work
        self._name = name
        self._seconds = seconds
        self._punctual = punctual
        self._lock = threading.Lock()
        self._next: concurrent.futures.Future[None] | None = None
        self._running = False

    def wait(self, seconds: float) -> bool:
        """Have it done, from now on; whether that came to an end in time. Raises what the work does."""
        if self._punctual and self._takes_turn():
            try:
                self._work(min(seconds, self._seconds))
            finally:
                self._leave_to_others()
            return True
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

    def _takes_turn(self) -> bool:
        with self._lock:
            free, self._running = not self._running, True
        return free

    def _leave_to_others(self) -> None:
        with self._lock:
            some = self._running = self._next is not None
        if some:
            self._start()

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
            self._start()
        return turn

    def _start(self) -> None:
        try:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        except RuntimeError:
            # At the end of the interpreter no thread can be started.
            self._run()

    def _run(self) -> None:
        while True:
            with self._lock:
                turn, self._next = self._next, None
                if turn is None:
                    self._running = False
                    return
            try:
                self._work(self._seconds)
            except Exception as exc:  # noqa: BLE001 - whoever waits for the turn gets it
                turn.set_exception(exc)
            else:
                turn.set_result(None)


def _ended(turn: concurrent.futures.Future[None], seconds: float) -> bool:
    if not concurrent.futures.wait([turn], seconds).done:
        return False
    turn.result()
    return True
