"""The same code sends the same bytes, whatever its process has read before, and whether it could."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import orjson
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hana_ai.api.local.together import Call, Reply, ScriptedEngine
from hana_ai.api.local.together.scripted.script import Received
from tests import upstream
from tests.conftest import ScriptedTogether

pytest.importorskip("langchain.agents")
if not hasattr(os, "fork"):
    pytest.skip("no fork", allow_module_level=True)
from tests.public_requests import REQUESTS, mark

CHECKOUT = Path(__file__).parents[2]
CATALOGUE = ("/v2/supported-models", "/v1/models")
ARGUMENTS: dict[str, dict[str, Any]] = {
    "weather": {"place": "Walldorf"},
    "City": {"name": "Walldorf", "people": 15000},
    "CityDict": {"name": "Walldorf", "people": 15000},
}

Sent = dict[str, list[tuple[str, bytes]]]
"""By the name of a request: path and body of everything that it sent, sorted."""


class RawEngine(ScriptedEngine):
    """Keeps every body as it came."""

    def __init__(self) -> None:
        super().__init__()
        self.raw: list[tuple[str, bytes]] = []
        self.always(_answer)

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The application with the recording around it."""
        inner = super().wrap(app)

        async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
            body = b""

            async def noted() -> Message:
                nonlocal body
                message = await receive()
                body += message.get("body", b"")
                if (
                    message["type"] == "http.request"
                    and not message.get("more_body")
                    and scope["method"] == "POST"
                ):
                    self.raw.append((scope["path"], body))
                return message

            await inner(scope, noted, send)

        return recorded

    def sent(self) -> Sent:
        """What was sent, by the names of the requests."""
        found: Sent = defaultdict(list)
        for path, body in self.raw:
            [name] = [name for name in REQUESTS if mark(name).encode() in body]
            found[name].append((path, body))
        return {name: sorted(pairs) for name, pairs in found.items()}


def _answer(request: Received) -> Reply | None:
    """Call the tool that has to be called, first of all any, and the shape after another one has answered."""
    names = [tool["function"]["name"] for tool in request.body.get("tools", [])]
    choice = request.body.get("tool_choice")
    if isinstance(choice, dict):
        wanted = choice["function"]["name"]
    elif names and request.body["messages"][-1]["role"] == "user":
        wanted = names[0]
    elif "City" in names:
        wanted = "City"
    else:
        return None
    # A number of its own would be told to the model again.
    return Reply(tool_calls=[Call(wanted, ARGUMENTS[wanted], id="call-1")])


class Processes:
    """Starts processes that have imported everything, and have made no request."""

    def __init__(self, process: subprocess.Popen[str], complaints: IO[str]) -> None:
        self._process = process
        self._complaints = complaints

    def run(self, names: Sequence[str], environment: Mapping[str, str], *, read: bool = False) -> None:
        """Make requests in a process, which may have to read the catalogue before."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        told = {"environment": environment, "read": read, "names": names}
        print(orjson.dumps(told).decode(), file=self._process.stdin, flush=True)
        status = self._process.stdout.readline()
        if status != "0\n":
            self._complaints.seek(0)
            pytest.fail(f"ended with {status!r}: {self._complaints.read()[-3000:]}")


@contextmanager
def importing() -> Iterator[Processes]:
    """A process from which others are forked: importing takes longer than all requests."""
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            [sys.executable, *upstream.IGNORED, "-m", "tests.public_requests"],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "ENABLE_TOGETHER_AI": "true"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        ) as process,
    ):
        yield Processes(process, complaints)


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with importing() as begun:
        yield begun


def make(
    processes: Processes,
    folder: Path,
    names: Sequence[str],
    *,
    warm: bool = False,
    catalogue: Reply | None = None,
) -> tuple[Sent, int]:
    """Make requests in a process of their own; gives what was sent, and how often the catalogue was read.

    With `warm`, another process has read the catalogue before, and this one begins by reading it, too.
    """
    engine = RawEngine()
    for path in CATALOGUE:
        if catalogue is not None:
            engine.on(path, catalogue)
    with ScriptedTogether(engine) as server:
        environment = {
            **server.environment(),
            "TOGETHER_DEFAULT_MODEL": ScriptedEngine.CHAT,
            "TOGETHER_DEFAULT_EMBEDDING_MODEL": ScriptedEngine.EMBEDDING,
            "TOGETHER_CATALOG_DIR": str(folder),
        }
        if warm:
            processes.run([], environment, read=True)
        processes.run(names, environment, read=warm)
    return engine.sent(), sum(request.method == "GET" for request in engine.requests)


@pytest.fixture(scope="module")
def cold(processes: Processes, tmp_path_factory: pytest.TempPathFactory) -> Sent:
    """What a process sends that has read no catalogue when it begins."""
    return make(processes, tmp_path_factory.mktemp("cold"), list(REQUESTS))[0]


def test_every_request_is_made_and_none_has_tools_beside_a_format(cold: Sent) -> None:
    assert set(cold) == set(REQUESTS)
    bodies = [orjson.loads(body) for pairs in cold.values() for _, body in pairs]
    assert any("response_format" in body for body in bodies)
    assert any("tools" in body for body in bodies)
    assert not [body for body in bodies if "tools" in body and "response_format" in body]


def test_a_process_that_has_read_the_catalogue_sends_the_same_in_any_order(cold: Sent, tmp_path: Path) -> None:
    names = random.Random(14).sample(list(REQUESTS), len(REQUESTS))
    # Forks of another process, whose sets are in another order.
    with importing() as others:
        sent, readings = make(others, tmp_path, names, warm=True)
    assert sent == cold
    assert readings == 1


def test_a_server_that_fails_to_list_its_models_is_sent_the_same(
    processes: Processes, cold: Sent, tmp_path: Path
) -> None:
    away = Reply(status=500, headers={"x-should-retry": "false"})
    assert make(processes, tmp_path, list(REQUESTS), catalogue=away)[0] == cold


def test_without_network_to_the_catalogue_the_same_is_sent(
    processes: Processes, cold: Sent, tmp_path: Path
) -> None:
    # The client's own calls ask for prices after each answer, several times where there is no connection.
    names = [name for name in REQUESTS if not name.startswith("client.")]
    sent, _ = make(processes, tmp_path, names[::-1], catalogue=Reply(drop=True))
    assert sent == {name: cold[name] for name in names}
