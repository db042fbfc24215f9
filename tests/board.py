"""A pytest plugin: matrices of cells, printed as tables at the end of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest


class Board:
    """A matrix that tests fill in, cell by cell.

    Parameters
    ----------
    name : str
        The heading under which it is printed, unique.
    rows, columns : str
        What they are, in the closing line.
    red : str
        The mark of a cell that is wrong.
    """

    all: dict[str, Board] = {}  # noqa: RUF012 - filled by the boards themselves

    def __init__(self, name: str, rows: str, columns: str, *, red: str = "X") -> None:
        self.name = name
        self._what = (rows, columns)
        self._red = red
        self.cells: list[tuple[str, str, str]] = []
        Board.all[name] = self

    def note(self, row: str, column: str, mark: str) -> None:
        """Fill in a cell with a mark of one letter."""
        self.cells.append((row, column, mark))

    def report(self, columns: Sequence[str] = ()) -> Iterator[str]:
        """The matrix, a line a row; a blank cell has no meaning. Columns are in their order of appearance."""
        columns = list(dict.fromkeys([*columns, *(column for _, column, _ in self.cells)]))
        for number, column in enumerate(columns):
            yield "    " + "| " * number + f"+-- {column}"
        found: dict[str, dict[str, str]] = {}
        for row, column, mark in self.cells:
            found.setdefault(row, {})[column] = mark
        for row, cells in found.items():
            yield "    " + " ".join(cells.get(column, " ") for column in columns) + f"  {row}"
        red = sum(mark == self._red for _, _, mark in self.cells)
        rows, what = self._what
        yield f"{len(self.cells)} cells ({len(found)} {rows}, {len(columns)} {what}), {red} red"


def pytest_sessionfinish(session: pytest.Session) -> None:
    worker: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if worker is not None:
        worker["boards"] = {name: board.cells for name, board in Board.all.items() if board.cells}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Add the cells of a worker of pytest-xdist."""
    output: dict[str, Any] = getattr(node, "workeroutput", {})
    for name, cells in output.get("boards", {}).items():
        board = Board.all.get(name) or Board(name, "rows", "columns")
        board.cells.extend(tuple(cell) for cell in cells)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for board in Board.all.values():
        if board.cells:
            terminalreporter.section(board.name)
            for line in board.report():
                terminalreporter.write_line(line)


FAULTS = Board("faults", "faults", "ways to ask")
DOORS = Board("doors to vector tables", "states of the table and of the routing", "doors")
