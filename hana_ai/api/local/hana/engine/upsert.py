"""UPSERT and REPLACE: by primary key, or where a condition finds rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlglot import exp

from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import TableInfo
from hana_ai.api.local.hana.engine.constraints import carry_keys, check_foreign_keys, remember_keys
from hana_ai.api.local.hana.engine.dml import (
    InsertedRows,
    InsertProgram,
    UpdateProgram,
    changed_table,
    compile_insert,
    compile_update,
    inserted_rows,
    note_identity,
)
from hana_ai.api.local.hana.engine.journal import Effect
from hana_ai.api.local.hana.engine.work import BY_RIDS, Execution, Program, within
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.translation.fragments import Sql, compose, joined
from hana_ai.api.local.hana.translation.queries import Binder
from hana_ai.api.local.hana.translation.rows import Target
from hana_ai.api.local.hana.translation.scope import Parameters

_STAGE = "temp.main.upsert_rows"


@dataclass(frozen=True, slots=True)
class UpsertWhere:
    """Update the rows that a condition or a key finds, else insert one."""

    update: UpdateProgram
    insert: InsertProgram

    def run(self, execution: Execution) -> tuple[list[int], list[Effect]]:
        """See `work.Program.run`."""
        counts, effects = self.update.run(execution)
        return (counts, effects) if counts[0] else self.insert.run(execution)


@dataclass(frozen=True, slots=True)
class UpsertByKey:
    """Stage the rows, update those whose key is there, insert the others."""

    table: TableInfo
    rows: InsertedRows
    key: tuple[str, ...]
    """The key's columns in DuckDB SQL."""
    update: Sql | None
    """None when the statement writes nothing but the key."""
    changes_keys: bool
    """Whether it writes another key than the primary one."""

    def run(self, execution: Execution) -> tuple[list[int], list[Effect]]:
        """See `work.Program.run`."""
        work, table = execution.work, self.table
        work.ensure_temporary(table)
        numbers = execution.new_rows(self.rows.counted)
        work.connection.execute(f"DROP TABLE IF EXISTS {_STAGE}")
        stage = compose("CREATE TEMP TABLE upsert_rows AS {}", self.rows.select)
        execution.execute(stage, rid=numbers.start)
        total = execution.number(Sql(f"SELECT count(*) FROM {_STAGE}"))
        if len(numbers) > 1:
            # The last row for a key wins.
            last = f"SELECT max(_rid) FROM {_STAGE} GROUP BY {', '.join(self.key)}"
            work.connection.execute(f"DELETE FROM {_STAGE} WHERE _rid NOT IN ({last})")
        remembered = remember_keys(work, table) if self.changes_keys else None
        rids = execution.rids(self.update) if self.update is not None else []
        work.connection.execute(
            f"INSERT INTO {table.sql} SELECT * FROM {_STAGE} AS s "
            f"WHERE NOT EXISTS (SELECT 1 FROM {table.sql} AS t WHERE {_same(self.key)})"
        )
        work.connection.execute(f"DROP TABLE {_STAGE}")
        added = within(numbers)
        note_identity(execution, table, added)
        effects = [Effect(table.sql, removed=rids, added=BY_RIDS)] if rids else []
        effects.append(Effect(table.sql, added=added))
        effects += carry_keys(work, table, remembered)
        check_foreign_keys(work, table, added)
        check_foreign_keys(work, table, BY_RIDS, rids)
        return execution.counts(total), effects


def _same(key: tuple[str, ...]) -> str:
    return " AND ".join(f"t.{name} = s.{name}" for name in key)


def compile_upsert(statement: syntax.Insert, environment: Environment, parameters: Parameters) -> Program:
    """UPSERT and REPLACE; without a primary key they insert."""
    table = changed_table(environment, statement.table, "INSERT")
    environment.check("UPDATE", table)
    key = table.primary_key()
    if statement.where is not None:
        return _compile_where(statement, environment, parameters, table)
    if key is None:
        return compile_insert(statement, environment, parameters)
    target = Target(Binder(environment, parameters), table)
    if statement.values is not None and not parameters.rows:
        one = _update_of_one(target, statement.columns, statement.values, key.columns)
        if one is not None:
            return UpsertWhere(one, compile_insert(statement, environment, parameters))
    rows = inserted_rows(statement, environment, parameters, table)
    names = tuple(column.quoted for column in table.columns if column.name in key.columns)
    written = {column.name for column in target.columns(statement.columns, None)}
    assigned = {
        column.name: Sql(f"s.{column.quoted}")
        for column in table.columns
        if column.name in written and column.name not in key.columns
    }
    update = None
    if assigned:
        update = compose(
            "UPDATE {} AS t SET {} FROM {} AS s WHERE {} RETURNING t._rid",
            table.sql, target.set_clause("t", assigned), _STAGE, _same(names),
        )  # fmt: skip
    return UpsertByKey(table, rows, names, update, bool(table.key_columns() & assigned.keys()))


def _update_of_one(
    target: Target, columns: Sequence[str], values: Sequence[exp.Expr], key: Collection[str]
) -> UpdateProgram | None:
    """The UPDATE that writes one row of values where its key is; None where rows must be staged for that.

    Much cheaper than staging, and DuckDB keeps some memory for each UPDATE that joins.
    """
    table = target.table
    given = target.given(target.columns(columns, len(values)), values)
    assigned = {name: value for name, value in given.items() if name not in key}
    has_default = len(given) < len(values)
    if has_default or not assigned or table.key_columns() & assigned.keys() or not given.keys() >= set(key):
        return None
    same = [
        compose("t.{} = {}", column.quoted, given[column.name]) for column in table.columns if column.name in key
    ]
    change = compose(
        "UPDATE {} AS t SET {} WHERE {} RETURNING _rid",
        table.sql, target.set_clause("t", assigned), joined(" AND ", same),
    )  # fmt: skip
    return UpdateProgram(table, change, replaces=False, changes_keys=False)


def _compile_where(
    statement: syntax.Insert, environment: Environment, parameters: Parameters, table: TableInfo
) -> UpsertWhere:
    assert statement.values is not None
    columns = Target(Binder(environment, parameters), table).columns(statement.columns, len(statement.values))
    assignments = [([c.name], v) for c, v in zip(columns, statement.values, strict=False)]
    update = syntax.Update(statement.table, None, assignments, None, statement.where)
    return UpsertWhere(
        compile_update(update, environment, parameters), compile_insert(statement, environment, parameters)
    )
