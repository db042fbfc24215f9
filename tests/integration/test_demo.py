"""The demo as a newcomer starts it: no key, no database, the small real models on this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ScriptedTogether

ROOT = Path(__file__).parents[2]


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


def test_the_demo_answers_three_questions_about_the_projects_own_documents() -> None:
    done = command("demo")

    assert done.returncode == 0, done.stderr
    said = one_line(done.stdout)
    assert len(re.findall(r"\b[123] [A-Z][^?]+\? ", said)) == 3
    assert re.search(r"from docs/[\w-]+\.md", said), "no source is shown"
    assert "language model" in said
    assert "TOGETHER_API_KEY" in said
    assert len(re.findall(r"\d+ \+ \d+ tokens, free \(local\), found in", said)) == 3
    assert re.search(r"answered in [\d.]+ m?s", said)


def test_the_demo_says_what_is_a_stand_in_and_how_to_switch() -> None:
    done = command("demo", str(ROOT / "docs"), "--question", "What does a reranker do?", "--no-input")

    said = one_line(done.stdout)
    assert "a small local stand-in for Together AI" in said
    assert "stands in for SAP HANA Cloud" in said
    assert "not Together AI" in said
    assert "not in SAP HANA" in said
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()][-3:]
    assert lines[0].startswith("export TOGETHER_API_KEY=")
    assert lines[1].startswith("export HANA_ADDRESS=")
    assert lines[2] == "hana-ai-together demo"


def test_the_demo_uses_the_server_that_the_environment_names(together: ScriptedTogether, tmp_path: Path) -> None:
    (tmp_path / "pumps.txt").write_text("The filter of the pump is cleaned every month.")
    done = command(
        "demo", str(tmp_path), "--question", "How often is the filter cleaned?", **together.environment()
    )

    assert done.returncode == 0, done.stderr
    said = one_line(done.stdout)
    assert "from pumps.txt" in said
    assert "The models were small local stand-ins" not in said
    assert {request.path for request in together.engine.requests} >= {"/v1/embeddings", "/v1/chat/completions"}
    assert together.api_key not in done.stdout


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
