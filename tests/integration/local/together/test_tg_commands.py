"""Every command of the SDK's `tg` runs against the loopback server, and ends without a Python error.

The commands are those that the command line itself has, so that a new one is tried as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hana_ai.api.local.together import LocalTogether, ScriptedEngine

from .command_line import CommandServer
from .test_files import CONVERSATION, environment

LEFT_OUT = {
    "login": "speaks with the world",
    "logout": "speaks with the world",
    "switch": "asks a person",
    "clusters ssh": "starts another program",
    "beta jig": "works on containers, and needs a program for them",
}
"""Commands, by their beginning, that are not run."""

LISTED = """
import inspect, json
from together.lib.cli import app

def walk(one, path):
    for name in one:
        if name.startswith("-"):
            continue
        child = one[name]
        if child.name and child.name[0] != name:
            continue
        found = child.default_command
        if found is not None:
            parameters = inspect.signature(found).parameters.values()
            wanted = [
                [p.name, str(p.annotation), p.kind is p.KEYWORD_ONLY]
                for p in parameters
                if p.default is p.empty and p.name != "config" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            ]
            print(json.dumps([[*path, name], wanted]))
        walk(child, [*path, name])

walk(app, [])
"""

IDS = {
    "endpoint": "ep_none",
    "deployment": "dep_none",
    "experiment": "abx_none",
    "rollout": "rol_none",
    "file": "file-none",
    "fine_tune": "ft-none",
    "model": "local/scripted-chat",
}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalTogether]:
    with LocalTogether(ScriptedEngine()) as running:
        running.management.billing = []
        yield running


def listed(variables: dict[str, str]) -> list[tuple[list[str], list[list[Any]]]]:
    """Every command with the arguments that it needs."""
    found = subprocess.run(
        [sys.executable, "-c", LISTED], env=variables, capture_output=True, text=True, timeout=120, check=True
    )
    return [tuple(json.loads(line)) for line in found.stdout.splitlines()]


def values(wanted: list[list[Any]], folder: Path) -> list[str]:
    """Something for each argument."""
    given: list[str] = []
    for name, annotation, by_name in wanted:
        value = next((id for word, id in IDS.items() if word in name), "none")
        if "Path" in annotation:
            value = str(folder / "data.jsonl")
        elif "int" in annotation or "float" in annotation:
            value = "1"
        elif "Literal[" in annotation:
            value = annotation.partition("Literal[")[2].partition("]")[0].split(",")[0].strip("'\" ")
        given += [f"--{name.replace('_', '-')}", value] if by_name else [value]
    return given


def ended_badly(server: LocalTogether, tg: CommandServer, folder: Path, every: int) -> tuple[list[str], int]:
    """Which of every so many-th command ended with a Python error, and how many were run."""
    (folder / "data.jsonl").write_text(CONVERSATION)
    variables = {**environment(server, folder), "TOGETHER_PROJECT_ID": "proj_local", "CI": "true"}
    found = [one for one in listed(variables) if not " ".join(one[0]).startswith(tuple(LEFT_OUT))][::every]
    bad = []
    for path, wanted in found:
        status, said = tg.run(variables, folder, *path, *values(wanted, folder))
        if "Traceback (most recent call last)" in said or status not in (0, 1, 2):
            bad.append(f"{' '.join(path)}: {status} {said[-600:]}")
    return bad, len(found)


@pytest.mark.parametrize(("every", "least"), [(8, 5), pytest.param(1, 60, marks=pytest.mark.slow)])
def test_no_command_ends_with_a_python_error(
    server: LocalTogether, commands: CommandServer, tmp_path: Path, every: int, least: int
) -> None:
    bad, run = ended_badly(server, commands, tmp_path, every)
    assert bad == []
    assert run >= least
    assert server.statistics.requests > run / 2
