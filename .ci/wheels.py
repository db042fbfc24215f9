"""Check that every locked version has a wheel for each supported Python on each platform.

The index that uv is set up with is asked, by uv itself: what it would install with building forbidden. What comes
as source alone is named in PURE, since it is pure Python, which builds anywhere without a compiler.

    python .ci/wheels.py [LOCK ...]
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux ARM": "aarch64-manylinux_2_28",
    "macOS ARM": "aarch64-apple-darwin",
    "Windows": "x86_64-pc-windows-msvc",
}
REQUIRED = "Linux x86-64"
"""The platform whose gaps are errors; the others' are only told."""
PURE = {"pydotplus", "overloading"}
"""Pure Python, published as source alone."""


def entries(lock: Path) -> dict[str, str]:
    """Each package of a lock with its lines; a package that is locked twice has both."""
    found: dict[str, str] = {}
    for block in re.findall(r"^[A-Za-z0-9].*(?:\n .*)*", lock.read_text(), re.MULTILINE):
        name = re.match(r"[A-Za-z0-9._-]+", block)
        assert name is not None
        found[name[0]] = f"{found.get(name[0], '')}{block}\n"
    return found


def without_wheel(lock: Path, python: str, platform: str) -> set[str]:
    """The packages of a lock that have no wheel there."""
    wanted, missing = entries(lock), set[str]()
    while True:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "requirements.txt"
            file.write_text("".join(lines for name, lines in wanted.items() if name not in missing))
            command = [_uv(), "pip", "install", "-q", "--dry-run", "--no-build", "--no-deps", "--require-hashes"]
            command += ["--python", sys.executable, "--python-version", python, "--python-platform", platform]
            done = subprocess.run(
                [*command, "--target", folder, "-r", file],
                env=os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"},
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode == 0:
            return missing
        named = set(re.findall(r"Wheels are (?:required|available) for `([^`]+)`", done.stderr)) & wanted.keys()
        if not named - missing:
            raise SystemExit(f"uv failed:\n{done.stderr}")
        missing |= named


def _uv() -> str:
    found = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if found is None:
        raise SystemExit("This needs uv, which every target of the Makefile installs.")
    return found


def main(arguments: Sequence[str]) -> int:
    """Print the gaps; 1 if a required platform has any."""
    locks = [Path(argument) for argument in arguments] or sorted((ROOT / "requirements").glob("*.txt"))
    cases = [(lock, name, python) for lock in locks for name in PLATFORMS for python in PYTHONS]
    failed = False
    with ThreadPoolExecutor(2) as threads:
        gaps = threads.map(lambda case: without_wheel(case[0], case[2], PLATFORMS[case[1]]) - PURE, cases)
        for (lock, name, python), missing in zip(cases, gaps, strict=True):
            if missing:
                failed = failed or name == REQUIRED
                print(f"{lock.stem}, Python {python}, {name}: no wheel of {', '.join(sorted(missing))}")
    print(f"Looked at {len(locks)} locks, Python {', '.join(PYTHONS)}, {', '.join(PLATFORMS)}.")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
