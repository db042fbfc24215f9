"""HANA as the suite meets it, on the loopback interface or for real, in a schema of its own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from hdbcli import dbapi

from .marks import is_abandoned, name_of_schema, new_name, schema_name
from .report import World


@dataclass(frozen=True)
class Outcome:
    """What a statement did.

    Attributes
    ----------
    rows
        Its rows; None where it has no result.
    types
        The type code of each column, as hdbcli says it.
    code
        Number of the error; None where there was none.
    """

    rows: list[tuple[Any, ...]] | None = None
    types: tuple[int, ...] = ()
    code: int | None = None
    message: str = ""

    def seen(self) -> dict[str, object]:
        """What is compared between the worlds."""
        if self.code is not None:
            return {"error": self.code}
        return {"rows": self.rows, "types": list(self.types)}


@dataclass
class HanaWorld:
    """A connection, and a schema that is dropped at the end."""

    world: World
    options: Mapping[str, Any] = field(repr=False)
    """Of hdbcli's `connect`."""
    removed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.connection = self.connect()
        self.schema = schema_name(new_name())
        self.version = str(self.rows("SELECT VERSION FROM SYS.M_DATABASE")[0][0])

    @property
    def is_real(self) -> bool:
        """Whether this is HANA itself."""
        return self.world == "real"

    def connect(self, **options: Any) -> dbapi.Connection:
        """Open a further connection."""
        return dbapi.connect(**{**self.options, **options})

    def sweep(self, after: timedelta) -> None:
        """Drop schemas that earlier runs left and that are older than this, and nothing else."""
        rows = self.rows("SELECT SCHEMA_NAME FROM SYS.SCHEMAS WHERE SCHEMA_OWNER = CURRENT_USER")
        for (name,) in rows:
            if is_abandoned(name_of_schema(name), after):
                self._drop(name)

    def begin(self) -> None:
        """Make this run's schema, and work in it."""
        created = self.run(f'CREATE SCHEMA "{self.schema}"')
        assert created.code is None, f"{created.message}; the user needs the privilege CREATE SCHEMA."
        self.rows(f'SET SCHEMA "{self.schema}"')

    def run(self, sql: str, *parameters: Any, connection: dbapi.Connection | None = None) -> Outcome:
        """Run a statement; an error is an outcome, too."""
        with (connection or self.connection).cursor() as cursor:
            try:
                cursor.execute(sql, parameters) if parameters else cursor.execute(sql)
                if cursor.description is None:
                    return Outcome()
                rows = [tuple(map(_plain, row)) for row in cursor.fetchall()]
                return Outcome(rows, tuple(column[1] for column in cursor.description))
            except dbapi.Error as exc:
                return Outcome(code=exc.errorcode, message=str(exc))

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of a statement that must not fail."""
        outcome = self.run(sql, *parameters)
        assert outcome.code is None, f"{sql}: {outcome.message}"
        return outcome.rows or []

    def clear(self) -> None:
        """Empty the schema: tables and views with all that hangs on them, functions, procedures, sequences."""
        kinds = ("VIEW", "TABLE", "SEQUENCE", "FUNCTION", "PROCEDURE", "SYNONYM")
        queries = [
            f"SELECT '{kind}', {kind}_NAME FROM SYS.{kind}S WHERE SCHEMA_NAME = CURRENT_SCHEMA" for kind in kinds
        ]
        for kind, name in self.rows(" UNION ALL ".join(queries)):
            # What hangs on one that is gone already is gone, too.
            self.run(f'DROP {kind} "{self.schema}"."{name}" CASCADE')

    def _drop(self, schema: str) -> None:
        dropped = self.run(f'DROP SCHEMA "{schema}" CASCADE')
        if dropped.code is None:
            self.removed.append(schema)
        else:
            self.missing.append(f"{schema} ({dropped.message})")

    def close(self) -> None:
        """Drop the schema."""
        if not self.connection.isconnected():
            self.connection = self.connect()
        self.connection.rollback()
        self._drop(self.schema)
        self.connection.close()


def _plain(value: Any) -> Any:
    """A value that can be compared and shown."""
    if isinstance(value, memoryview):
        return bytes(value).hex()
    if isinstance(value, (dt.date, dt.time, dt.datetime)):
        return value.isoformat()
    return value if isinstance(value, (bool, int, float, str, Decimal, type(None))) else str(value)
