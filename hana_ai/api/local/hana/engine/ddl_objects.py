"""Views, schemas, sequences, indexes and comments."""

from __future__ import annotations

import copy

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.objects import (
    ColumnInfo,
    GrantInfo,
    IndexInfo,
    SchemaInfo,
    SequenceInfo,
    TableInfo,
    ViewInfo,
    key_of,
)
from hana_ai.api.local.hana.engine.ddl_context import Ddl
from hana_ai.api.local.hana.engine.ddl_tables import remove_table
from hana_ai.api.local.hana.engine.tables import sequence_sql
from hana_ai.api.local.hana.errors import no_privilege, unknown_column
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.translation.queries import Binder
from hana_ai.api.local.hana.translation.scope import Parameters


def create_view(ddl: Ddl, statement: syntax.CreateView) -> None:
    """CREATE VIEW and CREATE OR REPLACE VIEW."""
    schema = ddl.home(statement.name)
    name = statement.name.name
    if not (statement.replace and ddl.catalog.view(schema, name) is not None):
        ddl.require_free_name(schema, name)
    parameters = Parameters({})
    query = Binder(ddl.environment, parameters).top_query(statement.query)
    names = statement.columns or [column.name for column in query.columns]
    if len(names) != len(query.columns):
        raise HanaError(270 if len(names) > len(query.columns) else 269, "the number of columns does not match")
    duplicate = next((item for item in names if names.count(item) > 1), None)
    if duplicate is not None:
        raise HanaError(272, f"duplicate column name: {duplicate}")
    columns = [
        ColumnInfo(item, column.type or types.nvarchar(), column.nullable)
        for item, column in zip(names, query.columns, strict=True)
    ]
    ddl.change.put.append(
        ViewInfo(
            schema,
            name,
            ddl.catalog.new_oid(),
            statement.sql,
            columns,
            ddl.environment.user,
            ddl.environment.schema,
            list(dict.fromkeys(ddl.environment.depends)),
            statement.comment,
        )
    )


def drop_view(ddl: Ddl, statement: syntax.Drop) -> None:
    """DROP VIEW."""
    schema = statement.name.schema or ddl.environment.schema
    view = ddl.catalog.view(schema, statement.name.name)
    if view is None:
        if statement.if_exists:
            return
        raise HanaError(321, f"invalid view name: {statement.name.name}", statement.name.position)
    ddl.drop(view, statement.behavior)


def create_schema(ddl: Ddl, statement: syntax.CreateSchema) -> None:
    """CREATE SCHEMA."""
    if ddl.catalog.schema(statement.name) is not None or statement.name in {"SYS", "PUBLIC"}:
        if statement.if_not_exists:
            return
        raise HanaError(386, f"cannot use duplicate schema name: {statement.name}")
    ddl.require("CREATE SCHEMA", "")
    if statement.owner is not None and ddl.catalog.user(statement.owner) is None:
        raise HanaError(332, f"invalid user name: {statement.owner}")
    ddl.change.put.append(SchemaInfo(statement.name, statement.owner or ddl.environment.user))


def drop_schema(ddl: Ddl, statement: syntax.Drop) -> None:
    """DROP SCHEMA."""
    name = statement.name.name
    if ddl.catalog.schema(name) is None and statement.if_exists:
        return
    ddl.catalog.require_schema(name)
    ddl.require("DROP", name)
    inside = ddl.catalog.contents(name)
    if inside and statement.behavior != "CASCADE":
        raise HanaError(419, f"cannot drop schema {name}: it is not empty")
    for entry in inside:
        if isinstance(entry, TableInfo):
            remove_table(ddl, entry, "CASCADE")
        elif isinstance(entry, SequenceInfo):
            ddl.connection.execute(f"DROP SEQUENCE IF EXISTS {entry.physical}")
            ddl.change.drop.append(key_of(entry))
        else:
            ddl.change.drop.append(key_of(entry))
    gone = set(ddl.change.drop)
    ddl.change.put = [entry for entry in ddl.change.put if key_of(entry) not in gone]
    ddl.change.drop += [key_of(grant) for grant in ddl.catalog.all(GrantInfo) if grant.schema == name]
    ddl.change.drop.append(("schema", "", name))


def create_sequence(ddl: Ddl, statement: syntax.CreateSequence) -> None:
    """CREATE SEQUENCE."""
    schema = ddl.home(statement.name)
    name = statement.name.name
    if ddl.catalog.sequence(schema, name) is not None:
        raise HanaError(324, f"cannot use duplicate sequence name: {name}")
    oid = ddl.catalog.new_oid()
    physical = f"hana.main.sequence_{oid}"
    up = statement.increment > 0
    low = statement.minimum if statement.minimum is not None else (1 if up else -(2**63) + 1)
    high = statement.maximum if statement.maximum is not None else (2**63 - 1 if up else -1)
    start = statement.start if statement.start is not None else (low if up else high)
    ddl.connection.execute(
        sequence_sql(physical, start, statement.increment, low=low, high=high, cycle=statement.cycle)
    )
    ddl.change.put.append(
        SequenceInfo(schema, name, oid, start, statement.increment, low, high, statement.cycle, physical)
    )


def _sequence(ddl: Ddl, name: syntax.Name, privilege: str) -> SequenceInfo:
    schema = name.schema or ddl.environment.schema
    found = ddl.catalog.sequence(schema, name.name)
    if found is None:
        raise HanaError(313, f"invalid sequence: {name.name}", name.position)
    ddl.require(privilege, schema, name.name)
    return found


def alter_sequence(ddl: Ddl, statement: syntax.AlterSequence) -> None:
    """ALTER SEQUENCE."""
    old = _sequence(ddl, statement.name, "ALTER")
    new = copy.deepcopy(old)
    new.increment = statement.increment or old.increment
    start = statement.restart
    if start is None:
        start = int(ddl.connection.execute(f"SELECT nextval('{old.physical}')").fetchall()[0][0])
    new.physical = f"hana.main.sequence_{ddl.catalog.new_oid()}"
    ddl.connection.execute(f"DROP SEQUENCE {old.physical}")
    ddl.connection.execute(
        sequence_sql(new.physical, start, new.increment, low=old.minimum, high=old.maximum, cycle=old.cycle)
    )
    ddl.change.put.append(new)


def drop_sequence(ddl: Ddl, statement: syntax.Drop) -> None:
    """DROP SEQUENCE."""
    try:
        found = _sequence(ddl, statement.name, "DROP")
    except HanaError as exc:
        if exc.code == 313 and statement.if_exists:
            return
        raise
    ddl.connection.execute(f"DROP SEQUENCE {found.physical}")
    ddl.change.drop.append(key_of(found))


def _is_vector_index(index: IndexInfo, column: str) -> bool:
    return index.kind.startswith("HNSW") and [name for name, _ in index.columns] == [column]


def create_index(ddl: Ddl, statement: syntax.CreateIndex) -> None:
    """CREATE INDEX, vector indexes too."""
    old = ddl.existing(statement.table, "INDEX")
    schema = statement.name.schema or old.schema
    if ddl.catalog.index(schema, statement.name.name) is not None:
        if statement.if_not_exists:
            return
        raise HanaError(289, f"cannot use duplicate index name: {statement.name.name}")
    new = copy.deepcopy(old)
    for name, _ in statement.columns:
        column = new.column(name)
        if column is None:
            raise unknown_column(name)
        if statement.kind == "HNSW" and not types.is_vector(column.type):
            raise HanaError(264, f"invalid datatype: an HNSW index needs a vector column, not {name}")
        if statement.kind == "HNSW" and any(_is_vector_index(index, name) for index in old.indexes):
            raise HanaError(2048, f"column store error: column {name} already has a vector index")
    kind = "HNSW VECTOR" if statement.kind == "HNSW" else "INVERTED VALUE"
    new.indexes.append(
        IndexInfo(
            statement.name.name,
            statement.columns,
            statement.unique,
            kind + (" UNIQUE" if statement.unique else ""),
            statement.similarity,
            schema,
        )
    )
    if statement.unique:
        new = ddl.rebuild(old, new)
    ddl.put_table(new)


def named_index(ddl: Ddl, name: syntax.Name) -> tuple[TableInfo, IndexInfo] | None:
    """The index of this name and its table, with the privilege checked."""
    found = ddl.catalog.index(name.schema or ddl.environment.schema, name.name)
    if found is not None:
        ddl.require("INDEX", found[0].schema, found[0].name)
    return found


def unknown_index(name: syntax.Name) -> HanaError:
    """261."""
    return HanaError(261, f"invalid index name: {name.name}", name.position)


def drop_index(ddl: Ddl, statement: syntax.Drop) -> None:
    """DROP INDEX."""
    found = named_index(ddl, statement.name)
    if found is None:
        if statement.if_exists:
            return
        raise unknown_index(statement.name)
    old, index = found
    new = copy.deepcopy(old)
    new.indexes = [item for item in new.indexes if item.name != index.name]
    ddl.put_table(ddl.rebuild(old, new) if index.unique else new)


def comment(ddl: Ddl, statement: syntax.Comment) -> None:
    """COMMENT ON a table, a view or a column."""
    found = ddl.environment.table(statement.name.schema, statement.name.name)
    if isinstance(found, str):
        raise no_privilege()
    ddl.refuse_synonym(statement.name, found)
    ddl.require("ALTER", found.schema, found.name)
    new = copy.deepcopy(found)
    if statement.column is None:
        new.comment = statement.text
    else:
        column = next((item for item in new.columns if item.name == statement.column), None)
        if column is None:
            raise unknown_column(statement.column)
        column.comment = statement.text
    if isinstance(new, TableInfo):
        ddl.put_table(new)
    else:
        ddl.change.put.append(new)
