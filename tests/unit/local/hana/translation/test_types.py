"""Types as HANA Cloud has them: strings in Unicode, casts without a length, decimals with many digits."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.local.hana.engine_support import Sql, engine, sql

__all__ = ["engine", "sql"]


@pytest.mark.parametrize(
    ("declared", "kept"),
    [("CHAR(60)", "NCHAR"), ("VARCHAR(15)", "NVARCHAR"), ("CLOB", "NCLOB"), ("NCLOB", "NCLOB")],
)
def test_every_string_is_unicode(sql: Sql, declared: str, kept: str) -> None:
    sql.done(f"CREATE TABLE T (A {declared})")
    sql.done("INSERT INTO T VALUES ('Käse 🧀')")
    assert sql.value("SELECT DATA_TYPE_NAME FROM TABLE_COLUMNS WHERE TABLE_NAME = 'T'") == kept
    assert str(sql.value("SELECT A FROM T")).rstrip() == "Käse 🧀"


@pytest.mark.parametrize("kind", ["VARCHAR", "NVARCHAR"])
def test_a_cast_without_a_length_cuts_nothing(sql: Sql, kind: str) -> None:
    assert sql.value(f"SELECT CAST('{'x' * 300}' AS {kind}) FROM DUMMY") == "x" * 300
    assert sql.value(f"SELECT CAST('abc' AS {kind}(2)) FROM DUMMY") == "ab"
    sql.done(f"CREATE TABLE T (A {kind})")
    assert sql.code("INSERT INTO T VALUES ('ab')") == 274


@pytest.mark.parametrize(
    ("left", "right", "shape"),
    [
        ("30000000000000000000000000000000000000", "10000000000000000000000000000000000000", "38, 0"),
        ("0.00000000000049382716", "0.00000000000012345679", "38, 20"),
        ("-98765432109876543210.12345678901234", "3.00000000000001", "34, 14"),
    ],
)
def test_decimals_with_many_digits_are_divided(sql: Sql, left: str, right: str, shape: str) -> None:
    quotient = sql.value(
        f"SELECT CAST({left} AS DECIMAL({shape})) / NULLIF(CAST({right} AS DECIMAL({shape})), 0) FROM DUMMY"
    )
    assert quotient == pytest.approx(Decimal(left) / Decimal(right), rel=Decimal("1e-12"))
    assert sql.code(f"SELECT CAST({left} AS DECIMAL({shape})) / CAST(0 AS DECIMAL({shape})) FROM DUMMY") == 304


def test_a_unique_index_is_a_constraint(sql: Sql) -> None:
    sql.done("CREATE TABLE T (A INTEGER PRIMARY KEY, B INTEGER, C INTEGER)")
    sql.done("CREATE UNIQUE INDEX PAIR ON T (C, B)")
    sql.done("CREATE INDEX ONE ON T (B)")
    unique = (
        "SELECT CONSTRAINT_NAME, COLUMN_NAME FROM CONSTRAINTS WHERE IS_PRIMARY_KEY = 'FALSE' ORDER BY POSITION"
    )
    assert sql.rows(unique) == [("PAIR", "C"), ("PAIR", "B")]
    sql.done("DROP INDEX PAIR")
    assert sql.rows(unique) == []
