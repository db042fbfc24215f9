"""M_SQL_PLAN_CACHE: the statements that the server has run lately, with what was measured of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.statement_record import StatementEntry, Times

COLUMNS = (
    "HOST PORT:i STATEMENT_STRING:c STATEMENT_HASH USER_NAME SESSION_USER_NAME SCHEMA_NAME IS_VALID IS_INTERNAL "
    "PLAN_ID:b PARAMETER_COUNT:b EXECUTION_COUNT:b TOTAL_EXECUTION_TIME:b AVG_EXECUTION_TIME:b "
    "MIN_EXECUTION_TIME:b MAX_EXECUTION_TIME:b PREPARATION_COUNT:b TOTAL_PREPARATION_TIME:b "
    "AVG_PREPARATION_TIME:b MIN_PREPARATION_TIME:b MAX_PREPARATION_TIME:b TOTAL_RESULT_RECORD_COUNT:b "
    "LAST_CONNECTION_ID:i LAST_EXECUTION_TIMESTAMP:t LAST_PREPARATION_TIMESTAMP:t"
)


def rows(env: Environment) -> Iterator[Sequence[str | int | None]]:
    """All statements for an administrator; one's own for the others."""
    account = env.catalog.user(env.state.user)
    sees_all = account is not None and account.admin
    for entry in env.state.record.entries():
        if sees_all or entry.user == env.state.user:
            yield _row(entry)


def _row(entry: StatementEntry) -> Sequence[str | int | None]:
    return (
        "loopback", 0, entry.text, entry.hash, entry.user, entry.user, entry.schema, "TRUE", "FALSE",
        entry.plan_id, entry.parameters, entry.executions.count, *_times(entry.executions),
        entry.preparations.count, *_times(entry.preparations), entry.rows, entry.connection_id, entry.executed_at,
        entry.prepared_at,
    )  # fmt: skip


def _times(times: Times) -> tuple[int, int, int, int]:
    return times.total, times.mean, times.shortest, times.longest
