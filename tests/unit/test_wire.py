"""What a reply's bytes and headers say, without a network."""

from __future__ import annotations

import email.utils
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.errors import (
    TogetherAIConnectionError,
    TogetherAIError,
    TogetherAIInputError,
    TogetherAIRateLimitError,
    TogetherAIResponseError,
    TogetherAITimeoutError,
)
from hana_ai.api.wire.encoding import decode, encode
from hana_ai.api.wire.events import EventReader
from hana_ai.api.wire.failures import status_error, transport_error
from hana_ai.api.wire.headers import retry_after_of


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"x-ratelimit-reset": "2.5"}, 2.5),
        ({"x-ratelimit-reset": "3s"}, 3.0),
        ({"retry-after": "soon", "x-ratelimit-reset": "4"}, 4.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "86400"}, None),
        ({"retry-after": "nan"}, None),
    ],
)
def test_the_wait_that_a_server_names(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_of(headers) == expected


def test_a_point_in_time_is_a_wait_too() -> None:
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert retry_after_of({"retry-after": date}) == pytest.approx(30, abs=2)
    assert retry_after_of({"x-ratelimit-reset": str(time.time() + 30)}) == pytest.approx(30, abs=2)
    past = email.utils.formatdate(time.time() - 30, usegmt=True)
    assert retry_after_of({"retry-after": past}) == 0.0


@given(
    st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset"]), st.text(max_size=20))
)
def test_no_header_is_too_strange_to_be_read(headers: dict[str, str]) -> None:
    wait = retry_after_of(headers)
    assert wait is None or 0 <= wait <= 3600


def test_an_error_status_carries_what_its_headers_say() -> None:
    error = status_error(
        429, httpx.Headers({"X-Request-ID": "r-1", "X-RateLimit-Reset": "2"}), b'{"error": "slow"}', model="m"
    )
    assert isinstance(error, TogetherAIRateLimitError)
    assert (error.request_id, error.retry_after, error.message) == ("r-1", 2.0, "slow")


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (httpx.ConnectTimeout("slow"), TogetherAITimeoutError),
        (httpx.ReadTimeout("slow"), TogetherAITimeoutError),
        (TimeoutError(), TogetherAITimeoutError),
        (httpx.ConnectError("refused"), TogetherAIConnectionError),
        (httpx.RemoteProtocolError("hung up"), TogetherAIConnectionError),
        (ConnectionResetError("reset"), TogetherAIConnectionError),
    ],
)
def test_a_broken_exchange_is_a_timeout_or_a_connection_error(
    exc: Exception, expected: type[TogetherAIError]
) -> None:
    error = transport_error(exc, base_url="https://x", model="m")
    assert type(error) is expected
    assert "https://x" in str(error)


def test_a_server_that_hung_up_is_no_timeout() -> None:
    error = httpx.RemoteProtocolError("Server disconnected")
    assert type(transport_error(error, base_url="https://x", model=None)) is TogetherAIConnectionError
    late = httpx.ConnectTimeout("")
    found = transport_error(late, base_url="https://x", model=None)
    assert isinstance(found, TogetherAITimeoutError)
    assert "timed out while connecting" in str(found)


def test_a_chain_of_causes_that_bites_its_tail_ends() -> None:
    first, second = ConnectionError("a"), ConnectionError("b")
    first.__cause__, second.__cause__ = second, first
    assert "b" in str(transport_error(first, base_url="https://x", model=None))


def test_arrays_are_written_and_objects_are_not() -> None:
    import numpy as np

    assert encode({"x": np.array([1, 2])}) == b'{"x":[1,2]}'
    with pytest.raises(TogetherAIInputError, match="strings, numbers"):
        encode({"x": object()})


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_clear_error(data: bytes) -> None:
    try:
        decode(data, model="m", request_id=None)
    except TogetherAIResponseError as exc:
        assert "not JSON" in str(exc)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_any_stream_gives_chunks_or_a_clear_error(parts: list[bytes]) -> None:
    reader = EventReader(model="m", request_id=None)
    try:
        for part in parts:
            for chunk in reader.feed(part):
                assert isinstance(chunk, dict)
        reader.finish()
    except TogetherAIError:
        pass


def test_an_event_that_never_ends_is_refused() -> None:
    reader = EventReader(model="m", request_id="r", max_event_bytes=100)
    with pytest.raises(TogetherAIResponseError, match="larger than 100 bytes"):
        reader.feed(b"data: " + b"x" * 200)


@pytest.mark.parametrize(
    ("code", "status"), [(503, 503), ("429", 429), ("overloaded", 500), (None, 500), (7, 500)]
)
def test_an_error_event_has_the_status_that_its_code_names(code: object, status: int) -> None:
    import orjson

    reader = EventReader(model="m", request_id=None)
    event = b"data: " + orjson.dumps({"error": {"message": "no", "code": code}}) + b"\n\n"
    with pytest.raises(TogetherAIError) as caught:
        reader.feed(event)
    assert getattr(caught.value, "status", None) == status
    with pytest.raises(TogetherAIError):
        reader.feed(b"data: {}\n\n")
    with pytest.raises(TogetherAIError):
        reader.finish()
