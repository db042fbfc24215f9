"""A map as an engine sees it: all rows here, or ranges of them on other machines, through the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from threading import Event
from typing import cast

from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.cluster.work import Counts, News, Report
from hana_ai.api.hana.cluster.worker import LANES
from hana_ai.api.hana.connections import Connection, Connections, connect
from hana_ai.api.hana.mapping.online import OnlineRun
from hana_ai.api.hana.mapping.result_table import ResultTable, Spent
from hana_ai.api.hana.mapping.stages import Key
from hana_ai.api.hana.table_copy import read_layout
from hana_ai.api.usage.key import UsageKey

_PROMPT, _COMPLETION = "prompt", "completion"
_UNKNOWN = "unknown "
_NOT_UNIQUE = 301


@dataclass(frozen=True)
class Between:
    """The rows behind a key, up to and with another one."""

    after: Key | None
    until: Key


class MapWork:
    """A run over the rows that are missing, here or on workers; see `Work`.

    `connect` opens the connections of workers.
    """

    def __init__(self, run: OnlineRun, connect: Callable[[], Connection] | None) -> None:
        self._run = run
        self._connect = connect

    @property
    def spent(self) -> Spent:
        """What it has taken so far."""
        return self._run.spent

    def here(self) -> None:
        """Ask about all rows in this process."""
        self._run.run()

    def task(self) -> MapTask:
        """What workers do."""
        return MapTask(self._run.result.over(None), self._run.chat, self._run.size, self._connect)

    def parts(self) -> Iterator[Between]:
        """Ranges of the keys that are missing, a batch in each."""
        result, size = self._run.result, self._run.size
        keys = (key for key, _ in result.source.rows(result.name, (), max(size, 1000)))
        after: Key | None = None
        while not self.is_stopped() and (group := list(islice(keys, size))):
            yield Between(after, group[-1])
            after = group[-1]

    def take(self, news: News) -> None:
        """Add what workers have spent."""
        counts, spent = news.counts, self.spent
        if not counts:
            return
        spent.asked += counts.get("asked", 0)
        spent.cached += counts.get("cached", 0)
        spent.prompt = _added(spent.prompt, counts, _PROMPT)
        spent.completion = _added(spent.completion, counts, _COMPLETION)
        self._run.told(spent)

    def tell(self) -> None:
        """Nothing: what has been committed is told as it comes."""

    def is_stopped(self) -> bool:
        """Whether no further row is to be asked."""
        return self._run.stop.is_set()


def _added(before: int | None, counts: Counts, name: str) -> int | None:
    return None if before is None or counts.get(_UNKNOWN + name) else before + counts.get(name, 0)


@dataclass(frozen=True)
class MapTask:
    """What a worker of a map does."""

    result: ResultTable
    """Without a connection."""
    chat: ChatTogetherAI
    batch_size: int
    connect: Callable[[], Connection] | None

    @property
    def usage(self) -> UsageKey | None:
        """Which ledger the requests go to."""
        return self.chat._usage

    def begin(self) -> MapBench:
        """Connect to the database, and make the client."""
        return MapBench(self)


class MapBench:
    """Where a worker asks and writes.

    Raises
    ------
    TogetherAIInputError
        This process reaches another database than the one that began the run.
    """

    def __init__(self, task: MapTask) -> None:
        self._task = task
        self._connections = Connections(connect=task.connect or connect, limit=LANES)
        result = task.result
        with self._connections.lease() as connection:
            if read_layout(connection, result.schema, result.table) is None:
                raise TogetherAIInputError(
                    f"There is no table {result.name} in the worker's database. Set HANA_ADDRESS and the others "
                    "where the workers run to those of the process that began the run."
                )

    def work(self, part: object, counted: Counts, report: Report, stopped: Callable[[], bool]) -> None:
        """Ask about the rows of a range that are missing."""
        rows, before = cast("Between", part), Spent()

        def told(spent: Spent) -> None:
            counts = {"asked": spent.asked - before.asked, "cached": spent.cached - before.cached}
            before.asked, before.cached = spent.asked, spent.cached
            for name in (_PROMPT, _COMPLETION):
                now = getattr(spent, name)
                if now is None:
                    counts[_UNKNOWN + name] = 1
                else:
                    counts[name] = now - getattr(before, name)
                    setattr(before, name, now)
            report(counts, ())

        # All lanes together have no more rows under way than a run in one process.
        size, between = max(1, self._task.batch_size // LANES), (rows.after, rows.until)
        from hdbcli import dbapi  # type: ignore[import-untyped]

        with self._connections.lease() as connection:
            result = self._task.result.over(connection)
            try:
                OnlineRun(result, self._task.chat, size, told, _Asked(stopped), between=between).run()
            except dbapi.Error as exc:
                if exc.errorcode != _NOT_UNIQUE:
                    raise
                # A worker that was taken for lost has written some of them.
                before.asked = before.cached = before.prompt = before.completion = 0
                OnlineRun(result, self._task.chat, size, told, _Asked(stopped), between=between).run()

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()


class _Asked(Event):
    """An event that is set once a question is answered with yes."""

    def __init__(self, question: Callable[[], bool]) -> None:
        super().__init__()
        self._question = question

    def is_set(self) -> bool:
        """Whether it is."""
        return self._question()
