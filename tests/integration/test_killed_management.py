"""Processes that are killed (SIGKILL) in uploads and in the life of endpoints: what is left, and what goes on."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from hana_ai.api import TogetherAIConnector
from hana_ai.api.connector.upload_parts import JOURNAL, local_files
from hana_ai.api.local.together import LocalModel, ScriptedEngine
from tests.conftest import ScriptedTogether
from tests.integration.connector.conftest import DEDICATED, write_adapter
from tests.programs import warmed
from tests.warm import Warm

ROOT = Path(__file__).parents[2]
ON_DEMAND = {"type": "dedicated"}
PART_BYTES = 32 * 1024
AT_A_TIME = 4
"""Processes at work."""

# One process imports everything; its forks work until they are killed, each after a random number of milliseconds.
FORKING = """
import asyncio, hana_ai, itertools, os, random, signal, sys, time, traceback
hana_ai.__path__ = [sys.argv[1], *hana_ai.__path__]
from dataclasses import replace
from hana_ai.api import TogetherAIConnector
from hana_ai.api.connector.account import Account
import hana_ai.api.connector.connector, hana_ai.api.transport.sdk
kills, seed, at_a_time, part_bytes = map(int, sys.argv[2:6])
work, folders, model, lives_ms = sys.argv[6:10]
Account.limits = replace(Account.limits, part_bytes=part_bytes, first_poll=0.01)
moments = random.Random(seed)

async def upload(connector, name, child):
    await connector.upload_artifact(f"{folders}/{child}", {"name": name, "base_model": model})

async def create(connector, name, child):
    id = await connector.create_endpoint(model, name, {"type": "dedicated", "wait": True})
    await connector.get_endpoint_status(id)
    await connector.delete_endpoint(id)

async def block(connector, name, child):
    async with connector.endpoint(model, name, {"type": "dedicated"}) as id:
        await connector.get_endpoint_status(id)

async def live(child, told):
    here = {"base_url": os.environ["TOGETHER_BASE_URL"], "api_key": os.environ["TOGETHER_API_KEY"]}
    async with TogetherAIConnector(here) as connector:
        os.write(told, b".")
        for number in itertools.count():
            await globals()[work](connector, f"{work}-{child}-{number}", child)

def begin(child):
    done, tell = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            asyncio.run(live(child, tell))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(3)
    os.close(tell)
    told = os.read(done, 1)
    os.close(done)
    assert told, "a process ended by itself"
    return time.monotonic() + moments.uniform(0.0, float(lives_ms)) / 1000, pid

children = iter(range(kills))
alive = sorted(begin(child) for child, _ in zip(children, range(at_a_time)))
while alive:
    ends, pid = alive.pop(0)
    time.sleep(max(0.0, ends - time.monotonic()))
    os.kill(pid, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1]), "a process ended by itself"
    alive = sorted([*alive, *(begin(child) for child in [next(children, None)] if child is not None)])
"""


programs = warmed(
    "anyio._backends._asyncio",
    "together.resources",
    "together.types",
    "hana_ai.api.connector.connector",
    "hana_ai.api.transport.sdk",
)


def killed(programs: Warm, server: ScriptedTogether, work: str, kills: int, folders: Path, lives_ms: int) -> None:
    arguments = [kills, random.randrange(10**6), AT_A_TIME, PART_BYTES, work, folders, DEDICATED, lives_ms]
    environment = {**os.environ, **server.environment()}
    done = programs.run(FORKING, str(ROOT / "hana_ai"), *map(str, arguments), environment=environment)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def server() -> ScriptedTogether:
    running = ScriptedTogether(ScriptedEngine(models=[LocalModel(DEDICATED, serverless=False)]))
    dials = running.management.dials
    dials.provisioning = dials.scaling = dials.stopping = 0.03
    return running


KILLS = [4, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("work", ["create", "block"])
async def test_after_kills_every_deployment_that_runs_is_found(
    programs: Warm, server: ScriptedTogether, tmp_path: Path, work: str, kills: int
) -> None:
    with server:
        killed(programs, server, work, kills, tmp_path, 500)
        running = [one for one in server.management.deployments() if one.max_replicas]
        print(
            f"{kills} kills in {work}: {len(running)} deployments run, {len(server.management.endpoints)} are left"
        )
        # Each process had one under way.
        assert len(running) <= kills
        assert max(Counter(one.endpoint_id for one in running).values(), default=1) == 1
        async with TogetherAIConnector(server.client) as connector:
            orphans = {one["id"] for one in await connector.orphans()}
            listed = {
                one["id"]: endpoint["name"]
                for endpoint in await connector.list_endpoints()
                for one in endpoint["deployments"]
                if one["traffic"]
            }
            assert {one.id for one in running} <= orphans | set(listed)
            if work == "block":
                # What was to be there for a block alone is an orphan in every case.
                assert {one.id for one in running} <= orphans
            # A second run takes over what the first one left, and makes nothing twice.
            names = [endpoint.name.rpartition("/")[2] for endpoint in server.management.endpoints.values()]
            for name in names if work == "create" else []:
                await connector.create_endpoint(DEDICATED, name, {**ON_DEMAND, "wait": True})
            again = [one for one in server.management.deployments() if one.max_replicas]
            assert max(Counter(one.endpoint_id for one in again).values(), default=1) == 1
            assert work == "block" or len(again) == len(names)
            for id in list(server.management.endpoints):
                assert await connector.delete_endpoint(id)
        assert server.management.endpoints == {}
        assert server.management.running() == []


@pytest.mark.parametrize("kills", KILLS)
async def test_after_kills_every_upload_goes_on_where_it_was(
    programs: Warm, server: ScriptedTogether, tmp_path: Path, kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from hana_ai.api.connector.account import Account

    monkeypatch.setattr(Account, "limits", replace(Account.limits, part_bytes=PART_BYTES))
    folders = [write_adapter(tmp_path / str(child), size=20 * PART_BYTES) for child in range(kills)]
    with server:
        killed(programs, server, "upload", kills, tmp_path, 500)
        management = server.management
        whole = [model for model in management.models.values() if model.revisions]
        begun = [model for model in management.models.values() if not model.revisions]
        kept = sum((folder / JOURNAL).exists() for folder in folders)
        print(f"{kills} kills in uploads: {len(whole)} whole, {len(begun)} begun, {kept} journals")
        # Each process had one under way.
        assert len(begun) <= kills
        async with TogetherAIConnector(server.client) as connector:
            for model in begun:
                child = model.name.split("-")[-2]
                told: list[int] = []
                id = await connector.upload_artifact(
                    tmp_path / child,
                    {"name": model.name.rpartition("/")[2], "base_model": DEDICATED},
                    on_progress=lambda progress, told=told: told.append(progress.part),  # type: ignore[misc]
                )
                assert id == model.id
                assert told
        for model in management.models.values():
            folder = tmp_path / model.name.split("-")[-2]
            expected = {file.path: file.hash for file in local_files(folder, PART_BYTES)}
            # Nothing twice: one version of the files, and they are the folder's.
            [revision] = model.revisions
            assert {file.path: file.hash for file in revision.files} == expected
            assert revision.errors == []
        assert management.pending == {}
