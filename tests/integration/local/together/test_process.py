"""The server in a process of its own, and from the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from together import Together

from hana_ai.api.local.together import ScriptedEngine, TogetherProcess
from tests.integration.local.together.conftest import user

MODULE = [sys.executable, "-m", "hana_ai.api.local.together"]


def test_a_process_serves_and_counts_and_ends() -> None:
    with TogetherProcess(dimensions=8, latency=0.01) as server:
        assert set(server.environment()) == {"TOGETHER_BASE_URL", "TOGETHER_API_KEY"}
        with Together(base_url=server.base_url, api_key=server.api_key, max_retries=0) as sdk:
            answer = sdk.chat.completions.create(model=ScriptedEngine.CHAT, messages=user("x"))
            vectors = sdk.embeddings.create(model=ScriptedEngine.EMBEDDING, input=["a", "b"]).data
        assert answer.choices[0].message.content == "x"
        assert [len(entry.embedding) for entry in vectors] == [8, 8]
        assert server.statistics.requests == 3
    server.close()


def test_a_process_that_cannot_start_says_so() -> None:
    server = TogetherProcess("none")
    with pytest.raises(RuntimeError, match="did not start"):
        server.start()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_stop(number: signal.Signals) -> None:
    arguments = [*MODULE, "--engine", "scripted", "--port", "0"]
    environment = {**os.environ, "TOGETHER_LOCAL_API_KEY": "mine"}
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert lines[0].startswith("TOGETHER_BASE_URL=http://127.0.0.1:")
    assert lines[1] == "TOGETHER_API_KEY=mine\n"
    assert process.returncode == 0
    assert errors.startswith("Local stand-ins, not Together's models: local/scripted-chat")


def test_the_command_refuses_other_interfaces() -> None:
    done = subprocess.run([*MODULE, "--host", "0.0.0.0"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "invalid choice" in done.stderr
