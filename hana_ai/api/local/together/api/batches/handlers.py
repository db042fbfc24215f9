"""The routes of batches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ...contract import check_body
from ...refusal import JSON, Refusal
from ...requests import decode
from ..http import reply
from ..management import Management
from ..management.fields import text
from .asking import Asking
from .jobs import Batches
from .records import WINDOW_HOURS
from .validation import Known

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


def batch_routes(batches: Batches, management: Management, ask: Asking, known: Known) -> list[BaseRoute]:
    """The routes over the batches; what a test wants refused is refused.

    Parameters
    ----------
    ask
        Answers the requests of batches.
    known
        Raises `Refusal` for a model that does not answer at an endpoint.
    """
    handlers = _Handlers(batches, ask, known)

    def answered(handler: Handler) -> Handler:
        async def answering(request: Request) -> Response:
            try:
                management.check_fault(request.method, request.url.path)
                return await handler(request)
            except Refusal as exc:
                # The document's BatchErrorResponse has a string where other errors have an object.
                return reply({"error": exc.message}, exc.status, exc.headers)

        return answering

    return [
        Route("/v1/batches", answered(handlers.create), methods=["POST"]),
        Route("/v1/batches", answered(handlers.list_batches), methods=["GET"]),
        Route("/v1/batches/{id}", answered(handlers.get), methods=["GET"]),
        Route("/v1/batches/{id}/cancel", answered(handlers.cancel), methods=["POST"]),
    ]


class _Handlers:
    """The handlers of batches."""

    def __init__(self, batches: Batches, ask: Asking, known: Known) -> None:
        self._batches = batches
        self._ask = ask
        self._known = known

    async def create(self, request: Request) -> Response:
        fields = decode(await request.body())
        check_body("CreateBatchRequest", fields)
        endpoint, file_id = text(fields, "endpoint"), text(fields, "input_file_id")
        window, model = text(fields, "completion_window", ""), text(fields, "model_id", "")
        allowed = self._batches.dials.endpoints
        if endpoint not in allowed:
            raise Refusal(
                400, f"endpoint must be one of {', '.join(allowed)}, not {endpoint!r}.", param="endpoint"
            )
        try:
            file = self._batches.files.find(file_id)
        except Refusal as exc:
            # Creating a batch knows no 404.
            raise Refusal(400, exc.message, param="input_file_id") from exc
        if file.purpose != "batch-api":
            raise Refusal(400, f"File {file.id} has the purpose {file.purpose}, not batch-api.")
        batch = self._batches.start(file, endpoint, model, self._ask, self._known)
        created: dict[str, JSON] = {"job": batch.wire()}
        if window not in ("", f"{WINDOW_HOURS}h"):
            created["warning"] = f"The completion window is {WINDOW_HOURS}h; {window!r} is ignored."
        return reply(created, 201)

    async def list_batches(self, request: Request) -> Response:
        return reply([batch.wire() for batch in reversed(self._batches.batches)])

    async def get(self, request: Request) -> Response:
        return reply(self._batches.find(request.path_params["id"]).wire())

    async def cancel(self, request: Request) -> Response:
        return reply((await self._batches.cancel(request.path_params["id"])).wire())
