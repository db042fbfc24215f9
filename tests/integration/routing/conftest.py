"""Programs that know nothing of Together, in processes of their own, between two loopback servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hana_ai.api import routing
from hana_ai.api.catalog import preflight
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import ScriptedEngine
from tests.conftest import ScriptedTogether
from tests.integration.routing.answers import agent_answers

HERE = Path(__file__).parent
RUNNER = HERE / "run_scripts.py"
SCRIPTS = {path.stem: path for path in sorted((HERE / "scripts").glob("*.py"))}
COMMAND = Path(sysconfig.get_path("scripts")) / "hana-ai-together"
QUIET = {"PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}


@dataclass
class Ran:
    """What a script printed or raised, and what the Together server was asked meanwhile."""

    printed: str
    error: str
    paths: list[str]
    models: set[str]


class Stack:
    """The two servers, with a table SALES of three rows."""

    def __init__(self, together: ScriptedTogether, hana: LocalHana) -> None:
        self.together = together
        self.hana = hana

    def environment(self, **more: str) -> dict[str, str]:
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TOGETHER_", "HANA_", "ENABLE_", "PYTHONPATH", "COV_CORE", "COVERAGE"))
        }
        kept = {"TOGETHER_CATALOG_DIR": os.environ["TOGETHER_CATALOG_DIR"]}
        return {**clean, **kept, **QUIET, **self.together.environment(), **self.hana.environment(), **more}

    def run(
        self,
        scripts: Sequence[str],
        folder: Path,
        command: Callable[[list[str]], list[str]],
        enabled: str = "true",
        **more: str,
    ) -> dict[str, Ran]:
        results = folder / "results.json"
        environment = self.environment(
            ENABLE_TOGETHER_AI=enabled,
            TOGETHER_DEFAULT_RERANK_MODEL=ScriptedEngine.RERANK,
            MARKER_URL=f"{self.together.base_url}/v1/models",
            MARKER_KEY=f"Bearer {self.together.api_key}",
            **more,
        )
        self.together.engine.requests.clear()
        arguments = [str(RUNNER), str(results), *(str(SCRIPTS[name]) for name in scripts)]
        done = subprocess.run(
            command(arguments),
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        asked: dict[str, list[Any]] = {}
        current = ""
        for request in self.together.engine.requests:
            current = request.headers.get("x-script", current)
            if "x-script" not in request.headers:
                asked.setdefault(current, []).append(request)
        return {
            name: Ran(
                found["printed"],
                found["error"],
                [request.path for request in asked.get(name, [])],
                {request.body["model"] for request in asked.get(name, []) if request.body},
            )
            for name, found in json.loads(results.read_text()).items()
        }


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    engine = ScriptedEngine()
    engine.always(agent_answers)
    with ScriptedTogether(engine) as together, LocalHana() as hana:
        connection = hana.connect()
        with connection.cursor() as cursor:
            cursor.execute('CREATE TABLE "SALES" ("ID" INTEGER, "AMOUNT" DOUBLE)')
            cursor.executemany('INSERT INTO "SALES" VALUES (?, ?)', [(1, 10.0), (2, 20.0), (3, 42.5)])
        connection.close()
        yield Stack(together, hana)


@contextmanager
def activated() -> Iterator[None]:
    """The routing, active while a server is there: the default model is looked at in the background."""
    assert routing.activate()
    yield
    routing.deactivate()
    preflight.wait()


@pytest.fixture
def routed_together(
    together_environment: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ScriptedTogether]:
    """The server of `together`, with the environment pointing at it and the routing active."""
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
    with activated():
        yield together_environment


def by_import(arguments: list[str], folder: Path) -> list[str]:
    run = "runpy.run_path(sys.argv[0], run_name='__main__')"
    code = f"import hana_ai.api.auto, runpy, sys; sys.argv = sys.argv[1:]; {run}"
    return [sys.executable, "-c", code, *arguments]


def by_extension(arguments: list[str], folder: Path) -> list[str]:
    quoted = " ".join(arguments)
    code = (
        f"get_ipython().run_line_magic('load_ext', 'hana_ai.api'); get_ipython().run_line_magic('run', '{quoted}')"
    )
    return [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", "-c", code]


def by_command(arguments: list[str], folder: Path) -> list[str]:
    return [str(COMMAND), "run", "--", "python", *arguments]


def by_start_up_file(arguments: list[str], folder: Path) -> list[str]:
    """A virtual environment that sees the packages of this one, with the start-up file written by the command."""
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    site = next(environment.glob("lib/python*/site-packages"))
    packages = sysconfig.get_path("purelib")
    (site / "_packages.pth").write_text(f"import site; site.addsitedir({packages!r})\n")
    subprocess.run([str(python), "-m", "hana_ai.api.cli", "autoload", "enable"], check=True, capture_output=True)
    assert (site / "hana_ai_together_autoload.pth").is_file()
    return [str(python), *arguments]


def directly(arguments: list[str], folder: Path) -> list[str]:
    return [sys.executable, *arguments]


ACTIVATIONS = {
    "import": by_import,
    "load_ext": by_extension,
    "run": by_command,
    "autoload": by_start_up_file,
}
