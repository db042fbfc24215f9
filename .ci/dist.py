"""Check what `make dist` has built, as an index of packages would: python .ci/dist.py [FOLDER]

Metadata and description are read by the rules of the core metadata, the names agree with the version, the changes
name it, and the wheel holds every module of the checkout and none that is SAP's.
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

from packaging.metadata import Metadata
from packaging.utils import parse_sdist_filename, parse_wheel_filename

ROOT = Path(__file__).parents[1]


def problems(folder: Path) -> list[str]:
    """What is wrong with a wheel and an sdist; empty if nothing is."""
    wheels, sdists = list(folder.glob("*.whl")), list(folder.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        return [f"{folder} holds {len(wheels)} wheels and {len(sdists)} sdists; run: make dist"]
    (wheel,), (sdist,) = wheels, sdists
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        of_wheel = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA")))
    with tarfile.open(sdist) as archive:
        member = next(entry for entry in archive if re.fullmatch(r"[^/]+/PKG-INFO", entry.name))
        of_sdist = archive.extractfile(member).read()  # type: ignore[union-attr] - it is a file
    found = [*_of_metadata("wheel", of_wheel), *_of_metadata("sdist", of_sdist), *_of_packages(names)]
    if found:
        return found
    version = Metadata.from_email(of_wheel).version
    if not parse_wheel_filename(wheel.name)[1] == parse_sdist_filename(sdist.name)[1] == version:
        found.append(f"the names of {wheel.name} and {sdist.name} do not agree with the version {version}")
    if f"\n## {version} (" not in (ROOT / "CHANGELOG.md").read_text("utf-8"):
        found.append(f"CHANGELOG.md has no heading for {version}")
    return found


def _of_metadata(what: str, text: bytes) -> list[str]:
    try:
        read = Metadata.from_email(text, validate=True)
    except ExceptionGroup as exc:
        return [f"{what}: {problem}" for problem in exc.exceptions]
    found = []
    if read.description_content_type != "text/markdown" or not (read.description or "").strip():
        found.append(f"{what}: the description is no Markdown, or empty")
    if message_from_bytes(text).defects:
        found.append(f"{what}: the metadata is no well-formed message")
    return found


def _of_packages(names: list[str]) -> list[str]:
    wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / "hana_ai" / "api").rglob("*.py")}
    missing = sorted(wanted - set(names))
    found = [f"the wheel lacks {name}" for name in missing]
    return found + [f"the wheel holds {name}" for name in names if name == "hana_ai/__init__.py"]


def main() -> int:
    """Say what is wrong; returns the exit status."""
    found = problems(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist")
    for problem in found:
        print(problem)
    if not found:
        print("The sdist and the wheel are as they should be.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
