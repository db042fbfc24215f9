"""Single values: what a client sends is what comes back, at every size and sign."""

from __future__ import annotations

import time
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.local.hana.interface import HanaError, SqlType, TypeCode
from hana_ai.api.local.hana.protocol.text import text_bytes, text_or_bytes
from hana_ai.api.local.hana.protocol.values import (
    NULL_DECIMAL,
    NamePool,
    decimal_bytes,
    decimal_value,
    prefixed,
    scaled_integer,
    take_prefixed,
    unscaled,
    vector_value,
    wire_code,
)
from hana_ai.api.local.hana.protocol.wire import ProtocolError

texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.integers(-(10**34) + 1, 10**34 - 1), st.integers(-6000, 6000))
def test_a_decimal_keeps_its_34_digits(mantissa: int, exponent: int) -> None:
    value = Decimal(mantissa).scaleb(exponent) if abs(mantissa) < 10**28 else Decimal(f"{mantissa}E{exponent}")
    decoded = decimal_value(decimal_bytes(value))
    assert decoded == value


def test_more_digits_than_a_decimal_has_are_rounded() -> None:
    assert decimal_value(decimal_bytes(Decimal("1." + "0" * 33 + "5"))) == Decimal("1." + "0" * 32 + "1")


@pytest.mark.parametrize(("value", "expected"), [(7, "7"), (-2, "-2"), (0.1, "0.1"), (1e300, "1e300")])
def test_other_numbers_become_decimals_by_their_shortest_form(value: float, expected: str) -> None:
    assert decimal_value(decimal_bytes(value)) == Decimal(expected)


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), float("inf"), Decimal("1E+9000")])
def test_what_no_decimal_can_hold_is_error_314(value: Decimal) -> None:
    with pytest.raises(HanaError) as error:
        decimal_bytes(value)
    assert error.value.code == 314


def test_null_has_a_decimal_form() -> None:
    assert decimal_value(NULL_DECIMAL) is None


@given(st.binary(min_size=16, max_size=16))
def test_any_16_bytes_are_a_decimal(data: bytes) -> None:
    decimal_value(data)


@given(st.integers(-(10**38) + 1, 10**38 - 1), st.integers(0, 38))
def test_fixed_decimals_are_exact(number: int, scale: int) -> None:
    assert scaled_integer(unscaled(number, scale), scale) == number


def test_digits_beyond_the_scale_are_rounded_half_up() -> None:
    assert scaled_integer(Decimal("1.005"), 2) == 101
    assert scaled_integer(Decimal("-1.005"), 2) == -101
    assert scaled_integer(3, 2) == 300
    assert scaled_integer(0.5, 1) == 5


@pytest.mark.parametrize(
    ("length", "scale", "code"),
    [
        (10, 2, TypeCode.FIXED8),
        (18, 0, TypeCode.FIXED8),
        (19, 0, TypeCode.FIXED12),
        (28, 5, TypeCode.FIXED12),
        (29, 5, TypeCode.FIXED16),
        (38, 38, TypeCode.FIXED16),
        (34, 32767, TypeCode.DECIMAL),
        (0, 0, TypeCode.DECIMAL),
    ],
)
def test_a_decimal_of_declared_precision_travels_as_an_integer(length: int, scale: int, code: TypeCode) -> None:
    assert wire_code(SqlType(TypeCode.DECIMAL, "DECIMAL", length, scale)) is code


@given(texts)
def test_texts_survive(text: str) -> None:
    assert text_or_bytes(text_bytes(text)) == text
    assert text_or_bytes(text.encode()) == text


@given(texts)
def test_every_utf_16_unit_is_encoded_by_itself(text: str) -> None:
    pieces = [
        chr(int.from_bytes(unit, "little")).encode("utf-8", "surrogatepass")
        for c in text
        for unit in [c.encode("utf-16-le")[:2], c.encode("utf-16-le")[2:]]
        if unit
    ]
    assert text_bytes(text) == b"".join(pieces)


def test_astral_characters_are_two_surrogates_of_three_bytes() -> None:
    assert text_bytes("a😀") == b"a\xed\xa0\xbd\xed\xb8\x80"


@pytest.mark.parametrize(
    "data", [b"\xff\xfe", b"\xed\xa0\xbd", b"abc\x80", b"\xed\xb8\x80\xed\xa0\xbd", b"\xed\xa0\xbd\xed"]
)
def test_bytes_that_are_no_text_stay_bytes(data: bytes) -> None:
    assert text_or_bytes(data) == data


@given(st.binary(max_size=40))
def test_any_bytes_are_text_or_stay_what_they_are(data: bytes) -> None:
    text = text_or_bytes(data)
    assert text == data if isinstance(text, bytes) else isinstance(text, str)


@given(st.lists(st.sampled_from([b"\xed", b"\xa0", b"\xb0\x80", b"\xed\xa0\x80", b"\xed\xb0\x80", b"a"])))
def test_halves_of_characters_never_pass_as_text(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    text = text_or_bytes(data)
    if isinstance(text, str):
        assert data == text_bytes(text)


def test_a_long_text_of_astral_characters_takes_no_seconds() -> None:
    text = "😀ä" * 500_000
    start = time.thread_time()
    assert text_or_bytes(text_bytes(text)) == text
    assert time.thread_time() - start < 3


@pytest.mark.parametrize("size", [0, 1, 245, 246, 255, 256, 32767, 32768, 65536])
def test_lengths_survive_at_every_boundary(size: int) -> None:
    data = bytes(size)
    assert take_prefixed(b"?" + prefixed(data) + b"rest", 1) == (data, 1 + len(prefixed(data)))


def test_clients_use_all_sixteen_bits_of_a_short_length() -> None:
    data = bytes(40000)
    assert take_prefixed(b"\xf6\x40\x9c" + data, 0) == (data, 40003)


@pytest.mark.parametrize("data", [b"\x05abc", b"\xf6\xff\xffabc", b"\xf7\xff\xff\xff\xffabc", b"\xf8", b"\xfe"])
def test_a_length_beyond_the_data_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        take_prefixed(data, 0)


def test_vectors_of_both_widths() -> None:
    single = np.array([1, -2.5, 3e10], "<f4")
    half = np.array([1, -2.5, 0.25], "<f2")
    three = (3).to_bytes(4, "little")
    np.testing.assert_array_equal(vector_value(three + single.tobytes(), half=False), single)
    np.testing.assert_array_equal(vector_value(three + single.tobytes(), half=True), single)
    np.testing.assert_array_equal(vector_value(three + half.tobytes(), half=True), half.astype("f4"))


@given(st.binary(max_size=40))
def test_a_vector_whose_length_is_wrong_is_error_266(data: bytes) -> None:
    try:
        vector = vector_value(data, half=False)
    except HanaError as error:
        assert error.code == 266
    else:
        assert len(data) == 4 + 4 * vector.size


def test_names_are_pooled_once_and_cut_to_what_a_length_byte_says() -> None:
    pool = NamePool()
    first, again = pool.offset("T"), pool.offset("T")
    long = pool.offset("ä" * 200)
    assert first == again == 0
    assert pool.offset(None) == 0xFFFFFFFF
    assert pool.data()[long] == 254
    assert pool.data()[long + 1 :].decode() == "ä" * 127
