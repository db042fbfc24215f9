"""Read the locks: requirements files as `make lock` writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "requirements"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


@dataclass(frozen=True, slots=True)
class Locked:
    """One version of one package, for the environments that its marker names; `text` is what the lock says."""

    requirement: Requirement
    hashes: tuple[str, ...]
    text: str

    @property
    def name(self) -> NormalizedName:
        """The package's normalized name."""
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> Version:
        """The version."""
        (clause,) = self.requirement.specifier
        return Version(clause.version)

    def applies(self, python: str | None = None) -> bool:
        """Whether it is for this machine; with `python`, such as "3.14", for that version on it."""
        if self.requirement.marker is None:
            return True
        return self.requirement.marker.evaluate(
            {} if python is None else {"python_version": python, "python_full_version": f"{python}.9"}
        )


def read(lock: Path) -> list[Locked]:
    """What a lock holds."""
    found = []
    for text in re.findall(r"^[A-Za-z0-9].*(?:\n[ ].*)*", lock.read_text(), re.MULTILINE):
        wanted = re.sub(r"\s#.*", "", text.replace("\\\n", " "))
        requirement, *hashes = wanted.split("--hash=")
        found.append(Locked(Requirement(requirement), tuple(one.strip() for one in hashes), text))
    return found


def versions(locked: Sequence[Locked], python: str | None = None) -> dict[NormalizedName, Version]:
    """The version of each package that `Locked.applies`."""
    return {one.name: one.version for one in locked if one.applies(python)}
