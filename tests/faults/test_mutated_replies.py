"""Whatever one field of one reply holds: an answer or an error of our tree, in time, and nothing runs unnamed."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from hana_ai.api import TogetherAIConnector, TogetherAIError
from hana_ai.api.connector.account import Account
from hana_ai.api.local.together import LocalModel, ScriptedEngine
from hana_ai.api.local.together.api.management.records import Deployment
from tests.board import Board
from tests.conftest import ScriptedTogether
from tests.faults.faces import FACES
from tests.faults.mutations import EveryPath, Mutation, Tampering
from tests.faults.server import FaultyServer
from tests.integration.connector.conftest import write_adapter

MUTATED = Board("mutated replies", "scenarios and routes", "values")
DEDICATED = "local/big"
ON_DEMAND = {"type": "dedicated"}
SEED = 20261129
SAMPLE = int(os.environ.get("MUTATED_REPLIES", "8"))
"""Of each scenario, in the default run."""
LATE = 12.0
"""Seconds: the deadline of a call is 2, a life cycle has a bound of 3 for its undoing."""


@dataclass(frozen=True)
class Scenario:
    """Something that a program does."""

    name: str
    run: Callable[[str, str], Any]
    lasting: bool = False


async def _read_all(connector: TogetherAIConnector) -> None:
    await connector.list_endpoints()
    await connector.orphans()
    await connector.list_available_models()
    await connector.get_usage_stats("2026-01-01", "2026-01-31")


async def _life(connector: TogetherAIConnector) -> None:
    id = await connector.create_endpoint(DEDICATED, "big", {**ON_DEMAND, "wait": True})
    try:
        await connector.get_endpoint_status(id)
        await connector.list_endpoints()
        await connector.inference(id, "one two")
        await connector.get_endpoint_analytics(id, granularity="1h")
    finally:
        await connector.delete_endpoint(id)


async def _block(connector: TogetherAIConnector) -> None:
    async with connector.endpoint(DEDICATED, "brief", ON_DEMAND) as id:
        await connector.orphans()
        await connector.get_endpoint_status(id)


async def _adapters(connector: TogetherAIConnector) -> None:
    with TemporaryDirectory() as folder:
        adapter = write_adapter(Path(folder) / "adapter")
        id = await connector.upload_artifact(adapter, {"name": "tuned", "base_model": DEDICATED})
    await connector.upload_artifact("org/adapter", {"name": "other", "base_model": DEDICATED})
    multi = {**ON_DEMAND, "wait": True, "adapter_mode": "dynamic"}
    endpoint = await connector.create_endpoint(DEDICATED, "many", multi)
    try:
        attached = await connector.deploy_adapter(id, DEDICATED, "tuned", {"attach_to": endpoint})
        await connector.get_endpoint_status(attached)
        await connector.delete_endpoint(attached)
    finally:
        await connector.delete_endpoint(endpoint)


def _managed(use: Callable[[TogetherAIConnector], Awaitable[None]]) -> Callable[[str, str], None]:
    async def run(url: str, key: str) -> None:
        async with TogetherAIConnector({"base_url": url, "api_key": key}) as connector:
            await use(connector)

    return lambda url, key: asyncio.run(run(url, key))


SCENARIOS = (
    Scenario("reading the account", _managed(_read_all), lasting=True),
    Scenario("life of an endpoint", _managed(_life), lasting=True),
    Scenario("block with an endpoint", _managed(_block), lasting=True),
    Scenario("adapters", _managed(_adapters)),
    *(Scenario(face.name, face.ask) for face in FACES if face.kind != "account"),
)


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedTogether]:
    models = [LocalModel(DEDICATED, serverless=False)]
    with ScriptedTogether(ScriptedEngine(models=[*ScriptedEngine().models, *models])) as running:
        dials = running.management.dials
        dials.provisioning = dials.scaling = dials.stopping = dials.adapter_loading = 0.01
        dials.remote_step = 0.01
        running.management.bill("2026-01-02", "tokens", "1", "0.5", "0.5")
        yield running


@pytest.fixture(scope="module")
def tampered(server: ScriptedTogether) -> Iterator[FaultyServer]:
    with FaultyServer(server.base_url) as running:
        yield running


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = replace(Account.limits, first_poll=0.01, stop_seconds=1.0, undo_seconds=3.0, grace_seconds=1.0)
    limits = replace(limits, load_seconds=0.5, import_seconds=0.5, part_tries=2, first_retry=0.01)
    monkeypatch.setattr(Account, "limits", limits)
    monkeypatch.setenv("TOGETHER_TIMEOUT", "2")
    monkeypatch.setenv("TOGETHER_STREAM_IDLE_TIMEOUT", "2")
    monkeypatch.setenv("TOGETHER_MAX_RETRIES", "0")


@dataclass
class Bench:
    """Runs a scenario through a tampering."""

    server: ScriptedTogether
    tampered: FaultyServer
    scenario: Scenario

    def ask(self, tampering: Tampering) -> None:
        """Run it once."""
        with self.tampered.listen(tampering, EveryPath()) as listener:
            self.scenario.run(listener.url, str(self.server.api_key))

    def mutations(self) -> list[Mutation]:
        """Every mutation of what passes when nothing is changed."""
        tampering = Tampering()
        with pytest.MonkeyPatch.context() as patch:
            # Nothing is wrong yet, so that no call may fail on a busy machine.
            patch.setenv("TOGETHER_TIMEOUT", "60")
            self.ask(tampering)
        return list(tampering.mutations(lasting=self.scenario.lasting))

    def problem(self, mutation: Mutation) -> str:
        """What is wrong with how a mutation ends; empty if nothing is."""
        management = self.server.management
        tampering = Tampering(mutation)
        started = time.monotonic()
        said = ""
        try:
            self.ask(tampering)
        except TogetherAIError as exc:
            said = _everything(exc)
        except Exception as exc:  # noqa: BLE001 - the very thing that must not be
            return f"{type(exc).__name__}: {exc}"
        took = time.monotonic() - started
        left = [one for one in management.deployments() if one.max_replicas]
        if left:
            orphans = asyncio.run(self._orphans())
            left = [one for one in left if one.id not in orphans and not _names(said, one)]
        management.endpoints.clear()
        management.models.clear()
        management.remote_uploads.clear()
        management.pending.clear()
        if left:
            return f"{len(left)} deployments run unnamed; it said {said or 'nothing'}"
        return f"took {took:.1f} s" if took > LATE else ""

    async def _orphans(self) -> set[str]:
        async with TogetherAIConnector(self.server.client) as connector:
            return {one["id"] for one in await connector.orphans()}


def _names(said: str, deployment: Deployment) -> bool:
    """Whether an error names a deployment, by its id or by its name beside that of its endpoint."""
    return deployment.id in said or (f"deployment {deployment.name!r}" in said and deployment.endpoint_id in said)


def _everything(exc: BaseException | None) -> str:
    """What an error and those before it say, notes included."""
    text = ""
    while exc is not None:
        text += " ".join([str(exc), *getattr(exc, "__notes__", ())]) + "\n"
        exc = exc.__cause__ or exc.__context__
    return text


def _try_all(bench: Bench, mutations: Sequence[Mutation]) -> None:
    problems = []
    for mutation in mutations:
        problem = bench.problem(mutation)
        MUTATED.note(f"{bench.scenario.name}: {mutation.route}", mutation.kind, "X" if problem else ".")
        if problem:
            problems.append(f"{mutation}: {problem}")
    kinds = Counter(problem.rpartition(" = ")[2][:100] for problem in problems)
    assert not problems, f"{len(problems)} of {len(mutations)}: {kinds.most_common(9)}\n" + "\n".join(
        problems[:40]
    )


_EACH = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))


@_EACH
def test_a_sample_of_mutated_replies(server: ScriptedTogether, tampered: FaultyServer, scenario: Scenario) -> None:
    bench = Bench(server, tampered, scenario)
    mutations = bench.mutations()
    _try_all(bench, random.Random(SEED).sample(mutations, min(SAMPLE, len(mutations))))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@_EACH
def test_every_mutated_reply(server: ScriptedTogether, tampered: FaultyServer, scenario: Scenario) -> None:
    bench = Bench(server, tampered, scenario)
    _try_all(bench, bench.mutations())
