"""A server whose engine is scripted by each test, and connections of the real hdbcli to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hdbcli import dbapi

from hana_ai.api.local.hana.auth import derive
from hana_ai.api.local.hana.interface import (
    Column,
    Credentials,
    FunctionCode,
    HanaError,
    Parameter,
    Result,
    SqlType,
    Value,
)
from hana_ai.api.local.hana.server import HanaServer

USER = "TESTER"
PASSWORD = "Correct-Horse-1"

Rows = Sequence[Sequence[Value]]


@dataclass
class Script:
    """What one statement does: `run` gets the parameter rows."""

    run: Callable[[Rows], Result]
    function_code: FunctionCode = FunctionCode.SELECT
    parameters: tuple[Parameter, ...] = ()
    columns: tuple[Column, ...] | None = None


@dataclass
class ScriptedEngine:
    """The other side of the interface, with statements that a test lays down.

    A change is visible in `applied` from its execution on and in `committed` after the commit.
    """

    scripts: dict[str, Script] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    committed: list[Sequence[Value]] = field(default_factory=list)
    sessions: list[ScriptedSession] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._credentials = {USER: derive(PASSWORD)}

    def query(self, sql: str, types: Sequence[SqlType], rows: Rows) -> None:
        """Let a statement return these rows."""
        columns = tuple(Column(f"C{i}", kind) for i, kind in enumerate(types))
        self.scripts[sql] = Script(lambda _: Result(FunctionCode.SELECT, columns, iter(rows)))

    def echo(self, sql: str, kind: SqlType) -> None:
        """Let a statement return its only parameter."""
        columns = (Column("C0", kind),)
        self.scripts[sql] = Script(
            lambda rows: Result(FunctionCode.SELECT, columns, iter(rows)),
            parameters=(Parameter(kind),),
        )

    def insert(self, sql: str, types: Sequence[SqlType], fail_on: object = None) -> None:
        """Let a statement take rows; one with the value `fail_on` fails its whole execution."""

        def run(rows: Rows) -> Result:
            outcome = [-3 if fail_on is not None and fail_on in row else 1 for row in rows]
            if -3 in outcome:
                raise HanaError(301, "unique constraint violated", rows_affected=outcome)
            return Result(FunctionCode.INSERT, rows_affected=outcome)

        self.scripts[sql] = Script(run, FunctionCode.INSERT, tuple(Parameter(kind) for kind in types))

    def session(self, user: str, connection_id: int) -> ScriptedSession:
        session = ScriptedSession(self, user)
        self.sessions.append(session)
        return session

    def credentials(self, user: str) -> Credentials | None:
        return self._credentials.get(user)

    def close(self) -> None:
        self.calls.append("close engine")


@dataclass
class ScriptedSession:
    engine: ScriptedEngine
    user: str
    applied: list[Sequence[Value]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    closed: bool = False

    def prepare(self, sql: str) -> Script:
        if sql not in self.engine.scripts:
            raise HanaError(259, f"invalid table name: no script for {sql}", 15)
        return self.engine.scripts[sql]

    def execute(self, prepared: Script, rows: Rows = ((),)) -> Result:
        self.engine.calls.append("execute")
        result = prepared.run(rows)
        if result.columns is None:
            self.applied.extend(rows)
        return result

    def commit(self) -> None:
        self.engine.calls.append("commit")
        self.engine.committed.extend(self.applied)
        self.applied.clear()

    def rollback(self) -> None:
        self.engine.calls.append("rollback")
        self.applied.clear()

    @property
    def in_transaction(self) -> bool:
        return bool(self.applied)

    def set_variables(self, variables: Mapping[str, str]) -> None:
        self.variables.update(variables)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def scripted() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def scripted_server(scripted: ScriptedEngine) -> Iterator[HanaServer]:
    with HanaServer(scripted) as server:
        yield server


@pytest.fixture
def connect(scripted_server: HanaServer) -> Iterator[Callable[..., dbapi.Connection]]:
    """Return a function that connects the real client to the scripted server."""
    connections = []

    def open_connection(**options: Any) -> dbapi.Connection:
        settings = {"address": scripted_server.address, "port": scripted_server.port}
        settings |= {"user": USER, "password": PASSWORD} | options
        connection = dbapi.connect(**settings)
        connections.append(connection)
        return connection

    yield open_connection
    for connection in connections:
        if connection.isconnected():
            connection.close()
