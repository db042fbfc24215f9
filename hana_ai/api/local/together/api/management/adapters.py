"""Adapters on deployments."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ...refusal import Refusal
from ..catalog import page
from ..http import reply
from .fields import (
    body_of,
    check_etag,
    conflict,
    precondition,
    text,
)
from .records import Attachment, Deployment, new_id
from .state import Handlers


class AdapterHandlers(Handlers):
    """The handlers of adapters on deployments."""

    async def attach(self, request: Request) -> Response:
        deployment = self._deployment(request)
        self._check_takes_adapters(deployment)
        fields = await body_of(request)
        model = self._all.model(text(fields, "adapterModelId"))
        if not model.adapter:
            raise Refusal(400, f"Model {model.id} is not an adapter.", param="adapterModelId")
        if self._all.base_of(model.id)[1].id != deployment.base or deployment.model_id in self._all.models:
            raise Refusal(400, f"Adapter {model.id} does not fit the deployment's model.", param="adapterModelId")
        revisions = [one.id for one in model.revisions if not one.errors]
        revision = text(fields, "adapterRevisionId", "") or (revisions[-1] if revisions else "")
        if revision not in revisions:
            raise precondition(f"Adapter {model.id} has no such valid revision.")
        if any(one.model_id == model.id for one in deployment.adapters.values()):
            raise conflict(f"Adapter {model.id} on deployment {deployment.id}")
        made = Attachment(new_id("dad"), model.id, revision, self._all.dials.adapter_failure)
        deployment.adapters[made.id] = made
        return reply(made.wire(self._all.dials))

    async def list_adapters(self, request: Request) -> Response:
        deployment = self._deployment(request)
        self._check_takes_adapters(deployment)
        found = [one.wire(self._all.dials) for one in deployment.adapters.values()]
        return reply(page(found, request.query_params))

    async def get_adapter(self, request: Request) -> Response:
        return reply(self._adapter(request)[1].wire(self._all.dials))

    async def update_adapter(self, request: Request) -> Response:
        _, adapter = self._adapter(request)
        fields = await body_of(request)
        text(fields, "etag")
        check_etag(adapter, fields.get("etag"))
        adapter.revision = text(fields, "adapterRevisionId")
        adapter.touch()
        return reply(adapter.wire(self._all.dials))

    async def detach(self, request: Request) -> Response:
        deployment, adapter = self._adapter(request)
        given = request.query_params.get("etag")
        if not given:
            raise Refusal(400, "etag is required.", param="etag")
        check_etag(adapter, given)
        del deployment.adapters[adapter.id]
        return reply({})

    def _adapter(self, request: Request) -> tuple[Deployment, Attachment]:
        deployment = self._deployment(request)
        found = deployment.adapters.get(request.path_params["id"])
        if found is None:
            raise Refusal(404, f"Adapter {request.path_params['id']} not found.", code="not_found")
        return deployment, found

    @staticmethod
    def _check_takes_adapters(deployment: Deployment) -> None:
        if deployment.config_id.endswith("-disabled"):
            raise precondition(
                f"Deployment {deployment.id} takes no adapters: its config has adapter_mode disabled."
            )

    def _deployment(self, request: Request) -> Deployment:
        path = request.path_params
        return self._all.deployment(path["endpoint_id"], path["deployment_id"])[1]
