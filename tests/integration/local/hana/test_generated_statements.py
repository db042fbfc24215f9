"""Random statements give what SQLite gives, wherever both mean the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from hana_ai.api.local.hana.credentials import derive
from hana_ai.api.local.hana.engine.connection import DuckDBSession
from hana_ai.api.local.hana.engine.engine import DuckDBEngine
from hana_ai.api.local.hana.interface import HanaError
from tests.integration.local.hana.statements import Generator, Statement

PER_SCHEMA = 100


def _plain(row: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(
        round(float(value), 5) + 0.0 if isinstance(value, int | float | Decimal) else value for value in row
    )


def _key(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple((value is not None, isinstance(value, str), value if value is not None else 0) for value in row)


def _hana(session: DuckDBSession, statement: Statement) -> Any:
    result = session.execute(session.prepare(statement.hana))
    if statement.is_query:
        assert result.rows is not None
        return [_plain(row) for row in result.rows]
    session.commit()
    return sum(result.rows_affected)


def _sqlite(connection: sqlite3.Connection, statement: Statement) -> Any:
    cursor = connection.execute(statement.sqlite)
    return [_plain(row) for row in cursor.fetchall()] if statement.is_query else cursor.rowcount


def differences(seeds: range) -> list[str]:
    """Run the statements of some seeds in both; gives what differs."""
    found = []
    for seed in seeds:
        generator = Generator(seed)
        engine = DuckDBEngine()
        engine.ensure_user("DBADMIN", derive("secret"), admin=True)
        session = engine.session("DBADMIN", 1)
        sqlite = sqlite3.connect(":memory:", isolation_level=None)
        sqlite.execute("PRAGMA case_sensitive_like = ON")
        for table in generator.tables:
            session.execute(session.prepare(table.hana()))
            sqlite.execute(table.sqlite())
            marks = ", ".join("?" * len(table.columns))
            if table.rows:
                session.execute(session.prepare(f"INSERT INTO {table.name} VALUES ({marks})"), table.rows)
            sqlite.executemany(f"INSERT INTO {table.name} VALUES ({marks})", table.rows)
            session.commit()
        for number in range(PER_SCHEMA):
            statement = generator.statement()
            expected, given = _sqlite(sqlite, statement), None
            try:
                given = _hana(session, statement)
            except HanaError as exc:
                given = f"error {exc.code}: {exc}"
            if statement.is_query and not statement.ordered and isinstance(given, list):
                given, expected = sorted(given, key=_key), sorted(expected, key=_key)
            if given != expected:
                found.append(
                    f"seed {seed}, statement {number}: {statement.hana}\n  hana {given}\n  sqlite {expected}"
                )
                break
        sqlite.close()
        session.close()
        engine.close()
    return found


def test_a_few_hundred_statements_differ_nowhere() -> None:
    assert differences(range(3)) == []


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_20_000_statements_differ_nowhere(part: int) -> None:
    assert differences(range(1000 + part * 25, 1000 + (part + 1) * 25)) == []
