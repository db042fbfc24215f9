"""A server whose engine is scripted: the text of a statement is a Python expression that says what it does.

It stands for the other side of `interface.Engine`, so that the wire is tested by itself. It runs in a process
of its own because hdbcli waits for some replies with the interpreter's lock held.

    query([INTEGER, NVARCHAR], [(1, 'a'), (2, None)])   these rows
    count(100000)                                       so many rows, made as they are fetched
    echo(DATE)                                          its parameter
    swallow(DATE)                                       no row
    insert(INTEGER, NCLOB, fail_on=7)                   takes rows; one with a 7 fails them all
    keep(INTEGER, NCLOB), then kept()                   takes rows and returns them
    state()                                             the session's and the engine's state, as JSON
    crash()                                             an error that is no HanaError
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from datetime import time as clock
from decimal import Decimal
from typing import Any

import numpy as np

from hana_ai.api.local.hana.credentials import derive
from hana_ai.api.local.hana.interface import (
    Column,
    Credentials,
    FunctionCode,
    HanaError,
    Parameter,
    Result,
    SqlType,
    TypeCode,
    Value,
)
from hana_ai.api.local.hana.protocol import auth
from hana_ai.api.local.hana.protocol.server import HanaServer, server_context

USER = "TESTER"
Rows = Sequence[Sequence[Value]]

LOB = 2**31 - 1
TYPES = {
    "TINYINT": SqlType(TypeCode.TINYINT, "TINYINT", 3),
    "SMALLINT": SqlType(TypeCode.SMALLINT, "SMALLINT", 5),
    "INTEGER": SqlType(TypeCode.INTEGER, "INTEGER", 10),
    "BIGINT": SqlType(TypeCode.BIGINT, "BIGINT", 19),
    "DECIMAL": SqlType(TypeCode.DECIMAL, "DECIMAL", 34, 32767),
    "DECIMAL_10_2": SqlType(TypeCode.DECIMAL, "DECIMAL", 10, 2),
    "DECIMAL_25_5": SqlType(TypeCode.DECIMAL, "DECIMAL", 25, 5),
    "DECIMAL_38_10": SqlType(TypeCode.DECIMAL, "DECIMAL", 38, 10),
    "REAL": SqlType(TypeCode.REAL, "REAL", 7),
    "DOUBLE": SqlType(TypeCode.DOUBLE, "DOUBLE", 15),
    "BOOLEAN": SqlType(TypeCode.BOOLEAN, "BOOLEAN", 5),
    "CHAR": SqlType(TypeCode.CHAR, "CHAR", 10),
    "VARCHAR": SqlType(TypeCode.VARCHAR, "VARCHAR", 5000),
    "NCHAR": SqlType(TypeCode.NCHAR, "NCHAR", 10),
    "NVARCHAR": SqlType(TypeCode.NVARCHAR, "NVARCHAR", 5000),
    "SHORTTEXT": SqlType(TypeCode.SHORTTEXT, "SHORTTEXT", 100),
    "ALPHANUM": SqlType(TypeCode.ALPHANUM, "ALPHANUM", 10),
    "BINARY": SqlType(TypeCode.BINARY, "BINARY", 4),
    "VARBINARY": SqlType(TypeCode.VARBINARY, "VARBINARY", 5000),
    "CLOB": SqlType(TypeCode.CLOB, "CLOB", LOB),
    "NCLOB": SqlType(TypeCode.NCLOB, "NCLOB", LOB),
    "TEXT": SqlType(TypeCode.TEXT, "TEXT", LOB),
    "BLOB": SqlType(TypeCode.BLOB, "BLOB", LOB),
    "DATE": SqlType(TypeCode.DAYDATE, "DATE", 10),
    "TIME": SqlType(TypeCode.SECONDTIME, "TIME", 8),
    "SECONDDATE": SqlType(TypeCode.SECONDDATE, "SECONDDATE", 19),
    "TIMESTAMP": SqlType(TypeCode.LONGDATE, "TIMESTAMP", 27, 7),
    "REAL_VECTOR": SqlType(TypeCode.REAL_VECTOR, "REAL_VECTOR", 0),
    "HALF_VECTOR": SqlType(TypeCode.HALF_VECTOR, "HALF_VECTOR", 0),
}
DATE_NAMES = {"date": date, "datetime": datetime, "time": clock, "Decimal": Decimal}


@dataclass
class Script:
    """What one statement does: `run` gets the session and the parameter rows."""

    run: Callable[[ScriptedSession, Rows], Result]
    function_code: FunctionCode = FunctionCode.SELECT
    parameters: tuple[Parameter, ...] = ()
    columns: tuple[Column, ...] | None = None


def query(types: Sequence[SqlType], rows: Rows) -> Script:
    columns = tuple(Column(f"C{i}", kind) for i, kind in enumerate(types))
    return Script(lambda *_: Result(FunctionCode.SELECT, columns, iter(rows)), columns=columns)


def count(number: int, width: int = 0) -> Script:
    columns = (Column("N", TYPES["INTEGER"]), Column("TEXT", TYPES["NVARCHAR"]))

    def run(*_: Any) -> Result:
        return Result(FunctionCode.SELECT, columns, ((n, "x" * width) for n in range(number)))

    return Script(run)


def fail_after(number: int) -> Script:
    def rows() -> Iterator[Sequence[Value]]:
        for n in range(number):
            yield (n,)
        raise HanaError(304, "division by zero undefined")

    columns = (Column("N", TYPES["INTEGER"]),)
    return Script(lambda *_: Result(FunctionCode.SELECT, columns, rows()))


def echo(kind: SqlType) -> Script:
    columns = (Column("C0", kind),)

    def run(session: ScriptedSession, rows: Rows) -> Result:
        session.engine.last = repr(rows[0][0])[:200]
        return Result(FunctionCode.SELECT, columns, iter(rows))

    return Script(run, parameters=(Parameter(kind),), columns=columns)


def swallow(kind: SqlType) -> Script:
    columns = (Column("C0", kind),)
    return Script(
        lambda *_: Result(FunctionCode.SELECT, columns, iter(())), parameters=(Parameter(kind),), columns=columns
    )


def insert(*types: SqlType, fail_on: object = None) -> Script:
    def run(session: ScriptedSession, rows: Rows) -> Result:
        outcome = [-3 if fail_on is not None and fail_on in row else 1 for row in rows]
        if -3 in outcome:
            raise HanaError(301, "unique constraint violated", rows_affected=outcome)
        session.applied.extend(rows)
        return Result(FunctionCode.INSERT, rows_affected=outcome)

    return Script(run, FunctionCode.INSERT, tuple(Parameter(kind) for kind in types))


def keep(*types: SqlType) -> Script:
    def run(session: ScriptedSession, rows: Rows) -> Result:
        session.kept = (types, rows)
        return Result(FunctionCode.INSERT, rows_affected=[1] * len(rows))

    return Script(run, FunctionCode.INSERT, tuple(Parameter(kind) for kind in types))


def kept() -> Script:
    def run(session: ScriptedSession, _: Rows) -> Result:
        types, rows = session.kept
        columns = tuple(Column(f"C{i}", kind) for i, kind in enumerate(types))
        return Result(FunctionCode.SELECT, columns, iter(rows))

    return Script(run)


def state() -> Script:
    def run(session: ScriptedSession, _: Rows) -> Result:
        engine = session.engine
        text = json.dumps(
            {
                "calls": engine.calls,
                "committed": len(engine.committed),
                "last_rows": [[_brief(v) for v in row] for row in engine.committed[-3:]],
                "applied": len(session.applied),
                "variables": session.variables,
                "last": engine.last,
                "sessions": len(engine.sessions),
                "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
        columns = (Column("STATE", TYPES["NCLOB"]),)
        return Result(FunctionCode.SELECT, columns, iter([(text,)]))

    return Script(run)


def _brief(value: Value) -> object:
    if isinstance(value, (str, bytes)) and len(value) > 50:
        return f"{type(value).__name__} of {len(value)}"
    return value if isinstance(value, (int, float, str, bool, type(None))) else repr(value)


def clear() -> Script:
    def run(session: ScriptedSession, _: Rows) -> Result:
        session.engine.calls.clear()
        session.engine.committed.clear()
        return Result(FunctionCode.DDL)

    return Script(run, FunctionCode.DDL)


def crash() -> Script:
    def run(*_: Any) -> Result:
        raise ZeroDivisionError("a bug in the engine")

    return Script(run, FunctionCode.DDL)


def sleep(seconds: float) -> Script:
    def run(*_: Any) -> Result:
        time.sleep(seconds)
        return Result(FunctionCode.DDL)

    return Script(run, FunctionCode.DDL)


NAMES = {
    **TYPES,
    **DATE_NAMES,
    "np": np,
    **{
        f.__name__: f
        for f in (query, count, fail_after, echo, swallow, insert, keep, kept, state, clear, crash, sleep)
    },
}


@dataclass
class ScriptedEngine:
    """A change is in the session's `applied` from its execution on, in `committed` after the commit."""

    password: str
    calls: list[str] = field(default_factory=list)
    committed: list[Sequence[Value]] = field(default_factory=list)
    sessions: set[int] = field(default_factory=set)
    last: str = ""

    def __post_init__(self) -> None:
        self._credentials = {USER: derive(self.password)}

    def session(self, user: str, connection_id: int) -> ScriptedSession:
        self.sessions.add(connection_id)
        return ScriptedSession(self, connection_id)

    def credentials(self, user: str) -> Credentials | None:
        return self._credentials.get(user)

    def ensure_user(self, user: str, credentials: Credentials, admin: bool = False) -> None:
        self._credentials[user] = credentials

    def close(self) -> None:
        self.sessions.clear()


@dataclass
class ScriptedSession:
    engine: ScriptedEngine
    connection_id: int
    applied: list[Sequence[Value]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    kept: tuple[Sequence[SqlType], Rows] = ((), ())

    def prepare(self, sql: str) -> Script:
        if sql.startswith("SELECT 'ping'"):
            return query([TYPES["NVARCHAR"]], [])
        try:
            script = eval(sql, dict(NAMES))
        except (NameError, SyntaxError) as error:
            raise HanaError(257, f"sql syntax error: {error}", 3) from error
        if not isinstance(script, Script):
            raise HanaError(259, f"invalid table name: {script}")
        return script

    def execute(self, prepared: Script, rows: Rows = ((),)) -> Result:
        self.engine.calls.append("execute")
        return prepared.run(self, rows)

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
        self.engine.sessions.discard(self.connection_id)


def main() -> None:
    """Serve until the standard input ends; `--method NAME` and `--certificate FILE KEY` are options."""
    arguments = sys.argv[1:]
    tls = None
    if arguments[:1] == ["--method"]:
        auth.METHODS = (arguments[1].encode(),)
    elif arguments[:1] == ["--certificate"]:
        tls = server_context(arguments[1], arguments[2])
    with HanaServer(ScriptedEngine(os.environ["SCRIPTED_PASSWORD"]), tls=tls) as server:
        print(server.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
