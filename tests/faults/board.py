"""A pytest plugin: what the cells of the matrix came to, printed at the end of the run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Any

import pytest


@dataclass(frozen=True)
class Cell:
    """One fault met by one face."""

    fault: str
    face: str
    problem: str
    """Empty when it ended as it should."""
    seconds: float


CELLS: list[Cell] = []


def report() -> Iterator[str]:
    """The matrix, a line a fault: `.` is right, `X` is wrong, and a blank has no meaning."""
    from tests.faults.faces import FACES

    columns = [f"{face.part} {face.kind} {'async' if face.is_async else 'sync'}" for face in FACES]
    for number, column in enumerate(columns):
        yield "    " + "| " * number + f"+-- {column}"
    found: dict[str, dict[str, Cell]] = {}
    for cell in CELLS:
        found.setdefault(cell.fault, {})[cell.face] = cell
    for fault, cells in found.items():
        marks = [" " if face.name not in cells else "X" if cells[face.name].problem else "." for face in FACES]
        yield "    " + " ".join(marks) + f"  {fault}"
    red = sum(bool(cell.problem) for cell in CELLS)
    yield f"{len(CELLS)} cells ({len(found)} faults, {len(FACES)} ways to ask), {red} red"


def pytest_sessionfinish(session: pytest.Session) -> None:
    worker: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if worker is not None:
        worker["fault_cells"] = [astuple(cell) for cell in CELLS]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Add the cells of a worker of pytest-xdist."""
    output: dict[str, Any] = getattr(node, "workeroutput", {})
    CELLS.extend(Cell(*each) for each in output.get("fault_cells", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if CELLS:
        terminalreporter.section("faults")
        for line in report():
            terminalreporter.write_line(line)
