"""The command `tg` of Together's SDK, against a loopback server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

# A command imports the SDK's parts and resolves all others when it runs: here that is done once, before the forks.
SERVER = """
import importlib, json, os, pkgutil, sys
import anyio._backends._asyncio, httpcore, together.resources
from together.lib.cli import app, main

def resolve(one):
    for name in one:
        if not name.startswith("-"):
            resolve(one[name])

resolve(app)
for found in pkgutil.walk_packages(together.resources.__path__, "together.resources."):
    importlib.import_module(found.name)

for line in sys.stdin:
    environment, folder, out, *sys.argv = json.loads(line)
    child = os.fork()
    if not child:
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
        os.dup2(1, 2)
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else bool(end.code)
        sys.stdout.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class CommandServer:
    """Runs commands, each in a process of its own that is forked after the import, which takes seconds."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, environment: dict[str, str], folder: Path, *arguments: str) -> tuple[int, str]:
        """Run a command in a folder; gives its exit status and what it printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        out = folder / "out.txt"
        line = [environment, str(folder), str(out), "tg", *arguments, "--json"]
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline()), out.read_text()

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)


class CommandLine:
    """The command with an environment; gives the JSON that it printed."""

    def __init__(self, server: CommandServer, environment: dict[str, str], folder: Path) -> None:
        self._server = server
        self._environment = environment
        self._folder = folder

    def __call__(self, *arguments: str) -> Any:
        status, said = self._server.run(self._environment, self._folder, *arguments)
        assert status == 0, f"{arguments}: {said}"
        return json.loads(said)
