"""The routes of batches."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from ...refusal import JSON, Refusal
from ...requests import decode_as
from ..http import reply
from ..management import Management
from ..management.fields import text
from ..routes import Handler, refusing, routes_of
from .asking import Asking
from .jobs import Batches
from .records import WINDOW_HOURS
from .validation import Known


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

    guarded = refusing(management.check_fault)

    def answered(handler: Handler) -> Handler:
        async def answering(request: Request) -> Response:
            try:
                return await guarded(handler)(request)
            except Refusal as exc:
                # The document's BatchErrorResponse has a string where other errors have an object.
                return reply({"error": exc.message}, exc.status, exc.headers)

        return answering

    route = partial(routes_of, answered)
    return [
        *route("/v1/batches", GET=handlers.list_batches, POST=handlers.create),
        *route("/v1/batches/{id}", GET=handlers.get),
        *route("/v1/batches/{id}/cancel", POST=handlers.cancel),
    ]


class _Handlers:
    """The handlers of batches."""

    def __init__(self, batches: Batches, ask: Asking, known: Known) -> None:
        self._batches = batches
        self._ask = ask
        self._known = known

    async def create(self, request: Request) -> Response:
        fields = decode_as("CreateBatchRequest", await request.body())
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
