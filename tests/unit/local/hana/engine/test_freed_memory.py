"""An engine in memory gives back what removed rows took, and has no checkpoint where there is nothing to free."""

from __future__ import annotations

from contextlib import closing
from unittest.mock import MagicMock

import numpy as np
import pytest

from hana_ai.api.local.hana.engine import engine as engines
from hana_ai.api.local.hana.engine.engine import DuckDBEngine
from tests.unit.local.hana.engine_support import Sql, engine, other, sql

__all__ = ["engine", "other", "sql"]

_ROWS = 3_000
_VECTOR = np.linspace(-1, 1, 256, dtype=np.float32)
_REMOVALS = ["DELETE FROM T", "TRUNCATE TABLE T"]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "MANY_REMOVED", _ROWS)


def _bytes(engine: DuckDBEngine) -> int:
    with closing(engine.cursor()) as cursor:
        (found,) = cursor.execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory()").fetchall()[0]
    return int(found)


def _fill(sql: Sql, verb: str = "UPSERT T VALUES (?, ?) WITH PRIMARY KEY") -> None:
    sql.done(verb, *((number, _VECTOR) for number in range(_ROWS)))


@pytest.fixture
def table(sql: Sql) -> Sql:
    sql.done("CREATE TABLE T (ID INTEGER PRIMARY KEY, V REAL_VECTOR(256))")
    _fill(sql, "INSERT INTO T VALUES (?, ?)")
    return sql


def _replace(table: Sql, removal: str | None, times: int = 6) -> None:
    """Put other rows in the place of all; without a removal, row by row."""
    for _ in range(times):
        if removal is not None:
            table.done(removal)
        _fill(table)


@pytest.mark.parametrize("removal", [*_REMOVALS, None], ids=str)
def test_what_removed_rows_took_comes_back(engine: DuckDBEngine, table: Sql, removal: str | None) -> None:
    before = _bytes(engine)
    _replace(table, removal)
    assert _bytes(engine) < 3 * before, "seven times as much is kept where nothing comes back"
    assert table.rows("SELECT COUNT(*), MIN(ID), MAX(ID) FROM T") == [(_ROWS, 0, _ROWS - 1)]


@pytest.mark.parametrize("removal", _REMOVALS)
def test_what_somebody_may_still_read_comes_back_later(
    engine: DuckDBEngine, table: Sql, other: Sql, removal: str
) -> None:
    table.done("CREATE TABLE U (ID INTEGER)")
    before = _bytes(engine)
    other.run("INSERT INTO U VALUES (1)")
    _replace(table, removal)
    assert _bytes(engine) > 4 * before
    other.session.commit()
    _replace(table, removal, times=1)
    assert _bytes(engine) < 3 * before
    assert table.rows("SELECT (SELECT COUNT(*) FROM T), ID FROM U") == [(_ROWS, 1)]


def test_rows_that_are_only_added_need_no_checkpoint(
    engine: DuckDBEngine, table: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed = MagicMock(return_value=True)
    monkeypatch.setattr(engine, "_free_memory", freed)
    for number in range(1, 5):
        table.done("INSERT INTO T VALUES (?, ?)", *((number * _ROWS + row, _VECTOR) for row in range(_ROWS)))
    freed.assert_not_called()
    table.done("DELETE FROM T")
    freed.assert_called_once()
