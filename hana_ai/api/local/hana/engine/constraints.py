"""Foreign keys: checked and carried out after each statement, because DuckDB's own cannot cascade."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hana_ai.api.local.hana.catalog.objects import ConstraintInfo, TableInfo
from hana_ai.api.local.hana.engine.journal import Effect
from hana_ai.api.local.hana.interface import HanaError

if TYPE_CHECKING:
    from hana_ai.api.local.hana.engine.connection import DuckDBSession

_BY_RIDS = "_rid IN (SELECT unnest($rids))"


def _names(table: TableInfo, columns: list[str]) -> list[str]:
    by_name = {column.name: '"' + column.physical.replace('"', '""') + '"' for column in table.columns}
    return [by_name[name] for name in columns]


def _orphans(child: TableInfo, key: ConstraintInfo, parent: TableInfo) -> str:
    """A condition that finds rows of the table called `child` whose parent is missing."""
    own, other = _names(child, key.columns), _names(parent, key.ref_columns)
    present = " AND ".join(f"child.{name} IS NOT NULL" for name in own)
    same = " AND ".join(f"parent.{b} = child.{a}" for a, b in zip(own, other, strict=True))
    return f"{present} AND NOT EXISTS (SELECT 1 FROM {parent.sql} AS parent WHERE {same})"


def check_foreign_keys(session: DuckDBSession, table: TableInfo, condition: str, rids: list[int] | None) -> None:
    """Raise 461 when a new or changed row refers to a row that is not there."""
    for key in table.constraints:
        if key.kind != "FOREIGN" or rids == []:
            continue
        parent = session.engine.catalog.table(key.ref_schema or "", key.ref_table or "")
        if (key.ref_schema, key.ref_table) == (table.schema, table.name):
            parent = table
        if parent is None:
            continue
        sql = f"SELECT 1 FROM {table.sql} AS child WHERE {condition} AND {_orphans(table, key, parent)} LIMIT 1"
        values = {"rids": rids} if rids is not None else {}
        if session.connection.execute(sql, values).fetchall():
            raise HanaError(461, f"foreign key constraint violation: {key.name}")


def cascade(session: DuckDBSession, table: TableInfo) -> list[Effect]:
    """After rows of a parent have gone: restrict, delete or set NULL in the children.

    Raises
    ------
    HanaError
        462, when a rule forbids it.
    """
    effects: list[Effect] = []
    for child in session.engine.catalog.tables():
        for key in child.constraints:
            if key.kind != "FOREIGN" or (key.ref_schema, key.ref_table) != (table.schema, table.name):
                continue
            orphans = _orphans(child, key, table)
            if key.on_delete == "CASCADE":
                sql = f"DELETE FROM {child.sql} AS child WHERE {orphans} RETURNING _rid"
                rids = session.connection.execute(sql).fetchnumpy()["_rid"].tolist()
                if rids:
                    effects.append(Effect(child.sql, removed=rids))
                    effects += cascade(session, child)
            elif key.on_delete == "SET NULL":
                nulls = ", ".join(f"{name} = NULL" for name in _names(child, key.columns))
                sql = f"UPDATE {child.sql} AS child SET {nulls} WHERE {orphans} RETURNING _rid"
                rids = session.connection.execute(sql).fetchnumpy()["_rid"].tolist()
                if rids:
                    effects.append(Effect(child.sql, removed=rids, added=_BY_RIDS))
            elif session.connection.execute(
                f"SELECT 1 FROM {child.sql} AS child WHERE {orphans} LIMIT 1"
            ).fetchall():
                raise HanaError(462, f"failed on update or delete by foreign key constraint violation: {key.name}")
    return effects
