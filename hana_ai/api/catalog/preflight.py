"""The pre-flight: look at the default models at start, so that one that retires is warned of before it is gone.

The catalogue is read in a daemon thread, at most once a process for the same address and models. The thread holds
up nobody, tells nobody when the server is away, and is not waited for at the end of the process.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from hana_ai.api.process import RenewableLock, on_fork

if TYPE_CHECKING:
    from hana_ai.api.catalog.catalog import Catalog
    from hana_ai.api.settings import TogetherAISettings

logger = logging.getLogger(__name__)

_lock = RenewableLock()
_begun: set[tuple[str, tuple[str | None, ...]]] = set()
_running: set[threading.Thread] = set()


def check_defaults(settings: TogetherAISettings, catalog: Catalog) -> None:
    """Read the catalogue in the background, where the settings name a default model.

    Whoever made the settings' objects has told what is expected (`retiring.expect`), and whoever reads the
    catalogue warns. Returns at once and raises nothing.
    """
    names = (
        settings.together_default_model,
        settings.together_default_embedding_model,
        settings.together_default_rerank_model,
    )
    with _lock:
        if not any(names) or (settings.together_base_url, names) in _begun:
            return
        _begun.add((settings.together_base_url, names))
    if catalog.cached is not None:
        return
    thread = threading.Thread(target=_read, args=(catalog,), name="together-ai-preflight", daemon=True)
    try:
        with _lock:
            thread.start()
            _running.add(thread)
    except RuntimeError as exc:
        # At the end of the process there are no new threads.
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


# A forked child has none of its parent's threads.
on_fork(in_child=_running.clear)
