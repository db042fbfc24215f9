"""Which project a key belongs to, and by which names models and configs are found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hana_ai.api import (
    TogetherAIConflictError,
    TogetherAIConnector,
    TogetherAIError,
    TogetherAIInputError,
    TogetherAIModelNotFoundError,
    TogetherAIPermissionDeniedError,
    TogetherAISettingsError,
)
from hana_ai.api.connector.account import Limits
from hana_ai.api.local.together import Refusal
from hana_ai.api.local.together.api.hardware import PUBLIC_PROJECT, config_id
from hana_ai.api.local.together.api.management.records import RegisteredModel, Revision, StoredFile
from tests.conftest import ScriptedTogether

from .conftest import DEDICATED, PROJECT, SERVERLESS

ON_DEMAND = {"type": "dedicated"}
TAKEN = Refusal(409, "It already exists.", code="already_exists", headers={"x-should-retry": "false"})


def base_id(server: ScriptedTogether, name: str = DEDICATED) -> str:
    return next(id for id, model in server.management.base_models.items() if model.id == name)


def registered(server: ScriptedTogether, name: str = "tuned") -> RegisteredModel:
    made = RegisteredModel(f"ml_{name}", name, "model", base_id(server), "")
    made.revisions.append(Revision(f"rv_{name}", [StoredFile("model.safetensors", "0" * 32, 1)], []))
    server.management.models[made.id] = made
    return made


# --- projects ---


@pytest.fixture
def organization_key(server: ScriptedTogether) -> None:
    server.management.dials.organization_key = True


@pytest.mark.usefixtures("organization_key")
async def test_an_organisation_with_one_project_means_that_one(server: ScriptedTogether) -> None:
    async with TogetherAIConnector(server.client) as connector:
        await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)
        [record] = await connector.list_endpoints()
    assert record["name"] == "local-project/big"


@pytest.mark.usefixtures("organization_key")
async def test_an_organisation_whose_projects_are_unknown_needs_one_named(server: ScriptedTogether) -> None:
    server.management.refuse("GET", "/projects$", Refusal(404, "Not found.", code="not_found"), times=2)
    async with TogetherAIConnector(server.client) as connector:
        with pytest.raises(TogetherAISettingsError, match="Pass project_id to connect"):
            await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)
        assert await connector.list_endpoints() == []
    async with TogetherAIConnector({**server.client, "project_id": PROJECT}) as connector:
        assert await connector.list_endpoints() == []


async def test_a_project_that_the_key_has_no_access_to_is_refused_by_the_server(server: ScriptedTogether) -> None:
    async with TogetherAIConnector({**server.client, "project_id": "proj_other"}) as connector:
        with pytest.raises(TogetherAIPermissionDeniedError, match="proj_other"):
            await connector.list_endpoints()


async def test_long_lists_are_read_page_by_page(
    connector: TogetherAIConnector, limit: Callable[..., Limits]
) -> None:
    for name in ("first", "second", "third"):
        await connector.create_endpoint(DEDICATED, name, ON_DEMAND)
    limit(page=1)
    listed = {record["name"] for record in await connector.list_endpoints()}
    assert listed == {"local-project/first", "local-project/second", "local-project/third"}


async def test_a_model_whose_name_cannot_be_read_is_listed_by_its_path(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)
    server.management.refuse("GET", "/models/", Refusal(403, "Not yours."))
    [unknown] = await connector.list_endpoints()
    [known] = await connector.list_endpoints()
    assert unknown["model"].startswith(f"projects/{PUBLIC_PROJECT}/models/ml_")
    assert known["model"] == DEDICATED


# --- models ---


async def test_a_model_is_found_by_every_name_it_has(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    public, own = base_id(server), registered(server)
    names = {
        "by-path": (f"projects/{PUBLIC_PROJECT}/models/{public}", public),
        "by-revision": (f"projects/{PUBLIC_PROJECT}/models/{public}/revisions/rv_public", public),
        "by-public-id": (public, public),
        "by-own-id": (own.id, own.id),
        "by-own-name": ("local-project/tuned", own.id),
    }
    for endpoint, (model, _) in names.items():
        await connector.create_endpoint(model, endpoint, ON_DEMAND)
    made = {one.name: next(iter(one.deployments.values())) for one in server.management.endpoints.values()}
    assert {name: made[name].model_id for name in names} == {name: id for name, (_, id) in names.items()}
    assert made["by-revision"].model.endswith("/revisions/rv_public")


@pytest.mark.parametrize(
    "name", [f"projects/{PUBLIC_PROJECT}/models/ml_none", "ml_none", "local-project/none", "local/none"]
)
async def test_a_model_that_is_nowhere_is_named(connector: TogetherAIConnector, name: str) -> None:
    with pytest.raises(TogetherAIModelNotFoundError, match=name):
        await connector.create_endpoint(name, "none", ON_DEMAND)


# --- configs ---


async def test_a_config_is_taken_by_id_and_by_resource_name(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    wanted = config_id(base_id(server), "2xnvidia-h100-80gb", "disabled")
    for name, config in (("by-id", wanted), ("by-path", f"projects/{PUBLIC_PROJECT}/configs/{wanted}")):
        await connector.create_endpoint(DEDICATED, name, {**ON_DEMAND, "config": config})
    assert [one.hardware for one in server.management.deployments()] == ["2xnvidia-h100-80gb"] * 2


async def test_a_config_of_another_model_is_looked_up_and_left_to_the_server(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    other = config_id(base_id(server, SERVERLESS), "1xnvidia-b200-180gb", "disabled")
    with pytest.raises(TogetherAIInputError, match=r"9\.95 USD per hour on 1xnvidia-b200-180gb"):
        await connector.create_endpoint(DEDICATED, "big", {"config": f"projects/{PUBLIC_PROJECT}/configs/{other}"})
    with pytest.raises(TogetherAIModelNotFoundError, match="cr_none"):
        await connector.create_endpoint(DEDICATED, "big", {**ON_DEMAND, "config": "cr_none"})


# --- what others do at the same time ---


async def test_a_taken_name_that_is_not_listed_stays_an_error(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    server.management.refuse("POST", "/endpoints$", TAKEN)
    with pytest.raises(TogetherAIConflictError, match="already exists"):
        await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)


async def test_a_taken_deployment_that_is_not_there_stays_an_error_and_all_is_undone(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    server.management.refuse("POST", "/deployments$", Refusal(503, "Busy.", headers={"retry-after": "0"}))
    server.management.refuse("POST", "/deployments$", TAKEN)
    with pytest.raises(TogetherAIConflictError, match="already exists"):
        await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)
    assert server.management.endpoints == {}


async def test_what_failed_or_stopped_with_another_model_does_not_stand_in_the_way(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    server.management.dials.provisioning = 0.0
    id = await connector.create_endpoint(DEDICATED, "big", {**ON_DEMAND, "hardware": "2xnvidia-h100-80gb"})
    [old] = server.management.deployments()
    old.forced = "DEPLOYMENT_STATE_FAILED"
    assert await connector.create_endpoint(DEDICATED, "big", ON_DEMAND) == id
    hardware = sorted(one.hardware for one in server.management.deployments())
    assert hardware == ["1xnvidia-h100-80gb", "2xnvidia-h100-80gb"]


async def test_an_endpoint_that_is_always_changed_by_others_is_given_up(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    changed = Refusal(409, "The etag is stale.", code="aborted", headers={"x-should-retry": "false"})
    server.management.refuse("PATCH", "/endpoints/[^/]+$", changed, times=99)
    with pytest.raises(TogetherAIConflictError, match="etag is stale"):
        await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)
    assert server.management.endpoints == {}


async def test_a_deployment_that_does_not_stop_is_not_deleted(
    connector: TogetherAIConnector, server: ScriptedTogether, limit: Callable[..., Limits]
) -> None:
    id = await connector.create_endpoint(DEDICATED, "big", ON_DEMAND)
    limit(stop_seconds=0.05)
    server.management.dials.stopping = 60.0
    with pytest.raises(TogetherAIError, match=r"was not stopped after 0\.05 s"):
        await connector.delete_endpoint(id)
    assert len(server.management.running()) == 1


# --- models to choose from ---


async def test_a_server_without_the_list_for_endpoints_still_lists_what_can_be_asked(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    assert DEDICATED in {model["name"] for model in await connector.list_available_models()}
    server.management.refuse("GET", "/supported", Refusal(404, "Not found.", code="not_found"), times=9)
    names = {model["name"] for model in await connector.list_available_models()}
    assert SERVERLESS in names
