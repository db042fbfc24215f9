"""The benchmarks run: servers, contestants and verdicts, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases import CASES
from benchmarks.embeddings import BATCH
from benchmarks.runner import ContestantError, run_case
from hana_ai.api import TogetherAIEmbeddings
from tests.programs import printed

ROOT = Path(__file__).parents[2]


def run(tmp_path: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run the command for ours and the floor alone, once; gives its end and its figures."""
    figures = tmp_path / "figures.json"
    contestants = ["--with", "ours", "--with", "floor", "--rounds", "1", "--json", str(figures)]
    command = [sys.executable, "-m", "benchmarks", *contestants, *arguments]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=240)
    return done, json.loads(figures.read_text()) if figures.exists() else {}


def test_a_case_measures_its_contestants_against_the_floor(tmp_path: Path) -> None:
    done, figures = run(tmp_path, "--only", "invoke")
    assert [case["name"] for case in figures["cases"]] == ["invoke"], done.stderr
    for case in figures["cases"]:
        assert list(case["contestants"]) == ["floor", "ours"]
        assert all(0 < each["wall"]["median"] < 10 for each in case["contestants"].values())
        assert [bar["against"] for bar in case["bars"]] == ["floor"]
    missed = [bar for case in figures["cases"] for bar in case["bars"] if not bar["met"]]
    assert done.returncode == (1 if missed else 0)
    assert ("All bars are met." in done.stdout) is not bool(missed)


def checkout(tmp_path: Path) -> Path:
    """A checkout whose environment has this provider installed, not its own."""
    python = tmp_path / "checkout" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return tmp_path / "checkout"


def test_another_checkout_is_not_measured_with_this_provider(tmp_path: Path) -> None:
    done, figures = run(tmp_path, "--only", "invoke", "--baseline", str(checkout(tmp_path)))
    assert done.returncode == 1 and not figures
    assert "baseline of 'invoke' has failed" in done.stderr
    assert f"is not in {tmp_path / 'checkout'}" in done.stderr


def test_another_checkout_needs_an_environment(tmp_path: Path) -> None:
    done, _ = run(tmp_path, "--only", "invoke", "--baseline", str(tmp_path))
    assert done.returncode == 2
    assert f"{tmp_path} has no environment" in done.stderr


def test_a_peer_that_fails_is_left_out_and_named(tmp_path: Path) -> None:
    # No server listens there, so that every contestant but the floor fails.
    case = CASES["embed-few"]
    with pytest.raises(ContestantError, match=r"ours of 'embed-few' has failed(.|\n)*Connection"):
        run_case(case, "http://127.0.0.1:9", 1)
    result = run_case(case, "http://127.0.0.1:9", 2, only=["langchain-together"])
    assert result.rounds == {}
    assert list(result.failures) == ["langchain-together"]


def test_the_floor_sends_batches_as_large_as_ours() -> None:
    model = TogetherAIEmbeddings(model="bench/fast", base_url="http://127.0.0.1:9", api_key="bench")
    assert model.batch_size == BATCH


@pytest.mark.parametrize("module", ["benchmarks.chat", "benchmarks.streams", "benchmarks.embeddings"])
def test_a_contestant_loads_none_of_the_others(module: str) -> None:
    names = "[name for name in sys.modules if name.startswith(('langchain', 'hana_ai', 'litellm', 'together'))]"
    code = f"import sys, {module}; print({names})"
    assert printed(code, folder=ROOT).strip() == "[]"
