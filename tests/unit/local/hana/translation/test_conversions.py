"""Which type becomes which: implicitly, by CAST, in arithmetic, and when a column is written."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.local.hana.engine_support import Sql, reader, scratch, shared

__all__ = ["reader", "scratch", "shared"]

D = Decimal
INCONSISTENT, TOO_LARGE = 266, 274


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # To text.
        ("TO_NVARCHAR(TRUE)", "TRUE"),
        ("TO_NVARCHAR(X'00FF')", "00FF"),
        ("TO_NVARCHAR(1 / 4)", "0.25"),
        ("TO_NVARCHAR(TO_DECIMAL(100))", "100"),
        ("TO_NVARCHAR(TO_TIMESTAMP('2024-02-29 01:02:03.5'))", "2024-02-29 01:02:03.5000000"),
        ("TO_NVARCHAR(TO_SECONDDATE('2024-02-29 01:02:03'))", "2024-02-29 01:02:03"),
        ("TO_NVARCHAR(TO_TIME('01:02:03'))", "01:02:03"),
        ("CAST(12345 AS NVARCHAR(3))", "123"),
        ("CAST('hello' AS NCLOB)", "hello"),
        ("CAST(NULL AS INTEGER)", None),
        # From text.
        ("TO_TIMESTAMP('20240229')", dt.datetime(2024, 2, 29)),
        ("TO_TIMESTAMP('20240229010203')", dt.datetime(2024, 2, 29, 1, 2, 3)),
        ("CAST('2024-02-29' AS DATE)", dt.date(2024, 2, 29)),
        ("CAST('20240229010203' AS SECONDDATE)", dt.datetime(2024, 2, 29, 1, 2, 3)),
        ("CAST(' true ' AS BOOLEAN)", True),
        ("CAST('a' AS VARBINARY(5))", b"a"),
        ("CAST('12.7' AS INTEGER)", 12),
        # Between points in time.
        ("CAST(TIMESTAMP '2024-02-29 01:02:03.5' AS DATE)", dt.date(2024, 2, 29)),
        ("CAST(TIMESTAMP '2024-02-29 01:02:03.5' AS TIME)", dt.time(1, 2, 3)),
        ("CAST(TIMESTAMP '2024-02-29 01:02:03.5' AS SECONDDATE)", dt.datetime(2024, 2, 29, 1, 2, 3)),
        ("CAST(DATE '2024-02-29' AS TIMESTAMP)", dt.datetime(2024, 2, 29)),
        # Arithmetic.
        ("DATE '2024-02-28' + 2", dt.date(2024, 3, 1)),
        ("DATE '2024-03-01' - 1", dt.date(2024, 2, 29)),
        ("DATE '2024-03-01' - DATE '2024-02-01'", 29),
        ("TIMESTAMP '2024-01-01 00:00:00' + 0.5", dt.datetime(2024, 1, 1, 12)),
        ("'2' * 3", D("6")),
        ("1.5 - '0.5'", D("1")),
        ("NULL + 1", None),
        ("1 + NULL", None),
        ("NULL * NULL", None),
        ("TO_DOUBLE(1.5) * 2", 3.0),
        ("TO_DOUBLE(3) / 2", 1.5),
        ("(1 / 4) * 2", D("0.5")),
        ("(1 / 4) + 2", D("2.25")),
        # Vectors.
        ("TO_NVARCHAR(CAST('[1,2]' AS REAL_VECTOR(2)))", "[1,2]"),
        ("CARDINALITY(CAST('[1,2]' AS HALF_VECTOR))", 2),
        # What is concatenated.
        ("NULL || 'a'", None),
        ("CAST('a' AS NCLOB) || 'b'", "ab"),
    ],
)
def test_values_are_converted(reader: Sql, expression: str, expected: Any) -> None:
    found = reader.value(f"SELECT {expression} FROM DUMMY")
    if isinstance(expected, Decimal):
        assert isinstance(found, Decimal)
        assert abs(found / expected - 1) < D("1e-15")
    else:
        assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    "expression",
    [
        "CAST(1 AS DATE)",
        "CAST(1 AS TIME)",
        "CAST(DATE '2024-01-01' AS INTEGER)",
        "CAST(TO_TIME('01:02:03') AS INTEGER)",
        "CAST(TO_TIME('01:02:03') AS TIMESTAMP)",
        "CAST(1 AS REAL_VECTOR)",
        "CAST(TO_REAL_VECTOR('[1]') AS INTEGER)",
        "CAST(1 AS VARBINARY(5))",
        "CAST(X'00' AS INTEGER)",
        "DATE '2024-01-01' + DATE '2024-01-01'",
        "TRUE + 1",
        "TO_REAL_VECTOR('[1]') * 2",
    ],
)
def test_types_that_have_nothing_in_common_are_refused(reader: Sql, expression: str) -> None:
    assert reader.code(f"SELECT {expression} FROM DUMMY") == INCONSISTENT


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("NVARCHAR(3)", "'four'", TOO_LARGE),
        ("NVARCHAR(3)", "1234", TOO_LARGE),
        ("NVARCHAR(3)", "LPAD('x', 4, 'y')", TOO_LARGE),
        ("VARBINARY(2)", "X'000102'", TOO_LARGE),
        ("REAL_VECTOR(2)", "TO_REAL_VECTOR('[1,2,3]')", 2048),
        ("REAL_VECTOR(2)", "'[1,2,3]'", 2048),
        ("REAL_VECTOR(2)", "CAST('[1,2,3]' AS REAL_VECTOR(3))", 2048),
        ("DATE", "1", INCONSISTENT),
        ("INTEGER", "'x'", 339),
    ],
)
def test_what_does_not_fit_a_column_is_refused(scratch: Sql, column: str, value: str, code: int) -> None:
    scratch.run(f"CREATE TABLE T (A {column})")
    assert scratch.code(f"INSERT INTO T SELECT {value} FROM DUMMY") == code
    assert scratch.code(f"INSERT INTO T VALUES ({value})") == code
    assert scratch.value("SELECT COUNT(*) FROM T") == 0


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("NVARCHAR(3)", "'abc'", "abc"),
        ("NVARCHAR(5)", "12.5", "12.5"),
        ("NVARCHAR(10)", "DATE '2024-02-29'", "2024-02-29"),
        ("VARBINARY(2)", "X'0001'", b"\x00\x01"),
        ("DECIMAL(5, 2)", "'1.5'", D("1.50")),
        ("INTEGER", "NULL", None),
        ("TIMESTAMP", "'20240229'", dt.datetime(2024, 2, 29)),
    ],
)
def test_what_fits_a_column_is_converted(scratch: Sql, column: str, value: str, expected: Any) -> None:
    scratch.run(f"CREATE TABLE T (A {column})")
    scratch.done(f"INSERT INTO T VALUES ({value})")
    assert scratch.value("SELECT A FROM T") == expected


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("1.25 * 2.5", "DECIMAL(5, 3)"),
        ("1.25 + 2.5", "DECIMAL(4, 2)"),
        ("1 / 2", "DECIMAL"),
        ("TO_BIGINT(1) + 1", "BIGINT"),
        ("TO_DOUBLE(1) + 1", "DOUBLE"),
        ("'ab' || 'cde'", "NVARCHAR(5)"),
        ("DATE '2024-01-01' - DATE '2024-01-01'", "BIGINT"),
    ],
)
def test_results_have_hanas_types(reader: Sql, expression: str, kind: str) -> None:
    assert reader.types(f"SELECT {expression} FROM DUMMY") == [kind]
