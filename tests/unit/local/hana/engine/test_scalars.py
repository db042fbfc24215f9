"""The functions that DuckDB calls back for what it has no function of its own."""

from __future__ import annotations

import struct
from decimal import Decimal

import pytest

from hana_ai.api.local.hana import names
from hana_ai.api.local.hana.engine import scalars

D = Decimal


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("memory", True),
        ("MEMORY column", True),
        ("mem*", True),
        ("%umn", True),
        ("mem* disk", False),
        ("dis*", False),
        ('"column store"', True),
        ('"store column"', False),
        ('"column store" memory', True),
        ('"column store" disk', False),
        ("", False),
    ],
)
def test_words_and_phrases_are_found_in_a_text(query: str, found: bool) -> None:
    assert scalars.contains("A column store in memory.", query) is found


@pytest.mark.parametrize(
    ("needle", "start", "occurrence", "at"),
    [
        ("l", 1, 1, 3),
        ("l", 1, 2, 4),
        ("l", 1, 3, 0),
        ("l", -1, 1, 4),
        ("l", -1, 2, 3),
        ("l", -1, 3, 0),
        ("", 1, 1, 0),
    ],
)
def test_a_text_is_located(needle: str, start: int, occurrence: int, at: int) -> None:
    assert scalars.locate("hello", needle, start, occurrence) == at


def test_products_and_quotients_have_12_digits_and_a_bound() -> None:
    assert scalars.multiply(D("0.0000005"), D("0.000001")) == D("0.000000000000")
    assert scalars.multiply(D("1.5"), D("1.5")) == D("2.25")
    with pytest.raises(ValueError, match="314:numeric overflow"):
        scalars.multiply(D(10) ** 20, D(10) ** 20)


@pytest.mark.parametrize(
    ("data", "half", "expected"),
    [
        (struct.pack("<I2f", 2, 1, 0.5), False, [1.0, 0.5]),
        (struct.pack("<I2e", 2, 1, 0.5), False, [1.0, 0.5]),
        (struct.pack("<I2f", 2, 1, 0.1), True, [1.0, 0.0999755859375]),
    ],
)
def test_bytes_become_a_vector(data: bytes, half: bool, expected: list[float]) -> None:
    assert scalars.fvecs(data, half) == expected


@pytest.mark.parametrize("data", [b"", b"\x00\x00\x00\x00", b"\x02\x00\x00\x00\x00"])
def test_bytes_that_are_no_vector_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="339:invalid number"):
        scalars.fvecs(data, False)


def test_a_literal_may_hold_quotes_and_nul() -> None:
    assert names.literal("it's") == "'it''s'"
    assert names.literal("a\x00b") == "('a' || chr(0) || 'b')"
