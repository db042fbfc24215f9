"""Servers and clients for the tests of the loopback Together server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from together import Together

from hana_ai.api.local.together import LlamaCppEngine, LocalTogether, ScriptedEngine, WordLlamaEngine
from tests.openapi import check_exchange

from .command_line import CommandServer


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def server(engine: ScriptedEngine) -> Iterator[LocalTogether]:
    """A scripted server whose traffic is not checked, since these tests send nonsense too."""
    with LocalTogether(engine) as running:
        yield running


def sdk_of(server: LocalTogether, timeout: float = 10, project_id: str | None = None) -> Together:
    """The SDK, asking a server once."""
    return Together(
        base_url=server.base_url, api_key=server.api_key, project_id=project_id, max_retries=0, timeout=timeout
    )


@pytest.fixture
def sdk(server: LocalTogether) -> Iterator[Together]:
    with sdk_of(server) as client:
        yield client


@pytest.fixture
def http(server: LocalTogether) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {server.api_key}"}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=10) as client:
        yield client


@pytest.fixture(scope="session")
def real_server() -> Iterator[LocalTogether]:
    """The small real models, loaded once; every exchange is checked against the OpenAPI document."""
    with LocalTogether(LlamaCppEngine(), WordLlamaEngine(), on_exchange=check_exchange) as running:
        yield running


@pytest.fixture
def real(real_server: LocalTogether) -> Iterator[Together]:
    with sdk_of(real_server, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def commands() -> Iterator[CommandServer]:
    """Where the SDK's commands run, imported once."""
    # The command would speak with the world otherwise.
    quiet = {"TOGETHER_TELEMETRY_DISABLED": "true", "TOGETHER_DISABLE_VERSION_CHECK": "true"}
    server = CommandServer({**os.environ, **quiet})
    yield server
    server.close()


def user(text: str) -> list[Any]:
    """A chat of one message."""
    return [{"role": "user", "content": text}]


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something holds: a server learns a moment later what its client did."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)
