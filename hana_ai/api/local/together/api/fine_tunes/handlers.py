"""The routes of fine-tuning."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import islice

import orjson
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute

from ...contract import check_query
from ...refusal import JSON, Refusal
from ...requests import decode, decode_as
from ..clock import stamp
from ..http import reply
from ..management import STORAGE_PATH
from ..routes import refusing, routes_of
from .data import read_rows
from .jobs import FineTunes
from .limits import model_limits
from .records import FineTune

_DATASETS = STORAGE_PATH + "datasets/"
_MOST_ROWS = 100
_METRICS = {"global_step_from", "global_step_to", "resolution"}


def fine_tune_routes(jobs: FineTunes) -> list[BaseRoute]:
    """The routes over the jobs; what a test wants refused is refused."""
    handlers = _Handlers(jobs)

    route = partial(routes_of, refusing(jobs.management.check_fault))
    return [
        *route("/v1/fine-tunes", GET=handlers.list_jobs, POST=handlers.create),
        *route("/v1/fine-tunes/estimate-price", POST=handlers.estimate),
        *route("/v1/fine-tunes/preview", POST=handlers.preview),
        *route("/v1/fine-tunes/models/limits", GET=handlers.limits),
        *route("/v1/fine-tunes/models/supported", GET=handlers.supported),
        *route("/v1/fine-tunes/{id}", GET=handlers.get, DELETE=handlers.delete),
        *route("/v1/fine-tunes/{id}/cancel", POST=handlers.cancel),
        *route("/v1/fine-tunes/{id}/events", GET=handlers.events),
        *route("/v1/fine-tunes/{id}/checkpoints", GET=handlers.checkpoints),
        *route("/v1/fine-tunes/{id}/metrics", GET=handlers.metrics),
        *route("/v1/fine-tunes/{id}/download-tokenized-dataset", GET=handlers.dataset),
        *route("/v1/finetune/download", GET=handlers.download),
        *route(_DATASETS + "{id}/{token}", GET=handlers.dataset_content),
    ]


class _Handlers:
    """The handlers of fine-tuning."""

    def __init__(self, jobs: FineTunes) -> None:
        self._jobs = jobs

    def _job(self, request: Request) -> FineTune:
        return self._jobs.find(request.path_params["id"])

    async def create(self, request: Request) -> Response:
        fields = decode_as("FineTuneRequest", await request.body())
        return reply(self._jobs.start(fields).summary())

    async def list_jobs(self, request: Request) -> Response:
        return reply({"data": [job.summary() for job in reversed(self._jobs.jobs)]})

    async def get(self, request: Request) -> Response:
        return reply(self._job(request).wire())

    async def cancel(self, request: Request) -> Response:
        return reply((await self._jobs.cancel(request.path_params["id"])).summary())

    async def delete(self, request: Request) -> Response:
        check_query("/v1/fine-tunes/{id}", request.query_params)
        id: str = request.path_params["id"]
        self._jobs.delete(id, force=request.query_params.get("force") == "true")
        return reply({"message": f"Fine-tune job {id} is deleted."})

    async def events(self, request: Request) -> Response:
        return reply({"data": self._job(request).events})

    async def checkpoints(self, request: Request) -> Response:
        return reply({"data": self._job(request).listed_checkpoints()})

    async def metrics(self, request: Request) -> Response:
        bounds = dict(request.query_params)
        for name in _METRICS & bounds.keys():
            if not bounds[name].isdecimal():
                raise Refusal(400, f"{name} must be an integer, not {bounds[name]!r}.", param=name)
        return reply({"metrics": self._jobs.metrics(self._job(request), bounds)})

    async def estimate(self, request: Request) -> Response:
        fields = decode_as("FineTunePriceRequest", await request.body())
        self._jobs.training_file(fields["training_file"], "training_file")
        if (reason := self._jobs.unavailable(fields)) is not None:
            return reply({"estimation_available": False, "unavailable_reason": reason})
        trained, evaluated, price = await asyncio.to_thread(self._jobs.estimate, fields)
        limit = self._jobs.dials.limit
        return reply(
            {
                "estimation_available": True,
                "allowed_to_proceed": price <= limit,
                "estimated_total_price": price,
                "estimated_train_token_count": trained,
                "estimated_eval_token_count": evaluated,
                "user_limit": limit,
            }
        )

    async def preview(self, request: Request) -> Response:
        fields = decode(await request.body())
        if not isinstance(fields.get("model"), str) or not isinstance(fields.get("training_file"), str):
            raise Refusal(400, "model and training_file are required and must be strings.", param="model")
        model = self._jobs.trainable(fields["model"])
        file = self._jobs.training_file(fields["training_file"], "training_file")
        if file.type == "parquet" or file.report is None or not file.report.valid:
            raise Refusal(400, f"File {file.id} cannot be previewed.", param="training_file")
        wanted = fields.get("top_k", 10)
        if not isinstance(wanted, int) or isinstance(wanted, bool) or not 1 <= wanted <= _MOST_ROWS:
            raise Refusal(400, f"top_k must be 1 to {_MOST_ROWS}, not {wanted!r}.", param="top_k")
        inputs = bool(fields.get("train_on_inputs", False))
        rows = islice(read_rows(file.path, file.type, train_on_inputs=inputs), wanted)
        return reply(
            {
                "dataset_format": (file.report.format or "general").lower(),
                "max_seq_length": model.context_length,
                "model": model.id,
                "rows": [row.wire(model.context_length) for row in rows],
                "train_on_inputs": inputs,
            }
        )

    async def limits(self, request: Request) -> Response:
        check_query("/v1/fine-tunes/models/limits", request.query_params)
        name = request.query_params["model_name"]
        try:
            return reply(model_limits(self._jobs.trainable(name)))
        except Refusal as exc:
            # The document has the message where other errors have an object.
            return reply({"message": exc.message, "error": exc.error()}, exc.status)

    async def supported(self, request: Request) -> Response:
        models = self._jobs.management.base_models.values()
        return reply({"models": [model.id for model in models if model.type in ("chat", "language")]})

    async def download(self, request: Request) -> Response:
        check_query("/v1/finetune/download", request.query_params)
        query = request.query_params
        job = self._jobs.find(query["ft_id"])
        step = int(query["checkpoint_step"]) if "checkpoint_step" in query else None
        kind = query.get("checkpoint", "merged" if job.lora else "model_output_path")
        file = self._jobs.output(job, kind, step)
        return FileResponse(file.path, media_type="application/octet-stream", filename=file.filename)

    async def dataset(self, request: Request) -> Response:
        job = self._job(request)
        if not job.started_at or job.file.type == "parquet":
            raise Refusal(404, f"Job {job.id} has no tokenized data set: it is {job.status}.", code="not_found")
        content = self._tokenized(job)
        return reply(
            {
                "content_type": "application/jsonl",
                "expires_at": stamp(),
                "filename": f"{job.id}-tokenized.jsonl",
                "size": len(content),
                "url": f"{str(request.base_url).rstrip('/')}{_DATASETS}{job.id}/{job.file.token}",
            }
        )

    async def dataset_content(self, request: Request) -> Response:
        job = self._job(request)
        if request.path_params["token"] != job.file.token:
            raise Refusal(403, "The address is not valid, or no longer.", code="access_denied")
        return Response(self._tokenized(job), media_type="application/jsonl")

    def _tokenized(self, job: FineTune) -> bytes:
        longest = job.request.get("max_seq_length") or self._jobs.trainable(job.request["model"]).context_length
        rows: list[dict[str, JSON]] = [
            row.wire(longest) for row in read_rows(job.file.path, job.file.type, train_on_inputs=False)
        ]
        kept = ({name: row[name] for name in ("input_ids", "labels")} for row in rows)
        return b"".join(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in kept)
