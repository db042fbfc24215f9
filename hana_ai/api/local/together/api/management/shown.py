"""Endpoints, deployments and their events as the API shows them."""

from __future__ import annotations

from ...refusal import JSON
from ..clock import stamp
from ..hardware import PUBLIC_PROJECT
from .records import PROJECT, Deployment, Endpoint, new_id, since
from .state import Management


def endpoint_record(management: Management, endpoint: Endpoint) -> dict[str, JSON]:
    """An endpoint with a summary of its deployments."""
    summaries: list[JSON] = []
    for one in endpoint.deployments.values():
        shown = deployment_record(management, endpoint, one)
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


def deployment_record(management: Management, endpoint: Endpoint, deployment: Deployment) -> dict[str, JSON]:
    """A deployment with its state."""
    dials = management.dials
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


def note_event(
    management: Management, endpoint: Endpoint, kind: str, deployment: Deployment | None = None
) -> None:
    """Add to the events of an endpoint."""
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
    management.events.append((endpoint.id, event))
