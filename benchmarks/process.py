"""Processes beside the benchmarks: servers and contestants."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


async def serve(protocol: Callable[[], asyncio.Protocol]) -> None:
    """Serve on a free port, print it, and end when the standard input is closed; for a process of its own."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, backlog=1024)
    ended = asyncio.Event()

    def wait_for_the_parent() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait_for_the_parent, daemon=True).start()
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()
    # Not `async with`: from Python 3.12 on, that waits until the last client has left.
    server.close()


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
    # What one run reads of the catalogue must not save the next one a request.
    kept["TOGETHER_CATALOG_LIFETIME"] = "0"
    # litellm fetches its table of prices from the internet unless it is told to use the one that it brings.
    kept["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    return kept


def interpreter(checkout: Path) -> Path:
    """The Python that has a checkout's provider installed: for this checkout this one, else its `.venv`'s."""
    return Path(sys.executable) if checkout == ROOT else checkout / ".venv" / "bin" / "python"
