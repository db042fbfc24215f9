"""INSERT, UPDATE and DELETE, compiled into DuckDB statements that tell which rows they changed."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import TableInfo
from hana_ai.api.local.hana.engine.arrow import BATCH_ROWS
from hana_ai.api.local.hana.engine.constraints import (
    carry_keys,
    cascade,
    check_foreign_keys,
    remember_keys,
    replace_rows,
)
from hana_ai.api.local.hana.engine.journal import BatchInsert, Effect
from hana_ai.api.local.hana.engine.work import BY_RIDS, Execution, within
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.translation.fragments import NOTHING, Sql, compose
from hana_ai.api.local.hana.translation.queries import Binder
from hana_ai.api.local.hana.translation.rows import Target, Values
from hana_ai.api.local.hana.translation.scope import Parameters, Scope
from hana_ai.api.local.hana.translation.sources import source, table_relation

ONE_RID = Sql("CAST($rid AS BIGINT)", frozenset({"rid"}))
MANY_RIDS = Sql("CAST($rid AS BIGINT) + row_number() OVER () - 1", frozenset({"rid"}))
"""The numbers of new rows, `rid` and those after it."""


def changed_table(environment: Environment, name: syntax.Name, privilege: str) -> TableInfo:
    """The table of a change, with the privilege checked."""
    return environment.base_table(name.schema, name.name, privilege, name.position)


# --- INSERT ---
@dataclass(frozen=True, slots=True)
class InsertedRows:
    """Complete rows that an INSERT or UPSERT writes."""

    select: Sql
    counted: bool
    """Whether each parameter row gives one row; a query gives any number."""


@dataclass(frozen=True, slots=True)
class InsertProgram:
    """A compiled INSERT."""

    table: TableInfo
    insert: Sql
    counted: bool
    repeatable: bool = False
    """Whether it adds the same rows each time."""

    def run(self, execution: Execution) -> tuple[list[int], list[Effect]]:
        """See `work.Program.run`."""
        work = execution.work
        work.ensure_temporary(self.table)
        numbers = execution.new_rows(self.counted)
        done = execution.number(self.insert, rid=numbers.start)
        added = within(numbers)
        note_identity(execution, self.table, added)
        check_foreign_keys(work, self.table, added)
        again = None
        if self.repeatable and execution.rows is not None:
            again = BatchInsert(execution.rows, self.insert.text, execution.named(self.insert, rid=numbers.start))
        return execution.counts(done), [Effect(self.table.sql, added=added, count=done, insert=again)]


def compile_insert(statement: syntax.Insert, environment: Environment, parameters: Parameters) -> InsertProgram:
    """INSERT ... VALUES (single or batch) and INSERT ... SELECT."""
    table = changed_table(environment, statement.table, "INSERT")
    rows = inserted_rows(statement, environment, parameters, table)
    names = ", ".join([*(column.quoted for column in table.columns), "_rid"])
    insert = compose("INSERT INTO {} ({}) {}", table.sql, names, rows.select)
    return InsertProgram(table, insert, rows.counted, _is_repeatable(statement, table))


def _is_repeatable(statement: syntax.Insert, table: TableInfo) -> bool:
    """Whether the rows are parameters and literals: nothing is computed for a column."""
    return (
        statement.values is not None
        and all(isinstance(value, (exp.Placeholder, exp.Literal)) for value in statement.values)
        and not any(column.default or column.identity or column.generated for column in table.columns)
    )


def inserted_rows(
    statement: syntax.Insert, environment: Environment, parameters: Parameters, table: TableInfo
) -> InsertedRows:
    """The SELECT of the rows that an INSERT or UPSERT writes."""
    binder = Binder(environment, parameters)
    target = Target(binder, table)
    if statement.values is not None:
        given = target.given(target.columns(statement.columns, len(statement.values)), statement.values)
        if parameters.rows:
            batch = Sql(f" FROM {BATCH_ROWS} AS {parameters.rows}")
            return InsertedRows(target.select(given, batch, f"{parameters.rows}.rid"), True)
        return InsertedRows(target.select(given, NOTHING, ONE_RID), True)
    assert statement.query is not None
    query = binder.bind_query(statement.query, None)
    given = target.selected(target.columns(statement.columns, len(query.columns)), query.columns, "q")
    return InsertedRows(target.select(given, compose(" FROM ({}) AS q", query.sql), MANY_RIDS), False)


def note_identity(execution: Execution, table: TableInfo, added: Sql) -> None:
    """Remember the last identity value for CURRENT_IDENTITY_VALUE()."""
    column = next((item for item in table.columns if item.identity), None)
    if column is not None:
        last = compose(
            "SELECT arg_max({}, _rid) FROM {} WHERE {} HAVING count(*) > 0", column.quoted, table.sql, added
        )
        execution.work.state.last_identity = execution.number(last)


# --- UPDATE ---
@dataclass(frozen=True, slots=True)
class UpdateProgram:
    """A compiled UPDATE."""

    table: TableInfo
    change: Sql
    """The UPDATE, or the query of the new rows when they replace the old ones."""
    replaces: bool
    changes_keys: bool

    def run(self, execution: Execution) -> tuple[list[int], list[Effect]]:
        """See `work.Program.run`."""
        work = execution.work
        work.ensure_temporary(self.table)
        remembered = remember_keys(work, self.table) if self.changes_keys else None
        if self.replaces:
            named = work.named(self.change, execution.parameters.hidden, execution.values)
            rids = replace_rows(work, self.table, self.change, named)
        else:
            rids = execution.rids(self.change)
        effects = [Effect(self.table.sql, removed=rids, added=BY_RIDS)] if rids else []
        effects += carry_keys(work, self.table, remembered)
        check_foreign_keys(work, self.table, BY_RIDS, rids)
        return [len(rids)], effects


def compile_update(statement: syntax.Update, environment: Environment, parameters: Parameters) -> UpdateProgram:
    """UPDATE, with or without FROM."""
    table = changed_table(environment, statement.table, "UPDATE")
    binder = Binder(environment, parameters)
    alias = binder.alias()
    changed = table_relation(table, alias, statement.alias, statement.table.written)
    scope = Scope([changed])
    beside = NOTHING
    if statement.source is not None:
        inner = Scope()
        beside = compose(" FROM {}", source(binder, statement.source.this, inner))
        # UPDATE t SET ... FROM t, s names the target again; HANA means the same row.
        scope.relations += [item for item in inner.relations if item.name != changed.name]
    target = Target(binder, table)
    assigned = target.assigned(statement.assignments, scope)
    where = _where(binder, statement.where, scope)
    changes_keys = bool(table.key_columns() & assigned.keys())
    replaces = changes_keys and statement.source is None
    if replaces:
        rows = target.complete(alias, _with_generated(target, alias, assigned))
        change = compose("SELECT {0}, {1}._rid FROM {2} AS {1}{3}", rows, alias, table.sql, where)
    else:
        change = compose(
            "UPDATE {} AS {} SET {}{}{} RETURNING _rid",
            table.sql, alias, target.set_clause(alias, assigned), beside, where,
        )  # fmt: skip
    return UpdateProgram(table, change, replaces, changes_keys)


def _with_generated(target: Target, alias: str, assigned: Values) -> Values:
    return {**assigned, **target.generated(alias, assigned)}


def _where(binder: Binder, condition: exp.Expr | None, scope: Scope) -> Sql:
    return compose(" WHERE {}", binder.condition(condition, scope)) if condition is not None else NOTHING


# --- DELETE ---
@dataclass(frozen=True, slots=True)
class DeleteProgram:
    """A compiled DELETE."""

    table: TableInfo
    delete: Sql

    def run(self, execution: Execution) -> tuple[list[int], list[Effect]]:
        """See `work.Program.run`."""
        execution.work.ensure_temporary(self.table)
        rids = execution.rids(self.delete)
        effects = [Effect(self.table.sql, removed=rids)] if rids else []
        return [len(rids)], effects + cascade(execution.work, self.table)


def compile_delete(statement: syntax.Delete, environment: Environment, parameters: Parameters) -> DeleteProgram:
    """DELETE."""
    table = changed_table(environment, statement.table, "DELETE")
    binder = Binder(environment, parameters)
    alias = binder.alias()
    deleted = table_relation(table, alias, statement.alias, statement.table.written)
    where = _where(binder, statement.where, Scope([deleted]))
    return DeleteProgram(table, compose("DELETE FROM {} AS {}{} RETURNING _rid", table.sql, alias, where))
