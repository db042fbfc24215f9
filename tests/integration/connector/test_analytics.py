"""Analytics of an endpoint: what the server has served, as the connector and the official SDK read it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from together import AsyncTogether

from hana_ai.api import (
    TogetherAIConnector,
    TogetherAIError,
    TogetherAIInputError,
    TogetherAIInvalidRequestError,
    TogetherAIModelNotFoundError,
)
from hana_ai.api.connector.analytics import Metrics
from hana_ai.api.local.together import Reply, Usage
from tests.conftest import ScriptedTogether

from .conftest import DEDICATED, SERVERLESS

ON_DEMAND = {"type": "dedicated", "wait": True}
NOBODY = {"p50": None, "p90": None, "p99": None}


@pytest.fixture
async def endpoint(connector: TogetherAIConnector) -> AsyncIterator[str]:
    id = await connector.create_endpoint(DEDICATED, "mine", ON_DEMAND)
    yield id
    await connector.delete_endpoint(id)


def ordered(milliseconds: Any) -> list[float]:
    return [milliseconds["p50"], milliseconds["p90"], milliseconds["p99"]]


async def test_what_was_answered_is_counted_and_timed(
    connector: TogetherAIConnector, server: ScriptedTogether, endpoint: str
) -> None:
    server.engine.reply(*[Reply(text="one two three", usage=Usage(7, 3), delay=0.02)] * 3)
    for _ in range(3):
        await connector.inference(endpoint, "Count.")
    async for _ in connector.inference_streaming(endpoint, "one two three four"):
        pass
    found = await connector.get_endpoint_analytics(endpoint)

    assert found["endpoint_id"] == endpoint
    assert (found["total_requests"], found["successful_requests"], found["failed_requests"]) == (4, 4, 0)
    assert found["requests_by_status"] == {"200": 4}
    assert (found["input_tokens"], found["output_tokens"]) == (3 * 7 + 4, 3 * 3 + 4)
    assert (found["average_input_tokens"], found["average_output_tokens"]) == (25 / 4, 13 / 4)
    assert (found["error_percent"], found["errors_by_type"]) == (0.0, {})
    assert ordered(found["latency_ms"]) == sorted(ordered(found["latency_ms"]))
    assert 0 < ordered(found["first_token_ms"])[0] <= ordered(found["latency_ms"])[0]
    assert ordered(found["between_tokens_ms"])[0] >= 0
    # What is not measured is unknown, not zero.
    assert (found["gpu_percent"], found["average_batch_size"]) == (None, None)
    assert found["time_series"] == []
    day = 24 * 3600
    assert found["tokens_per_second"] == pytest.approx(13 / day)
    assert found["start_time"] is not None
    assert found["end_time"] is not None
    covered = datetime.fromisoformat(found["end_time"]) - datetime.fromisoformat(found["start_time"])
    assert covered == timedelta(days=1)


async def test_a_slow_answer_moves_the_percentiles(
    connector: TogetherAIConnector, server: ScriptedTogether, endpoint: str
) -> None:
    slow = 0.25
    server.engine.chunk_delay = slow
    async for _ in connector.inference_streaming(endpoint, "one two"):
        pass
    server.engine.chunk_delay = 0.0
    for _ in range(9):
        await connector.inference(endpoint, "one two")
    found = await connector.get_endpoint_analytics(endpoint)

    assert ordered(found["latency_ms"])[2] >= 1000 * slow
    assert ordered(found["latency_ms"])[0] < 1000 * slow


async def test_failures_are_counted_by_their_status(
    connector: TogetherAIConnector, server: ScriptedTogether, endpoint: str
) -> None:
    with pytest.raises(TogetherAIError):
        await connector.inference(endpoint, "word " * 9000)
    [deployment] = server.management.deployments()
    deployment.forced = "DEPLOYMENT_STATE_FAILED"
    with pytest.raises(TogetherAIError, match="no deployment that is ready"):
        await connector.inference(endpoint, "Hello", {"max_tokens": 1})
    deployment.forced = None
    await connector.inference(endpoint, "Hello")
    found = await connector.get_endpoint_analytics(endpoint)

    status, count = next((one, many) for one, many in found["errors_by_type"].items() if one != "503")
    assert status.startswith("4")
    assert count == 1
    # A failure of the server is tried again.
    tries = found["errors_by_type"]["503"]
    assert tries >= 1
    assert (found["failed_requests"], found["successful_requests"]) == (1 + tries, 1)
    assert found["error_percent"] == pytest.approx(100 * (1 + tries) / (2 + tries))
    # Nobody answered those, so that they are the endpoint's, and no deployment's.
    [of_deployment] = found["deployments"]
    assert (of_deployment["deployment_id"], of_deployment["total_requests"]) == (deployment.id, 2)


async def test_a_client_that_leaves_is_no_success(
    connector: TogetherAIConnector, server: ScriptedTogether, endpoint: str
) -> None:
    server.engine.chunk_delay = 0.02
    stream = connector.inference_streaming(endpoint, "word " * 500)
    await anext(stream)
    await stream.aclose()

    async def left() -> Metrics:
        while not (found := await connector.get_endpoint_analytics(endpoint))["total_requests"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return found

    assert (await asyncio.wait_for(left(), 20))["requests_by_status"] == {"499": 1}


async def test_nothing_asked_is_nothing_served(connector: TogetherAIConnector, endpoint: str) -> None:
    await connector.inference(SERVERLESS, "This is another model's.")
    found = await connector.get_endpoint_analytics(endpoint)

    assert (found["total_requests"], found["input_tokens"], found["error_percent"]) == (0, 0, 0.0)
    assert (found["latency_ms"], found["first_token_ms"]) == (NOBODY, NOBODY)


async def test_over_time_each_bucket_has_its_own_figures(connector: TogetherAIConnector, endpoint: str) -> None:
    await connector.inference(endpoint, "one two three")
    now = datetime.now(UTC)
    start = now - timedelta(hours=2, minutes=30)
    found = await connector.get_endpoint_analytics(endpoint, start, now + timedelta(minutes=30), "1h")

    assert [one["start_time"] for one in found["time_series"]] == [
        (start + timedelta(hours=hours)).isoformat() for hours in range(3)
    ]
    assert [one["values"]["totalRequests"] for one in found["time_series"]] == [0, 0, 1]
    assert found["time_series"][2]["values"]["totalOutputTokens"] == found["output_tokens"] == 3
    assert [len(one["time_series"]) for one in found["deployments"]] == [3]


async def test_days_are_counted_whole(connector: TogetherAIConnector, endpoint: str) -> None:
    await connector.inference(endpoint, "one")
    today, yesterday = datetime.now(UTC).date(), datetime.now(UTC).date() - timedelta(days=1)
    # The day may end between the two calls.
    both = await connector.get_endpoint_analytics(endpoint, yesterday, today + timedelta(days=1), "1d")
    before = await connector.get_endpoint_analytics(endpoint, "2026-01-01", "2026-01-02")

    assert (both["total_requests"], len(both["time_series"])) == (1, 3)
    assert before["total_requests"] == 0
    assert (before["start_time"], before["end_time"]) == ("2026-01-01T00:00:00+00:00", "2026-01-03T00:00:00+00:00")


async def test_a_deployments_id_gives_that_deployment_alone(
    connector: TogetherAIConnector, sdk: AsyncTogether, endpoint: str
) -> None:
    [first] = (await sdk.endpoints.retrieve(endpoint)).deployments or []
    shown = await sdk.endpoints.deployments.retrieve(first.id, endpoint_id=endpoint)
    assert shown.config is not None
    second = await sdk.endpoints.deployments.create(
        endpoint,
        name="second",
        model=shown.model,
        config=shown.config,
        autoscaling={"min_replicas": 1, "max_replicas": 1},
    )
    while await connector.get_endpoint_status(second.id) != "ready":  # noqa: ASYNC110 - it is another machine's
        await asyncio.sleep(0.01)
    for id in (first.id, first.id, second.id):
        await connector.inference(id, "one two")

    both = await connector.get_endpoint_analytics(endpoint)
    alone = await connector.get_endpoint_analytics(second.id)
    assert {one["deployment_id"]: one["total_requests"] for one in both["deployments"]} == {
        first.id: 2,
        second.id: 1,
    }
    assert (both["total_requests"], alone["total_requests"]) == (3, 1)
    assert [one["deployment_id"] for one in alone["deployments"]] == [second.id]


async def test_the_official_sdk_reads_the_same(
    connector: TogetherAIConnector, sdk: AsyncTogether, endpoint: str
) -> None:
    await connector.inference(endpoint, "one two three")
    theirs = await sdk.endpoints.analytics(endpoint, include_time_series=True, granularity="6h")
    ours = await connector.get_endpoint_analytics(endpoint, granularity="6h")

    assert theirs.metrics is not None
    assert theirs.metrics.token_metrics is not None
    assert theirs.metrics.latency_metrics is not None
    assert theirs.metrics.token_metrics.total_output_tokens == str(ours["output_tokens"]) == "3"
    assert theirs.metrics.latency_metrics.latency_p99_ms == ours["latency_ms"]["p99"]
    assert len(theirs.time_series or []) == len(ours["time_series"]) == 4
    # Every field of the reply is one that the SDK knows.
    for part in (theirs, theirs.metrics, theirs.metrics.latency_metrics):
        assert set(part.model_extra or {}) <= {field.alias for field in type(part).model_fields.values()}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"id": "alias-short"}, "'alias-short' is no id of a dedicated endpoint"),
        ({"id": SERVERLESS}, "is no id of a dedicated endpoint or a deployment"),
        ({"start_time": "yesterday"}, "start_time must be a date such as"),
        ({"start_time": "2026-02-01", "end_time": "2026-01-01"}, "is before start_time"),
        ({"granularity": timedelta(hours=1)}, "granularity must be a str"),
    ],
)
async def test_what_makes_no_sense_is_refused_before_it_is_sent(
    connector: TogetherAIConnector, endpoint: str, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(TogetherAIInputError, match=said):
        await connector.get_endpoint_analytics(**{"id": endpoint, **arguments})


async def test_what_the_server_refuses_is_its_error(connector: TogetherAIConnector, endpoint: str) -> None:
    for granularity in ("hourly", "0h", "1s"):
        with pytest.raises(TogetherAIInvalidRequestError, match=r"granularity|buckets"):
            await connector.get_endpoint_analytics(endpoint, granularity=granularity)
    with pytest.raises(TogetherAIInvalidRequestError, match="endTime must be after startTime"):
        await connector.get_endpoint_analytics(endpoint, "2100-01-01")
    for id in ("ep_none", "dep_none"):
        with pytest.raises(TogetherAIModelNotFoundError):
            await connector.get_endpoint_analytics(id)
