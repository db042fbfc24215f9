"""RENAME TABLE, COLUMN and INDEX, with what refers to the old name."""

from __future__ import annotations

import copy
from dataclasses import replace

from hana_ai.api.local.hana.catalog.objects import GrantInfo, TableInfo, key_of
from hana_ai.api.local.hana.engine.ddl_context import Ddl
from hana_ai.api.local.hana.engine.ddl_objects import named_index, unknown_index
from hana_ai.api.local.hana.errors import unknown_column, unsupported
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.language.rewriting import rename_in


def _stay(what: str, schema: str, wanted: str | None) -> None:
    if wanted not in {None, schema}:
        raise unsupported(f"renaming {what} into another schema")


def _referring(ddl: Ddl, table: TableInfo, new: TableInfo) -> list[TableInfo]:
    """The tables with a foreign key to `table`, as copies; `new` stands for the table itself."""
    found = []
    for child in ddl.catalog.all(TableInfo):
        if any((item.ref_schema, item.ref_table) == (table.schema, table.name) for item in child.constraints):
            found.append(new if child is table else copy.deepcopy(child))
    return found


def rename_table(ddl: Ddl, statement: syntax.RenameTable) -> None:
    """RENAME TABLE."""
    old = ddl.existing(statement.table, "ALTER")
    if old.temporary == "LOCAL":
        raise unsupported("renaming a temporary table")
    _stay("a table", old.schema, statement.new_schema)
    ddl.require_free_name(old.schema, statement.new)
    new = copy.deepcopy(old)
    new.name = statement.new
    ddl.change.drop.append(key_of(old))
    for child in _referring(ddl, old, new):
        for item in child.constraints:
            if (item.ref_schema, item.ref_table) == (old.schema, old.name):
                item.ref_table = statement.new
        if child is not new:
            ddl.change.put.append(child)
    for grant in ddl.catalog.all(GrantInfo):
        if (grant.schema, grant.name) == (old.schema, old.name):
            ddl.change.drop.append(key_of(grant))
            ddl.change.put.append(replace(grant, name=statement.new))
    ddl.put_table(new)


def rename_column(ddl: Ddl, statement: syntax.RenameColumn) -> None:
    """RENAME COLUMN; checks and generated columns follow."""
    old = ddl.existing(statement.table, "ALTER")
    new = copy.deepcopy(old)
    column = new.column(statement.column)
    if column is None:
        raise unknown_column(statement.column)
    if new.column(statement.new) is not None:
        raise HanaError(272, f"duplicate column name: {statement.new}")
    column.name = statement.new

    def renamed(names: list[str]) -> list[str]:
        return [statement.new if name == statement.column else name for name in names]

    for other in new.columns:
        if other.generated is not None:
            other.generated = rename_in(other.generated, statement.column, statement.new)
    for item in new.constraints:
        item.columns = renamed(item.columns)
        if item.condition is not None:
            item.condition = rename_in(item.condition, statement.column, statement.new)
    for index in new.indexes:
        names = renamed([name for name, _ in index.columns])
        index.columns = [(name, down) for name, (_, down) in zip(names, index.columns, strict=True)]
    for child in _referring(ddl, old, new):
        for item in child.constraints:
            if (item.ref_schema, item.ref_table) == (old.schema, old.name):
                item.ref_columns = renamed(item.ref_columns)
        if child is not new:
            ddl.change.put.append(child)
    ddl.put_table(new)


def rename_index(ddl: Ddl, statement: syntax.RenameIndex) -> None:
    """RENAME INDEX."""
    found = named_index(ddl, statement.index)
    if found is None:
        raise unknown_index(statement.index)
    table, index = found
    schema = index.schema or table.schema
    _stay("an index", schema, statement.new_schema)
    if ddl.catalog.index(schema, statement.new) is not None:
        raise HanaError(289, f"cannot use duplicate index name: {statement.new}")
    new = copy.deepcopy(table)
    for item in new.indexes:
        if item.name == index.name:
            item.name = statement.new
    ddl.put_table(new)
