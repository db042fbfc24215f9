"""Deployments of endpoints."""

from __future__ import annotations

import asyncio
import re

from starlette.requests import Request
from starlette.responses import Response

from ...refusal import Refusal
from ...requests import JSONObject
from ..catalog import page
from ..hardware import PUBLIC_PROJECT, PUBLIC_REVISION
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
    whole,
)
from .records import PROJECT, STATE, Deployment, Endpoint, new_id
from .shown import deployment_record, note_event
from .state import Handlers

_MODEL = re.compile(r"projects/([^/]+)/models/([^/]+)(?:/revisions/([^/]+))?\Z")
_CONFIG = re.compile(r"projects/([^/]+)/configs/([^/]+)\Z")


class DeploymentHandlers(Handlers):
    """The handlers of deployments."""

    async def create_deployment(self, request: Request) -> Response:
        endpoint = self._all.endpoint(request.path_params["endpoint_id"])
        fields = await body_of(request)
        made = self._new_deployment(endpoint, fields)
        if request.query_params.get("validateOnly") == "true":
            return reply(deployment_record(self._all, endpoint, made))
        made.failure, self._all.dials.next_failure = self._all.dials.next_failure, None
        endpoint.deployments[made.id] = made
        note_event(self._all, endpoint, "deployment.created", made)
        return reply(deployment_record(self._all, endpoint, made))

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
        return reply(page([deployment_record(self._all, endpoint, one) for one in found], query))

    async def get_deployment(self, request: Request) -> Response:
        return reply(deployment_record(self._all, *self._named(request)))

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
        note_event(self._all, endpoint, "deployment.updated", deployment)
        return reply(deployment_record(self._all, endpoint, deployment))

    async def delete_deployment(self, request: Request) -> Response:
        endpoint, deployment = self._named(request)
        check_etag(deployment, request.query_params.get("etag"))
        # The SDK's own `rm --force` deletes right after it has set the replicas to 0/0.
        left = deployment.stops_in(self._all.dials)
        if 0 < left <= self._all.dials.patience:
            await asyncio.sleep(left)
        state = deployment.state(self._all.dials).removeprefix(STATE)
        if state != "STOPPED":
            raise precondition(
                f"Deployment {deployment.id} is {state}; set its replicas to 0/0 and wait until it is STOPPED."
            )
        if deployment.id in endpoint.split:
            raise precondition(f"Deployment {deployment.id} is in the traffic split; take it out first.")
        del endpoint.deployments[deployment.id]
        note_event(self._all, endpoint, "deployment.deleted", deployment)
        return reply({})

    def _named(self, request: Request) -> tuple[Endpoint, Deployment]:
        return self._all.deployment(request.path_params["endpoint_id"], request.path_params["id"])


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
