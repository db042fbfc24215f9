"""The loopback HANA as a child process with a handle in Python: `LocalHana`."""

from __future__ import annotations

import atexit
import os
import secrets
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hdbcli.dbapi import Connection  # type: ignore[import-untyped]

DEFAULT_USER = "DBADMIN"
"""The administrator's name, as in HANA Cloud."""

PASSWORD_VARIABLE = "LOCAL_HANA_PASSWORD"
"""Environment variable with the administrator's password; other users of the machine cannot read it there."""

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0


class LocalHana:
    """A HANA for tests and demos: HANA's wire protocol on 127.0.0.1 with DuckDB behind it.

    It is not HANA: what it cannot do it refuses with error 7. It runs in a process of its own, because hdbcli
    waits for some replies while it holds Python's interpreter lock (when a cursor is collected, when it reads
    a LOB), so a server in the same process could never answer them. The process ends with this one.

    Parameters
    ----------
    path : str or Path, optional
        DuckDB file that keeps the data; by default they are in memory and gone at the end.
    user : str
        Name of the administrator.
    password : str, optional
        Their password; by default a random one for each start.
    port : int
        0 takes a free one.
    certificate, key : str or Path, optional
        PEM files; with them every connection is encrypted.

    Examples
    --------
    >>> with LocalHana() as hana:
    ...     connection = hana.connect()
    ...     with connection.cursor() as cursor:
    ...         _ = cursor.execute("SELECT 1 FROM DUMMY")
    ...         print(cursor.fetchone())
    ...     connection.close()
    (1,)
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        user: str = DEFAULT_USER,
        password: str | None = None,
        port: int = 0,
        certificate: str | Path | None = None,
        key: str | Path | None = None,
    ) -> None:
        self.path = path
        self.user = user
        self.password = password or new_password()
        self.address = "127.0.0.1"
        self.port = port
        self._certificate = certificate
        self._key = key
        self._process: subprocess.Popen[str] | None = None

    def __repr__(self) -> str:
        where = "in memory" if self.path is None else str(self.path)
        return f"LocalHana({self.user}@{self.address}:{self.port}, {where})"

    @property
    def encrypted(self) -> bool:
        """Whether connections use TLS."""
        return self._certificate is not None

    @property
    def pid(self) -> int | None:
        """The server's process, None when it does not run."""
        return None if self._process is None else self._process.pid

    def start(self) -> LocalHana:
        """Start the server and wait until it accepts connections.

        Raises
        ------
        RuntimeError
            When it ends at once, for example because the port or the file is in use; its own message is on
            the standard error stream.
        """
        if self._process is not None:
            raise RuntimeError(f"{self!r} is running already")
        command = [sys.executable, "-m", "hana_ai.api.local.hana", "--until-stdin-closes"]
        command += ["--user", self.user, "--port", str(self.port)]
        for option, value in (
            ("--db", self.path),
            ("--certificate", self._certificate),
            ("--key", self._key),
        ):
            if value is not None:
                command += [option, str(value)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {PASSWORD_VARIABLE: self.password},
        )
        self._process = process
        atexit.register(self.stop)
        watchdog = threading.Timer(_START_SECONDS, process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            port = _announced_port(process)
        finally:
            watchdog.cancel()
        if port is None:
            self.stop()
            raise RuntimeError(f"the loopback HANA did not start (exit code {process.returncode})")
        self.port = port
        return self

    def stop(self) -> None:
        """Stop the server; only what was committed is in the file."""
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.stop)
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def connection_options(self) -> dict[str, object]:
        """Return the keyword arguments of `hdbcli.dbapi.connect` and `hana_ml.ConnectionContext`."""
        options: dict[str, object] = {
            "address": self.address,
            "port": self.port,
            "user": self.user,
            "password": self.password,
        }
        if self.encrypted:
            options |= {"encrypt": True, "sslTrustStore": str(self._certificate)}
        return options

    def connect(self, **options: object) -> Connection:
        """Open a connection of hdbcli.

        Parameters
        ----------
        **options
            More properties of `hdbcli.dbapi.connect`; they win over the defaults.
        """
        from hdbcli import dbapi  # type: ignore[import-untyped]

        return dbapi.connect(**(self.connection_options() | options))

    def environment(self) -> dict[str, str]:
        """Return the variables under which programs look for their database."""
        return environment(self.address, self.port, self.user, self.password, self.encrypted)

    def __enter__(self) -> LocalHana:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


def environment(address: str, port: int, user: str, password: str, encrypted: bool) -> dict[str, str]:
    """Return a connection as environment variables."""
    return {
        "HANA_ADDRESS": address,
        "HANA_PORT": str(port),
        "HANA_USER": user,
        "HANA_PASSWORD": password,
        "HANA_ENCRYPT": "true" if encrypted else "false",
    }


def new_password() -> str:
    """Return a random password of the form that HANA's policy wants."""
    return f"Aa1{secrets.token_urlsafe(15)}"


def _announced_port(process: subprocess.Popen[str]) -> int | None:
    """Read what the server prints when it is ready; None when it ended instead."""
    port = None
    for line in process.stdout or ():
        name, _, value = line.strip().partition("=")
        if name == "HANA_PORT":
            port = int(value)
        elif name == "HANA_ENCRYPT":
            return port
    return None
