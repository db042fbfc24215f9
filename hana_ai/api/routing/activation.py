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

import os

# As in typing, whose import would take longer than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from hana_ai.api.routing.process import RoutingStatus

__all__ = ["activate", "deactivate", "is_active", "is_enabled", "status"]

_TRUE = {"1", "true", "t", "yes", "y", "on"}
_FALSE = {"0", "false", "f", "no", "n", "off"}
_SWITCH = "enable_together_ai"
_MASTER = "enable_gpu_acceleration"
_NAMES = (_SWITCH, _MASTER)


def is_active() -> bool:
    """Whether the toolkit is routed in this process."""
    import sys

    process = sys.modules.get("hana_ai.api.routing.process")
    return process is not None and bool(process.ROUTING.active)


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
    if is_active():
        return True
    if not is_enabled():
        return False
    from hana_ai.api.routing.process import ROUTING

    ROUTING.activate()
    return True


def deactivate() -> None:
    """Restore everything that `activate` changed.

    Objects that were made meanwhile keep the model that they have, but the toolkit's own embeddings and
    rerankers, also those made meanwhile, work as they do without this package.
    """
    if is_active():
        from hana_ai.api.routing import models
        from hana_ai.api.routing.process import ROUTING

        ROUTING.deactivate()
        models.forget()


def status() -> RoutingStatus:
    """Say of every place how it is doing: routed, not installed, upstream changed, ..., with versions.

    Examples
    --------
    >>> from hana_ai.api import routing
    >>> print(routing.status())
    """
    from hana_ai.api.routing.process import ROUTING, RoutingStatus

    return RoutingStatus(ROUTING.active, is_enabled(), tuple(ROUTING.seams()))


def is_enabled() -> bool:
    """Whether ENABLE_TOGETHER_AI is true and ENABLE_GPU_ACCELERATION is not false, in the environment or `.env`.

    The answer is the one of `TogetherAISettings.enabled`, whose import alone takes 100 ms.

    Raises
    ------
    TogetherAISettingsError
        A value is neither.
    """
    found = _from_dot_env()
    found.update((name.lower(), value) for name, value in os.environ.items() if value and name.lower() in _NAMES)
    if not found.get(_SWITCH):
        return False
    switch, master = found[_SWITCH].lower(), (found.get(_MASTER) or "true").lower()
    if not {switch, master} <= _TRUE | _FALSE:
        from hana_ai.api.settings import TogetherAISettings

        # It says what is wrong, in its own words.
        return TogetherAISettings().enabled
    return switch in _TRUE and master in _TRUE


def _from_dot_env() -> dict[str, str]:
    try:
        with open(".env", "rb") as file:  # noqa: PTH123 - the import of pathlib takes longer than all the rest
            text = file.read()
    except OSError:
        return {}
    if _SWITCH.encode() not in text.lower():
        return {}
    from dotenv import dotenv_values

    values = dotenv_values(".env", encoding="utf-8")
    return {name.lower(): value for name, value in values.items() if value and name.lower() in _NAMES}
