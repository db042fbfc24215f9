"""What the product believes of dedicated endpoints, up to the one step that costs: a deployment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hana_ai.api.connector import TogetherAIConnector

from .report import shape
from .together_world import TogetherWorld

Saw = Callable[[str, Any], None]


@dataclass(frozen=True)
class Made:
    """An endpoint without a deployment, which costs nothing."""

    path: str
    name: str
    record: dict[str, Any]


@pytest.fixture
def endpoint(together_world: TogetherWorld) -> Iterator[Made]:
    endpoints = f"/v2/projects/{together_world.project()}/endpoints"
    name = together_world.new_name()
    answer = together_world.send("POST", endpoints, {"name": name})
    if answer.status == 403:
        pytest.skip(f"The key may not create endpoints: {answer.body}")
    assert answer.status == 200, answer.body
    path = f"{endpoints}/{answer.body['id']}"
    together_world.will_delete(path, name)
    yield Made(path, name, answer.body)
    together_world.delete(path, name)


def _profile(world: TogetherWorld) -> dict[str, Any]:
    """A certified model with its config."""
    entries = world.send("GET", "/v2/supported-models", limit="500").body["data"]
    profiles = [profile for entry in entries for profile in entry.get("deploymentProfiles") or []]
    if not profiles:
        pytest.skip("No model has a deployment profile.")
    return dict(min(profiles, key=lambda profile: int(profile.get("gpuCount") or 0)))


def test_an_endpoint_is_made_listed_and_deleted(together_world: TogetherWorld, endpoint: Made, saw: Saw) -> None:
    saw("endpoint, shape", shape(endpoint.record))
    assert endpoint.record["name"].rpartition("/")[2] == endpoint.name
    found = together_world.send("GET", endpoint.path)
    assert found.status == 200, found.body
    assert found.body["id"] == endpoint.record["id"]
    again = together_world.send("POST", endpoint.path.rpartition("/")[0], {"name": endpoint.name})
    saw("endpoint of a name that is taken, status", again.status)
    assert again.status == 409
    together_world.delete(endpoint.path, endpoint.name)
    gone = together_world.send("GET", endpoint.path)
    saw("endpoint that was deleted, status", gone.status)
    assert gone.status == 404


def test_a_deployment_is_validated_without_being_made(
    together_world: TogetherWorld, endpoint: Made, saw: Saw
) -> None:
    profile = _profile(together_world)
    body = {
        "name": endpoint.name,
        "model": f"{profile['model']}/revisions/{profile['certifiedModelRevisionId']}",
        "config": profile["config"],
        "autoscaling": {"minReplicas": 1, "maxReplicas": 1},
    }
    deployments = f"{endpoint.path}/deployments"
    answer = together_world.send("POST", deployments, body, validateOnly="true")
    saw("validateOnly, status", answer.status)
    assert answer.status == 200, answer.body
    saw("validateOnly, shape", shape(answer.body))
    assert together_world.send("GET", deployments).body["data"] == []
    wrong = {**body, "config": "nobody"}
    refused = together_world.send("POST", deployments, wrong, validateOnly="true")
    saw("validateOnly of a wrong config, status", refused.status)
    assert 400 <= refused.status < 500


async def test_a_dedicated_endpoint_answers_and_is_deleted(
    together_world: TogetherWorld, dear: None, saw: Saw
) -> None:
    """The whole life of an endpoint; in the real world with `--spend` alone."""
    name = together_world.new_name()
    model = str(_profile(together_world)["modelName"])
    config = {"base_url": together_world.base_url, "api_key": together_world.api_key}
    async with TogetherAIConnector(config) as connector:
        async with connector.endpoint(model, name, {"type": "dedicated", "timeout": 1200}) as id:
            status = await connector.get_endpoint_status(id)
            saw("status of an endpoint that answers", status)
            assert status == "ready"
            if "chat" in together_world.listed[model].kinds:
                answer = await connector.inference(id, "Say hello.", {"max_tokens": 8})
                assert answer["text"]
        assert name not in {record["name"].rpartition("/")[2] for record in await connector.list_endpoints()}
    together_world.removed.append(name)
