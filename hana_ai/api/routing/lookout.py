"""Waits for the modules with doors to vector tables, so that a process that opens no table pays nothing.

This module imports nothing but the standard library: it runs in processes that never use Together.
"""

from __future__ import annotations

import sys

# As in typing, whose import would take longer than everything else.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

DOORS = frozenset(
    {
        "hana_ai.vectorstore.hana_vector_engine",
        "hana_ai.vectorstore.union_vector_stores",
        "langchain_community.vectorstores.hanavector",
        "langchain_hana.vectorstores.hana_db",
    }
)
"""The modules of `vector_tables.SEAMS`."""


class Lookout:
    """A finder that finds nothing, and guards the tables once one of `DOORS` is about to be imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Put the finder of the guard in place, and let it find the module."""
        if fullname not in DOORS:
            return None
        leave()
        _guard()
        # The import system still walks through the list that had this finder in it.
        for finder in sys.meta_path:
            find: Callable[..., ModuleSpec | None] | None = getattr(finder, "find_spec", None)
            if find is not None and (spec := find(fullname, path, target)) is not None:
                return spec
        return None


def wait() -> None:
    """Guard the tables now if a door is open already, else with the first one; twice changes nothing."""
    if not DOORS.isdisjoint(sys.modules):
        _guard()
    elif not is_waiting():
        sys.meta_path.insert(0, Lookout())


def is_waiting() -> bool:
    """Whether no door has been imported yet."""
    return any(isinstance(finder, Lookout) for finder in sys.meta_path)


def leave() -> None:
    """Guard nothing that is imported later."""
    # A new list: a thread that is walking through a list that gets shorter would skip a finder.
    sys.meta_path = [finder for finder in sys.meta_path if not isinstance(finder, Lookout)]


def _guard() -> None:
    from hana_ai.api.routing.hooks import ROUTING
    from hana_ai.api.routing.vector_tables import SEAMS

    ROUTING.guard(SEAMS)
