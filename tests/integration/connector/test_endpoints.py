"""Endpoints: what is made, what it costs, what is undone, and what is found again."""

from __future__ import annotations

import asyncio
import math

import pytest
from together import AsyncTogether

from hana_ai.api import (
    TogetherAIConnector,
    TogetherAIError,
    TogetherAIInputError,
    TogetherAIModelNotFoundError,
    TogetherAIPaymentRequiredError,
    TogetherAIServerError,
)
from hana_ai.api.local.together import Refusal
from tests.conftest import ScriptedTogether, cancel
from tests.warm import Warm

from .conftest import DEDICATED, SERVERLESS

ON_DEMAND = {"type": "dedicated"}
AND_WAIT = {**ON_DEMAND, "wait": True}


async def until(connector: TogetherAIConnector, id: str, status: str) -> None:
    async def poll() -> None:
        while await connector.get_endpoint_status(id) != status:  # noqa: ASYNC110 - it is another machine's
            await asyncio.sleep(0.01)

    await asyncio.wait_for(poll(), 30)


# --- aliases ---


async def test_a_serverless_model_gets_an_alias_with_defaults_at_no_cost(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    id = await connector.create_endpoint(SERVERLESS, "short", {"max_tokens": 2, "temperature": 0.1, "top_p": 0.9})

    assert await connector.get_endpoint_status(id) == "ready"
    assert server.management.endpoints == {}
    answer = await connector.inference(id, "one two three")
    assert answer["text"] == "one two"
    assert answer["model"] == SERVERLESS
    sent = server.engine.requests[-1].body
    assert (sent["max_tokens"], sent["temperature"], sent["top_p"]) == (2, 0.1, 0.9)
    assert (await connector.inference("short", "one two three", {"max_tokens": 1}))["text"] == "one"

    [record] = await connector.list_endpoints()
    assert (record["id"], record["name"], record["model"]) == (id, "short", SERVERLESS)
    assert (record["status"], record["type"], record["price_per_hour_usd"]) == ("ready", "alias", 0.0)
    assert record["url"] == f"{server.base_url}/v1"
    assert await connector.delete_endpoint(id) is True
    assert await connector.delete_endpoint(id) is False
    assert await connector.list_endpoints() == []


async def test_a_serverless_model_can_have_hardware_of_its_own(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    await connector.create_endpoint(SERVERLESS, "own", ON_DEMAND)
    assert len(server.management.running()) == 1


# --- what costs money ---


async def test_nothing_is_billed_unless_the_configuration_says_so(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    for config in (None, {}, {"hardware": "1xnvidia-b200-180gb", "min_replicas": 2}, {"type": "serverless"}):
        with pytest.raises(TogetherAIInputError) as caught:
            await connector.create_endpoint(DEDICATED, "big", config)
        words = str(caught.value)
        price = "19.90 USD per hour on 1xnvidia-b200-180gb" if config and len(config) > 1 else "5.49 USD per hour"
        assert price in words
        assert 'endpoint_config={"type": "dedicated"}' in words
    assert server.management.endpoints == {}


async def test_a_range_of_replicas_has_a_range_of_prices(connector: TogetherAIConnector) -> None:
    with pytest.raises(ValueError, match=r"5\.49 to 16\.47 USD per hour"):
        await connector.create_endpoint(DEDICATED, "big", {"max_replicas": 3})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"typ": "dedicated"}, r"has no key typ; did you mean type\? It takes type, hardware"),
        ({"type": "shared"}, '"dedicated" or "serverless"'),
        ({"min_replicas": 0}, "1 <= min_replicas"),
        ({"min_replicas": 3, "max_replicas": 2}, "1 <= min_replicas"),
        ({"inactive_timeout": 5}, "0 or 30 to 1440 minutes"),
        ({"adapter_mode": "many"}, "adapter_mode"),
        ({**ON_DEMAND, "hardware": "1xabacus"}, "no config for hardware 1xabacus .* Available: 1xnvidia"),
    ],
)
async def test_a_wrong_configuration_is_named_before_anything_is_made(
    connector: TogetherAIConnector, server: ScriptedTogether, config: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        await connector.create_endpoint(DEDICATED, "big", config)
    assert server.management.endpoints == {}


@pytest.mark.parametrize("name", ["", "with blank", "a/b"])
async def test_a_wrong_name_is_refused(connector: TogetherAIConnector, name: str) -> None:
    with pytest.raises(ValueError, match="without spaces or slashes"):
        await connector.create_endpoint(DEDICATED, name, ON_DEMAND)


async def test_an_unknown_model_names_available_ones(connector: TogetherAIConnector) -> None:
    with pytest.raises(TogetherAIModelNotFoundError, match=SERVERLESS):
        await connector.create_endpoint("local/chatt", "name", ON_DEMAND)


# --- dedicated deployments ---


async def test_the_sdk_agrees_with_what_was_made(
    connector: TogetherAIConnector, sdk: AsyncTogether, server: ScriptedTogether
) -> None:
    server.management.dials.provisioning = 60
    id = await connector.create_endpoint(
        DEDICATED,
        "big",
        {**ON_DEMAND, "hardware": "2xnvidia-h100-80gb", "max_replicas": 2, "inactive_timeout": 60},
    )
    assert await connector.get_endpoint_status(id) == "creating"

    [endpoint] = (await sdk.endpoints.list()).data
    assert (endpoint.id, endpoint.name) == (id, "local-project/big")
    [deployment] = (await sdk.endpoints.deployments.list(id)).data
    assert [(entry.deployment_id, entry.weight) for entry in endpoint.traffic_split] == [(deployment.id, 1.0)]
    assert deployment.status.state == "DEPLOYMENT_STATE_PROVISIONING"
    assert deployment.hardware == "2xnvidia-h100-80gb"
    assert (deployment.autoscaling.min_replicas, deployment.autoscaling.max_replicas) == (1, 2)
    assert deployment.inactive_timeout == 60

    server.management.dials.provisioning = 0.02
    await until(connector, id, "ready")
    assert await connector.get_endpoint_status(deployment.id) == "ready"
    assert (await connector.inference(id, "Hello"))["model"] == "local-project/big"
    answer = await connector.inference(deployment.id, "Hello")
    assert answer["text"] == "Hello"
    assert math.isnan(answer["cost_usd"])
    [record] = await connector.list_endpoints()
    assert (record["name"], record["model"], record["status"]) == ("local-project/big", DEDICATED, "ready")
    assert record["price_per_hour_usd"] == pytest.approx(10.98)
    assert record["deployments"][0]["traffic"] == 1.0


async def test_the_pre_flight_comes_before_the_deployment(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)
    posts = [
        (request.path.rpartition("/")[2], request.query.get("validateOnly"))
        for request in server.engine.requests
        if request.method in ("POST", "PATCH")
    ]
    assert posts[:3] == [("endpoints", None), ("deployments", "true"), ("deployments", None)]
    assert server.engine.requests[-1].method == "PATCH"


async def test_waiting_returns_when_it_is_ready(connector: TogetherAIConnector) -> None:
    id = await connector.create_endpoint(DEDICATED, "big", AND_WAIT)
    assert await connector.get_endpoint_status(id) == "ready"


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("PROVISIONING", "creating"),
        ("READY", "ready"),
        ("SCALING", "ready"),
        ("DEGRADED", "ready"),
        ("FAILED", "failed"),
        ("STOPPED", "stopped"),
        ("STOPPING", "stopped"),
        ("HIBERNATING", "creating"),
    ],
)
async def test_statuses_come_from_the_states_and_unknown_ones_are_kept(
    connector: TogetherAIConnector, server: ScriptedTogether, state: str, status: str
) -> None:
    id = await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)
    [deployment] = server.management.deployments()
    deployment.forced = f"DEPLOYMENT_STATE_{state}"

    assert await connector.get_endpoint_status(id) == status
    assert await connector.get_endpoint_status(deployment.id) == status
    [record] = await connector.list_endpoints()
    assert (record["status"], record["state"]) == (status, f"DEPLOYMENT_STATE_{state}")


async def test_an_endpoint_that_routes_nowhere_is_stopped(
    connector: TogetherAIConnector, sdk: AsyncTogether
) -> None:
    id = await connector.create_endpoint(DEDICATED, "big", AND_WAIT)
    await sdk.endpoints.update(id, traffic_split=[], update_mask="trafficSplit")
    assert await connector.get_endpoint_status(id) == "stopped"
    with pytest.raises(RuntimeError, match="traffic split is empty"):
        await connector.inference(id, "Hello")


async def test_a_missing_endpoint_is_said_to_be_missing(connector: TogetherAIConnector) -> None:
    for id in ("ep_none", "dep_none"):
        with pytest.raises(RuntimeError, match=f"{id} not found"):
            await connector.get_endpoint_status(id)
        assert await connector.delete_endpoint(id) is False


# --- undoing ---


@pytest.mark.parametrize(
    ("method", "path", "made"),
    [
        ("POST", "/deployments$", "endpoint"),
        ("PATCH", "/endpoints/[^/]+$", "deployment .*, endpoint"),
    ],
)
async def test_a_failure_half_way_is_undone_and_says_what(
    connector: TogetherAIConnector, server: ScriptedTogether, method: str, path: str, made: str
) -> None:
    server.management.refuse(method, path, Refusal(402, "Credit limit exceeded."))
    with pytest.raises(TogetherAIPaymentRequiredError, match=rf"Credit limit .*Created and undone again: {made}"):
        await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)
    assert server.management.endpoints == {}


async def test_a_deployment_that_fails_while_waited_for_is_undone(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    server.management.dials.next_failure = "No capacity in any region"
    with pytest.raises(TogetherAIError, match=r"FAILED: No capacity in any region.*Created and undone again"):
        await connector.create_endpoint(DEDICATED, "big", AND_WAIT)
    assert server.management.endpoints == {}


async def test_waiting_too_long_is_undone_too(connector: TogetherAIConnector, server: ScriptedTogether) -> None:
    server.management.dials.provisioning = 60
    with pytest.raises(TogetherAIError, match=r"not ready after 0\.2 s\..*Created and undone again"):
        await connector.create_endpoint(DEDICATED, "big", {**AND_WAIT, "timeout": 0.2})
    assert server.management.endpoints == {}


async def test_what_could_not_be_undone_is_named_with_its_price(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    refusal = Refusal(403, "Not now.")
    server.management.refuse("PATCH", "/endpoints/", refusal, times=99)
    with pytest.raises(
        RuntimeError, match=r"NOT undone: deployment dep_\w+ \(5\.49 USD per hour .*delete_endpoint"
    ):
        await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)
    assert len(await connector.orphans()) == 1


async def test_a_cancelled_creation_leaves_nothing(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    server.management.dials.provisioning = 60
    task = asyncio.ensure_future(connector.create_endpoint(DEDICATED, "big", AND_WAIT))
    while not server.management.running():  # noqa: ASYNC110 - it happens in the server's thread
        await asyncio.sleep(0.01)
    await cancel(task)
    assert server.management.endpoints == {}


async def test_a_busy_server_is_asked_again(connector: TogetherAIConnector, server: ScriptedTogether) -> None:
    busy = Refusal(503, "Busy.", headers={"retry-after": "0.01"})
    server.management.refuse("POST", "/deployments$", busy, times=2)
    server.management.refuse("PATCH", "/endpoints/[^/]+$", busy)
    await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)
    assert len(server.management.running()) == 1


async def test_a_server_that_stays_busy_is_reported(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    server.management.refuse("POST", "/endpoints$", Refusal(503, "Busy.", headers={"retry-after": "0"}), times=9)
    with pytest.raises(TogetherAIServerError, match=r"Busy\. .*This call had created nothing"):
        await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)


# --- taking over and taking away ---


async def test_a_second_run_takes_over_what_is_there(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    first = await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)
    assert await connector.create_endpoint(DEDICATED, "big", ON_DEMAND) == first
    assert len(server.management.running()) == 1


async def test_a_second_run_starts_what_was_stopped_and_replaces_what_failed(
    connector: TogetherAIConnector, sdk: AsyncTogether, server: ScriptedTogether
) -> None:
    server.management.dials.next_failure = "broken"
    id = await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)
    await until(connector, id, "failed")

    assert await connector.create_endpoint(DEDICATED, "big", AND_WAIT) == id
    [deployment] = server.management.deployments()
    await sdk.endpoints.deployments.update(
        deployment.id, endpoint_id=id, autoscaling={"min_replicas": 0, "max_replicas": 0}
    )
    await until(connector, id, "stopped")
    assert await connector.create_endpoint(DEDICATED, "big", AND_WAIT) == id
    assert await connector.get_endpoint_status(id) == "ready"


async def _stopped(connector: TogetherAIConnector, server: ScriptedTogether, sdk: AsyncTogether) -> str:
    """An endpoint whose deployment costs nothing."""
    id = await connector.create_endpoint(DEDICATED, "big", AND_WAIT)
    [deployment] = server.management.deployments()
    await sdk.endpoints.deployments.update(
        deployment.id, endpoint_id=id, autoscaling={"min_replicas": 0, "max_replicas": 0}
    )
    await until(connector, id, "stopped")
    return id


@pytest.mark.parametrize("what", ["waiting", "routing"])
async def test_what_was_started_again_is_stopped_if_the_rest_fails(
    connector: TogetherAIConnector, sdk: AsyncTogether, server: ScriptedTogether, what: str
) -> None:
    id = await _stopped(connector, server, sdk)
    [deployment] = server.management.deployments()
    if what == "waiting":
        server.management.dials.provisioning = 60.0
        config = {**AND_WAIT, "timeout": 0.2}
        error = "not ready after"
    else:
        server.management.refuse("GET", rf"/endpoints/{id}$", Refusal(402, "Credit limit reached."))
        config, error = AND_WAIT, "Credit limit"
    with pytest.raises(TogetherAIError, match=rf"{error}.*undone again: restart of deployment {deployment.id}"):
        await connector.create_endpoint(DEDICATED, "big", config)
    assert deployment.max_replicas == 0


async def test_what_was_started_again_is_named_if_it_cannot_be_stopped(
    connector: TogetherAIConnector, sdk: AsyncTogether, server: ScriptedTogether
) -> None:
    await _stopped(connector, server, sdk)
    [deployment] = server.management.deployments()
    server.management.dials.provisioning = 60.0

    async def refuse_what_follows() -> None:
        while not deployment.max_replicas:  # noqa: ASYNC110 - it happens in the server's thread
            await asyncio.sleep(0.001)
        server.management.refuse("PATCH", r"/deployments/", Refusal(400, "no"), times=9)

    refusing = asyncio.ensure_future(refuse_what_follows())
    with pytest.raises(
        TogetherAIError,
        match=rf"NOT undone: restart of deployment {deployment.id} \(.*USD per hour.*Call stop_endpoint",
    ):
        await connector.create_endpoint(DEDICATED, "big", {**AND_WAIT, "timeout": 1.0})
    await refusing


async def test_a_name_that_serves_something_else_is_left_alone(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    await connector.create_endpoint(DEDICATED, "big", AND_WAIT)
    with pytest.raises(ValueError, match=r"already exists and serves .*big.*Choose another endpoint_name"):
        await connector.create_endpoint(SERVERLESS, "big", ON_DEMAND)
    assert len(server.management.running()) == 1


async def test_a_change_by_somebody_else_is_read_anew(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    changed = Refusal(409, "The etag is no longer valid.", code="etag_mismatch")
    server.management.refuse("PATCH", "/endpoints/[^/]+$", changed, times=2)
    id = await connector.create_endpoint(DEDICATED, "big", AND_WAIT)
    assert await connector.get_endpoint_status(id) == "ready"


async def test_deletion_follows_the_documented_order(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    id = await connector.create_endpoint(DEDICATED, "big", AND_WAIT)
    server.engine.requests.clear()

    assert await connector.delete_endpoint(id) is True
    changes = [
        (request.method, request.path.split("/")[-2], (request.body or {}).get("autoscaling"))
        for request in server.engine.requests
        if request.method != "GET"
    ]
    assert changes == [
        ("PATCH", "deployments", {"minReplicas": 0, "maxReplicas": 0}),
        ("PATCH", "endpoints", None),
        ("DELETE", "deployments", None),
        ("DELETE", "endpoints", None),
    ]
    assert server.management.endpoints == {}


async def test_a_deletion_that_broke_goes_on(connector: TogetherAIConnector, server: ScriptedTogether) -> None:
    id = await connector.create_endpoint(DEDICATED, "big", AND_WAIT)
    for method, path in (
        ("PATCH", "/endpoints/[^/]+$"),
        ("DELETE", "/deployments/"),
        ("DELETE", "/endpoints/[^/]+$"),
    ):
        server.management.refuse(method, path, Refusal(403, "Not now."))
        with pytest.raises(RuntimeError, match="Not now"):
            await connector.delete_endpoint(id)
    assert await connector.delete_endpoint(id) is True
    assert server.management.endpoints == {}


async def test_one_deployment_of_several_can_be_deleted(
    connector: TogetherAIConnector, sdk: AsyncTogether, server: ScriptedTogether
) -> None:
    id = await connector.create_endpoint(DEDICATED, "big", AND_WAIT)
    [first] = server.management.deployments()
    second = await sdk.endpoints.deployments.create(
        id,
        name="second",
        model=first.model,
        config=f"projects/proj_public/configs/{first.config_id}",
        autoscaling={"min_replicas": 1, "max_replicas": 1},
    )
    assert [one["id"] for one in await connector.orphans()] == [second.id]
    assert await connector.delete_endpoint(second.id) is True
    assert [one.id for one in server.management.deployments()] == [first.id]
    assert await connector.get_endpoint_status(id) == "ready"


# --- a block ---


@pytest.mark.parametrize("end", ["well", "with an error", "cancelled", "disconnected"])
async def test_an_endpoint_for_a_block_always_ends_with_it(server: ScriptedTogether, end: str) -> None:
    connector = TogetherAIConnector()
    await connector.connect(server.client)
    inside = asyncio.Event()

    async def use() -> None:
        async with connector.endpoint(DEDICATED, "brief", ON_DEMAND) as id:
            assert (await connector.inference(id, "Hello"))["text"] == "Hello"
            [deployment] = server.management.running()
            assert deployment.inactive_timeout == 30
            assert await connector.orphans() == []
            inside.set()
            if end == "with an error":
                raise KeyError(end)
            if end == "cancelled":
                await asyncio.sleep(60)
            if end == "disconnected":
                await connector.disconnect()

    task = asyncio.ensure_future(use())
    await asyncio.wait_for(inside.wait(), 10)
    if end == "cancelled":
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert server.management.endpoints == {}
    if end in ("well", "disconnected"):
        task.result()


async def test_a_block_that_is_cancelled_while_it_ends_still_ends_and_is_cancelled(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    server.management.dials.stopping = 0.3
    inside = asyncio.Event()

    async def use() -> None:
        async with connector.endpoint(DEDICATED, "brief", ON_DEMAND):
            inside.set()

    task = asyncio.ensure_future(use())
    await asyncio.wait_for(inside.wait(), 10)
    for _ in range(3):
        await asyncio.sleep(0.02)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.management.endpoints == {}


async def test_a_block_never_takes_over_what_is_there_to_stay(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    kept = await connector.create_endpoint(DEDICATED, "big", AND_WAIT)
    with pytest.raises(ValueError, match="is permanent"):
        async with connector.endpoint(DEDICATED, "big", ON_DEMAND):
            raise AssertionError
    assert await connector.get_endpoint_status(kept) == "ready"

    async with connector.endpoint(DEDICATED, "brief", ON_DEMAND):
        with pytest.raises(ValueError, match="is temporary"):
            await connector.create_endpoint(DEDICATED, "brief", ON_DEMAND)
    assert list(server.management.endpoints) == [kept]


async def test_a_block_around_a_serverless_model_costs_nothing(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    async with connector.endpoint(SERVERLESS, "brief", {"max_tokens": 1}) as id:
        assert (await connector.inference(id, "one two"))["text"] == "one"
        assert server.management.endpoints == {}
    assert await connector.list_endpoints() == []
    with pytest.raises(ValueError, match="USD per hour"):
        async with connector.endpoint(DEDICATED, "brief"):
            raise AssertionError


# --- killed ---

KILLED = """
import asyncio, os, signal, sys
from hana_ai.api import TogetherAIConnector
from hana_ai.api.transport.transport import Transport

_, base_url, key, model, what, stride = sys.argv
use_sdk = Transport.use_sdk

async def run(step):
    done = 0

    async def counted(self, call, operation):
        nonlocal done
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        return await use_sdk(self, call, operation)

    Transport.use_sdk = counted
    async with TogetherAIConnector({"api_key": key, "base_url": base_url}) as connector:
        name, config = f"killed-{step}", {"type": "dedicated", "wait": True}
        if what == "create":
            await connector.create_endpoint(model, name, config)
        else:
            async with connector.endpoint(model, name, config):
                pass

for step in range(1, 60, int(stride)):
    child = os.fork()
    if child == 0:
        asyncio.run(run(step))
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(step, status, flush=True)
    if status != -signal.SIGKILL:
        sys.exit(status)
"""


every_step = pytest.mark.parametrize("stride", [2, pytest.param(1, marks=pytest.mark.slow)])


async def killed(programs: Warm, server: ScriptedTogether, what: str, stride: int) -> list[int]:
    """Run something in processes that are killed before a step, each before a later one; all but the last were."""
    done = await asyncio.to_thread(
        programs.run, KILLED, server.base_url, str(server.api_key), DEDICATED, what, str(stride), timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [int(line.split()[0]) for line in done.stdout.splitlines()]


@every_step
@pytest.mark.timeout(180)
async def test_killed_between_any_two_steps_a_second_run_finds_the_remains(
    connector: TogetherAIConnector, server: ScriptedTogether, programs: Warm, stride: int
) -> None:
    steps = await killed(programs, server, "create", stride)
    assert len(steps) > 8 // stride
    # What runs is either routed, so that its endpoint is listed and serves, or it is among the orphans.
    orphans = {orphan["id"] for orphan in await connector.orphans()}
    assert orphans
    for deployment in server.management.running():
        routed = deployment.id in server.management.endpoint(deployment.endpoint_id).split
        assert routed != (deployment.id in orphans)

    for step in steps:
        id = await connector.create_endpoint(DEDICATED, f"killed-{step}", AND_WAIT)
        assert await connector.get_endpoint_status(id) == "ready"
    assert len(server.management.running()) == len(steps)
    assert await connector.orphans() == []

    for record in await connector.list_endpoints():
        await connector.delete_endpoint(record["id"])
    assert server.management.endpoints == {}


@every_step
@pytest.mark.timeout(180)
async def test_a_killed_block_leaves_no_deployment_unnoticed(
    connector: TogetherAIConnector, server: ScriptedTogether, programs: Warm, stride: int
) -> None:
    await killed(programs, server, "block", stride)
    running = {deployment.id for deployment in server.management.running()}
    orphans = await connector.orphans()
    assert running
    assert {orphan["id"] for orphan in orphans} == running
    # Those that were killed while they stopped need no price.
    assert {orphan["price_per_hour_usd"] for orphan in orphans} <= {5.49, 0.0}

    for orphan in orphans:
        assert await connector.delete_endpoint(orphan["endpoint_id"]) is True
    assert server.management.running() == []
    assert await connector.orphans() == []
