"""A thread that writes what others leave to it, soon after they did."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from hana_ai.api.process import end_with_worker

logger = logging.getLogger(__name__)


class Writer:
    """Calls a function in a thread of its own some time after it was woken. Thread-safe.

    Parameters
    ----------
    write : callable
        Calls `resting` when it takes what there is to write.
    seconds : float
        How long the thread waits for more, unless it is told to write at once.
    """

    def __init__(self, write: Callable[[], None], seconds: float) -> None:
        self._write = write
        self._seconds = seconds
        self._some = threading.Event()
        self._at_once = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self.closed = False

    def wake(self, *, at_once: bool) -> None:
        """Have something written."""
        if self._thread is None:
            self._start()
        if not self._some.is_set():
            self._some.set()
        if at_once:
            self._at_once.set()

    def resting(self) -> None:
        """Note that there is nothing to write."""
        self._some.clear()
        self._at_once.clear()

    def close(self) -> None:
        """Let the thread end; what is left to write is the caller's to write."""
        self.closed = True
        self._some.set()
        self._at_once.set()

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None or self.closed:
                return
            self._thread = threading.Thread(target=self._run, name="together-ai-ledger", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as exc:
                # At the end of the interpreter no thread can be started.
                logger.debug("the ledger has no thread: %s", exc)
        end_with_worker()

    def _run(self) -> None:
        while not self.closed:
            self._some.wait()
            self._at_once.wait(self._seconds)
            if not self.closed:
                self._write()
