"""Analytics of an endpoint: sums and percentiles over what it has served.

The names in the time series are this server's own, since the API's types leave them open. What it does not
measure, such as the use of a GPU, is left out.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from ...refusal import JSON, Refusal
from ..http import reply
from .records import Endpoint
from .serving import Served
from .state import Handlers

Metrics: TypeAlias = "dict[str, JSON]"

_DAY = timedelta(days=1)
_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": _DAY}
_GRANULARITY = re.compile(r"([1-9]\d{0,4})([smhd])\Z")
_MOST_BUCKETS = 1000
_PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Span:
    """From a moment to before another."""

    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.end - self.start).total_seconds()

    def wire(self) -> Metrics:
        """The span as the API writes it."""
        return {"startTime": _stamp(self.start), "endTime": _stamp(self.end)}


class AnalyticsHandlers(Handlers):
    """The handler of analytics."""

    async def analytics(self, request: Request) -> Response:
        query = request.query_params
        endpoint = self._all.endpoint(request.path_params["id"])
        ids = list(endpoint.deployments)
        if wanted := query.get("deploymentId"):
            self._all.deployment(endpoint.id, wanted)
            ids = [wanted]
        span = _span(query)
        bucket = _bucket(query.get("granularity", "1d"))
        in_time = query.get("includeTimeSeries") == "true"
        if in_time and (span.end - span.start) / bucket > _MOST_BUCKETS:
            raise Refusal(
                400, f"The time range has more than {_MOST_BUCKETS} buckets of this size.", param="granularity"
            )
        served = [
            one
            for one in list(endpoint.served)
            if span.start <= one.at < span.end and (not wanted or one.deployment == wanted)
        ]
        by_deployment = {id: [one for one in served if one.deployment == id] for id in ids}
        return reply(_analytics(endpoint, span, bucket if in_time else None, served, by_deployment))


def _analytics(
    endpoint: Endpoint,
    span: Span,
    bucket: timedelta | None,
    served: Sequence[Served],
    by_deployment: Mapping[str, Sequence[Served]],
) -> Metrics:
    deployments: list[JSON] = []
    metrics_by_deployment: list[JSON] = []
    for id, ones in by_deployment.items():
        names: Metrics = {"deploymentId": id, "endpointId": endpoint.id}
        metrics = names | _metrics(ones, span)
        metrics_by_deployment.append(metrics)
        shown = names | {"metrics": metrics, "timeRange": span.wire()}
        deployments.append(shown if bucket is None else shown | {"timeSeries": _series(ones, span, bucket)})
    whole: Metrics = {
        "endpointId": endpoint.id,
        "timeRange": span.wire(),
        "metrics": {
            "endpointId": endpoint.id,
            "deploymentMetrics": metrics_by_deployment,
            **_metrics(served, span),
        },
        "deploymentAnalytics": deployments,
    }
    return whole if bucket is None else whole | {"timeSeries": _series(served, span, bucket)}


def _metrics(served: Sequence[Served], span: Span) -> Metrics:
    statuses = Counter(str(one.status) for one in served)
    failed = [one for one in served if one.failed]
    good = [one for one in served if not one.failed]
    per_second = len(served) / span.seconds
    tokens_in, tokens_out = sum(one.input_tokens for one in good), sum(one.output_tokens for one in good)
    latency = {
        **_percentiles("latency", [one.seconds for one in good]),
        **_percentiles("ttft", [one.first for one in good if one.first is not None]),
        **_percentiles("itl", [gap for one in good for gap in one.gaps]),
    }
    return {
        "timeRange": span.wire(),
        "requestMetrics": {
            "totalRequests": str(len(served)),
            "successfulRequests": str(len(good)),
            "failedRequests": str(len(failed)),
            "requestsPerSecond": per_second,
            "requestsByStatusCode": {status: str(count) for status, count in statuses.items()},
        },
        "tokenMetrics": {
            "totalInputTokens": str(tokens_in),
            "totalOutputTokens": str(tokens_out),
            "avgInputTokens": tokens_in / len(good) if good else 0.0,
            "avgOutputTokens": tokens_out / len(good) if good else 0.0,
        },
        "latencyMetrics": latency,
        "errorMetrics": {
            "errorRate": 100 * len(failed) / len(served) if served else 0.0,
            "errorsByType": {
                status: str(count) for status, count in Counter(str(one.status) for one in failed).items()
            },
        },
        "throughputMetrics": {
            "requestsPerSecond": len(good) / span.seconds,
            "tokensPerSecond": tokens_out / span.seconds,
        },
    }


def _percentiles(name: str, seconds: Sequence[float]) -> dict[str, JSON]:
    """The percentiles of some durations in milliseconds; none of nothing."""
    ordered = sorted(seconds)
    return {
        f"{name}P{percent}Ms": 1000 * ordered[math.ceil(len(ordered) * percent / 100) - 1]
        for percent in _PERCENTILES
        if ordered
    }


def _series(served: Sequence[Served], span: Span, bucket: timedelta) -> list[JSON]:
    """The metrics of each bucket of the span, those without a request included."""
    found: list[JSON] = []
    start = span.start
    while start < span.end:
        end = min(start + bucket, span.end)
        ones = [one for one in served if start <= one.at < end]
        good = [one for one in ones if not one.failed]
        values: Metrics = {
            "totalRequests": len(ones),
            "failedRequests": len(ones) - len(good),
            "totalInputTokens": sum(one.input_tokens for one in good),
            "totalOutputTokens": sum(one.output_tokens for one in good),
            **_percentiles("latency", [one.seconds for one in good]),
            **_percentiles("ttft", [one.first for one in good if one.first is not None]),
        }
        found.append({"timestamp": _stamp(start), "values": values})
        start = end
    return found


def _span(query: Mapping[str, str]) -> Span:
    end = _moment(query, "endTime", lambda: datetime.now(UTC))
    span = Span(_moment(query, "startTime", lambda: end - _DAY), end)
    if span.end <= span.start:
        raise Refusal(400, "endTime must be after startTime.", param="endTime")
    return span


def _moment(query: Mapping[str, str], name: str, default: Callable[[], datetime]) -> datetime:
    given = query.get(name)
    if given is None:
        return default()
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        raise Refusal(400, f"{name} must be an ISO 8601 time, not {given!r}.", param=name) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _bucket(granularity: str) -> timedelta:
    found = _GRANULARITY.match(granularity)
    if found is None:
        raise Refusal(400, f"granularity must be like 1m, 1h or 1d, not {granularity!r}.", param="granularity")
    return int(found[1]) * _UNITS[found[2]]


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
