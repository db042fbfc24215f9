"""What requirements/ locks is what is installed here, and what setup.cfg asks for."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "requirements"
OURS = canonicalize_name("hana-ai-together")
ALWAYS = ("test", "build", "uv")
LATER = ("docs", "bench")
"""Further needs, which `make docs` and `make bench` add to the same environment."""

# The environments of make test-newest and make test-oldest are not those of the locks.
of_the_lock = pytest.mark.skipif(
    Path(sys.prefix).name != ".venv", reason="this environment was not made from the locks"
)


def entries(lock: str) -> Iterator[tuple[Requirement, list[str]]]:
    """The requirements of a lock, each with its hashes."""
    text = (LOCKS / f"{lock}.txt").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line and not line.lstrip().startswith("#"):
            requirement, *hashes = line.split("--hash=")
            yield Requirement(requirement), [one.strip() for one in hashes]


def locked(*locks: str) -> dict[NormalizedName, Version]:
    """The versions that the locks hold for this interpreter."""
    return {
        canonicalize_name(requirement.name): Version(next(iter(requirement.specifier)).version)
        for lock in locks
        for requirement, _ in entries(lock)
        if requirement.marker is None or requirement.marker.evaluate()
    }


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
    held = [one for one, _ in entries(lock) if canonicalize_name(one.name) == canonicalize_name(requirement.name)]
    assert held, "not locked: make lock"
    for one in held:
        assert requirement.specifier.contains(next(iter(one.specifier)).version, prereleases=True), "make lock"


def test_the_build_s_bound_holds_the_locked_tool() -> None:
    (line,) = re.findall(r"requires = \[\"(.*)\"\]", (ROOT / "pyproject.toml").read_text())
    bound = Requirement(line)
    assert bound.specifier.contains(locked("build")[canonicalize_name(bound.name)])


@pytest.mark.parametrize("lock", sorted(file.stem for file in LOCKS.glob("*.txt")))
def test_a_lock_fixes_every_version_by_hash_and_names_no_place(lock: str) -> None:
    held = list(entries(lock))
    assert held
    for requirement, hashes in held:
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), requirement
    text = (LOCKS / f"{lock}.txt").read_text()
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted-host|(^|\s)(/|[A-Za-z]:\\)", text)
    assert not re.search(r"(?<![\w.-])(/|~/)\w", text)


def test_every_lock_is_installed_by_some_target() -> None:
    assert {file.stem for file in LOCKS.glob("*.txt")} == {*ALWAYS, *LATER}
