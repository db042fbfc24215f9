"""The pre-flight: look at the default models at start, so that one that retires is warned of before it is gone.

The catalogue is read in a daemon thread, at most once a process for the same address and models. The thread holds
up nobody, tells nobody when the server is away, and is not waited for at the end of the process.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from hana_ai.api.errors import TogetherAIError
from hana_ai.api.usage.turns import RenewableLock

if TYPE_CHECKING:
    from hana_ai.api.catalog.catalog import Catalog
    from hana_ai.api.together_ai import TogetherAIClient

logger = logging.getLogger(__name__)

_lock = RenewableLock()
_begun: set[tuple[str, tuple[str | None, ...]]] = set()
_running: set[threading.Thread] = set()


def check_defaults(client: TogetherAIClient) -> None:
    """Read the catalogue in the background, where the client's settings name a default model.

    The client has told the catalogue what it expects (`catalog.expect`), and whoever reads it warns. Returns at
    once and raises nothing.
    """
    settings = client.settings
    names = (
        settings.together_default_model,
        settings.together_default_embedding_model,
        settings.together_default_rerank_model,
    )
    with _lock:
        if not any(names) or (settings.together_base_url, names) in _begun:
            return
        _begun.add((settings.together_base_url, names))
    try:
        # What it imports is imported here: two threads that import the same packages can get in each other's way.
        catalog = client.transport.catalog
        if catalog.cached is None:
            thread = threading.Thread(target=_read, args=(catalog,), name="together-ai-preflight", daemon=True)
            with _lock:
                thread.start()
                _running.add(thread)
    except (TogetherAIError, RuntimeError) as exc:
        # A ledger that cannot be opened fails the first call, too; at the process's end there are no new threads.
        logger.debug("the default models are not looked at: %s", exc)


def _read(catalog: Catalog) -> None:
    try:
        catalog.models()
    except Exception as exc:  # noqa: BLE001 - the next call to the server says it to somebody who waits for it
        logger.debug("the default models could not be looked at: %s", exc)
    finally:
        with _lock:
            _running.discard(threading.current_thread())


def wait(timeout: float = 20.0) -> None:
    """Wait for the readings that run, each for so many seconds."""
    with _lock:
        running = list(_running)
    for thread in running:
        thread.join(timeout)


def _begin_anew() -> None:
    # A forked child has none of its parent's threads.
    _lock.renew()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
