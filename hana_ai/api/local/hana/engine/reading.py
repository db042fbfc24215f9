"""The rows of a query, read from DuckDB as the client asks for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import duckdb

from hana_ai.api.local.hana.errors import from_duckdb
from hana_ai.api.local.hana.interface import Value

CHUNK = 10_000
"""Rows fetched from DuckDB at a time."""

Rows = list[tuple[Value, ...]]


@dataclass(slots=True)
class OpenResult:
    """A result whose rows are still in DuckDB: read them all before the connection runs something else."""

    fetch: Callable[[int], Rows]
    complete: bool = False
    """Whether nothing is left in DuckDB."""
    buffered: deque[Rows] = field(default_factory=deque)

    @classmethod
    def started(cls, running: duckdb.DuckDBPyConnection) -> OpenResult:
        """A result of which the first rows are read."""
        opened = cls(running.fetchmany)
        first = running.fetchmany(CHUNK)
        opened.buffered.append(first)
        if len(first) < CHUNK:
            # DuckDB calls a result unfinished until a fetch has given nothing.
            running.fetchmany(1)
            opened.complete = True
        return opened

    def drain(self) -> None:
        """Take what is left out of DuckDB."""
        while not self.complete:
            self._fetch()

    def _fetch(self) -> None:
        rows = self.fetch(CHUNK)
        if rows:
            self.buffered.append(rows)
        else:
            self.complete = True

    def _chunks(self) -> Iterator[Rows]:
        while True:
            while self.buffered:
                yield self.buffered.popleft()
            if self.complete:
                return
            try:
                self._fetch()
            except duckdb.Error as exc:
                raise from_duckdb(exc) from exc

    def rows(
        self, outputs: Sequence[tuple[int, Callable[[Value], Value]]], counted: Callable[[int], None]
    ) -> Iterator[Sequence[Value]]:
        """The rows, each with the conversions of its columns; `counted` is told how many there are."""
        try:
            for chunk in self._chunks():
                counted(len(chunk))
                if not outputs:
                    yield from chunk
                    continue
                for row in chunk:
                    changed = list(row)
                    for index, convert in outputs:
                        changed[index] = convert(changed[index])
                    yield changed
        finally:
            # Whoever stops reading does not want the rest: it must not be drained for them.
            self.complete = True
            self.buffered.clear()
