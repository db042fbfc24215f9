"""Option lists, field lists and CLIENTINFO."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.local.hana.protocol.fields import (
    Option,
    decode_client_info,
    decode_fields,
    decode_options,
    encode_fields,
    encode_options,
)
from hana_ai.api.local.hana.protocol.wire import ProtocolError

options = st.dictionaries(
    st.integers(0, 255),
    st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
    | st.binary(max_size=50),
    max_size=10,
)


@given(options)
def test_options_survive(sent: dict[int, Option]) -> None:
    assert decode_options(encode_options(sent), len(sent)) == sent


@given(st.lists(st.binary(max_size=600), max_size=8))
def test_fields_survive_whatever_their_length(sent: list[bytes]) -> None:
    assert decode_fields(encode_fields(sent)) == sent


def test_a_field_of_250_bytes_has_a_short_length_and_one_of_251_a_long_one() -> None:
    assert encode_fields([bytes(250)])[2] == 250
    assert encode_fields([bytes(251)])[2:5] == b"\xff\x00\xfb"


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_a_protocol_error(data: bytes) -> None:
    for decode in (decode_fields, decode_client_info, lambda d: decode_options(d, 3)):
        with suppress(ProtocolError):
            decode(data)


def test_client_info_pairs_keys_with_values() -> None:
    data = b"\x0bAPPLICATION\x06python\x03KEY\xf6\x2c\x01" + b"v" * 300
    assert decode_client_info(data) == {"APPLICATION": "python", "KEY": "v" * 300}


def test_client_info_with_a_lonely_key_is_refused() -> None:
    with pytest.raises(ProtocolError, match="no value"):
        decode_client_info(b"\x01A")
