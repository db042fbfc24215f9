"""Processes beside the benchmarks: servers and contestants."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def running(module: str, *arguments: str) -> Iterator[str]:
    """Run a module that prints its port and ends when its input does; gives its address."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
            process.wait(10)


@contextmanager
def server() -> Iterator[str]:
    """Run the server that answers with bytes made beforehand; gives its address."""
    with running("benchmarks.server") as url:
        yield url


def environment() -> dict[str, str]:
    """This process's environment without the user's keys and settings, which take no part.

    pip compiles what it installs; a checkout is compiled by its first import, so that must be allowed.
    """
    left_out = ("TOGETHER_", "OPENAI_", "LANGSMITH_", "LANGCHAIN_", "HANA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    # litellm fetches its table of prices from the internet unless it is told to use the one that it brings.
    kept["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    return kept


def interpreter(checkout: Path) -> Path:
    """The Python that has a checkout's provider installed: for this checkout this one, else its `.venv`'s."""
    return Path(sys.executable) if checkout == ROOT else checkout / ".venv" / "bin" / "python"
