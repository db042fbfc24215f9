"""The toolkit uses Together by itself: `activate()`, `deactivate()` and `status()`.

With ``ENABLE_TOGETHER_AI=true`` the places of hana_ai and of SAP's GenAI Hub SDK where a model is chosen are
routed to Together AI, whatever is imported first, without a change in anybody's code. Four ways lead to the same
`activate()`:

* ``import hana_ai.api.auto`` in a program,
* ``%load_ext hana_ai.api`` in a notebook,
* ``hana-ai-together run -- python app.py`` at the command line, which touches no file,
* ``hana-ai-together autoload enable``, for every Python process of a virtual environment.

Nothing is imported here but the standard library, and nothing happens where Together is not enabled.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from hana_ai.api.routing._enabled import is_enabled
from hana_ai.api.routing.hooks import ModuleMaker, Routing, Seam, SeamStatus

__all__ = ["RoutingStatus", "SeamStatus", "activate", "deactivate", "is_active", "is_enabled", "status"]


def _seams() -> Sequence[Seam]:
    from hana_ai.api.routing import cures, gen_ai_hub, toolkit

    return (*toolkit.SEAMS, *gen_ai_hub.SEAMS, *cures.SEAMS)


def _makers() -> Sequence[ModuleMaker]:
    from hana_ai.api.routing import cures

    return cures.makers()


_routing = Routing(_seams, _makers)
_lock = threading.Lock()


def is_active() -> bool:
    """Whether the toolkit is routed in this process."""
    return _routing.active


def activate() -> bool:
    """Route the toolkit to Together AI, if it is enabled.

    Returns
    -------
    bool
        Whether the toolkit is routed now; False when ENABLE_TOGETHER_AI is not true, in the environment or in
        `.env`, or ENABLE_GPU_ACCELERATION is false. Doing it twice changes nothing.

    Raises
    ------
    TogetherAISettingsError
        One of the two variables is neither true nor false. Other settings are read when they are needed.

    Examples
    --------
    >>> from hana_ai.api import routing
    >>> routing.activate()
    True
    """
    with _lock:
        if not _routing.active and is_enabled():
            _routing.activate()
    return _routing.active


def deactivate() -> None:
    """Restore everything that `activate` changed.

    Objects that were made meanwhile keep the model that they have, but the toolkit's own embeddings and
    rerankers, also those made meanwhile, work as they do without this package.
    """
    with _lock:
        _routing.deactivate()
        from hana_ai.api.routing import models

        models.forget()


@dataclass(frozen=True)
class RoutingStatus:
    """What `status()` returns; printed, it is a table."""

    active: bool
    """Whether the toolkit is routed in this process."""
    enabled: bool
    """Whether the settings want it."""
    seams: tuple[SeamStatus, ...]
    """Every place, cures included."""

    def __getitem__(self, name: str) -> SeamStatus:
        """Return the seam of a name."""
        for seam in self.seams:
            if seam.name == name:
                return seam
        raise KeyError(name)

    def __str__(self) -> str:
        head = (
            "The toolkit is routed to Together AI." if self.active else "The toolkit is not routed to Together AI"
        )
        if not self.active:
            head += "; call activate()." if self.enabled else ": ENABLE_TOGETHER_AI is not true."
        rows = [
            (seam.state, seam.name, f"{seam.distribution} {seam.version or '-'}", seam.detail)
            for seam in self.seams
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
            for row in rows
        ]
        return "\n".join([head, *lines])


def status() -> RoutingStatus:
    """Say of every place how it is doing: routed, not installed, upstream changed, ..., with versions.

    Examples
    --------
    >>> from hana_ai.api import routing
    >>> print(routing.status())
    """
    return RoutingStatus(_routing.active, is_enabled(), tuple(_routing.seams()))
