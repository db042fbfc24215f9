"""Adapters: folders are checked, uploaded in parts and deployed, merged or attached."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from together import AsyncTogether

from hana_ai.api import TogetherAIConnector, TogetherAIError, TogetherAIModelNotFoundError
from hana_ai.api.connector.account import Account, Limits
from hana_ai.api.connector.upload_parts import JOURNAL, UploadProgress
from hana_ai.api.local.together import Refusal
from tests.conftest import ScriptedTogether, eventually

from .conftest import DEDICATED, SERVERLESS, write_adapter
from .relay import Relay

METADATA = {"name": "tuned", "base_model": DEDICATED}
AND_WAIT = {"type": "dedicated", "wait": True}


def part_hash(path: Path) -> str:
    """The checksum as the API defines it, computed here in the plainest way."""
    data, size = path.read_bytes(), Account.limits.part_bytes
    digests = [hashlib.md5(data[at : at + size]).digest() for at in range(0, len(data), size)]
    return (
        digests[0].hex() if len(digests) == 1 else f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(digests)}"
    )


@pytest.fixture(autouse=True)
def short_waits(limit: Callable[..., Limits]) -> None:
    limit(first_retry=0.01)


@pytest.fixture
def small_parts(limit: Callable[..., Limits]) -> int:
    """Parts of a megabyte, so that a file of many is not large."""
    return limit(part_bytes=1024 * 1024).part_bytes


# --- a folder is checked first ---


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
async def test_a_folder_without_its_files_is_refused(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path, missing: str
) -> None:
    (adapter / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"^No adapter files found in .*{missing}") as caught:
        await connector.upload_artifact(adapter, METADATA)
    assert isinstance(caught.value, RuntimeError)
    assert server.management.models == {}


async def test_a_folder_that_is_not_there_is_refused(connector: TogetherAIConnector, tmp_path: Path) -> None:
    for path in (tmp_path / "none", str(tmp_path / "none"), "./none"):
        with pytest.raises(FileNotFoundError, match="No adapter files found"):
            await connector.upload_artifact(path, METADATA)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"r": None}, "no rank"),
        ({"r": 0}, "no rank"),
        ({"r": "8"}, "no rank"),
        ({"base_model_name_or_path": "other/model"}, "trained on 'other/model', not on base_model='local/big'"),
    ],
)
async def test_a_configuration_that_does_not_fit_is_refused(
    connector: TogetherAIConnector, server: ScriptedTogether, tmp_path: Path, config: dict[str, object], words: str
) -> None:
    folder = write_adapter(tmp_path / "wrong", **config)
    with pytest.raises(ValueError, match=words):
        await connector.upload_artifact(folder, METADATA)
    with pytest.raises(ValueError, match=words):
        await connector.deploy_adapter(folder, DEDICATED, "tuned", AND_WAIT)
    assert server.management.models == {}


async def test_a_configuration_that_is_no_json_is_refused(connector: TogetherAIConnector, adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        await connector.upload_artifact(adapter, METADATA)


@pytest.mark.parametrize("metadata", [{}, {"name": "tuned"}, {"base_model": DEDICATED}])
async def test_name_and_base_are_needed(
    connector: TogetherAIConnector, adapter: Path, metadata: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="metadata needs"):
        await connector.upload_artifact(adapter, metadata)


async def test_an_unknown_base_model_names_available_ones(connector: TogetherAIConnector, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "gone", base_model_name_or_path="local/gone")
    with pytest.raises(TogetherAIModelNotFoundError, match=SERVERLESS):
        await connector.upload_artifact(folder, {"name": "tuned", "base_model": "local/gone"})


# --- uploads in parts ---


async def test_the_sdk_lists_what_was_uploaded(
    connector: TogetherAIConnector, sdk: AsyncTogether, adapter: Path
) -> None:
    (adapter / "more").mkdir()
    (adapter / "more" / "notes.txt").write_text("Trained on Tuesday.")
    id = await connector.upload_artifact(adapter, {**METADATA, "description": "For invoices."})

    model = await sdk.models.retrieve(id)
    assert (model.name, model.description) == ("local-project/tuned", "For invoices.")
    assert (model.weights.type, model.base_model_id) == ("WEIGHTS_TYPE_ADAPTER", "ml_local-big")
    files = {file.path: file.hash for file in (await sdk.models.list_files(id)).data}
    assert files == {
        name: part_hash(adapter / name)
        for name in ("adapter_config.json", "adapter_model.safetensors", "more/notes.txt")
    }
    assert not (adapter / JOURNAL).exists()


async def test_100_megabytes_arrive_in_parts_although_one_fails_twice(
    connector: TogetherAIConnector, sdk: AsyncTogether, server: ScriptedTogether, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "large", size=100_000_000)
    server.management.refuse("PUT", "/3$", Refusal(503, "Slow down."), times=2)
    told: list[UploadProgress] = []

    id = await connector.upload_artifact(folder, METADATA, on_progress=told.append)

    puts = [request.path.rpartition("/")[2] for request in server.engine.requests if request.method == "PUT"]
    assert sorted(puts) == ["1", "1", "2", "3", "3", "3", "4", "5"]
    weights = folder / "adapter_model.safetensors"
    files = {file.path: file for file in (await sdk.models.list_files(id)).data}
    assert files[weights.name].hash == part_hash(weights)
    assert Account.limits.part_bytes == 20 * 1024 * 1024
    assert files[weights.name].hash.endswith("-5")
    assert files[weights.name].size_bytes == "100000000"
    total = sum(path.stat().st_size for path in folder.iterdir() if not path.name.startswith("."))
    assert [one.sent_bytes for one in told] == sorted(one.sent_bytes for one in told)
    assert told[-1].sent_bytes == told[-1].total_bytes == total
    assert {(one.path, one.part) for one in told if one.parts > 1} == {(weights.name, n) for n in range(1, 6)}


async def test_the_key_is_not_sent_to_the_storage(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path
) -> None:
    await connector.upload_artifact(adapter, METADATA)
    puts = [request for request in server.engine.requests if request.method == "PUT"]
    assert len(puts) == 2
    for request in puts:
        assert "authorization" not in request.headers
        # What came with the address is sent along.
        assert "x-amz-meta-part" in request.headers


async def test_a_part_that_is_refused_for_good_is_not_tried_again(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path
) -> None:
    server.management.refuse("PUT", "/1$", Refusal(403, "The address has expired."), times=2)
    with pytest.raises(TogetherAIError, match=r"refused part 1 of adapter_.* with 403: .*has expired"):
        await connector.upload_artifact(adapter, METADATA)
    assert sum(request.method == "PUT" for request in server.engine.requests) <= 2


async def test_a_part_that_fails_five_times_ends_the_upload(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path
) -> None:
    server.management.refuse("PUT", "/1$", Refusal(500, "No disk."), times=99)
    with pytest.raises(TogetherAIError, match="No disk"):
        await connector.upload_artifact(adapter, METADATA)
    assert sum(request.method == "PUT" for request in server.engine.requests) == 5


async def test_an_upload_that_broke_goes_on_with_the_missing_parts(
    connector: TogetherAIConnector, server: ScriptedTogether, small_parts: int, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "large", size=3 * small_parts + 5)
    server.management.refuse("PUT", "/4$", Refusal(400, "Bad luck."))
    with pytest.raises(TogetherAIError, match="Bad luck"):
        await connector.upload_artifact(folder, METADATA)
    [model] = server.management.models.values()
    noted = {
        number for parts in orjson.loads((folder / JOURNAL).read_bytes())["done"].values() for number in parts
    }
    server.engine.requests.clear()

    assert await connector.upload_artifact(folder, METADATA) == model.id
    sent = {request.path.rpartition("/")[2] for request in server.engine.requests if request.method == "PUT"}
    assert "4" in sent
    assert sent.isdisjoint(noted - {"1"}), "a part was sent again"
    assert [file.hash for file in model.revisions[-1].files][-1] == part_hash(folder / "adapter_model.safetensors")
    assert not (folder / JOURNAL).exists()


KILLED = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
import hana_ai
hana_ai.__path__ = [sys.argv[1] + "/hana_ai", *hana_ai.__path__]
from hana_ai.api import TogetherAIConnector
from dataclasses import replace
from hana_ai.api.connector.account import Account
Account.limits = replace(Account.limits, part_bytes=1024 * 1024)

async def main(base_url, key, folder, base):
    async with TogetherAIConnector({"api_key": key, "base_url": base_url}) as connector:
        def progress(told):
            print(told.path, told.part, flush=True)
        await connector.upload_artifact(folder, {"name": "tuned", "base_model": base}, on_progress=progress)

asyncio.run(main(*sys.argv[2:]))
"""


@pytest.mark.timeout(120)
async def test_a_killed_upload_goes_on_in_the_next_process(
    connector: TogetherAIConnector, server: ScriptedTogether, small_parts: int, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "large", size=40 * small_parts)
    root = str(Path(__file__).parents[3])
    process = subprocess.Popen(  # noqa: ASYNC220 - read in a thread, killed at once
        [sys.executable, "-c", KILLED, root, server.base_url, str(server.api_key), str(folder), DEDICATED],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []

    def until_two_parts() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if sum("safetensors" in one for one in lines) == 2:
                return

    await asyncio.to_thread(until_two_parts)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    await eventually(lambda: server.statistics.active == 0)
    [model] = server.management.models.values()
    assert model.revisions == []
    server.engine.requests.clear()

    assert await connector.upload_artifact(folder, METADATA) == model.id
    sent = [request.path for request in server.engine.requests if request.method == "PUT"]
    # Two parts had been told of; the configuration is a part of its own.
    parts = sum(-(-file.stat().st_size // small_parts) for file in folder.iterdir() if file.name != JOURNAL)
    assert 0 < len(sent) <= parts - 2
    assert model.revisions[-1].files[-1].hash == part_hash(folder / "adapter_model.safetensors")


async def test_the_same_files_again_are_not_sent_again(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path
) -> None:
    id = await connector.upload_artifact(adapter, METADATA)
    server.engine.requests.clear()
    told: list[UploadProgress] = []
    assert await connector.upload_artifact(adapter, METADATA, on_progress=told.append) == id
    assert not [request for request in server.engine.requests if request.method == "PUT"]
    assert told[-1].sent_bytes == told[-1].total_bytes


async def test_a_part_that_arrives_changed_is_sent_again(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path
) -> None:
    server.management.dials.corrupt_parts = 1
    await connector.upload_artifact(adapter, METADATA)
    assert sum(request.method == "PUT" for request in server.engine.requests) == 3

    server.management.dials.corrupt_parts = 99
    with pytest.raises(TogetherAIError, match=r"has part 1 of .* with checksum '\w+', not the file's own"):
        await connector.upload_artifact(adapter, {**METADATA, "name": "other"})


async def test_files_that_together_refuses_are_reported(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path
) -> None:
    server.management.refuse("POST", "/upload/complete$", Refusal(400, "The parts are not those.", param="files"))
    with pytest.raises(TogetherAIError, match="The parts are not those"):
        await connector.upload_artifact(adapter, METADATA)


async def test_a_folder_that_cant_be_written_is_uploaded_all_the_same(
    connector: TogetherAIConnector, adapter: Path
) -> None:
    # A folder in the place of the note: root may write into folders that are read-only.
    (adapter / JOURNAL).mkdir()
    assert (await connector.upload_artifact(adapter, METADATA)).startswith("ml_")


# --- from elsewhere ---


@pytest.mark.parametrize("source", ["org/adapter", "https://storage.example.com/a.tar.gz?X-Signature=secret"])
async def test_a_remote_adapter_is_fetched_by_together(
    connector: TogetherAIConnector, sdk: AsyncTogether, server: ScriptedTogether, source: str
) -> None:
    # ERROR is not the end: the job is started again.
    server.management.dials.remote_states = ("PENDING", "RUNNING", "ERROR", "RUNNING", "SUCCEEDED")
    id = await connector.upload_artifact(source, {**METADATA, "token": "hf"})

    [upload] = (await sdk.models.remote_uploads.list()).data
    assert (upload.api_model_id, upload.remote_url) == (id, source)
    assert upload.status == "REMOTE_UPLOAD_STATUS_SUCCEEDED"
    assert {file.path for file in (await sdk.models.list_files(id)).data} > {"adapter_config.json"}
    [created] = [one for one in server.engine.requests if one.path.endswith("/uploads") and one.method == "POST"]
    assert created.body["token"] == "hf"


async def test_a_remote_upload_that_still_runs_is_waited_for_and_not_begun_again(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    server.management.dials.remote_step = 60
    first = asyncio.ensure_future(connector.upload_artifact("org/adapter", METADATA))
    # Asked for its state, it knows the upload's name.
    await eventually(lambda: any("/uploads/" in request.path for request in list(server.engine.requests)))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)

    server.engine.requests.clear()
    second = asyncio.ensure_future(connector.upload_artifact("org/adapter", METADATA))
    await eventually(lambda: any("/uploads/" in request.path for request in list(server.engine.requests)))
    server.management.dials.remote_step = 0.01
    await second
    assert len(server.management.remote_uploads) == 1


async def test_a_remote_failure_is_final_and_keeps_the_signature_secret(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    server.management.dials.remote_states = ("PENDING", "ERROR", "FAILED")
    server.management.dials.remote_message = "The archive has no adapter_config.json."
    with pytest.raises(TogetherAIError, match=r"could not import .*a\.zip: The archive has no") as caught:
        await connector.upload_artifact("https://storage.example.com/a.zip?X-Signature=secret", METADATA)
    assert "secret" not in str(caught.value)


# --- deployed ---


async def test_by_default_it_is_merged(
    connector: TogetherAIConnector, sdk: AsyncTogether, server: ScriptedTogether, adapter: Path
) -> None:
    id = await connector.deploy_adapter(str(adapter), DEDICATED, "tuned", AND_WAIT)

    [endpoint] = (await sdk.endpoints.list()).data
    deployment = await sdk.endpoints.deployments.retrieve(id, endpoint_id=endpoint.id)
    [model] = (await sdk.models.list()).data
    assert endpoint.name == "local-project/tuned"
    assert deployment.api_model_id == model.id
    assert await connector.get_endpoint_status(id) == "ready"
    assert (await connector.inference(id, "Hello"))["text"] == "Hello"
    assert (await connector.inference(endpoint.name, "Hello"))["text"] == "Hello"
    [record] = await connector.list_endpoints()
    assert record["model"] == "local-project/tuned"
    assert await connector.deploy_adapter(str(adapter), DEDICATED, "tuned", AND_WAIT) == id
    assert await connector.delete_endpoint(endpoint.id) is True


async def test_without_permission_nothing_is_uploaded(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path
) -> None:
    with pytest.raises(ValueError, match=r'5\.49 USD per hour .*deployment_config=\{"type": "dedicated"\}'):
        await connector.deploy_adapter(adapter, DEDICATED, "tuned")
    with pytest.raises(ValueError, match=r"^tuned merged into \S+ needs a dedicated .* \"attach_to\"\.$"):
        await connector.deploy_adapter(adapter, DEDICATED, "tuned")
    assert server.management.models == {}


async def test_a_merge_that_fails_leaves_the_adapter_alone(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path
) -> None:
    server.management.dials.next_failure = "Merging failed"
    with pytest.raises(TogetherAIError, match=r"Merging failed.*Created and undone again: deployment .*, end"):
        await connector.deploy_adapter(adapter, DEDICATED, "tuned", AND_WAIT)
    assert server.management.endpoints == {}
    assert len(server.management.models) == 1


async def test_on_request_it_is_attached_to_a_running_deployment(
    connector: TogetherAIConnector, sdk: AsyncTogether, server: ScriptedTogether, adapter: Path
) -> None:
    endpoint = await connector.create_endpoint(DEDICATED, "many", {**AND_WAIT, "adapter_mode": "dynamic"})
    [deployment] = server.management.deployments()
    id = await connector.deploy_adapter(adapter, DEDICATED, "tuned", {"attach_to": endpoint})

    [attached] = (await sdk.endpoints.adapters.list(endpoint, deployment.id)).data
    [model] = (await sdk.models.list()).data
    assert (attached.id, attached.adapter_model_id) == (id, model.id)
    assert [one.state for one in attached.per_cluster] == ["ADAPTER_LOAD_STATE_READY"]
    assert len(server.management.running()) == 1
    assert await connector.get_endpoint_status(id) == "ready"
    assert (await connector.inference(id, "Hello"))["model"] == "local-project/many:tuned"

    # Again, by the uploaded model's id and the deployment's: it is there already.
    assert await connector.deploy_adapter(model.id, DEDICATED, "tuned", {"attach_to": deployment.id}) == id
    assert await connector.delete_endpoint(id) is True
    assert await connector.delete_endpoint(id) is False
    assert (await sdk.endpoints.adapters.list(endpoint, deployment.id)).data == []


async def test_an_adapter_that_does_not_load_is_detached(
    connector: TogetherAIConnector, server: ScriptedTogether, adapter: Path
) -> None:
    endpoint = await connector.create_endpoint(DEDICATED, "many", {**AND_WAIT, "adapter_mode": "dynamic"})
    server.management.dials.adapter_failure = "The rank is too high"
    with pytest.raises(TogetherAIError, match="could not be loaded and was detached: The rank is too high"):
        await connector.deploy_adapter(adapter, DEDICATED, "tuned", {"attach_to": endpoint})
    [deployment] = server.management.deployments()
    assert deployment.adapters == {}


async def test_a_deployment_that_takes_no_adapters_says_so(connector: TogetherAIConnector, adapter: Path) -> None:
    endpoint = await connector.create_endpoint(DEDICATED, "plain", AND_WAIT)
    with pytest.raises(RuntimeError, match="takes no adapters: its config has adapter_mode disabled"):
        await connector.deploy_adapter(adapter, DEDICATED, "tuned", {"attach_to": endpoint})


async def test_the_addresses_of_parts_are_permissions_and_stand_in_no_log(
    connector: TogetherAIConnector, relay: Relay, adapter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        for name in ("httpx", "httpcore", "together", "hana_ai"):
            caplog.set_level("DEBUG", name)
        await connector.upload_artifact(adapter, METADATA)
    addresses = [path for method, path in map(str.split, relay.requests) if method == "PUT"]
    assert len(addresses) == 2
    assert all("?token=" in path for path in addresses)
    # The server's own log is not the client's.
    text = "".join(caplog.handler.format(r) for r in caplog.records if not r.name.startswith("uvicorn"))
    assert "together" in text
    assert [path for path in addresses if path.lstrip("/") in text] == []
