"""Whatever one field of one reply holds: an answer or an error of our tree, in time, and nothing runs unnamed."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from hana_ai.api import TogetherAIConnector, TogetherAIError, TogetherAITimeoutError, service
from hana_ai.api.connector.account import Account
from hana_ai.api.local.together import LocalModel, ScriptedEngine
from hana_ai.api.local.together.api.management.records import Deployment
from tests.board import Board
from tests.conftest import ScriptedTogether
from tests.faults import said
from tests.faults.faces import FACES
from tests.faults.mutations import MISSING, VALUES, EveryPath, Mutation, Tampering
from tests.faults.server import FaultyServer
from tests.integration.connector.conftest import write_adapter

MUTATED = Board("mutated replies", "scenarios and routes", "values")
DEDICATED = "local/big"
ON_DEMAND = {"type": "dedicated"}
ROOT = Path(__file__).parents[2]
SEED = 20261129
SAMPLE = int(os.environ.get("MUTATED_REPLIES", "3"))
"""Of each scenario, in the default run."""
LATE = 12.0
"""Seconds: the deadline of a call is 2, a life cycle has a bound of 3 for its undoing."""


@dataclass(frozen=True)
class Scenario:
    """Something that a program does."""

    name: str
    run: Callable[[str, str], Any]
    lasting: bool = False
    route: str = ""
    """Where an answer of the inference API comes from."""
    said: Callable[..., object] | None = None
    """What the replies of that route say."""


async def _read_all(connector: TogetherAIConnector) -> object:
    return {
        "endpoints": await connector.list_endpoints(),
        "orphans": await connector.orphans(),
        "models": await connector.list_available_models(),
        "usage": await connector.get_usage_stats("2026-01-01", "2026-01-31"),
    }


async def _life(connector: TogetherAIConnector) -> object:
    id = await connector.create_endpoint(DEDICATED, "big", {**ON_DEMAND, "wait": True})
    try:
        return {
            "id": id,
            "status": await connector.get_endpoint_status(id),
            "endpoints": await connector.list_endpoints(),
            "answer": (await connector.inference(id, "one two"))["text"],
            "analytics": await connector.get_endpoint_analytics(id, granularity="1h"),
        }
    finally:
        await connector.delete_endpoint(id)


async def _block(connector: TogetherAIConnector) -> object:
    async with connector.endpoint(DEDICATED, "brief", ON_DEMAND) as id:
        return {"id": id, "orphans": await connector.orphans(), "status": await connector.get_endpoint_status(id)}


async def _adapters(connector: TogetherAIConnector) -> object:
    with TemporaryDirectory() as folder:
        adapter = write_adapter(Path(folder) / "adapter")
        id = await connector.upload_artifact(adapter, {"name": "tuned", "base_model": DEDICATED})
    other = await connector.upload_artifact("org/adapter", {"name": "other", "base_model": DEDICATED})
    multi = {**ON_DEMAND, "wait": True, "adapter_mode": "dynamic"}
    endpoint = await connector.create_endpoint(DEDICATED, "many", multi)
    try:
        attached = await connector.deploy_adapter(id, DEDICATED, "tuned", {"attach_to": endpoint})
        status = await connector.get_endpoint_status(attached)
        gone = await connector.delete_endpoint(attached)
        return {"ids": [id, other, endpoint, attached], "status": status, "gone": gone}
    finally:
        await connector.delete_endpoint(endpoint)


def _managed(use: Callable[[TogetherAIConnector], Awaitable[object]]) -> Callable[[str, str], object]:
    async def run(url: str, key: str) -> object:
        async with TogetherAIConnector({"base_url": url, "api_key": key}) as connector:
            return await use(connector)

    return lambda url, key: asyncio.run(run(url, key))


_SAID: dict[tuple[str, str], tuple[str, Callable[..., object]]] = {
    ("chat", "plain"): ("POST /v1/chat/completions", said.chat),
    ("chat", "stream"): ("POST /v1/chat/completions", said.chat_stream),
    ("connector", "plain"): ("POST /v1/chat/completions", said.chat),
    ("connector", "stream"): ("POST /v1/chat/completions", said.chat_stream),
    ("llm", "plain"): ("POST /v1/completions", said.completion),
    ("llm", "stream"): ("POST /v1/completions", said.completion_stream),
    ("embeddings", "plain"): ("POST /v1/embeddings", said.embeddings),
    ("rerank", "plain"): ("POST /v1/rerank", said.ranking),
}
SCENARIOS = (
    Scenario("reading the account", _managed(_read_all), lasting=True),
    Scenario("life of an endpoint", _managed(_life), lasting=True),
    Scenario("block with an endpoint", _managed(_block), lasting=True),
    Scenario("adapters", _managed(_adapters)),
    *(
        Scenario(face.name, face.ask, False, *_SAID[face.part, face.kind])
        for face in FACES
        if face.kind != "account"
    ),
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
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limits = replace(Account.limits, first_poll=0.01, stop_seconds=1.0, undo_seconds=3.0, grace_seconds=1.0)
    limits = replace(limits, load_seconds=0.5, import_seconds=0.5, part_tries=2, first_retry=0.01)
    monkeypatch.setattr(Account, "limits", limits)
    monkeypatch.setenv("TOGETHER_TIMEOUT", "2")
    monkeypatch.setenv("TOGETHER_STREAM_IDLE_TIMEOUT", "2")
    monkeypatch.setenv("TOGETHER_MAX_RETRIES", "0")
    monkeypatch.setenv("TOGETHER_USAGE_DB", str(tmp_path / "usage.db"))
    monkeypatch.setenv("TOGETHER_BUDGET_USD", "1000000")
    monkeypatch.setenv("TOGETHER_CACHE", str(tmp_path / "cache.db"))


@dataclass
class Bench:
    """Runs a scenario through a tampering."""

    server: ScriptedTogether
    tampered: FaultyServer
    scenario: Scenario

    usual: object = None
    """What comes of it when nothing is changed."""

    def ask(self, tampering: Tampering) -> object:
        """Run it once."""
        with self.tampered.listen(tampering, EveryPath()) as listener:
            return self.scenario.run(listener.url, str(self.server.api_key))

    def mutations(self) -> list[Mutation]:
        """Every mutation of what passes when nothing is changed."""
        tampering = Tampering()
        with pytest.MonkeyPatch.context() as patch:
            # Nothing is wrong yet, so that no call may fail on a busy machine.
            patch.setenv("TOGETHER_TIMEOUT", "60")
            self.usual = _comparable(self.ask(tampering))
        self._forget()
        return list(tampering.mutations(lasting=self.scenario.lasting))

    def problem(self, mutation: Mutation) -> str:
        """What is wrong with how a mutation ends; empty if nothing is."""
        tampering = Tampering(mutation)
        started = time.monotonic()
        error, wrong = "", ""
        try:
            answer = self.ask(tampering)
        except TogetherAIError as exc:
            error = _everything(exc)
            # A machine that is busy may time out.
            wrong = "" if isinstance(exc, TogetherAITimeoutError) else self._needless(tampering)
        except Exception as exc:  # noqa: BLE001 - the very thing that must not be
            return f"{type(exc).__name__}: {exc}"
        else:
            wrong = self._wrong(answer, mutation, tampering)
        took = time.monotonic() - started
        left = [one for one in self.server.management.deployments() if one.max_replicas]
        if left:
            orphans = asyncio.run(self._orphans())
            left = [one for one in left if one.id not in orphans and not _names(error, one)]
        self._forget()
        if left:
            return f"{len(left)} deployments run unnamed; it said {error or 'nothing'}"
        return f"took {took:.1f} s" if took > LATE else wrong and f"{wrong} {error}"

    def _wrong(self, answer: object, mutation: Mutation, tampering: Tampering) -> str:
        """What is wrong with an answer."""
        if self.scenario.said is None:
            return _difference(self.usual, _comparable(answer), mutation)
        try:
            expected = self.scenario.said(self._replies(tampering), strict=False)
        except said.RefusedError as exc:
            return f"answered {str(answer)[:80]}, though {exc}"
        return "" if answer == expected else f"answered {str(answer)[:80]}, not {str(expected)[:80]}"

    def _needless(self, tampering: Tampering) -> str:
        """Whether there was an error though the replies of the inference API say something."""
        replies = self._replies(tampering)
        if self.scenario.said is None or not replies:
            return ""
        try:
            expected = self.scenario.said(replies, strict=True)
        except said.RefusedError:
            return ""
        return f"an error, though the reply says {str(expected)[:80]}:"

    def _replies(self, tampering: Tampering) -> list[object]:
        return [value for route, value in tampering.sent if route == self.scenario.route]

    def _forget(self) -> None:
        management = self.server.management
        management.endpoints.clear()
        management.models.clear()
        management.remote_uploads.clear()
        management.pending.clear()
        # Ports come again, and with them what is kept of an address.
        service.close_all()
        shutil.rmtree(os.environ["TOGETHER_CATALOG_DIR"], ignore_errors=True)
        with closing(sqlite3.connect(os.environ["TOGETHER_CACHE"], timeout=30)) as kept, kept:
            for (table,) in kept.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                if not table.endswith("ABOUT"):
                    kept.execute(f'DELETE FROM "{table}"')

    async def _orphans(self) -> set[str]:
        async with TogetherAIConnector(self.server.client) as connector:
            return {one["id"] for one in await connector.orphans()}


_VARYING = re.compile(r"\b(ep|dep|dad|ml|cr|ru|it)_\w+|\b20\d\d-\d\d-\d\dT[\d:.+Z-]+|\b127\.0\.0\.1:\d+")


_MEASURED = re.compile(r"latency|_ms$|P[0-9]+Ms$|_per_second$")


def _comparable(answer: object) -> object:
    """An answer without what differs from run to run: ids, times, the port, how long something took."""
    if isinstance(answer, dict):
        return {key: "measured" if _MEASURED.search(key) else _comparable(value) for key, value in answer.items()}
    if isinstance(answer, (list, tuple)):
        return [_comparable(value) for value in answer]
    if isinstance(answer, float) and answer != answer:
        return None
    if isinstance(answer, datetime):
        return "..."
    return _VARYING.sub("...", answer) if isinstance(answer, str) else answer


_CATALOGUE = "GET /v2/supported-models"
_NAME_OF_A_MODEL = "GET /v2/projects/proj_/models/ml_"
_LISTS = ("data", "line_items", "deployments", "trafficSplit")
"""An empty one of these is billed as nothing, or is an endpoint that is stopped."""


def _difference(usual: object, found: object, mutation: Mutation, place: str = "") -> str:
    """Where an answer is neither the usual one nor what the changed reply says; empty if nowhere.

    What the catalogue does not say in a form that can be read is unknown, or left out.
    """
    if usual == found:
        return ""
    unknown = mutation.kind in (MISSING, "null", "[]", "{}") or mutation.route == _CATALOGUE
    if found in (None, "", [], {}) and unknown:
        return ""
    last = mutation.place[-1] if mutation.place else None
    if found in (0, "stopped") and unknown and (last is None or last in _LISTS or isinstance(last, int)):
        return ""
    if found == "stopped" and mutation.kind == '"x"' and last in ("id", "deploymentId"):
        return ""  # the traffic goes to none of the deployments that are named
    if found is False and mutation.kind == '"x"' and last == "id":
        return ""  # the deployment that is named has no such adapter
    if found == "creating" and unknown and "perCluster" in mutation.place:
        return ""  # no cluster has the adapter yet
    if found is None and mutation.kind == '"x"' and place.endswith("price_per_hour_usd"):
        return ""  # of hardware that is not in the list
    if mutation.route.startswith(_NAME_OF_A_MODEL) and str(found).startswith("projects/"):
        return ""  # a model without a readable name is named by its reference
    if mutation.route == _CATALOGUE and len(mutation.place) < 2 and place.startswith(".models"):
        return ""  # the older list stands in, which tells prices and what is serverless otherwise
    if isinstance(usual, dict) and isinstance(found, dict):
        if mutation.kind == '"x"' and "x" in found and len(gone := usual.keys() - found.keys()) == 1:
            found = {**found, gone.pop(): found["x"]}
            del found["x"]
        keys = {**usual, **found}
        parts = [_difference(usual.get(key), found.get(key), mutation, f"{place}.{key}") for key in keys]
        return next((part for part in parts if part), "")
    if isinstance(usual, list) and isinstance(found, list):
        if mutation.kind == '"x"' and all(isinstance(one, str) for one in found):
            return "" if len({*found} - {*usual}) <= 1 else f"{place} {found}, not {usual}"
        if len(usual) == len(found):
            pairs = enumerate(zip(usual, found, strict=True))
            parts = [_difference(one, other, mutation, f"{place}[{index}]") for index, (one, other) in pairs]
            return next((part for part in parts if part), "")
        removed = isinstance(mutation.place[-1] if mutation.place else None, int) and unknown
        if (removed or mutation.route == _CATALOGUE) and all(one in usual for one in found):
            return ""
    if _shows(found, mutation):
        return ""
    return f"{place} {str(found)[:120]}, not {str(usual)[:120]}"


def _shows(found: object, mutation: Mutation) -> bool:
    """Whether a part of an answer is what a reply says now."""
    if mutation.kind == '"x"':
        # A state that is new counts as one that is not reached yet.
        return found in ("creating", "CREATING") or "x" in str(found).lower()
    value = VALUES.get(mutation.kind)
    return isinstance(found, (int, float)) and isinstance(value, (int, float)) and float(found) == float(value)


def _names(said: str, deployment: Deployment) -> bool:
    """Whether an error names a deployment, by its id or its name, or the endpoint that is to be deleted again."""
    again = f"endpoint {deployment.endpoint_id}. It may still cost money. Call delete_endpoint("
    named = f"deployment {deployment.name!r}" in said and deployment.endpoint_id in said
    return deployment.id in said or named or again in said


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
        if problem.startswith("took"):
            # A machine that is busy is late once.
            problem = bench.problem(mutation)
        MUTATED.note(f"{bench.scenario.name}: {mutation.route}", mutation.kind, "X" if problem else ".")
        if problem:
            problems.append(f"{mutation}: {problem}")
            print(problems[-1], flush=True)
    kinds = Counter(problem.rpartition(" = ")[2][:100] for problem in problems)
    assert not problems, f"{len(problems)} of {len(mutations)}: {kinds.most_common(9)}\n" + "\n".join(
        problems[:400]
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


def test_the_documents_count_is_true(server: ScriptedTogether, tampered: FaultyServer) -> None:
    told = re.search(r"more than ([\d,]+) changes", (ROOT / "docs" / "faults.md").read_text(encoding="utf-8"))
    assert told is not None
    most = int(told[1].replace(",", ""))
    counts = {one.name: len(Bench(server, tampered, one).mutations()) for one in SCENARIOS}
    print(counts)
    # How often something is polled differs from run to run.
    assert most < sum(counts.values()) < 1.2 * most, counts
