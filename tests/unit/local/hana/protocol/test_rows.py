"""Result sets: pages within their bounds, LOBs kept until their result set closes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.local.hana.interface import Column, HanaError, SqlType, TypeCode
from hana_ai.api.local.hana.protocol import lobs
from hana_ai.api.local.hana.protocol.lobs import OutgoingLobs
from hana_ai.api.local.hana.protocol.rows import ResultCursor, RowEncoder, metadata_part
from hana_ai.api.local.hana.protocol.text import text_or_bytes

INTEGER = SqlType(TypeCode.INTEGER, "INTEGER", 10)
NVARCHAR = SqlType(TypeCode.NVARCHAR, "NVARCHAR", 100)


def encode(kind: SqlType, *values: object) -> bytes:
    encoder = RowEncoder((Column("C", kind),), OutgoingLobs())
    return encoder.encode([(value,) for value in values])  # type: ignore[arg-type]


def test_columns_are_brought_back_into_rows() -> None:
    encoder = RowEncoder((Column("A", INTEGER), Column("B", NVARCHAR)), OutgoingLobs())
    assert encoder.encode([(1, "x"), (None, None)]) == b"\1\1\0\0\0" + b"\1x" + b"\0" + b"\xff"


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (TypeCode.TINYINT, 256),
        (TypeCode.TINYINT, -1),
        (TypeCode.SMALLINT, 2**15),
        (TypeCode.INTEGER, 2**31),
        (TypeCode.BIGINT, 2**63),
        (TypeCode.FIXED8, 2**63),
        (TypeCode.REAL, 1e39),
    ],
)
def test_a_number_that_does_not_fit_its_type_is_error_314(code: TypeCode, value: float) -> None:
    with pytest.raises(HanaError) as error:
        encode(SqlType(code, code.name, 10), value)
    assert error.value.code == 314


def test_vectors_of_several_dimensions_in_one_column() -> None:
    kind = SqlType(TypeCode.REAL_VECTOR, "REAL_VECTOR")
    data = encode(kind, np.array([1], np.float32), None, np.zeros(100, np.float32))
    assert data == b"\x08\1\0\0\0\0\0\x80\x3f" + b"\xff" + b"\xf6\x94\x01\x64\0\0\0" + bytes(400)


def test_an_alphanum_says_how_it_was_padded() -> None:
    kind = SqlType(TypeCode.ALPHANUM, "ALPHANUM", 10)
    assert encode(kind, "ab", "42", None) == b"\x03\x0aab" + b"\x03\x8a42" + b"\xff"


@given(st.integers(0, 700), st.integers(1, 300), st.integers(1, 3000))
def test_pages_hold_every_row_once(total: int, max_rows: int, max_bytes: int) -> None:
    cursor = ResultCursor((Column("N", INTEGER),), iter((n,) for n in range(total)))
    pages = []
    while not cursor.finished:
        pages.append(cursor.page(max_rows, max_bytes))
        assert len(pages) <= total + 1
    assert all(count <= max_rows for count, _ in pages)
    assert all(count for count, _ in pages[:-1])
    numbers = b"".join(data for _, data in pages)
    assert numbers == b"".join(b"\1" + n.to_bytes(4, "little") for n in range(total))


def test_rows_are_made_only_as_far_as_they_are_fetched() -> None:
    made = 0

    def rows() -> Iterator[tuple[str]]:
        nonlocal made
        for _ in range(100_000):
            made += 1
            yield ("x" * 1000,)

    cursor = ResultCursor((Column("T", NVARCHAR),), rows())
    _, data = cursor.page(1_000_000, 50_000)
    assert len(data) < 50_000 + 257 * 1003
    assert made < 600
    cursor.close()
    assert cursor.page(10, 10) == (0, b"")


def test_a_page_of_large_lobs_is_cut_after_a_few_rows() -> None:
    kind = SqlType(TypeCode.BLOB, "BLOB")
    cursor = ResultCursor((Column("B", kind),), iter((bytes(900_000),) for _ in range(100)))
    count, data = cursor.page(100, 1_000_000)
    assert count <= 4
    assert len(data) < 4_000_000


@given(
    st.lists(st.sampled_from(["a", "ä", "€", "😀", "\0"]), min_size=1, max_size=200),
    st.integers(2, 7),
    st.sampled_from([TypeCode.NCLOB, TypeCode.CLOB]),
)
def test_a_text_read_in_chunks_is_whole_and_splits_no_character(
    characters: list[str], units: int, code: TypeCode
) -> None:
    text = "".join(characters)
    expected = len(text.encode("utf-16-le")) // 2
    store = OutgoingLobs(inline_bytes=16)
    field = store.column_value(text, code)
    if len(store) == 0:
        assert text_or_bytes(field[32:]) == text
        return
    assert int.from_bytes(field[4:12], "little") == expected
    decoded = text_or_bytes(field[32:])
    assert isinstance(decoded, str)
    assert text.startswith(decoded)
    locator = field[20:28]
    offset, chunks, last = 0, [], False
    while not last:
        chunk, last = store.read(locator, offset, units)
        decoded = text_or_bytes(chunk)
        assert isinstance(decoded, str), "a chunk ends within a character"
        assert chunk
        chunks.append(decoded)
        offset += len(decoded.encode("utf-16-le")) // 2
    assert "".join(chunks) == text
    assert offset == expected


def test_lobs_beyond_their_memory_are_read_from_a_file() -> None:
    store = OutgoingLobs(memory_bytes=lobs.INLINE_BYTES * 3)
    values = [bytes((n,)) * (lobs.INLINE_BYTES + 1 + n) for n in range(5)]
    locators = [store.column_value(value, TypeCode.BLOB)[20:28] for value in values]
    assert len(set(locators)) == 5
    for value, locator in zip(values, locators, strict=True):
        middle, last = store.read(locator, 1000, 5000)
        assert (middle, last) == (value[1000:6000], False)
        end, last = store.read(locator, len(value) - 3, 5000)
        assert (end, last) == (value[-3:], True)
    store.close()
    assert locators[0] not in store


def test_names_are_in_the_metadata() -> None:
    part = metadata_part((Column("A", INTEGER, nullable=False, table="T", schema="S"), Column("Ä", NVARCHAR)))
    assert part.elements == 2
    assert part.data[0] == 1
    assert part.data[24] == 2
    assert part.data[48:] == b"\1A\1T\1S\2" + "Ä".encode()
