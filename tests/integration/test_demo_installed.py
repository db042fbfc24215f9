"""The demo of an installed package, outside of a checkout."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.checkouts import copy_checkout
from tests.conftest import ScriptedTogether
from tests.integration.test_packaging import Environment, dependencies, environment, run
from tests.words import embed_by_words

__all__ = ["dependencies", "environment"]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel from the sdist, as a release makes it."""
    copy = copy_checkout(tmp_path / "checkout")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", copy)
    return next((tmp_path / "dist").glob("*.whl"))


@pytest.mark.slow
def test_the_installed_demo_has_its_documents_and_recommends_what_works_there(
    environment: Environment, wheel: Path, together: ScriptedTogether, tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = [name for name in archive.namelist() if "/documents/" in name]
    assert {"README.md", *(page.name for page in (ROOT / "docs").glob("*.md"))} == {
        Path(name).name for name in packed
    }

    environment.install(wheel)
    together.engine.on("/v1/embeddings", embed_by_words)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = str(environment.python.with_name("hana-ai-together"))
    variables = {**os.environ, **together.environment(), "PATH": "/usr/bin:/bin"}
    variables.pop("PYTHONPATH", None)

    def start(*words: str) -> str:
        done = subprocess.run(
            [*words, "--no-input"], cwd=elsewhere, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # The server's vectors follow the words, so the question has those of a passage.
    question = "The variable that holds the key of Together AI is TOGETHER_API_KEY. Where is a key made?"
    first = start(command, "demo", "--question", question)
    assert re.search(r"^Read \d\d files", first, re.MULTILINE)
    assert re.search(r"from [\w-]+\.md > ", first)
    recommended = first.splitlines()[-1].strip()
    assert "Not in these documents." in start(*shlex.split(recommended))
