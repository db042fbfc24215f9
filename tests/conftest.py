"""What the tests share: a clean environment and a loopback Together server whose traffic is checked."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from hana_ai.api.local.together import LocalModel, LocalTogether, Reply, ScriptedEngine, Usage
from tests.openapi import check_exchange, check_request
from tests.secrets_watch import MARK
from tests.warm import Warm, warm

# A machine that is busy with something else is no reason to fail.
settings.register_profile("sample", deadline=None, max_examples=30)
settings.register_profile("whole", deadline=None)
settings.load_profile("sample")


def pytest_configure(config: pytest.Config) -> None:
    """Look at more examples where slow tests run, too."""
    if "not slow" not in config.option.markexpr:
        settings.load_profile("whole")


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors, since many tests wait."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the collector of garbage what is imported to collect the tests: it is there until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


OURS = ("TOGETHER_", "HANA_", "OPENAI_", "ENABLE_")
"""How variables begin that no test may get from the machine."""


class ScriptedTogether(LocalTogether):
    """A loopback server with a `ScriptedEngine` behind it that checks every exchange."""

    def __init__(self, engine: ScriptedEngine | None = None) -> None:
        self.engine = engine or ScriptedEngine()
        self.check_answers = True
        """False for tests that script wrong answers; requests are always checked."""
        super().__init__(self.engine, api_key=f"{MARK}-{secrets.token_urlsafe(24)}", on_exchange=self._check)

    def _check(self, path: str, body: Any, status: int, answer: Any) -> None:
        if self.check_answers:
            check_exchange(path, body, status, answer)
        elif body is not None:
            check_request(path, body)

    @property
    def client(self) -> dict[str, str]:
        """Arguments that point a LangChain class at this server."""
        return {"base_url": self.base_url, "api_key": str(self.api_key)}


async def eventually(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Wait until something holds."""

    async def poll() -> None:
        while not condition():  # noqa: ASYNC110 - what is waited for happens in the server's thread
            await asyncio.sleep(0.01)

    await asyncio.wait_for(poll(), timeout)


async def cancel(task: asyncio.Future[Any]) -> None:
    """Cancel a task and see it end so."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancel_once(begun: Callable[[], bool], work: Coroutine[Any, Any, object]) -> None:
    """Do some work as a task and cancel it when it has come so far."""
    task = asyncio.ensure_future(work)
    await eventually(begun)
    await cancel(task)


def export(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    """Set environment variables until the test ends."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session", autouse=True)
def no_kept_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let what is begun outside a test, too, keep its catalogues apart from those of the machine."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TOGETHER_CATALOG_DIR", str(tmp_path_factory.mktemp("catalogues")))
        yield


@pytest.fixture(scope="session")
def programs() -> Iterator[Warm]:
    """Starts programs in processes of their own, which have imported what a call needs."""
    with warm() as started:
        yield started


@pytest.fixture(autouse=True)
def clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Let no variable, `.env` or catalogue of the machine reach a test, and no connection of one the next."""
    for name in os.environ:
        if name.upper().startswith(OURS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TOGETHER_CATALOG_DIR", str(tmp_path_factory.getbasetemp() / f"catalogue-{tmp_path.name}"))
    monkeypatch.chdir(tmp_path)
    yield
    preflight = sys.modules.get("hana_ai.api.catalog.preflight")
    if preflight is not None:
        preflight.wait()
    for name in ("hana_ai.api.cache.caches", "hana_ai.api.usage.ledger", "hana_ai.api.service"):
        module = sys.modules.get(name)
        if module is not None:
            module.close_all()
    activation = sys.modules.get("hana_ai.api.routing.activation")
    if activation is not None and not activation.is_active():
        # A guard of the tables may be left.
        activation.deactivate()


PRICED = "priced/chat"
"""A model whose calls cost `PRICED_CALL`."""
PRICED_CALL = Decimal("0.0091")


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedTogether]:
    """A server of `PRICED`, with the environment pointing at it."""
    engine = ScriptedEngine(models=[LocalModel(PRICED, "chat", 8192, price_input=100.0, price_output=1000.0)])
    engine.always(Reply(text="a", usage=Usage(1, 9)))
    with ScriptedTogether(engine) as server:
        export(monkeypatch, server.environment())
        yield server


@pytest.fixture
def together() -> Iterator[ScriptedTogether]:
    """A fresh server; `together.engine` scripts it, `**together.client` points a class at it."""
    with ScriptedTogether() as server:
        yield server


@pytest.fixture
def engine(together: ScriptedTogether) -> ScriptedEngine:
    """The engine of `together`."""
    return together.engine


@pytest.fixture
def together_environment(together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch) -> ScriptedTogether:
    """The server of `together`, with the environment pointing at it."""
    export(monkeypatch, together.environment())
    return together


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait milliseconds before a further try, where the server names no time."""
    from hana_ai.api.transport import RetryPolicy, Transport

    monkeypatch.setattr(Transport, "retry_policy", RetryPolicy(first_wait=0.01))
