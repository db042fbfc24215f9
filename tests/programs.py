"""Programs in an interpreter of their own, from its start or with everything imported already."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.warm import Warm, warm


def printed(code: str, *arguments: str, folder: Path | None = None) -> str:
    """What a program prints, which ends well."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout


def warmed(*modules: str) -> Any:
    """A fixture that starts programs for the tests of a module; they have imported these modules."""

    @pytest.fixture(scope="module")
    def programs() -> Iterator[Warm]:
        with warm(*modules) as begun:
            yield begun

    return programs
