"""DDL inside a transaction (AUTOCOMMIT DDL OFF): a catalog of the session's own until it commits."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from hana_ai.api.local.hana.catalog.environment import SessionState
from hana_ai.api.local.hana.catalog.objects import Catalog, Change, TableInfo


class DraftCatalog(Catalog):
    """A copy of the catalog that one transaction changes.

    Parameters
    ----------
    base : Catalog
        The committed objects. Whoever makes a draft keeps all others from changing them meanwhile.
    """

    def __init__(self, base: Catalog) -> None:
        super().__init__(base.system_views)
        self._base = base
        with base.lock:
            self.entries = dict(base.entries)
        self.version = -base.new_oid()

    def new_oid(self) -> int:
        """A number that no other draft has either."""
        return self._base.new_oid()

    def apply(self, change: Change) -> None:
        """Make a change visible in the draft."""
        super().apply(change)
        # No plan of another draft, or of the committed catalog, is valid here.
        self.version = -self._base.new_oid()


@dataclass(slots=True)
class Draft:
    """The draft of one session, with what a rollback must bring back in memory."""

    catalog: DraftCatalog
    temporary: dict[str, TableInfo]
    global_temporary: set[str]

    @classmethod
    def begin(cls, base: Catalog, state: SessionState) -> Draft:
        """Begin with what is committed."""
        return cls(DraftCatalog(base), dict(state.temporary), set(state.global_temporary))

    def undo(self, state: SessionState) -> None:
        """Forget the temporary tables that came, and remember those that went."""
        state.temporary, state.global_temporary = self.temporary, self.global_temporary
        state.temporary_version += 1


def acquired(lock: threading.Lock, seconds: float) -> bool:
    """Whether the lock could be had in time."""
    return lock.acquire(timeout=max(seconds, 0.0))
