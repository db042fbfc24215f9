"""What a bound value becomes for the type that is expected, and which values are refused."""

from __future__ import annotations

import datetime as dt
import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.engine.inputs import converter, for_duckdb, is_plain, vector_of, vectors_of
from hana_ai.api.local.hana.interface import HanaError
from tests.unit.local.hana.engine_support import Sql, reader, scratch, shared

__all__ = ["reader", "scratch", "shared"]

D = Decimal
MOMENT = dt.datetime(2024, 2, 29, 1, 2, 3, 500000)
VECTOR = np.array([1, 0.5], dtype=np.float32)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("INTEGER", True, 1),
        ("INTEGER", "12", 12),
        ("INTEGER", D("12"), 12),
        ("DECIMAL", 1.5, D("1.5")),
        ("DECIMAL", "1.00000000000049", D("1.000000000000")),
        ("DECIMAL(5, 2)", D("1.005"), D("1.01")),
        ("DOUBLE", 2, 2.0),
        ("DOUBLE", "2.5", 2.5),
        ("BOOLEAN", "no", False),
        ("BOOLEAN", " True ", True),
        ("BOOLEAN", 0, False),
        ("NVARCHAR(30)", True, "1"),
        ("NVARCHAR(30)", False, "0"),
        ("NVARCHAR(30)", 2.0, "2"),
        ("NVARCHAR(30)", 12, "12"),
        ("NVARCHAR(30)", b"caf\xc3\xa9", "café"),
        ("NVARCHAR(30)", MOMENT, "2024-02-29 01:02:03.5000000"),
        ("TIMESTAMP", dt.date(2024, 2, 29), dt.datetime(2024, 2, 29)),
        ("TIMESTAMP", "2024-02-29T01:02:03.5", MOMENT),
        ("SECONDDATE", MOMENT, dt.datetime(2024, 2, 29, 1, 2, 3)),
        ("DATE", MOMENT, dt.date(2024, 2, 29)),
        ("DATE", "20240229", dt.date(2024, 2, 29)),
        ("TIME", MOMENT, dt.time(1, 2, 3)),
        ("TIME", "1:02", dt.time(1, 2)),
        ("TIME", "2024-02-29 01:02:03", dt.time(1, 2, 3)),
        ("VARBINARY(4)", "ab", b"ab"),
        ("VARBINARY(4)", memoryview(b"ab"), b"ab"),
        ("BLOB", VECTOR, b"\x02\x00\x00\x00\x00\x00\x80?\x00\x00\x00?"),
        ("INTEGER", None, None),
    ],
)
def test_a_value_is_converted(scratch: Sql, kind: str, value: Any, expected: Any) -> None:
    found = converter(declared(scratch, kind))(value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        ("INTEGER", "x", 339),
        ("INTEGER", D("Infinity"), 314),
        ("INTEGER", 2**31, 314),
        ("DECIMAL", D("NaN"), 314),
        ("DECIMAL", D(10) ** 26, 314),
        ("DECIMAL(3, 1)", 100, 314),
        ("BOOLEAN", "perhaps", 339),
        ("NVARCHAR(3)", "four", 274),
        ("NVARCHAR(3)", VECTOR, 266),
        ("TIMESTAMP", 5, 303),
        ("TIMESTAMP", "yesterday", 303),
        ("DATE", 5, 303),
        ("TIME", 5, 303),
        ("TIME", "25:00:00", 303),
        ("VARBINARY(2)", b"abc", 274),
        ("VARBINARY(2)", 5, 266),
        ("REAL_VECTOR(2)", 5, 266),
        ("REAL_VECTOR(2)", b"\x02\x00\x00\x00\xff", 339),
    ],
)
def test_a_value_that_does_not_fit_is_refused(scratch: Sql, kind: str, value: Any, code: int) -> None:
    with pytest.raises(HanaError) as caught:
        converter(declared(scratch, kind))(value)
    assert caught.value.code == code


def declared(sql: Sql, kind: str) -> types.SqlType:
    """The type as the engine declares it for a parameter."""
    sql.run(f"CREATE TABLE T (A {kind})")
    prepared = sql.session.prepare("INSERT INTO T VALUES (?)")
    assert prepared.parameters is not None
    return prepared.parameters[0].type


@pytest.mark.parametrize(
    ("value", "half"),
    [
        ([1, 0.5], False),
        ((1, 0.5), True),
        ("[1, 0.5]", False),
        (b"[1, 0.5]", False),
        (struct.pack("<I2f", 2, 1, 0.5), False),
        (struct.pack("<I2e", 2, 1, 0.5), True),
    ],
)
def test_a_vector_comes_in_several_forms(value: Any, half: bool) -> None:
    assert for_duckdb(vector_of(value, half)) == [1.0, 0.5]


KINDS = [types.nvarchar(3), types.NCLOB, types.DOUBLE, types.REAL, types.INTEGER, types.BOOLEAN]
VALUES = st.one_of(
    st.none(), st.text(max_size=4), st.floats(), st.integers(), st.booleans(), st.binary(max_size=3)
)
VECTORS = st.lists(st.floats(width=32), min_size=1, max_size=3).map(lambda made: np.array(made, np.float32))


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(st.one_of(st.lists(VALUES), st.lists(st.text(max_size=4)), st.lists(st.floats() | st.none())))
def test_a_column_that_is_plain_stays_as_it_is(kind: types.SqlType, values: list[Any]) -> None:
    if is_plain(values, kind):
        convert = converter(kind)
        assert all(convert(value) is value for value in values)


@given(
    st.lists(VECTORS, min_size=1),
    st.integers(0, 3),
)
def test_vectors_at_once_are_those_one_by_one(values: list[Any], dimension: int) -> None:
    convert = converter(types.vector(dimension))
    found = vectors_of(values, dimension)
    if found is not None:
        assert [convert(value).tolist() for value in values] == [value.tolist() for value in found]
    else:
        with pytest.raises(HanaError):
            for value in values:
                convert(value)


@pytest.mark.parametrize("other", [None, "[1, 0.5]", struct.pack("<I2f", 2, 1, 0.5), np.array([1, 0.5])])
def test_other_forms_of_vectors_are_converted_one_by_one(other: Any) -> None:
    assert vectors_of([VECTOR, other], 2) is None
