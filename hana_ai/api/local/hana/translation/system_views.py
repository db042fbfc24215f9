"""HANA's system views, as far as hdbcli, hana-ml, langchain-hana, sqlalchemy-hana and hana_ai read them.

A view is a list of columns and a function that makes its rows from the catalog. Rows go into the query as VALUES:
they are few, and a plan is made anew whenever the catalog changes.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.environment import Environment
from hana_ai.api.local.hana.catalog.models import MODELS
from hana_ai.api.local.hana.catalog.objects import (
    ColumnInfo,
    GrantInfo,
    SchemaInfo,
    SequenceInfo,
    TableInfo,
    UserInfo,
    ViewInfo,
)
from hana_ai.api.local.hana.interface import SqlType
from hana_ai.api.local.hana.language.reserved import RESERVED_WORDS
from hana_ai.api.local.hana.names import literal
from hana_ai.api.local.hana.translation import system_plans, system_synonyms
from hana_ai.api.local.hana.translation.fragments import Sql
from hana_ai.api.local.hana.translation.scope import OutColumn
from hana_ai.api.local.hana.translation.system_routines import ROUTINE_VIEWS
from hana_ai.api.local.hana.types import BIGINT, INTEGER, NCLOB, SMALLINT, TIMESTAMP, nvarchar

Cell: TypeAlias = "str | int | None"
Rows: TypeAlias = "Iterator[Sequence[Cell]]"

VERSION = "4.00.000.00.1730000000"
CLOUD_VERSION = "2025.40.0"
_CHANGING = frozenset({"M_SESSION_CONTEXT", "M_SQL_PLAN_CACHE"})
"""Views whose rows change without a change of the catalog, so that no plan with them is used twice."""
DUMMY = "DUMMY"
"""HANA's table of one row."""


@dataclass(frozen=True, slots=True)
class SystemView:
    """A view's columns and its rows."""

    columns: tuple[tuple[str, SqlType], ...]
    rows: Callable[[Environment], Rows]


_N = nvarchar(256)
_S = nvarchar(5000)


def _columns(text: str) -> tuple[tuple[str, SqlType], ...]:
    """``NAME`` is NVARCHAR(256), ``:s`` longer, ``:i`` INTEGER, ``:b`` BIGINT, ``:c`` NCLOB, ``:t`` TIMESTAMP."""
    kinds = {"": _N, "i": INTEGER, "b": BIGINT, "s": _S, "c": NCLOB, "h": SMALLINT, "t": TIMESTAMP}
    found = []
    for word in text.split():
        name, _, kind = word.partition(":")
        found.append((name, kinds[kind]))
    return tuple(found)


def _flag(value: object) -> str:
    return "TRUE" if value else "FALSE"


def _tables(env: Environment) -> Iterator[TableInfo]:
    yield from (
        table for table in env.catalog.all(TableInfo) if env.catalog.visible(env.user, table.schema, table.name)
    )
    yield from env.state.temporary.values()


def _table_rows(env: Environment) -> Rows:
    for table in _tables(env):
        yield (
            table.schema, table.name, table.oid, table.comment, _flag(table.kind == "COLUMN"), "FALSE", "FALSE",
            "FALSE", "FALSE", "FALSE", table.kind, "FALSE", _flag(table.temporary), table.temporary or "NONE",
            "FALSE", _flag(table.primary_key()), "FALSE", env.user, table.created or None,
        )  # fmt: skip


def _dummy(env: Environment) -> Rows:
    yield ("X",)


def _column_row(schema: str, name: str, oid: int, position: int, column: ColumnInfo) -> Sequence[Cell]:
    length, scale = types.length_and_scale(column.type)
    default = column.default
    if default is not None and default.startswith("'") and default.endswith("'"):
        default = default[1:-1].replace("''", "'")
    generation = None
    if column.generated is not None:
        generation = "ALWAYS AS" if column.stored else "ALWAYS CALCULATED AS"
    elif column.identity:
        generation = f"{column.identity} AS IDENTITY"
    return (
        schema,
        name,
        oid,
        column.name,
        position,
        int(column.type.code),
        column.type.name,
        length,
        scale,
        _flag(column.nullable),
        default,
        None,
        column.comment,
        "FALSE",
        generation,
        column.generated,
        oid * 1000 + position,
    )


def _table_column_rows(env: Environment) -> Rows:
    for table in _tables(env):
        for position, column in enumerate(table.columns, 1):
            yield _column_row(table.schema, table.name, table.oid, position, column)


def _view_column_rows(env: Environment) -> Rows:
    for view in env.catalog.all(ViewInfo):
        if env.catalog.visible(env.user, view.schema, view.name):
            for position, column in enumerate(view.columns, 1):
                yield _column_row(view.schema, view.name, view.oid, position, column)


def _view_rows(env: Environment) -> Rows:
    for view in env.catalog.all(ViewInfo):
        if env.catalog.visible(env.user, view.schema, view.name):
            yield (
                view.schema,
                view.name,
                view.oid,
                "ROW",
                view.comment,
                view.definition,
                "TRUE",
                "FALSE",
                "TRUE",
                view.owner,
                view.created or None,
            )


def _schema_rows(env: Environment) -> Rows:
    for schema in env.catalog.all(SchemaInfo):
        grants = env.catalog.all(GrantInfo)
        if env.catalog.allowed(env.user, "SELECT", schema.name) or any(
            grant.user == env.user and grant.schema == schema.name for grant in grants
        ):
            yield schema.name, schema.owner, "TRUE", schema.created or None
    yield "SYS", "SYS", "TRUE", None
    yield "PUBLIC", "SYS", "TRUE", None


def _constraint_rows(env: Environment) -> Rows:
    for table in _tables(env):
        for item in table.constraints:
            if item.kind == "FOREIGN":
                continue
            primary, unique = item.kind == "PRIMARY", item.kind in {"PRIMARY", "UNIQUE"}
            for position, column in enumerate(item.columns or [None], 1):
                yield (
                    table.schema,
                    table.name,
                    table.oid,
                    column,
                    position,
                    item.name,
                    _flag(primary),
                    _flag(unique),
                    item.condition,
                )
        yield from _unique_index_rows(table)


def _unique_index_rows(table: TableInfo) -> Rows:
    """A unique index is a constraint as well."""
    for index in table.indexes:
        if index.unique:
            for position, (column, _) in enumerate(index.columns, 1):
                yield table.schema, table.name, table.oid, column, position, index.name, "FALSE", "TRUE", None


def _foreign_rows(env: Environment) -> Rows:
    for table in _tables(env):
        for item in table.constraints:
            if item.kind != "FOREIGN":
                continue
            parent = env.catalog.table(item.ref_schema or "", item.ref_table or "")
            key = parent.primary_key() if parent is not None else None
            for position, (column, other) in enumerate(zip(item.columns, item.ref_columns, strict=True), 1):
                yield (
                    table.schema, table.name, column, position, item.name, item.ref_schema, item.ref_table, other,
                    key.name if key is not None else None, item.on_update, item.on_delete,
                )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Index:
    """An index, or what a key has in place of one."""

    table: TableInfo
    name: str
    kind: str
    constraint: str | None
    columns: list[tuple[str, bool]]
    created: str


def _indexes(env: Environment) -> Iterator[_Index]:
    for table in _tables(env):
        for item in table.constraints:
            if item.kind in {"PRIMARY", "UNIQUE"}:
                constraint = "PRIMARY KEY" if item.kind == "PRIMARY" else "UNIQUE"
                columns = [(name, False) for name in item.columns]
                kind = "INVERTED VALUE UNIQUE"
                yield _Index(table, item.name, kind, constraint, columns, table.created)
        for index in table.indexes:
            unique = "UNIQUE" if index.unique else None
            yield _Index(table, index.name, index.kind, unique, index.columns, index.created)


def _index_rows(env: Environment) -> Rows:
    for number, index in enumerate(_indexes(env), 1):
        table = index.table
        yield (
            table.schema, table.name, table.oid, index.name, 100000 + number, index.kind, index.constraint,
            index.created or None,
        )  # fmt: skip


def _index_column_rows(env: Environment) -> Rows:
    for index in _indexes(env):
        table = index.table
        for position, (column, descending) in enumerate(index.columns, 1):
            order = "DESC" if descending else "ASC"
            yield table.schema, table.name, table.oid, index.name, column, position, order, index.constraint


def _sequence_rows(env: Environment) -> Rows:
    for item in env.catalog.all(SequenceInfo):
        if env.catalog.visible(env.user, item.schema, item.name):
            yield (
                item.schema, item.name, item.oid, str(item.start), str(item.minimum), str(item.maximum),
                str(item.increment), _flag(item.cycle), item.created or None,
            )  # fmt: skip


def _database(env: Environment) -> Rows:
    yield "H00", "H00", "loopback", None, VERSION, CLOUD_VERSION, "DuckDB behind HANA's wire protocol"


def _overview(env: Environment) -> Rows:
    yield "System", "Version", "OK", VERSION
    yield "System", "Instance ID", "OK", "H00"
    yield "System", "Loopback", "OK", "this is not SAP HANA: a local server with DuckDB as engine"


_DATA_TYPES = [
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "SMALLDECIMAL", "DECIMAL", "REAL", "DOUBLE", "BOOLEAN",
    "VARCHAR", "NVARCHAR", "CHAR", "NCHAR", "ALPHANUM", "SHORTTEXT", "DATE", "TIME", "SECONDDATE", "TIMESTAMP",
    "BINARY", "VARBINARY", "BLOB", "CLOB", "NCLOB", "TEXT", "REAL_VECTOR", "HALF_VECTOR",
]  # fmt: skip


def _data_types(env: Environment) -> Rows:
    for number, name in enumerate(_DATA_TYPES, 1):
        kind = types.declared(name, ())
        assert kind is not None
        yield number, int(kind.code), name, kind.length


def _no_rows(env: Environment) -> Rows:
    return iter(())


def _temporary_rows(env: Environment) -> Rows:
    for table in _tables(env):
        if table.temporary:
            yield table.schema, table.name, table.oid, str(env.state.connection_id), table.temporary, table.kind


def _table_statistics(env: Environment) -> Rows:
    for table in _tables(env):
        yield table.schema, table.name, table.oid, table.kind, None, None


def _users(env: Environment) -> Rows:
    for user in env.catalog.all(UserInfo):
        yield user.oid, user.name, "SYSTEM" if user.admin else None, _flag(False), user.created or None


def _connections(env: Environment) -> Rows:
    state = env.state
    yield state.connection_id, state.user, state.schema, "RUNNING", "Remote", "127.0.0.1", "TRUE"


def _session_context(env: Environment) -> Rows:
    for key, value in env.state.variables.items():
        yield state_id(env), key, value, "USER"
    yield state_id(env), "CONN_ID", str(env.state.connection_id), "SYSTEM"


def state_id(env: Environment) -> int:
    """The number of the connection that reads."""
    return env.state.connection_id


def _granted(env: Environment) -> Rows:
    for grant in env.catalog.all(GrantInfo):
        kind = "SCHEMA" if not grant.name else "TABLE"
        yield (
            grant.user, "USER", grant.grantor, kind, grant.schema or None, grant.name or None, grant.privilege,
            _flag(grant.grantable), "TRUE",
        )  # fmt: skip


def _roles(env: Environment) -> Rows:
    """PUBLIC, which everybody has; none can be made."""
    yield None, "PUBLIC", "SYS", None


def _granted_roles(env: Environment) -> Rows:
    for user in env.catalog.all(UserInfo):
        yield None, user.name, "USER", None, "PUBLIC", "SYS", "FALSE"


def _effective_roles(env: Environment) -> Rows:
    for granted in _granted_roles(env):
        yield granted[1], *granted


def _reserved(env: Environment) -> Rows:
    for word in sorted(RESERVED_WORDS):
        yield (word,)


def _models(env: Environment) -> Rows:
    for model in MODELS:
        yield model.name, model.kind, model.dimension, model.stands_for, model.note


_TABLE_COLUMNS = _columns(
    "SCHEMA_NAME TABLE_NAME TABLE_OID:b COLUMN_NAME POSITION:i DATA_TYPE_ID:h DATA_TYPE_NAME LENGTH:i SCALE:i "
    "IS_NULLABLE DEFAULT_VALUE:s COLLATION COMMENTS:s IS_HIDDEN GENERATION_TYPE GENERATED_ALWAYS_AS:c COLUMN_ID:b"
)

SYSTEM_VIEWS: dict[str, SystemView] = {
    "DUMMY": SystemView((("DUMMY", nvarchar(1)),), _dummy),
    "TABLES": SystemView(_columns(
        "SCHEMA_NAME TABLE_NAME TABLE_OID:b COMMENTS:s IS_COLUMN_TABLE IS_LOGGED IS_SYSTEM_TABLE "
        "IS_REPLICA IS_PARTITIONED IS_PRELOAD TABLE_TYPE IS_USER_DEFINED_TYPE IS_TEMPORARY TEMPORARY_TABLE_TYPE "
        "IS_INSERT_ONLY HAS_PRIMARY_KEY IS_TENANT_SHARED_DATA CREATOR CREATE_TIME:t"
    ), _table_rows),
    "TABLE_COLUMNS": SystemView(_TABLE_COLUMNS, _table_column_rows),
    "VIEW_COLUMNS": SystemView(
        tuple((name.replace("TABLE_", "VIEW_"), kind) for name, kind in _TABLE_COLUMNS), _view_column_rows
    ),
    "VIEWS": SystemView(_columns(
        "SCHEMA_NAME VIEW_NAME VIEW_OID:b VIEW_TYPE COMMENTS:s DEFINITION:c IS_VALID HAS_PARAMETERS IS_READ_ONLY "
        "OWNER_NAME CREATE_TIME:t"
    ), _view_rows),
    "SCHEMAS": SystemView(_columns("SCHEMA_NAME SCHEMA_OWNER HAS_PRIVILEGES CREATE_TIME:t"), _schema_rows),
    "CONSTRAINTS": SystemView(_columns(
        "SCHEMA_NAME TABLE_NAME TABLE_OID:b COLUMN_NAME POSITION:i CONSTRAINT_NAME IS_PRIMARY_KEY IS_UNIQUE_KEY "
        "CHECK_CONDITION:s"
    ), _constraint_rows),
    "REFERENTIAL_CONSTRAINTS": SystemView(_columns(
        "SCHEMA_NAME TABLE_NAME COLUMN_NAME POSITION:i CONSTRAINT_NAME REFERENCED_SCHEMA_NAME "
        "REFERENCED_TABLE_NAME REFERENCED_COLUMN_NAME REFERENCED_CONSTRAINT_NAME UPDATE_RULE DELETE_RULE"
    ), _foreign_rows),
    "INDEXES": SystemView(_columns(
        "SCHEMA_NAME TABLE_NAME TABLE_OID:b INDEX_NAME INDEX_OID:b INDEX_TYPE CONSTRAINT CREATE_TIME:t"
    ), _index_rows),
    "INDEX_COLUMNS": SystemView(_columns(
        "SCHEMA_NAME TABLE_NAME TABLE_OID:b INDEX_NAME COLUMN_NAME POSITION:i ASCENDING_ORDER CONSTRAINT"
    ), _index_column_rows),
    "SEQUENCES": SystemView(_columns(
        "SCHEMA_NAME SEQUENCE_NAME SEQUENCE_OID:b START_NUMBER MIN_VALUE MAX_VALUE INCREMENT_BY IS_CYCLED "
        "CREATE_TIME:t"
    ), _sequence_rows),
    "M_DATABASE": SystemView(_columns(
        "SYSTEM_ID DATABASE_NAME HOST START_TIME VERSION CLOUD_VERSION USAGE"
    ), _database),
    "M_SYSTEM_OVERVIEW": SystemView(_columns("SECTION NAME STATUS VALUE:s"), _overview),
    "DATA_TYPES": SystemView(_columns("TYPE_ID:i DATA_TYPE_ID:i TYPE_NAME COLUMN_SIZE:i"), _data_types),
    "AFL_FUNCTIONS": SystemView(_columns("SCHEMA_NAME AREA_NAME PACKAGE_NAME FUNCTION_NAME"), _no_rows),
    "AFL_PACKAGES": SystemView(_columns("SCHEMA_NAME AREA_NAME PACKAGE_NAME"), _no_rows),
    "AFL_AREAS": SystemView(_columns("SCHEMA_NAME AREA_NAME"), _no_rows),
    **{name: SystemView(_columns(names), rows) for name, (names, rows) in ROUTINE_VIEWS.items()},
    "SYNONYMS": SystemView(_columns(system_synonyms.COLUMNS), system_synonyms.rows),
    "M_SQL_PLAN_CACHE": SystemView(_columns(system_plans.COLUMNS), system_plans.rows),
    "TRIGGERS": SystemView(_columns(
        "SCHEMA_NAME TRIGGER_NAME SUBJECT_TABLE_SCHEMA SUBJECT_TABLE_NAME CREATE_TIME:t"
    ), _no_rows),
    "GRAPH_WORKSPACES": SystemView(_columns(
        "SCHEMA_NAME WORKSPACE_NAME CREATE_TIMESTAMP:t USER_NAME EDGE_SCHEMA_NAME EDGE_TABLE_NAME "
        "EDGE_SOURCE_COLUMN_NAME EDGE_TARGET_COLUMN_NAME EDGE_KEY_COLUMN_NAME VERTEX_SCHEMA_NAME "
        "VERTEX_TABLE_NAME VERTEX_KEY_COLUMN_NAME IS_VALID"
    ), _no_rows),
    "GRAPH_WORKSPACE_COLUMNS": SystemView(_columns(
        "SCHEMA_NAME WORKSPACE_NAME ENTITY_TYPE ENTITY_SCHEMA_NAME ENTITY_TABLE_NAME ENTITY_COLUMN_NAME "
        "ENTITY_ROLE ENTITY_ROLE_POSITION:i"
    ), _no_rows),
    "M_JOB_PROGRESS": SystemView(_columns(
        "HOST PORT:i CONNECTION_ID:i JOB_ID:b JOB_NAME OBJECT_NAME START_TIME:t CURRENT_PROGRESS:b MAX_PROGRESS:b "
        "PROGRESS_DETAIL:s"
    ), _no_rows),
    "M_SCHEDULER_JOBS": SystemView(_columns(
        "SCHEMA_NAME SCHEDULER_JOB_NAME SCHEDULED_TIME:t START_TIME:t END_TIME:t STATUS ERROR_CODE:i "
        "ERROR_MESSAGE:s"
    ), _no_rows),
    "M_AFL_STATES": SystemView(_columns("HOST PORT:i AREA_NAME FUNCTION_NAME STATE_ID CREATE_TIME:t"), _no_rows),
    "ROLES": SystemView(_columns("ROLE_SCHEMA_NAME ROLE_NAME CREATOR CREATE_TIME:t"), _roles),
    "GRANTED_ROLES": SystemView(_columns(
        "GRANTEE_SCHEMA_NAME GRANTEE GRANTEE_TYPE ROLE_SCHEMA_NAME ROLE_NAME GRANTOR IS_GRANTABLE"
    ), _granted_roles),
    "EFFECTIVE_ROLES": SystemView(_columns(
        "USER_NAME GRANTEE_SCHEMA_NAME GRANTEE GRANTEE_TYPE ROLE_SCHEMA_NAME ROLE_NAME GRANTOR IS_GRANTABLE"
    ), _effective_roles),
    "REMOTE_SOURCES": SystemView(_columns("REMOTE_SOURCE_NAME ADAPTER_NAME"), _no_rows),
    "ST_GEOMETRY_COLUMNS": SystemView(_columns("SCHEMA_NAME TABLE_NAME COLUMN_NAME SRS_ID:i"), _no_rows),
    "M_TEMPORARY_TABLES": SystemView(_columns(
        "SCHEMA_NAME TABLE_NAME TABLE_OID:b CONNECTION_ID TEMPORARY_TABLE_TYPE TABLE_TYPE"
    ), _temporary_rows),
    "M_TABLES": SystemView(_columns(
        "SCHEMA_NAME TABLE_NAME TABLE_OID:b TABLE_TYPE RECORD_COUNT:b TABLE_SIZE:b"
    ), _table_statistics),
    "M_CS_TABLES": SystemView(_columns(
        "SCHEMA_NAME TABLE_NAME TABLE_OID:b TABLE_TYPE RECORD_COUNT:b MEMORY_SIZE_IN_TOTAL:b"
    ), _table_statistics),
    "USERS": SystemView(_columns("USER_ID:b USER_NAME CREATOR USER_DEACTIVATED CREATE_TIME:t"), _users),
    "M_CONNECTIONS": SystemView(_columns(
        "CONNECTION_ID:i USER_NAME CURRENT_SCHEMA_NAME CONNECTION_STATUS CONNECTION_TYPE CLIENT_HOST OWN"
    ), _connections),
    "M_SESSION_CONTEXT": SystemView(_columns("CONNECTION_ID:i KEY VALUE:s SECTION"), _session_context),
    "GRANTED_PRIVILEGES": SystemView(_columns(
        "GRANTEE GRANTEE_TYPE GRANTOR OBJECT_TYPE SCHEMA_NAME OBJECT_NAME PRIVILEGE IS_GRANTABLE IS_VALID"
    ), _granted),
    "RESERVED_KEYWORDS": SystemView(_columns("RESERVED_KEYWORD_NAME"), _reserved),
    "LOOPBACK_MODELS": SystemView(_columns("MODEL_NAME MODEL_TYPE DIMENSION:i STANDS_FOR:s NOTE:s"), _models),
}  # fmt: skip


def _cell(value: Cell, kind: SqlType) -> str:
    if value is None:
        return f"CAST(NULL AS {types.storage(kind)})"
    if isinstance(value, int):
        return str(value)
    return f"TIMESTAMP {literal(value)}" if kind == TIMESTAMP else literal(value)


def system_view(
    name: str, environment: Environment, taken: Container[str] | None = None
) -> tuple[list[OutColumn], Sql]:
    """Columns and DuckDB SQL of a system view, with the rows that the user may see.

    Parameters
    ----------
    name : str
    environment : Environment
    taken : container of str, optional
        Names of columns that are taken; the time of a query grows with them. Default: all.
    """
    view = SYSTEM_VIEWS[name]
    if name in _CHANGING:
        environment.changing.add(name)
    if name == DUMMY:
        return [OutColumn(DUMMY, view.columns[0][1], Sql("s0"), False)], Sql("SELECT 'X' AS s0")
    columns = [OutColumn(column, kind, Sql(f"s{index}")) for index, (column, kind) in enumerate(view.columns)]
    kinds = [
        (index, kind)
        for index, (column, kind) in enumerate(view.columns)
        if taken is None or column in taken or index == 0
    ]
    rows = [f"({', '.join(_cell(row[index], kind) for index, kind in kinds)})" for row in view.rows(environment)]
    casts = ", ".join(
        f"CAST({f's{index}' if rows else 'NULL'} AS {types.storage(kind)}) AS s{index}" for index, kind in kinds
    )
    if not rows:
        return columns, Sql(f"SELECT {casts} WHERE FALSE")
    names = ", ".join(f"s{index}" for index, _ in kinds)
    return columns, Sql(f"SELECT {casts} FROM (VALUES {', '.join(rows)}) AS s({names})")
