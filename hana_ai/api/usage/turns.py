"""Work that one caller does for all who wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Turns:
    """Does one thing at a time, and once for all who came while the last turn was being taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = 0
        self._ended = 0

    def run(self, work: Callable[[], None]) -> None:
        """Do it, or wait until another has done it."""
        # Whoever comes now needs a turn that begins from now on; another's will do.
        needed = self._begun + 1
        with self._lock:
            if self._ended >= needed:
                return
            self._begun += 1
            turn = self._begun
            work()
            self._ended = turn
