"""The routing with several versions of hana-ai and langchain-hana, each in an environment of its own.

`newest` is what the package index has on the day of the test: when it fails, upstream has changed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.routing.conftest import Stack
from tests.integration.routing.test_toolkit import check, drop_memories

pytestmark = pytest.mark.slow

SEAMS = """
import importlib, json, warnings
warnings.simplefilter("ignore")
import hana_ai.api.auto
from hana_ai.api import routing
failed = {}
for seam in routing.status().seams:
    try:
        importlib.import_module(seam.module)
    except ImportError as exc:
        failed[seam.name] = str(exc)
found = {seam.name: [seam.state, seam.version, seam.detail] for seam in routing.status().seams}
print(json.dumps([found, failed]))
"""

VERSIONS = {
    "newest": ["hana-ai", "langchain-hana"],
    "pinned": ["hana-ai==1.1.26081400", "langchain-hana==1.2.0"],
    "the first 1.1": ["hana-ai==1.1.26040800", "langchain-hana==1.1.1"],
    "the last 1.0": ["hana-ai==1.0.26033100", "langchain-hana==1.0.3"],
    "of 2025": ["hana-ai==1.0.25070200", "langchain-hana==1.0.3"],
}


@pytest.fixture
def make(tmp_path: Path) -> Callable[[list[str]], Path]:
    """Makes an environment with these versions before all else; returns its Python."""

    def environment(requirements: list[str]) -> Path:
        folder = tmp_path / "environment"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        python = folder / "bin" / "python"
        [site] = folder.glob("lib/python*/site-packages")
        pip = [sys.executable, "-m", "pip", "-qq", "--python", str(python)]
        subprocess.run([*pip, "install", "--no-deps", "--no-compile", *requirements], check=True)
        (site / "_packages.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        return python

    return environment


@pytest.mark.parametrize("name", VERSIONS)
def test_the_routing_works_or_says_what_has_changed(
    name: str, make: Callable[[list[str]], Path], stack: Stack, tmp_path: Path
) -> None:
    python = make(VERSIONS[name])
    done = subprocess.run(
        [str(python), "-c", SEAMS],
        env=stack.environment(ENABLE_TOGETHER_AI="true"),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, failed = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps([found, failed], indent=1))
    states = {state for state, _, _ in found.values()}
    if name in ("newest", "pinned"):
        assert failed == {}
        assert states <= {"routed", "stays", "not needed"}
        drop_memories(stack)
        ran = stack.run(["models", "vector_stores"], tmp_path, lambda arguments: by_import(python, arguments))
        for script in ("models", "vector_stores"):
            check(script, ran[script])
    else:
        # `on import` is left for what an old version cannot import with today's langchain.
        assert {name for name, (state, _, _) in found.items() if state == "on import"} <= set(failed)
        assert states <= {"routed", "stays", "not needed", "upstream changed", "on import"}
        assert not [text for text in failed.values() if "hana_ai.api" in text or "langchain_hana" in text]
        assert found["GenAI Hub's init_llm and init_embedding_model"][0] == "routed"


def by_import(python: Path, arguments: list[str]) -> list[str]:
    run = "runpy.run_path(sys.argv[0], run_name='__main__')"
    code = f"import hana_ai.api.auto, runpy, sys; sys.argv = sys.argv[1:]; {run}"
    return [str(python), "-c", code, *arguments]
