"""A worker of a run: asks for parts and does some of them at a time, so that the end of one holds up no other."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from decimal import Decimal
from functools import partial
from typing import Protocol

from hana_ai.api.hana.cluster.work import Bench, Counts, Lease, Note, Task
from hana_ai.api.service import ledger_for
from hana_ai.api.transport.shared_limiter import Authority, share_limits

logger = logging.getLogger(__name__)

LANES = 2
"""Parts that a worker does at the same time."""
_BEAT = 1.0


class Desk(Authority, Protocol):
    """The coordinator, as a worker sees it; what it cannot be told or asked raises TogetherAIClusterError."""

    def next_part(self) -> Lease | None:
        """Wait for a part; None if there is none to come."""

    def done(self, number: int) -> None:
        """Say that a part is done."""

    def report(self, counts: Counts, notes: Sequence[Note], *, number: int) -> None:
        """Add to the counts of a part."""

    def fail(self, error: BaseException) -> None:
        """Stop the run."""

    def beat(self) -> bool:
        """Say that one is there; False when it is to leave."""

    def leave(self) -> None:
        """Say that one has ended."""

    def spend(self, cost: Decimal, called_at: float) -> None:
        """Tell what a call has cost."""


def work_at(desk: Desk, load: Callable[[], Task]) -> None:
    """Do parts until there is none left; an error ends the whole run, and is raised where that began."""
    ended = threading.Event()
    left = threading.Event()
    beating = threading.Thread(target=_beat, args=(desk, ended, left), name="cluster-beat", daemon=True)
    beating.start()
    share_limits(desk)
    try:
        task = load()
        if task.usage is not None:
            ledger_for(task.usage).on_cost(desk.spend)
        with closing(task.begin()) as bench:
            lanes = [
                threading.Thread(target=_lane, args=(desk, bench, ended), name=f"cluster-lane-{number}")
                for number in range(LANES)
            ]
            for lane in lanes:
                lane.start()
            for lane in lanes:
                lane.join()
    except BaseException as exc:  # noqa: BLE001 - whoever began the run raises it
        desk.fail(exc)
    finally:
        left.set()
        beating.join()
        share_limits(None)
    desk.leave()


def _beat(desk: Desk, ended: threading.Event, left: threading.Event) -> None:
    while not left.wait(_BEAT):
        try:
            there = desk.beat()
        except Exception:
            logger.exception("the coordinator cannot be reached")
            there = False
        if not there:
            ended.set()


def _lane(desk: Desk, bench: Bench, ended: threading.Event) -> None:
    try:
        while not ended.is_set() and (lease := desk.next_part()) is not None:
            part = pickle.loads(lease.part)
            bench.work(part, lease.counted, partial(desk.report, number=lease.number), ended.is_set)
            if not ended.is_set():
                desk.done(lease.number)
    except BaseException as exc:  # noqa: BLE001 - as above
        ended.set()
        desk.fail(exc)
