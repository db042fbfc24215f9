"""Run the statements that change the catalog. Each commits, as in HANA."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import Change, ColumnInfo, ConstraintInfo, TableInfo, ViewInfo, key_of
from hana_ai.api.local.hana.engine.ddl_objects import ObjectDdl
from hana_ai.api.local.hana.engine.dml import clean, default_value, expression_binder, parse_expression
from hana_ai.api.local.hana.engine.tables import (
    TableBuilder,
    create_physical,
    create_sequences,
    physical_name,
    rebuild,
    table_scope,
)
from hana_ai.api.local.hana.errors import no_privilege, unknown_column, unsupported
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.names import encode
from hana_ai.api.local.hana.translation.conversions import assign
from hana_ai.api.local.hana.translation.queries import Binder, quoted
from hana_ai.api.local.hana.translation.scope import Bound, BoundQuery, Parameters

if TYPE_CHECKING:
    from hana_ai.api.local.hana.engine.connection import DuckDBSession


class DdlRunner(ObjectDdl):
    """One DDL statement in a transaction of its own.

    Parameters
    ----------
    session : DuckDBSession
        Who runs it; its connection has an open transaction that ends right after.
    """

    def __init__(self, session: DuckDBSession) -> None:
        self.session = session
        self.connection = session.connection
        self.catalog = session.engine.catalog
        self.environment = Environment(self.catalog, session.state)
        self.change = Change()
        self.parameters = Parameters({})
        self.after: list[Callable[[], None]] = []
        """What to do in memory once the commit has succeeded."""

    def run(self, statement: syntax.Statement) -> int:
        """Do it; the number of rows it wrote, for CREATE TABLE ... AS."""
        handler = getattr(self, f"_{type(statement).__name__.lower()}", None)
        if handler is None:
            raise unsupported(type(statement).__name__)
        rows: int | None = handler(statement)
        return rows or 0

    # --- tables ---
    def _free_name(self, schema: str, name: str) -> None:
        if self.catalog.table(schema, name) or self.catalog.view(schema, name):
            raise HanaError(288, f"cannot use duplicate table name: {name}")

    def _home(self, name: syntax.Name, privilege: str = "CREATE ANY") -> str:
        schema = name.schema or self.environment.schema
        if schema in {"SYS", "PUBLIC"}:
            raise no_privilege()
        self.catalog.require_schema(schema)
        if not self.catalog.allowed(self.environment.user, privilege, schema):
            raise no_privilege()
        return schema

    def _createtable(self, statement: syntax.CreateTable) -> int:
        name = statement.name.name
        local = statement.temporary == "LOCAL"
        if local != name.startswith("#") and statement.temporary != "GLOBAL":
            raise HanaError(257, "sql syntax error: the name of a local temporary table begins with #")
        schema = (statement.name.schema or self.environment.schema) if local else self._home(statement.name)
        taken = name in self.session.state.temporary if local else self.catalog.table(schema, name) is not None
        if taken and statement.if_not_exists:
            return 0
        if taken:
            raise HanaError(288, f"cannot use duplicate table name: {name}")
        if not local:
            self._free_name(schema, name)
        builder = TableBuilder(self.catalog, self.environment)
        if statement.like is not None:
            return self._create_like(statement, schema)
        query: BoundQuery | None = None
        parameters = Parameters({})
        definitions = statement.columns
        if statement.query is not None:
            binder = Binder(self.environment, parameters)
            query = binder.top_query(statement.query)
            definitions = self._columns_of_query(statement, query)
        untyped = [item for item in definitions if item.type is None and item.generated is None]
        if not definitions or untyped:
            raise HanaError(257, "sql syntax error: a table needs columns")
        table = builder.create(statement, schema, definitions)
        self._make(table, [(d.start, d.increment) for d in definitions])
        if query is not None and statement.with_data:
            return self._fill(table, query, parameters)
        return 0

    def _columns_of_query(self, statement: syntax.CreateTable, query: BoundQuery) -> list[syntax.ColumnDef]:
        names = [column.name for column in statement.columns] or [column.name for column in query.columns]
        if len(names) != len(query.columns):
            raise HanaError(
                270 if len(names) > len(query.columns) else 269, "the number of columns does not match"
            )
        return [
            syntax.ColumnDef(name, column.type or types.nvarchar(), not_null=False)
            for name, column in zip(names, query.columns, strict=True)
        ]

    def _fill(self, table: TableInfo, query: BoundQuery, parameters: Parameters) -> int:
        items = [
            f"CAST(q.{out.sql} AS {types.storage(column.type)})"
            for out, column in zip(query.columns, table.columns, strict=True)
        ]
        first = self.session.engine.reserve_rids(self.session.engine.reserve)
        items.append(f"CAST({first} AS BIGINT) + row_number() OVER () - 1")
        sql = f"INSERT INTO {table.sql} SELECT {', '.join(items)} FROM ({clean(query.sql)}) AS q"
        found = self.connection.execute(sql, self.session.named(sql, {}, parameters, {})).fetchall()
        return int(found[0][0])

    def _create_like(self, statement: syntax.CreateTable, schema: str) -> int:
        assert statement.like is not None
        source = self.environment.table(statement.like.schema, statement.like.name, statement.like.position)
        if isinstance(source, str):
            raise unsupported("CREATE TABLE LIKE a system view")
        self.environment.check("SELECT", source)
        oid = self.catalog.new_oid()
        columns = [copy.copy(column) for column in source.columns]
        for column in columns:
            if isinstance(source, ViewInfo):
                column.physical = encode(column.name)
            if column.identity:
                column.sequence = f"hana.main.identity_{self.catalog.new_oid()}"
        table = TableInfo(schema, statement.name.name, oid, statement.kind, columns, temporary=statement.temporary)
        table.physical = physical_name(schema, statement.name.name, oid)
        if isinstance(source, TableInfo):
            for item in source.constraints:
                same = copy.deepcopy(item)
                same.name = same.name.replace(f"#{source.oid}_", f"#{oid}_")
                if item.kind != "FOREIGN":
                    table.constraints.append(same)
        self._make(table, [(1, 1)] * len(columns))
        if not statement.with_data:
            return 0
        names = ", ".join(f"{quoted(column)}" for column in columns)
        first = self.session.engine.reserve_rids(self.session.engine.reserve)
        origin = source.sql if isinstance(source, TableInfo) else ""
        if not origin:
            raise unsupported("CREATE TABLE LIKE a view WITH DATA")
        done = self.connection.execute(
            f"INSERT INTO {table.sql} SELECT {names}, {first} + row_number() OVER () - 1 FROM {origin}"
        ).fetchall()
        return int(done[0][0])

    def _make(self, table: TableInfo, identities: list[tuple[int, int]]) -> None:
        sequences = [(column, *pair) for column, pair in zip(table.columns, identities, strict=True)]
        create_sequences(self.connection, sequences)
        if table.temporary != "GLOBAL":
            create_physical(self.connection, table, self.environment)
        self._put_table(table)

    def _put_table(self, table: TableInfo) -> None:
        if table.temporary == "LOCAL":
            state = self.session.state

            def remember() -> None:
                state.temporary[table.name] = table
                state.temporary_version += 1

            self.after.append(remember)
        else:
            self.change.put.append(table)

    def _existing(self, name: syntax.Name, privilege: str) -> TableInfo:
        found = self.environment.table(name.schema, name.name, name.position)
        if not isinstance(found, TableInfo):
            raise HanaError(259, f"invalid table name: {name.name} is no table", name.position)
        if found.temporary != "LOCAL" and not self.catalog.allowed(
            self.environment.user, privilege, found.schema, found.name
        ):
            raise no_privilege()
        return found

    def _addcolumns(self, statement: syntax.AddColumns) -> None:
        old = self._existing(statement.table, "ALTER")
        new = copy.deepcopy(old)
        builder = TableBuilder(self.catalog, self.environment)
        values: dict[str, str] = {}
        for definition in statement.columns:
            column = builder.add_column(new, definition)
            create_sequences(self.connection, [(column, definition.start, definition.increment)])
            values[column.name] = self._new_value(old, column)
        self._put_table(rebuild(self.connection, old, new, self.environment, values=values, named=self._named))

    def _named(self, sql: str) -> dict[str, Any]:
        return self.session.named(sql, {}, self.parameters, {})

    def _new_value(self, old: TableInfo, column: ColumnInfo) -> str:
        binder = expression_binder(self.environment, self.parameters)
        if column.generated is not None:
            bound = binder.bind(parse_expression(column.generated), table_scope(old))
            return clean(assign(binder, bound, column.type, column.name).sql)
        return clean(default_value(binder, column).sql)

    def _dropcolumns(self, statement: syntax.DropColumns) -> None:
        old = self._existing(statement.table, "ALTER")
        new = copy.deepcopy(old)
        for name in statement.columns:
            if new.column(name) is None:
                raise unknown_column(name)
            new.columns = [column for column in new.columns if column.name != name]
            for other in self._children(old):
                if name in other.ref_columns:
                    raise HanaError(397, f"invalid object name: column {name} is referenced by {other.name}")
            new.constraints = [item for item in new.constraints if name not in item.columns]
            new.indexes = [item for item in new.indexes if name not in [column for column, _ in item.columns]]
        if not new.columns:
            raise HanaError(311, "cannot drop all columns in a table")
        self._put_table(rebuild(self.connection, old, new, self.environment, values={}))

    def _altercolumns(self, statement: syntax.AlterColumns) -> None:
        old = self._existing(statement.table, "ALTER")
        new = copy.deepcopy(old)
        values: dict[str, str] = {}
        binder = expression_binder(self.environment)
        for definition in statement.columns:
            column, before = new.column(definition.name), old.column(definition.name)
            if column is None or before is None:
                raise unknown_column(definition.name)
            if definition.type is not None:
                column.type = definition.type
                bound = Bound(quoted(before), before.type, exact=True)
                values[column.name] = clean(assign(binder, bound, column.type, column.name).sql)
            if definition.nullable_given:
                column.nullable = not definition.not_null
            if definition.default is not None:
                column.default = definition.default_sql
        self._put_table(rebuild(self.connection, old, new, self.environment, values=values))

    def _addconstraint(self, statement: syntax.AddConstraint) -> None:
        old = self._existing(statement.table, "ALTER")
        new = copy.deepcopy(old)
        TableBuilder(self.catalog, self.environment).add_constraint(new, statement.constraint)
        table = rebuild(self.connection, old, new, self.environment, values={})
        if new.constraints[-1].kind == "FOREIGN":
            self.session.check_foreign_keys(table, "TRUE")
        self._put_table(table)

    def _dropconstraint(self, statement: syntax.DropConstraint) -> None:
        old = self._existing(statement.table, "ALTER")
        new = copy.deepcopy(old)
        doomed: ConstraintInfo | None
        if statement.name is None:
            doomed = new.primary_key()
        else:
            doomed = next((item for item in new.constraints if item.name == statement.name), None)
        if doomed is None:
            raise HanaError(397, f"invalid object name: {statement.name or 'PRIMARY KEY'}")
        new.constraints.remove(doomed)
        self._put_table(rebuild(self.connection, old, new, self.environment, values={}))

    def _alternothing(self, statement: syntax.AlterNothing) -> None:
        self._existing(statement.table, "ALTER")

    def _renametable(self, statement: syntax.RenameTable) -> None:
        old = self._existing(statement.table, "ALTER")
        self._free_name(old.schema, statement.new)
        new = copy.deepcopy(old)
        new.name = statement.new
        if old.temporary == "LOCAL":
            raise unsupported("renaming a temporary table")
        self.change.drop.append(key_of(old))
        for child in self.catalog.tables():
            if any((item.ref_schema, item.ref_table) == (old.schema, old.name) for item in child.constraints):
                renamed = copy.deepcopy(child) if child.name != old.name else new
                for item in renamed.constraints:
                    if (item.ref_schema, item.ref_table) == (old.schema, old.name):
                        item.ref_table = statement.new
                if renamed is not new:
                    self.change.put.append(renamed)
        self._put_table(new)

    def _renamecolumn(self, statement: syntax.RenameColumn) -> None:
        old = self._existing(statement.table, "ALTER")
        new = copy.deepcopy(old)
        column = new.column(statement.column)
        if column is None:
            raise unknown_column(statement.column)
        if new.column(statement.new) is not None:
            raise HanaError(272, f"duplicate column name: {statement.new}")
        if any(item.kind == "CHECK" for item in old.constraints) or any(c.generated for c in old.columns):
            raise unsupported("renaming columns of a table with checks or generated columns")
        column.name = statement.new
        for item in new.constraints:
            item.columns = [statement.new if name == statement.column else name for name in item.columns]
        for index in new.indexes:
            index.columns = [(statement.new if name == statement.column else name, d) for name, d in index.columns]
        self._put_table(new)

    def _truncate(self, statement: syntax.Truncate) -> None:
        table = self._existing(statement.table, "DELETE")
        self.session.ensure_temporary(table)
        self.connection.execute(f"DELETE FROM {table.sql}")
        self.session.cascade(table)

    def _children(self, table: TableInfo) -> list[ConstraintInfo]:
        return [
            item
            for other in self.catalog.tables()
            for item in other.constraints
            if item.kind == "FOREIGN" and (item.ref_schema, item.ref_table) == (table.schema, table.name)
            and (other.schema, other.name) != (table.schema, table.name)
        ]  # fmt: skip

    # --- other objects ---
    def _drop(self, statement: syntax.Drop) -> None:
        getattr(self, f"_drop_{statement.kind.lower()}")(statement)

    def _drop_table(self, statement: syntax.Drop) -> None:
        try:
            table = self._existing(statement.name, "DROP")
        except HanaError as exc:
            if exc.code == 259 and statement.if_exists:
                return
            raise
        self._remove_table(table, statement.behavior)

    def _remove_table(self, table: TableInfo, behavior: str | None) -> None:
        if table.temporary == "LOCAL":
            state = self.session.state
            self.connection.execute(f"DROP TABLE {table.sql}")

            def forget() -> None:
                state.temporary.pop(table.name, None)
                state.temporary_version += 1

            self.after.append(forget)
            return
        dependents = [view for view in self.catalog.views() if (table.schema, table.name) in view.depends]
        children = self._children(table)
        if behavior == "RESTRICT" and (dependents or children):
            raise HanaError(419, f"cannot drop {table.name}: other objects depend on it")
        if children and behavior != "CASCADE":
            raise HanaError(527, f"cannot drop {table.name}: a foreign key refers to it")
        if behavior == "CASCADE":
            for view in dependents:
                self.change.drop.append(key_of(view))
            for other in list(self.catalog.tables()):
                kept = [i for i in other.constraints if (i.ref_schema, i.ref_table) != (table.schema, table.name)]
                if len(kept) < len(other.constraints) and other is not table:
                    changed = copy.deepcopy(other)
                    changed.constraints = [copy.deepcopy(item) for item in kept]
                    self.change.put.append(changed)
        if table.temporary == "GLOBAL":
            self.connection.execute(f"DROP TABLE IF EXISTS {table.sql}")
            self.session.state.global_temporary.discard(table.physical)
        else:
            self.connection.execute(f"DROP TABLE {table.sql}")
        for column in table.columns:
            if column.sequence:
                self.connection.execute(f"DROP SEQUENCE IF EXISTS {column.sequence}")
        self.change.drop.append(key_of(table))
