"""Compiled statements, each with what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from hana_ai.api.local.hana.engine.planning import CompiledChange
from hana_ai.api.local.hana.interface import Column, HanaError, Value
from hana_ai.api.local.hana.language import syntax
from hana_ai.api.local.hana.language.script_syntax import Place
from hana_ai.api.local.hana.script.running import After, Expression, Frame, Row, Rows, Step, placed, run_steps
from hana_ai.api.local.hana.translation.fragments import NULL, Sql
from hana_ai.api.local.hana.translation.scope import Parameters, RoutineCall, Variables

NO_DATA = 1299
MANY_ROWS = 1300


@dataclass(frozen=True, slots=True)
class SetScalar(Step):
    """Give a variable a value."""

    name: str
    value: Expression | None

    def run(self, frame: Frame) -> After | None:
        frame.values[self.name] = None if self.value is None else self.value.value(frame)
        return None


@dataclass(frozen=True, slots=True)
class SetElement(Step):
    """Give one element of an array a value."""

    name: str
    index: Expression
    value: Expression

    def run(self, frame: Frame) -> After | None:
        index = self.index.value(frame)
        if not isinstance(index, int) or not 1 <= index <= 2**16:
            raise HanaError(1301, f"numeric or value error: array index {index}")
        before = frame.values.get(self.name)
        array = list(before) if isinstance(before, list) else []
        array += [None] * (index - len(array))
        array[index - 1] = self.value.value(frame)
        frame.values[self.name] = array
        return None


@dataclass(frozen=True, slots=True)
class SetTable(Step):
    """Give a table variable the rows of a query."""

    table: str
    query: Sql
    parameters: Parameters

    def run(self, frame: Frame) -> After | None:
        frame.fill(self.table, self.query, self.parameters)
        return None


@dataclass(frozen=True, slots=True)
class MergeCalls(Step):
    """MAP_MERGE: the rows that a function gives for each row of a table."""

    table: str
    empty: Sql
    """A query of no rows of the function's type."""
    rows: Sql
    """The arguments, a row for each call."""
    parameters: Parameters
    call: RoutineCall

    def run(self, frame: Frame) -> After | None:
        arguments = frame.host.query(self.rows, self.parameters, frame.values)
        frame.fill(self.table, self.empty, Parameters({}))
        for row in arguments:
            frame.host.invoke(self.call, row, f"INSERT INTO {self.table} ")
        return None


@dataclass(frozen=True, slots=True)
class ReadInto(Step):
    """SELECT ... INTO."""

    names: list[str]
    query: Expression
    defaults: list[Expression]

    def run(self, frame: Frame) -> After | None:
        rows = frame.host.query(self.query.sql, self.query.parameters, frame.values)
        if len(rows) > 1:
            raise HanaError(MANY_ROWS, "fetch returns more than requested number of rows")
        found: Row
        if rows:
            found = rows[0]
        elif self.defaults:
            found = [item.value(frame) for item in self.defaults]
        else:
            raise HanaError(NO_DATA, "no data found")
        frame.values.update(zip(self.names, found, strict=True))
        return None


@dataclass(frozen=True, slots=True)
class Branch(Step):
    """IF with all its branches."""

    branches: list[tuple[Expression, Place, Sequence[Step]]]
    otherwise: Sequence[Step]

    def run(self, frame: Frame) -> After | None:
        for condition, place, body in self.branches:
            if _holds(condition, place, frame):
                return run_steps(body, frame)
        return run_steps(self.otherwise, frame)


def _holds(condition: Expression, place: Place, frame: Frame) -> bool:
    try:
        return bool(condition.value(frame))
    except HanaError as exc:
        raise placed(exc, place, frame.label) from exc


@dataclass(frozen=True, slots=True)
class Repeat(Step):
    """WHILE, and LOOP."""

    condition: Expression | None
    body: Sequence[Step]

    def run(self, frame: Frame) -> After | None:
        return _repeated(self._turns(frame), self.body, frame)

    def _turns(self, frame: Frame) -> Iterator[None]:
        while self.condition is None or self.condition.value(frame):
            yield


@dataclass(frozen=True, slots=True)
class CountLoop(Step):
    """FOR i IN low .. high."""

    name: str
    low: Expression
    high: Expression
    reverse: bool
    body: Sequence[Step]

    def run(self, frame: Frame) -> After | None:
        return _repeated(self._turns(frame), self.body, frame)

    def _turns(self, frame: Frame) -> Iterator[None]:
        low, high = self.low.value(frame), self.high.value(frame)
        if not isinstance(low, int) or not isinstance(high, int):
            raise HanaError(1301, "numeric or value error: a bound of FOR is NULL")
        for number in range(high, low - 1, -1) if self.reverse else range(low, high + 1):
            frame.values[self.name] = number
            yield


def _repeated(turns: Iterator[None], body: Sequence[Step], frame: Frame) -> After | None:
    """Run a loop's body once for each turn, until it is left."""
    for _ in turns:
        after = run_steps(body, frame)
        if after is After.LEAVE:
            return None
        if after is After.RETURN:
            return after
    return None


@dataclass(frozen=True, slots=True)
class Inner(Step):
    """BEGIN ... END."""

    body: Sequence[Step]

    def run(self, frame: Frame) -> After | None:
        return run_steps(self.body, frame)


@dataclass(frozen=True, slots=True)
class GoTo(Step):
    """BREAK, CONTINUE, and RETURN without a value."""

    after: After

    def run(self, frame: Frame) -> After | None:
        return self.after


@dataclass(frozen=True, slots=True)
class ReturnRows(Step):
    """RETURN of a table function."""

    query: Sql
    parameters: Parameters

    def run(self, frame: Frame) -> After | None:
        text = Sql(f"{frame.destination}{self.query.text}", self.query.names)
        frame.host.query(text, self.parameters, frame.values)
        return After.RETURN


@dataclass(frozen=True, slots=True)
class ReturnValue(Step):
    """RETURN of a scalar function."""

    name: str
    value: Expression

    def run(self, frame: Frame) -> After | None:
        frame.values[self.name] = self.value.value(frame)
        return After.RETURN


@dataclass(frozen=True, slots=True)
class RunChange(Step):
    """INSERT, UPDATE and the like."""

    change: CompiledChange

    def run(self, frame: Frame) -> After | None:
        frame.host.change(self.change, frame.values)
        return None


@dataclass(frozen=True, slots=True)
class RunOther(Step):
    """A statement that is neither a query nor a change."""

    statement: syntax.Statement

    def run(self, frame: Frame) -> After | None:
        frame.host.other(self.statement, None)
        return None


@dataclass(frozen=True, slots=True)
class CreateFromQuery(Step):
    """CREATE TABLE ... AS, whose query may read the script's variables."""

    rows: SetTable
    statement: syntax.CreateTable
    """The same over the rows that were read first."""
    variables: Variables

    def run(self, frame: Frame) -> After | None:
        self.rows.run(frame)
        frame.host.other(self.statement, self.variables)
        return None


@dataclass(frozen=True, slots=True)
class ShowRows(Step):
    """A query whose rows the client gets."""

    query: Expression
    columns: tuple[Column, ...]
    outputs: list[tuple[int, Callable[[Value], Value]]]

    def run(self, frame: Frame) -> After | None:
        rows = frame.host.query(self.query.sql, self.query.parameters, frame.values)
        frame.results.append(Rows(self.columns, read_rows(rows, self.outputs)))
        return None


def read_rows(
    rows: Sequence[Row], outputs: Sequence[tuple[int, Callable[[Value], Value]]]
) -> list[Sequence[Value]]:
    """Rows with the conversions of their columns."""
    found: list[Sequence[Value]] = []
    for row in rows:
        changed: list[Value] = list(row)  # type: ignore[arg-type]
        for index, convert in outputs:
            changed[index] = convert(changed[index])
        found.append(changed)
    return found


@dataclass(frozen=True, slots=True)
class RunText(Step):
    """EXEC and EXECUTE IMMEDIATE."""

    text: Expression

    def run(self, frame: Frame) -> After | None:
        rows = frame.host.text(str(self.text.value(frame)))
        if rows is not None:
            frame.results.append(rows)
        return None


@dataclass(frozen=True, slots=True)
class CallProcedure(Step):
    """CALL of a procedure."""

    call: RoutineCall
    arguments: list[Expression | str]
    """For a table parameter, the table that a query's rows are put into first."""
    inputs: list[tuple[str, Sql, Parameters]] = field(default_factory=list)
    """The tables of table arguments, and the queries that fill them."""
    outputs: dict[str, str] = field(default_factory=dict)
    """OUT parameters, and the variables or tables that they go to."""

    def run(self, frame: Frame) -> After | None:
        for table, query, parameters in self.inputs:
            frame.fill(table, query, parameters)
        values = [item if isinstance(item, str) else item.value(frame) for item in self.arguments]
        given = frame.host.run_procedure(self.call, values, frame)
        for name, target in self.outputs.items():
            value = given[name]
            if target.startswith("temp."):
                frame.fill(target, Sql(f"SELECT * FROM {value}"), Parameters({}))
                frame.host.drop_rows(str(value))
            else:
                frame.values[target] = value
        return None


ABSENT = Expression(Sql(f"SELECT {NULL.text}"), Parameters({}))
"""The value of an OUT parameter before the call."""
