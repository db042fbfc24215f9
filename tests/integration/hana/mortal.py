"""A connection whose process dies when it should not."""

from __future__ import annotations

from typing import Any

from hdbcli import dbapi


class Killed(BaseException):
    """The process is gone."""


class MortalConnection:
    """A connection whose process dies after so many changes and commits; each was carried out."""

    def __init__(self, connection: dbapi.Connection, lives: int) -> None:
        self.real, self.lives = connection, lives

    def step(self, sql: str) -> None:
        self.lives -= 1
        if self.lives < 0:
            self.real.close()
            raise Killed

    def commit(self) -> None:
        self.real.commit()
        self.step("COMMIT")

    def cursor(self) -> MortalCursor:
        return MortalCursor(self, self.real.cursor())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class MortalCursor:
    def __init__(self, connection: MortalConnection, cursor: Any) -> None:
        self.connection, self.real = connection, cursor

    def execute(self, *arguments: Any) -> None:
        self.real.execute(*arguments)
        if not arguments[0].startswith("SELECT"):
            self.connection.step(arguments[0])

    def executemany(self, *arguments: Any) -> None:
        self.real.executemany(*arguments)
        self.connection.step(arguments[0])

    def __enter__(self) -> MortalCursor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.real.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)
