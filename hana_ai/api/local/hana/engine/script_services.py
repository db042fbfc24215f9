"""What a session does for scripts: they run as one statement of it, and their statements as parts of that one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import duckdb

from hana_ai.api.local.hana.catalog.environment import SessionState
from hana_ai.api.local.hana.engine.journal import Transaction
from hana_ai.api.local.hana.engine.planning import CompiledChange, CompiledQuery, Plan
from hana_ai.api.local.hana.engine.row_calls import RowCalls
from hana_ai.api.local.hana.engine.table_locks import TableLocks
from hana_ai.api.local.hana.engine.work import Execution, Work
from hana_ai.api.local.hana.errors import from_duckdb, is_conflict
from hana_ai.api.local.hana.interface import HanaError, Result
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.script.program import TopProgram
from hana_ai.api.local.hana.script.running import Rows
from hana_ai.api.local.hana.script.scripts import Scripts
from hana_ai.api.local.hana.translation.scope import Parameters, Variables


class Locking(Protocol):
    """What changes need of the engine."""

    table_locks: TableLocks

    def lock_deadline(self) -> float:
        """Until when a change may wait."""


class ScriptedSession(Protocol):
    """A session as its scripts need it."""

    work: Work
    state: SessionState
    transaction: Transaction
    scripts: ScriptServices

    @property
    def engine(self) -> Locking:
        """The database."""

    def prepare(self, sql: str) -> Plan:
        """Parse, translate and check a statement."""

    def version(self) -> tuple[object, ...]:
        """What plans are made for."""

    def query(self, plan: Plan, query: CompiledQuery, row: list[object]) -> Result:
        """Run a query."""

    def other(self, statement: syntax.Statement, variables: Variables | None = None) -> Result:
        """Run a statement that is neither a query nor a change."""

    def undo(self) -> None:
        """Undo the running statement."""

    def wait(self, deadline: float) -> None:
        """Wait for another transaction to end, or raise 131."""

    def commit(self) -> None:
        """Commit."""

    def rollback(self) -> None:
        """Undo the transaction."""

    def close(self) -> None:
        """End the session."""


class ScriptServices:
    """See `script.scripts.Services`.

    Parameters
    ----------
    session : ScriptedSession
        Whose scripts run.
    row_calls : RowCalls
        Where DuckDB finds functions that are called for each row.
    sibling : callable
        Makes another session of the same user.
    """

    def __init__(
        self, session: ScriptedSession, row_calls: RowCalls, sibling: Callable[[], ScriptedSession]
    ) -> None:
        self.work = session.work
        self.programs = Scripts(self, row_calls)
        self._session = session
        self._sibling = sibling
        self._ran_ddl = False

    def supplied(
        self, parameters: Parameters, values: Mapping[str, object]
    ) -> AbstractContextManager[Mapping[str, object]]:
        """See `Scripts.supplied`."""
        return self.programs.supplied(parameters, values)

    def run(self, program: TopProgram, row: Mapping[str, object]) -> list[Result]:
        """Run a block or a call as one statement: all of it is undone when it fails."""
        session = self._session
        transaction = session.transaction
        deadline = session.engine.lock_deadline()
        while True:
            was_active = transaction.active
            transaction.begin()
            transaction.prepare_for_failure()
            self._ran_ddl = False
            try:
                results = self.programs.run_top(program, row)
                if not was_active and not transaction.has_effects and not session.state.reads_one_snapshot:
                    session.commit()
            except duckdb.Error as exc:
                session.undo()
                if not is_conflict(exc):
                    raise from_duckdb(exc) from exc
                if self._ran_ddl or session.state.reads_one_snapshot:
                    session.rollback()
                    raise HanaError(138, f"transaction serialization failure: rolled back, {exc}") from exc
                session.wait(deadline)
            except BaseException:
                session.undo()
                raise
            else:
                return results

    @property
    def has_changes(self) -> bool:
        """Whether the transaction has changed something."""
        return self._session.transaction.active and self._session.transaction.has_effects

    def version(self) -> tuple[object, ...]:
        """What programs are compiled for."""
        return self._session.version()

    def change_inside(self, change: CompiledChange, values: Mapping[str, object]) -> int:
        """Run a change as a part of the running statement."""
        session = self._session
        deadline = session.engine.lock_deadline()
        while not session.engine.table_locks.allow(change.table, session):
            session.wait(deadline)
        # A DDL statement before it has ended the transaction.
        session.transaction.begin()
        with self.supplied(change.parameters, values) as complete:
            counts, effects = change.program.run(Execution(self.work, change.parameters, complete))
        session.transaction.record(*effects)
        return sum(counts)

    def other_inside(self, statement: syntax.Statement, variables: Variables | None) -> None:
        """Run a statement that is neither a query nor a change."""
        self._ran_ddl = True
        self._session.other(statement, variables)

    def text_inside(self, sql: str) -> Rows | None:
        """Run a statement given as text."""
        plan = self._session.prepare(sql)
        if plan.parameters:
            raise HanaError(1281, "wrong number or types of parameters in call: EXECUTE IMMEDIATE")
        if plan.query is not None:
            result = self._session.query(plan, plan.query, [])
            return Rows(plan.columns or (), list(result.rows or ()))
        if plan.change is not None:
            self.change_inside(plan.change, {})
        elif isinstance(plan.script, TopProgram):
            self.programs.run_top(plan.script, {})
        else:
            self.other_inside(plan.statement, None)
        return None

    def row_scripts(self) -> tuple[Scripts, Callable[[], None]]:
        """The scripts of a session of its own with the same user, and what closes it."""
        session = self._sibling()
        session.state.schema = self._session.state.schema
        return session.scripts.programs, session.close
