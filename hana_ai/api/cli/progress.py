"""How far a long command is: a bar on a terminal, and a line now and then in a log or a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_SECONDS = 10.0
"""Between two lines of a log."""


class Shown:
    """Shows how much is done."""

    def __init__(self, out: Console, what: str, bar: Progress | None, total: int | None) -> None:
        self._out, self._what, self._bar, self._total = out, what, bar, total
        self._task: TaskID | None = None if bar is None else bar.add_task(what, total=total)
        self._told = time.monotonic()

    def update(self, done: int, total: int | None = None, more: str = "") -> None:
        """Tell how much is done, of how much, and what else there is to say."""
        self._total = self._total if total is None else total
        if self._bar is not None and self._task is not None:
            what = f"{self._what} {more}".rstrip()
            self._bar.update(self._task, completed=done, total=self._total, description=what)
        elif time.monotonic() - self._told >= _SECONDS:
            self._told = time.monotonic()
            of = "" if self._total is None else f" of {self._total:,}"
            self._out.print(f"{self._what}: {done:,}{of} {more}".rstrip())


@contextmanager
def progress(out: Console, what: str, total: int | None = None) -> Iterator[Shown]:
    """Show progress for the length of a block.

    Parameters
    ----------
    out : rich.console.Console
        Where to; a bar is drawn only if that is a terminal.
    what : str
        Such as ``"Embedding"``.
    total : int, optional
        How much there is to do; None while that is unknown.
    """
    if not out.is_terminal:
        yield Shown(out, what, None, total)
        return
    from rich.progress import Progress

    with Progress(console=out, transient=True) as bar:
        yield Shown(out, what, bar, total)
