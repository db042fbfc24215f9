"""Programs in an interpreter of their own, given as text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def printed(code: str, *arguments: str, folder: Path | None = None) -> str:
    """What a program prints, which ends well."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout
