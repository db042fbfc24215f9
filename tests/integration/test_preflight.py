"""Default models that retire are warned of at start, without holding up or disturbing anybody."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from hana_ai.api import (
    ChatTogetherAI,
    TogetherAIConnector,
    TogetherAISettingsError,
    get_together_ai_client,
    init_llm,
    routing,
)
from hana_ai.api.catalog import preflight as _preflight
from hana_ai.api.local.together import LocalModel, Reply, ScriptedEngine
from hana_ai.api.routing import models
from hana_ai.api.service import catalog_of
from tests import upstream
from tests.conftest import ScriptedTogether, export

OLD, NEW = "acme/old-chat", "acme/new-chat"
WARNED = f"TOGETHER_DEFAULT_MODEL={OLD} is deprecated and will be retired. Available chat models: {NEW}."
CATALOGUE = "/v2/supported-models"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedTogether]:
    """Serves a deprecated chat model, which is the default, and an available one."""
    engine = ScriptedEngine(
        models=[
            LocalModel(OLD, "chat", deprecated=True),
            LocalModel(NEW, "chat"),
            LocalModel("acme/embed-1", "embedding", dimensions=8),
        ]
    )
    with ScriptedTogether(engine) as server:
        export(monkeypatch, server.environment())
        monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
        monkeypatch.setenv("TOGETHER_DEFAULT_MODEL", OLD)
        yield server
        _preflight.wait()


def _readings(server: ScriptedTogether) -> int:
    return [request.path for request in server.engine.requests].count(CATALOGUE)


def test_the_client_warns_at_start_without_a_call(
    server: ScriptedTogether, caplog: pytest.LogCaptureFixture
) -> None:
    get_together_ai_client()
    _preflight.wait()
    assert caplog.text.count(WARNED) == 1


def test_the_connector_warns_when_it_connects(server: ScriptedTogether, caplog: pytest.LogCaptureFixture) -> None:
    asyncio.run(TogetherAIConnector().connect({"api_key": server.api_key, "base_url": server.base_url}))
    _preflight.wait()
    assert caplog.text.count(WARNED) == 1


def test_the_routing_warns_when_the_toolkit_gets_its_first_model(
    server: ScriptedTogether, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TOGETHER_DEFAULT_EMBEDDING_MODEL", "acme/embed-0")
    monkeypatch.setenv("TOGETHER_DEFAULT_RERANK_MODEL", "acme/rerank-0")
    init_llm("gpt-4o")
    _preflight.wait()
    assert not server.engine.requests, "without the routing it is a LangChain object like others"
    assert routing.activate()
    try:
        assert not server.engine.requests, "most processes that are routed never use a model"
        init_llm("gpt-4o")
        _preflight.wait()
    finally:
        routing.deactivate()
    assert caplog.text.count(WARNED) == 1
    assert "TOGETHER_DEFAULT_EMBEDDING_MODEL=acme/embed-0 is not in the catalogue" in caplog.text
    assert "Available embedding models: acme/embed-1." in caplog.text
    assert "TOGETHER_DEFAULT_RERANK_MODEL=acme/rerank-0 is not in the catalogue" in caplog.text


@pytest.mark.parametrize("kind", ["embedding", "rerank"])
def test_embeddings_and_rerankers_of_the_toolkit_warn_as_well(
    server: ScriptedTogether, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    monkeypatch.setenv("TOGETHER_DEFAULT_EMBEDDING_MODEL", "acme/embed-1")
    monkeypatch.setenv("TOGETHER_DEFAULT_RERANK_MODEL", "acme/rerank-1")
    assert routing.activate()
    try:
        models.embeddings(None) if kind == "embedding" else models.reranker()
        _preflight.wait()
    finally:
        routing.deactivate()
    assert caplog.text.count(WARNED) == 1


def test_all_the_beginnings_of_a_process_ask_once_and_warn_once(
    server: ScriptedTogether, caplog: pytest.LogCaptureFixture
) -> None:
    all_at_once = threading.Barrier(8)

    def begin(number: int) -> None:
        all_at_once.wait(30)
        if number % 2:
            catalog_of(get_together_ai_client().settings).models()
        else:
            asyncio.run(TogetherAIConnector().connect({"api_key": server.api_key}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin, range(8)))
    _preflight.wait()
    assert caplog.text.count(WARNED) == 1
    before = _readings(server)
    for _ in range(3):
        get_together_ai_client()
    _preflight.wait()
    assert _readings(server) == before


def test_without_a_default_model_nobody_asks(
    server: ScriptedTogether, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("TOGETHER_DEFAULT_MODEL")
    get_together_ai_client()
    _preflight.wait()
    assert not server.engine.requests
    assert caplog.text == ""


def test_a_langchain_object_asks_nobody(server: ScriptedTogether) -> None:
    ChatTogetherAI()
    _preflight.wait()
    assert not server.engine.requests


def test_a_catalogue_that_cannot_be_read_is_no_news(
    server: ScriptedTogether, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (CATALOGUE, "/v1/models"):
        server.engine.on(path, Reply(status=500, headers={"x-should-retry": "false"}))
    client = get_together_ai_client()
    _preflight.wait()
    assert _readings(server) == 1
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []
    assert str(client.generate_chat_completion("still there", model=NEW)) == "still there"


def test_a_ledger_that_cannot_be_opened_does_not_fail_the_start(
    server: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_USAGE_DB", "hana:no good name")
    client = get_together_ai_client()
    _preflight.wait()
    with pytest.raises(TogetherAISettingsError, match="TOGETHER_USAGE_DB"):
        client.generate_chat_completion("Hello", model=NEW)


BEGIN = """
import sys, threading
from hana_ai.api import get_together_ai_client
get_together_ai_client()
[thread] = [thread for thread in threading.enumerate() if thread.name == "together-ai-preflight"]
assert thread.daemon
print("begun", flush=True)
if sys.argv[1] == "wait":
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["at once", "wait"])
def test_a_process_ends_while_the_server_does_not_answer(how: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        process = subprocess.Popen(
            [sys.executable, "-c", BEGIN, how],
            env={
                **clean,
                "ENABLE_TOGETHER_AI": "true",
                "TOGETHER_BASE_URL": f"http://127.0.0.1:{listening.getsockname()[1]}",
                "TOGETHER_DEFAULT_MODEL": OLD,
                "PYTHONWARNINGS": ",".join(["always::ResourceWarning", *upstream.WARNINGS_OF_3_14]),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            if how == "wait":
                # It has connected, and waits for the answer.
                connection, _ = listening.accept()
                with connection:
                    assert connection.recv(4).startswith(b"GET")
                    printed, said = process.communicate(timeout=30)
            else:
                printed, said = process.communicate(timeout=60)
    assert (printed, said, process.returncode) == ("begun\n", "", 0)
