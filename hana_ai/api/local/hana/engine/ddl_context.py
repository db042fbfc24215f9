"""One DDL statement at work: what it reads, and what it has changed so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import duckdb

from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.objects import (
    Catalog,
    Change,
    ConstraintInfo,
    SynonymInfo,
    TableInfo,
    ViewInfo,
    key_of,
    stamp,
)
from hana_ai.api.local.hana.engine import tables
from hana_ai.api.local.hana.engine.work import Work
from hana_ai.api.local.hana.errors import no_privilege, unsupported
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.translation.fragments import Sql
from hana_ai.api.local.hana.translation.rows import Values
from hana_ai.api.local.hana.translation.scope import Variables


@dataclass(slots=True)
class Ddl:
    """One DDL statement in a transaction of its own.

    Parameters
    ----------
    work : Work
        The session; its connection has an open transaction that ends right after.
    environment : Environment
        Whose names and privileges count.
    """

    work: Work
    environment: Environment
    change: Change = field(default_factory=Change)
    variables: Variables | None = None
    """Those of the script around the statement."""
    after: list[Callable[[], None]] = field(default_factory=list)
    """What to do in memory once the commit has succeeded."""
    touched: bool = False
    """Whether the database itself may have changed, beside the catalog."""

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The session's connection."""
        self.touched = True
        return self.work.connection

    @property
    def catalog(self) -> Catalog:
        """All committed objects."""
        return self.work.catalog

    def require_free_name(self, schema: str, name: str) -> None:
        """Raise 288, 322 or 330 when a table, view or synonym has the name: they share one space of names."""
        if self.catalog.table(schema, name) is not None:
            raise HanaError(288, f"cannot use duplicate table name: {name}")
        if self.catalog.view(schema, name) is not None:
            raise HanaError(322, f"cannot use duplicate view name: {name}")
        if self.catalog.synonym(schema, name) is not None:
            raise HanaError(330, f"cannot use duplicate synonym name: {name}")

    def home(self, name: syntax.Name, privilege: str = "CREATE ANY") -> str:
        """The schema of a new object, with the privilege checked."""
        schema = name.schema or self.environment.schema
        if schema in {"SYS", "PUBLIC"}:
            raise no_privilege()
        self.catalog.require_schema(schema)
        if not self.catalog.allowed(self.environment.user, privilege, schema):
            raise no_privilege()
        return schema

    def put_table(self, table: TableInfo) -> None:
        """Put the table into the catalog, or into the session when it is a local temporary one."""
        if table.temporary == "LOCAL":
            state = self.work.state
            stamp(table)

            def remember() -> None:
                state.temporary[table.name] = table
                state.temporary_version += 1

            self.after.append(remember)
        else:
            self.change.put.append(table)

    def existing(self, name: syntax.Name, privilege: str) -> TableInfo:
        """The table of this name, with the privilege checked."""
        found = self.environment.table(name.schema, name.name, name.position)
        if privilege != "DROP":
            self.refuse_synonym(name, found)
        if not isinstance(found, TableInfo) or self.is_synonym(name, found):
            raise HanaError(259, f"invalid table name: {name.name} is no table", name.position)
        if found.temporary != "LOCAL" and not self.catalog.allowed(
            self.environment.user, privilege, found.schema, found.name
        ):
            raise no_privilege()
        return found

    def is_synonym(self, name: syntax.Name, found: TableInfo | ViewInfo) -> bool:
        """Whether what was found has another name than the one that was looked up."""
        if isinstance(found, TableInfo) and found.temporary == "LOCAL":
            return False
        return (found.schema, found.name) != (name.schema or self.environment.schema, name.name)

    def refuse_synonym(self, name: syntax.Name, found: TableInfo | ViewInfo | str) -> None:
        """Raise 7 when DDL names an object by a synonym."""
        if not isinstance(found, str) and self.is_synonym(name, found):
            raise unsupported("changing a table's definition through a synonym", name.position)

    def require(self, privilege: str, schema: str, name: str = "") -> None:
        """Raise 258 unless the user has the privilege."""
        if not self.catalog.allowed(self.environment.user, privilege, schema, name):
            raise no_privilege()

    def views_of(self, found: TableInfo | ViewInfo | SynonymInfo) -> list[ViewInfo]:
        """The views that read it."""
        return [view for view in self.catalog.all(ViewInfo) if (found.schema, found.name) in view.depends]

    def drop(self, found: ViewInfo | SynonymInfo, behavior: str | None) -> None:
        """Drop it, and with CASCADE the views that read it; for RESTRICT, raise 419 when there are any."""
        self.require("DROP", found.schema, found.name)
        dependents = self.views_of(found)
        if dependents and behavior == "RESTRICT":
            raise HanaError(419, f"cannot drop {found.name}: other objects depend on it")
        if behavior == "CASCADE":
            self.change.drop += [key_of(view) for view in dependents]
        self.change.drop.append(key_of(found))

    def children(self, table: TableInfo) -> list[ConstraintInfo]:
        """The foreign keys of other tables that refer to this one."""
        return [
            item
            for other in self.catalog.all(TableInfo)
            for item in other.constraints
            if item.kind == "FOREIGN" and (item.ref_schema, item.ref_table) == (table.schema, table.name)
            and (other.schema, other.name) != (table.schema, table.name)
        ]  # fmt: skip

    def rebuild(
        self, old: TableInfo, new: TableInfo, values: Values | None = None, hidden: Sequence[object] = ()
    ) -> TableInfo:
        """Copy a table into its new shape; see `tables.rebuild`."""

        def named(sql: Sql) -> dict[str, object]:
            return self.work.named(sql, hidden, {})

        return tables.rebuild(self.connection, old, new, self.environment, values=values, named=named)
