"""CREATE, RENAME, TRUNCATE and DROP TABLE."""

from __future__ import annotations

import copy

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.objects import TableInfo, ViewInfo, key_of
from hana_ai.api.local.hana.engine.constraints import cascade
from hana_ai.api.local.hana.engine.ddl_context import Ddl
from hana_ai.api.local.hana.engine.tables import TableBuilder, create_physical, create_sequences, physical_name
from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.names import encode
from hana_ai.api.local.hana.translation.fragments import Sql, cast_to, compose, listed
from hana_ai.api.local.hana.translation.queries import Binder
from hana_ai.api.local.hana.translation.scope import BoundQuery, Parameters


def create_table(ddl: Ddl, statement: syntax.CreateTable) -> int:
    """CREATE TABLE in all its forms; gives the number of rows that it wrote."""
    name = statement.name.name
    local = statement.temporary == "LOCAL"
    if local != name.startswith("#") and statement.temporary != "GLOBAL":
        raise HanaError(257, "sql syntax error: the name of a local temporary table begins with #")
    schema = (statement.name.schema or ddl.environment.schema) if local else ddl.home(statement.name)
    taken = name in ddl.work.state.temporary if local else ddl.catalog.table(schema, name) is not None
    if taken and statement.if_not_exists:
        return 0
    if taken:
        raise HanaError(288, f"cannot use duplicate table name: {name}")
    if not local:
        ddl.require_free_name(schema, name)
    if statement.like is not None:
        return _create_like(ddl, statement, statement.like, schema)
    query: BoundQuery | None = None
    parameters = Parameters({}, variables=ddl.variables)
    definitions = statement.columns
    if statement.query is not None:
        query = Binder(ddl.environment, parameters).top_query(statement.query)
        definitions = _columns_of_query(statement, query)
    untyped = [item for item in definitions if item.type is None and item.generated is None]
    if not definitions or untyped:
        raise HanaError(257, "sql syntax error: a table needs columns")
    table = TableBuilder(ddl.catalog, ddl.environment).create(statement, schema, definitions)
    _make(ddl, table, [(d.start, d.increment) for d in definitions])
    if query is not None and statement.with_data:
        return _fill(ddl, table, query, parameters)
    return 0


def _columns_of_query(statement: syntax.CreateTable, query: BoundQuery) -> list[syntax.ColumnDef]:
    names = [column.name for column in statement.columns] or [column.name for column in query.columns]
    if len(names) != len(query.columns):
        raise HanaError(270 if len(names) > len(query.columns) else 269, "the number of columns does not match")
    return [
        syntax.ColumnDef(name, column.type or types.nvarchar(), not_null=False)
        for name, column in zip(names, query.columns, strict=True)
    ]


def _fill(ddl: Ddl, table: TableInfo, query: BoundQuery, parameters: Parameters) -> int:
    items = [
        cast_to(compose("q.{}", out.sql), types.storage(column.type))
        for out, column in zip(query.columns, table.columns, strict=True)
    ]
    items.append(_row_numbers(ddl))
    insert = compose("INSERT INTO {} SELECT {} FROM ({}) AS q", table.sql, listed(items), query.sql)
    named = ddl.work.named(insert, parameters.hidden, {})
    return int(ddl.connection.execute(insert.text, named).fetchall()[0][0])


def _row_numbers(ddl: Ddl) -> Sql:
    return Sql(f"CAST({ddl.work.new_rows().start} AS BIGINT) + row_number() OVER () - 1")


def _create_like(ddl: Ddl, statement: syntax.CreateTable, like: syntax.Name, schema: str) -> int:
    source = ddl.environment.table(like.schema, like.name, like.position)
    if isinstance(source, str):
        raise unsupported("CREATE TABLE LIKE a system view")
    ddl.environment.check("SELECT", source)
    oid = ddl.catalog.new_oid()
    columns = [copy.copy(column) for column in source.columns]
    for column in columns:
        if isinstance(source, ViewInfo):
            column.physical = encode(column.name)
        if column.identity:
            column.sequence = f"hana.main.identity_{ddl.catalog.new_oid()}"
    table = TableInfo(schema, statement.name.name, oid, statement.kind, columns, temporary=statement.temporary)
    table.physical = physical_name(schema, statement.name.name, oid)
    if isinstance(source, TableInfo):
        for item in source.constraints:
            same = copy.deepcopy(item)
            same.name = same.name.replace(f"#{source.oid}_", f"#{oid}_")
            if item.kind != "FOREIGN":
                table.constraints.append(same)
    _make(ddl, table, [(1, 1)] * len(columns))
    if not statement.with_data:
        return 0
    if isinstance(source, ViewInfo):
        raise unsupported("CREATE TABLE LIKE a view WITH DATA")
    names = ", ".join(column.quoted for column in columns)
    done = ddl.connection.execute(
        f"INSERT INTO {table.sql} SELECT {names}, {_row_numbers(ddl).text} FROM {source.sql}"
    ).fetchall()
    return int(done[0][0])


def _make(ddl: Ddl, table: TableInfo, identities: list[tuple[int, int]]) -> None:
    sequences = [(column, *pair) for column, pair in zip(table.columns, identities, strict=True)]
    create_sequences(ddl.connection, sequences)
    if table.temporary != "GLOBAL":
        create_physical(ddl.connection, table, ddl.environment)
    ddl.put_table(table)


def truncate(ddl: Ddl, statement: syntax.Truncate) -> None:
    """TRUNCATE TABLE."""
    table = ddl.existing(statement.table, "DELETE")
    ddl.work.ensure_temporary(table)
    (removed,) = ddl.connection.execute(f"DELETE FROM {table.sql}").fetchall()[0]
    ddl.work.row_counts.rows_removed(removed)
    cascade(ddl.work, table)


def drop_table(ddl: Ddl, statement: syntax.Drop) -> None:
    """DROP TABLE."""
    try:
        table = ddl.existing(statement.name, "DROP")
    except HanaError as exc:
        if exc.code == 259 and statement.if_exists:
            return
        raise
    remove_table(ddl, table, statement.behavior)


def remove_table(ddl: Ddl, table: TableInfo, behavior: str | None) -> None:
    """Drop a table that is there, and with CASCADE what depends on it."""
    if table.temporary == "LOCAL":
        state = ddl.work.state
        ddl.connection.execute(f"DROP TABLE {table.sql}")

        def forget() -> None:
            state.temporary.pop(table.name, None)
            state.temporary_version += 1

        ddl.after.append(forget)
        return
    dependents = ddl.views_of(table)
    children = ddl.children(table)
    if behavior == "RESTRICT" and (dependents or children):
        raise HanaError(419, f"cannot drop {table.name}: other objects depend on it")
    if children and behavior != "CASCADE":
        raise HanaError(527, f"cannot drop {table.name}: a foreign key refers to it")
    if behavior == "CASCADE":
        for view in dependents:
            ddl.change.drop.append(key_of(view))
        for other in list(ddl.catalog.all(TableInfo)):
            kept = [i for i in other.constraints if (i.ref_schema, i.ref_table) != (table.schema, table.name)]
            if len(kept) < len(other.constraints) and other is not table:
                changed = copy.deepcopy(other)
                changed.constraints = [copy.deepcopy(item) for item in kept]
                ddl.change.put.append(changed)
    if table.temporary == "GLOBAL":
        ddl.connection.execute(f"DROP TABLE IF EXISTS {table.sql}")
        ddl.work.state.global_temporary.discard(table.physical)
    else:
        ddl.connection.execute(f"DROP TABLE {table.sql}")
    for column in table.columns:
        if column.sequence:
            ddl.connection.execute(f"DROP SEQUENCE IF EXISTS {column.sequence}")
    ddl.change.drop.append(key_of(table))
