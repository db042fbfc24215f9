"""The stand-ins that `hana-ai-together serve` runs, and the variables that point programs at them."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from hana_ai.api.local.signals import signals_handled

from .console import Problem, program_of
from .servers import missing_package


@dataclass(frozen=True)
class StandIn:
    """A server that runs: what it is, and the variables that point programs at it."""

    what: str
    variables: Mapping[str, str]


@dataclass(frozen=True)
class TogetherOptions:
    """Of the server of Together's API; times in seconds."""

    host: str
    port: int
    engine: Literal["llama", "scripted"]
    gguf: Path | None = None
    max_tokens: int | None = None
    latency: float = 0.0
    chunk_delay: float = 0.0
    dimensions: int = 256


@dataclass(frozen=True)
class HanaOptions:
    """Of the server of HANA's protocol."""

    host: str
    port: int
    db: Path | None = None
    user: str = "DBADMIN"
    certificate: Path | None = None
    key: Path | None = None


@contextmanager
def served_together(options: TogetherOptions) -> Iterator[StandIn]:
    """A loopback Together server.

    Raises
    ------
    Problem
        It cannot start; the message says why.
    """
    with _problems(options.host, options.port):
        from hana_ai.api.local.together.__main__ import make_server

        server = make_server(**asdict(options)).start()
    with closing(server):
        names = ", ".join(model.id for model in server.models)
        yield StandIn(f"Together AI ({names})", {"ENABLE_TOGETHER_AI": "true", **server.environment()})


@contextmanager
def served_hana(options: HanaOptions) -> Iterator[StandIn]:
    """A loopback HANA.

    Raises
    ------
    Problem
        It cannot start; the message says why.
    """
    with ExitStack() as stack:
        with _problems(options.host, options.port):
            from hana_ai.api.local.hana.__main__ import served

            variables = stack.enter_context(
                served(
                    options.host,
                    options.port,
                    db=options.db,
                    user=options.user,
                    certificate=options.certificate,
                    key=options.key,
                )
            )
        yield StandIn("SAP HANA (DuckDB behind HANA's protocol)", variables)


@contextmanager
def _problems(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as exc:
        raise missing_package(exc) from exc
    except ssl.SSLError as exc:
        raise Problem(f"The certificate and its key cannot be used; both have to be PEM: {exc.reason}") from exc
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise Problem(
                f"Port {port} of {host} is in use; choose another one, or 0 for any that is free."
            ) from exc
        if exc.errno == errno.EACCES and exc.filename is None:
            raise Problem(f"Only an administrator may listen on port {port}; choose one from 1024 on.") from exc
        raise
    except ValueError as exc:
        raise Problem(str(exc)) from exc


def serve_until_stopped(
    servers: Sequence[AbstractContextManager[StandIn]], env_file: Path | None, command: Sequence[str]
) -> int:
    """Run servers until SIGINT or SIGTERM, or while a program runs; returns the exit status.

    Parameters
    ----------
    servers
        Not yet started.
    env_file
        A file of variables that the servers' are written into for that time.
    command
        The program and its arguments; nothing waits for a signal then.
    """
    program = _program(command)
    with ExitStack() as stack:
        stand_ins = [stack.enter_context(server) for server in servers]
        variables = {name: value for one in stand_ins for name, value in one.variables.items()}
        if env_file is not None:
            stack.enter_context(_written(env_file, variables))
        if program is not None:
            return _run([program, *command[1:]], variables)
        with signals_handled(lambda _: done.set()):
            done = threading.Event()
            _announce(stand_ins, variables, env_file)
            done.wait()
    return 0


def _program(command: Sequence[str]) -> str | None:
    return program_of(command) if command else None


def _run(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run a program with the variables set; returns its exit status, as a shell gives it."""
    with (
        subprocess.Popen(command, env={**os.environ, **variables}) as process,
        # The terminal sends Ctrl-C to the program, too, which decides whether that is its end.
        signals_handled(lambda number: process.terminate() if number == signal.SIGTERM else None),
    ):
        status = process.wait()
    return status if status >= 0 else 128 - status


def _announce(stand_ins: Sequence[StandIn], variables: Mapping[str, str], env_file: Path | None) -> None:
    lines = [f"# A stand-in on this machine for {one.what}." for one in stand_ins]
    if env_file is not None:
        lines.append(f"# The variables are in {env_file} until the end.")
    else:
        lines.append("# Leave this running, and paste these lines into another terminal:")
        lines += [_assignment(name, value) for name, value in variables.items()]
    lines.append("# Ctrl-C ends it.")
    print(*lines, sep="\n", flush=True)


def _assignment(name: str, value: str) -> str:
    if sys.platform == "win32":
        quoted = value.replace("'", "''")
        return f"$env:{name} = '{quoted}'"
    return f"export {name}={shlex.quote(value)}"


_BEGIN = "# >>> hana-ai-together serve: removed at its end >>>"
_END = "# <<< hana-ai-together serve <<<"


@contextmanager
def _written(path: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Have the variables in a file of them, after what is there.

    Raises
    ------
    Problem
        The file gives one of them another value already, which would be lost on the reader.
    """
    kept = _without_block(path.read_text("utf-8") if path.exists() else "")
    for line in kept.splitlines():
        name, equals, value = line.removeprefix("export ").partition("=")
        if equals and name.strip() in variables and value.strip() not in ("", variables[name.strip()]):
            raise Problem(f"{path} sets {name.strip()} already; name another file.")
    gap = "" if not kept or kept.endswith("\n") else "\n"
    block = "\n".join([_BEGIN, *(f"{name}={value}" for name, value in variables.items()), _END, ""])
    existed = path.exists()
    # The file holds a key and a password now.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(kept + gap + block)
    try:
        yield
    finally:
        if path.exists():
            left = _without_block(path.read_text("utf-8"))
            if left or existed:
                path.write_text(left, "utf-8")
            else:
                path.unlink()


def _without_block(text: str) -> str:
    """A file's text without the lines of an earlier run, which may have been killed."""
    lines, inside = [], False
    for line in text.splitlines(keepends=True):
        inside = inside or line.strip() == _BEGIN
        if not inside:
            lines.append(line)
        inside = inside and line.strip() != _END
    return "".join(lines)
