"""Endpoints, their deployments and traffic splits, and adapters on deployments."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from ...refusal import JSON, Refusal
from ...requests import JSONObject
from ..catalog import page
from ..hardware import PUBLIC_PROJECT, PUBLIC_REVISION, instance_types
from ..http import reply
from .fields import (
    body_of,
    check_etag,
    conflict,
    mask_of,
    matches_name,
    name_of,
    precondition,
    text,
    weight,
    whole,
)
from .records import PROJECT, STATE, Attachment, Deployment, Endpoint, new_id, since, stamp
from .state import Management

_MODEL = re.compile(r"projects/([^/]+)/models/([^/]+)(?:/revisions/([^/]+))?\Z")
_CONFIG = re.compile(r"projects/([^/]+)/configs/([^/]+)\Z")
_VISIBILITIES = ("VISIBILITY_PRIVATE", "VISIBILITY_INTERNAL")


class EndpointHandlers:
    """The handlers of endpoints, deployments and adapters."""

    def __init__(self, management: Management) -> None:
        self._all = management

    # --- endpoints ---

    async def create_endpoint(self, request: Request) -> Response:
        fields = await body_of(request)
        name, visibility = name_of(fields), _visibility(fields)
        if any(endpoint.name == name for endpoint in self._all.endpoints.values()):
            raise conflict(f"Endpoint {name}")
        endpoint = Endpoint(new_id("ep"), name, visibility)
        self._all.endpoints[endpoint.id] = endpoint
        self._event(endpoint, "endpoint.created")
        return reply(self._endpoint(endpoint))

    async def list_endpoints(self, request: Request) -> Response:
        query = request.query_params
        found = [one for one in self._all.endpoints.values() if matches_name(query, one.name)]
        if query.get("orderBy", "").endswith("desc"):
            found.reverse()
        return reply(page([self._endpoint(one) for one in found], query))

    async def get_endpoint(self, request: Request) -> Response:
        return reply(self._endpoint(self._all.endpoint(request.path_params["id"])))

    async def update_endpoint(self, request: Request) -> Response:
        endpoint = self._all.endpoint(request.path_params["id"])
        fields = await body_of(request)
        check_etag(endpoint, fields.get("etag"))
        mask = mask_of(request, fields)
        if unknown := mask - {"trafficSplit", "visibility", "name"}:
            raise Refusal(400, f"These fields can't be updated: {', '.join(sorted(unknown))}.", param="updateMask")
        if "trafficSplit" in mask:
            endpoint.split = self._split(endpoint, fields.get("trafficSplit") or [])
        if "visibility" in mask:
            endpoint.visibility = _visibility(fields)
        if "name" in mask:
            endpoint.name = name_of(fields)
        endpoint.touch()
        self._event(endpoint, "endpoint.updated")
        return reply(self._endpoint(endpoint))

    @staticmethod
    def _split(endpoint: Endpoint, entries: Sequence[JSONObject]) -> dict[str, float]:
        split: dict[str, float] = {}
        for entry in entries:
            id = text(entry, "deploymentId")
            if id not in endpoint.deployments:
                raise Refusal(400, f"Deployment {id} is not one of endpoint {endpoint.id}.", param="trafficSplit")
            if weight(entry.get("weight")):
                split[id] = weight(entry["weight"])
        return split

    async def delete_endpoint(self, request: Request) -> Response:
        endpoint = self._all.endpoint(request.path_params["id"])
        check_etag(endpoint, request.query_params.get("etag"))
        if endpoint.deployments:
            raise precondition(f"Endpoint {endpoint.id} still has deployments; delete them first.")
        del self._all.endpoints[endpoint.id]
        self._event(endpoint, "endpoint.deleted")
        return reply({})

    async def list_events(self, request: Request) -> Response:
        id = request.path_params["id"]
        return reply(page([event for of, event in self._all.events if of == id], request.query_params))

    async def nothing(self, request: Request) -> Response:
        """Experiments and rollouts: there never are any."""
        self._all.endpoint(request.path_params["endpoint_id"])
        return reply(page([], request.query_params))

    # --- deployments ---

    async def create_deployment(self, request: Request) -> Response:
        endpoint = self._all.endpoint(request.path_params["endpoint_id"])
        fields = await body_of(request)
        made = self._new_deployment(endpoint, fields)
        if request.query_params.get("validateOnly") == "true":
            return reply(self._deployment(endpoint, made))
        made.failure, self._all.dials.next_failure = self._all.dials.next_failure, None
        endpoint.deployments[made.id] = made
        self._event(endpoint, "deployment.created", made)
        return reply(self._deployment(endpoint, made))

    def _new_deployment(self, endpoint: Endpoint, fields: JSONObject) -> Deployment:
        name = name_of(fields, parents=endpoint.full_name)
        if any(one.name == name for one in endpoint.deployments.values()):
            raise conflict(f"Deployment {name}")
        model, model_id, base_id, base = self._model(fields)
        config_id, hardware = self._config(fields, base_id)
        least, most = _replicas(fields.get("autoscaling"), 1, 1)
        made = Deployment(
            new_id("dep"),
            name,
            endpoint.id,
            model,
            model_id,
            base,
            config_id,
            hardware,
            least,
            most,
            _timeout(fields, 0),
            None,
        )
        if most == 0:
            made.stopped = float("-inf")
        return made

    def _model(self, fields: JSONObject) -> tuple[str, str, str, str]:
        """Resource name with the revision, id, the base's id, and the engine's name of the base."""
        given = _MODEL.match(text(fields, "model", "") or f"projects/{PROJECT}/models/{text(fields, 'modelId')}")
        if given is None:
            raise Refusal(
                400, "model must be projects/{projectId}/models/{modelId}[/revisions/{revisionId}].", param="model"
            )
        project, id, revision = given.groups()
        base_id, base = self._all.base_of(id)
        if id in self._all.models:
            revisions = [one for one in self._all.models[id].revisions if not one.errors]
            if not revisions:
                raise precondition(f"Model {id} has no valid revision; upload its files first.")
            project, revision = PROJECT, revision or revisions[-1].id
            if revision not in {one.id for one in revisions}:
                raise Refusal(404, f"Revision {revision} not found.", code="not_found")
        elif project != PUBLIC_PROJECT:
            raise Refusal(404, f"Model {id} not found in project {project}.", code="not_found")
        else:
            revision = revision or PUBLIC_REVISION
        return f"projects/{project}/models/{id}/revisions/{revision}", id, base_id, base.id

    def _config(self, fields: JSONObject, base_id: str) -> tuple[str, str]:
        given = text(fields, "config", "") or f"projects/{PUBLIC_PROJECT}/configs/{text(fields, 'configId')}"
        found = _CONFIG.match(given)
        if found is None:
            raise Refusal(400, "config must be projects/{projectId}/configs/{configRevisionId}.", param="config")
        for id, reference, _, hardware in self._all.configs():
            if id == found.group(2):
                if reference != base_id:
                    raise Refusal(400, f"Config {id} is not compatible with the model.", param="config")
                return id, hardware
        raise Refusal(404, f"Config {found.group(2)} not found.", code="not_found")

    async def list_deployments(self, request: Request) -> Response:
        endpoint = self._all.endpoint(request.path_params["endpoint_id"])
        query = request.query_params
        found = [one for one in endpoint.deployments.values() if matches_name(query, one.name)]
        return reply(page([self._deployment(endpoint, one) for one in found], query))

    async def get_deployment(self, request: Request) -> Response:
        return reply(self._deployment(*self._named(request)))

    async def update_deployment(self, request: Request) -> Response:
        endpoint, deployment = self._named(request)
        fields = await body_of(request)
        check_etag(deployment, fields.get("etag"))
        for name in mask_of(request, fields):
            if name.startswith("autoscaling"):
                bounds = _replicas(fields.get("autoscaling"), deployment.min_replicas, deployment.max_replicas)
                deployment.scale(*bounds)
            elif name == "inactiveTimeout":
                deployment.inactive_timeout = _timeout(fields, deployment.inactive_timeout)
            elif name == "name":
                deployment.name = name_of(fields, parents=endpoint.full_name)
            elif name != "maxConcurrentRequestsPerReplica":
                raise Refusal(400, f"{name} can't be updated.", param="updateMask")
        deployment.touch()
        self._event(endpoint, "deployment.updated", deployment)
        return reply(self._deployment(endpoint, deployment))

    async def delete_deployment(self, request: Request) -> Response:
        endpoint, deployment = self._named(request)
        check_etag(deployment, request.query_params.get("etag"))
        state = deployment.state(self._all.dials).removeprefix(STATE)
        if state != "STOPPED":
            raise precondition(
                f"Deployment {deployment.id} is {state}; set its replicas to 0/0 and wait until it is STOPPED."
            )
        if deployment.id in endpoint.split:
            raise precondition(f"Deployment {deployment.id} is in the traffic split; take it out first.")
        del endpoint.deployments[deployment.id]
        self._event(endpoint, "deployment.deleted", deployment)
        return reply({})

    # --- adapters ---

    async def attach(self, request: Request) -> Response:
        _, deployment = self._named(request, "deployment_id")
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
        _, deployment = self._named(request, "deployment_id")
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
        _, deployment = self._named(request, "deployment_id")
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

    # --- hardware ---

    async def list_hardware(self, request: Request) -> Response:
        data: list[JSON] = [one.wire() for one in instance_types()]
        return reply({"object": "list", "data": data, "next_cursor": None})

    async def get_hardware(self, request: Request) -> Response:
        for one in instance_types():
            if request.path_params["id"] in (one.name, f"it_{one.name}"):
                return reply(one.wire())
        raise Refusal(404, f"Instance type {request.path_params['id']} not found.", code="not_found")

    # --- how the API shows them ---

    def _named(self, request: Request, name: str = "id") -> tuple[Endpoint, Deployment]:
        return self._all.deployment(request.path_params["endpoint_id"], request.path_params[name])

    def _endpoint(self, endpoint: Endpoint) -> dict[str, JSON]:
        summaries: list[JSON] = []
        for one in endpoint.deployments.values():
            shown = self._deployment(endpoint, one)
            names = (
                "id",
                "autoscaling",
                "createdAt",
                "estimatedEffectiveTrafficShare",
                "model",
                "modelId",
                "name",
            )
            more = ("trafficMode", "desiredReplicas", "hardware")
            status = shown["status"]
            assert isinstance(status, dict)
            summaries.append(
                {name: shown[name] for name in (*names, *more)}
                | {"state": status["state"], "readyReplicas": status["readyReplicas"]}
            )
        split: list[JSON] = [{"deploymentId": id, "weight": share} for id, share in endpoint.split.items()]
        return {
            "id": endpoint.id,
            "createdAt": since(endpoint.created),
            "updatedAt": since(endpoint.updated),
            "deployments": summaries,
            "endpointType": "ENDPOINT_TYPE_DEDICATED",
            "etag": endpoint.etag,
            "name": endpoint.full_name,
            "projectId": PROJECT,
            "trafficSplit": split,
            "visibility": endpoint.visibility,
        }

    def _deployment(self, endpoint: Endpoint, deployment: Deployment) -> dict[str, JSON]:
        dials = self._all.dials
        state = deployment.state(dials)
        ready = deployment.min_replicas if deployment.serves(dials) else 0
        return {
            "id": deployment.id,
            "autoscaling": deployment.replicas,
            "config": f"projects/{PUBLIC_PROJECT}/configs/{deployment.config_id}",
            "configId": deployment.config_id,
            "createdAt": since(deployment.created),
            "updatedAt": since(deployment.updated),
            "desiredReplicas": deployment.min_replicas,
            "endpointId": endpoint.id,
            "estimatedEffectiveTrafficShare": endpoint.share(deployment, dials),
            "etag": deployment.etag,
            "hardware": deployment.hardware,
            "inactiveTimeout": deployment.inactive_timeout,
            "model": deployment.model,
            "modelId": deployment.model_id,
            "modelRevisionId": deployment.model.rpartition("/")[2],
            "name": f"{endpoint.full_name}/{deployment.name}",
            "projectId": PROJECT,
            "status": {
                "state": state,
                "message": deployment.message(state),
                "readyReplicas": ready,
                "scheduledReplicas": deployment.min_replicas,
            },
            "trafficMode": "TRAFFIC_MODE_LIVE",
        }

    def _event(self, endpoint: Endpoint, kind: str, deployment: Deployment | None = None) -> None:
        event: dict[str, JSON] = {
            "id": new_id("evt"),
            "createdAt": stamp(),
            "endpointId": endpoint.id,
            "level": "LEVEL_INFO",
            "source": "local",
            "sourceKind": "SOURCE_KIND_DEPLOYMENT" if deployment else "SOURCE_KIND_ENDPOINT",
            "type": kind,
            "name": deployment.name if deployment else endpoint.name,
        }
        if deployment is not None:
            event["deploymentId"] = deployment.id
        self._all.events.append((endpoint.id, event))


def _visibility(fields: JSONObject) -> str:
    given = text(fields, "visibility", "VISIBILITY_PRIVATE")
    if given not in _VISIBILITIES:
        raise Refusal(400, f"visibility must be one of {', '.join(_VISIBILITIES)}.", param="visibility")
    return given


def _replicas(autoscaling: object, least: int, most: int) -> tuple[int, int]:
    given = autoscaling if isinstance(autoscaling, dict) else {}
    new_least = whole(given, "minReplicas", least)
    new_most = whole(given, "maxReplicas", max(most, new_least) if "minReplicas" in given else most)
    if (new_least == 0) != (new_most == 0):
        raise Refusal(
            400, "minReplicas and maxReplicas must both be 0 to stop the deployment.", param="autoscaling"
        )
    if new_least > new_most:
        raise Refusal(400, "minReplicas must not exceed maxReplicas.", param="autoscaling")
    return new_least, new_most


def _timeout(fields: JSONObject, default: int) -> int:
    minutes = whole(fields, "inactiveTimeout", default)
    if minutes != 0 and not 30 <= minutes <= 1440:
        raise Refusal(400, "inactiveTimeout must be 0 or 30 to 1440 minutes.", param="inactiveTimeout")
    return minutes
