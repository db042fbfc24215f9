"""What the binder passes around: translated expressions, the tables of a FROM clause, the parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hana_ai.api.local.hana.catalog.objects import RoutineInfo
from hana_ai.api.local.hana.errors import unknown_column
from hana_ai.api.local.hana.interface import HanaError, SqlType
from hana_ai.api.local.hana.translation.fragments import Sql, compose


@dataclass(slots=True)
class Bound:
    """A HANA expression translated to DuckDB SQL, with its HANA type."""

    sql: Sql
    type: SqlType | None
    """None for NULL and for a parameter whose type is not known yet."""
    nullable: bool = True
    parameter: int | None = None
    """Index of the `?` when the expression is nothing else."""
    exact: bool = False
    """Whether DuckDB's own type is already the one that stores `type`."""
    text: str | None = None
    """The value of a string literal."""
    number: int | None = None
    """The value of an integer literal."""
    origin: tuple[str, str] | None = None
    """Schema and table of a plain column."""
    literal: bool = False
    windowed: Callable[[Sql], Sql] | None = None
    """For the call of an aggregate: the same with an OVER clause."""

    def with_sql(self, changed: Sql) -> Bound:
        """The same type, other SQL."""
        return replace(
            self, sql=changed, parameter=None, exact=False, text=None, number=None, origin=None, literal=False,
            windowed=None,
        )  # fmt: skip


def aggregated(
    call: Sql,
    kind: SqlType | None,
    *,
    nullable: bool = True,
    exact: bool = False,
    finish: Callable[[Sql], Sql] = lambda call: call,
) -> Bound:
    """The call of an aggregate; `finish` is what stands around it, OVER included."""
    return Bound(
        finish(call), kind, nullable, exact=exact, windowed=lambda over: finish(compose("{} {}", call, over))
    )


@dataclass(slots=True)
class OutColumn:
    """A column that a query or a table gives."""

    name: str
    type: SqlType | None
    sql: Sql
    """The quoted DuckDB name inside its relation."""
    nullable: bool = True
    origin: tuple[str, str] | None = None


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
    one_row: bool = False
    """Whether it is DUMMY, which is left out when none of its columns is read."""
    used: bool = False
    """Whether an expression refers to one of its columns."""
    by_name: dict[str, list[OutColumn]] = field(default_factory=dict)

    def reference(self, column: OutColumn) -> Sql:
        """How SQL names a column; without an alias the columns are expressions of their own."""
        self.used = True
        return compose("{}.{}", self.alias, column.sql) if self.alias else column.sql

    def __post_init__(self) -> None:
        for column in self.columns:
            self.by_name.setdefault(column.name, []).append(column)


@dataclass(slots=True)
class BoundQuery:
    """A translated query."""

    sql: Sql
    columns: list[OutColumn]


@dataclass(slots=True)
class Scope:
    """Where names are looked up: this query's tables, then those of the query around it."""

    relations: list[Relation] = field(default_factory=list)
    parent: Scope | None = None
    ctes: dict[str, tuple[str, list[OutColumn]]] = field(default_factory=dict)
    outputs: dict[str, Bound] = field(default_factory=dict)

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
                return Bound(Sql(f'{relation.alias}."_rid"'), None)
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


@dataclass(frozen=True, slots=True)
class TableShape:
    """The rows of a table variable, or those that a function gave."""

    sql: str
    """The table in DuckDB, with the columns c1, c2 ..."""
    columns: list[tuple[str, SqlType]]


@dataclass(frozen=True, slots=True)
class ScalarVariable:
    """A scalar variable of a script."""

    physical: str
    """The name under which its value is passed."""
    type: SqlType
    array: bool = False
    constant: bool = False


@dataclass(slots=True)
class Variables:
    """The variables that a statement of a script sees."""

    scalars: dict[str, ScalarVariable] = field(default_factory=dict)
    tables: dict[str, TableShape] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoutineCall:
    """A user-defined function that a statement calls."""

    routine: RoutineInfo
    arguments: list[Sql]
    """Expressions, and queries for table parameters."""
    name: str
    """The name under which the value is passed, or the number of what is called for each row."""
    table: str = ""
    """Where the rows of a table function go."""
    each: bool = False
    """Whether it is called for each row."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The values of several `?`, passed as one list."""

    names: tuple[str, ...]

    def of(self, values: Mapping[str, object]) -> list[object]:
        """The list, of the values by name."""
        return [values[name] for name in self.names]


@dataclass(slots=True)
class Parameters:
    """The `?` of a statement, and values that the session supplies with each execution."""

    positions: dict[str, int]
    """Where a `?` stands in the text -> its index."""
    types: list[SqlType | None] = field(default_factory=list)
    vectors: dict[int, bool] = field(default_factory=dict)
    """Parameters of TO_REAL_VECTOR (False) and TO_HALF_VECTOR (True): text or bytes come in, a vector goes on."""
    hidden: list[object] = field(default_factory=list)
    """Values, functions of the session that give one, and lists of the statement's own parameters."""
    rows: str | None = None
    """The alias of the relation that holds a batch's rows, None when values are passed one by one."""
    variables: Variables | None = None
    """Those of the script around the statement."""
    calls: list[RoutineCall] = field(default_factory=list)
    """The user-defined functions that the statement calls."""

    def __post_init__(self) -> None:
        if not self.types:
            self.types = [None] * len(self.positions)

    def typed(self, rows: str | None = None) -> Parameters:
        """The same parameters with the types found so far, for another translation of the statement."""
        return Parameters(
            self.positions, list(self.types), dict(self.vectors), rows=rows, variables=self.variables
        )

    def reference(self, index: int) -> Sql:
        """How DuckDB SQL names this `?`."""
        return Sql(f"{self.rows}.p{index}") if self.rows else Sql(f"$p{index}", frozenset({f"p{index}"}))

    def gather(self, indexes: Sequence[int]) -> Sql:
        """Pass the values of several `?` as one list."""
        return self.hide(Gathered(tuple(f"p{index}" for index in indexes)))

    def hide(self, value: object) -> Sql:
        """Pass a value, or what a function of the session gives, beside the statement's own parameters."""
        self.hidden.append(value)
        name = f"h{len(self.hidden) - 1}"
        return Sql(f"${name}", frozenset({name}))
