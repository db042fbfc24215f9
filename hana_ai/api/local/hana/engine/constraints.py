"""Foreign keys: checked and carried out after each statement, because DuckDB's own cannot cascade."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hana_ai.api.local.hana.catalog.objects import ConstraintInfo, TableInfo
from hana_ai.api.local.hana.engine.journal import Effect
from hana_ai.api.local.hana.engine.work import BY_RIDS, Work
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.translation.fragments import NULL, Sql, compose
from hana_ai.api.local.hana.translation.rows import Target, Values, default_value, expression_binder

_CHANGED_ROWS = "temp.main.changed_rows"


def _names(table: TableInfo, columns: Sequence[str]) -> list[str]:
    by_name = {column.name: column.quoted for column in table.columns}
    return [by_name[name] for name in columns]


def _orphans(child: TableInfo, key: ConstraintInfo, parent: TableInfo) -> str:
    """A condition that finds rows of the table called `child` whose parent is missing."""
    own, other = _names(child, key.columns), _names(parent, key.ref_columns)
    present = " AND ".join(f"child.{name} IS NOT NULL" for name in own)
    same = " AND ".join(f"parent.{b} = child.{a}" for a, b in zip(own, other, strict=True))
    return f"{present} AND NOT EXISTS (SELECT 1 FROM {parent.sql} AS parent WHERE {same})"


def _referring(work: Work, table: TableInfo) -> Iterator[tuple[TableInfo, ConstraintInfo]]:
    """The foreign keys that refer to the table, each with the table that has it."""
    for child in work.catalog.all(TableInfo):
        for key in child.constraints:
            if key.kind == "FOREIGN" and (key.ref_schema, key.ref_table) == (table.schema, table.name):
                yield child, key


def check_foreign_keys(work: Work, table: TableInfo, condition: Sql, rids: list[int] | None = None) -> None:
    """Raise 461 when a new or changed row refers to a row that is not there."""
    for key in table.constraints:
        if key.kind != "FOREIGN" or rids == []:
            continue
        parent = work.catalog.table(key.ref_schema or "", key.ref_table or "")
        if (key.ref_schema, key.ref_table) == (table.schema, table.name):
            parent = table
        if parent is None:
            continue
        orphans = _orphans(table, key, parent)
        sql = f"SELECT 1 FROM {table.sql} AS child WHERE {condition.text} AND {orphans} LIMIT 1"
        values = {"rids": rids} if condition.names else {}
        if work.connection.execute(sql, values).fetchall():
            raise HanaError(461, f"foreign key constraint violation: {key.name}")


def replace_rows(work: Work, table: TableInfo, rows: Sql, named: dict[str, object]) -> list[int]:
    """Put new rows, with their `_rid`, in the place of the old ones; gives their numbers.

    DuckDB checks keys row by row, HANA when the statement ends.
    """
    work.connection.execute(f"DROP TABLE IF EXISTS {_CHANGED_ROWS}")
    work.connection.execute(f"CREATE TEMP TABLE changed_rows AS {rows.text}", named)
    rids = _rids(work, f"SELECT _rid FROM {_CHANGED_ROWS}")
    work.connection.execute(f"DELETE FROM {table.sql} WHERE _rid IN (SELECT _rid FROM {_CHANGED_ROWS})")
    work.connection.execute(f"INSERT INTO {table.sql} SELECT * FROM {_CHANGED_ROWS}")
    work.connection.execute(f"DROP TABLE {_CHANGED_ROWS}")
    return rids


def _rids(work: Work, sql: str) -> list[int]:
    found: list[int] = work.connection.execute(sql).fetchnumpy()["_rid"].tolist()
    return found


# --- rows of a parent that have gone ---
def cascade(work: Work, table: TableInfo) -> list[Effect]:
    """After rows of a parent have gone, do in its children what ON DELETE says.

    Raises
    ------
    HanaError
        462, when a rule forbids it.
    """
    effects: list[Effect] = []
    for child, key in _referring(work, table):
        effects += _orphaned(work, child, key, table)
    return effects


def _orphaned(work: Work, child: TableInfo, key: ConstraintInfo, parent: TableInfo) -> list[Effect]:
    orphans = _orphans(child, key, parent)
    if key.on_delete == "CASCADE":
        rids = _rids(work, f"DELETE FROM {child.sql} AS child WHERE {orphans} RETURNING _rid")
        return [Effect(child.sql, removed=rids), *cascade(work, child)] if rids else []
    if key.on_delete != "RESTRICT":
        return _rewritten(work, child, key, key.on_delete, Sql(f" WHERE {orphans}"))
    if work.connection.execute(f"SELECT 1 FROM {child.sql} AS child WHERE {orphans} LIMIT 1").fetchall():
        raise _forbidden(key)
    return []


def _forbidden(key: ConstraintInfo) -> HanaError:
    return HanaError(462, f"failed on update or delete by foreign key constraint violation: {key.name}")


# --- keys of a parent that have changed ---
def remember_keys(work: Work, table: TableInfo, depth: int = 0) -> str | None:
    """Note the keys that others refer to, before they change; gives the table that has them, for `carry_keys`.

    `depth` counts the updates that led to this one.
    """
    columns = dict.fromkeys(name for _, key in _referring(work, table) for name in key.ref_columns)
    if not columns:
        return None
    name = f"temp.main.old_keys_{depth}"
    work.connection.execute(f"DROP TABLE IF EXISTS {name}")
    items = ", ".join(["_rid", *_names(table, list(columns))])
    work.connection.execute(f"CREATE TEMP TABLE old_keys_{depth} AS SELECT {items} FROM {table.sql}")
    return name


def carry_keys(work: Work, table: TableInfo, remembered: str | None, depth: int = 0) -> list[Effect]:
    """After keys of a parent have changed, do in its children what ON UPDATE says.

    Raises
    ------
    HanaError
        462, when a rule forbids it.
    """
    if remembered is None:
        return []
    effects: list[Effect] = []
    for child, key in _referring(work, table):
        effects += _carried(work, child, key, table, remembered, depth)
    work.connection.execute(f"DROP TABLE {remembered}")
    return effects


def _carried(  # noqa: PLR0917
    work: Work, child: TableInfo, key: ConstraintInfo, parent: TableInfo, remembered: str, depth: int
) -> list[Effect]:
    own, other = _names(child, key.columns), _names(parent, key.ref_columns)
    pairs = list(zip(own, other, strict=True))
    differs = " OR ".join(f"o.{b} IS DISTINCT FROM n.{b}" for b in other)
    values = ", ".join(f"o.{b} AS o{i}, n.{b} AS n{i}" for i, b in enumerate(other))
    changed = f"(SELECT {values} FROM {remembered} AS o JOIN {parent.sql} AS n ON o._rid = n._rid WHERE {differs})"
    same = " AND ".join(f"child.{a} = changed.o{i}" for i, (a, _) in enumerate(pairs))
    if key.on_update == "RESTRICT":
        found = f"SELECT 1 FROM {child.sql} AS child, {changed} AS changed WHERE {same} AND "
        if work.connection.execute(f"{found} {_orphans(child, key, parent)} LIMIT 1").fetchall():
            raise _forbidden(key)
        return []
    where = Sql(f", {changed} AS changed WHERE {same}")
    return _rewritten(work, child, key, key.on_update, where, depth + 1)


# --- what both do to a child ---
def _rewritten(  # noqa: PLR0917
    work: Work, child: TableInfo, key: ConstraintInfo, rule: str, where: Sql, depth: int = 1
) -> list[Effect]:
    """Give the key of a child's rows new values: the parent's, NULL, or the defaults."""
    binder = expression_binder(work.environment())
    target = Target(binder, child)
    values: dict[str, Sql] = {}
    for index, name in enumerate(key.columns):
        column = child.column(name)
        assert column is not None
        if rule == "CASCADE":
            values[name] = Sql(f"changed.n{index}")
        else:
            values[name] = NULL if rule == "SET NULL" else default_value(binder, column).sql
    complete: Values = {**values, **target.generated("child", values)}
    rows = compose(
        "SELECT {}, child._rid FROM {} AS child{}", target.complete("child", complete), child.sql, where
    )
    remembered = remember_keys(work, child, depth) if child.key_columns().intersection(key.columns) else None
    rids = replace_rows(work, child, rows, work.named(rows, binder.parameters.hidden, {}))
    if not rids:
        return []
    effects = [Effect(child.sql, removed=rids, added=BY_RIDS), *carry_keys(work, child, remembered, depth)]
    if rule != "CASCADE":
        check_foreign_keys(work, child, BY_RIDS, rids)
    return effects
