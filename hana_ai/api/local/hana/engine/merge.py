"""MERGE INTO: each source row is matched once against the state before the statement."""

from __future__ import annotations

from dataclasses import dataclass

from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import TableInfo
from hana_ai.api.local.hana.engine.constraints import carry_keys, cascade, check_foreign_keys, remember_keys
from hana_ai.api.local.hana.engine.dml import MANY_RIDS, changed_table
from hana_ai.api.local.hana.engine.journal import Effect
from hana_ai.api.local.hana.engine.work import BY_RIDS, Execution, within
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.translation.fragments import NOTHING, Sql, compose, listed
from hana_ai.api.local.hana.translation.queries import Binder
from hana_ai.api.local.hana.translation.rows import Target
from hana_ai.api.local.hana.translation.scope import OutColumn, Parameters, Relation, Scope
from hana_ai.api.local.hana.translation.sources import source, table_relation

_STAGE = "temp.main.merge_rows"


@dataclass(frozen=True, slots=True)
class _When:
    """One compiled WHEN."""

    action: str
    """UPDATE, DELETE or INSERT."""
    change: Sql

    def run(self, execution: Execution, table: TableInfo) -> tuple[int, list[Effect]]:
        return self._insert(execution, table) if self.action == "INSERT" else self._change(execution, table)

    def _insert(self, execution: Execution, table: TableInfo) -> tuple[int, list[Effect]]:
        numbers = execution.work.new_rows()
        done = execution.number(self.change, rid=numbers.start)
        added = within(numbers)
        check_foreign_keys(execution.work, table, added)
        return done, [Effect(table.sql, added=added, count=done)] if done else []

    def _change(self, execution: Execution, table: TableInfo) -> tuple[int, list[Effect]]:
        rids = execution.rids(self.change)
        added = BY_RIDS if self.action == "UPDATE" else None
        if added is not None:
            check_foreign_keys(execution.work, table, added, rids)
        # A later WHEN must not see a row that this one has handled.
        handled = Sql(f"DELETE FROM {_STAGE} WHERE _target IN (SELECT unnest($rids))", frozenset({"rids"}))
        execution.execute(handled, rids=rids)
        return len(rids), [Effect(table.sql, removed=rids, added=added)] if rids else []


@dataclass(frozen=True, slots=True)
class MergeProgram:
    """A compiled MERGE: stage source rows with the row they match, then do what each WHEN says."""

    table: TableInfo
    stage: Sql
    whens: tuple[_When, ...]

    def run(self, execution: Execution) -> tuple[list[int], list[Effect]]:
        """See `work.Program.run`."""
        work = execution.work
        work.ensure_temporary(self.table)
        work.connection.execute(f"DROP TABLE IF EXISTS {_STAGE}")
        execution.execute(self.stage)
        twice = work.connection.execute(
            f"SELECT 1 FROM {_STAGE} WHERE _target IS NOT NULL GROUP BY _target HAVING count(*) > 1 LIMIT 1"
        )
        if twice.fetchall():
            raise HanaError(305, "MERGE: a row of the target matches more than one row of the source")
        changes = any(when.action != "INSERT" for when in self.whens)
        remembered = remember_keys(work, self.table) if changes else None
        total, effects = 0, []
        for when in self.whens:
            done, new = when.run(execution, self.table)
            total += done
            effects += new
        work.connection.execute(f"DROP TABLE {_STAGE}")
        if changes:
            effects += carry_keys(work, self.table, remembered)
            effects += cascade(work, self.table)
        return [total], effects


def compile_merge(statement: syntax.Merge, environment: Environment, parameters: Parameters) -> MergeProgram:
    """MERGE INTO."""
    privileges = {when.action for when in statement.whens}
    table = changed_table(environment, statement.table, min(privileges))
    for privilege in privileges:
        environment.check(privilege, table)
    binder = Binder(environment, parameters)
    alias = binder.alias()
    inner = Scope()
    rows = source(binder, statement.source, inner)
    relation = table_relation(table, alias, statement.alias, statement.table.written)
    condition = binder.condition(statement.condition, Scope([relation, *inner.relations]))
    staged, items = _staged(inner.relations)
    stage = compose(
        "CREATE TEMP TABLE merge_rows AS SELECT {0}, {1}._rid AS _target, row_number() OVER () AS _source "
        "FROM {2} LEFT JOIN {3} AS {1} ON {4}",
        listed(items), alias, rows, table.sql, condition,
    )  # fmt: skip
    target = Target(binder, table)
    return MergeProgram(table, stage, tuple(_when(when, target, relation, staged) for when in statement.whens))


def _staged(relations: list[Relation]) -> tuple[list[Relation], list[Sql]]:
    """The source's relations over the staged rows, and what is staged."""
    items: list[Sql] = []
    staged = []
    for relation in relations:
        columns = []
        for column in relation.columns:
            name = Sql(f"m{len(items)}")
            items.append(compose("{} AS {}", relation.reference(column), name))
            columns.append(OutColumn(column.name, column.type, name, column.nullable))
        staged.append(Relation("m", columns, relation.name, relation.schema))
    return staged, items


def _when(when: syntax.MergeWhen, target: Target, relation: Relation, staged: list[Relation]) -> _When:
    binder, table, alias = target.binder, target.table, relation.alias
    scope = Scope([relation, *staged] if when.matched else staged)
    extra = NOTHING
    if when.condition is not None:
        extra = compose(" AND {}", binder.condition(when.condition, scope))
    if not when.matched:
        given = target.given(target.columns(when.columns, len(when.values)), when.values, scope)
        unmatched = compose(" FROM {} AS m WHERE m._target IS NULL{}", _STAGE, extra)
        names = ", ".join([*(column.quoted for column in table.columns), "_rid"])
        rows = target.select(given, unmatched, MANY_RIDS)
        return _When("INSERT", compose("INSERT INTO {} ({}) {}", table.sql, names, rows))
    matched = compose("{}._rid = m._target{}", alias, extra)
    if when.action == "DELETE":
        change = compose(
            "DELETE FROM {0} AS {1} USING {2} AS m WHERE {3} RETURNING {1}._rid", table.sql, alias, _STAGE, matched
        )
    else:
        changes = target.set_clause(alias, target.assigned(when.assignments, scope))
        change = compose(
            "UPDATE {0} AS {1} SET {2} FROM {3} AS m WHERE {4} RETURNING {1}._rid",
            table.sql, alias, changes, _STAGE, matched,
        )  # fmt: skip
    return _When(when.action, change)
