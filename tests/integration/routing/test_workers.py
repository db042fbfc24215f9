"""Workers of multiprocessing are routed when their parent is, however they begin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hana_ai.api.local.together import ScriptedEngine
from tests.conftest import ScriptedTogether

PROGRAM = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor

def look(_):
    from hana_ai.api import routing
    return routing.is_active(), multiprocessing.parent_process() is not None

def score(text):
    # Of the toolkit's classes the one that is imported without GenAI Hub, which takes eight seconds.
    from hana_ai.vectorstore.pal_cross_encoder import PALCrossEncoder
    return [float(found) for found in PALCrossEncoder(None).predict([(text, text)])]

def print_it():
    print(look(None), flush=True)

if __name__ == "__main__":
    from hana_ai.api import routing
    method, active, *texts = sys.argv[1:]
    context = multiprocessing.get_context(method)
    if active == "late":
        # After the module of multiprocessing that is routed, and with a setting that is gone by then.
        import os, multiprocessing.spawn
        assert routing.activate()
        del os.environ["ENABLE_TOGETHER_AI"]
    elif active == "yes":
        assert routing.activate()
    elif active == "over":
        assert routing.activate()
        routing.deactivate()
    with ProcessPoolExecutor(1, context) as pool:
        print(*pool.map(look, [None]))
    with context.Pool(1) as pool:
        print(*pool.map(score, texts))
    process = context.Process(target=print_it)
    process.start()
    process.join()
"""


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "COV"))}
    return subprocess.run(
        [sys.executable, str(program), *arguments],
        env={**clean, "ENABLE_TOGETHER_AI": "true", "PYTHONWARNINGS": "ignore", **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


METHODS = ["spawn", "forkserver", "fork"] if os.name == "posix" else ["spawn"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("active", ["yes", "late"])
def test_workers_of_a_routed_process_are_routed(tmp_path: Path, method: str, active: str) -> None:
    done = run(tmp_path, method, active)
    assert done.stdout.splitlines() == ["(True, True)", "", "(True, True)"], done.stderr
    assert "hana-ai-together" not in done.stderr


@pytest.mark.parametrize("method", METHODS[:2])
def test_what_a_worker_scores_goes_to_together(
    tmp_path: Path, method: str, together_environment: ScriptedTogether
) -> None:
    done = run(tmp_path, method, "yes", "a text", TOGETHER_DEFAULT_RERANK_MODEL=ScriptedEngine.RERANK)
    assert done.stdout.splitlines()[1] == "[1.0]", done.stderr
    asked = [request.body for request in together_environment.engine.requests if request.body]
    assert [(body["query"], body["documents"]) for body in asked] == [("a text", ["a text"])]


@pytest.mark.parametrize("active", ["no", "over"])
def test_workers_of_another_process_are_not(tmp_path: Path, active: str) -> None:
    done = run(tmp_path, "spawn", active)
    assert done.stdout.splitlines() == ["(False, True)", "", "(False, True)"], done.stderr


WITHOUT_THE_PACKAGE = """
import multiprocessing, sys

def look():
    print("began", flush=True)

if __name__ == "__main__":
    from hana_ai.api import routing
    assert routing.activate()
    multiprocessing.set_start_method("spawn")
    multiprocessing.set_executable(sys.argv[1])
    # Not where the package is: the worker's Python has another environment.
    sys.path[:] = [folder for folder in sys.path if "site-packages" not in folder and folder != sys.argv[2]]
    sys.path[:] = [folder for folder in sys.path if not folder.startswith("__editable__")]
    process = multiprocessing.Process(target=look)
    process.start()
    process.join()
    raise SystemExit(process.exitcode)
"""


def test_a_worker_that_cannot_be_routed_begins_all_the_same_and_says_so(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    program = tmp_path / "program.py"
    program.write_text(WITHOUT_THE_PACKAGE)
    python = environment / ("bin/python" if os.name == "posix" else "Scripts/python.exe")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "COV"))}
    done = subprocess.run(
        [sys.executable, str(program), str(python), str(Path(__file__).parents[3])],
        env={**clean, "ENABLE_TOGETHER_AI": "true"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "began\n"
    assert "hana-ai-together: this worker is not routed to Together AI: No module named 'hana_ai" in done.stderr
