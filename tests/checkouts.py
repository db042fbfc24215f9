"""Copies of this project, so that building leaves nothing behind here."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
FOLDERS = ("hana_ai", "plugins", "docs")


def copy_checkout(copy: Path) -> Path:
    """Copy what the distribution is made of into a folder, which is made if need be; returns it."""
    copy.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy
