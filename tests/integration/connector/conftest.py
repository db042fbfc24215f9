"""A server with a serverless model and one that needs an endpoint, and a connector to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from together import AsyncTogether

from hana_ai.api import TogetherAIConnector
from hana_ai.api.connector.account import Account, Limits
from hana_ai.api.local.together import LocalModel, ScriptedEngine
from tests.conftest import ScriptedTogether

from .relay import Relay

SERVERLESS, LANGUAGE, DEDICATED = "local/chat", "local/language", "local/big"
PROJECT = "proj_local"


def engine() -> ScriptedEngine:
    return ScriptedEngine(
        models=[
            LocalModel(SERVERLESS, price_input=0.5, price_output=1.5, price_cached_input=0.1),
            LocalModel(LANGUAGE, "language", price_input=0.5, price_output=1.5),
            LocalModel(DEDICATED, serverless=False),
        ]
    )


@pytest.fixture
def server() -> Iterator[ScriptedTogether]:
    with ScriptedTogether(engine()) as running:
        dials = running.management.dials
        dials.provisioning = dials.scaling = dials.stopping = dials.adapter_loading = 0.02
        dials.remote_step = 0.01
        yield running


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Limits]:
    """Change how long connectors wait, and how much they send at a time."""

    def change(**values: float) -> Limits:
        monkeypatch.setattr(Account, "limits", replace(Account.limits, **values))
        return Account.limits

    return change


@pytest.fixture
def relay(server: ScriptedTogether) -> Iterator[Relay]:
    """Between `connector` and `server`, for the tests that ask for it."""
    with Relay(server.base_url) as running:
        yield running


@pytest.fixture
async def connector(
    server: ScriptedTogether, request: pytest.FixtureRequest
) -> AsyncIterator[TogetherAIConnector]:
    relay = request.getfixturevalue("relay") if "relay" in request.fixturenames else None
    where = {"base_url": relay.base_url} if relay is not None else {}
    async with TogetherAIConnector({**server.client, **where}) as connected:
        yield connected


@pytest.fixture
async def sdk(server: ScriptedTogether) -> AsyncIterator[AsyncTogether]:
    """The official SDK's client, which knows nothing of the connector."""
    async with AsyncTogether(**server.client, project_id=PROJECT, max_retries=0) as client:
        yield client


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A folder as training leaves it."""
    return write_adapter(tmp_path / "adapter")


def write_adapter(folder: Path, size: int = 4096, **config: object) -> Path:
    folder.mkdir()
    settings = {"r": 8, "lora_alpha": 16, "base_model_name_or_path": DEDICATED, **config}
    (folder / "adapter_config.json").write_bytes(orjson.dumps(settings))
    # Bytes that are not the same everywhere, so that a part in the wrong place would be noticed.
    block = bytes(range(256)) * 4096
    with (folder / "adapter_model.safetensors").open("wb") as stream:
        written = 0
        while written < size:
            part = written.to_bytes(8, "big") + block
            stream.write(part[: size - written])
            written += len(part)
    (folder / ".hidden").write_text("not to be sent")
    (folder / "empty.txt").touch()
    return folder
