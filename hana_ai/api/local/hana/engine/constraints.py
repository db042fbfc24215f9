"""Foreign keys: checked and carried out after each statement, because DuckDB's own cannot cascade."""

from __future__ import annotations

from collections.abc import Sequence

from hana_ai.api.local.hana.catalog.objects import ConstraintInfo, TableInfo
from hana_ai.api.local.hana.engine.journal import Effect
from hana_ai.api.local.hana.engine.work import BY_RIDS, Work
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.translation.fragments import Sql


def _names(table: TableInfo, columns: Sequence[str]) -> list[str]:
    by_name = {column.name: column.quoted for column in table.columns}
    return [by_name[name] for name in columns]


def _orphans(child: TableInfo, key: ConstraintInfo, parent: TableInfo) -> str:
    """A condition that finds rows of the table called `child` whose parent is missing."""
    own, other = _names(child, key.columns), _names(parent, key.ref_columns)
    present = " AND ".join(f"child.{name} IS NOT NULL" for name in own)
    same = " AND ".join(f"parent.{b} = child.{a}" for a, b in zip(own, other, strict=True))
    return f"{present} AND NOT EXISTS (SELECT 1 FROM {parent.sql} AS parent WHERE {same})"


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


def cascade(work: Work, table: TableInfo) -> list[Effect]:
    """After rows of a parent have gone: restrict, delete or set NULL in the children.

    Raises
    ------
    HanaError
        462, when a rule forbids it.
    """
    effects: list[Effect] = []
    for child in work.catalog.all(TableInfo):
        for key in child.constraints:
            if key.kind == "FOREIGN" and (key.ref_schema, key.ref_table) == (table.schema, table.name):
                effects += _orphaned(work, child, key, table)
    return effects


def _orphaned(work: Work, child: TableInfo, key: ConstraintInfo, parent: TableInfo) -> list[Effect]:
    orphans = _orphans(child, key, parent)
    if key.on_delete == "CASCADE":
        rids = _changed(work, f"DELETE FROM {child.sql} AS child WHERE {orphans} RETURNING _rid")
        return [Effect(child.sql, removed=rids), *cascade(work, child)] if rids else []
    if key.on_delete == "SET NULL":
        nulls = ", ".join(f"{name} = NULL" for name in _names(child, key.columns))
        rids = _changed(work, f"UPDATE {child.sql} AS child SET {nulls} WHERE {orphans} RETURNING _rid")
        return [Effect(child.sql, removed=rids, added=BY_RIDS)] if rids else []
    if work.connection.execute(f"SELECT 1 FROM {child.sql} AS child WHERE {orphans} LIMIT 1").fetchall():
        raise HanaError(462, f"failed on update or delete by foreign key constraint violation: {key.name}")
    return []


def _changed(work: Work, sql: str) -> list[int]:
    found: list[int] = work.connection.execute(sql).fetchnumpy()["_rid"].tolist()
    return found
