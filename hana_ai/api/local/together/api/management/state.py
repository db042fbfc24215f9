"""`Management`: everything that the management API keeps, and the dials by which a test turns it."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import md5

from ...engine import LocalModel
from ...refusal import JSON, Refusal
from ..catalog import model_id
from ..clock import stamp
from ..hardware import PUBLIC_PROJECT, config_id, instance_types
from .records import (
    PROJECT,
    SLUG,
    STATE,
    Deployment,
    Dials,
    Endpoint,
    RegisteredModel,
    RemoteUpload,
    Revision,
    StoredFile,
    new_id,
)
from .serving import Measurement

STORAGE_PATH = "/_storage/"
"""Where the parts of uploads go; its addresses are presigned, so that no key is asked for."""

ADAPTER_MODES = ("disabled", "dynamic")

EXPERIMENTS = ("abExperiments", "shadowExperiments", "rollouts")
"""What an endpoint may have besides deployments, by the word in its path."""


@dataclass
class _Fault:
    method: str
    path: re.Pattern[str]
    refusal: Refusal
    left: int


@dataclass
class PendingFile:
    """A file of which parts are being uploaded."""

    id: str
    model_id: str
    path: str
    hash: str
    num_parts: int
    token: str
    digests: dict[int, bytes] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    received: int = 0
    """Part bodies that came in whole, repeated ones too."""
    small: bytes = b""
    """The content, where it is one small part: an adapter's configuration is read."""


class Management:
    """The account behind the server: one organisation, one project.

    Parameters
    ----------
    models
        What the engines answer for; each can be deployed.

    Examples
    --------
    >>> server.management.dials.provisioning = 1.5
    >>> server.management.refuse("POST", "/deployments$", Refusal(503, "no capacity"), times=2)
    """

    def __init__(self, models: Sequence[LocalModel]) -> None:
        self.dials = Dials()
        self.lock = threading.Lock()
        self.base_models = {model_id(model): model for model in models}
        self.endpoints: dict[str, Endpoint] = {}
        self.models: dict[str, RegisteredModel] = {}
        self.remote_uploads: dict[str, RemoteUpload] = {}
        self.pending: dict[str, PendingFile] = {}
        self.billing: list[dict[str, JSON]] | None = None
        """Line items with their `date`; None as long as the organisation has no billing API."""
        self.events: list[tuple[str, dict[str, JSON]]] = []
        self._experiments: list[tuple[str, str, dict[str, JSON]]] = []
        self._faults: list[_Fault] = []

    # --- what a test turns ---

    def refuse(self, method: str, path: str, refusal: Refusal, times: int = 1) -> None:
        """Refuse the next requests of a method whose path matches a regular expression."""
        with self.lock:
            self._faults.append(_Fault(method, re.compile(path), refusal, times))

    def check_fault(self, method: str, path: str) -> None:
        """Refuse, where a test said so."""
        with self.lock:
            for fault in self._faults:
                if fault.left and fault.method == method and fault.path.search(path):
                    fault.left -= 1
                    raise fault.refusal

    def bill(self, date: str, product: str, quantity: str, unit_price: str, cost: str) -> None:
        """Add a line to the bill, amounts as decimal strings; the first one switches the billing API on."""
        item: dict[str, JSON] = {
            "attributes": {"project_id": PROJECT},
            "cost": cost,
            "pricing_dimensions": {},
            "product_name": product,
            "quantity": quantity,
            "unit_price": unit_price,
        }
        self.billing = [*(self.billing or []), {"date": date, "item": item}]

    def show(self, endpoint_id: str, kind: str, **fields: JSON) -> dict[str, JSON]:
        """Let an endpoint have an experiment or a rollout that a test made up; returns it as the API shows it."""
        if kind not in EXPERIMENTS:
            raise ValueError(f"kind must be one of {', '.join(EXPERIMENTS)}, not {kind!r}.")
        made: dict[str, JSON] = {
            "id": new_id({"abExperiments": "abx", "shadowExperiments": "exp", "rollouts": "rol"}[kind]),
            "createdAt": stamp(),
            "createdBy": "user_local",
            "updatedAt": stamp(),
            "endpointId": endpoint_id,
            "projectId": PROJECT,
            "etag": new_id("etag"),
            **fields,
        }
        self._experiments.append((endpoint_id, kind, made))
        return made

    # --- looking things up ---

    def experiments_of(self, endpoint_id: str, kind: str) -> list[dict[str, JSON]]:
        """The experiments or rollouts of an endpoint."""
        return [one for of, what, one in self._experiments if (of, what) == (endpoint_id, kind)]

    def deployments(self) -> Iterator[Deployment]:
        """All deployments."""
        for endpoint in list(self.endpoints.values()):
            yield from list(endpoint.deployments.values())

    def running(self) -> list[Deployment]:
        """The deployments that cost money now."""
        return [one for one in self.deployments() if not one.state(self.dials).endswith("_STOPPED")]

    def endpoint(self, id: str) -> Endpoint:
        """An endpoint by its id; 404 when there is none."""
        found = self.endpoints.get(id)
        if found is None:
            raise Refusal(404, f"Endpoint {id} not found.", code="not_found")
        return found

    def deployment(self, endpoint_id: str, id: str) -> tuple[Endpoint, Deployment]:
        """A deployment by its id, with its endpoint; 404 when there is none."""
        endpoint = self.endpoint(endpoint_id)
        found = endpoint.deployments.get(id)
        if found is None:
            raise Refusal(404, f"Deployment {id} not found.", code="not_found")
        return endpoint, found

    def model(self, id: str) -> RegisteredModel:
        """A model of the project; 404 when there is none."""
        found = self.models.get(id)
        if found is None:
            raise Refusal(404, f"Model {id} not found.", code="not_found")
        return found

    def register(self, name: str, type: str, base_id: str, files: Mapping[str, bytes]) -> RegisteredModel:
        """A model of the project with one valid revision, as the platform's own jobs leave it."""
        made = RegisteredModel(new_id("ml"), name, type, base_id, "")
        stored = [
            StoredFile(path, md5(content, usedforsecurity=False).hexdigest(), len(content))
            for path, content in files.items()
        ]
        made.revisions.append(Revision(new_id("rv"), stored, []))
        self.models[made.id] = made
        return made

    def base_of(self, id: str) -> tuple[str, LocalModel]:
        """The public model that a public or registered model stands on; 404 when there is none."""
        if id in self.models:
            id = self.models[id].base_id
        found = self.base_models.get(id)
        if found is None:
            raise Refusal(404, f"Model {id} not found.", code="not_found")
        return id, found

    def configs(self) -> Iterator[tuple[str, str, dict[str, JSON], str]]:
        """Every config: id, the base model's id, the config as the API shows it, and its hardware."""
        for id in self.base_models:
            for hardware in instance_types():
                for mode in ADAPTER_MODES:
                    found = config_id(id, hardware.name, mode)
                    selectors: list[JSON] = [
                        {"key": "accelerator_type", "value": hardware.name.partition("x")[2]},
                        {"key": "accelerator_count", "value": hardware.name.partition("x")[0]},
                        {"key": "adapter_mode", "value": mode},
                    ]
                    yield (
                        found,
                        id,
                        {
                            "id": found,
                            "certifications": [],
                            "projectId": PUBLIC_PROJECT,
                            "referenceModel": f"projects/{PUBLIC_PROJECT}/models/{id}",
                            "referenceModelId": id,
                            "selectors": selectors,
                        },
                        hardware.name,
                    )

    # --- what inference asks ---

    @staticmethod
    def is_endpoint(name: str) -> bool:
        """Whether a model's name is one of this project's endpoints, be it there or not."""
        return name.startswith(f"{SLUG}/")

    def served_by(self, name: str, measured: Measurement) -> str | None:
        """The engine's model behind an endpoint's or a deployment's name; None when it names neither.

        The measurement learns whose request it is.

        Raises
        ------
        Refusal
            400 when nothing is in the endpoint's traffic split; 503 when what is there does not serve yet; 404
            when the adapter after a colon is not attached.
        """
        name, _, adapter = name.partition(":")
        slug, _, rest = name.partition("/")
        if slug != SLUG:
            return None
        endpoint_name, _, deployment_name = rest.partition("/")
        for endpoint in list(self.endpoints.values()):
            if endpoint.name == endpoint_name:
                measured.memory = endpoint.served
                deployment = self._choose(endpoint, deployment_name)
                measured.deployment = deployment.id
                self._check_adapter(deployment, adapter)
                deployment.requests += 1
                deployment.last_request = time.monotonic()
                return deployment.base
        return None

    def _choose(self, endpoint: Endpoint, name: str) -> Deployment:
        if name:
            candidates = [(one, 1.0) for one in endpoint.deployments.values() if one.name == name]
            if not candidates:
                raise Refusal(
                    404, f"Unable to access model {endpoint.full_name}/{name}.", code="model_not_available"
                )
        else:
            candidates = [
                (endpoint.deployments[id], weight)
                for id, weight in endpoint.split.items()
                if id in endpoint.deployments
            ]
            if not candidates:
                raise Refusal(
                    400,
                    f"Endpoint {endpoint.full_name} routes to no deployment: its traffic split is empty.",
                    code="endpoint_not_routed",
                )
        serving = [(one, weight) for one, weight in candidates if one.serves(self.dials)]
        if not serving:
            states = ", ".join(one.state(self.dials).removeprefix(STATE) for one, _ in candidates)
            raise Refusal(
                503,
                f"Endpoint {endpoint.full_name} has no deployment that is ready ({states}).",
                type="service_unavailable",
                code="endpoint_not_ready",
            )
        return random.choices([one for one, _ in serving], [weight for _, weight in serving])[0]

    def _check_adapter(self, deployment: Deployment, adapter: str) -> None:
        if not adapter:
            return
        for attached in deployment.adapters.values():
            if self.models[attached.model_id].name == adapter:
                if attached.state(self.dials).endswith("_READY"):
                    return
                raise Refusal(
                    503,
                    f"Adapter {adapter} is not loaded yet.",
                    type="service_unavailable",
                    code="adapter_not_ready",
                )
        raise Refusal(404, f"Adapter {adapter} is not attached.", code="model_not_available")


class Handlers:
    """Answers requests for one part of what `Management` keeps."""

    def __init__(self, management: Management) -> None:
        self._all = management
