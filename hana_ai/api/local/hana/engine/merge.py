"""MERGE INTO: each source row is matched once against the state before the statement."""

from __future__ import annotations

from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.engine.dml import (
    BY_RIDS,
    Run,
    Target,
    assigned_values,
    bind_values,
    changed_rids,
    clean,
    set_clause,
)
from hana_ai.api.local.hana.engine.journal import Effect
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.translation.queries import Binder, quoted
from hana_ai.api.local.hana.translation.scope import OutColumn, Relation, Scope

_STAGE = "temp.main.merge_rows"


def run_merge(run: Run, statement: syntax.Merge, environment: Environment) -> tuple[list[int], list[Effect]]:
    """Stage source rows with the row they match, then do what each WHEN says."""
    privileges = {when.action for when in statement.whens}
    table = environment.base_table(
        statement.table.schema, statement.table.name, sorted(privileges)[0], statement.table.position
    )
    for privilege in privileges:
        environment.check(privilege, table)
    run.session.ensure_temporary(table)
    binder = Binder(environment, run.parameters)
    alias = binder.alias()
    inner = Scope()
    source = binder.source(statement.source, inner)
    source_relations = list(inner.relations)
    relation = binder.relation(table, alias, statement.alias)
    condition = binder.condition(statement.condition, Scope([relation, *source_relations]))
    items: list[str] = []
    staged: list[Relation] = []
    for one in source_relations:
        columns = []
        for column in one.columns:
            name = f"m{len(items)}"
            items.append(f"{one.alias}.{column.sql} AS {name}")
            columns.append(OutColumn(column.name, column.type, name, column.nullable))
        staged.append(Relation("m", columns, one.name, one.schema))
    run.session.connection.execute(f"DROP TABLE IF EXISTS {_STAGE}")
    run.execute(
        f"CREATE TEMP TABLE merge_rows AS SELECT {', '.join(items)}, {alias}._rid AS _target, "
        f"row_number() OVER () AS _source FROM {source} LEFT JOIN {table.sql} AS {alias} ON {condition}"
    )
    twice = run.execute(
        f"SELECT 1 FROM {_STAGE} WHERE _target IS NOT NULL GROUP BY _target HAVING count(*) > 1 LIMIT 1"
    )
    if twice.fetchall():
        raise HanaError(305, "MERGE: a row of the target matches more than one row of the source")
    total, effects = 0, []
    for when in statement.whens:
        done, new = _when(run, when, Target(binder, table), relation, staged)
        total += done
        effects += new
    run.execute(f"DROP TABLE {_STAGE}")
    if privileges & {"UPDATE", "DELETE"}:
        effects += run.session.cascade(table)
    return [total], effects


def _when(
    run: Run,
    when: syntax.MergeWhen,
    target: Target,
    relation: Relation,
    staged: list[Relation],
) -> tuple[int, list[Effect]]:
    binder, table, alias = target.binder, target.table, relation.alias
    scope = Scope([relation, *staged] if when.matched else list(staged))
    extra = f" AND {binder.condition(when.condition, scope)}" if when.condition is not None else ""
    if not when.matched:
        columns = target.columns(when.columns, len(when.values))
        given = bind_values(binder, columns, when.values, scope)
        first = run.session.engine.reserve_rids(run.session.engine.reserve)
        rid = "CAST($rid AS BIGINT) + row_number() OVER () - 1"
        select = target.select(given, f" FROM {_STAGE} AS m WHERE m._target IS NULL{clean(extra)}", rid)
        names = ", ".join([*(quoted(column) for column in table.columns), "_rid"])
        done = run.number(f"INSERT INTO {table.sql} ({names}) {select}", rid=first)
        added = f"_rid BETWEEN {first} AND {first + run.session.engine.reserve - 1}"
        run.session.check_foreign_keys(table, added)
        return done, [Effect(table.sql, added=added)] if done else []
    matched = f"{alias}._rid = m._target{extra}"
    if when.action == "DELETE":
        rids = changed_rids(
            run, f"DELETE FROM {table.sql} AS {alias} USING {_STAGE} AS m WHERE {matched} RETURNING {alias}._rid"
        )
        effect = Effect(table.sql, removed=rids)
    else:
        assigned = assigned_values(binder, table, when.assignments, scope)
        rids = changed_rids(
            run,
            f"UPDATE {table.sql} AS {alias} SET {set_clause(target, alias, assigned)} FROM {_STAGE} AS m "
            f"WHERE {matched} RETURNING {alias}._rid",
        )
        effect = Effect(table.sql, removed=rids, added=BY_RIDS)
        run.session.check_foreign_keys(table, BY_RIDS, rids=rids)
    # A later WHEN must not see a row that this one has handled.
    run.execute(f"DELETE FROM {_STAGE} WHERE _target IN (SELECT unnest($rids))", rids=rids)
    return len(rids), [effect] if rids else []
