"""What the commands share: output and failures."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, is_dataclass
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDEST = 100
"""Columns; wider lines are hard to read."""
UNWRAPPED = 10_000
"""Columns of what is piped."""

_PACKAGES = ("together", "langchain-core", "hana-ai", "hana-ml", "hdbcli", "langchain-hana")


class Problem(Exception):  # noqa: N818 - its message is shown to the person at the terminal
    """Something the user can fix; the message is one line that says how."""


def console(*, stderr: bool = False) -> Console:
    """Where the commands write; into a pipe or a file, lines are never wrapped."""
    from rich.console import Console

    made = Console(highlight=False, stderr=stderr)
    made.width = min(made.width, WIDEST) if made.is_terminal or "COLUMNS" in os.environ else UNWRAPPED
    return made


def print_json(value: object) -> None:
    """Print a value for programs: money as numbers, dates as ISO 8601."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=_plain))


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def hanging(first: str, text: str, style: str = "") -> Table:
    """A paragraph after `first`, indented to its first word."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text.from_markup(first), Text(text, style))
    return grid


def duration(seconds: float) -> str:
    """A duration in human-readable form."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def installed_versions() -> Iterator[tuple[str, str]]:
    """The versions of Python and of the packages that this one works with."""
    yield "python", platform.python_version()
    for name in _PACKAGES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, "not installed"


def agreed(what: str, *, yes: bool) -> bool:
    """Whether the person goes along with what is about to happen.

    Raises
    ------
    Problem
        Nobody can be asked.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise Problem(f"{what} To agree, pass --yes.")
    return input(f"{what} Go on? [y/N] ").strip().lower() in ("y", "yes")


def program_of(command: Sequence[str], path: str | None = None) -> str:
    """The file of the program that a command begins with.

    Raises
    ------
    Problem
        There is none on the path.
    """
    name = command[0]
    program = shutil.which(name, path=path)
    if program is None:
        hint = f" To run a Python file: python {name}" if name.endswith(".py") else ""
        raise Problem(f"There is no program {name!r}.{hint}")
    return program


def this_command() -> str:
    """How this command is started here, for people who repeat it: by its name where the path has it."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{shlex.quote(_shown(Path(sys.executable)))} -m hana_ai.api.cli"
    found = shutil.which("hana-ai-together")
    if started.stem != "hana-ai-together" or (found is not None and Path(found).resolve() == started.resolve()):
        return "hana-ai-together"
    return shlex.quote(_shown(started.absolute()))


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def counted(number: int, what: str) -> str:
    """A number of things, in words: 1 row, 2 rows."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
