"""Workers of multiprocessing that begin as a new interpreter (spawn, forkserver): routed when their parent is.

The parent sends such a worker what it needs to begin, before the program's main module is imported there. One more
entry of that activates the routing as it is unpickled, whatever the environment says. A worker that is forked has
the parent's routing anyway.

This module imports nothing but the standard library: it runs in processes that never use Together.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import cast

from hana_ai.api.routing.seams import Patcher, Seam

_ENTRY = "hana_ai_together"

# In builtins' words, not as a function of this package: where that is missing, the worker must begin all the same.
_CODE = """
import sys
sys.path[:] = path
try:
    from hana_ai.api.routing.activation import activate_worker
    activate_worker()
except Exception as exc:
    sys.stderr.write(f"hana-ai-together: this worker is not routed to Together AI: {exc}\\n")
"""


class _Activation:
    """Becomes None in the worker, after the routing has been activated there."""

    def __init__(self, path: list[str]) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str, dict[str, object]]]:
        return exec, (_CODE, {"path": self._path})


def _prepare(original: Callable[..., object], name: object) -> object:
    data = cast("dict[str, object]", original(name))
    # The worker takes this path a moment later; the package may be on it alone.
    data[_ENTRY] = _Activation(list(cast("list[str]", data["sys_path"])))
    return data


def _patch(module: ModuleType, patcher: Patcher) -> None:
    patcher.replace(module, "get_preparation_data", _prepare, ["name"])


SEAMS = (
    Seam(
        "Workers of multiprocessing",
        "multiprocessing.spawn",
        "python",
        "those of spawn and forkserver are routed, too",
        _patch,
    ),
)
