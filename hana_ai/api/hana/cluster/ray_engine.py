"""Workers of a Ray cluster: the only module that knows Ray.

Ray Data starts the workers, and starts them again elsewhere when one is lost; each asks the coordinator, a named
actor on the machine that began the run, for parts of the source. So parts are read where they are worked on, a
fast worker does more of them, and no more than a few are in memory, whatever the size of the source.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import pickle
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hana_ai.api.errors import TogetherAIBudgetExceededError, TogetherAIClusterError, TogetherAIInputError
from hana_ai.api.hana.cluster.coordinator import Coordinator, Money, Worker, pickled
from hana_ai.api.hana.cluster.work import Counts, Lease, News, Note, Task, Work
from hana_ai.api.hana.cluster.worker import LANES, work_at
from hana_ai.api.service import ledger_for
from hana_ai.api.transport.shared_limiter import Outcome
from hana_ai.api.usage.ledger import Ledger

logger = logging.getLogger(__name__)

_TELL = 0.25
_ANSWER = 60.0
"""Seconds in which the coordinator answers what it answers at once."""
_START = 300.0
"""Seconds in which it starts."""
_AWAY = (
    "The coordinator of this run cannot be reached, so nobody keeps the limits and the budget: the work was "
    "stopped. What was committed stays; run it again to go on."
)


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as exc:
        raise TogetherAIInputError(
            "engine='ray' needs the package ray: pip install 'hana-ai-together[ray]'"
        ) from exc


@dataclass(frozen=True)
class RayEngine:
    """Does a job on a Ray cluster: the one that this process uses, else that of RAY_ADDRESS, else one of its own.

    Keys and database come from the settings of each worker: TOGETHER_API_KEY, HANA_ADDRESS and the others are set
    where the workers run. The places of the limiter and the budget are shared by all of them.

    Parameters
    ----------
    workers : int, optional
        Default: one for each CPU of the cluster.
    lost_after : float
        Seconds without a word after which a worker's parts go to others.

    Raises
    ------
    TogetherAIInputError
        Ray is not installed, or `workers` is below 1.
    """

    workers: int | None = None
    lost_after: float = 20.0

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise TogetherAIInputError(f"workers is {self.workers}; it must be 1 or more.")
        _ray()

    def run(self, work: Work) -> None:
        """Do a job; see `Engine`.

        Raises
        ------
        TogetherAIClusterError
            The workers cannot work together any more.
        """
        ray = _ray()
        ours = not ray.is_initialized()
        if ours:
            ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.WARNING)
        try:
            _Run(ray, self, work).run()
        finally:
            if ours:
                ray.shutdown()


class _Run:
    """One run on a cluster."""

    def __init__(self, ray: Any, engine: RayEngine, work: Work) -> None:
        self._ray, self._work = ray, work
        task = work.task()
        self._workers = engine.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._ledger: Ledger | None = None if task.usage is None else ledger_for(task.usage)
        self._name = f"hana-ai-together-{uuid.uuid4().hex}"
        affinity = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        node = ray.get_runtime_context().get_node_id()
        self._desk = (
            ray.remote(Coordinator)
            .options(
                name=self._name,
                namespace=_NAMESPACE,
                num_cpus=0,
                max_restarts=0,
                max_concurrency=10_000,
                # A worker's machine may be lost; without this one there is no run.
                scheduling_strategy=affinity(node, soft=False),
            )
            .remote(LANES * self._workers, self._money(), lost_after=engine.lost_after)
        )
        self._task = importlib.import_module("ray.cloudpickle").dumps(task)
        self._errors: list[BaseException] = []
        self._over = threading.Event()

    def _money(self) -> Money | None:
        ledger = self._ledger
        if ledger is None or ledger.budget_usd is None or ledger.budget_period is None:
            return None
        return Money(ledger.budget_usd, ledger.budget_period, ledger.spent_usd)

    def run(self) -> None:
        """Start the workers, feed them, and tell how far they are."""
        _answer(self._ray, self._desk.is_over.remote(), _START)
        feeding = threading.Thread(target=self._feed, name="cluster-feed", daemon=True)
        working = threading.Thread(target=self._staff, name="cluster-staff", daemon=True)
        feeding.start()
        working.start()
        try:
            self._watch()
        except KeyboardInterrupt:
            self._call(self._desk.stop.remote())
            self._watch()
            raise
        finally:
            self._over.set()
            self._dismiss(working)

    def _watch(self) -> None:
        """Take the news until nothing is left to do."""
        while True:
            news: News = self._call(self._desk.news.remote())
            self._work.take(news)
            if self._ledger is not None:
                for cost, called_at in news.costs:
                    self._ledger.count_elsewhere(cost, called_at)
            self._work.tell()
            if news.done:
                break
            if self._errors or self._work.is_stopped():
                self._call(self._desk.stop.remote())
            self._over.wait(_TELL)
        if self._errors:
            raise self._errors[0]
        if news.error is not None:
            raise pickle.loads(news.error)

    def _feed(self) -> None:
        """Offer the parts of the source."""
        dumps = importlib.import_module("ray.cloudpickle").dumps
        try:
            for part in self._work.parts():
                offered = self._desk.offer.remote(dumps(part))
                if self._over.is_set() or not _answer(self._ray, offered, None):
                    return
            self._call(self._desk.end.remote())
        except BaseException as exc:  # noqa: BLE001 - it is raised where the run is watched
            self._errors.append(exc)

    def _staff(self) -> None:
        """Let Ray Data keep the workers at work; it ends when they all have."""
        data = importlib.import_module("ray.data")
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        try:
            places = data.from_items(list(range(self._workers)), override_num_blocks=self._workers)
            staff = places.map_batches(
                _Seat,
                fn_constructor_args=(self._name, self._task),
                batch_size=None,
                compute=data.ActorPoolStrategy(size=self._workers, max_tasks_in_flight_per_actor=1),
                num_cpus=1,
            )
            staff.take_all()
            if not self._over.is_set() and not self._call(self._desk.is_over.remote()):
                self._errors.append(TogetherAIClusterError("All workers of the cluster left before the end."))
        except BaseException as exc:  # noqa: BLE001 - as above
            if not self._over.is_set():
                self._errors.append(TogetherAIClusterError(f"The workers cannot be started or kept: {exc}"))
                self._errors[-1].__cause__ = exc

    def _dismiss(self, working: threading.Thread) -> None:
        """Wait for the workers to leave; those that were lost, and would be waited for, are given up."""
        working.join(5.0)
        with suppress(Exception):
            if working.is_alive():
                # That they are given up is no news to anybody.
                logging.getLogger("ray.data").setLevel(logging.CRITICAL)
                for actor in self._ray.get(self._desk.handles.remote(), timeout=_ANSWER):
                    self._ray.kill(actor, no_restart=True)
                working.join(5.0)
        with suppress(Exception):
            self._ray.kill(self._desk)

    def _call(self, asked: Any) -> Any:
        return _answer(self._ray, asked, _ANSWER)


_NAMESPACE = "hana-ai-together"


def _answer(ray: Any, asked: Any, timeout: float | None) -> Any:
    try:
        return ray.get(asked, timeout=timeout)
    except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as exc:
        raise TogetherAIClusterError(_AWAY) from exc


class _Seat:
    """A worker, as Ray Data makes it; a batch is its number."""

    def __init__(self, name: str, task: bytes) -> None:
        self._name, self._task = name, task

    def __call__(self, numbers: dict[str, Any]) -> dict[str, Any]:
        """Work until there is nothing left to do."""
        ray = _ray()
        desk = ray.get_actor(self._name, namespace=_NAMESPACE)
        me = ray.get_runtime_context().current_actor

        def load() -> Task:
            task: Task = pickle.loads(self._task)
            return task

        for number in numbers["item"]:
            with suppress(TogetherAIClusterError):
                # Again, if this one was only taken for lost.
                while not _answer(ray, desk.is_over.remote(), _ANSWER):
                    turn = _answer(ray, desk.join.remote(int(number), me), _ANSWER)
                    work_at(_RayDesk(ray, desk, (int(number), turn)), load)
        return numbers


class _RayDesk:
    """The coordinator of a run; see `Desk`."""

    def __init__(self, ray: Any, desk: Any, worker: Worker) -> None:
        self._ray, self._desk, self._worker = ray, desk, worker

    def next_part(self) -> Lease | None:
        lease: Lease | None = _answer(self._ray, self._desk.next_part.remote(self._worker), None)
        return lease

    def done(self, number: int) -> None:
        _answer(self._ray, self._desk.done.remote(self._worker, number), _ANSWER)

    def report(self, counts: Counts, notes: Sequence[Note], *, number: int) -> None:
        # Calls of an actor may overtake each other: what follows `done` is not heard.
        _answer(self._ray, self._desk.report.remote(self._worker, number, dict(counts), list(notes)), _ANSWER)

    def fail(self, error: BaseException) -> None:
        logger.error("the worker cannot go on: %s", error)
        with suppress(TogetherAIClusterError):
            _answer(self._ray, self._desk.fail.remote(self._worker, pickled(error)), _ANSWER)

    def beat(self) -> bool:
        return bool(_answer(self._ray, self._desk.beat.remote(self._worker), _ANSWER))

    def leave(self) -> None:
        _answer(self._ray, self._desk.leave.remote(self._worker), _ANSWER)

    def spend(self, cost: Decimal, called_at: float) -> None:
        self._desk.spend.remote(cost, called_at)

    async def take(self, name: str, ceiling: int, timeout: float | None, *, again: bool) -> float | None:
        try:
            async with asyncio.timeout(None if timeout is None else timeout + _ANSWER):
                found = await self._desk.take.remote(self._worker, (name, ceiling), timeout, again=again)
        except (self._ray.exceptions.RayActorError, TimeoutError) as exc:
            raise TogetherAIClusterError(_AWAY) from exc
        if isinstance(found, TogetherAIBudgetExceededError):
            raise found
        granted: float | None = found
        return granted

    def tell(self, name: str, ceiling: int, outcome: Outcome, sent: float = 0.0, wait: float = 0.0) -> None:
        self._desk.tell.remote(self._worker, (name, ceiling), outcome, sent, wait)
