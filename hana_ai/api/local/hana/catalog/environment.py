"""A session as the binder and the functions see it: who asks, which schema, which names mean what."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from hana_ai.api.local.hana.catalog.objects import Catalog, RoutineInfo, SequenceInfo, TableInfo, ViewInfo
from hana_ai.api.local.hana.errors import no_privilege, unknown_table, unsupported
from hana_ai.api.local.hana.interface import HanaError

PUBLIC = "SYS"
"""System views answer under this schema and, as HANA's public synonyms do, without one."""


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

    def inside(self, view: ViewInfo) -> Environment:
        """The environment in which a view's definition is read."""
        return Environment(self.catalog, self.state, view.owner, view.home)

    def inside_routine(self, routine: RoutineInfo) -> Environment:
        """The environment in which a routine's statements are read."""
        return Environment(self.catalog, self.state, self.user if routine.invoker else routine.owner, routine.home)

    def table(self, schema: str | None, name: str, position: int = 0) -> TableInfo | ViewInfo | str:
        """The table or view of this name, or the name of a system view.

        Raises
        ------
        HanaError
            362 for an unknown schema, 259 for an unknown table.
        """
        if name in self.state.temporary and (schema is None or name.startswith("#") or schema == self.schema):
            return self.state.temporary[name]
        home = schema or self.schema
        found = self.catalog.table(home, name) or self.catalog.view(home, name)
        if found is not None:
            self.depends.append((home, name))
            return found
        if (
            schema is None or schema in {PUBLIC, "PUBLIC", "_SYS_STATISTICS"}
        ) and name in self.catalog.system_views:
            return name
        if schema is not None and schema not in {PUBLIC, "PUBLIC"} and self.catalog.schema(schema) is None:
            raise HanaError(362, f"invalid schema name: {schema}", position)
        raise unknown_table(home, name, position)

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
        found = self.catalog.sequence(schema or self.schema, name)
        if found is not None:
            self.check("SELECT", found)
        return found
