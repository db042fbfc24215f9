"""What the connector reads of the management API's replies, checked once, where they come in.

Each class lists the fields that are read, under the names that the API writes; fields beside these and values of
enumerations that are new stay as they are. A list that is missing or null is an empty one, since servers write it
so. What passes is handed on as the SDK's own type, or as an object of the class.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, ClassVar, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from hana_ai.api.wire.shapes import misfit

if TYPE_CHECKING:
    from together.types.endpoint_traffic_split_entry_param import EndpointTrafficSplitEntryParam

_T = TypeVar("_T")
_M = TypeVar("_M", bound="Snake")

_MOST = 2**53
"""The largest count that every JSON reader takes for the same number."""


def _from_digits(value: object) -> object:
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value) else value


Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0, le=_MOST)]
Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
WrittenCount = Annotated[str, Field(pattern=r"^\d{1,19}$")]
"""A count as a string, as the API writes 64 bits."""
PartNumber = Annotated[int, BeforeValidator(_from_digits), Field(ge=1, le=_MOST)]
"""The number of a part, from 1; the SDK takes it as a string as well."""
Cents = Annotated[float, Field(ge=0, le=10**12, allow_inf_nan=False)]
Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
Amount = Annotated[str, Field(pattern=r"^-?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,2})?$")]
"""A decimal number as a string."""


class Snake(BaseModel):
    """An object whose fields are written like_this."""

    model_config = ConfigDict(strict=True, protected_namespaces=())

    secret_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields, at any depth, of which an error must show nothing."""


class Camel(Snake):
    """An object whose fields are written likeThis."""

    model_config = ConfigDict(alias_generator=to_camel)


class Anything(Snake):
    """An object of which nothing is read."""


class Named(Camel):
    """Anything that has an id."""

    id: Text


class Titled(Named):
    """What is needed to find something by its name."""

    name: Text


class Page(Snake, Generic[_T]):
    """A page of a list."""

    data: list[_T] | None = None
    next_cursor: str | None = None


# --- the account ---


class Project(Snake):
    """A project."""

    id: Text
    slug: str


class Identity(Snake):
    """Whom a key belongs to."""

    type: Text
    project: Project | None = None


class InstanceType(Titled):
    """Hardware with its price."""

    price_cents_per_hour: Cents


class LineItem(Snake):
    """A line of the bill."""

    product_name: Text
    cost: Amount


class BilledDay(Snake):
    """The bill of one day."""

    date: Day
    line_items: list[LineItem] | None = None


# --- endpoints ---


class DeploymentStatus(Camel):
    """The state of a deployment."""

    state: Text
    message: str | None = None


class State(Camel):
    """What is needed of a deployment to wait for it."""

    status: DeploymentStatus


class Deployment(Titled):
    """A deployment."""

    model: Text
    model_id: Text
    config_id: Text
    status: DeploymentStatus


class DeploymentSummary(Titled):
    """A deployment as its endpoint lists it."""

    model: Text
    state: Text
    created_at: datetime | None = None
    hardware: str | None = None
    desired_replicas: Count | None = None
    estimated_effective_traffic_share: Finite | None = None


class SplitEntry(Camel):
    """A deployment's part of the traffic."""

    deployment_id: Text
    weight: Finite


class Holder(Named):
    """What is needed of an endpoint to delete it."""

    deployments: list[Titled] | None = None


class Split(Camel):
    """What is needed of an endpoint to route its traffic."""

    etag: str
    traffic_split: list[SplitEntry] | None = None

    @property
    def params(self) -> list[EndpointTrafficSplitEntryParam]:
        """The traffic split as the SDK takes it."""
        return [
            {"deployment_id": entry.deployment_id, "weight": entry.weight} for entry in self.traffic_split or []
        ]


class Endpoint(Titled):
    """An endpoint."""

    etag: str
    created_at: datetime | None = None
    deployments: list[DeploymentSummary] | None = None
    traffic_split: list[SplitEntry] | None = None


# --- analytics ---


class TimeRange(Camel):
    """From a moment to before another."""

    start_time: datetime | None = None
    end_time: datetime | None = None


class RequestMetrics(Camel):
    """Counts of requests."""

    total_requests: WrittenCount | None = None
    successful_requests: WrittenCount | None = None
    failed_requests: WrittenCount | None = None
    requests_per_second: Finite | None = None
    requests_by_status_code: dict[str, WrittenCount] | None = None


class TokenMetrics(Camel):
    """Counts of tokens."""

    total_input_tokens: WrittenCount | None = None
    total_output_tokens: WrittenCount | None = None
    avg_input_tokens: Finite | None = None
    avg_output_tokens: Finite | None = None


class LatencyMetrics(Camel):
    """Percentiles in milliseconds: of requests, up to the first token, and between two tokens."""

    latency_p50_ms: Finite | None = None
    latency_p90_ms: Finite | None = None
    latency_p99_ms: Finite | None = None
    ttft_p50_ms: Finite | None = None
    ttft_p90_ms: Finite | None = None
    ttft_p99_ms: Finite | None = None
    itl_p50_ms: Finite | None = None
    itl_p90_ms: Finite | None = None
    itl_p99_ms: Finite | None = None


class ErrorMetrics(Camel):
    """How many requests failed, and how."""

    error_rate: Finite | None = None
    errors_by_type: dict[str, WrittenCount] | None = None


class ThroughputMetrics(Camel):
    """What is served in a second, and in a batch."""

    requests_per_second: Finite | None = None
    tokens_per_second: Finite | None = None
    avg_batch_size: Finite | None = None
    avg_batch_depth: Finite | None = None


class Utilization(Camel):
    """How far the hardware is used, in percent."""

    cpu_utilization: Finite | None = None
    gpu_utilization: Finite | None = None
    gpu_memory_utilization: Finite | None = None
    memory_utilization: Finite | None = None
    network_bandwidth_mbps: Finite | None = None


class Metrics(Camel):
    """What is known of the requests of an endpoint or a deployment."""

    request_metrics: RequestMetrics | None = None
    token_metrics: TokenMetrics | None = None
    latency_metrics: LatencyMetrics | None = None
    error_metrics: ErrorMetrics | None = None
    throughput_metrics: ThroughputMetrics | None = None
    resource_utilization: Utilization | None = None


class Bucket(Camel):
    """The metrics of a part of the time."""

    timestamp: datetime
    values: dict[str, Number] | None = None


class Analytics(Camel):
    """The metrics of an endpoint or a deployment, as a whole and over time."""

    time_range: TimeRange | None = None
    metrics: Metrics | None = None
    time_series: list[Bucket] | None = None


class DeploymentAnalytics(Analytics):
    """The metrics of one deployment."""

    deployment_id: Text


class EndpointAnalytics(Analytics):
    """The metrics of an endpoint and of its deployments."""

    endpoint_id: Text
    deployment_analytics: list[DeploymentAnalytics] | None = None


# --- models ---


class Model(Titled):
    """A model of a project."""

    base_model_id: str | None = None


class Selector(Camel):
    """What a config stands for."""

    key: str
    value: str


class Config(Named):
    """A way to deploy a model."""

    project_id: Text
    selectors: list[Selector] | None = None


class Profile(Camel):
    """A certified way to deploy a model."""

    model: str | None = None
    model_name: str | None = None
    config: str | None = None


class SupportedModel(Titled):
    """A model that can be deployed."""

    base_model: str | None = None
    base_model_id: str | None = None
    deployment_profiles: list[Profile] | None = None


# --- adapters ---


class LoadStatus(Camel):
    """How far an adapter is loaded in one place."""

    state: Text
    message: str | None = None
    adapter_valid_reason: str | None = None


class Adapter(Named):
    """An adapter on a deployment."""

    adapter_model_id: Text
    etag: str
    per_cluster: list[LoadStatus] | None = None


class PartAddress(Camel):
    """Where Together wants one part of a file."""

    part_number: PartNumber
    url: Text
    headers: dict[str, str] | None = None


class PlannedFile(Camel):
    """What Together wants of a file: its parts, or nothing, since it has them."""

    path: Text
    skip_upload: bool | None = None
    upload_id: str | None = None
    parts: list[PartAddress] | None = None


class UploadPlan(Camel):
    """What Together wants of the files that it was offered."""

    # The address of a part is a permission.
    secret_fields = frozenset({"parts"})

    files: list[PlannedFile] | None = None


class Uploaded(Camel):
    """The version that an upload made."""

    revision_id: str | None = None


class Import(Named):
    """A job that fetches files from elsewhere."""

    model_id: Text
    remote_url: Text
    status: Text
    status_message: str | None = None


class StoredFile(Camel):
    """A file of a model."""

    path: str | None = None
    hash: str | None = None


class Finding(Camel):
    """What is wrong with a model's files."""

    message: str | None = None


class Revision(Camel):
    """A version of a model's files."""

    revision_id: Text
    validation_status: str | None = None
    validation_errors: list[Finding] | None = None


_BY_TYPE: dict[str, type[Snake]] = {
    "AdapterCreateResponse": Adapter,
    "AdapterListResponse": Adapter,
    "AdapterRetrieveResponse": Adapter,
    "BillingUsageWindow": BilledDay,
    "Config": Config,
    "Endpoint": Endpoint,
    "EndpointDeployment": Deployment,
    "HardwareListResponse": Page[InstanceType],
    "Model": Model,
    "ModelListFilesResponse": Page[StoredFile],
    "ModelListRevisionsResponse": Page[Revision],
    "Project": Project,
    "RemoteUploadCreateResponse": Import,
    "RemoteUploadListResponse": Import,
    "RemoteUploadRetrieveResponse": Import,
    "SupportedModel": SupportedModel,
}
"""What is read of the SDK's types, by their names: the SDK itself is imported when it is needed."""


def schema_of(result: object) -> type[Snake]:
    """What is read of a result of the SDK; of a page, with its entries."""
    kind = type(result)
    generic: dict[str, tuple[type, ...]] = getattr(kind, "__pydantic_generic_metadata__", {})
    if entries := generic.get("args", ()):
        found = _BY_TYPE.get(entries[0].__name__, Anything)
        return Page[found]  # type: ignore[valid-type]
    return _BY_TYPE.get(kind.__name__, Anything)


def read_reply(schema: type[_M], body: bytes, request_id: str | None) -> _M:
    """Read a reply.

    Raises
    ------
    TogetherAIResponseError
        It does not fit; the message has the place, what is there and what was expected.
    """
    try:
        # What is deleted may be answered with nothing at all.
        return schema.model_validate_json(body if body or schema is not Anything else b"{}")
    except ValidationError as exc:
        raise misfit(
            exc, "the management API's reply", request_id=request_id, secret=schema.secret_fields
        ) from None
