"""An ingest as an engine sees it: all of it here, or in parts on other machines, through the same pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from hana_ai.api.hana.cluster.work import Counts, News, Report
from hana_ai.api.hana.cluster.worker import LANES
from hana_ai.api.hana.ingest.documents import Unreadable, place_of
from hana_ai.api.hana.ingest.parts import Item, Listed, Part, parts_of
from hana_ai.api.hana.ingest.plan import Plan
from hana_ai.api.hana.ingest.progress import Counter
from hana_ai.api.hana.ingest.sources import Source
from hana_ai.api.hana.ingest.target import Target
from hana_ai.api.usage.key import UsageKey


class IngestWork:
    """One run over one source; see `Work`.

    Parameters
    ----------
    plan : Plan
    source : Source
    target : Target
        Prepared.
    counter : Counter
    tell : callable
        Shows how far it is.
    part_size : int, optional
        Documents in a part.
    """

    def __init__(
        self,
        plan: Plan,
        source: Source,
        target: Target,
        counter: Counter,
        *,
        tell: Callable[[], None],
        part_size: int | None = None,
    ) -> None:
        self._plan = replace(plan, started=target.started)
        self._source = source
        self._target = target
        self._counter = counter
        self.tell = tell
        self._part_size = part_size
        self._under_way: set[str] = set()
        self._places: dict[int, tuple[str, ...]] = {}

    def here(self) -> None:
        """Do all of it in this process."""
        pipeline = self._plan.pipeline(self._target, self._counter, self._plan.embedder())
        pipeline.run(self._source, self.tell)

    def task(self) -> IngestTask:
        """What workers do."""
        return IngestTask(self._plan)

    def parts(self) -> Iterator[Part]:
        """The parts of the source; a document whose name is under way is left out, and counted."""
        for number, part in enumerate(parts_of(self._source, self._part_size, self._is_second)):
            if isinstance(part, Listed):
                documents = [item for item in part.items if not isinstance(item, Unreadable)]
                self._places[number] = tuple(place_of(self._plan.corpus, document) for document in documents)
            yield part

    def is_stopped(self) -> bool:
        """Ctrl-C is all that stops it."""
        return False

    def _is_second(self, item: Item) -> bool:
        if isinstance(item, Unreadable):
            return False
        place = place_of(self._plan.corpus, item)
        if place in self._under_way:
            self._counter.add(duplicates=1, documents=1)
            return True
        self._under_way.add(place)
        return False

    def take(self, news: News) -> None:
        """Take note of what workers have done."""
        self._counter.add(**news.counts)
        for source, reason in news.notes:
            self._counter.problem(source, reason)
        for number in news.finished:
            # The database knows them from now on.
            self._under_way.difference_update(self._places.pop(number, ()))


@dataclass(frozen=True)
class IngestTask:
    """What a worker of an ingest does."""

    plan: Plan

    @property
    def usage(self) -> UsageKey | None:
        """Which ledger the requests go to."""
        return self.plan.usage

    def begin(self) -> IngestBench:
        """Connect to the database, and make the client."""
        return IngestBench(self.plan)


class IngestBench:
    """Where a worker reads, embeds and writes; its parts share connections and the embedder."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        # Of each pipeline, one that reads the source, two for what is known of documents, and those that write.
        self._connections = plan.connections(LANES * (3 + plan.writers))
        self._target = plan.joined(self._connections)
        self._embedder = plan.embedder()

    def work(self, part: object, counted: Counts, report: Report, stopped: Callable[[], bool]) -> None:
        """Ingest the documents of a part."""
        counter = ReportingCounter(report, counted)
        pipeline = self._plan.pipeline(self._target, counter, self._embedder, lanes=LANES, takes_over=True)

        def look_up() -> None:
            if stopped():
                pipeline.stop()

        pipeline.run(cast("Part", part).documents(self._connections), look_up)

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()


class ReportingCounter(Counter):
    """Counts for somebody else.

    Parameters
    ----------
    report : callable
    counted : mapping
        What a worker that was lost had counted of the same documents: they are met again, and not counted again.
    """

    def __init__(self, report: Report, counted: Counts) -> None:
        super().__init__(None, lambda _: None)
        self._report: Callable[[Counts, Sequence[tuple[str, str]]], None] = report
        # What could not be read is read again; all others are recorded, and look like second ones.
        unreadable = counted.get("unreadable", 0)
        self._again = counted.get("documents", 0) - unreadable
        if unreadable:
            report({"documents": -unreadable, "unreadable": -unreadable}, ())

    def add(self, **counts: int) -> None:
        """Add to the counts of these names."""
        seen = 0
        with self._lock:
            if counts.keys() == {"duplicates", "documents"}:
                seen = min(self._again, counts["duplicates"])
                self._again -= seen
        told = {name: count - seen for name, count in counts.items() if count != seen}
        if told:
            self._report(told, ())

    def problem(self, source: str, reason: str) -> None:
        """Name a document and what is wrong with it."""
        self._report({}, ((source, reason),))
