"""Switch the routing on and off: `activate()`, `deactivate()` and `status()`.

With ``ENABLE_TOGETHER_AI=true`` every place in hana_ai and in SAP's GenAI Hub SDK that chooses a model is routed
to Together AI, whatever is imported first and without a change to anybody's code. There are four ways in:

* ``import hana_ai.api.auto`` in a program,
* ``%load_ext hana_ai.api`` in a notebook,
* ``hana-ai-together run -- python app.py`` at the command line, which changes no file,
* ``hana-ai-together autoload enable``, for every Python process of a virtual environment.

Until Together is enabled, only the standard library is imported here, and nothing is routed. The doors to vector
tables are guarded all the same, so that no table gets vectors of two models, unless
TOGETHER_GUARD_TABLES is false.
"""

from __future__ import annotations

import os

# As in typing, whose import would take longer than everything else.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hana_ai.api.routing.report import RoutingStatus
    from hana_ai.api.routing.seams import Seam

__all__ = ["activate", "deactivate", "guard_tables", "is_active", "is_enabled", "status"]

_TRUE = {"1", "true", "t", "yes", "y", "on"}
_FALSE = {"0", "false", "f", "no", "n", "off"}
_SWITCH = "enable_together_ai"
_MASTER = "enable_gpu_acceleration"
_NAMES = (_SWITCH, _MASTER)
_GUARD = "together_guard_tables"
_DOT_ENV = ".env"


def is_active() -> bool:
    """Whether the toolkit is routed in this process."""
    import sys

    # Without importing it: asking must cost nothing where Together is not used.
    hooks = sys.modules.get("hana_ai.api.routing.hooks")
    return hooks is not None and bool(hooks.ROUTING.active)


def activate() -> bool:
    """Route the toolkit to Together AI, if enabled; else guard the vector tables, as `guard_tables` does.

    Returns
    -------
    bool
        Whether the toolkit is routed now; False when ENABLE_TOGETHER_AI is not true, in the environment or in
        `.env`, or ENABLE_GPU_ACCELERATION is false. Calling it twice changes nothing.

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
        if _wants_guard():
            guard_tables()
        return False
    _switch_on()
    return True


def guard_tables() -> None:
    """Refuse what would mix the vectors of two models in a table, and route nothing.

    langchain_hana's `HanaDB` and the toolkit's `HANAMLinVectorEngine` keep their models, and ask whose table it is
    before they search or write, as they do while the toolkit is routed; for another model's they raise
    `TogetherAIInputError`. What SAP's models write gets no stamp. `activate` and `deactivate` end this.

    Examples
    --------
    >>> from hana_ai.api import routing
    >>> routing.guard_tables()
    """
    from hana_ai.api.routing import lookout

    if not is_active():
        lookout.wait()


def activate_worker() -> None:
    """Route the toolkit in a process whose parent is routed, as `workers` has it, whatever the settings say."""
    if not is_active():
        _switch_on()


def _switch_on() -> None:
    from hana_ai.api.routing import lookout
    from hana_ai.api.routing.hooks import ROUTING
    from hana_ai.api.routing.workarounds import MAKERS

    lookout.leave()
    ROUTING.activate(_seams(), MAKERS)


def deactivate() -> None:
    """Restore everything that `activate` or `guard_tables` changed.

    Objects made in the meantime keep their model, but the toolkit's own embeddings and rerankers work as they do
    without this package, whenever they were made.
    """
    import sys

    from hana_ai.api.routing import lookout

    lookout.leave()
    hooks = sys.modules.get("hana_ai.api.routing.hooks")
    if hooks is not None and (hooks.ROUTING.active or hooks.ROUTING.guarding):
        from hana_ai.api.routing import models

        hooks.ROUTING.deactivate()
        models.forget()


def status() -> RoutingStatus:
    """Report how each place is doing (routed, stays, not installed, upstream changed, ...), with versions.

    The vector tables that were opened in this process follow, with the models that they belong to.

    Examples
    --------
    >>> from hana_ai.api import routing
    >>> print(routing.status())
    """
    import sys

    from hana_ai.api.routing.hooks import ROUTING
    from hana_ai.api.routing.report import RoutingStatus
    from hana_ai.api.routing.staying import staying
    from hana_ai.api.routing.workarounds import MAKERS

    # Only where a table was opened.
    ownership = sys.modules.get("hana_ai.api.hana.ownership")
    tables = tuple(sorted(ownership.owners().items())) if ownership is not None else ()
    places = ROUTING.statuses(_seams(), MAKERS)
    others = staying({place.name for place in places})
    return RoutingStatus(ROUTING.active, is_enabled(), (*places, *others), tables)


def _seams() -> Sequence[Seam]:
    from hana_ai.api.routing import (
        gen_ai_hub,
        hub_classes,
        langchain_init,
        toolkit,
        vector_tables,
        workarounds,
        workers,
    )

    others = (*gen_ai_hub.SEAMS, *hub_classes.SEAMS, *langchain_init.SEAMS)
    return (*toolkit.SEAMS, *vector_tables.SEAMS, *others, *workers.SEAMS, *workarounds.SEAMS)


def is_enabled() -> bool:
    """Whether ENABLE_TOGETHER_AI is true and ENABLE_GPU_ACCELERATION is not false, in the environment or `.env`.

    The same answer as `TogetherAISettings.enabled`, whose import alone takes 100 ms.

    Raises
    ------
    TogetherAISettingsError
        A value is neither true nor false, or `.env` can't be read.
    """
    set_here = {name.lower(): value for name, value in os.environ.items() if value and name.lower() in _NAMES}
    # Where the environment says no, it does not matter what `.env` is.
    found = set_here if set_here.get(_SWITCH, "").lower() in _FALSE else {**_from_dot_env(*_NAMES), **set_here}
    if not found.get(_SWITCH):
        _warn_of_slips()
        return False
    switch, master = found[_SWITCH].lower(), (found.get(_MASTER) or "true").lower()
    if not {switch, master} <= _TRUE | _FALSE:
        from hana_ai.api.settings import TogetherAISettings

        # This raises, and says what is wrong.
        return TogetherAISettings().enabled
    return switch in _TRUE and master in _TRUE


def _wants_guard() -> bool:
    """Whether TOGETHER_GUARD_TABLES is not false, in the environment or `.env`."""
    found = {name.lower(): value for name, value in os.environ.items()}.get(_GUARD)
    if not found:
        try:
            found = _from_dot_env(_GUARD).get(_GUARD)
        except ValueError:
            # It can't be read, which has been said where it matters.
            found = None
    return (found or "true").lower() not in _FALSE


def _warn_of_slips() -> None:
    """Warn where one of the two variables is misspelled: the settings, which warn as well, are not read then."""
    from hana_ai.api.addresses.dot_env import names_in, read

    data = read(_DOT_ENV)
    file = os.path.abspath(_DOT_ENV)  # noqa: PTH100 - importing pathlib takes longer than everything else
    places = {"the environment": list(os.environ), file: names_in(data) if isinstance(data, bytes) else []}
    for place, names in places.items():
        # What is one edit away from one of them has one of these; most processes have no such variable.
        near = [name for name in names if any(part in name.upper() for part in ("ENABL", "OGETHER_A", "_ACCEL"))]
        if near := [name for name in near if not name.upper().startswith("TOGETHER_")]:
            from hana_ai.api.addresses.variables import warn_of_slips

            warn_of_slips(near, place, frozenset(name.upper() for name in _NAMES))


def _from_dot_env(*names: str) -> dict[str, str]:
    """The values of these names; none where the first is not in the file."""
    from hana_ai.api.addresses.dot_env import explained, fault_in, read

    data = read(_DOT_ENV)
    if isinstance(data, bytes) and names[0].encode() not in data.lower():
        return {}
    fault = data if isinstance(data, str) else fault_in(data)
    if isinstance(data, str) or fault is not None:
        del data
        from hana_ai.api.errors import TogetherAISettingsError

        raise TogetherAISettingsError(explained(_DOT_ENV, str(fault)))
    from io import StringIO

    from dotenv import dotenv_values

    # From here, since the file may be a pipe by now.
    values = dotenv_values(stream=StringIO(data.decode()))
    return {name.lower(): value for name, value in values.items() if value and name.lower() in names}
