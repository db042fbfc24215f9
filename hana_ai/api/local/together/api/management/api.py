"""The routes of the management API."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from ...refusal import Refusal
from ..hardware import PUBLIC_PROJECT
from ..routes import Handler, routes_of
from .account import AccountHandlers
from .adapters import AdapterHandlers
from .analytics import AnalyticsHandlers
from .deployments import DeploymentHandlers
from .endpoints import EndpointHandlers
from .experiments import ExperimentHandlers
from .models import ModelHandlers
from .records import ORGANIZATION, PROJECT
from .state import STORAGE_PATH, Management
from .uploads import UploadHandlers

_HERE = "/v2/projects/{project_id}"
_ORGANIZATION = "/v2/organizations/{organization_id}"
_ENDPOINT = _HERE + "/endpoints/{endpoint_id}"
_ADAPTERS = _ENDPOINT + "/deployments/{deployment_id}/adapters"


def management_routes(management: Management) -> list[BaseRoute]:
    """The routes over one account; a more specific path comes before the one that would swallow it."""
    account, endpoints = AccountHandlers(management), EndpointHandlers(management)
    deployments, adapters = DeploymentHandlers(management), AdapterHandlers(management)
    models, uploads = ModelHandlers(management), UploadHandlers(management)
    analytics, experiments = AnalyticsHandlers(management), ExperimentHandlers(management)

    guarded = partial(_guarded, management)
    route = partial(routes_of, guarded)
    return [
        *route("/v3/whoami", GET=account.whoami),
        *route("/v1/projects", GET=account.list_projects),
        *route("/v1/billing/usage", GET=account.usage),
        *route(_HERE + "/endpoints", GET=endpoints.list_endpoints, POST=endpoints.create_endpoint),
        *route(_ORGANIZATION + "/endpoints", GET=endpoints.list_endpoints),
        *route(
            _HERE + "/endpoints/{id}",
            GET=endpoints.get_endpoint,
            PATCH=endpoints.update_endpoint,
            DELETE=endpoints.delete_endpoint,
        ),
        *route(_HERE + "/endpoints/{id}/events", GET=endpoints.list_events),
        *route(_HERE + "/endpoints/{id}/analytics", GET=analytics.analytics),
        *experiments.routes(_ENDPOINT, guarded),
        *route(_HERE + "/placement-profiles", GET=experiments.list_profiles),
        *route(_HERE + "/placement-profiles/{id}", GET=experiments.get_profile),
        *route(_ENDPOINT + "/deployments", GET=deployments.list_deployments, POST=deployments.create_deployment),
        *route(
            _ENDPOINT + "/deployments/{id}",
            GET=deployments.get_deployment,
            PATCH=deployments.update_deployment,
            DELETE=deployments.delete_deployment,
        ),
        *route(_ADAPTERS, GET=adapters.list_adapters, POST=adapters.attach),
        *route(
            _ADAPTERS + "/{id}",
            GET=adapters.get_adapter,
            PATCH=adapters.update_adapter,
            DELETE=adapters.detach,
        ),
        *route("/v2/public/inference-instance-types", GET=endpoints.list_hardware),
        *route("/v2/public/inference-instance-types/{id}", GET=endpoints.get_hardware),
        *route(_HERE + "/configs", GET=models.list_configs),
        *route(_HERE + "/configs/{id}", GET=models.get_config),
        *route(_HERE + "/models/upload/create", POST=uploads.create),
        *route(_HERE + "/models/upload/complete", POST=uploads.complete),
        *route(STORAGE_PATH + "{upload_id}/{number:int}", PUT=uploads.put_part),
        *route(_HERE + "/models/uploads", GET=models.list_uploads, POST=models.create_upload),
        *route(_HERE + "/models/uploads/{id}", GET=models.get_upload),
        *route(_HERE + "/models/uploads/{id}/events", GET=models.upload_events),
        *route(_HERE + "/models", GET=models.list_models, POST=models.create_model),
        *route(_ORGANIZATION + "/models", GET=models.list_models),
        *route(
            _HERE + "/models/{id}", GET=models.get_model, PATCH=models.update_model, DELETE=models.delete_model
        ),
        *route(_HERE + "/models/{id}/files", GET=models.list_files),
        *route(_HERE + "/models/{id}/revisions", GET=models.list_revisions),
    ]


def _guarded(management: Management, handler: Handler) -> Handler:
    """The handler behind what a test wants refused, for this account's project alone."""

    async def guarded(request: Request) -> Response:
        management.check_fault(request.method, request.url.path)
        project = request.path_params.get("project_id")
        public = request.method == "GET" and project == PUBLIC_PROJECT
        if project not in (None, PROJECT) and not public:
            raise Refusal(403, f"The key has no access to project {project}.", code="permission_denied")
        if request.path_params.get("organization_id", ORGANIZATION) != ORGANIZATION:
            raise Refusal(403, "The key belongs to another organization.", code="permission_denied")
        return await handler(request)

    return guarded
