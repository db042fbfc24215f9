"""What belongs to one process: what a forked child makes anew, and the order in which a process ends.

Nothing else in this package registers a hook for a fork or for the end of the process.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable, MutableMapping
from enum import IntEnum
from typing import Protocol, TypeVar

logger = logging.getLogger(__name__)


class _Closable(Protocol):
    def close(self) -> None: ...


_K = TypeVar("_K")
_C = TypeVar("_C", bound=_Closable)


class Stage(IntEnum):
    """When something is closed at the end of the process, the lowest first."""

    LEDGERS = 1
    """They may still have to ask for a price."""
    CACHES = 2
    TRANSPORTS = 3
    ENGINE = 4
    """Last, since everything above may use it."""


_before_fork: list[Callable[[], None]] = []
_after_in_parent: list[Callable[[], None]] = []
_after_in_child: list[Callable[[], None]] = []
_closing: dict[Stage, list[Callable[[], None]]] = {}


def on_fork(
    *,
    before: Callable[[], None] | None = None,
    in_parent: Callable[[], None] | None = None,
    in_child: Callable[[], None] | None = None,
) -> None:
    """Call functions around each fork: those before it in reverse order, as `os.register_at_fork` does."""
    for function, functions in ((in_parent, _after_in_parent), (in_child, _after_in_child)):
        if function is not None:
            functions.append(function)
    if before is not None:
        _before_fork.insert(0, before)


def on_exit(stage: Stage, function: Callable[[], None]) -> None:
    """Call a function at the end of the process, stage by stage."""
    _closing.setdefault(stage, []).append(function)


def end() -> None:
    """Close everything, stage by stage; what fails is logged, and the rest is closed all the same."""
    for stage in sorted(_closing):
        for function in _closing[stage]:
            try:
                function()
            except Exception:
                logger.exception("could not close at the end of the process")


def end_with_worker() -> None:
    """See that `end` is called in a worker of multiprocessing, too, which leaves without `atexit`."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None and sys.modules["multiprocessing.process"].parent_process() is not None:
        util.Finalize(None, end, exitpriority=10)


def _call_all(functions: list[Callable[[], None]]) -> None:
    for function in functions:
        function()


atexit.register(end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _call_all(_before_fork),
        after_in_parent=lambda: _call_all(_after_in_parent),
        after_in_child=lambda: _call_all(_after_in_child),
    )


class RenewableLock:
    """A lock that a forked child makes anew: its parent's may be held by a thread that the child lacks.

    For locks of modules, of which there are few: every one made is renewed in every child.
    """

    def __init__(self) -> None:
        self.renew()
        on_fork(in_child=self.renew)

    def renew(self) -> None:
        """Forget the lock and whoever holds it."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()


def close_each(shared: MutableMapping[_K, _C], lock: RenewableLock) -> None:
    """Empty a module's table of what the process shares, and close each, without the lock: it may take a while."""
    with lock:
        taken = list(shared.values())
        shared.clear()
    for each in taken:
        each.close()
