"""`Batches`: runs each batch in the background of the server's event loop until it ends or is ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import orjson

from ...refusal import Refusal
from ..clock import Clock
from ..files import DataFile, FileStore
from ..jobs import Jobs
from .asking import Asking
from .records import WINDOW_HOURS, Batch, BatchDials, End
from .results import Results
from .validation import InvalidInputError, Known, read_plan

_STREAMED = Refusal(400, "A request of a batch cannot stream.", param="stream")


class _FailedError(Exception):
    """A batch that failed as a dial said."""


@dataclass
class _Job:
    """A batch, with what is needed while it runs."""

    batch: Batch
    known: Known
    ask: Asking
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    results: Results | None = None


class Batches(Jobs[_Job]):
    """All batches of the account.

    Examples
    --------
    >>> server.batches.dials.line = 0.5
    >>> server.batches.dials.hour = 0.001
    """

    def __init__(self, files: FileStore, clock: Clock | None = None) -> None:
        super().__init__("Batch", files, clock)
        self.dials = BatchDials()

    @property
    def batches(self) -> list[Batch]:
        """The batches, oldest first."""
        return [job.batch for job in self._jobs.values()]

    def find(self, id: str) -> Batch:
        """A batch by its id; 404 when there is none."""
        return self._job(id).batch

    def start(self, input: DataFile, endpoint: str, model: str, ask: Asking, known: Known) -> Batch:
        """Make a batch and let it run; needs a running event loop."""
        now = self.clock.now()
        batch = Batch(input, endpoint, now, now + WINDOW_HOURS * self.dials.hour, model)
        job = _Job(batch, known, ask)
        self._launch(batch.id, job, self._run(job))
        return batch

    async def finished(self, id: str) -> Batch:
        """Wait until a batch has ended; 404 when there is none."""
        batch = self.find(id)
        if id in self._tasks:
            await asyncio.wait([self._tasks[id]])
        return batch

    async def cancel(self, id: str) -> Batch:
        """Cancel a batch; returns when its files are written.

        Raises
        ------
        Refusal
            404 when there is none, 400 when it has ended.
        """
        if not self.find(id).ended:
            self._jobs[id].stop.set()
            if (batch := await self.finished(id)).status == "CANCELLED":
                return batch
        raise Refusal(400, f"Batch {id} is {self.find(id).status} and cannot be cancelled.")

    async def _run(self, job: _Job) -> None:
        try:
            self._end(job, await self._outcome(job))
        except (InvalidInputError, _FailedError) as exc:
            self._end(job, "FAILED", str(exc))
        except asyncio.CancelledError:
            # The server ends.
            self._end(job, "CANCELLED")
            raise
        except BaseException as exc:
            self._end(job, "FAILED", f"The server failed: {type(exc).__name__}.")
            raise

    async def _outcome(self, job: _Job) -> End:
        """Work until all is done, the batch is cancelled, or its time is over."""
        batch = job.batch
        working = asyncio.ensure_future(self._work(job))
        stopping = asyncio.ensure_future(job.stop.wait())
        expiring = asyncio.ensure_future(self.clock.sleep(batch.deadline - self.clock.now()))
        everything = (working, stopping, expiring)
        try:
            await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
            done, stopped = working.done(), stopping.done()
        finally:
            for one in everything:
                one.cancel()
            await asyncio.wait(everything)
        if done:
            working.result()
            return "COMPLETED"
        return "CANCELLED" if stopped else "EXPIRED"

    def _end(self, job: _Job, status: End, error: str = "") -> None:
        if job.results is not None:
            left = None
            if status != "COMPLETED":
                left = Refusal(400, f"The batch is {status}.", type="batch_error", code=f"batch_{status.lower()}")
            job.batch.output_file_id, job.batch.error_file_id = job.results.close(left)
            job.results = None
        job.batch.end(status, self.clock.now(), error)

    async def _work(self, job: _Job) -> None:
        batch = job.batch
        await self.clock.sleep(self.dials.validating)
        if not batch.input.path.exists():
            raise InvalidInputError(f"File {batch.input.id} has been deleted.")
        # A file that is deleted while it is worked on stays readable.
        with batch.input.path.open("rb") as file:
            plan = await asyncio.to_thread(
                read_plan, batch.input.path, batch.endpoint, batch.model, job.known, self.dials
            )
            batch.begin(len(plan.ids), plan.model)
            job.results = results = Results(self.files, batch.id, plan.ids)
            failure, self.dials.next_failure = self.dials.next_failure, None
            if failure is not None:
                raise _FailedError(failure)
            waiting = iter(range(len(plan.ids)))

            async def worker() -> None:
                for index in waiting:
                    await self.clock.sleep(self.dials.line)
                    body = {"model": plan.model, **plan.body(file, index)}
                    await self._answer(job, results, index, body)

            async with asyncio.TaskGroup() as group:
                for _ in range(self.dials.concurrency):
                    group.create_task(worker())

    async def _answer(self, job: _Job, results: Results, index: int, body: dict[str, object]) -> None:
        if body.get("stream"):
            results.fail(index, _STREAMED.error())
        else:
            results.add(index, await job.ask(job.batch.endpoint, orjson.dumps(body)))
        job.batch.done += 1
