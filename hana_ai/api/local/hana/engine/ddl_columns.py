"""ALTER TABLE and RENAME COLUMN."""

from __future__ import annotations

import copy

from hana_ai.api.local.hana.catalog.objects import ColumnInfo, TableInfo
from hana_ai.api.local.hana.engine.constraints import check_foreign_keys
from hana_ai.api.local.hana.engine.ddl_context import Ddl
from hana_ai.api.local.hana.engine.tables import TableBuilder, create_sequences
from hana_ai.api.local.hana.errors import unknown_column
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.translation.conversions import assign
from hana_ai.api.local.hana.translation.fragments import Sql
from hana_ai.api.local.hana.translation.queries import Binder
from hana_ai.api.local.hana.translation.rows import default_value, expression_binder, parse_expression, table_scope
from hana_ai.api.local.hana.translation.scope import Bound


def add_columns(ddl: Ddl, statement: syntax.AddColumns) -> None:
    """ALTER TABLE ... ADD (columns)."""
    old = ddl.existing(statement.table, "ALTER")
    new = copy.deepcopy(old)
    builder = TableBuilder(ddl.catalog, ddl.environment)
    binder = expression_binder(ddl.environment)
    values: dict[str, Sql] = {}
    for definition in statement.columns:
        column = builder.add_column(new, definition)
        create_sequences(ddl.connection, [(column, definition.start, definition.increment)])
        values[column.name] = _new_value(binder, old, column)
    ddl.put_table(ddl.rebuild(old, new, values, binder.parameters.hidden))


def _new_value(binder: Binder, old: TableInfo, column: ColumnInfo) -> Sql:
    if column.generated is None:
        return default_value(binder, column).sql
    bound = binder.bind(parse_expression(column.generated), table_scope(old))
    return assign(binder, bound, column.type, column.name).sql


def drop_columns(ddl: Ddl, statement: syntax.DropColumns) -> None:
    """ALTER TABLE ... DROP (columns)."""
    old = ddl.existing(statement.table, "ALTER")
    new = copy.deepcopy(old)
    for name in statement.columns:
        if new.column(name) is None:
            raise unknown_column(name)
        new.columns = [column for column in new.columns if column.name != name]
        for other in ddl.children(old):
            if name in other.ref_columns:
                raise HanaError(397, f"invalid object name: column {name} is referenced by {other.name}")
        new.constraints = [item for item in new.constraints if name not in item.columns]
        new.indexes = [item for item in new.indexes if name not in [column for column, _ in item.columns]]
    if not new.columns:
        raise HanaError(311, "cannot drop all columns in a table")
    ddl.put_table(ddl.rebuild(old, new))


def alter_columns(ddl: Ddl, statement: syntax.AlterColumns) -> None:
    """ALTER TABLE ... ALTER (columns)."""
    old = ddl.existing(statement.table, "ALTER")
    new = copy.deepcopy(old)
    values: dict[str, Sql] = {}
    binder = expression_binder(ddl.environment)
    for definition in statement.columns:
        column, before = new.column(definition.name), old.column(definition.name)
        if column is None or before is None:
            raise unknown_column(definition.name)
        if definition.type is not None:
            column.type = definition.type
            bound = Bound(Sql(before.quoted), before.type, exact=True)
            values[column.name] = assign(binder, bound, column.type, column.name).sql
        if definition.nullable_given:
            column.nullable = not definition.not_null
        if definition.default is not None:
            column.default = definition.default_sql
    ddl.put_table(ddl.rebuild(old, new, values))


def add_constraint(ddl: Ddl, statement: syntax.AddConstraint) -> None:
    """ALTER TABLE ... ADD CONSTRAINT."""
    old = ddl.existing(statement.table, "ALTER")
    new = copy.deepcopy(old)
    TableBuilder(ddl.catalog, ddl.environment).add_constraint(new, statement.constraint)
    table = ddl.rebuild(old, new)
    if new.constraints[-1].kind == "FOREIGN":
        check_foreign_keys(ddl.work, table, Sql("TRUE"))
    ddl.put_table(table)


def drop_constraint(ddl: Ddl, statement: syntax.DropConstraint) -> None:
    """ALTER TABLE ... DROP CONSTRAINT or PRIMARY KEY."""
    old = ddl.existing(statement.table, "ALTER")
    new = copy.deepcopy(old)
    named = next((item for item in new.constraints if item.name == statement.name), None)
    doomed = new.primary_key() if statement.name is None else named
    if doomed is None:
        raise HanaError(397, f"invalid object name: {statement.name or 'PRIMARY KEY'}")
    new.constraints.remove(doomed)
    ddl.put_table(ddl.rebuild(old, new))


def alter_nothing(ddl: Ddl, statement: syntax.AlterNothing) -> None:
    """A clause on storage that has no meaning here: only the table and the privilege are checked."""
    ddl.existing(statement.table, "ALTER")
