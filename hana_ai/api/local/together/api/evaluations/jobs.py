"""`Evaluations`: runs each evaluation in the background of the server's event loop until it ends."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import orjson

from ...refusal import JSON, Refusal
from ...requests import JSONObject
from ..batches.asking import Asking
from ..clock import Clock
from ..files import DataFile, FileStore
from ..jobs import Jobs
from .judging import Judging, Row
from .records import Evaluation, EvaluationDials, Kind

_CHAT = "/v1/chat/completions"


class Evaluations(Jobs[Evaluation]):
    """All evaluations of the account.

    Examples
    --------
    >>> server.evaluations.dials.step = 0.5
    >>> server.evaluations.dials.next_failure = "The judge is gone"
    """

    def __init__(self, files: FileStore, clock: Clock | None = None) -> None:
        super().__init__("Evaluation", files, clock)
        self.dials = EvaluationDials()

    @property
    def evaluations(self) -> list[Evaluation]:
        """The evaluations, oldest first."""
        return list(self._jobs.values())

    def find(self, id: str) -> Evaluation:
        """An evaluation by its id; 404 when there is none."""
        return self._job(id)

    def start(self, kind: Kind, parameters: JSONObject, ask: Asking) -> Evaluation:
        """Make an evaluation and let it run; needs a running event loop.

        Raises
        ------
        Refusal
            400 for a file that is none of evaluations'.
        """
        try:
            file = self.files.find(parameters["input_data_file_path"])
        except Refusal as exc:
            raise Refusal(400, exc.message, param="parameters") from exc
        if file.purpose != "eval":
            raise Refusal(400, f"File {file.id} has the purpose {file.purpose}, not eval.", param="parameters")
        made = Evaluation(kind, parameters, file)
        self._launch(made.id, made, self._run(made, ask))
        return made

    async def _run(self, job: Evaluation, ask: Asking) -> None:
        await self.clock.sleep(self.dials.step)
        job.enter("queued", "The evaluation is queued.")
        await self.clock.sleep(self.dials.step)
        job.enter("running", "The evaluation runs.")
        failure, self.dials.next_failure = self.dials.next_failure, None
        if failure is not None:
            job.enter("error", failure, {"error": failure})
            return
        if job.file.report is None or not job.file.report.valid:
            said = (
                f"File {job.file.id} cannot be read: {job.file.report.error if job.file.report else 'no report'}"
            )
            job.enter("user_error", said, {"error": said})
            return

        async def answer(body: JSONObject) -> str:
            answered = await ask(_CHAT, orjson.dumps(body))
            said = orjson.loads(answered.body)
            if answered.status != 200:
                raise Refusal(answered.status, str(said.get("error", {}).get("message")))
            return str(said["choices"][0]["message"]["content"])

        judging = Judging(job.type, job.parameters, answer)
        rows = [await judging.judge(row) for row in _rows(job.file)]
        file = self._written(job, rows)
        job.enter("completed", "The evaluation is complete.", judging.results(rows) | {"result_file_id": file.id})

    def _written(self, job: Evaluation, rows: list[Row]) -> DataFile:
        file = self.files.reserve(f"{job.id}-output.jsonl", "eval-output", "jsonl")
        content = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
        file.path.write_bytes(content)
        self.files.add(file, len(content), len(rows))
        return file


def _rows(file: DataFile) -> Iterator[Row]:
    return _csv_rows(file.path) if file.type == "csv" else _jsonl_rows(file.path)


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        for record in csv.DictReader(file):
            yield dict(record)


def _jsonl_rows(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                row: dict[str, JSON] = orjson.loads(line)
                yield row
