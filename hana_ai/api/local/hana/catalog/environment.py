"""A session as the binder and the functions see it: who asks, which schema, which names mean what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from hana_ai.api.local.hana.catalog.objects import (
    Catalog,
    RoutineInfo,
    SequenceInfo,
    SynonymInfo,
    TableInfo,
    ViewInfo,
)
from hana_ai.api.local.hana.catalog.statement_record import StatementRecord
from hana_ai.api.local.hana.errors import no_privilege, unknown_table, unsupported
from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.names import PUBLIC_SCHEMA

SYSTEM_SCHEMA = "SYS"
"""System views answer under this schema and, as HANA's public synonyms do, without one."""
_SYSTEM_SCHEMAS = frozenset({SYSTEM_SCHEMA, PUBLIC_SCHEMA, "_SYS_STATISTICS"})
_Object = TypeVar("_Object", TableInfo, ViewInfo, SequenceInfo, RoutineInfo)


@dataclass(slots=True)
class SessionState:
    """What belongs to one connection."""

    user: str
    schema: str
    connection_id: int
    variables: dict[str, str] = field(default_factory=dict)
    temporary: dict[str, TableInfo] = field(default_factory=dict)
    """Local temporary tables by name; their schema does not matter."""
    global_temporary: set[str] = field(default_factory=set)
    """Physical names of global temporary tables that this connection already has."""
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(tzinfo=None))
    """When the running statement began, in UTC."""
    last_identity: int | None = None
    sequences_used: set[str] = field(default_factory=set)
    temporary_version: int = 0
    isolation: str = "READ COMMITTED"
    record: StatementRecord = field(default_factory=StatementRecord)
    """The statements of all connections."""
    commits_ddl: bool = True
    """Whether a DDL statement commits (AUTOCOMMIT DDL)."""

    @property
    def reads_one_snapshot(self) -> bool:
        """Whether a transaction reads the same all the time."""
        return self.isolation in {"REPEATABLE READ", "SERIALIZABLE"}

    def context(self, key: str) -> str | None:
        """SESSION_CONTEXT(key)."""
        upper = key.upper()
        if upper == "CONN_ID":
            return str(self.connection_id)
        if upper in self.variables:
            return self.variables[upper]
        if key in self.variables:
            return self.variables[key]
        defaults = {
            "APPLICATIONUSER": self.user, "CLIENT": None, "LOCALE": "EN", "CDS_CLIENT": None,
        }  # fmt: skip
        return defaults.get(upper)


class Environment:
    """Names as one user means them.

    Parameters
    ----------
    catalog : Catalog
        All objects.
    state : SessionState
        The connection; for the inside of a view still the one that reads it.
    user, schema : str
        Whose privileges count and where unqualified names are looked up. Inside a view these are its owner and
        home.
    """

    def __init__(self, catalog: Catalog, state: SessionState, user: str | None = None, schema: str | None = None):
        self.catalog = catalog
        self.state = state
        self.user = user or state.user
        self.schema = schema or state.schema
        self.depends: list[tuple[str, str]] = []
        self.changing: set[str] = set()
        """The system views read whose rows change without a change of the catalog."""

    def inside(self, view: ViewInfo) -> Environment:
        """The environment in which a view's definition is read."""
        return self._inside(view.owner, view.home)

    def inside_routine(self, routine: RoutineInfo) -> Environment:
        """The environment in which a routine's statements are read."""
        return self._inside(self.user if routine.invoker else routine.owner, routine.home)

    def _inside(self, user: str, schema: str) -> Environment:
        found = Environment(self.catalog, self.state, user, schema)
        found.changing = self.changing
        return found

    def table(self, schema: str | None, name: str, position: int = 0) -> TableInfo | ViewInfo | str:
        """The table or view of this name, or the name of a system view.

        Raises
        ------
        HanaError
            362 for an unknown schema, 259 for an unknown table.
        """
        if name in self.state.temporary and (schema is None or name.startswith("#") or schema == self.schema):
            return self.state.temporary[name]
        found = self.relation(schema or self.schema, name)
        found = (
            found or self.meant(self.catalog.table, schema, name) or self.meant(self.catalog.view, schema, name)
        )
        if found is not None:
            self.depends.append((found.schema, found.name))
            return found
        if schema in {None, *_SYSTEM_SCHEMAS} and name in self.catalog.system_views:
            return name
        synonym = self.synonym(schema, name)
        if synonym is not None:
            if self.is_system_view(synonym.target_schema, synonym.target_name):
                return synonym.target_name
            raise unknown_table(synonym.target_schema, synonym.target_name, position)
        if schema not in {None, *_SYSTEM_SCHEMAS} and self.catalog.schema(str(schema)) is None:
            raise HanaError(362, f"invalid schema name: {schema}", position)
        raise unknown_table(schema or self.schema, name, position)

    def relation(self, schema: str, name: str) -> TableInfo | ViewInfo | None:
        """The table or view that has exactly this name."""
        return self.catalog.table(schema, name) or self.catalog.view(schema, name)

    def is_system_view(self, schema: str, name: str) -> bool:
        """Whether this is the full name of a system view."""
        return schema in _SYSTEM_SCHEMAS and name in self.catalog.system_views

    def synonym(self, schema: str | None, name: str) -> SynonymInfo | None:
        """The synonym of this name: without a schema one of the current schema, or else a public one."""
        found = self.catalog.synonym(schema or self.schema, name)
        return found or (self.catalog.synonym(PUBLIC_SCHEMA, name) if schema is None else None)

    def meant(self, look: Callable[[str, str], _Object | None], schema: str | None, name: str) -> _Object | None:
        """What `look` finds under the name, or under the name that this is a synonym of."""
        found = look(schema or self.schema, name)
        if found is None and (synonym := self.synonym(schema, name)) is not None:
            found = look(synonym.target_schema, synonym.target_name)
            if found is not None:
                self.depends.append((synonym.schema, synonym.name))
        return found

    def base_table(self, schema: str | None, name: str, privilege: str, position: int = 0) -> TableInfo:
        """A table to be changed, with the privilege checked."""
        found = self.table(schema, name, position)
        if isinstance(found, str):
            raise no_privilege()
        if isinstance(found, ViewInfo):
            raise unsupported(f"changing the view {name}", position)
        self.check(privilege, found)
        return found

    def check(self, privilege: str, target: TableInfo | ViewInfo | SequenceInfo) -> None:
        """Raise 258 unless the user has the privilege."""
        if isinstance(target, TableInfo) and target.temporary == "LOCAL":
            return
        if not self.catalog.allowed(self.user, privilege, target.schema, target.name):
            raise no_privilege()

    def sequence(self, schema: str | None, name: str) -> SequenceInfo | None:
        """The sequence of this name."""
        found = self.meant(self.catalog.sequence, schema, name)
        if found is not None:
            self.check("SELECT", found)
        return found
