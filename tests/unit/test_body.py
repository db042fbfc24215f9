"""Packed replies are unpacked in parts, and what is not what it says is refused."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.errors import TogetherAIResponseError
from hana_ai.api.transport.body import Inflater


def _bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKERS = {"gzip": gzip.compress, "deflate": zlib.compress, "Deflate ": _bare_deflate}


@pytest.mark.parametrize("encoding", PACKERS)
@given(data=st.binary(max_size=400), size=st.integers(1, 30))
def test_what_was_packed_comes_out_however_it_is_cut(encoding: str, data: bytes, size: int) -> None:
    packed = PACKERS[encoding](data)
    inflater = Inflater(encoding)
    parts = [packed[begin : begin + size] for begin in range(0, len(packed), size)]
    assert b"".join(piece for part in parts for piece in inflater.feed(part)) == data
    inflater.finish()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@given(data=st.binary(min_size=1, max_size=100))
def test_any_bytes_are_unpacked_or_refused(encoding: str, data: bytes) -> None:
    inflater = Inflater(encoding)
    try:
        assert isinstance(b"".join(inflater.feed(data)), bytes)
        inflater.finish()
    except TogetherAIResponseError as exc:
        assert "the reply is" in str(exc)


def test_a_few_bytes_that_swell_take_no_memory() -> None:
    bomb = gzip.compress(b" " * 50_000_000, 9)
    tracemalloc.start()
    try:
        parts = Inflater("gzip").feed(bomb)
        assert sum(len(next(parts)) for _ in range(4)) > 0
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_what_ends_early_and_what_nobody_asked_for_is_refused() -> None:
    inflater = Inflater("gzip")
    assert b"".join(inflater.feed(gzip.compress(b"hello")[:-4])) == b"hello"
    with pytest.raises(TogetherAIResponseError, match="cut off"):
        inflater.finish()
    with pytest.raises(TogetherAIResponseError, match="not asked for"):
        Inflater("br")
