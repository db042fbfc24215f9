"""`hana-ai-together ingest`: documents or rows into a vector table, with live progress."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hana_ai.api.catalog.money import dollars
from hana_ai.api.hana.connections import reason_of
from hana_ai.api.hana.ingest.progress import clock
from hana_ai.api.hana.showing import described
from hana_ai.api.settings import TogetherAISettings

from .console import Problem, console, counted
from .engine import chosen_engine
from .vector_stores import hana_connection

if TYPE_CHECKING:
    from hana_ai.api.hana.ingest.job import IngestEstimate, IngestResult
    from hana_ai.api.hana.ingest.progress import IngestProgress

    from .ingest_arguments import IngestArguments

_BETWEEN_LINES = 10.0
"""Seconds between two lines of progress where nobody watches."""
_MOST_SHOWN = 10
_INTERRUPTED = 130


def ingest_source(source: str, table: str, arguments: IngestArguments) -> int:
    """Ingest, or estimate it; returns the exit status: 1 if documents could not be read or embedded.

    Raises
    ------
    Problem
        The database refuses.
    """
    from hana_ai.api.embeddings import TogetherAIEmbeddings
    from hana_ai.api.hana.connections import connect
    from hana_ai.api.hana.ingest.job import WINDOW, IngestInterrupted, estimate_ingest, ingest_documents

    settings = TogetherAISettings()
    engine = chosen_engine(arguments.engine, arguments.workers)
    embedding = TogetherAIEmbeddings(model=arguments.model)
    wanted: dict[str, Any] = {
        "embedding": embedding,
        "schema": arguments.schema or "",
        "name": arguments.name,
        "text_columns": arguments.text,
        "key_columns": arguments.key,
        "metadata_columns": arguments.metadata,
        "chunk_tokens": arguments.chunk_tokens,
        "overlap_tokens": arguments.overlap_tokens,
        "vector_type": "HALF_VECTOR" if arguments.half else "REAL_VECTOR",
        "writers": arguments.writers,
        "window": WINDOW if arguments.window is None else arguments.window,
        "retry_failed": arguments.retry_failed,
    }
    if arguments.engine == "local":
        # Workers elsewhere have settings of their own.
        wanted["connect"] = lambda: connect(settings)
    with _database(settings) as connection:
        if arguments.dry_run:
            return _tell_estimate(estimate_ingest(source, table, connection, **wanted))
        try:
            with _shown() as show:
                done = ingest_documents(
                    source,
                    table,
                    connection,
                    sync=arguments.sync,
                    hnsw=arguments.hnsw,
                    engine=engine,
                    on_progress=show,
                    **wanted,
                )
        except IngestInterrupted as exc:
            _tell_result(exc.result)
            console().print("Stopped. What was sent is written. To go on, run the same command again:")
            console().print(f"  hana-ai-together {shlex.join(sys.argv[1:])}", soft_wrap=True)
            return _INTERRUPTED
    return _tell_result(done)


@contextmanager
def _database(settings: TogetherAISettings) -> Iterator[Any]:
    with hana_connection(settings) as connection:
        from hdbcli import dbapi  # type: ignore[import-untyped]

        try:
            yield connection
        except dbapi.Error as exc:
            raise Problem(f"SAP HANA refused: {reason_of(exc)}") from exc


# --- progress ---


@contextmanager
def _shown() -> Iterator[Callable[[IngestProgress], None]]:
    """What shows progress: one line that changes at a terminal and in notebooks, else a line now and then."""
    from rich.live import Live
    from rich.text import Text

    out = console()
    if not (out.is_terminal or out.is_jupyter):
        yield _Lines()
        return
    with Live(Text(""), console=out, transient=True, auto_refresh=False) as live:
        yield lambda now: live.update(Text(described(now)), refresh=True)


class _Lines:
    """Prints a line when some time has passed, for logs and pipes."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, now: IngestProgress) -> None:
        if time.monotonic() - self._last >= _BETWEEN_LINES:
            self._last = time.monotonic()
            print(described(now), flush=True)


# --- what it tells at the end ---


def _tell_estimate(found: IngestEstimate) -> int:
    out = console()
    out.print(f"{found.corpus} to {found.table}, with {found.model}:")
    out.print(f"  {counted(found.documents, 'document')}, {found.unchanged:,} of them in the table as they are")
    out.print(
        f"  {counted(found.chunks, 'chunk')} of {counted(found.to_write, 'document')} to embed: "
        f"about {found.tokens:,} tokens, {dollars(found.cost_usd)}, {clock(found.seconds)} or more"
    )
    _tell_problems(found.problems, len(found.problems))
    out.print("Nothing was written.")
    return 0


def _tell_result(done: IngestResult) -> int:
    out, now = console(), done.progress
    out.print(
        f"{done.table}: {counted(now.rows, 'row')} of {counted(now.written, 'document')} written "
        f"in {clock(now.seconds)}, {now.tokens:,} tokens, {dollars(now.cost_usd)}, "
        f"{now.rows_per_second:,.0f} rows/s."
    )
    out.print(f"Unchanged: {counted(now.unchanged, 'document')}. Removed: {done.removed:,}.")
    if now.duplicates:
        out.print(f"Left out: {counted(now.duplicates, 'document')} whose name came a second time.")
    if done.index:
        out.print("The vector index was made.")
    bad = now.unreadable + now.failed
    _tell_problems(done.problems, bad)
    return 1 if bad else 0


def _tell_problems(problems: tuple[tuple[str, str], ...], count: int) -> None:
    if not count:
        return
    out = console()
    out.print(f"Not in the table: {counted(count, 'document')}.")
    for source, reason in problems[:_MOST_SHOWN]:
        out.print(f"  {source}: {reason}", markup=False, soft_wrap=True)
    if count > _MOST_SHOWN:
        out.print(f"  and {count - _MOST_SHOWN:,} more: SELECT * FROM HANA_AI_TOGETHER_INGEST_ERRORS")
