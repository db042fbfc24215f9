"""DDL inside a transaction (AUTOCOMMIT DDL OFF): a catalog of the session's own until it commits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import duckdb

from hana_ai.api.local.hana.catalog.environment import SessionState
from hana_ai.api.local.hana.catalog.objects import Catalog, Change, TableInfo
from hana_ai.api.local.hana.engine import ddl
from hana_ai.api.local.hana.engine.ddl_context import Ddl
from hana_ai.api.local.hana.engine.journal import Transaction
from hana_ai.api.local.hana.engine.work import Work
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.translation.scope import Variables


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


class Drafting:
    """The DDL of one session: the lock on the catalog, and the draft while its transaction holds DDL.

    Parameters
    ----------
    work : Work
        The session; its catalog is the draft's while there is one.
    transaction : Transaction
        The session's.
    lock : threading.Lock
        Held by whoever changes the catalog.
    """

    def __init__(self, work: Work, transaction: Transaction, lock: threading.Lock) -> None:
        self._work = work
        self._transaction = transaction
        self._lock = lock
        self._committed = work.catalog
        self._draft: Draft | None = None

    def lock(self, deadline: float) -> bool:
        """Keep the others from changing the catalog; False when the deadline has passed."""
        return self._draft is not None or self._lock.acquire(timeout=max(deadline - time.monotonic(), 0.0))

    def run_alone(
        self, statement: syntax.Statement, variables: Variables | None, ended: Callable[[], None]
    ) -> int:
        """Carry out a DDL statement in a transaction of its own, with the lock held; `ended` follows its end."""
        try:
            running = Ddl(self._work, self._work.environment(), variables=variables)
            self._transaction.begin()
            try:
                rows = ddl.run(running, statement)
                self._committed.store(self._work.connection, running.change)
                self._transaction.commit()
            except BaseException:
                self._transaction.rollback()
                raise
            finally:
                ended()
            self._committed.apply(running.change)
            for action in running.after:
                action()
            return rows
        finally:
            self._lock.release()

    def run(self, statement: syntax.Statement, variables: Variables | None, undo: Callable[[], None]) -> int:
        """Carry out a DDL statement beside others, with the lock held; `undo` is called if it fails."""
        self._transaction.begin()
        self._transaction.holds_ddl = True
        draft = self._draft
        if draft is None:
            draft = self._draft = Draft.begin(self._committed, self._work.state)
            self._work.catalog = draft.catalog
        running = Ddl(self._work, self._work.environment(), variables=variables)
        try:
            rows = ddl.run(running, statement)
            draft.catalog.store(self._work.connection, running.change)
        except BaseException as exc:
            # Most refusals come before anything has changed, so the transaction goes on.
            if running.touched or isinstance(exc, duckdb.Error):
                undo()
            raise
        draft.catalog.apply(running.change)
        for action in running.after:
            action()
        return rows

    def end(self, *, committed: bool) -> None:
        """The transaction has ended: its draft is what counts from now on, or is forgotten."""
        draft, self._draft = self._draft, None
        if draft is None:
            return
        if committed:
            self._committed.adopt(draft.catalog)
        else:
            draft.undo(self._work.state)
        self._work.catalog = self._committed
        self._lock.release()
