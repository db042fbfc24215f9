"""What a case of the benchmarks is: who takes part, what a round does, what is expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Bar, Unit


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a contestant runs."""

    url: str
    """Address of the server of `benchmarks.server`, without `/v1`."""
    checkout: Path
    """Root of the project whose provider is measured."""


Run = Callable[[], object]
"""One round. May be a coroutine function; may return a `Round` that it has measured itself."""
Prepare = Callable[[Setting], Run]
"""Import and build what a contestant needs, which is not measured."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """Somebody who takes part, in a process of its own."""

    label: str
    prepare: Prepare


@dataclass(frozen=True, slots=True)
class Case:
    """Some work that several contestants do in turns."""

    name: str
    title: str
    unit: Unit
    contestants: Mapping[str, Contestant]
    """In the order of the table, which need not be that of the rounds."""
    bars: tuple[Bar, ...] = ()
    operations: int = 1
    """How many operations a round consists of; figures are for one."""
    rounds: int = 1
    """Multiplied by the command's `--rounds`."""
    fresh: bool = False
    """Whether every round needs a new process, such as where its peak of memory is measured."""
    heavy: bool = False
    """Whether it runs only if asked for."""
    wall_only: bool = False
    """Whether the CPU time of a contestant's process says nothing of what is measured."""
