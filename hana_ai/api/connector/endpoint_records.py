"""Statuses, prices and orphans, from endpoints and deployments as the SDK returns them. No I/O here."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from together.types import Endpoint, EndpointDeploymentSummary

KEPT = "main"
"""Name of the deployment that `create_endpoint` makes."""
TEMPORARY = "temporary"
"""Name of the deployment that an `async with connector.endpoint(...)` block makes."""

_STATE = "DEPLOYMENT_STATE_"
_STATUSES = {
    "PROVISIONING": "creating",
    "READY": "ready",
    "SCALING": "ready",
    "DEGRADED": "ready",
    "FAILED": "failed",
    "STOPPED": "stopped",
    "STOPPING": "stopped",
}


class DeploymentRecord(TypedDict):
    """One deployment of an endpoint."""

    id: str
    name: str
    model: str
    state: str
    """As the server wrote it."""
    status: str
    """creating, ready, failed or stopped."""
    hardware: str
    traffic: float | None
    """Share of the endpoint's traffic, 0 to 1; None when unknown."""
    replicas: int | None
    """Desired replicas; None when unknown."""
    price_per_hour_usd: float
    """USD for the desired replicas; NaN when unknown."""


class EndpointRecord(TypedDict, total=False):
    """One endpoint, as `list_endpoints` returns it."""

    id: str
    name: str
    """What to use as `model`."""
    model: str
    status: str
    """creating, ready, failed or stopped."""
    url: str
    """Where requests to it go."""
    type: str
    """dedicated or alias."""
    state: str
    """The deployment's state as the server wrote it; empty without one."""
    deployments: list[DeploymentRecord]
    hardware: str
    price_per_hour_usd: float
    """USD for the desired replicas; NaN when unknown."""
    created_at: str


class Orphan(TypedDict):
    """A deployment that costs money and serves nobody, as far as can be told."""

    id: str
    endpoint_id: str
    name: str
    state: str
    reason: str
    hardware: str
    price_per_hour_usd: float
    """USD for the desired replicas; NaN when unknown."""
    created_at: str


def status_of(state: str) -> str:
    """The status for a deployment's state; an unknown state counts as creating."""
    return _STATUSES.get(bare_state(state), "creating")


def bare_state(state: str) -> str:
    """A state without the API's prefix."""
    return state.removeprefix(_STATE)


def is_temporary(deployment_name: str) -> bool:
    """Whether a deployment was made for an `async with` block."""
    return deployment_name.rpartition("/")[2].startswith(TEMPORARY)


def endpoint_record(endpoint: Endpoint, model_name: str, url: str, prices: dict[str, Decimal]) -> EndpointRecord:
    """An endpoint with its cost; `prices` are USD per hour by the hardware's name."""
    deployments = [
        DeploymentRecord(
            id=one.id,
            name=one.name,
            model=one.model,
            state=one.state,
            status=status_of(one.state),
            hardware=one.hardware or "",
            traffic=one.estimated_effective_traffic_share,
            replicas=one.desired_replicas,
            price_per_hour_usd=_price(one, prices),
        )
        for one in endpoint.deployments or []
    ]
    main = main_deployment(endpoint)
    return EndpointRecord(
        id=endpoint.id,
        name=endpoint.name,
        model=model_name,
        status=endpoint_status(endpoint),
        url=url,
        type="dedicated",
        state=main.state if main else "",
        deployments=deployments,
        hardware=(main.hardware or "") if main else "",
        price_per_hour_usd=sum((_price(one, prices) for one in endpoint.deployments or []), 0.0),
        created_at=endpoint.created_at.isoformat() if endpoint.created_at else "",
    )


def orphans_of(endpoint: Endpoint, prices: dict[str, Decimal], in_use: set[str]) -> list[Orphan]:
    """The deployments of an endpoint that cost money unnoticed, except those in use."""
    found: list[Orphan] = []
    routed = _routed(endpoint)
    for one in endpoint.deployments or []:
        if bare_state(one.state) == "STOPPED" or one.id in in_use or endpoint.id in in_use:
            continue
        temporary = is_temporary(one.name)
        if one.id in routed and not temporary:
            continue
        found.append(
            Orphan(
                id=one.id,
                endpoint_id=endpoint.id,
                name=one.name,
                state=one.state,
                reason="left by an `async with connector.endpoint(...)` that was killed or still runs"
                if temporary
                else "outside the traffic split, so it costs money without serving",
                hardware=one.hardware or "",
                price_per_hour_usd=_price(one, prices),
                created_at=one.created_at.isoformat() if one.created_at else "",
            )
        )
    return found


def _routed(endpoint: Endpoint) -> set[str]:
    """Ids of the deployments that get traffic."""
    return {entry.deployment_id for entry in endpoint.traffic_split or [] if entry.weight}


def main_deployment(endpoint: Endpoint) -> EndpointDeploymentSummary | None:
    """The deployment that stands for an endpoint: the one with the most traffic, else the healthiest."""
    order = ("ready", "creating", "failed", "stopped")
    return min(
        endpoint.deployments or [],
        key=lambda one: (-(one.estimated_effective_traffic_share or 0.0), order.index(status_of(one.state))),
        default=None,
    )


def endpoint_status(endpoint: Endpoint) -> str:
    """The best status among the deployments that get traffic; without any, the endpoint is stopped."""
    routed = _routed(endpoint)
    statuses = {status_of(one.state) for one in endpoint.deployments or [] if one.id in routed}
    return next((one for one in ("ready", "creating", "failed") if one in statuses), "stopped")


def _price(deployment: EndpointDeploymentSummary, prices: dict[str, Decimal]) -> float:
    replicas = deployment.desired_replicas
    if replicas == 0 or bare_state(deployment.state) == "STOPPED":
        return 0.0
    price = prices.get(deployment.hardware or "")
    return float("nan") if price is None or replicas is None else float(price * replicas)
