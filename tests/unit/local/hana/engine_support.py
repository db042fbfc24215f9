"""An engine and its sessions without the wire."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from hana_ai.api.local.hana.credentials import derive
from hana_ai.api.local.hana.engine.connection import DuckDBSession
from hana_ai.api.local.hana.engine.engine import DuckDBEngine
from hana_ai.api.local.hana.interface import HanaError, Result


class Sql:
    """A session, with results as lists."""

    def __init__(self, session: DuckDBSession) -> None:
        self.session = session

    def run(self, sql: str, *rows: Sequence[Any]) -> Result:
        return self.session.execute(self.session.prepare(sql), rows or [()])

    def rows(self, sql: str, *row: Any) -> list[tuple[Any, ...]]:
        result = self.run(sql, row) if row else self.run(sql)
        assert result.rows is not None
        return [tuple(item) for item in result.rows]

    def value(self, sql: str, *row: Any) -> Any:
        ((found,),) = self.rows(sql, *row)
        return found

    def types(self, sql: str) -> list[str]:
        from hana_ai.api.local.hana.types import shown

        columns = self.session.prepare(sql).columns
        assert columns is not None
        return [shown(column.type) for column in columns]

    def names(self, sql: str) -> list[str]:
        columns = self.session.prepare(sql).columns
        assert columns is not None
        return [column.name for column in columns]

    def code(self, sql: str, *rows: Sequence[Any]) -> int:
        """The error that the statement raises."""
        with pytest.raises(HanaError) as caught:
            result = self.run(sql, *rows)
            list(result.rows or ())
        return caught.value.code

    def done(self, sql: str, *rows: Sequence[Any]) -> list[int]:
        """Run and commit, as autocommit does."""
        affected = self.run(sql, *rows).rows_affected
        self.session.commit()
        return affected


CREDENTIALS = derive("Secret1")


@pytest.fixture
def engine(lock_timeout: float) -> Iterator[DuckDBEngine]:
    made = DuckDBEngine(lock_timeout=lock_timeout)
    made.ensure_user("DBADMIN", CREDENTIALS, admin=True)
    yield made
    made.close()


@pytest.fixture
def sql(engine: DuckDBEngine) -> Iterator[Sql]:
    session = engine.session("DBADMIN", 1)
    yield Sql(session)
    session.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Sql]:
    """A session for all tests of a module that leave nothing behind, since an engine takes a while to make."""
    made = DuckDBEngine()
    made.ensure_user("DBADMIN", CREDENTIALS, admin=True)
    session = made.session("DBADMIN", 1)
    yield Sql(session)
    session.close()
    made.close()


@pytest.fixture
def reader(shared: Sql) -> Iterator[Sql]:
    """The shared session; what a test has begun is taken back."""
    yield shared
    shared.session.rollback()


@pytest.fixture
def scratch(reader: Sql) -> Iterator[Sql]:
    """The shared session; a table T that a test has made is dropped."""
    yield reader
    reader.session.rollback()
    reader.done("DROP TABLE T")


@pytest.fixture
def other(engine: DuckDBEngine) -> Iterator[Sql]:
    """A second connection."""
    session = engine.session("DBADMIN", 2)
    yield Sql(session)
    session.close()
