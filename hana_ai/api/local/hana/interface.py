"""What the wire side and the engine side of the loopback HANA agree on; neither imports the other.

The wire side (`protocol`) turns messages into calls of `EngineSession` and its results into messages. The engine
side (`language`, `catalog`, `translation`, `engine`) turns HANA SQL into DuckDB SQL and DuckDB's values into the
Python values listed at `Value`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from enum import IntEnum
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = "NDArray[np.float32]"
"""A REAL_VECTOR or HALF_VECTOR value, shape `(dimension,)`."""

Value: TypeAlias = "bool | int | float | Decimal | str | bytes | date | time | datetime | Vector | None"
"""A SQL value as it crosses between wire and engine.

Dates carry the label that HANA shows: 1582-10-04 is a Julian date, 1582-10-15 the day after it.
"""


class TypeCode(IntEnum):
    """Type codes of the wire protocol (`hdbcli` sees them in `cursor.description`, partly renamed)."""

    TINYINT = 1
    SMALLINT = 2
    INTEGER = 3
    BIGINT = 4
    DECIMAL = 5
    REAL = 6
    DOUBLE = 7
    CHAR = 8
    VARCHAR = 9
    NCHAR = 10
    NVARCHAR = 11
    BINARY = 12
    VARBINARY = 13
    CLOB = 25
    NCLOB = 26
    BLOB = 27
    BOOLEAN = 28
    TEXT = 51
    SHORTTEXT = 52
    ALPHANUM = 55
    LONGDATE = 61
    SECONDDATE = 62
    DAYDATE = 63
    SECONDTIME = 64
    FIXED16 = 76
    FIXED8 = 81
    FIXED12 = 82
    REAL_VECTOR = 96
    HALF_VECTOR = 97


class FunctionCode(IntEnum):
    """What kind of statement ran; clients act on it (only `SELECT` has a result set)."""

    NONE = 0
    DDL = 1
    INSERT = 2
    UPDATE = 3
    DELETE = 4
    SELECT = 5
    SELECT_FOR_UPDATE = 6
    CALL = 8
    CALL_WITH_RESULT = 9
    FETCH = 10
    COMMIT = 11
    ROLLBACK = 12
    CONNECT = 14
    WRITE_LOB = 15
    READ_LOB = 16
    DISCONNECT = 18
    CLOSE_CURSOR = 19


@dataclass(frozen=True, slots=True)
class SqlType:
    """A declared type. `name` is HANA's own word for it, as SYS.TABLE_COLUMNS shows it."""

    code: TypeCode
    name: str
    length: int = 0
    """Characters, bytes, precision of a decimal, or dimension of a vector (0: any)."""
    scale: int = 0
    """Digits after the point; 32767 for a floating DECIMAL."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a result set."""

    name: str
    type: SqlType
    nullable: bool = True
    table: str | None = None
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """One `?` of a prepared statement."""

    type: SqlType
    nullable: bool = True
    mode: str = "IN"
    """IN, OUT or INOUT; the client sends no value for OUT."""
    name: str | None = None


@dataclass(slots=True)
class Result:
    """The result of a statement."""

    function_code: FunctionCode
    columns: tuple[Column, ...] | None = None
    rows: Iterator[Sequence[Value]] | None = None
    """The rows of a query, read lazily; they stay readable until the session ends."""
    rows_affected: list[int] = field(default_factory=list)
    """One entry for each parameter row of a data change; a single entry without parameters."""
    outputs: tuple[Value, ...] | None = None
    """The values of OUT and INOUT parameters."""
    more: list[Result] = field(default_factory=list)
    """Further result sets of a procedure or block."""


class HanaError(Exception):
    """An error with HANA's own code, from which the client chooses its exception class.

    Parameters
    ----------
    code : int
        HANA's SQL error code, for example 259 (unknown table).
    message : str
        The text after the code, for example ``invalid table name: T``.
    position : int
        Where in the statement, in characters from 1; 0 when unknown.
    rows_affected : list of int, optional
        For a failed batch: one entry a row, -3 for the rows that failed.
    """

    def __init__(self, code: int, message: str, position: int = 0, rows_affected: list[int] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.position = position
        self.rows_affected = rows_affected


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a server keeps of a password: enough to check both SCRAM methods, not enough to read it.

    `hana_ai.api.local.hana.credentials.derive(password)` makes one.
    """

    salt: bytes
    rounds: int
    salted_sha256: bytes = field(repr=False)
    salted_pbkdf2: bytes = field(repr=False)


class Prepared(Protocol):
    """A statement that was parsed and checked, ready to run many times."""

    @property
    def function_code(self) -> FunctionCode: ...
    @property
    def parameters(self) -> tuple[Parameter, ...]: ...
    @property
    def columns(self) -> tuple[Column, ...] | None:
        """None when the types depend on the parameters."""


class EngineSession(Protocol):
    """One connection's view of the database. Used by one thread at a time."""

    def prepare(self, sql: str) -> Prepared:
        """Parse, translate and check a statement; raises HanaError (257, 259, 260, 7 ...)."""

    def execute(self, prepared: Prepared, rows: Sequence[Sequence[Value]] = ((),)) -> Result:
        """Run a statement inside the open transaction (one is opened when there is none).

        `rows` holds the parameter rows: exactly one for a query or a single change, many for a batch.
        A failing statement or batch leaves the transaction as it was before the statement. Where that cannot
        be, because another transaction has changed the same rows since (their locks go with a rollback), the
        whole transaction is rolled back with error 138; rows of the past never overwrite newer ones.

        Parameter values come as the client sent them, not always in the declared type: a float for an
        NVARCHAR, a str for a floating DECIMAL, and bytes for a text type when they are no text.
        """

    def commit(self) -> None: ...
    def rollback(self) -> None: ...

    @property
    def in_transaction(self) -> bool:
        """Whether changes wait for `commit`."""

    def set_variables(self, variables: Mapping[str, str]) -> None:
        """Session variables from CLIENTINFO, seen by SESSION_CONTEXT()."""

    def close(self) -> None:
        """Roll back and drop the session's temporary tables."""


class Engine(Protocol):
    """The database. Thread-safe; every connection gets its own session."""

    def session(self, user: str, connection_id: int) -> EngineSession: ...

    def ensure_user(self, user: str, credentials: Credentials, admin: bool = False) -> None:
        """Create the user and their schema, or replace an existing user's credentials.

        An administrator may read and change everything; the server makes one at its start.
        """

    def credentials(self, user: str) -> Credentials | None:
        """What proves the user's password, None for an unknown user. Passwords themselves are not stored."""

    def close(self) -> None: ...
