"""The shape of parsed SQLScript: routines, anonymous blocks and the statements in them."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlglot import exp

from hana_ai.api.local.hana.interface import SqlType
from hana_ai.api.local.hana.language.syntax import Name, Statement


@dataclass(frozen=True, slots=True)
class Place:
    """Where a statement of a script begins."""

    line: int
    column: int
    position: int
    """Characters from 1."""

    def __str__(self) -> str:
        return f"line {self.line} col {self.column} (at pos {self.position})"


@dataclass(slots=True)
class ScriptType:
    """The type of a variable: a scalar, an array of one, or a table."""

    scalar: SqlType | None = None
    columns: list[tuple[str, SqlType]] = field(default_factory=list)
    array: bool = False

    @property
    def is_table(self) -> bool:
        """Whether it is a table type."""
        return self.scalar is None


@dataclass(slots=True)
class ParameterDef:
    """A parameter of a routine or of an anonymous block."""

    name: str
    mode: str
    """IN, OUT or INOUT."""
    type: ScriptType
    default: exp.Expr | None = None
    argument: exp.Expr | Name | None = None
    """What an anonymous block binds it to: an expression, or a table."""


@dataclass(slots=True)
class ScriptStatement:
    """What every statement inside a script is."""

    place: Place


@dataclass(slots=True)
class Declare(ScriptStatement):
    """DECLARE names type [:= value]."""

    names: list[str]
    type: ScriptType
    value: exp.Expr | None = None
    constant: bool = False


@dataclass(slots=True)
class Assign(ScriptStatement):
    """name := expression."""

    name: str
    value: exp.Expr
    index: exp.Expr | None = None


@dataclass(slots=True)
class AssignTable(ScriptStatement):
    """name = query."""

    name: str
    query: exp.Expr


@dataclass(slots=True)
class AssignUnnest(ScriptStatement):
    """name = UNNEST(:array, ...) AS (columns)."""

    name: str
    arrays: list[str]
    columns: list[str]


@dataclass(slots=True)
class MapMerge(ScriptStatement):
    """name = MAP_MERGE(:table, function(:table.column, ...))."""

    name: str
    table: str
    function: Name
    arguments: list[exp.Expr]


@dataclass(slots=True)
class SelectInto(ScriptStatement):
    """SELECT ... INTO variables."""

    query: exp.Expr
    names: list[str]
    defaults: list[exp.Expr]


@dataclass(slots=True)
class If(ScriptStatement):
    """IF with its ELSEIF and ELSE."""

    branches: list[tuple[exp.Expr, Place, list[ScriptStatement]]]
    otherwise: list[ScriptStatement]


@dataclass(slots=True)
class While(ScriptStatement):
    """WHILE, and LOOP, which has no condition."""

    condition: exp.Expr | None
    body: list[ScriptStatement]


@dataclass(slots=True)
class ForRange(ScriptStatement):
    """FOR name IN [REVERSE] low .. high."""

    name: str
    low: exp.Expr
    high: exp.Expr
    reverse: bool
    body: list[ScriptStatement]


@dataclass(slots=True)
class Leave(ScriptStatement):
    """BREAK or CONTINUE."""

    again: bool


@dataclass(slots=True)
class Return(ScriptStatement):
    """RETURN, with an expression or a query in a function."""

    value: exp.Expr | None = None
    query: exp.Expr | None = None


@dataclass(slots=True)
class Nested(ScriptStatement):
    """BEGIN ... END inside a script."""

    body: list[ScriptStatement]


@dataclass(slots=True)
class Sql(ScriptStatement):
    """An ordinary SQL statement."""

    statement: Statement


@dataclass(slots=True)
class CallRoutine(ScriptStatement):
    """CALL inside a script."""

    name: Name
    arguments: list[tuple[str | None, exp.Expr]]


@dataclass(slots=True)
class Execute(ScriptStatement):
    """EXEC or EXECUTE IMMEDIATE."""

    text: exp.Expr


# --- statements of their own ---
@dataclass(slots=True)
class CreateRoutine(Statement):
    """CREATE FUNCTION or CREATE PROCEDURE."""

    kind: str
    name: Name
    parameters: list[ParameterDef]
    returns: list[ParameterDef]
    """The results of a function; one without a name for RETURNS TABLE (...) or RETURNS type."""
    body: list[ScriptStatement]
    sql: str
    replace: bool = False
    reads_only: bool = False
    invoker: bool = False
    deterministic: bool = False


@dataclass(slots=True)
class Block(Statement):
    """DO BEGIN ... END."""

    parameters: list[ParameterDef]
    body: list[ScriptStatement]


@dataclass(slots=True)
class Call(Statement):
    """CALL as a statement of its own."""

    name: Name
    arguments: list[tuple[str | None, exp.Expr]]
