"""Views, schemas, sequences, indexes and comments: the part of DDL that is not about tables."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import duckdb

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import (
    Catalog,
    Change,
    ColumnInfo,
    IndexInfo,
    SchemaInfo,
    SequenceInfo,
    TableInfo,
    ViewInfo,
    key_of,
)
from hana_ai.api.local.hana.engine.tables import rebuild, sequence_sql
from hana_ai.api.local.hana.errors import no_privilege, unknown_column
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.translation.queries import Binder
from hana_ai.api.local.hana.translation.scope import Parameters


class ObjectDdl:
    """Mixed into the DDL runner, which brings the attributes and the methods for tables."""

    connection: duckdb.DuckDBPyConnection
    catalog: Catalog
    environment: Environment
    change: Change

    if TYPE_CHECKING:

        def _home(self, name: syntax.Name, privilege: str = "CREATE ANY") -> str: ...
        def _existing(self, name: syntax.Name, privilege: str) -> TableInfo: ...
        def _put_table(self, table: TableInfo) -> None: ...
        def _remove_table(self, table: TableInfo, behavior: str | None) -> None: ...

    def _createview(self, statement: syntax.CreateView) -> None:
        schema = self._home(statement.name)
        name = statement.name.name
        existing = self.catalog.view(schema, name)
        if self.catalog.table(schema, name) is not None or (existing is not None and not statement.replace):
            raise HanaError(288, f"cannot use duplicate table name: {name}")
        parameters = Parameters({})
        query = Binder(self.environment, parameters).top_query(statement.query)
        names = statement.columns or [column.name for column in query.columns]
        if len(names) != len(query.columns):
            raise HanaError(
                270 if len(names) > len(query.columns) else 269, "the number of columns does not match"
            )
        duplicate = next((item for item in names if names.count(item) > 1), None)
        if duplicate is not None:
            raise HanaError(272, f"duplicate column name: {duplicate}")
        columns = [
            ColumnInfo(item, column.type or types.nvarchar(), column.nullable)
            for item, column in zip(names, query.columns, strict=True)
        ]
        self.change.put.append(
            ViewInfo(
                schema,
                name,
                self.catalog.new_oid(),
                statement.sql,
                columns,
                self.environment.user,
                self.environment.schema,
                list(dict.fromkeys(self.environment.depends)),
                statement.comment,
            )
        )

    def _drop_view(self, statement: syntax.Drop) -> None:
        schema = statement.name.schema or self.environment.schema
        view = self.catalog.view(schema, statement.name.name)
        if view is None:
            if statement.if_exists:
                return
            raise HanaError(321, f"invalid view name: {statement.name.name}", statement.name.position)
        self._require("DROP", schema, view.name)
        dependents = [other for other in self.catalog.views() if (schema, view.name) in other.depends]
        if dependents and statement.behavior == "RESTRICT":
            raise HanaError(419, f"cannot drop {view.name}: other objects depend on it")
        if statement.behavior == "CASCADE":
            self.change.drop += [key_of(other) for other in dependents]
        self.change.drop.append(key_of(view))

    def _require(self, privilege: str, schema: str, name: str = "") -> None:
        if not self.catalog.allowed(self.environment.user, privilege, schema, name):
            raise no_privilege()

    def _createschema(self, statement: syntax.CreateSchema) -> None:
        if self.catalog.schema(statement.name) is not None or statement.name in {"SYS", "PUBLIC"}:
            if statement.if_not_exists:
                return
            raise HanaError(386, f"cannot use duplicate schema name: {statement.name}")
        self._require("CREATE SCHEMA", "")
        if statement.owner is not None and self.catalog.user(statement.owner) is None:
            raise HanaError(332, f"invalid user name: {statement.owner}")
        self.change.put.append(SchemaInfo(statement.name, statement.owner or self.environment.user))

    def _drop_schema(self, statement: syntax.Drop) -> None:
        name = statement.name.name
        if self.catalog.schema(name) is None and statement.if_exists:
            return
        self.catalog.require_schema(name)
        self._require("DROP", name)
        inside: list[Any] = [
            entry
            for entries in (self.catalog.tables(), self.catalog.views(), self.catalog.sequences())
            for entry in entries
            if entry.schema == name
        ]
        if inside and statement.behavior != "CASCADE":
            raise HanaError(419, f"cannot drop schema {name}: it is not empty")
        for entry in inside:
            if isinstance(entry, TableInfo):
                self._remove_table(entry, "CASCADE")
            elif isinstance(entry, SequenceInfo):
                self.connection.execute(f"DROP SEQUENCE IF EXISTS {entry.physical}")
                self.change.drop.append(key_of(entry))
            else:
                self.change.drop.append(key_of(entry))
        gone = set(self.change.drop)
        self.change.put = [entry for entry in self.change.put if key_of(entry) not in gone]
        self.change.drop += [key_of(grant) for grant in self.catalog.grants() if grant.schema == name]
        self.change.drop.append(("schema", "", name))

    def _createsequence(self, statement: syntax.CreateSequence) -> None:
        schema = self._home(statement.name)
        name = statement.name.name
        if self.catalog.sequence(schema, name) is not None:
            raise HanaError(324, f"cannot use duplicate sequence name: {name}")
        oid = self.catalog.new_oid()
        physical = f"hana.main.sequence_{oid}"
        up = statement.increment > 0
        low = statement.minimum if statement.minimum is not None else (1 if up else -(2**63) + 1)
        high = statement.maximum if statement.maximum is not None else (2**63 - 1 if up else -1)
        start = statement.start if statement.start is not None else (low if up else high)
        self.connection.execute(
            sequence_sql(physical, start, statement.increment, low=low, high=high, cycle=statement.cycle)
        )
        self.change.put.append(
            SequenceInfo(schema, name, oid, start, statement.increment, low, high, statement.cycle, physical)
        )

    def _sequence(self, name: syntax.Name, privilege: str) -> SequenceInfo:
        schema = name.schema or self.environment.schema
        found = self.catalog.sequence(schema, name.name)
        if found is None:
            raise HanaError(313, f"invalid sequence: {name.name}", name.position)
        self._require(privilege, schema, name.name)
        return found

    def _altersequence(self, statement: syntax.AlterSequence) -> None:
        old = self._sequence(statement.name, "ALTER")
        new = copy.deepcopy(old)
        new.increment = statement.increment or old.increment
        start = statement.restart
        if start is None:
            start = int(self.connection.execute(f"SELECT nextval('{old.physical}')").fetchall()[0][0])
        new.physical = f"hana.main.sequence_{self.catalog.new_oid()}"
        self.connection.execute(f"DROP SEQUENCE {old.physical}")
        self.connection.execute(
            sequence_sql(new.physical, start, new.increment, low=old.minimum, high=old.maximum, cycle=old.cycle)
        )
        self.change.put.append(new)

    def _drop_sequence(self, statement: syntax.Drop) -> None:
        try:
            found = self._sequence(statement.name, "DROP")
        except HanaError as exc:
            if exc.code == 313 and statement.if_exists:
                return
            raise
        self.connection.execute(f"DROP SEQUENCE {found.physical}")
        self.change.drop.append(key_of(found))

    def _createindex(self, statement: syntax.CreateIndex) -> None:
        old = self._existing(statement.table, "INDEX")
        schema = statement.name.schema or old.schema
        if self.catalog.index(schema, statement.name.name) is not None:
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
            new = rebuild(self.connection, old, new, self.environment, values={})
        self._put_table(new)

    def _drop_index(self, statement: syntax.Drop) -> None:
        schema = statement.name.schema or self.environment.schema
        found = self.catalog.index(schema, statement.name.name)
        if found is None:
            if statement.if_exists:
                return
            raise HanaError(261, f"invalid index name: {statement.name.name}", statement.name.position)
        old, index = found
        self._require("INDEX", old.schema, old.name)
        new = copy.deepcopy(old)
        new.indexes = [item for item in new.indexes if item.name != index.name]
        if index.unique:
            new = rebuild(self.connection, old, new, self.environment, values={})
        self._put_table(new)

    def _renameindex(self, statement: syntax.RenameIndex) -> None:
        schema = statement.index.schema or self.environment.schema
        found = self.catalog.index(schema, statement.index.name)
        if found is None:
            raise HanaError(261, f"invalid index name: {statement.index.name}", statement.index.position)
        self._require("INDEX", found[0].schema, found[0].name)
        new = copy.deepcopy(found[0])
        for item in new.indexes:
            if item.name == statement.index.name:
                item.name = statement.new
        self._put_table(new)

    def _comment(self, statement: syntax.Comment) -> None:
        found = self.environment.table(statement.name.schema, statement.name.name)
        if isinstance(found, str):
            raise no_privilege()
        self._require("ALTER", found.schema, found.name)
        new = copy.deepcopy(found)
        if statement.column is None:
            new.comment = statement.text
        else:
            column = next((item for item in new.columns if item.name == statement.column), None)
            if column is None:
                raise unknown_column(statement.column)
            column.comment = statement.text
        if isinstance(new, TableInfo):
            self._put_table(new)
        else:
            self.change.put.append(new)
