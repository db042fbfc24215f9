"""Run the Together SDK's own tests of its resources over a loopback server.

    python -m tests.peers.together_sdk [FOLDER [OPTIONS of pytest]]

FOLDER is the SDK's source in the version that is installed, as its source package has it; without it, pip fetches
the package. Its tests are not part of this one, and are not changed. They name things that are not there ("id",
"projectId"): the server here makes what a request names, and puts the id in its place. Every test of what is
served has to pass but for those of `DIFFERENCES`, which have to fail: a difference that is gone is an error as
well.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import together
from together import __version__ as version

from hana_ai.api.local.together import LocalTogether, ScriptedEngine
from tests.peers.placeholders import Placeholders

TOOLS = ("respx", "dirty-equals", "httpx-aiohttp")
"""What the SDK's tests need and this package's do not."""

NOT_SERVED = {
    r"beta/": "containers of one's own are not run here",
    r"test_clusters|clusters/": "there are no machines to rent",
    r"post_training/": "nothing is trained step by step",
    r"test_(images|videos|speech|transcriptions|translations)\.py": "no model draws, speaks or listens",
    r"test_(ab_experiments|shadow_experiments|targets|rollouts)\.py.*_"
    r"(create|update|delete|start|pause|resume|promote|cancel|preview_defaults)(_|\[|$)": "shown, not run",
}
"""Tests of what the server does not serve, by a pattern of their names."""

DIFFERENCES: dict[str, str] = {
    r"test_(models|endpoints|deployments)\.py.*test_(method|raw_response|streaming_response)_update\[": (
        "an update without a field is refused, as the service refuses it"
    ),
}
"""The tests that don't pass, by a pattern of their names, each with the reason."""


def fetched(folder: Path) -> Path:
    """The source of the SDK, unpacked."""
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "together"]
    subprocess.run([*pip, "-d", str(folder), f"together=={version}"], check=True)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / f"together-{version}"


def tried(checkout: Path, folder: Path, server: LocalTogether, more: list[str]) -> dict[str, str]:
    """Run the tests in a process of their own; what each came to, by its name: empty where it passed."""
    report = folder / "report.xml"
    tools = folder / "tools"
    if importlib.util.find_spec("respx") is None:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tools), *TOOLS]
        subprocess.run(pip, check=True)
    options = ["-q", "--tb=line", "-p", "no:cacheprovider", "-n", "0", "-W", "ignore", f"--junitxml={report}"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(checkout), str(tools), os.environ.get("PYTHONPATH", ""))),
        "TEST_API_BASE_URL": server.base_url,
    }
    # The package that is installed is tested, not the one in the checkout's `src`.
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, *more, "tests/api_resources"],
        cwd=checkout,
        env=environment,
        check=False,
        stdout=subprocess.DEVNULL,
    )
    outcomes: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("classname", "").removeprefix("tests.api_resources.").replace(".", "/")
        # The class is the last part.
        path, _, kind = name.rpartition("/")
        name = f"{path}.py::{kind}::{case.get('name')}"
        if case.find("skipped") is None:
            wrong = next((found for found in map(case.find, ("failure", "error")) if found is not None), None)
            outcomes[name] = "" if wrong is None else str(wrong.get("message"))[:300]
    return outcomes


def main(arguments: list[str]) -> int:
    """Run the tests; returns the exit status."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        checkout = Path(arguments[0]).resolve() if arguments else fetched(folder)
        with LocalTogether(Placeholders(ScriptedEngine()), api_key=None) as server:
            placed = server.engines[0]
            assert isinstance(placed, Placeholders)
            placed.server = server
            server.management.billing = []
            # Their results would be files of purposes that the SDK's types do not have.
            server.evaluations.dials.step = server.batches.dials.line = 3600
            outcomes = tried(checkout, folder, server, arguments[1:])
    served = {name: said for name, said in outcomes.items() if not _named(NOT_SERVED, name)}
    failed = {name: said for name, said in served.items() if said}
    wrong = {name: said for name, said in failed.items() if not _named(DIFFERENCES, name)}
    gone = [pattern for pattern in DIFFERENCES if not any(re.search(pattern, name) for name in failed)]
    passed = len(served) - len(failed)
    share = f"{100 * passed / len(served):.1f} %" if served else "none"
    print(f"together {together.__version__}: {passed} of {len(served)} tests of what is served pass ({share});")
    print(f"{len(outcomes) - len(served)} are of what is not served")
    for name, said in wrong.items():
        print(f"not explained: {name}: {said}")
    for pattern in gone:
        print(f"no difference any more: {pattern}")
    return 1 if wrong or gone or not passed else 0


def _named(patterns: dict[str, str], name: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
