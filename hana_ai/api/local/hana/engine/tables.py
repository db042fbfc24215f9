"""Build tables: from a parsed definition to the catalog's object and to DuckDB's table, and rebuild them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import duckdb

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import Catalog, ColumnInfo, ConstraintInfo, TableInfo
from hana_ai.api.local.hana.engine import inputs
from hana_ai.api.local.hana.errors import unknown_column, unsupported
from hana_ai.api.local.hana.interface import HanaError, SqlType
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.names import encode
from hana_ai.api.local.hana.translation.conversions import assign
from hana_ai.api.local.hana.translation.fragments import Sql, compose, listed
from hana_ai.api.local.hana.translation.rows import (
    Target,
    Values,
    expression_binder,
    parse_expression,
    table_scope,
)
from hana_ai.api.local.hana.translation.scope import Scope


def physical_name(schema: str, name: str, number: int) -> str:
    """The DuckDB name of a table: readable, and unique whatever HANA's names are."""
    return f"{encode(schema)}.{encode(name)}~{number}"


def new_column(definition: syntax.ColumnDef, used: Sequence[str]) -> ColumnInfo:
    """The catalog's column for a parsed one; `used` are DuckDB names that are taken."""
    assert definition.type is not None
    physical = encode(definition.name)
    while physical in used:
        physical += "~"
    column = ColumnInfo(definition.name, definition.type, not (definition.not_null or definition.primary_key))
    column.default = definition.default_sql or None
    column.generated, column.stored = definition.generated_sql or None, definition.stored
    column.identity, column.comment, column.physical = definition.identity, definition.comment, physical
    if definition.identity:
        column.nullable = False
    return column


class TableBuilder:
    """Makes TableInfo objects.

    Parameters
    ----------
    catalog : Catalog
        Gives the numbers.
    environment : Environment
        Whose expressions and references are meant.
    """

    def __init__(self, catalog: Catalog, environment: Environment) -> None:
        self.catalog = catalog
        self.environment = environment

    def create(self, statement: syntax.CreateTable, schema: str, columns: list[syntax.ColumnDef]) -> TableInfo:
        """A new table."""
        oid = self.catalog.new_oid()
        table = TableInfo(schema, statement.name.name, oid, statement.kind, [], temporary=statement.temporary)
        table.on_commit_delete, table.comment = statement.on_commit_delete, statement.comment
        table.physical = physical_name(schema, table.name, oid)
        for definition in columns:
            self.add_column(table, definition)
        for constraint in statement.constraints:
            self.add_constraint(table, constraint)
        self.check_expressions(table)
        return table

    def check_expressions(self, table: TableInfo) -> None:
        """Raise for a default or a generated column that can never work."""
        binder = expression_binder(self.environment)
        Target(binder, table).generated("t")
        for column in table.columns:
            if column.default is None:
                continue
            try:
                given = binder.bind(parse_expression(column.default), Scope())
                bound = assign(binder, given, column.type, column.name)
                if types.is_number(bound.type) and given.text is not None:
                    inputs.converter(column.type)(given.text)
            except HanaError as exc:
                raise HanaError(336, f"invalid default value: {column.name}: {exc.message}") from exc

    def add_column(self, table: TableInfo, definition: syntax.ColumnDef) -> ColumnInfo:
        """Add a column and the constraints written beside it."""
        if table.column(definition.name) is not None:
            raise HanaError(272, f"duplicate column name: {definition.name}")
        if definition.type is None:
            definition.type = self._generated_type(table, definition)
        column = new_column(definition, [other.physical for other in table.columns])
        table.columns.append(column)
        if definition.identity:
            column.sequence = f"hana.main.identity_{self.catalog.new_oid()}"
        if definition.primary_key:
            self.add_constraint(table, syntax.KeyDef([column.name], True))
        if definition.unique:
            self.add_constraint(table, syntax.KeyDef([column.name], False))
        if definition.check is not None:
            self.add_constraint(table, syntax.CheckDef(definition.check, definition.check_sql))
        if definition.references is not None:
            self.add_constraint(table, definition.references)
        return column

    def _generated_type(self, table: TableInfo, definition: syntax.ColumnDef) -> SqlType:
        assert definition.generated is not None
        binder = expression_binder(self.environment)
        bound = binder.bind(definition.generated, table_scope(table))
        return bound.type or types.nvarchar()

    def add_constraint(self, table: TableInfo, constraint: syntax.Constraint) -> None:
        """Add a constraint, checking what it names."""
        number = len(table.constraints)
        if isinstance(constraint, syntax.KeyDef):
            if constraint.primary and table.primary_key() is not None:
                raise HanaError(294, f"cannot have more than one primary key: {table.name}")
            for name in constraint.columns:
                column = self._column(table, name)
                if column.type.code in types.LOBS or types.is_vector(column.type):
                    raise HanaError(264, f"invalid datatype: {column.type.name} column {name} cannot be a key")
                column.nullable = column.nullable and not constraint.primary
            default = f"_SYS_TREE_CS_#{table.oid}_#{'0_#P0' if constraint.primary else f'{number + 1}_#0'}"
            kind = "PRIMARY" if constraint.primary else "UNIQUE"
            table.constraints.append(ConstraintInfo(constraint.name or default, kind, list(constraint.columns)))
        elif isinstance(constraint, syntax.CheckDef):
            binder = expression_binder(self.environment)
            binder.condition(constraint.condition, table_scope(table))
            name = constraint.name or f"_SYS_CHECK_#{table.oid}_#{number + 1}"
            table.constraints.append(ConstraintInfo(name, "CHECK", [], constraint.sql))
        else:
            self._foreign_key(table, constraint, number)
        names = [item.name for item in table.constraints]
        if len(set(names)) < len(names):
            raise HanaError(289, f"cannot use duplicate index name: {names[-1]}")

    def _foreign_key(self, table: TableInfo, constraint: syntax.ForeignKeyDef, number: int) -> None:
        for name in constraint.columns:
            self._column(table, name)
        home = constraint.table.schema or self.environment.schema
        parent = table if (home, constraint.table.name) == (table.schema, table.name) else None
        if parent is None:
            parent = self.catalog.require_table(home, constraint.table.name, constraint.table.position)
            self.environment.check("REFERENCES", parent)
        key = parent.primary_key()
        referenced = constraint.referenced or (list(key.columns) if key else [])
        unique = [item.columns for item in parent.constraints if item.kind in {"PRIMARY", "UNIQUE"}]
        if not referenced:
            raise HanaError(366, f"referenced table does not have a primary key: {parent.name}")
        if len(referenced) != len(constraint.columns):
            raise HanaError(367, f"number of referencing columns must match referenced columns: {parent.name}")
        if sorted(referenced) not in [sorted(item) for item in unique]:
            names = ", ".join(referenced)
            raise HanaError(365, f"no matching unique or primary key for this column list: {parent.name}({names})")
        table.constraints.append(
            ConstraintInfo(
                constraint.name or f"_SYS_CONSTRAINT_{table.oid}_#{number + 1}_#F0",
                "FOREIGN",
                list(constraint.columns),
                None,
                parent.schema,
                parent.name,
                referenced,
                constraint.on_delete,
                constraint.on_update,
            )
        )

    @staticmethod
    def _column(table: TableInfo, name: str) -> ColumnInfo:
        column = table.column(name)
        if column is None:
            raise unknown_column(name)
        return column


def create_physical(connection: duckdb.DuckDBPyConnection, table: TableInfo, environment: Environment) -> None:
    """Make DuckDB's table."""
    items = []
    for column in table.columns:
        items.append(f"{column.quoted} {types.storage(column.type)}{'' if column.nullable else ' NOT NULL'}")
    items.append("_rid BIGINT NOT NULL")
    by_name = {column.name: column.quoted for column in table.columns}
    unique = [item for item in table.constraints if item.kind in {"PRIMARY", "UNIQUE"}]
    for item in unique:
        word = "PRIMARY KEY" if item.kind == "PRIMARY" else "UNIQUE"
        items.append(f"{word} ({', '.join(by_name[name] for name in item.columns)})")
    for index in table.indexes:
        if index.unique:
            items.append(f"UNIQUE ({', '.join(by_name[name] for name, _ in index.columns)})")
    for item in table.constraints:
        if item.kind == "CHECK" and item.condition is not None:
            binder = expression_binder(environment)
            condition = binder.condition(parse_expression(item.condition), table_scope(table))
            if binder.parameters.hidden:
                raise unsupported("a CHECK that depends on the session or the time")
            items.append(f"CHECK ({condition.text})")
    word = "TEMP TABLE" if table.temporary else "TABLE"
    connection.execute(f"CREATE {word} {table.sql} ({', '.join(items)})")


def create_sequences(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[tuple[ColumnInfo, int, int]]
) -> None:
    """Make the sequences of identity columns, given as (column, start, increment)."""
    for column, start, increment in columns:
        if column.sequence:
            connection.execute(sequence_sql(column.sequence, start, increment))


def sequence_sql(
    name: str,
    start: int | None,
    increment: int,
    *,
    low: int | None = None,
    high: int | None = None,
    cycle: bool = False,
) -> str:
    """CREATE SEQUENCE for DuckDB."""
    low = low if low is not None else (1 if increment > 0 else -(2**63) + 1)
    high = high if high is not None else (2**63 - 1 if increment > 0 else -1)
    begin = start if start is not None else (low if increment > 0 else high)
    low, high = min(low, begin), max(high, begin)
    word = "CYCLE" if cycle else "NO CYCLE"
    return f"CREATE SEQUENCE {name} START {begin} INCREMENT {increment} MINVALUE {low} MAXVALUE {high} {word}"


def rebuild(
    connection: duckdb.DuckDBPyConnection,
    old: TableInfo,
    new: TableInfo,
    environment: Environment,
    *,
    values: Values | None = None,
    named: Callable[[Sql], dict[str, object]] | None = None,
) -> TableInfo:
    """Copy a table into its new shape; `values` are those of columns that are not simply copied.

    `named` gives what the values refer to.

    DuckDB cannot alter a table that has constraints in the way that HANA can.
    """
    fresh = replace(new, physical=physical_name(new.schema, new.name, environment.catalog.new_oid()))
    create_physical(connection, fresh, environment)
    items = []
    for column in fresh.columns:
        before = old.column(column.name)
        copied = Sql(before.quoted if before is not None else "NULL")
        items.append((values or {}).get(column.name, copied))
    copy = compose("INSERT INTO {} SELECT {}, _rid FROM {}", fresh.sql, listed(items), old.sql)
    connection.execute(copy.text, named(copy) if named is not None else {})
    connection.execute(f"DROP TABLE {old.sql}")
    return fresh
