"""What the cells of the matrix came to, to be printed at the end of the run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.faces import FACES, Face


@dataclass(frozen=True)
class Cell:
    """One fault met by one face."""

    fault: str
    face: Face
    problem: str
    """Empty when it ended as it should."""
    seconds: float


CELLS: list[Cell] = []


def report() -> Iterator[str]:
    """The matrix, a line a fault: `.` is right, `X` is wrong, and a blank has no meaning."""
    columns = [f"{face.part} {face.kind} {'async' if face.is_async else 'sync'}" for face in FACES]
    for number, column in enumerate(columns):
        yield "    " + "| " * number + f"+-- {column}"
    found: dict[str, dict[str, Cell]] = {}
    for cell in CELLS:
        found.setdefault(cell.fault, {})[cell.face.name] = cell
    for fault, cells in found.items():
        marks = [" " if face.name not in cells else "X" if cells[face.name].problem else "." for face in FACES]
        yield "    " + " ".join(marks) + f"  {fault}"
    red = sum(bool(cell.problem) for cell in CELLS)
    yield f"{len(CELLS)} cells ({len(found)} faults, {len(FACES)} ways to ask), {red} red"
