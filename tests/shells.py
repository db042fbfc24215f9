"""A shell of IPython in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell


@contextmanager
def ipython_shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """Make a shell that keeps its files in the working directory, and end it."""
    monkeypatch.setenv("IPYTHONDIR", str(Path.cwd()))
    found = InteractiveShell()
    try:
        yield found
    finally:
        if found.history_manager is not None:
            found.history_manager.end_session()
