"""What travels between the process that began a run, its coordinator and its workers. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from hana_ai.api.usage.key import UsageKey

Counts = Mapping[str, int]
Note = tuple[str, str]
"""Something that is named, and why."""
Report = Callable[[Counts, Sequence[Note]], None]


@dataclass(frozen=True, slots=True)
class Lease:
    """A part that is a worker's to do."""

    number: int
    part: bytes
    """Pickled."""
    counted: Counts = field(default_factory=dict)
    """What a worker that was lost had reported of it."""


@dataclass(frozen=True, slots=True)
class News:
    """What has happened since it was asked for last."""

    counts: Counts
    notes: Sequence[Note]
    finished: Sequence[int]
    """Numbers of parts."""
    costs: Sequence[tuple[Decimal, float]]
    """USD, and when the call began."""
    done: bool
    """Whether nothing is left to do, or under way."""
    error: bytes | None = None
    """Why the run has been stopped, pickled."""


class Bench(Protocol):
    """Where a worker works: its connections and its client."""

    def work(self, part: object, counted: Counts, report: Report, stopped: Callable[[], bool]) -> None:
        """Do a part; what a lost worker has done of it is found in the database.

        `counted` is what that worker has reported, `report` adds to it, and `stopped` tells when to leave early.
        """

    def close(self) -> None:
        """Close the connections."""


class Task(Protocol):
    """What the workers of a run do; it is pickled, without keys and connections."""

    @property
    def usage(self) -> UsageKey | None:
        """Which ledger the calls go to; None if there are none."""

    def begin(self) -> Bench:
        """Make a client and connections from the settings of this process."""


class Work(Protocol):
    """A job as an engine sees it."""

    def here(self) -> None:
        """Do all of it in this process."""

    def task(self) -> Task:
        """What workers do elsewhere."""

    def parts(self) -> Iterator[object]:
        """Yield what they do it to; all can be pickled."""

    def take(self, news: News) -> None:
        """Take note of what they have done."""

    def tell(self) -> None:
        """Show how far it is; called a few times a second."""

    def is_stopped(self) -> bool:
        """Whether whoever began it wants no more."""


class Engine(Protocol):
    """Where a job is done."""

    def run(self, work: Work) -> None:
        """Do all of it.

        Raises
        ------
        KeyboardInterrupt
            After what was under way has been committed.
        Exception
            The first of any stage; what was committed before stays.
        """
