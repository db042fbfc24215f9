"""Programs in processes of their own that begin at once: forks of a process that has imported what they need.

Importing takes most of the time of a short program. The process that is forked has imported and done nothing else:
it has no engine, thread or connection. A program ends as any other does, with its threads and exit handlers.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from tests import upstream

CHECKOUT = Path(__file__).parents[1]
EMBEDS = (
    "hana_ai.api.embeddings",
    "hana_ai.api.langchain.embedding_job",
    "hana_ai.api.service",
    "hana_ai.api.catalog.preflight",
    "hana_ai.api.transport.exchange",
    "hana_ai.api.usage.ledger",
    "hana_ai.api.usage.writer",
)
"""What a call of an embedding model imports."""
CALLS = (
    *EMBEDS,
    "hana_ai.api.chat_models",
    "hana_ai.api.langchain.completions",
    "hana_ai.api.langchain.stream_reader",
    "hana_ai.api.llms",
    "hana_ai.api.rerankers",
    "hana_ai.api.together_ai",
)
"""What a call of any class imports."""


class Program:
    """A program that runs."""

    def __init__(self, pid: int, replies: IO[str], stdout: IO[str] | None, stderr: IO[str] | None) -> None:
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        self.returncode: int | None = None
        self._replies = replies

    def send_signal(self, number: int) -> None:
        """Send a signal, where it has not ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end; gives its status as `subprocess` does."""
        if self.returncode is None:
            self.returncode = int(self._replies.readline())
        return self.returncode

    def end(self) -> None:
        """Kill it, should it run, and close what it wrote to."""
        self.send_signal(signal.SIGKILL)
        self.wait()
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()


class Imported:
    """Starts programs, one at a time."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._replies = channel.makefile("r")
        assert self._replies.readline() == "ready\n", "what is to be imported cannot be"

    def _start(
        self,
        code: str,
        arguments: tuple[str, ...],
        streams: list[int],
        environment: Mapping[str, str] | None,
        folder: Path | None,
    ) -> int:
        told = {
            "code": code,
            "arguments": arguments,
            "environment": dict(os.environ if environment is None else environment),
            "folder": str(folder or Path.cwd()),
        }
        socket.send_fds(self._channel, [b"."], streams)
        self._channel.sendall(json.dumps(told).encode() + b"\n")
        return int(self._replies.readline())

    @contextmanager
    def begun(
        self,
        code: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Iterator[Program]:
        """A program whose output can be read, in the current folder by default; in the end it is killed."""
        read, write = zip(*(os.pipe() for _ in range(2)), strict=True)
        with Path(os.devnull).open() as nothing:
            pid = self._start(code, arguments, [nothing.fileno(), *write], environment, folder)
        for descriptor in write:
            os.close(descriptor)
        program = Program(pid, self._replies, *(os.fdopen(descriptor) for descriptor in read))
        try:
            yield program
        finally:
            program.end()

    def run(
        self, code: str, *arguments: str, environment: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, in the current folder by default, with nothing to read."""
        with (
            Path(os.devnull).open() as nothing,
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as err,
        ):
            streams = [nothing.fileno(), out.fileno(), err.fileno()]
            program = Program(
                self._start(code, arguments, streams, environment, folder), self._replies, None, None
            )
            try:
                status = program.wait()
            finally:
                program.end()
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess(["-c", *arguments], status, out.read(), err.read())


@contextmanager
def imported(*modules: str, greenlets: bool = False) -> Iterator[Imported]:
    """A process that has imported these modules.

    Parameters
    ----------
    *modules
        Their names.
    greenlets
        Whether gevent has patched the standard library before.
    """
    ours, theirs = socket.socketpair()
    command = [sys.executable, *upstream.IGNORED, "-m", *(["gevent.monkey", "--module"] if greenlets else [])]
    command += ["tests.imported", str(theirs.fileno()), *modules]
    with (
        ours,
        subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        ),
    ):
        theirs.close()
        begun = Imported(ours)
        try:
            yield begun
        finally:
            # Else the process would not see the end, and would be waited for.
            begun._replies.close()
            ours.close()


def _next_program() -> dict[str, Any] | None:
    """Fork for each program: what is told of it in the child, and in the end None in the parent."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.sendall(b"ready\n")
    lines = channel.makefile("r")
    while True:
        begun, streams, _, _ = socket.recv_fds(channel, 1, 3)
        if not begun:
            return None
        told = json.loads(lines.readline())
        child = os.fork()
        if child == 0:
            lines.close()
            channel.close()
            for number, descriptor in enumerate(streams):
                os.dup2(descriptor, number)
            os.closerange(3, max(streams) + 1)
            return dict(told)
        for descriptor in streams:
            os.close(descriptor)
        channel.sendall(f"{child}\n".encode())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        channel.sendall(f"{status}\n".encode())


if __name__ == "__main__":
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    if (program := _next_program()) is not None:
        os.environ.clear()
        os.environ.update(program["environment"])
        os.chdir(program["folder"])
        sys.argv = ["-c", *program["arguments"]]
        sys.path[0] = ""
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(program["code"], "<string>", "exec"), main.__dict__)
