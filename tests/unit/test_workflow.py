"""The workflow of the hosted CI runs what a person runs, on every supported Python, with few rights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / ".github" / "workflows" / "ci.yml").read_text()


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(TEXT)["jobs"]
    return found


def steps(jobs: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in jobs.items():
        for step in job["steps"]:
            yield name, step


def test_every_supported_python_is_tested(jobs: dict[str, Any]) -> None:
    supported = re.findall(r"Python :: (3\.\d+)", (ROOT / "setup.cfg").read_text())
    assert jobs["test"]["strategy"]["matrix"]["python"] == supported


def test_every_command_is_a_target_of_the_makefile(jobs: dict[str, Any]) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [step["run"] for _, step in steps(jobs) if "run" in step]
    assert {command.split()[0] for command in commands} == {"make"}
    assert {command.split()[1] for command in commands} <= targets
    assert {"lint", "test", "test-oldest", "test-newest", "docs", "dist"} <= {one.split()[1] for one in commands}


def test_actions_are_pinned_to_commits(jobs: dict[str, Any]) -> None:
    used = [step["uses"] for _, step in steps(jobs) if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", one) for one in used)
    assert len(re.findall(r"uses: \S+ # v\d+\.\d+\.\d+$", TEXT, re.MULTILINE)) == len(used)


def test_only_the_build_may_write_and_that_attestations_alone(jobs: dict[str, Any]) -> None:
    assert yaml.safe_load(TEXT)["permissions"] == {"contents": "read"}
    asked = {name: job["permissions"] for name, job in jobs.items() if "permissions" in job}
    assert asked == {"build": {"contents": "read", "id-token": "write", "attestations": "write"}}
    checkouts = [step for _, step in steps(jobs) if "checkout" in step.get("uses", "")]
    assert all(step["with"] == {"persist-credentials": False} for step in checkouts)
