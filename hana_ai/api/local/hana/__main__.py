"""``python -m hana_ai.api.local.hana``: serve until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from hana_ai.api.local.hana.process import DEFAULT_USER, PASSWORD_VARIABLE, environment, new_password
from hana_ai.api.local.signals import signals_handled


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server; return the exit code."""
    options = _parse(arguments)
    logging.basicConfig(level=options.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    done = threading.Event()

    if options.until_stdin_closes:
        threading.Thread(target=_wait_for_end_of_input, args=(done,), daemon=True).start()

    given = options.password or os.environ.get(PASSWORD_VARIABLE)
    try:
        with (
            signals_handled(lambda _: done.set()),
            served(
                options.address,
                options.port,
                db=options.db,
                user=options.user,
                password=given,
                certificate=options.certificate,
                key=options.key,
            ) as lines,
        ):
            _announce({name: value for name, value in lines.items() if given is None or name != "HANA_PASSWORD"})
            done.wait()
    except (OSError, ValueError) as error:
        sys.stderr.write(f"the loopback HANA cannot start: {error}\n")
        return 1
    return 0


@contextmanager
def served(
    address: str,
    port: int,
    *,
    db: str | Path | None = None,
    user: str = DEFAULT_USER,
    password: str | None = None,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
) -> Iterator[dict[str, str]]:
    """Run a server in this process; yields the environment variables that point programs at it.

    Parameters
    ----------
    password
        The administrator's; else that of LOCAL_HANA_PASSWORD, else a random one.

    Raises
    ------
    OSError
        The port is taken, or a file cannot be read.
    ValueError
        An option is wrong, or the database file cannot be used.
    """
    # Import heavy modules late, so that --help and usage errors are instant.
    import duckdb

    from hana_ai.api.local.hana.credentials import derive
    from hana_ai.api.local.hana.engine.engine import DuckDBEngine
    from hana_ai.api.local.hana.interface import HanaError
    from hana_ai.api.local.hana.protocol.auth import canonical_user
    from hana_ai.api.local.hana.protocol.server import HanaServer, server_context

    password = password or os.environ.get(PASSWORD_VARIABLE) or new_password()
    with ExitStack() as stack:
        try:
            admin = canonical_user(user)
            tls = server_context(str(certificate), str(key) if key else None) if certificate else None
            engine = stack.enter_context(closing(DuckDBEngine(None if db is None else str(db))))
            engine.ensure_user(admin, derive(password), admin=True)
        except (HanaError, duckdb.Error) as error:
            raise ValueError(" ".join(str(error).split())) from error
        server = stack.enter_context(HanaServer(engine, address, port, tls=tls))
        yield environment(server.address, server.port, admin, password, tls is not None)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m hana_ai.api.local.hana",
        description="Serve HANA's wire protocol on a loopback address, with DuckDB as the database."
        " A substitute for tests and demos, not HANA.",
    )
    parser.add_argument("--address", default="127.0.0.1", help="a loopback address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--db", metavar="FILE", help="DuckDB file that keeps the data (default: in memory)")
    parser.add_argument("--user", default=DEFAULT_USER, help="the administrator (default: %(default)s)")
    parser.add_argument(
        "--password",
        help=f"their password; better in ${PASSWORD_VARIABLE} (default: a random one, printed once)",
    )
    parser.add_argument("--certificate", metavar="PEM", help="encrypt connections with this certificate")
    parser.add_argument("--key", metavar="PEM", help="its private key (default: in the certificate's file)")
    parser.add_argument("--log-level", default="WARNING", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="end when the standard input does, as a child should",
    )
    return parser.parse_args(arguments)


def _announce(lines: Mapping[str, str]) -> None:
    """Print the connection in the form of environment variables."""
    sys.stdout.write("# Loopback HANA: DuckDB behind HANA's wire protocol, not HANA itself.\n")
    sys.stdout.writelines(f"{name}={value}\n" for name, value in lines.items())
    sys.stdout.flush()


def _wait_for_end_of_input(done: threading.Event) -> None:
    # Not through sys.stdin: a thread that waits inside its lock would abort the interpreter's exit.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    done.set()


if __name__ == "__main__":
    sys.exit(main())
