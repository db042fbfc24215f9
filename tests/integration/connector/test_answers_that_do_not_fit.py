"""Uploads and attachments where Together's answers are not what was expected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hana_ai.api import (
    TogetherAIConflictError,
    TogetherAIConnector,
    TogetherAIError,
    TogetherAIInputError,
    TogetherAIModelNotFoundError,
)
from hana_ai.api.connector.account import Limits
from hana_ai.api.local.together import Refusal
from hana_ai.api.local.together.api.management.records import Revision
from tests.conftest import ScriptedTogether

from .conftest import DEDICATED, SERVERLESS
from .relay import Relay

METADATA = {"name": "tuned", "base_model": DEDICATED}
AND_WAIT = {"type": "dedicated", "wait": True}
MULTI = {**AND_WAIT, "adapter_mode": "dynamic"}
TAKEN = Refusal(409, "It already exists.", code="already_exists", headers={"x-should-retry": "false"})


@pytest.fixture(autouse=True)
def short_waits(limit: Callable[..., Limits]) -> None:
    limit(first_retry=0.01)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda plan: plan["files"][0].update(path="../other"), r"not offered: '\.\./other'"),
        (lambda plan: plan["files"].pop(), "did not take "),
        (lambda plan: plan["files"][0].update(parts=[]), r"other parts of .* than 1 to 1: \[\]"),
        (lambda plan: plan["files"][0]["parts"][0].pop("url"), r"at files\[0\]\.parts\[0\]\.url: Field required"),
        (lambda plan: plan["files"][0].update(parts=[7]), r"at files\[0\]\.parts\[0\]: Input should be an object"),
        (
            lambda plan: plan["files"][0]["parts"][0].update(url="http://storage.example.com/1"),
            "not https: storage.example.com",
        ),
    ],
)
async def test_a_plan_that_does_not_fit_the_files_is_refused(
    connector: TogetherAIConnector, adapter: Path, relay: Relay, change: Any, words: str
) -> None:
    relay.change("/upload/create", change)
    with pytest.raises(TogetherAIError, match=words):
        await connector.upload_artifact(adapter, METADATA)


async def test_a_part_that_cannot_be_delivered_is_given_up_after_some_tries(
    connector: TogetherAIConnector, adapter: Path, relay: Relay, unused_tcp_port: int
) -> None:
    def nowhere(plan: dict[str, Any]) -> None:
        plan["files"][0]["parts"][0]["url"] = f"http://127.0.0.1:{unused_tcp_port}/1"

    relay.change("/upload/create", nowhere)
    with pytest.raises(TogetherAIError, match=r"no connection for part 1 of .*ConnectError"):
        await connector.upload_artifact(adapter, METADATA)


def with_another_checksum(revision: Revision) -> None:
    [weights] = [file for file in revision.files if file.path == "adapter_model.safetensors"]
    weights.hash = "0" * 32


def found_invalid(revision: Revision) -> None:
    revision.errors.append("The rank is too high.")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (with_another_checksum, r"stored adapter_model\.safetensors with another checksum"),
        (found_invalid, r"refuses the files of ml_.*: The rank is too high\."),
    ],
)
async def test_what_together_says_of_the_files_after_their_upload_is_heeded(
    connector: TogetherAIConnector,
    server: ScriptedTogether,
    adapter: Path,
    relay: Relay,
    changed: Callable[[Revision], None],
    words: str,
) -> None:
    def change(_: dict[str, Any]) -> None:
        [model] = server.management.models.values()
        changed(model.revisions[-1])

    relay.change("/upload/complete", change)
    with pytest.raises(TogetherAIError, match=words):
        await connector.upload_artifact(adapter, METADATA)


async def test_a_name_that_another_base_model_has_is_a_conflict(
    connector: TogetherAIConnector, tmp_path: Path, adapter: Path
) -> None:
    await connector.upload_artifact(adapter, METADATA)
    with pytest.raises(TogetherAIConflictError, match="tuned already exists"):
        await connector.upload_artifact("org/adapter", {"name": "tuned", "base_model": SERVERLESS})


async def test_an_import_that_does_not_end_is_given_up(
    connector: TogetherAIConnector, server: ScriptedTogether, limit: Callable[..., Limits]
) -> None:
    server.management.dials.remote_states = ("RUNNING",)
    limit(import_seconds=0.05)
    with pytest.raises(TogetherAIError, match=r"import of org/adapter is still RUNNING after 0\.05 s"):
        await connector.upload_artifact("org/adapter", METADATA)


async def test_an_adapter_that_is_not_loaded_in_time_is_detached(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path
) -> None:
    endpoint = await connector.create_endpoint(DEDICATED, "many", MULTI)
    server.management.dials.adapter_loading = 60.0
    with pytest.raises(TogetherAIError, match="was not loaded in time and was detached"):
        await connector.deploy_adapter(adapter, DEDICATED, "tuned", {"attach_to": endpoint, "timeout": 0.05})
    [deployment] = server.management.deployments()
    assert deployment.adapters == {}


async def test_a_refused_attachment_that_is_not_there_stays_an_error(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path
) -> None:
    endpoint = await connector.create_endpoint(DEDICATED, "many", MULTI)
    server.management.refuse("POST", "/adapters$", TAKEN)
    with pytest.raises(TogetherAIConflictError, match="already exists"):
        await connector.deploy_adapter(adapter, DEDICATED, "tuned", {"attach_to": endpoint})


async def test_an_endpoint_without_deployments_takes_no_adapter(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path
) -> None:
    endpoint = await connector.create_endpoint(DEDICATED, "empty", MULTI)
    server.management.endpoints[endpoint].deployments.clear()
    with pytest.raises(TogetherAIInputError, match="has no deployment to attach to"):
        await connector.deploy_adapter(adapter, DEDICATED, "tuned", {"attach_to": endpoint})


async def test_an_attachment_is_looked_for_past_deployments_that_take_none(
    connector: TogetherAIConnector, adapter: Path
) -> None:
    await connector.create_endpoint(DEDICATED, "plain", AND_WAIT)
    endpoint = await connector.create_endpoint(DEDICATED, "many", MULTI)
    id = await connector.deploy_adapter(adapter, DEDICATED, "tuned", {"attach_to": endpoint})
    assert await connector.get_endpoint_status(id) == "ready"
    with pytest.raises(TogetherAIModelNotFoundError, match="dad_none is not attached to any deployment"):
        await connector.get_endpoint_status("dad_none")
