"""The scripted server in a process of its own, and connections of the real hdbcli to it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hdbcli import dbapi

from hana_ai.api.local.hana import LocalHana

USER = "TESTER"
SCRIPTED = Path(__file__).with_name("scripted.py")


class Scripted(NamedTuple):
    """A running scripted server."""

    port: int
    password: str
    pid: int

    def connect(self, **options: Any) -> dbapi.Connection:
        settings = {"address": "127.0.0.1", "port": self.port, "user": USER, "password": self.password}
        return dbapi.connect(**(settings | options))

    def state(self) -> dict[str, Any]:
        """Ask the engine what happened, over a connection of its own."""
        connection = self.connect()
        try:
            return state_of(connection)
        finally:
            connection.close()


def state_of(connection: dbapi.Connection) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute("state()")
        state: dict[str, Any] = json.loads(cursor.fetchone()[0])
    return state


@contextmanager
def run_scripted(*arguments: str) -> Iterator[Scripted]:
    password = secrets.token_urlsafe(12)
    with subprocess.Popen(
        [sys.executable, str(SCRIPTED), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"SCRIPTED_PASSWORD": password},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Scripted(int(process.stdout.readline()), password, process.pid)
        finally:
            process.stdin.close()
            process.wait(10)


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    with run_scripted() as server:
        yield server


@pytest.fixture
def connect(scripted: Scripted) -> Iterator[Callable[..., dbapi.Connection]]:
    """Return a function that connects; the engine's state starts empty."""
    connections: list[dbapi.Connection] = []

    def open_connection(**options: Any) -> dbapi.Connection:
        connections.append(scripted.connect(**options))
        return connections[-1]

    with open_connection().cursor() as cursor:
        cursor.execute("clear()")
    yield open_connection
    for connection in connections:
        if connection.isconnected():
            connection.close()


def memory_of(hana: LocalHana, *, peak: bool = False) -> int:
    """Return the server's resident memory in bytes, or the most that it has been."""
    status = Path(f"/proc/{hana.pid}/status")
    if not status.exists():
        pytest.skip("needs /proc to measure another process")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM" if peak else "VmRSS"))
    return int(line.split()[1]) * 1024
