"""The shape of parsed statements: what the dialect's parser makes and the engine reads.

Expressions and queries stay sqlglot trees; statements are dataclasses, because HANA's statements carry
clauses that sqlglot's own nodes have no place for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sqlglot import exp

from hana_ai.api.local.hana.interface import SqlType


@dataclass(frozen=True, slots=True)
class Name:
    """A possibly qualified name, already folded as HANA folds it."""

    name: str
    schema: str | None = None
    position: int = 0

    @property
    def written(self) -> tuple[str | None, str]:
        """Schema and name."""
        return self.schema, self.name


@dataclass(slots=True)
class ColumnDef:
    """A column of CREATE TABLE or ALTER TABLE."""

    name: str
    type: SqlType | None
    not_null: bool = False
    default: exp.Expr | None = None
    generated: exp.Expr | None = None
    generated_sql: str = ""
    stored: bool = True
    identity: str | None = None
    """ALWAYS or BY DEFAULT."""
    start: int = 1
    increment: int = 1
    primary_key: bool = False
    unique: bool = False
    check: exp.Expr | None = None
    check_sql: str = ""
    references: ForeignKeyDef | None = None
    comment: str | None = None
    nullable_given: bool = False
    default_sql: str = ""


@dataclass(slots=True)
class KeyDef:
    """PRIMARY KEY or UNIQUE."""

    columns: list[str]
    primary: bool
    name: str | None = None


@dataclass(slots=True)
class CheckDef:
    """A CHECK constraint of the table."""

    condition: exp.Expr
    sql: str
    name: str | None = None


@dataclass(slots=True)
class ForeignKeyDef:
    """A FOREIGN KEY constraint."""

    columns: list[str]
    table: Name
    referenced: list[str]
    name: str | None = None
    on_delete: str = "RESTRICT"
    on_update: str = "RESTRICT"


Constraint = KeyDef | CheckDef | ForeignKeyDef


@dataclass(slots=True)
class Statement:
    """What every parsed statement is."""


@dataclass(slots=True)
class Query(Statement):
    """A query as a statement of its own."""

    query: exp.Expr
    for_update: bool = False


@dataclass(slots=True)
class CreateTable(Statement):
    """CREATE TABLE in all its forms."""

    name: Name
    kind: str = "COLUMN"
    temporary: str | None = None
    columns: list[ColumnDef] = field(default_factory=list)
    constraints: list[Constraint] = field(default_factory=list)
    query: exp.Expr | None = None
    with_data: bool = True
    like: Name | None = None
    if_not_exists: bool = False
    column_names: list[str] = field(default_factory=list)
    on_commit_delete: bool = False
    comment: str | None = None


@dataclass(slots=True)
class CreateView(Statement):
    """CREATE VIEW."""

    name: Name
    columns: list[str]
    query: exp.Expr
    sql: str
    replace: bool = False
    comment: str | None = None


@dataclass(slots=True)
class CreateSynonym(Statement):
    """CREATE SYNONYM; a public one has the schema PUBLIC."""

    name: Name
    target: Name
    replace: bool = False


@dataclass(slots=True)
class CreateSchema(Statement):
    """CREATE SCHEMA."""

    name: str
    owner: str | None = None
    if_not_exists: bool = False


@dataclass(slots=True)
class CreateSequence(Statement):
    """CREATE SEQUENCE."""

    name: Name
    start: int | None = None
    increment: int = 1
    minimum: int | None = None
    maximum: int | None = None
    cycle: bool = False


@dataclass(slots=True)
class CreateIndex(Statement):
    """CREATE INDEX, vector indexes too."""

    name: Name
    table: Name
    columns: list[tuple[str, bool]]
    unique: bool = False
    kind: str = ""
    similarity: str | None = None
    if_not_exists: bool = False


@dataclass(slots=True)
class CreateUser(Statement):
    """CREATE USER."""

    name: str
    password: str


@dataclass(slots=True)
class AlterUser(Statement):
    """ALTER USER ... PASSWORD."""

    name: str
    password: str


@dataclass(slots=True)
class Drop(Statement):
    """DROP of anything."""

    kind: str
    name: Name
    behavior: str | None = None
    if_exists: bool = False


@dataclass(slots=True)
class AddColumns(Statement):
    """ALTER TABLE ... ADD (columns)."""

    table: Name
    columns: list[ColumnDef]


@dataclass(slots=True)
class DropColumns(Statement):
    """ALTER TABLE ... DROP (columns)."""

    table: Name
    columns: list[str]


@dataclass(slots=True)
class AlterColumns(Statement):
    """ALTER TABLE ... ALTER (columns)."""

    table: Name
    columns: list[ColumnDef]


@dataclass(slots=True)
class AddConstraint(Statement):
    """ALTER TABLE ... ADD CONSTRAINT."""

    table: Name
    constraint: Constraint


@dataclass(slots=True)
class DropConstraint(Statement):
    """ALTER TABLE ... DROP CONSTRAINT or PRIMARY KEY."""

    table: Name
    name: str | None
    """None drops the primary key."""


@dataclass(slots=True)
class AlterNothing(Statement):
    """A storage clause (load unit, partitions, merge ...) that has no meaning here."""

    table: Name


@dataclass(slots=True)
class RenameTable(Statement):
    """RENAME TABLE."""

    table: Name
    new: str
    new_schema: str | None = None


@dataclass(slots=True)
class RenameColumn(Statement):
    """RENAME COLUMN."""

    table: Name
    column: str
    new: str


@dataclass(slots=True)
class RenameIndex(Statement):
    """RENAME INDEX."""

    index: Name
    new: str
    new_schema: str | None = None


@dataclass(slots=True)
class AlterSequence(Statement):
    """ALTER SEQUENCE."""

    name: Name
    restart: int | None = None
    increment: int | None = None


@dataclass(slots=True)
class Truncate(Statement):
    """TRUNCATE TABLE."""

    table: Name


@dataclass(slots=True)
class Comment(Statement):
    """COMMENT ON."""

    kind: str
    name: Name
    column: str | None
    text: str | None


@dataclass(slots=True)
class Insert(Statement):
    """INSERT, and UPSERT or REPLACE when `upsert` is set."""

    table: Name
    columns: list[str]
    values: list[exp.Expr] | None = None
    query: exp.Expr | None = None
    upsert: bool = False
    with_primary_key: bool = False
    where: exp.Expr | None = None


@dataclass(slots=True)
class Update(Statement):
    """UPDATE."""

    table: Name
    alias: str | None
    assignments: list[tuple[list[str], exp.Expr]]
    source: exp.Expr | None
    where: exp.Expr | None


@dataclass(slots=True)
class Delete(Statement):
    """DELETE."""

    table: Name
    alias: str | None
    where: exp.Expr | None


@dataclass(slots=True)
class MergeWhen:
    """One WHEN of MERGE."""

    matched: bool
    condition: exp.Expr | None
    action: str
    """UPDATE, DELETE or INSERT."""
    assignments: list[tuple[list[str], exp.Expr]] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    values: list[exp.Expr] = field(default_factory=list)


@dataclass(slots=True)
class Merge(Statement):
    """MERGE INTO."""

    table: Name
    alias: str | None
    source: exp.Expr
    condition: exp.Expr
    whens: list[MergeWhen]


@dataclass(slots=True)
class SetSchema(Statement):
    """SET SCHEMA."""

    name: str


@dataclass(slots=True)
class SetVariable(Statement):
    """SET 'variable' = 'value', or UNSET."""

    name: str
    value: str | None


@dataclass(slots=True)
class SetNothing(Statement):
    """SET TRANSACTION and similar: read, accepted, without effect."""


@dataclass(slots=True)
class EndTransaction(Statement):
    """COMMIT or ROLLBACK as SQL text."""

    commit: bool


@dataclass(slots=True)
class Savepoint(Statement):
    """SAVEPOINT, ROLLBACK TO SAVEPOINT or RELEASE SAVEPOINT."""

    name: str
    action: Literal["set", "return", "release"]


@dataclass(slots=True)
class SetAutocommitDdl(Statement):
    """SET TRANSACTION AUTOCOMMIT DDL."""

    on: bool


@dataclass(slots=True)
class SetIsolation(Statement):
    """SET TRANSACTION ISOLATION LEVEL."""

    level: str


@dataclass(slots=True)
class LockTable(Statement):
    """LOCK TABLE ... IN EXCLUSIVE MODE."""

    table: Name
    no_wait: bool


@dataclass(slots=True)
class Grant(Statement):
    """GRANT and REVOKE."""

    privileges: list[str]
    kind: str
    """SCHEMA, OBJECT, or empty for a system privilege."""
    target: Name | None
    user: str
    grant_option: bool = False
    revoke: bool = False
