"""The demo as a newcomer starts it: no key, no database, the small real models on this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hana_ai.api.cli.app import run
from tests.conftest import ScriptedTogether


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run hana-ai-together without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "hana_ai.api.cli", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=240,
        check=False,
        env={**os.environ, "COLUMNS": "100", "PYTHONPATH": "", **variables},
    )


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def demo() -> str:
    """What the demo says, started once for all that is looked for in it."""
    done = command("demo")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_demo_answers_three_questions_about_the_projects_own_documents(demo: str) -> None:
    said = one_line(demo)
    assert len(re.findall(r"\b[123] [A-Z][^?]+\? ", said)) == 3
    assert re.search(r"from docs/[\w-]+\.md", said), "no source is shown"
    assert "language model" in said
    assert "TOGETHER_API_KEY" in said
    assert len(re.findall(r"\d+ \+ \d+ tokens, free \(local\), found in", said)) == 3
    assert re.search(r"answered in [\d.]+ m?s", said)


def test_the_demo_says_what_is_a_stand_in_and_how_to_switch(demo: str) -> None:
    said = one_line(demo)
    assert "a small local stand-in for Together AI" in said
    assert "stands in for SAP HANA Cloud" in said
    assert "not Together AI" in said
    assert "not in SAP HANA" in said
    lines = [line.strip() for line in demo.splitlines() if line.strip()][-3:]
    assert lines[0].startswith("export TOGETHER_API_KEY=")
    assert lines[1].startswith("export HANA_ADDRESS=")
    assert lines[2] == "hana-ai-together demo"


def test_the_demo_uses_the_server_that_the_environment_names(
    together_environment: ScriptedTogether, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pumps.txt").write_text("The filter of the pump is cleaned every month.")
    assert run(["demo", str(tmp_path), "--question", "How often is the filter cleaned?", "--no-input"]) == 0

    shown = capsys.readouterr().out
    said = one_line(shown)
    assert "from pumps.txt" in said
    assert "The models were small local stand-ins" not in said
    assert {request.path for request in together_environment.engine.requests} >= {
        "/v1/embeddings",
        "/v1/chat/completions",
    }
    assert str(together_environment.api_key) not in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("demo", "no-such-folder"), "no-such-folder is not a folder."),
        (("demo", "."), "has no Markdown or text files."),
        (("models",), "There is no Together API key."),
    ],
)
def test_an_error_is_one_clear_line(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    done = command(*arguments)

    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" in command(*arguments, "--debug").stderr
