"""How far a long job is, where people see it: for the `on_progress` of an ingest, a map or a migration."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TextIO, TypeAlias

from hana_ai.api.catalog.money import dollars
from hana_ai.api.hana.ingest.progress import IngestProgress, clock

if TYPE_CHECKING:
    from hana_ai.api.hana.mapping.job import MapProgress
    from hana_ai.api.hana.migration import MigrationProgress

    Progress: TypeAlias = IngestProgress | MapProgress | MigrationProgress

_BETWEEN_LINES = 10.0
"""Seconds."""


class ProgressLine:
    """Shows progress in one line: it changes in a notebook and at a terminal; a log has one now and then.

    Parameters
    ----------
    file : file object, optional
        Where to, if that is no notebook. Default: standard error.

    Examples
    --------
    ::

        ingest_documents("manuals", "MANUALS", on_progress=ProgressLine())
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self._last = time.monotonic()
        self._display: _Display | None = None

    def __call__(self, now: Progress) -> None:
        """Show how far it is."""
        text = described(now)
        if self._file is None and _is_notebook():
            self._show(text)
            return
        file = self._file or sys.stderr
        if file.isatty():
            # To the beginning of the line, and clear it.
            print(f"\r\x1b[2K{text}", end="\n" if _is_all(now) else "", file=file, flush=True)
        elif time.monotonic() - self._last >= _BETWEEN_LINES or _is_all(now):
            self._last = time.monotonic()
            print(text, file=file, flush=True)

    def _show(self, text: str) -> None:
        import IPython.display

        shown = {"text/plain": text}
        if self._display is None:
            display: Callable[..., _Display] = IPython.display.display
            self._display = display(shown, raw=True, display_id=True)
        else:
            self._display.update(shown, raw=True)


class _Display(Protocol):
    def update(self, shown: dict[str, str], *, raw: bool) -> None: ...


def described(now: Progress) -> str:
    """Progress in one line."""
    if not isinstance(now, IngestProgress):
        tokens = [] if now.tokens is None else [f"{now.tokens:,} tokens"]
        return ", ".join([f"{now.done:,} of {now.total:,} rows", *tokens, dollars(now.cost_usd)])
    total = "" if now.total is None else f" of {now.total:,}"
    parts = [
        f"{now.documents:,}{total} documents",
        f"{now.rows:,} rows",
        f"{now.tokens:,} tokens",
        dollars(now.cost_usd)
        + (f" of about {dollars(now.cost_expected_usd)}" if now.cost_expected_usd is not None else ""),
        f"{now.rows_per_second:,.0f} rows/s",
    ]
    if now.seconds_left is not None:
        parts.append(f"{clock(now.seconds_left)} left")
    return ", ".join(parts)


def _is_all(now: Progress) -> bool:
    done = now.documents if isinstance(now, IngestProgress) else now.done
    return now.total is not None and done >= now.total


def _is_notebook() -> bool:
    """Whether this is the kernel of a notebook; IPython in a terminal is none."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")
