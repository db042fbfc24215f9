"""What requirements/ locks is what is installed here, and what setup.cfg asks for."""

from __future__ import annotations

import configparser
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
OURS = canonicalize_name("hana-ai-together")
ALWAYS = ("test", "build", "uv")
LATER = ("docs", "bench", "ray", "release")
"""Further needs, which `make docs` and `make bench` add to the same environment."""

# The environments of make test-newest and make test-oldest are not those of the locks.
of_the_lock = pytest.mark.skipif(
    Path(sys.prefix).name != ".venv", reason="this environment was not made from the locks"
)


def load(name: str) -> ModuleType:
    """A script of .ci."""
    sys.path.insert(0, str(ROOT / ".ci"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


locks: Any = load("locks")


def held(lock: str) -> Any:
    return locks.read(locks.FOLDER / f"{lock}.txt")


def locked(*needs: str) -> dict[NormalizedName, Version]:
    """The versions that the locks hold for this interpreter."""
    return {name: version for lock in needs for name, version in locks.versions(held(lock)).items()}


def installed() -> dict[NormalizedName, Version]:
    return {canonicalize_name(found.name): Version(found.version) for found in metadata.distributions()}


def asked_for() -> Iterator[tuple[str, Requirement]]:
    """The requirements of setup.cfg, each with the lock that must meet it."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]
    for section, lock in (
        ("", "test"),
        ("toolkit", "test"),
        ("local", "test"),
        ("test", "test"),
        ("docs", "docs"),
    ):
        lines = extras[section] if section else config["options"]["install_requires"]
        for line in filter(None, map(str.strip, lines.splitlines())):
            requirement = Requirement(line)
            if canonicalize_name(requirement.name) != OURS:
                yield lock, requirement


@of_the_lock
def test_exactly_the_locked_versions_are_installed() -> None:
    found = installed()
    assert found.pop(OURS)
    wanted, further = locked(*ALWAYS), locked(*LATER)

    assert {name: found.get(name) for name in wanted} == wanted
    assert {name: version for name, version in found.items() if version != (wanted | further).get(name)} == {}


@of_the_lock
def test_what_is_installed_fits_together() -> None:
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_the_locks_agree_with_each_other() -> None:
    first = locked(*ALWAYS)
    for lock in LATER:
        assert {
            name: version for name, version in locked(lock).items() if first.get(name, version) != version
        } == {}


@pytest.mark.parametrize(("lock", "requirement"), [pytest.param(*one, id=str(one[1])) for one in asked_for()])
def test_the_lock_is_within_the_bounds_of_setup_cfg(lock: str, requirement: Requirement) -> None:
    found = [one.version for one in held(lock) if one.name == canonicalize_name(requirement.name)]
    assert found, "not locked: make lock"
    for version in found:
        assert requirement.specifier.contains(version, prereleases=True), "make lock"


@pytest.mark.parametrize(
    "requirement", [pytest.param(one, id=str(one)) for lock, one in asked_for() if lock == "test"]
)
def test_every_requirement_has_a_lower_bound_which_is_what_the_oldest_tests_run_with(
    requirement: Requirement,
) -> None:
    (bound,) = [one.version for one in requirement.specifier if one.operator == ">="]
    version = locks.versions(held("oldest"), locks.PYTHONS[0])[canonicalize_name(requirement.name)]
    assert version.release[: len(Version(bound).release)] == Version(bound).release, (
        "raise the bound, or make lock"
    )


def test_the_build_s_bound_holds_the_locked_tool() -> None:
    (line,) = re.findall(r"requires = \[\"(.*)\"\]", (ROOT / "pyproject.toml").read_text())
    bound = Requirement(line)
    assert bound.specifier.contains(locked("build")[canonicalize_name(bound.name)])


@pytest.mark.parametrize("lock", sorted(file.stem for file in locks.FOLDER.glob("*.txt")))
def test_a_lock_fixes_every_version_by_hash_and_names_no_place(lock: str) -> None:
    assert held(lock)
    for one in held(lock):
        assert re.fullmatch(r"==[^*,]+", str(one.requirement.specifier)), one.requirement
        assert one.hashes, one.requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in one.hashes), one.requirement
    text = (locks.FOLDER / f"{lock}.txt").read_text()
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted-host", text)
    assert not re.search(r"(?<![\w.-])(~?/|[A-Za-z]:\\)\w", text)


def test_every_lock_has_a_need() -> None:
    assert {file.stem for file in locks.FOLDER.glob("*.txt")} == {*ALWAYS, *LATER, "oldest"}


def test_the_supported_versions_of_python_are_named_alike_everywhere() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    named = re.findall(r"Python :: (3\.\d+)", config["metadata"]["classifiers"])
    assert tuple(named) == locks.PYTHONS
    assert config["options"]["python_requires"] == f">={named[0]}"
    assert config["mypy"]["python_version"] == named[0]
    assert f"py{named[0].replace('.', '')}" in (ROOT / "ruff.toml").read_text()
    for page in ("README.md", "docs/getting-started.md", "docs/compatibility.md"):
        assert f"Python {named[0]} to {named[-1]}" in (ROOT / page).read_text(), page


def test_the_table_of_tested_versions_is_that_of_the_locks() -> None:
    compatibility: Any = load("compatibility")
    assert compatibility.table() in compatibility.PAGE.read_text(), "make lock"
