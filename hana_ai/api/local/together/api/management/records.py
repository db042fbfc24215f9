"""What the management API keeps: endpoints, deployments, adapters, models and uploads, with their state machines.

States are derived from the clock when they are read, as the API says of its own ("derived at read time"), so
that nothing has to run in the background.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from dataclasses import dataclass, field

from ...refusal import JSON
from ..clock import stamp
from ..hardware import PUBLIC_PROJECT
from .serving import Served, kept

PROJECT = "proj_local"
ORGANIZATION = "org_local"
SLUG = "local-project"

STATE = "DEPLOYMENT_STATE_"
ALPHABET = "0123456789abcdefghijkmnopqrstuvwxyz"


@dataclass
class Dials:
    """Settings that a test may change at any time; times are in seconds."""

    provisioning: float = 0.2
    """From a deployment's creation or start until it is READY."""
    scaling: float = 0.1
    """From a change of the replicas until it is READY again."""
    stopping: float = 0.1
    """From 0/0 replicas until it is STOPPED."""
    patience: float = 5.0
    """How long deleting a deployment that is STOPPING waits for it to be STOPPED; a longer stop is refused."""
    adapter_loading: float = 0.1
    """From attaching an adapter until it is READY."""
    remote_step: float = 0.05
    """Between two states of a remote upload."""
    minute: float = 60.0
    """What `inactiveTimeout` counts."""
    next_failure: str | None = None
    """The next deployment ends up FAILED with this message instead of READY."""
    adapter_failure: str | None = None
    """Adapters that are attached from now on end up FAILED with this message."""
    remote_states: tuple[str, ...] = ("PENDING", "RUNNING", "SUCCEEDED")
    """What a remote upload goes through; the last one stays."""
    corrupt_parts: int = 0
    """How many of the next parts are stored with an extra byte."""
    remote_message: str = ""
    """The `statusMessage` of remote uploads."""
    organization_key: bool = False
    """Whether the key belongs to the organisation rather than to its project."""


def new_id(prefix: str) -> str:
    """An id in the API's format."""
    return f"{prefix}_" + "".join(secrets.choice(ALPHABET) for _ in range(20))


def since(moment: float) -> str:
    """The time of day of a moment of the monotonic clock."""
    return stamp(time.monotonic() - moment)


@dataclass
class Record:
    """What has an id, times and an etag."""

    id: str
    created: float = field(default_factory=time.monotonic, init=False)
    updated: float = field(default_factory=time.monotonic, init=False)
    version: int = field(default=1, init=False)

    @property
    def etag(self) -> str:
        """The opaque version tag."""
        return f"{self.id[-6:]}-{self.version}"

    def touch(self) -> None:
        """Record a change."""
        self.version += 1
        self.updated = time.monotonic()


@dataclass
class Attachment(Record):
    """An adapter on a deployment."""

    model_id: str
    revision: str
    failure: str | None

    def state(self, dials: Dials) -> str:
        """PENDING, then LOADING, then READY or FAILED."""
        age = time.monotonic() - self.updated
        if age < dials.adapter_loading / 2:
            return "ADAPTER_LOAD_STATE_PENDING"
        if age < dials.adapter_loading:
            return "ADAPTER_LOAD_STATE_LOADING"
        return "ADAPTER_LOAD_STATE_FAILED" if self.failure else "ADAPTER_LOAD_STATE_READY"

    def wire(self, dials: Dials) -> dict[str, JSON]:
        """The adapter as the API shows it."""
        path = f"projects/{PROJECT}/models/{self.model_id}"
        state = self.state(dials)
        ready = state.endswith("_READY")
        status: dict[str, JSON] = {
            "adapterModelId": self.model_id,
            "adapterModel": path,
            "clusterId": "cluster-local",
            "failedPodCount": int(state.endswith("_FAILED")),
            "readyPodCount": int(ready),
            "totalPodCount": 1,
            "state": state,
            "updatedAt": since(self.updated),
        }
        if ready:
            status["adapterValid"] = True
        elif state.endswith("_FAILED"):
            status |= {"adapterValid": False, "adapterValidReason": self.failure, "message": self.failure}
        return {
            "id": self.id,
            "adapterModelId": self.model_id,
            "adapterModel": path,
            "desiredRevisionId": self.revision,
            "desiredRevision": f"{path}/revisions/{self.revision}",
            "etag": self.etag,
            "perCluster": [status],
        }


@dataclass
class Deployment(Record):
    """A model on hardware that costs money while it has replicas."""

    name: str
    endpoint_id: str
    model: str
    """Resource name, with the revision."""
    model_id: str
    base: str
    """Name of the engine's model that answers."""
    config_id: str
    hardware: str
    min_replicas: int
    max_replicas: int
    inactive_timeout: int
    failure: str | None
    forced: str | None = field(default=None, init=False)
    """A state that a test sets, such as DEPLOYMENT_STATE_DEGRADED or one that nobody knows."""
    started: float = field(default_factory=time.monotonic, init=False)
    scaled: float = field(default=float("-inf"), init=False)
    stopped: float = field(default=0.0, init=False)
    last_request: float = field(default_factory=time.monotonic, init=False)
    requests: int = field(default=0, init=False)
    adapters: dict[str, Attachment] = field(default_factory=dict, init=False)

    def scale(self, least: int, most: int) -> None:
        """Set the replicas: from none on it starts anew, 0/0 stops it."""
        now = time.monotonic()
        if most == 0 and self.max_replicas > 0:
            self.stopped = now
        elif most > 0 and self.max_replicas == 0:
            self.started = self.last_request = now
        elif (least, most) != (self.min_replicas, self.max_replicas):
            self.scaled = now
        self.min_replicas, self.max_replicas = least, most

    def state(self, dials: Dials) -> str:
        """The state now."""
        now = time.monotonic()
        if self.inactive_timeout and self.max_replicas:
            idle = now - max(self.last_request, self.started + dials.provisioning)
            if idle > self.inactive_timeout * dials.minute:
                self.scale(0, 0)
        if self.forced:
            return self.forced
        if self.max_replicas == 0:
            return STATE + ("STOPPING" if now - self.stopped < dials.stopping else "STOPPED")
        if now - self.started < dials.provisioning:
            return STATE + "PROVISIONING"
        if self.failure:
            return STATE + "FAILED"
        return STATE + ("SCALING" if now - self.scaled < dials.scaling else "READY")

    def stops_in(self, dials: Dials) -> float:
        """Seconds until it is STOPPED; 0 where it is not stopping."""
        if not self.state(dials).endswith("_STOPPING"):
            return 0.0
        return max(0.0, self.stopped + dials.stopping - time.monotonic())

    def serves(self, dials: Dials) -> bool:
        """Whether it answers requests."""
        return self.state(dials).removeprefix(STATE) in ("READY", "SCALING", "DEGRADED")

    @property
    def replicas(self) -> dict[str, JSON]:
        """The replica bounds."""
        return {"minReplicas": self.min_replicas, "maxReplicas": self.max_replicas}

    def message(self, state: str) -> str:
        """What the status says in words."""
        if state.endswith("_FAILED"):
            return self.failure or "The deployment failed."
        return {"READY": "All replicas are ready.", "STOPPED": "The deployment has no replicas."}.get(
            state.removeprefix(STATE), ""
        )


@dataclass
class Endpoint(Record):
    """An address for inference, with the deployments behind it."""

    name: str
    visibility: str
    split: dict[str, float] = field(default_factory=dict, init=False)
    """Weight by deployment id."""
    deployments: dict[str, Deployment] = field(default_factory=dict, init=False)
    served: deque[Served] = field(default_factory=kept, init=False)

    @property
    def full_name(self) -> str:
        """The name to use as `model`."""
        return f"{SLUG}/{self.name}"

    def share(self, deployment: Deployment, dials: Dials) -> float:
        """The share of the traffic that a deployment gets, from 0 to 1."""
        weights = {
            id: weight
            for id, weight in self.split.items()
            if id in self.deployments and self.deployments[id].serves(dials)
        }
        total = sum(weights.values())
        return weights.get(deployment.id, 0.0) / total if total else 0.0


@dataclass
class StoredFile:
    """A file of a revision; its bytes are not kept, only what is known of them."""

    path: str
    hash: str
    size: int


@dataclass
class Revision(Record):
    """One version of a model's files."""

    files: list[StoredFile]
    errors: list[str]


@dataclass
class RegisteredModel(Record):
    """A model or an adapter of the project."""

    name: str
    type: str
    base_id: str
    description: str
    visibility: str = "VISIBILITY_PRIVATE"
    revisions: list[Revision] = field(default_factory=list, init=False)

    @property
    def full_name(self) -> str:
        """The name with the project's slug."""
        return f"{SLUG}/{self.name}"

    @property
    def adapter(self) -> bool:
        """Whether it is a LoRA adapter."""
        return self.type == "adapter"

    def wire(self) -> dict[str, JSON]:
        """The model as the API shows it."""
        return {
            "id": self.id,
            "name": self.full_name,
            "organizationId": ORGANIZATION,
            "projectId": PROJECT,
            "visibility": self.visibility,
            "baseModel": f"projects/{PUBLIC_PROJECT}/models/{self.base_id}",
            "baseModelId": self.base_id,
            "description": self.description,
            "weights": {"type": "WEIGHTS_TYPE_ADAPTER" if self.adapter else "WEIGHTS_TYPE_DEFAULT"},
        }


@dataclass
class RemoteUpload(Record):
    """An import job."""

    model_id: str
    url: str
    states: tuple[str, ...]
    message: str
    done: bool = field(default=False, init=False)

    def state(self, dials: Dials) -> str:
        """The state now."""
        age = time.monotonic() - self.created
        step = int(age / dials.remote_step) if dials.remote_step > 0 else len(self.states)
        return self.states[min(step, len(self.states) - 1)]
