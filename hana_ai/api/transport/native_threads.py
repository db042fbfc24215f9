"""Threads of the operating system, also where gevent has replaced them by greenlets."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable


def start_thread(function: Callable[[], None], name: str) -> None:
    """Run a function in a daemon thread.

    A process that gevent has patched makes greenlets of new threads, and an event loop in one would be taken for
    the running loop of all others in the same thread.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        monkey.get_original("_thread", "start_new_thread")(function, ())
        return
    threading.Thread(target=function, name=name, daemon=True).start()
