"""How an endpoint has done: its requests, tokens, latencies and errors, as a whole and over time."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

from hana_ai.api.connector import replies
from hana_ai.api.connector.billing import moment
from hana_ai.api.connector.endpoints import Endpoints
from hana_ai.api.errors import TogetherAIInputError

if TYPE_CHECKING:
    from together import AsyncTogether
    from together.types import EndpointAnalyticsResponse

    from hana_ai.api.connector.account import Account


class Percentiles(TypedDict):
    """Milliseconds within which half, 90 % and 99 % ended; None where the server does not say."""

    p50: float | None
    p90: float | None
    p99: float | None


class Bucket(TypedDict):
    """The metrics of a part of the time."""

    start_time: str
    values: dict[str, float]
    """By the server's own names."""


class Metrics(TypedDict):
    """What is known of the requests of an endpoint or a deployment; None is unknown, not zero."""

    start_time: str | None
    """ISO time; the first moment that counts."""
    end_time: str | None
    """ISO time; the first moment that does not count any more."""
    total_requests: int | None
    successful_requests: int | None
    failed_requests: int | None
    requests_per_second: float | None
    requests_by_status: dict[str, int]
    input_tokens: int | None
    output_tokens: int | None
    average_input_tokens: float | None
    """Per request, as that of the output."""
    average_output_tokens: float | None
    tokens_per_second: float | None
    """Generated ones."""
    latency_ms: Percentiles
    """From a request to the end of its answer."""
    first_token_ms: Percentiles
    """From a request to its first token."""
    between_tokens_ms: Percentiles
    error_percent: float | None
    errors_by_type: dict[str, int]
    average_batch_size: float | None
    average_batch_depth: float | None
    cpu_percent: float | None
    gpu_percent: float | None
    gpu_memory_percent: float | None
    memory_percent: float | None
    network_mbps: float | None
    """Megabits per second."""
    time_series: list[Bucket]
    """Empty unless `granularity` was given."""


class DeploymentMetrics(Metrics):
    """The metrics of one deployment."""

    deployment_id: str


class EndpointAnalytics(Metrics):
    """The metrics of an endpoint and of its deployments."""

    endpoint_id: str
    deployments: list[DeploymentMetrics]


async def endpoint_analytics(
    account: Account, id: str, start: object, end: object, granularity: object
) -> EndpointAnalytics:
    """The analytics of an endpoint or of one deployment; see `TogetherAIConnector.get_endpoint_analytics`."""
    first = None if start is None else moment(start, "start_time")
    last = None if end is None else moment(end, "end_time", after=True)
    if first is not None and last is not None and last <= first:
        raise TogetherAIInputError(f"end_time {last.isoformat()} is before start_time {first.isoformat()}.")
    if granularity is not None and not isinstance(granularity, str):
        raise TogetherAIInputError(f"granularity must be a str such as '1h', not {granularity!r}.")
    endpoint_id, deployment_id = id, None
    if id.startswith("dep_"):
        endpoint_id, deployment_id = await Endpoints(account).endpoint_of(id), id
    elif not id.startswith("ep_"):
        raise TogetherAIInputError(
            f"{id!r} is no id of a dedicated endpoint or a deployment; list_endpoints() has them. What this "
            "package has asked of other models is in get_usage_stats()."
        )
    project = account.project_id

    async def ask(sdk: AsyncTogether) -> EndpointAnalyticsResponse:
        from together import omit

        return await sdk.endpoints.analytics(
            endpoint_id,
            project_id=project,
            deployment_id=deployment_id or omit,
            start_time=first or omit,
            end_time=last or omit,
            granularity=granularity or omit,
            include_time_series=granularity is not None or omit,
        )

    read = await account.read(ask, replies.EndpointAnalytics)
    return {
        **_metrics(read),
        "endpoint_id": read.endpoint_id,
        "deployments": [
            {**_metrics(one), "deployment_id": one.deployment_id} for one in read.deployment_analytics or []
        ],
    }


def _metrics(read: replies.Analytics) -> Metrics:
    metrics = read.metrics or replies.Metrics()
    span = read.time_range or replies.TimeRange()
    requests = metrics.request_metrics or replies.RequestMetrics()
    tokens = metrics.token_metrics or replies.TokenMetrics()
    latency = metrics.latency_metrics or replies.LatencyMetrics()
    errors = metrics.error_metrics or replies.ErrorMetrics()
    throughput = metrics.throughput_metrics or replies.ThroughputMetrics()
    used = metrics.resource_utilization or replies.Utilization()
    return {
        "start_time": _time(span.start_time),
        "end_time": _time(span.end_time),
        "total_requests": _count(requests.total_requests),
        "successful_requests": _count(requests.successful_requests),
        "failed_requests": _count(requests.failed_requests),
        "requests_per_second": requests.requests_per_second,
        "requests_by_status": _counts(requests.requests_by_status_code),
        "input_tokens": _count(tokens.total_input_tokens),
        "output_tokens": _count(tokens.total_output_tokens),
        "average_input_tokens": tokens.avg_input_tokens,
        "average_output_tokens": tokens.avg_output_tokens,
        "tokens_per_second": throughput.tokens_per_second,
        "latency_ms": {
            "p50": latency.latency_p50_ms,
            "p90": latency.latency_p90_ms,
            "p99": latency.latency_p99_ms,
        },
        "first_token_ms": {"p50": latency.ttft_p50_ms, "p90": latency.ttft_p90_ms, "p99": latency.ttft_p99_ms},
        "between_tokens_ms": {"p50": latency.itl_p50_ms, "p90": latency.itl_p90_ms, "p99": latency.itl_p99_ms},
        "error_percent": errors.error_rate,
        "errors_by_type": _counts(errors.errors_by_type),
        "average_batch_size": throughput.avg_batch_size,
        "average_batch_depth": throughput.avg_batch_depth,
        "cpu_percent": used.cpu_utilization,
        "gpu_percent": used.gpu_utilization,
        "gpu_memory_percent": used.gpu_memory_utilization,
        "memory_percent": used.memory_utilization,
        "network_mbps": used.network_bandwidth_mbps,
        "time_series": [
            {"start_time": one.timestamp.isoformat(), "values": one.values or {}} for one in read.time_series or []
        ],
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _count(written: str | None) -> int | None:
    return None if written is None else int(written)


def _counts(written: dict[str, str] | None) -> dict[str, int]:
    return {name: int(count) for name, count in (written or {}).items()}
