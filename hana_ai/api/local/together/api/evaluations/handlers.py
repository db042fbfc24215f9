"""The routes of evaluations."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from ...contract import check_body, check_query
from ...engine import LocalModel
from ...refusal import JSON, Refusal
from ...requests import decode_as
from ..batches.asking import Asking
from ..http import reply
from ..management import Management
from ..routes import refusing, routes_of
from .jobs import Evaluations

_PARAMETERS = {
    "classify": "EvaluationClassifyParameters",
    "score": "EvaluationScoreParameters",
    "compare": "EvaluationCompareParameters",
}
_SOURCES = ("all", "serverless", "dedicated", "external")


def evaluation_routes(evaluations: Evaluations, management: Management, ask: Asking) -> list[BaseRoute]:
    """The routes over the evaluations; what a test wants refused is refused.

    Parameters
    ----------
    ask
        Answers what the judges and the judged models are asked.
    """
    handlers = _Handlers(evaluations, list(management.base_models.values()), ask)

    route = partial(routes_of, refusing(management.check_fault))
    return [
        *route("/v1/evaluation", GET=handlers.list_evaluations, POST=handlers.create),
        *route("/v1/evaluation/model-list", GET=handlers.list_models),
        *route("/v1/evaluation/{id}", GET=handlers.get),
        *route("/v1/evaluation/{id}/status", GET=handlers.status),
    ]


class _Handlers:
    """The handlers of evaluations."""

    def __init__(self, evaluations: Evaluations, models: list[LocalModel], ask: Asking) -> None:
        self._evaluations = evaluations
        self._models = models
        self._ask = ask

    async def create(self, request: Request) -> Response:
        fields = decode_as("EvaluationTypedRequest", await request.body())
        try:
            check_body(_PARAMETERS[fields["type"]], fields["parameters"])
        except Refusal as exc:
            message = exc.message.replace("error: ", "error: parameters.", 1)
            raise Refusal(400, message, param="parameters") from exc
        made = self._evaluations.start(fields["type"], fields["parameters"], self._ask)
        return reply({"workflow_id": made.id, "status": "pending"})

    async def list_evaluations(self, request: Request) -> Response:
        check_query("/v1/evaluation", request.query_params)
        limit, status = int(request.query_params.get("limit", 10)), request.query_params.get("status")
        if not 1 <= limit <= 100:
            raise Refusal(400, f"limit must be 1 to 100, not {limit}.", param="limit")
        found = [one for one in reversed(self._evaluations.evaluations) if status in (None, one.status)]
        return reply([one.wire() for one in found[:limit]])

    async def get(self, request: Request) -> Response:
        return reply(self._evaluations.find(request.path_params["id"]).wire())

    async def status(self, request: Request) -> Response:
        found = self._evaluations.find(request.path_params["id"])
        shown: dict[str, JSON] = {"status": found.status}
        if found.status == "completed":
            shown["results"] = found.results
        return reply(shown)

    async def list_models(self, request: Request) -> Response:
        source = request.query_params.get("model_source", "all")
        if source not in _SOURCES:
            raise Refusal(400, f"model_source must be one of {', '.join(_SOURCES)}.", param="model_source")
        wanted = {"all": (True, False), "serverless": (True,), "dedicated": (False,)}.get(source, ())
        return reply(
            {"model_list": [one.id for one in self._models if one.type == "chat" and one.serverless in wanted]}
        )
