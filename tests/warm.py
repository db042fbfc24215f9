"""Programs in processes of their own that have imported everything already: each is a fork of one that has.

What a program gets is its own, as from `subprocess`: arguments, environment, folder, output and signals. It runs
to the end of an interpreter, with what is done there.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

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
USUAL = (
    "together.resources.chat.completions",
    "anyio._backends._asyncio",
    "langchain_core.tracers.langchain",
    "langchain_core.tracers.run_collector",
    "langchain_core.messages.block_translators.langchain_v0",
    "hana_ai.api.chat_models",
    "hana_ai.api.llms",
    "hana_ai.api.embeddings",
    "hana_ai.api.service",
    "hana_ai.api.connector.connector",
    "hana_ai.api.batches.jobs",
    "hana_ai.api.cli.app",
    "hana_ai.api.hana.mapping.job",
    "hana_ai.api.hana.ingest.job",
    "langchain_text_splitters",
    "hdbcli.dbapi",
)
"""What calls and the command line need."""
COMMAND_LINE = "import runpy; runpy.run_module('hana_ai.api.cli', run_name='__main__', alter_sys=True)"
"""A program that is the command line."""


class Started:
    """A program that runs; as a `subprocess.Popen` whose pipes are texts."""

    def __init__(self, stdout: int, stderr: int, told: int) -> None:
        self.stdout: TextIO = os.fdopen(stdout, "r", encoding="utf-8")
        self.stderr: TextIO = os.fdopen(stderr, "r", encoding="utf-8")
        self.returncode: int | None = None
        self._told = os.fdopen(told, "r", encoding="utf-8")
        self.pid = int(self._told.readline())

    def poll(self) -> int | None:
        """The exit status, if it has ended."""
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float = 120.0) -> int:
        """The exit status, when it ends."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                self.send_signal(signal.SIGKILL)
                raise subprocess.TimeoutExpired("a warm program", timeout)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal; what has ended gets none."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def communicate(self, timeout: float = 120.0) -> tuple[str, str]:
        """All that it prints until it ends."""
        said: list[str] = []
        reading = threading.Thread(target=lambda: said.append(self.stderr.read()))
        reading.start()
        ending = threading.Timer(timeout, self.send_signal, [signal.SIGKILL])
        ending.start()
        out = self.stdout.read()
        reading.join()
        self.wait(timeout)
        ending.cancel()
        self.close()
        return out, said[0]

    def close(self) -> None:
        """Close the pipes."""
        self.stdout.close()
        self.stderr.close()

    def _end(self) -> None:
        self.returncode = int(self._told.readline())
        self._told.close()


class Warm:
    """Starts programs."""

    def __init__(self, process: subprocess.Popen[bytes], line: socket.socket) -> None:
        self._process = process
        self._line = line

    def start(
        self,
        code: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Started:
        """Start a program, with this process's environment and in its folder unless told otherwise."""
        asked = {
            "code": code,
            "argv": ["-c", *arguments],
            "env": dict(os.environ if environment is None else environment),
            "cwd": str(folder or Path.cwd()),
        }
        pipes = [os.pipe() for _ in range(3)]
        socket.send_fds(self._line, [json.dumps(asked).encode()], [end for _, end in pipes])
        for _, end in pipes:
            os.close(end)
        return Started(*(begin for begin, _ in pipes))

    @contextlib.contextmanager
    def begun(
        self,
        code: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Iterator[Started]:
        """A program that is killed in the end, should it run."""
        program = self.start(code, *arguments, environment=environment, folder=folder)
        try:
            yield program
        finally:
            program.send_signal(signal.SIGKILL)
            program.wait()
            program.close()

    def run(
        self,
        code: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        timeout: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        program = self.start(code, *arguments, environment=environment, folder=folder)
        out, err = program.communicate(timeout)
        return subprocess.CompletedProcess([code, *arguments], program.wait(), out, err)


@contextlib.contextmanager
def warm(*modules: str, options: Sequence[str] = ()) -> Iterator[Warm]:
    """A process that has imported modules, `USUAL` ones by default.

    Parameters
    ----------
    *modules
        Their names.
    options
        Of the interpreter.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours_alone = ("TOGETHER_", "HANA_", "ENABLE_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours_alone)}
    with ours, tempfile.TemporaryDirectory() as folder:
        with theirs:
            process = subprocess.Popen(
                [
                    *(sys.executable, *options, *upstream.IGNORED, "-m", "tests.warm", str(theirs.fileno())),
                    *(modules or USUAL),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**env, "PYTHONPATH": str(CHECKOUT)},
                cwd=folder,
            )
        assert ours.recv(16) == b"ready", "what is to be imported cannot be"
        yield Warm(process, ours)
        ours.close()
        process.wait()


# --- the process itself ---


def _serve(line: socket.socket) -> dict[str, Any] | None:
    """Fork for what is asked for; returns in each fork, and at the end."""
    awake, woken = os.pipe()
    os.set_blocking(woken, False)
    usual = signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    running: dict[int, int] = {}
    line.send(b"ready")
    while True:
        readable, _, _ = select.select([line, awake], [], [])
        if awake in readable:
            os.read(awake, 1024)
            for child in list(running):
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    _tell(running.pop(child), os.waitstatus_to_exitcode(status))
        if line not in readable:
            continue
        data, fds, _, _ = socket.recv_fds(line, 1 << 20, 3)
        if not data:
            for child in running:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            return None
        if (child := os.fork()) == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, usual)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for fd in (awake, woken, fds[2], *running.values()):
                os.close(fd)
            line.close()
            os.dup2(fds[0], 1)
            os.dup2(fds[1], 2)
            os.close(fds[0])
            os.close(fds[1])
            asked: dict[str, Any] = json.loads(data)
            return asked
        os.close(fds[0])
        os.close(fds[1])
        os.write(fds[2], b"%d\n" % child)
        running[child] = fds[2]


def _tell(fd: int, status: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(fd, b"%d\n" % status)
    os.close(fd)


def _main() -> None:
    line = socket.socket(fileno=int(sys.argv[1]))
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    assert threading.active_count() == 1, threading.enumerate()
    asked = _serve(line)
    if asked is None:
        return
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    sys.argv[:] = asked["argv"]
    sys.path[0] = ""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(compile(asked["code"], "<string>", "exec"), vars(module))


if __name__ == "__main__":
    _main()
