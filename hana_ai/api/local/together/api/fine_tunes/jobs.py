"""`FineTunes`: runs each job in the background of the server's event loop until it ends or is cancelled."""

from __future__ import annotations

import asyncio
import math
import uuid
from contextlib import suppress

from ...engine import LocalModel
from ...refusal import JSON, Refusal
from ...requests import JSONObject
from ..catalog import model_id
from ..clock import Clock, stamp
from ..files import DataFile, FileStore
from ..jobs import Jobs
from ..management import Management
from .data import adapter_files, archive, count_tokens
from .limits import MOST_BATCH, check_limits
from .records import WORK, Checkpoint, FineTune, FineTuneDials, Status

_EVENTS: dict[Status, tuple[str, str]] = {
    "queued": ("job_start", "Job is queued"),
    "running": ("training_start", "Training started"),
    "compressing": ("model_compressing", "Compressing the model"),
    "uploading": ("model_uploading", "Uploading the model"),
}


class FineTunes(Jobs[FineTune]):
    """All fine-tuning jobs of the account.

    Parameters
    ----------
    management
        Where the trained models go.

    Examples
    --------
    >>> server.fine_tunes.dials.step = 0.5
    >>> server.fine_tunes.dials.next_failure = "Out of memory"
    """

    def __init__(self, files: FileStore, management: Management, clock: Clock | None = None) -> None:
        super().__init__("Fine-tune job", files, clock)
        self.management = management
        self.dials = FineTuneDials()
        self._archives: dict[str, DataFile] = {}

    @property
    def jobs(self) -> list[FineTune]:
        """The jobs, oldest first."""
        return list(self._jobs.values())

    def find(self, id: str) -> FineTune:
        """A job by its id; 404 when there is none."""
        return self._job(id)

    def trainable(self, name: object) -> LocalModel:
        """A model that can be trained, by its name or by a job that trained it; 404 when there is none."""
        job = self._jobs.get(str(name).partition(":")[0])
        if job is not None:
            name = job.request["model"]
        for model in self.management.base_models.values():
            if model.id == name and model.type in ("chat", "language"):
                return model
        raise Refusal(404, f"Model {name} is not supported for fine-tuning.", param="model", code="not_found")

    def training_file(self, id: object, param: str) -> DataFile:
        """A file to train or to evaluate with, by its id; 400 when it is none."""
        try:
            file = self.files.find(str(id))
        except Refusal as exc:
            raise Refusal(400, exc.message, param=param) from exc
        if file.purpose != "fine-tune":
            raise Refusal(400, f"File {file.id} has the purpose {file.purpose}, not fine-tune.", param=param)
        return file

    def unavailable(self, fields: JSONObject) -> str | None:
        """Why a price cannot be told yet, in the API's word; None when it can."""
        for param, word in (("training_file", "train"), ("validation_file", "eval")):
            if fields.get(param):
                status = self.training_file(fields[param], param).status(self.files.dials, self.files.clock.now())
                if status != "COMPLETED":
                    return f"{word}_file_{'invalid' if status == 'INVALID_FORMAT' else 'not_validated'}"
        return None

    def estimate(self, fields: JSONObject) -> tuple[int, int, float]:
        """Tokens to train on, tokens to evaluate on, and the price in USD."""
        file = self.training_file(fields["training_file"], "training_file")
        trained = count_tokens(file.path, file.type) * (fields.get("n_epochs") or 1)
        evaluated = 0
        if fields.get("validation_file"):
            other = self.training_file(fields["validation_file"], "validation_file")
            evaluated = count_tokens(other.path, other.type) * (fields.get("n_evals") or 0)
        return trained, evaluated, (trained + evaluated) * self.dials.price / 1e6

    def start(self, fields: JSONObject) -> FineTune:
        """Make a job and let it run; needs a running event loop.

        Raises
        ------
        Refusal
            400 or 404 for a request that cannot be.
        """
        if fields.get("from_checkpoint"):
            fields = {**fields, "model": self._base_of_checkpoint(str(fields["from_checkpoint"]))}
        model = self.trainable(fields.get("model"))
        check_limits(fields, model)
        if (reason := self.unavailable(fields)) is not None:
            raise Refusal(400, f"The files cannot be trained on: {reason}.", param="training_file")
        file = self.training_file(fields["training_file"], "training_file")
        trained, evaluated, price = self.estimate(fields)
        lines = file.report.lines if file.report is not None else None
        suffix = f"-{fields['suffix']}" if fields.get("suffix") else ""
        batch = fields.get("batch_size", "max")
        job = FineTune(
            fields,
            file,
            f"{model.id.rpartition('/')[2]}{suffix}-{uuid.uuid4().hex[:8]}",
            MOST_BATCH if batch == "max" else batch,
            fields.get("n_epochs") or 1,
            lines or 1,
            trained + evaluated,
            price,
        )
        job.note("job_pending", "Job is created")
        self._launch(job.id, job, self._run(job))
        return job

    def _base_of_checkpoint(self, checkpoint: str) -> str:
        job = self.find(checkpoint.partition(":")[0])
        if not job.checkpoints:
            raise Refusal(400, f"Job {job.id} has no checkpoint.", param="from_checkpoint")
        return str(job.request["model"])

    async def cancel(self, id: str) -> FineTune:
        """Ask a job to stop; one that has ended stays as it is."""
        job = self.find(id)
        task = self._tasks.get(id)
        if task is not None and not job.ended and job.status != "cancel_requested":
            job.enter("cancel_requested", "cancel_requested", "Cancellation is requested")
            task.cancel()
            self._tasks[id] = asyncio.ensure_future(self._stop(job))
        return job

    async def _stop(self, job: FineTune) -> None:
        await self.clock.sleep(self.dials.step)
        job.enter("cancelled", "job_stopped", "Job is cancelled")

    def delete(self, id: str, *, force: bool) -> None:
        """Forget a job; one that has not ended only by force. Its models stay."""
        job = self.find(id)
        if not job.ended and not force:
            raise Refusal(400, f"Job {id} is {job.status}; cancel it first, or use force.", param="force")
        if (task := self._tasks.pop(id, None)) is not None:
            task.cancel()
        del self._jobs[id]

    async def _run(self, job: FineTune) -> None:
        with suppress(asyncio.CancelledError):
            await self.clock.sleep(self.dials.step)
            for status in WORK:
                job.enter(status, *_EVENTS[status])
                if status == "running":
                    failure, self.dials.next_failure = self.dials.next_failure, None
                    if failure is not None:
                        job.enter("error", "job_error", failure)
                        return
                    await self._train(job)
                else:
                    await self.clock.sleep(self.dials.step)
            self._finish(job)

    async def _train(self, job: FineTune) -> None:
        """Go through the steps: the loss falls as losses do, the same for the same job's size."""
        rate = float(job.request.get("learning_rate") or 1e-5)
        saved = int(job.request.get("n_checkpoints") or 1)
        marks = {round(job.steps * number / saved) for number in range(1, saved)}
        for step in range(1, job.steps + 1):
            await self.clock.sleep(self.dials.step / job.steps)
            job.step = step
            entry = {
                "train/global_step": float(step),
                "train/epoch": step * job.epochs / job.steps,
                "train/loss": 0.5 + 2.5 * math.exp(-3 * step / job.steps),
                "train/grad_norm": 1.0 / step,
                "train/learning_rate": rate * (1 - (step - 1) / job.steps),
            }
            job.metrics.append((stamp(), entry))
            if step in marks and step < job.steps:
                job.checkpoints.append(Checkpoint(step, final=False))
                job.note("checkpoint_save", f"Checkpoint of step {step} is saved")
            if step * job.epochs % job.steps == 0:
                job.note("epoch_complete", f"Epoch {step * job.epochs // job.steps} is complete")
        job.note("training_complete", "Training is complete")

    def _finish(self, job: FineTune) -> None:
        job.checkpoints.append(Checkpoint(job.steps, final=True))
        base = model_id(self.trainable(job.request["model"]))
        files = adapter_files(str(job.request["model"]), job.request.get("training_type"))
        if job.lora:
            job.adapter = self.management.register(f"{job.output_name}-adapter", "adapter", base, files)
        job.merged = self.management.register(job.output_name, "model", base, {"config.json": b"{}"})
        job.enter("completed", "job_complete", "Job is finished")

    def output(self, job: FineTune, checkpoint: str, step: int | None) -> DataFile:
        """The archive of a checkpoint; 404 when there is none, 400 for one that such a job has not."""
        if step is not None and step not in {one.step for one in job.checkpoints}:
            raise Refusal(404, f"Job {job.id} has no checkpoint of step {step}.", param="checkpoint_step")
        if not job.checkpoints:
            raise Refusal(404, f"Job {job.id} has nothing to download: it is {job.status}.", code="not_found")
        if job.lora == (checkpoint == "model_output_path"):
            raise Refusal(400, f"Job {job.id} has no checkpoint of the kind {checkpoint}.", param="checkpoint")
        last = job.checkpoints[-1].step if step is None else step
        name = f"{job.output_name}-{checkpoint}-{last}.tar.gz"
        if name not in self._archives:
            file = self._archives[name] = self.files.reserve(name, "fine-tune-output", "tar.gz")
            archive(file.path, adapter_files(str(job.request["model"]), job.request.get("training_type")))
        return self._archives[name]

    def metrics(self, job: FineTune, bounds: dict[str, str]) -> list[JSON]:
        """The metrics within bounds; `resolution` is how many to give, evenly spread."""
        low, high = int(bounds.get("global_step_from", 0)), int(bounds.get("global_step_to", job.steps))
        first, last = bounds.get("logged_at_from", ""), bounds.get("logged_at_to", "~")
        found: list[JSON] = [
            dict(entry)
            for logged, entry in job.metrics
            if low <= entry["train/global_step"] <= high and first <= logged <= last
        ]
        wanted = int(bounds.get("resolution", len(found)))
        if wanted < len(found):
            found = [found[index * len(found) // wanted] for index in range(wanted)]
        return found
