"""What the database contains, as HANA knows it: schemas, tables, views, sequences, users, privileges.

DuckDB stores the rows; HANA's declared types, defaults, constraints and owners live here. Every object is one row
of a table in the same DuckDB file, written in the transaction that makes the object, so that file and catalog
never disagree. In memory the catalog holds committed objects only: DDL commits, in HANA as here.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

import duckdb
import orjson

from hana_ai.api.local.hana.errors import unknown_table
from hana_ai.api.local.hana.interface import Credentials, HanaError, SqlType, TypeCode
from hana_ai.api.local.hana.names import quote

STORE = "hana.main.objects"
"""The table that holds the catalog, in the database's own file."""


@dataclass(slots=True)
class ColumnInfo:
    """A column of a table or view."""

    name: str
    type: SqlType
    nullable: bool = True
    default: str | None = None
    """The default as HANA SQL."""
    generated: str | None = None
    """The expression of GENERATED ALWAYS AS, as HANA SQL."""
    stored: bool = True
    identity: str | None = None
    sequence: str | None = None
    """The DuckDB sequence of an identity column."""
    comment: str | None = None
    physical: str = ""
    """The DuckDB name, unquoted."""

    @property
    def quoted(self) -> str:
        """The DuckDB name in quotes."""
        return quote(self.physical)


@dataclass(slots=True)
class ConstraintInfo:
    """A constraint of a table; `kind` is PRIMARY, UNIQUE, CHECK or FOREIGN."""

    name: str
    kind: str
    columns: list[str]
    condition: str | None = None
    ref_schema: str | None = None
    ref_table: str | None = None
    ref_columns: list[str] = field(default_factory=list)
    on_delete: str = "RESTRICT"
    on_update: str = "RESTRICT"


@dataclass(slots=True)
class IndexInfo:
    """An index; only unique ones have an effect."""

    name: str
    columns: list[tuple[str, bool]]
    unique: bool = False
    kind: str = "INVERTED VALUE"
    similarity: str | None = None
    schema: str = ""
    created: str = ""


@dataclass(slots=True)
class TableInfo:
    """A table."""

    schema: str
    name: str
    oid: int
    kind: str
    columns: list[ColumnInfo]
    constraints: list[ConstraintInfo] = field(default_factory=list)
    indexes: list[IndexInfo] = field(default_factory=list)
    temporary: str | None = None
    on_commit_delete: bool = False
    comment: str | None = None
    physical: str = ""
    """The DuckDB name, unquoted; the catalog and schema depend on `temporary`."""
    created: str = ""
    """When it was created, in UTC: ``2026-01-31 12:00:00.000000``."""

    @property
    def sql(self) -> str:
        """The table in DuckDB SQL."""
        place = "temp.main" if self.temporary else "hana.main"
        return f"{place}.{quote(self.physical)}"

    def column(self, name: str) -> ColumnInfo | None:
        """The column of this name."""
        return next((column for column in self.columns if column.name == name), None)

    def primary_key(self) -> ConstraintInfo | None:
        """The primary key, if there is one."""
        return next((item for item in self.constraints if item.kind == "PRIMARY"), None)

    def key_columns(self) -> set[str]:
        """The columns of the primary key, of unique constraints and of unique indexes."""
        keys = {name for item in self.constraints if item.kind in {"PRIMARY", "UNIQUE"} for name in item.columns}
        return keys | {name for index in self.indexes if index.unique for name, _ in index.columns}


@dataclass(slots=True)
class ViewInfo:
    """A view; its text is translated anew wherever it is read."""

    schema: str
    name: str
    oid: int
    definition: str
    columns: list[ColumnInfo]
    owner: str
    home: str
    """The schema in which unqualified names of the definition are looked up."""
    depends: list[tuple[str, str]] = field(default_factory=list)
    comment: str | None = None
    created: str = ""


@dataclass(slots=True)
class SequenceInfo:
    """A sequence."""

    schema: str
    name: str
    oid: int
    start: int
    increment: int
    minimum: int
    maximum: int
    cycle: bool
    physical: str
    created: str = ""


@dataclass(slots=True)
class ParameterInfo:
    """A parameter or a result of a routine; one without a type is a table."""

    name: str
    mode: str
    type: SqlType | None = None
    columns: list[ColumnInfo] = field(default_factory=list)
    default: str | None = None
    """The default as DuckDB SQL."""


@dataclass(slots=True)
class RoutineInfo:
    """A function or a procedure; its text is compiled by each session that calls it."""

    schema: str
    name: str
    oid: int
    kind: str
    """FUNCTION or PROCEDURE."""
    definition: str
    owner: str
    home: str
    """The schema in which unqualified names of the definition are looked up."""
    parameters: list[ParameterInfo] = field(default_factory=list)
    returns: list[ParameterInfo] = field(default_factory=list)
    invoker: bool = False
    """Whether the caller's privileges count, not the owner's."""
    reads_only: bool = False
    deterministic: bool = False
    created: str = ""


@dataclass(slots=True)
class SynonymInfo:
    """Another name of a table, view, sequence, function or procedure; a public one is in the schema PUBLIC."""

    schema: str
    name: str
    oid: int
    target_schema: str
    target_name: str
    created: str = ""


@dataclass(slots=True)
class SchemaInfo:
    """A schema."""

    name: str
    owner: str
    created: str = ""


@dataclass(slots=True)
class UserInfo:
    """A user and the credentials that prove their password."""

    name: str
    oid: int
    admin: bool = False
    salt: str = ""
    rounds: int = 0
    sha256: str = field(default="", repr=False)
    pbkdf2: str = field(default="", repr=False)
    created: str = ""

    @property
    def credentials(self) -> Credentials:
        """As the wire side needs them."""
        return Credentials(
            bytes.fromhex(self.salt), self.rounds, bytes.fromhex(self.sha256), bytes.fromhex(self.pbkdf2)
        )

    def set_credentials(self, credentials: Credentials) -> None:
        """Replace the credentials."""
        self.salt, self.rounds = credentials.salt.hex(), credentials.rounds
        self.sha256, self.pbkdf2 = credentials.salted_sha256.hex(), credentials.salted_pbkdf2.hex()


@dataclass(frozen=True, slots=True)
class GrantInfo:
    """A privilege of a user; without `name` on the whole schema, without `schema` a system privilege."""

    user: str
    privilege: str
    schema: str
    name: str
    grantor: str = ""
    grantable: bool = False


SchemaObject: TypeAlias = "TableInfo | ViewInfo | SequenceInfo | RoutineInfo | SynonymInfo"
"""What a schema can contain."""
Entry: TypeAlias = "SchemaObject | SchemaInfo | UserInfo | GrantInfo"
_Entry = TypeVar(
    "_Entry", TableInfo, ViewInfo, SequenceInfo, RoutineInfo, SynonymInfo, SchemaInfo, UserInfo, GrantInfo
)

_KINDS: dict[str, type[Entry]] = {
    "table": TableInfo, "view": ViewInfo, "sequence": SequenceInfo, "schema": SchemaInfo, "user": UserInfo,
    "grant": GrantInfo, "routine": RoutineInfo, "synonym": SynonymInfo,
}  # fmt: skip
_NAMES: dict[type[Entry], str] = {kind: name for name, kind in _KINDS.items()}


def key_of(entry: Entry) -> tuple[str, str, str]:
    """Kind, schema and name: what identifies an object."""
    kind = _NAMES[type(entry)]
    if isinstance(entry, GrantInfo):
        return kind, entry.schema, "\x00".join((entry.user, entry.privilege, entry.name))
    if isinstance(entry, SchemaInfo | UserInfo):
        return kind, "", entry.name
    return kind, entry.schema, entry.name


def stamp(entry: Entry) -> None:
    """Note the time of creation in what has none yet."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    if not isinstance(entry, GrantInfo):
        entry.created = entry.created or now
    for index in entry.indexes if isinstance(entry, TableInfo) else ():
        index.created = index.created or now


def _type(value: dict[str, Any]) -> SqlType:
    return SqlType(TypeCode(value["code"]), value["name"], value["length"], value["scale"])


def _columns(values: list[dict[str, Any]]) -> list[ColumnInfo]:
    return [ColumnInfo(**{**item, "type": _type(item["type"])}) for item in values]


def _parameters(values: list[dict[str, Any]]) -> list[ParameterInfo]:
    return [
        ParameterInfo(**{
            **item, "type": _type(item["type"]) if item["type"] else None, "columns": _columns(item["columns"]),
        })
        for item in values
    ]  # fmt: skip


def _load(kind: str, text: str) -> Entry:
    values = orjson.loads(text)
    if kind in {"table", "view"}:
        values["columns"] = _columns(values["columns"])
    if kind == "routine":
        values.update({key: _parameters(values[key]) for key in ("parameters", "returns")})
    if kind == "table":
        values["constraints"] = [ConstraintInfo(**item) for item in values["constraints"]]
        for item in values["indexes"]:
            item["columns"] = [(name, bool(descending)) for name, descending in item["columns"]]
        values["indexes"] = [IndexInfo(**item) for item in values["indexes"]]
    if kind == "view":
        values["depends"] = [(schema, name) for schema, name in values["depends"]]
    known = {item.name for item in fields(_KINDS[kind])}
    entry: Entry = _KINDS[kind](**{name: value for name, value in values.items() if name in known})
    return entry


@dataclass(slots=True)
class Change:
    """What a DDL statement does to the catalog."""

    put: list[Entry] = field(default_factory=list)
    drop: list[tuple[str, str, str]] = field(default_factory=list)


class Catalog:
    """All committed objects. Readers take `lock` only for what must fit together.

    Parameters
    ----------
    system_views : collection of str
        The names that mean a system view when no object has them.
    """

    def __init__(self, system_views: Collection[str] = ()) -> None:
        self.system_views = system_views
        self.lock = threading.RLock()
        self.entries: dict[tuple[str, str, str], Entry] = {}
        self.version = 0
        self._next_oid = 1000

    def load(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Read the stored catalog, creating its table on first use."""
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {STORE} (kind VARCHAR, schema VARCHAR, name VARCHAR, entry VARCHAR)"
        )
        for kind, schema, name, text in connection.execute(
            f"SELECT kind, schema, name, entry FROM {STORE}"
        ).fetchall():
            entry = _load(kind, text)
            self.entries[kind, schema, name] = entry
            self._next_oid = max(self._next_oid, getattr(entry, "oid", 0) + 1)

    def new_oid(self) -> int:
        """A number for a new object, unique in the database."""
        with self.lock:
            self._next_oid += 1
            return self._next_oid

    def store(self, connection: duckdb.DuckDBPyConnection, change: Change) -> None:
        """Write a change in the connection's open transaction; `apply` follows its commit."""
        for key in (*change.drop, *map(key_of, change.put)):
            connection.execute(f"DELETE FROM {STORE} WHERE kind = ? AND schema = ? AND name = ?", list(key))
        for entry in change.put:
            stamp(entry)
            kind, schema, name = key_of(entry)
            text = orjson.dumps(entry).decode()
            connection.execute(f"INSERT INTO {STORE} VALUES (?, ?, ?, ?)", [kind, schema, name, text])

    def apply(self, change: Change) -> None:
        """Make a committed change visible."""
        with self.lock:
            for key in change.drop:
                self.entries.pop(key, None)
            for entry in change.put:
                self.entries[key_of(entry)] = entry
            self.version += 1

    def adopt(self, draft: Catalog) -> None:
        """Make all that a committed draft has visible."""
        with self.lock:
            self.entries = dict(draft.entries)
            self.version += 1

    def all(self, kind: type[_Entry]) -> list[_Entry]:
        """All objects of a kind; of tables, all but the sessions' own."""
        with self.lock:
            return [entry for entry in self.entries.values() if isinstance(entry, kind)]

    def _one(self, kind: type[_Entry], schema: str, name: str) -> _Entry | None:
        found = self.entries.get((_NAMES[kind], schema, name))
        return found if isinstance(found, kind) else None

    def contents(self, schema: str) -> list[SchemaObject]:
        """What has to go before a schema can."""
        entries: list[SchemaObject] = [*self.all(TableInfo), *self.all(ViewInfo), *self.all(SequenceInfo)]
        entries += [*self.all(RoutineInfo), *self.all(SynonymInfo)]
        return [entry for entry in entries if entry.schema == schema]

    def table(self, schema: str, name: str) -> TableInfo | None:
        """The table of this name."""
        return self._one(TableInfo, schema, name)

    def view(self, schema: str, name: str) -> ViewInfo | None:
        """The view of this name."""
        return self._one(ViewInfo, schema, name)

    def sequence(self, schema: str, name: str) -> SequenceInfo | None:
        """The sequence of this name."""
        return self._one(SequenceInfo, schema, name)

    def routine(self, schema: str, name: str) -> RoutineInfo | None:
        """The function or procedure of this name."""
        return self._one(RoutineInfo, schema, name)

    def synonym(self, schema: str, name: str) -> SynonymInfo | None:
        """The synonym of this name."""
        return self._one(SynonymInfo, schema, name)

    def schema(self, name: str) -> SchemaInfo | None:
        """The schema of this name."""
        return self._one(SchemaInfo, "", name)

    def user(self, name: str) -> UserInfo | None:
        """The user of this name."""
        return self._one(UserInfo, "", name)

    def index(self, schema: str, name: str) -> tuple[TableInfo, IndexInfo] | None:
        """The index of this name and its table."""
        for table in self.all(TableInfo):
            for index in table.indexes:
                if index.name == name and (index.schema or table.schema) == schema:
                    return table, index
        return None

    def require_schema(self, name: str) -> SchemaInfo:
        """The schema, or error 362."""
        found = self.schema(name)
        if found is None:
            raise HanaError(362, f"invalid schema name: {name}")
        return found

    def require_table(self, schema: str, name: str, position: int = 0) -> TableInfo:
        """The table, or error 259."""
        found = self.table(schema, name)
        if found is None:
            raise unknown_table(schema, name, position)
        return found

    def allowed(self, user: str, privilege: str, schema: str, name: str = "") -> bool:
        """Whether the user may do this to the schema or the object in it."""
        account = self.user(user)
        if account is not None and account.admin:
            return True
        owner = self.schema(schema)
        if owner is not None and owner.owner == user:
            return True
        with self.lock:
            for wanted in (privilege, "ALL PRIVILEGES"):
                for target in {"", name}:
                    if ("grant", schema, "\x00".join((user, wanted, target))) in self.entries:
                        return True
        return False

    def visible(self, user: str, schema: str, name: str) -> bool:
        """Whether the system views show the object to the user."""
        if self.allowed(user, "SELECT", schema, name):
            return True
        return any(
            grant.user == user and grant.schema == schema and grant.name in {"", name}
            for grant in self.all(GrantInfo)
        )
