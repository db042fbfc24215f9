"""The management API is driven by the SDK's own resources and by its command line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import together

from hana_ai.api.local.together import LocalModel, LocalTogether, Refusal, ScriptedEngine

from .command_line import CommandLine, CommandServer
from .conftest import sdk_of

MODEL, BASE = "local/big", "ml_local-big"
CONFIG = "projects/proj_public/configs/cr_local-big-1xnvidia-h100-80gb-disabled"
DYNAMIC = "projects/proj_public/configs/cr_local-big-1xnvidia-h100-80gb-dynamic"
PATH = f"projects/proj_public/models/{BASE}"
ONE = {"min_replicas": 1, "max_replicas": 1}
NONE = {"min_replicas": 0, "max_replicas": 0}


@pytest.fixture
def server() -> Iterator[LocalTogether]:
    engine = ScriptedEngine(models=[LocalModel(MODEL, serverless=False), LocalModel("local/chat")])
    with LocalTogether(engine) as running:
        dials = running.management.dials
        dials.provisioning = dials.scaling = dials.stopping = dials.adapter_loading = 0.05
        yield running


@pytest.fixture
def sdk(server: LocalTogether) -> Iterator[together.Together]:
    with sdk_of(server, project_id="proj_local") as client:
        yield client


def eventually(found: Callable[[], Any], wanted: Any) -> None:
    deadline = time.monotonic() + 30
    while found() != wanted:
        assert time.monotonic() < deadline, f"still {found()}, not {wanted}"
        time.sleep(0.005)


def deploy(sdk: together.Together, endpoint: Any, config: str = CONFIG, **more: Any) -> Any:
    return sdk.endpoints.deployments.create(
        endpoint.id, name=more.pop("name", "main"), model=PATH, config=config, autoscaling=ONE, **more
    )


def state(sdk: together.Together, deployment: Any) -> str:
    now = sdk.endpoints.deployments.retrieve(deployment.id, endpoint_id=deployment.endpoint_id)
    return now.status.state.removeprefix("DEPLOYMENT_STATE_")


def ask(sdk: together.Together, model: str) -> str | None:
    answer = sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}])
    return answer.choices[0].message.content


def test_a_deployment_lives_from_provisioning_to_stopped(sdk: together.Together) -> None:
    endpoint = sdk.endpoints.create(name="mine")
    deployment = deploy(sdk, endpoint)
    assert deployment.status.state == "DEPLOYMENT_STATE_PROVISIONING"
    eventually(lambda: state(sdk, deployment), "READY")

    where = {"id": deployment.id, "endpoint_id": endpoint.id}
    more: Any = {"min_replicas": 2, "max_replicas": 3}
    assert sdk.endpoints.deployments.update(**where, autoscaling=more).status.state.endswith("SCALING")
    eventually(lambda: state(sdk, deployment), "READY")
    none: Any = NONE
    assert sdk.endpoints.deployments.update(**where, autoscaling=none).status.state.endswith("STOPPING")
    eventually(lambda: state(sdk, deployment), "STOPPED")
    one: Any = ONE
    assert sdk.endpoints.deployments.update(**where, autoscaling=one).status.state.endswith("PROVISIONING")


def test_a_ready_deployment_gets_no_traffic_until_it_is_in_the_split(sdk: together.Together) -> None:
    endpoint = sdk.endpoints.create(name="mine")
    deployment = deploy(sdk, endpoint)
    split: Any = [{"deployment_id": deployment.id, "weight": 1.0}]
    eventually(lambda: state(sdk, deployment), "READY")

    with pytest.raises(together.BadRequestError, match="traffic split is empty"):
        ask(sdk, endpoint.name)
    assert ask(sdk, deployment.name) == "Hello"
    routed = sdk.endpoints.update(endpoint.id, traffic_split=split, etag=endpoint.etag)
    assert ask(sdk, endpoint.name) == "Hello"
    assert routed.deployments[0].estimated_effective_traffic_share == 1.0
    with pytest.raises(together.BadRequestError, match="non-serverless"):
        ask(sdk, MODEL)
    sdk.endpoints.update(endpoint.id, traffic_split=[], update_mask="trafficSplit")
    with pytest.raises(together.BadRequestError, match="traffic split is empty"):
        ask(sdk, endpoint.name)


def test_what_does_not_serve_yet_is_unavailable(sdk: together.Together, server: LocalTogether) -> None:
    server.management.dials.provisioning = 60
    endpoint = sdk.endpoints.create(name="mine")
    split: Any = [{"deployment_id": deploy(sdk, endpoint).id, "weight": 1.0}]
    sdk.endpoints.update(endpoint.id, traffic_split=split)
    with pytest.raises(together.InternalServerError, match="PROVISIONING"):
        ask(sdk, endpoint.name)


def test_traffic_is_split_by_weight(sdk: together.Together, server: LocalTogether) -> None:
    endpoint = sdk.endpoints.create(name="mine")
    first, second = deploy(sdk, endpoint, name="first"), deploy(sdk, endpoint, name="second")
    split: Any = [{"deployment_id": first.id, "weight": 3.0}, {"deployment_id": second.id, "weight": 1.0}]
    sdk.endpoints.update(endpoint.id, traffic_split=split)
    eventually(lambda: state(sdk, second), "READY")
    for _ in range(100):
        ask(sdk, endpoint.name)
    requests = {one.name: one.requests for one in server.management.deployments()}
    assert requests["first"] + requests["second"] == 100
    assert 55 <= requests["first"] <= 93


def test_an_idle_deployment_stops_by_itself(sdk: together.Together, server: LocalTogether) -> None:
    endpoint = sdk.endpoints.create(name="mine")
    deployment = deploy(sdk, endpoint, inactive_timeout=30)
    eventually(lambda: state(sdk, deployment), "READY")
    server.management.dials.minute = 0.005
    eventually(lambda: state(sdk, deployment), "STOPPED")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"autoscaling": {"min_replicas": 0, "max_replicas": 2}}, "both be 0"),
        ({"autoscaling": {"min_replicas": 3, "max_replicas": 2}}, "must not exceed"),
        ({"inactive_timeout": 29}, "30 to 1440"),
        ({"config": "projects/proj_public/configs/cr_local-chat-1xnvidia-h100-80gb-disabled"}, "not compatible"),
        ({"model": "big"}, "model must be projects/"),
        ({"name": "a b"}, "name must be"),
    ],
)
def test_a_request_that_is_not_valid_is_refused_also_before_it_counts(
    sdk: together.Together, fields: dict[str, Any], words: str
) -> None:
    endpoint = sdk.endpoints.create(name="mine")
    good = {"name": "main", "model": PATH, "config": CONFIG, "autoscaling": ONE}
    for validate_only in (True, False):
        with pytest.raises(together.BadRequestError, match=words):
            sdk.endpoints.deployments.create(endpoint.id, **{**good, **fields}, validate_only=validate_only)
    sdk.endpoints.deployments.create(endpoint.id, **good, validate_only=True)  # type: ignore[arg-type]
    assert sdk.endpoints.deployments.list(endpoint.id).data == []


def test_things_go_in_the_documented_order_only(sdk: together.Together) -> None:
    endpoint = sdk.endpoints.create(name="mine")
    deployment = deploy(sdk, endpoint)
    split: Any = [{"deployment_id": deployment.id, "weight": 1.0}]
    sdk.endpoints.update(endpoint.id, traffic_split=split)
    none: Any = NONE

    with pytest.raises(together.BadRequestError, match="still has deployments"):
        sdk.endpoints.delete(endpoint.id)
    with pytest.raises(together.BadRequestError, match="set its replicas to 0/0"):
        sdk.endpoints.deployments.delete(deployment.id, endpoint_id=endpoint.id)
    sdk.endpoints.deployments.update(deployment.id, endpoint_id=endpoint.id, autoscaling=none)
    eventually(lambda: state(sdk, deployment), "STOPPED")
    with pytest.raises(together.BadRequestError, match="in the traffic split"):
        sdk.endpoints.deployments.delete(deployment.id, endpoint_id=endpoint.id)
    sdk.endpoints.update(endpoint.id, traffic_split=[], update_mask="trafficSplit")
    sdk.endpoints.deployments.delete(deployment.id, endpoint_id=endpoint.id)
    sdk.endpoints.delete(endpoint.id)
    with pytest.raises(together.NotFoundError):
        sdk.endpoints.retrieve(endpoint.id)


def test_an_old_etag_is_refused(sdk: together.Together) -> None:
    endpoint = sdk.endpoints.create(name="mine")
    sdk.endpoints.update(endpoint.id, visibility="VISIBILITY_INTERNAL", etag=endpoint.etag)
    with pytest.raises(together.ConflictError, match="changed by somebody else"):
        sdk.endpoints.update(endpoint.id, visibility="VISIBILITY_PRIVATE", etag=endpoint.etag)
    with pytest.raises(together.ConflictError):
        sdk.endpoints.delete(endpoint.id, etag=endpoint.etag)
    with pytest.raises(together.ConflictError, match="already exists"):
        sdk.endpoints.create(name="local-project/mine")
    with pytest.raises(together.BadRequestError, match="no fields to update"):
        sdk.endpoints.update(endpoint.id)


def test_lists_come_in_pages_and_by_name(sdk: together.Together) -> None:
    for number in range(5):
        sdk.endpoints.create(name=f"endpoint-{number}")
    assert [one.name[-1] for one in sdk.endpoints.list(limit=2)] == list("01234")
    assert [one.name for one in sdk.endpoints.list(filter='name="endpoint-3"')] == ["local-project/endpoint-3"]
    assert len(sdk.endpoints.list(filter='name:"endpoint"').data) == 5
    assert [one.id for one in sdk.projects.list()] == ["proj_local"]


def test_a_dialled_failure_comes_so_often_and_no_more(sdk: together.Together, server: LocalTogether) -> None:
    server.management.refuse("POST", "/endpoints$", Refusal(503, "No capacity."), times=2)
    for _ in range(2):
        with pytest.raises(together.InternalServerError, match="No capacity"):
            sdk.endpoints.create(name="mine")
    sdk.endpoints.create(name="mine")


def test_adapters_are_attached_and_taken_off(sdk: together.Together, server: LocalTogether) -> None:
    adapter = sdk.models.create(name="tuned", base_model_id=BASE, type="adapter")
    endpoint = sdk.endpoints.create(name="mine")
    many, plain = deploy(sdk, endpoint, DYNAMIC), deploy(sdk, endpoint, name="plain")
    where: dict[str, Any] = {"endpoint_id": endpoint.id, "deployment_id": many.id}

    with pytest.raises(together.BadRequestError, match="no such valid revision"):
        sdk.endpoints.adapters.create(**where, adapter_model_id=adapter.id)
    server.management.dials.remote_step = 0
    sdk.models.remote_uploads.create(model_id=adapter.id, remote_url="org/adapter")
    assert len(sdk.models.list_files(adapter.id).data) == 2
    with pytest.raises(together.BadRequestError, match="adapter_mode disabled"):
        sdk.endpoints.adapters.create(endpoint_id=endpoint.id, deployment_id=plain.id, adapter_model_id=adapter.id)
    attached = sdk.endpoints.adapters.create(**where, adapter_model_id=adapter.id)
    assert attached.per_cluster[0].state == "ADAPTER_LOAD_STATE_PENDING"
    eventually(
        lambda: sdk.endpoints.adapters.retrieve(attached.id, **where).per_cluster[0].state,
        "ADAPTER_LOAD_STATE_READY",
    )
    with pytest.raises(together.ConflictError):
        sdk.endpoints.adapters.delete(attached.id, **where, etag="old")
    sdk.endpoints.adapters.delete(attached.id, **where, etag=attached.etag)
    assert sdk.endpoints.adapters.list(**where).data == []


def test_the_bill_is_there_only_where_it_is_enabled(sdk: together.Together, server: LocalTogether) -> None:
    with pytest.raises(together.NotFoundError):
        sdk.organization.usage.costs.list()
    server.management.bill("2026-01-02", "Tokens", "10", "0.1", "1.0")
    report = sdk.organization.usage.costs.list(month="2026-01")
    [window] = list(report)
    assert (window.date, window.line_items[0].cost) == ("2026-01-02", "1.0")
    assert list(sdk.organization.usage.costs.list(month="2025-12")) == []


def test_hardware_and_configs_have_what_a_price_needs(sdk: together.Together) -> None:
    hardware = {one.name: one.price_cents_per_hour for one in sdk.endpoints.hardware.list().data}
    configs = list(sdk.models.configs.list(reference_model_id=BASE, limit=2))
    assert len(configs) == 6
    for config in configs:
        told = {selector.key: selector.value for selector in config.selectors}
        assert hardware[f"{told['accelerator_count']}x{told['accelerator_type']}"] > 0
    assert sdk.models.configs.retrieve(configs[0].id).reference_model_id == BASE
    assert sdk.models.retrieve(BASE, project_id="proj_public").name == MODEL


def test_the_commands_of_the_sdk_deploy_upload_attach_and_delete(
    server: LocalTogether, commands: CommandServer, tmp_path: Path
) -> None:
    server.management.dials.stopping = 0  # `rm --force` does not wait
    environment = {
        **os.environ,
        **server.environment(),
        "TOGETHER_PROJECT_ID": "proj_local",
        "HOME": str(tmp_path),
        # The command would speak with the world otherwise.
        "TOGETHER_TELEMETRY_DISABLED": "true",
        "TOGETHER_DISABLE_VERSION_CHECK": "true",
    }

    drive(CommandLine(commands, environment, tmp_path), server, tmp_path)


def drive(tg: Callable[..., Any], server: LocalTogether, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"r": 8}')
    (folder / "adapter_model.safetensors").write_bytes(os.urandom(21 * 1024 * 1024))

    assert tg("whoami")["project"]["slug"] == "local-project"
    made = tg("endpoints", "deploy", "--model", MODEL, "--endpoint", "mine", "--traffic-weight", "1")
    adapter = tg("models", "create", "tuned", "--base-model", MODEL, "--type", "adapter")["id"]
    assert tg("models", "upload", adapter, str(folder))["revisionId"].startswith("rv_")
    assert {file["path"] for file in tg("models", "ls-files", adapter)["data"]} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    attached = tg(
        "endpoints", "deploy", "--model", adapter, "--endpoint", "many", "--attach-adapter",
        "--config", DYNAMIC.rpartition("/")[2],
    )  # fmt: skip
    assert attached["adapter"]["adapterModelId"] == adapter
    assert len(tg("endpoints", "ls")["data"]) == 2
    assert tg("endpoints", "retrieve", "mine")["id"] == made["endpoint"]["id"]
    tg("endpoints", "rm", attached["adapter"]["id"])
    for endpoint in tg("endpoints", "ls")["data"]:
        tg("endpoints", "rm", endpoint["id"], "--force")
    assert server.management.endpoints == {}


def test_a_deployment_is_deleted_right_after_its_replicas_were_taken_away(
    sdk: together.Together, server: LocalTogether
) -> None:
    endpoint = sdk.endpoints.create(name="mine")
    deployment = deploy(sdk, endpoint)
    eventually(lambda: state(sdk, deployment), "READY")
    none: Any = NONE
    server.management.dials.stopping = 0.2
    server.management.dials.patience = 0
    sdk.endpoints.deployments.update(deployment.id, endpoint_id=endpoint.id, autoscaling=none)
    with pytest.raises(together.BadRequestError, match="is STOPPING"):
        sdk.endpoints.deployments.delete(deployment.id, endpoint_id=endpoint.id)
    server.management.dials.patience = 5
    sdk.endpoints.deployments.delete(deployment.id, endpoint_id=endpoint.id)
    sdk.endpoints.delete(endpoint.id)


def test_experiments_and_rollouts_are_shown_as_a_test_made_them(
    sdk: together.Together, server: LocalTogether
) -> None:
    endpoint = sdk.endpoints.create(name="mine")
    made = server.management.show(endpoint.id, "abExperiments", name="half", members=[])
    [listed] = sdk.endpoints.ab_experiments.list(endpoint.id).data
    assert (listed.id, listed.name) == (made["id"], "half")
    assert sdk.endpoints.ab_experiments.retrieve(str(made["id"]), endpoint_id=endpoint.id).name == "half"
    assert sdk.endpoints.rollouts.list(endpoint.id).data == []
    with pytest.raises(together.NotFoundError, match="rol_none not found"):
        sdk.endpoints.rollouts.retrieve("rol_none", endpoint_id=endpoint.id)
    with pytest.raises(together.BadRequestError, match="does not run them"):
        sdk.endpoints.rollouts.pause("rol_none", endpoint_id=endpoint.id)
    assert [one.id for one in sdk.endpoints.placement_profiles.list().data] == ["pp_local"]
