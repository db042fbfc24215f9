"""`Jobs`: what batches, evaluations and fine-tuning jobs of the account have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Generic, TypeVar

from ..refusal import Refusal
from .clock import Clock
from .files import FileStore

JobT = TypeVar("JobT")


class Jobs(Generic[JobT]):
    """Jobs of one kind, each of which runs in the background of the server's event loop.

    Parameters
    ----------
    kind
        What refusals call a job.
    files
        Where their input comes from and their results go.
    """

    def __init__(self, kind: str, files: FileStore, clock: Clock | None) -> None:
        self.files = files
        self.clock = clock or Clock()
        self._kind = kind
        self._jobs: dict[str, JobT] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def _job(self, id: str) -> JobT:
        if id not in self._jobs:
            raise Refusal(404, f"{self._kind} {id} not found.", code="not_found")
        return self._jobs[id]

    def _launch(self, id: str, job: JobT, work: Coroutine[object, object, None]) -> None:
        self._jobs[id] = job
        task = asyncio.ensure_future(work)
        self._tasks[id] = task
        task.add_done_callback(lambda _: self._tasks.pop(id, None))
