"""A compiled script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hana_ai.api.local.hana.engine.planning import CompiledChange
from hana_ai.api.local.hana.interface import HanaError, Parameter
from hana_ai.api.local.hana.language.script_syntax import Place
from hana_ai.api.local.hana.script.running import After, Expression, Frame, Step, placed, run_steps
from hana_ai.api.local.hana.script.steps import ShowRows
from hana_ai.api.local.hana.translation.fragments import Sql
from hana_ai.api.local.hana.translation.scope import Parameters

NO_RETURN = 1306


@dataclass(frozen=True, slots=True)
class Slot:
    """A parameter or a result of a program."""

    name: str
    physical: str
    """The name of its value, or the table of its rows."""
    is_table: bool = False


@dataclass(slots=True)
class Program:
    """A script ready to run; one run at a time, because its tables have fixed names."""

    label: str
    place: Place
    """Where its body begins."""
    inputs: list[Slot] = field(default_factory=list)
    outputs: list[Slot] = field(default_factory=list)
    gives_rows: bool = False
    """Whether it is a table function, which ends with RETURN."""
    empty: dict[str, Sql] = field(default_factory=dict)
    """Table variables that may be read before they get rows, with a query of none."""
    steps: Sequence[Step] = ()
    reads_tables: bool = False

    def run(self, frame: Frame) -> None:
        """Run it; what it gives is in the frame then.

        Raises
        ------
        ScriptError
            With the place of the statement that failed.
        """
        for table, query in self.empty.items():
            frame.fill(table, query, Parameters({}))
        after = run_steps(self.steps, frame)
        if self.gives_rows and after is not After.RETURN:
            raise placed(HanaError(NO_RETURN, "return type mismatch: RETURN is missing"), self.place, self.label)


@dataclass(slots=True)
class TopProgram:
    """An anonymous block or a CALL, with what its parameters are bound to."""

    program: Program
    given: list[tuple[Slot, Expression]] = field(default_factory=list)
    """Scalar parameters and their values."""
    tables: list[tuple[Slot, Sql, Parameters]] = field(default_factory=list)
    """Table parameters and the queries of their rows."""
    outputs: list[Slot] = field(default_factory=list)
    """The results that go to the client's parameters."""
    shown: list[ShowRows] = field(default_factory=list)
    """The tables that the client gets as result sets."""
    written: list[CompiledChange] = field(default_factory=list)
    """What writes OUT tables into tables of the database."""
    parameters: tuple[Parameter, ...] = ()
