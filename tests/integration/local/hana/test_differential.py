"""Generated tables and queries give over TCP what pandas gives."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from hdbcli import dbapi
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hana_ai.api.local.hana.process import LocalHana

pytest_plugins = ["hana_ai.api.local.hana.pytest_plugin"]

COLUMNS = {"I": "INTEGER", "D": "DOUBLE", "S": "NVARCHAR(40)", "N": "DECIMAL(12, 2)", "B": "BOOLEAN", "T": "DATE"}

_text = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=10)
_rows = st.lists(
    st.tuples(
        st.none() | st.integers(-50, 50),
        st.none() | st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3)),
        st.none() | st.sampled_from(["a", "b", "A", "ä", "😀", "", " "]) | _text,
        st.none() | st.decimals(-10_000, 10_000, places=2),
        st.none() | st.booleans(),
        st.none() | st.dates(dt.date(1583, 1, 1), dt.date(9999, 12, 30)),
    ),
    max_size=30,
)
RELAXED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def connection(local_hana: LocalHana) -> Iterator[dbapi.Connection]:
    made = local_hana.connect()
    with made.cursor() as cursor:
        cursor.execute(f"CREATE TABLE R ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())})")
        cursor.execute("CREATE TABLE Q (I INTEGER, X INTEGER)")
    yield made
    made.close()


def _fill(connection: dbapi.Connection, rows: list[tuple[Any, ...]], table: str = "R") -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE TABLE {table}")
        if rows:
            cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)


def _query(connection: dbapi.Connection, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters) if parameters else cursor.execute(sql)
        return [tuple(row) for row in cursor.fetchall()]


def _frame(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


def _key(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple((value is not None, str(value)) for value in row)


@RELAXED
@given(rows=_rows)
def test_rows_come_back_as_they_went(connection: dbapi.Connection, rows: list[tuple[Any, ...]]) -> None:
    _fill(connection, rows)
    assert sorted(_query(connection, "SELECT * FROM R"), key=_key) == sorted(rows, key=_key)


@RELAXED
@given(rows=_rows, low=st.integers(-50, 50), letter=st.sampled_from(["a", "A", "", "ä"]))
def test_filters(connection: dbapi.Connection, rows: list[tuple[Any, ...]], low: int, letter: str) -> None:
    _fill(connection, rows)
    frame = _frame(rows)
    number = pd.to_numeric(frame["I"])
    assert _query(connection, "SELECT COUNT(*) FROM R WHERE I > ?", low) == [(int((number > low).sum()),)]
    assert _query(connection, f"SELECT COUNT(*) FROM R WHERE NOT (I > {low})") == [(int((number <= low).sum()),)]
    assert _query(connection, "SELECT COUNT(*) FROM R WHERE S = ?", letter) == [
        (int((frame["S"] == letter).sum()),)
    ]
    starts = sum(1 for text in frame["S"] if text is not None and text.startswith(letter))
    assert _query(connection, "SELECT COUNT(*) FROM R WHERE S LIKE ?", f"{letter}%") == [(starts,)]
    either = sum(
        1 for a, b in zip(frame["B"], number, strict=True) if a is True or (not math.isnan(b) and b in {low, 7})
    )
    assert _query(connection, "SELECT COUNT(*) FROM R WHERE B = TRUE OR I IN (?, 7)", low) == [(either,)]


@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")  # older pandas, for a median of nothing
@RELAXED
@given(rows=_rows)
def test_aggregates(connection: dbapi.Connection, rows: list[tuple[Any, ...]]) -> None:
    _fill(connection, rows)
    frame = _frame(rows)
    frame["I"], frame["D"] = pd.to_numeric(frame["I"]), pd.to_numeric(frame["D"])
    found = {
        row[0]: row[1:]
        for row in _query(
            connection,
            "SELECT S, COUNT(*), COUNT(I), SUM(I), MIN(D), MAX(D), AVG(D), SUM(N), MEDIAN(D), COUNT(DISTINCT I), "
            "STDDEV(D), MIN(T), MAX(T) FROM R GROUP BY S",
        )
    }
    groups = frame.groupby("S", dropna=False)
    assert len(found) == groups.ngroups
    for name, group in groups:
        got = found[None if not isinstance(name, str) else name]
        assert got[0] == len(group)
        assert got[1] == group["I"].count()
        _same(got[2], group["I"].sum(min_count=1))
        _same(got[3], group["D"].min())
        _same(got[4], group["D"].max())
        _same(got[5], group["D"].mean())
        exact = [value for value in group["N"] if value is not None]
        assert got[6] == (sum(exact, Decimal(0)) if exact else None)
        _same(got[7], group["D"].median())
        assert got[8] == group["I"].nunique()
        _same(got[9], group["D"].std())
        days = [value for value in group["T"] if value is not None]
        assert got[10] == (min(days) if days else None)
        assert got[11] == (max(days) if days else None)


def _same(got: Any, expected: Any) -> None:
    if expected is None or (isinstance(expected, float) and math.isnan(expected)):
        assert got is None
    else:
        assert float(got) == pytest.approx(float(expected), rel=1e-9, abs=1e-6)


@RELAXED
@given(rows=_rows, limit=st.integers(0, 10), offset=st.integers(0, 5))
def test_order_and_limit(
    connection: dbapi.Connection, rows: list[tuple[Any, ...]], limit: int, offset: int
) -> None:
    _fill(connection, rows)
    ordered = sorted((row[0] for row in rows), key=lambda value: (value is not None, value or 0))
    found = _query(connection, "SELECT I FROM R ORDER BY I LIMIT ? OFFSET ?", limit, offset)
    assert [row[0] for row in found] == ordered[offset : offset + limit]
    assert [row[0] for row in _query(connection, "SELECT I FROM R ORDER BY I DESC")] == ordered[::-1]
    texts = sorted((row[2] for row in rows), key=lambda value: (value is not None, (value or "").encode()))
    assert [row[0] for row in _query(connection, "SELECT S FROM R ORDER BY S")] == texts


@RELAXED
@given(rows=_rows, others=st.lists(st.tuples(st.none() | st.integers(-5, 5), st.integers(0, 9)), max_size=12))
def test_joins(connection: dbapi.Connection, rows: list[tuple[Any, ...]], others: list[tuple[Any, ...]]) -> None:
    _fill(connection, rows)
    _fill(connection, others, "Q")
    inner = sorted((a[0], b[1]) for a in rows for b in others if a[0] is not None and a[0] == b[0])
    assert sorted(_query(connection, "SELECT R.I, Q.X FROM R JOIN Q ON R.I = Q.I")) == inner
    keys = {other[0] for other in others}
    lonely = sum(1 for row in rows if row[0] is None or row[0] not in keys)
    assert _query(connection, "SELECT COUNT(*) FROM R LEFT JOIN Q ON R.I = Q.I") == [(len(inner) + lonely,)]
    anti = sum(1 for row in rows if row[0] is None or row[0] not in keys)
    assert _query(connection, "SELECT COUNT(*) FROM R WHERE NOT EXISTS (SELECT 1 FROM Q WHERE Q.I = R.I)") == [
        (anti,)
    ]


@RELAXED
@given(rows=_rows)
def test_windows(connection: dbapi.Connection, rows: list[tuple[Any, ...]]) -> None:
    numbered = [(position, *row[1:]) for position, row in enumerate(rows)]
    _fill(connection, numbered)
    frame = _frame(numbered)
    frame["D"] = pd.to_numeric(frame["D"])
    found = _query(
        connection,
        "SELECT I, LAG(D) OVER (ORDER BY I), ROW_NUMBER() OVER (ORDER BY I DESC), "
        "COUNT(D) OVER (ORDER BY I ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM R ORDER BY I",
    )
    lagged = frame["D"].shift(1)
    counted = frame["D"].rolling(3, min_periods=0).count()
    for position, row in enumerate(found):
        _same(row[1], lagged.iloc[position])
        assert row[2] == len(rows) - position
        assert row[3] == counted.iloc[position]


@RELAXED
@given(rows=_rows, step=st.integers(-20, 20))
def test_expressions(connection: dbapi.Connection, rows: list[tuple[Any, ...]], step: int) -> None:
    _fill(connection, [(position, *row[1:]) for position, row in enumerate(rows)])
    found = _query(
        connection,
        "SELECT I, I + ? * 2, UPPER(S), LENGTH(S), S || '-', N * 2, ADD_DAYS(T, 1), COALESCE(D, 0), "
        "CASE WHEN B = TRUE THEN 'y' WHEN B = FALSE THEN 'n' ELSE '?' END FROM R ORDER BY I",
        step,
    )
    for position, (row, given_row) in enumerate(zip(found, rows, strict=True)):
        _, double, text, decimal, flag, day = given_row
        assert row[1] == position + step * 2
        assert row[3] == (None if text is None else len(text))
        assert row[4] == (None if text is None else f"{text}-")
        assert row[5] == (None if decimal is None else decimal * 2)
        assert (
            row[6] == (None if day is None or day == dt.date.max else day + dt.timedelta(1)) or day == dt.date.max
        )
        assert row[7] == (0 if double is None else double)
        assert row[8] == {True: "y", False: "n", None: "?"}[flag]


@RELAXED
@given(rows=_rows, value=st.integers(-50, 50))
def test_changes(connection: dbapi.Connection, rows: list[tuple[Any, ...]], value: int) -> None:
    _fill(connection, rows)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE R SET I = I + 100 WHERE I > ?", (value,))
        assert cursor.rowcount == sum(1 for row in rows if row[0] is not None and row[0] > value)
        cursor.execute("DELETE FROM R WHERE I IS NULL")
        assert cursor.rowcount == sum(1 for row in rows if row[0] is None)
    expected = sorted(row[0] + 100 if row[0] > value else row[0] for row in rows if row[0] is not None)
    assert sorted(row[0] for row in _query(connection, "SELECT I FROM R")) == expected
