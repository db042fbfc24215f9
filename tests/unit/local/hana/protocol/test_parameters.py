"""Parameter rows: decoded by the type byte of each value, and never beyond what is there."""

from __future__ import annotations

import struct
from contextlib import suppress
from datetime import date
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.local.hana.interface import HanaError, Parameter, SqlType, TypeCode
from hana_ai.api.local.hana.protocol.lobs import IncomingLob
from hana_ai.api.local.hana.protocol.parameters import decode_rows, metadata_part
from hana_ai.api.local.hana.protocol.wire import ProtocolError

INTEGER = Parameter(SqlType(TypeCode.INTEGER, "INTEGER", 10))
NVARCHAR = Parameter(SqlType(TypeCode.NVARCHAR, "NVARCHAR", 100))
NCLOB = Parameter(SqlType(TypeCode.NCLOB, "NCLOB"))
BLOB = Parameter(SqlType(TypeCode.BLOB, "BLOB"))
VECTOR = Parameter(SqlType(TypeCode.REAL_VECTOR, "REAL_VECTOR", 2))
ANY = [Parameter(SqlType(code, code.name, 10)) for code in TypeCode]


def lob(code: int, size: int, position: int, options: int = 6) -> bytes:
    return struct.pack("<BBii", code, options, size, position)


@pytest.mark.parametrize("null", [0x83, 0x8B, 0x9A, 0xD1, 0xE0, 0x90, 0x8E, 0x8F])
def test_every_type_byte_with_its_high_bit_is_null(null: int) -> None:
    assert decode_rows(bytes((null,)), 1, [INTEGER]) == [[None]]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"\x01\xff", 255),
        (b"\x02\xff\xff", -1),
        (b"\x03\xff\xff\xff\x7f", 2**31 - 1),
        (b"\x04" + bytes(7) + b"\x80", -(2**63)),
        (b"\x07" + struct.pack("<d", 0.5), 0.5),
        (b"\x1c\x02", True),
        (b"\x1c\x00", False),
        (b"\x1d\x02ab", "ab"),
        (b"\x0d\x02\x00\xff", b"\x00\xff"),
        (b"\x3f\x01\x00\x00\x00", date(1, 1, 1)),
        (b"\x1d\x02\xff\xfe", b"\xff\xfe"),
    ],
)
def test_the_type_byte_decides_not_the_declared_type(data: bytes, value: object) -> None:
    assert decode_rows(data, 1, [INTEGER]) == [[value]]
    assert decode_rows(data, 1, [NVARCHAR]) == [[value]]


@pytest.mark.parametrize(("code", "size"), [(81, 8), (82, 12), (76, 16)])
def test_fixed_decimals_take_their_scale_from_the_declaration(code: int, size: int) -> None:
    declared = Parameter(SqlType(TypeCode.DECIMAL, "DECIMAL", 10, 2))
    data = bytes((code,)) + (-12345).to_bytes(size, "little", signed=True)
    assert decode_rows(data, 1, [declared]) == [[Decimal("-123.45")]]


def test_a_binary_for_a_vector_becomes_a_vector() -> None:
    data = b"\x0d\x0c" + struct.pack("<Iff", 2, 1.0, 2.0)
    ((vector,),) = decode_rows(data, 1, [VECTOR])
    np.testing.assert_array_equal(vector, np.array([1, 2], np.float32))


def test_a_binary_that_is_no_vector_is_error_266() -> None:
    with pytest.raises(HanaError) as error:
        decode_rows(b"\x0d\x08" + struct.pack("<If", 2, 1.0), 1, [VECTOR])
    assert error.value.code == 266


def test_lobs_follow_the_row_they_belong_to() -> None:
    row = b"\x03\x01\x00\x00\x00" + lob(26, 5, 25) + lob(27, 2, 30)
    second = len(row) + 7
    data = row + b"hello\x00\xff" + b"\x83" + lob(26, 0, 0) + lob(27, 1, second + 21) + b"z"
    rows = decode_rows(data, 2, [INTEGER, NCLOB, BLOB])
    assert rows == [[1, "hello", b"\x00\xff"], [None, "", b"z"]]


def test_a_lob_without_its_end_waits_for_the_rest() -> None:
    ((value,),) = decode_rows(lob(26, 3, 10, options=2) + b"abc", 1, [NCLOB])
    assert isinstance(value, IncomingLob)
    value.append("😀".encode())
    assert value.value() == "abc😀"


def test_lobs_that_share_their_bytes_are_refused() -> None:
    data = lob(27, 100, 20) + lob(27, 100, 20) + bytes(100)
    with pytest.raises(ProtocolError):
        decode_rows(data, 1, [BLOB, BLOB])


@pytest.mark.parametrize(("size", "position"), [(-1, 10), (5, 0), (5, -5), (5, 11), (2**31 - 1, 10)])
def test_lobs_outside_the_part_are_refused(size: int, position: int) -> None:
    with pytest.raises(ProtocolError):
        decode_rows(lob(27, size, position) + bytes(5), 1, [BLOB])


def test_rows_of_nothing_are_not_counted_into_memory() -> None:
    with pytest.raises(ProtocolError):
        decode_rows(b"", 2**31 - 1, [])


@given(st.binary(max_size=200), st.integers(0, 2**31 - 1), st.lists(st.sampled_from(ANY), min_size=1, max_size=4))
def test_any_bytes_are_rows_or_an_error_that_is_told(data: bytes, count: int, parameters: list[Parameter]) -> None:
    try:
        rows = decode_rows(data, count, parameters)
    except (ProtocolError, HanaError):
        return
    assert len(rows) == count


@given(st.binary(max_size=60), st.sampled_from(ANY))
def test_every_type_byte_is_decoded_or_refused(data: bytes, parameter: Parameter) -> None:
    for code in range(128):
        with suppress(ProtocolError, HanaError):
            decode_rows(bytes((code,)) + data, 1, [parameter])


def test_metadata_says_what_to_send() -> None:
    part = metadata_part((Parameter(SqlType(TypeCode.DECIMAL, "DECIMAL", 10, 2), nullable=False), NCLOB))
    assert part.elements == 2
    assert struct.unpack_from("<bbbxIhh4x", part.data) == (1, TypeCode.FIXED8, 1, 0xFFFFFFFF, 10, 2)
    assert struct.unpack_from("<bbbxIhh4x", part.data, 16) == (2, TypeCode.NCLOB, 1, 0xFFFFFFFF, 0, 0)
