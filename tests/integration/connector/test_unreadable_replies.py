"""Replies that can't be read: nothing that costs money goes on unnamed, and no list is read for ever."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from hana_ai.api import TogetherAIConnector, TogetherAIError, TogetherAIResponseError, TogetherAITimeoutError
from hana_ai.api.catalog.catalog import Catalog
from hana_ai.api.connector.account import Limits
from hana_ai.api.transport.transport import Transport
from tests.conftest import ScriptedTogether

from .conftest import DEDICATED
from .relay import Relay

ON_DEMAND = {"type": "dedicated"}
AND_WAIT = {"type": "dedicated", "wait": True}
DEPLOYMENT = r"/deployments/dep_\w+"
ENDPOINT = r"/endpoints/ep_\w+"
ODD_STATUSES = [None, "x", [], {}, {"state": None}, {"state": 7}, {"state": ["READY"]}, {"state": ""}]


def with_status(status: object) -> Callable[[dict[str, Any]], None]:
    return lambda deployment: deployment.update(status=status)


@pytest.mark.parametrize("status", ODD_STATUSES)
async def test_a_deployment_whose_state_cannot_be_read_is_deleted_all_the_same(
    connector: TogetherAIConnector, server: ScriptedTogether, relay: Relay, status: object
) -> None:
    relay.change(DEPLOYMENT, with_status(status))
    with pytest.raises(
        TogetherAIResponseError, match=r"at status.*Created and undone again: deployment dep_"
    ) as e:
        await connector.create_endpoint(DEDICATED, "big", AND_WAIT)
    assert e.value.request_id
    assert server.management.endpoints == {}


@pytest.mark.parametrize("status", ODD_STATUSES)
async def test_a_block_ends_though_the_state_cannot_be_read(
    connector: TogetherAIConnector, server: ScriptedTogether, relay: Relay, status: object
) -> None:
    async with connector.endpoint(DEDICATED, "brief", ON_DEMAND):
        relay.change(DEPLOYMENT, with_status(status))
    assert server.management.endpoints == {}


@pytest.mark.parametrize("field", ["deployments", "trafficSplit", "etag"])
async def test_a_block_ends_though_its_endpoint_cannot_be_read(
    connector: TogetherAIConnector, server: ScriptedTogether, relay: Relay, field: str
) -> None:
    async with connector.endpoint(DEDICATED, "brief", ON_DEMAND):
        relay.change(ENDPOINT, lambda endpoint: endpoint.update({field: 7}))
        relay.change("/deployments", lambda page: page.update(data=7))
    assert server.management.endpoints == {}


@pytest.mark.parametrize("given", [{}, {"data": None}], ids=["missing", "null"])
async def test_a_list_that_is_missing_or_null_counts_as_empty(
    connector: TogetherAIConnector, relay: Relay, given: dict[str, None]
) -> None:
    await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)
    assert len(await connector.list_endpoints()) == 1

    def without_data(page: dict[str, Any]) -> None:
        page.pop("data")
        page.update(given)

    relay.change("/endpoints", without_data)
    assert await connector.list_endpoints() == []


async def test_fields_that_are_new_do_no_harm(connector: TogetherAIConnector, relay: Relay) -> None:
    id = await connector.create_endpoint(DEDICATED, "big", AND_WAIT)
    before = await connector.list_endpoints()
    for path in (ENDPOINT, DEPLOYMENT, "/endpoints"):
        relay.change(path, lambda reply: reply.update(brandNew={"a": [1]}))
    relay.change("/endpoints", lambda page: [entry.update(brandNew=7) for entry in page["data"]])
    assert await connector.list_endpoints() == before
    assert await connector.get_endpoint_status(id) == "ready"


@pytest.mark.parametrize("path", ["/endpoints", "/deployments"])
async def test_what_was_made_under_an_id_that_cannot_be_read_is_found_by_its_name(
    connector: TogetherAIConnector, server: ScriptedTogether, relay: Relay, path: str
) -> None:
    def without_id(made: dict[str, Any]) -> None:
        if "data" not in made:
            made["id"] = None

    relay.change(path, without_id)
    with pytest.raises(TogetherAIResponseError, match=r"at id: .*Created and undone again: .*endpoint ep_"):
        await connector.create_endpoint(DEDICATED, "big", AND_WAIT)
    assert server.management.endpoints == {}


async def test_what_cannot_be_found_is_named_with_its_price(
    connector: TogetherAIConnector, server: ScriptedTogether, relay: Relay
) -> None:
    relay.change("/deployments", lambda reply: reply.update(id=None, data=7))
    relay.change(ENDPOINT, lambda endpoint: endpoint.update(deployments=7))
    with pytest.raises(
        TogetherAIResponseError,
        match=r"NOT undone: deployment 'main' of endpoint ep_\w+ \(5\.49 USD per hour .*may still cost money",
    ):
        await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)
    assert len(server.management.running()) == 1


async def test_undoing_ends_in_time_and_names_what_still_stops(
    connector: TogetherAIConnector, server: ScriptedTogether, relay: Relay, limit: Callable[..., Limits]
) -> None:
    limit(undo_seconds=0.3)
    server.management.dials.stopping = 60.0
    relay.change(DEPLOYMENT, with_status(None))
    started = time.monotonic()
    with pytest.raises(
        TogetherAIError, match=r"NOT undone: deployment dep_\w+ .* endpoint ep_\w+, because it took"
    ):
        await connector.create_endpoint(DEDICATED, "big", AND_WAIT)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("times", [1, 2])
async def test_a_cancelled_creation_names_what_it_could_not_undo(
    connector: TogetherAIConnector, server: ScriptedTogether, limit: Callable[..., Limits], times: int
) -> None:
    limit(grace_seconds=0.3)
    server.management.dials.stopping = server.management.dials.provisioning = 60.0
    task = asyncio.ensure_future(connector.create_endpoint(DEDICATED, "big", AND_WAIT))
    while not server.management.running():  # noqa: ASYNC110 - it happens in the server's thread
        await asyncio.sleep(0.01)
    started = time.monotonic()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0.05)
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert time.monotonic() - started < 5
    [deployment] = server.management.deployments()
    assert deployment.max_replicas == 0
    assert f"NOT undone: deployment {deployment.id}" in "".join(caught.value.__notes__)


@pytest.mark.parametrize("when", ["inside", "at the end"])
async def test_a_cancelled_block_names_what_it_could_not_delete(
    connector: TogetherAIConnector, server: ScriptedTogether, limit: Callable[..., Limits], when: str
) -> None:
    limit(grace_seconds=0.3)
    inside = asyncio.Event()

    async def use() -> None:
        async with connector.endpoint(DEDICATED, "brief", ON_DEMAND):
            server.management.dials.stopping = 60.0
            inside.set()
            if when == "inside":
                await asyncio.sleep(60)

    task = asyncio.ensure_future(use())
    await inside.wait()
    await asyncio.sleep(0.1)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert time.monotonic() - started < 5
    [deployment] = server.management.deployments()
    assert f"NOT deleted: deployment {deployment.id}" in "".join(caught.value.__notes__)


async def test_deployments_that_an_endpoint_names_by_wrong_ids_are_found_in_their_list(
    connector: TogetherAIConnector, server: ScriptedTogether, relay: Relay
) -> None:
    id = await connector.create_endpoint(DEDICATED, "big", AND_WAIT)
    relay.change(ENDPOINT, lambda endpoint: [one.update(id="dep_x") for one in endpoint.get("deployments", ())])
    assert await connector.delete_endpoint(id)
    assert server.management.endpoints == {}


async def test_a_bill_without_lines_is_nothing_and_one_without_days_an_error(
    connector: TogetherAIConnector, server: ScriptedTogether, relay: Relay
) -> None:
    server.management.bill("2026-01-02", "tokens", "1", "0.5", "0.5")
    span = "2026-01-01", "2026-01-31"
    assert (await connector.get_usage_stats(*span))["billed"]["total_cost_usd"] == 0.5
    relay.change("/billing/usage", lambda page: page["data"][0].update(line_items=None))
    assert (await connector.get_usage_stats(*span))["billed"]["total_cost_usd"] == 0
    relay.change("/billing/usage", lambda page: page["data"][0].update(date="yesterday"))
    with pytest.raises(TogetherAIResponseError, match=r"at data\[0\]\.date: .*yesterday"):
        await connector.get_usage_stats(*span)


@pytest.mark.parametrize("value", [True, -1.5, None, ["chat"], 10**30])
async def test_a_model_has_no_type_that_is_no_word(
    connector: TogetherAIConnector, relay: Relay, value: object
) -> None:
    relay.change("/supported-models", lambda page: [one.update(displayType=value) for one in page["data"]])
    types = {model["type"] for model in await connector.list_available_models()}
    assert types <= {"chat", "language", "embedding", "rerank", ""}


# --- lists ---


def make_endless(relay: Relay, path: str, *, again: bool) -> None:
    numbers = count()

    def change(page: dict[str, Any]) -> None:
        page["next_cursor"] = "the same" if again else f"page-{next(numbers)}"

    relay.change(path, change)
    relay.forgets_cursors = True


async def test_a_list_that_names_a_page_again_is_refused(connector: TogetherAIConnector, relay: Relay) -> None:
    make_endless(relay, "/endpoints", again=True)
    with pytest.raises(TogetherAIResponseError, match=r"a page of a list again \(next_cursor 'the same'\)"):
        await connector.list_endpoints()


async def test_a_list_has_a_largest_number_of_pages(
    connector: TogetherAIConnector, relay: Relay, limit: Callable[..., Limits]
) -> None:
    limit(pages=5)
    make_endless(relay, "/endpoints", again=False)
    with pytest.raises(TogetherAIResponseError, match="a list has more than 5 pages"):
        await connector.list_endpoints()
    assert sum("/endpoints?" in request for request in relay.requests) == 5


async def test_a_list_ends_at_the_deadline_of_a_call(
    server: ScriptedTogether, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_TIMEOUT", "0.7")
    make_endless(relay, "/endpoints", again=False)
    async with TogetherAIConnector({**server.client, "base_url": relay.base_url}) as connector:
        started = time.monotonic()
        with pytest.raises(TogetherAITimeoutError):
            await connector.list_endpoints()
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("sync", [True, False])
async def test_the_catalogue_is_not_read_for_ever(
    server: ScriptedTogether, relay: Relay, again: bool, sync: bool
) -> None:
    make_endless(relay, "/supported-models", again=again)
    catalog = Catalog(Transport(base_url=relay.base_url, api_key=SecretStr(str(server.api_key))))
    if sync:
        models = await asyncio.to_thread(catalog.models)
    else:
        models = await catalog.amodels()
    # The older list stands in for the one without an end.
    assert models
    assert relay.requests[-1] == "GET /v1/models"
    assert len(relay.requests) == (3 if again else 51)


# --- plans of uploads ---

PLAN = "/models/upload/create"
ODD_PLANS: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "files": ("files", lambda plan: plan.update(files="x")),
    "a file that is no object": ("files[0]", lambda plan: plan["files"].__setitem__(0, "x")),
    "a file without a path": ("files[0].path", lambda plan: plan["files"][0].pop("path")),
    "a path that is a number": ("files[0].path", lambda plan: plan["files"][0].update(path=7)),
    "skipUpload": ("files[0].skipUpload", lambda plan: plan["files"][0].update(skipUpload="no")),
    "uploadId": ("files[0].uploadId", lambda plan: plan["files"][0].update(uploadId=[])),
    "parts": ("files[0].parts", lambda plan: plan["files"][0].update(parts={})),
    "a part that is its address": (
        "files[0].parts[0]",
        lambda plan: plan["files"][0].update(parts=[plan["files"][0]["parts"][0]["url"]]),
    ),
    "a part without an address": ("files[0].parts[0].url", lambda plan: plan["files"][0]["parts"][0].pop("url")),
    "a part below 1": (
        "files[0].parts[0].partNumber",
        lambda plan: plan["files"][0]["parts"][0].update(partNumber=0),
    ),
    "a part without a whole number": (
        "files[0].parts[0].partNumber",
        lambda plan: plan["files"][0]["parts"][0].update(partNumber=1.5),
    ),
    "headers": ("files[0].parts[0].headers", lambda plan: plan["files"][0]["parts"][0].update(headers=["x"])),
}


@pytest.mark.parametrize("odd", ODD_PLANS)
async def test_a_plan_of_an_upload_that_does_not_fit_is_named_by_its_place(
    connector: TogetherAIConnector, relay: Relay, adapter: Path, odd: str
) -> None:
    place, change = ODD_PLANS[odd]
    addresses: list[str] = []

    def changed(plan: dict[str, Any]) -> None:
        addresses.extend(part["url"] for file in plan["files"] for part in file["parts"])
        change(plan)

    relay.change(PLAN, changed)
    with pytest.raises(TogetherAIResponseError, match=rf"at {re.escape(place)}: ") as caught:
        await connector.upload_artifact(adapter, {"name": "tuned", "base_model": DEDICATED})
    assert caught.value.request_id
    # An address is a permission.
    assert addresses
    assert not any(address[:40] in str(caught.value) for address in addresses)
