"""Run langchain-together's own tests against this package's classes, renamed, over a loopback server.

    python -m tests.peers.langchain_together [FOLDER]

FOLDER is a checkout of github.com/langchain-ai/langchain-together at the tag below; without it, git fetches one.
Its tests are not part of this package: they are renamed into a temporary folder. Every test passes but for those
of `DIFFERENCES`, each of which docs/migration.md explains, and which must go on failing: a difference that is gone
is an error as well.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

TAG = "libs/together/v0.4.0"
ADDRESS = "https://github.com/langchain-ai/langchain-together"
ROOT = Path(__file__).parents[2]

RENAMED = {
    "langchain_together": "hana_ai.api",
    "ChatTogether": "ChatTogetherAI",
    "TogetherEmbeddings": "TogetherAIEmbeddings",
    "Together": "TogetherAI",
}
DIFFERENCES = {
    "integration_tests/test_llms.py::test_together_call": "the type in traces and caches, `_llm_type`",
    "integration_tests/test_llms.py::test_together_acall": "the type in traces and caches, `_llm_type`",
    "integration_tests/test_chat_models.py::test_chat_together_invalid_streaming_params": (
        "`n=2` with `streaming=True`"
    ),
    "unit_tests/test_chat_models_standard.py::TestTogetherStandard::test_init_from_env": "TOGETHER_API_BASE",
    "unit_tests/test_chat_models_standard.py::TestTogetherStandard::test_serdes": "`dumps` of a model",
    "unit_tests/test_embeddings.py::test_together_invalid_model_kwargs": "a field's name in `model_kwargs`",
    "unit_tests/test_embeddings_standard.py::TestTogetherStandard::test_init_from_env": "TOGETHER_API_BASE",
    "unit_tests/test_imports.py::test_all_imports": "the package's public names",
    "unit_tests/test_llms.py::test_together_model_params": "`max_tokens` of completions",
}
"""The tests that don't pass, each with the row of docs/migration.md that says why."""

# What every test finds: a server on this machine, which serves the models that the tests name.
_CONFTEST = """
import pytest
from hana_ai.api.local.together import LocalModel, LocalTogether, ScriptedEngine

NAMED = {named!r}

pytest_plugins = ["pytest_asyncio"]


@pytest.fixture(scope="session", autouse=True)
def server():
    features = ("FEATURE_TOOL_CALLING", "FEATURE_STRUCTURED_OUTPUT", "FEATURE_REASONING")
    models = [LocalModel(name, "chat", 8192, features=features) for name in NAMED]
    with LocalTogether(ScriptedEngine(models=[*ScriptedEngine().models, *models])) as running:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {{**running.environment(), "TOGETHER_CATALOG_LIFETIME": "0"}}.items():
                patch.setenv(name, value)
            yield running
"""


def renamed(text: str) -> str:
    """A test of theirs as one of ours."""
    return re.sub(rf"\b({'|'.join(RENAMED)})\b", lambda found: RENAMED[found[1]], text)


def write_tests(checkout: Path, folder: Path) -> None:
    """Write the renamed tests of a checkout into a folder."""
    theirs = checkout / "libs" / "together" / "tests"
    named: set[str] = set()
    for path in sorted(theirs.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        named.update(re.findall(r'"([\w.-]+/[\w.-]+)"', text))
        target = folder / "peers" / path.relative_to(theirs)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(renamed(text), encoding="utf-8")
    (folder / "conftest.py").write_text(_CONFTEST.format(named=sorted(named)), encoding="utf-8")


class Outcomes:
    """Notes how each test ended."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self.failed: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a phase of a test."""
        name = report.nodeid.partition("peers/")[2]
        if report.failed:
            self.failed[name] = str(report.longreprtext).strip().splitlines()[-1]
        elif report.when == "call" and report.passed:
            self.passed.add(name)


def main(arguments: list[str]) -> int:
    """Run the tests; returns the exit status."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments:
            checkout = Path(arguments[0])
        else:
            checkout = folder / "checkout"
            subprocess.run(
                ["git", "clone", "--quiet", "--depth", "1", "--branch", TAG, ADDRESS, str(checkout)], check=True
            )
        tests = folder / "tests"
        tests.mkdir()
        write_tests(checkout, tests)
        outcomes = Outcomes()
        options = ["-q", "--tb=short", "--no-header", "--snapshot-update", "-W", "default", "-o", "addopts="]
        places = [str(tests), "-c", str(ROOT / "setup.cfg"), "--rootdir", str(tests)]
        pytest.main([*places, *options, "-p", "no:cacheprovider"], plugins=[outcomes])
    wrong = {name: said for name, said in outcomes.failed.items() if name not in DIFFERENCES}
    gone = sorted(set(DIFFERENCES) - set(outcomes.failed))
    print(f"{len(outcomes.passed)} pass, {len(outcomes.failed)} differ")
    for name, said in wrong.items():
        print(f"not explained: {name}: {said}")
    for name in gone:
        print(f"no difference any more: {name}")
    return 1 if wrong or gone or not outcomes.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
