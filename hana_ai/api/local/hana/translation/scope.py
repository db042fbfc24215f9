"""What the binder passes around: translated expressions, the tables of a FROM clause, the parameters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hana_ai.api.local.hana.errors import unknown_column
from hana_ai.api.local.hana.interface import HanaError, SqlType

AGGREGATE_END = "\x01"
"""Stands behind an aggregate's call in generated SQL, where OVER (...) belongs; removed when there is none."""


@dataclass(slots=True)
class Bound:
    """A HANA expression translated to DuckDB SQL, with its HANA type."""

    sql: str
    type: SqlType | None
    """None for NULL and for a parameter whose type is not known yet."""
    nullable: bool = True
    parameter: int | None = None
    """Index of the `?` when the expression is nothing else."""
    exact: bool = False
    """Whether DuckDB's own type is already the one that stores `type`."""
    text: str | None = None
    """The value of a string literal."""
    origin: tuple[str, str] | None = None
    """Schema and table of a plain column."""
    literal: bool = False

    def with_sql(self, sql: str) -> Bound:
        """The same type, other SQL."""
        return replace(self, sql=sql, parameter=None, exact=False, text=None, origin=None, literal=False)


@dataclass(slots=True)
class OutColumn:
    """A column that a query or a table gives."""

    name: str
    type: SqlType | None
    sql: str
    """The quoted DuckDB name inside its relation."""
    nullable: bool = True
    origin: tuple[str, str] | None = None
    parameter: int | None = None


@dataclass(slots=True)
class Relation:
    """One entry of FROM."""

    alias: str
    """DuckDB's alias, unique in the statement."""
    columns: list[OutColumn]
    name: str | None = None
    """The HANA alias or table name that may qualify its columns."""
    schema: str | None = None
    nullable: bool = False
    """Whether an outer join can fill its columns with NULL."""
    row_id: bool = False
    by_name: dict[str, list[OutColumn]] = field(default_factory=dict)

    def reference(self, column: OutColumn) -> str:
        """How SQL names a column; without an alias the columns are expressions of their own."""
        return f"{self.alias}.{column.sql}" if self.alias else column.sql

    def __post_init__(self) -> None:
        for column in self.columns:
            self.by_name.setdefault(column.name, []).append(column)


@dataclass(slots=True)
class BoundQuery:
    """A translated query."""

    sql: str
    columns: list[OutColumn]


@dataclass(slots=True)
class Scope:
    """Where names are looked up: this query's tables, then those of the query around it."""

    relations: list[Relation] = field(default_factory=list)
    parent: Scope | None = None
    ctes: dict[str, tuple[str, list[OutColumn]]] = field(default_factory=dict)
    outputs: dict[str, Bound] = field(default_factory=dict)
    grouped: bool = False
    correlated: bool = False

    def cte(self, name: str) -> tuple[str, list[OutColumn]] | None:
        """A common table expression by name, in this query or around it."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.ctes:
                return scope.ctes[name]
            scope = scope.parent
        return None

    def column(self, name: str, table: str | None, schema: str | None, position: int) -> Bound | None:
        """The column of this name, None when nothing here or around has it.

        Raises
        ------
        HanaError
            268 when two tables have it, 260 when the named table has not.
        """
        scope: Scope | None = self
        while scope is not None:
            found = scope._own(name, table, schema, position)
            if found is not None:
                return found
            scope = scope.parent
        return None

    def _own(self, name: str, table: str | None, schema: str | None, position: int) -> Bound | None:
        hits = []
        named = False
        for relation in self.relations:
            if table is not None and (
                relation.name != table or (schema and relation.schema not in {None, schema})
            ):
                continue
            named = True
            if name == "$rowid$" and relation.row_id:
                return Bound(f'{relation.alias}."_rid"', None)
            hits += [(relation, column) for column in relation.by_name.get(name, ())]
        if len(hits) > 1:
            raise HanaError(268, f"column ambiguously defined: {name}", position)
        if hits:
            relation, column = hits[0]
            return Bound(
                relation.reference(column),
                column.type,
                column.nullable or relation.nullable,
                exact=True,
                origin=column.origin,
            )
        if named and table is not None:
            raise unknown_column(f"{table}.{name}", position)
        return None


@dataclass(slots=True)
class Parameters:
    """The `?` of a statement, and values that the session supplies with each execution."""

    positions: dict[str, int]
    """Where a `?` stands in the text -> its index."""
    types: list[SqlType | None] = field(default_factory=list)
    vectors: dict[int, bool] = field(default_factory=dict)
    """Parameters of TO_REAL_VECTOR (False) and TO_HALF_VECTOR (True): text or bytes come in, a vector goes on."""
    hidden: list[object] = field(default_factory=list)
    """Values, or functions of the session that give one."""
    rows: str | None = None
    """The alias of the relation that holds a batch's rows, None when values are passed one by one."""
    used: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.types = [None] * len(self.positions)

    def reference(self, index: int) -> str:
        """How DuckDB SQL names this `?`."""
        self.used.add(index)
        return f"{self.rows}.p{index}" if self.rows else f"$p{index}"

    def hide(self, value: object) -> str:
        """Pass a value, or what a function of the session gives, beside the statement's own parameters."""
        self.hidden.append(value)
        return f"$h{len(self.hidden) - 1}"
