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

import locks

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


def without_wheel(lock: Path, python: str, platform: str) -> set[str]:
    """The packages of a lock that have no wheel there."""
    wanted, missing = locks.read(lock), set[str]()
    while True:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "requirements.txt"
            file.write_text("".join(f"{one.text}\n" for one in wanted if one.name not in missing))
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
        named = set(re.findall(r"Wheels are (?:required|available) for `([^`]+)`", done.stderr))
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
    files = [Path(argument) for argument in arguments] or sorted(locks.FOLDER.glob("*.txt"))
    cases = [(lock, name, python) for lock in files for name in PLATFORMS for python in locks.PYTHONS]
    failed = False
    with ThreadPoolExecutor(2) as threads:
        gaps = threads.map(lambda case: without_wheel(case[0], case[2], PLATFORMS[case[1]]) - PURE, cases)
        for (lock, name, python), missing in zip(cases, gaps, strict=True):
            if missing:
                failed = failed or name == REQUIRED
                print(f"{lock.stem}, Python {python}, {name}: no wheel of {', '.join(sorted(missing))}")
    print(f"Looked at {len(files)} locks, Python {', '.join(locks.PYTHONS)}, {', '.join(PLATFORMS)}.")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
