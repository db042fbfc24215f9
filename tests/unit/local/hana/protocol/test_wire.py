"""Framing: what goes in comes out, and what does not fit ends the connection without taking memory."""

from __future__ import annotations

import socket
import struct
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.local.hana.protocol.wire import (
    ErrorRecord,
    MessageType,
    Part,
    PartKind,
    ProtocolError,
    SegmentKind,
    Transport,
    encode_error,
    encode_reply,
    parse_request,
)
from tests.integration.local.hana.rawclient import INIT, encode_request

parts = st.lists(
    st.builds(
        Part,
        kind=st.integers(0, 127),
        elements=st.integers(0, 2**31 - 1),
        data=st.binary(max_size=300),
        attributes=st.integers(0, 127),
    ),
    max_size=6,
)


Pair = tuple[socket.socket, Transport]
"""A client's socket and the server's side of it."""


@pytest.fixture
def pair() -> Iterator[Pair]:
    client, server = socket.socketpair()
    with client, server:
        yield client, Transport(server)


@given(parts)
def test_parts_of_a_request_are_read_as_they_were_sent(sent: list[Part]) -> None:
    request = parse_request(5, 7, encode_request(sent, MessageType.EXECUTE_DIRECT)[32:])
    assert list(request.parts) == sent
    assert request.message_type == MessageType.EXECUTE_DIRECT
    assert request.commit_immediately


@given(parts)
def test_a_reply_has_the_layout_that_the_header_announces(sent: list[Part]) -> None:
    message = encode_reply(9, 4, 5, sent)
    session_id, packet_count, length, _, segments, options, _ = struct.unpack_from("<qIIIhBxI4x", message)
    assert (session_id, packet_count, segments, options) == (9, 4, 1, 0)
    assert length == len(message) - 32
    segment_length, _, part_count, number, kind, function_code = struct.unpack_from("<iihhbxh", message, 32)
    assert (segment_length, part_count, number, kind, function_code) == (length, len(sent), 1, 2, 5)
    assert len(message) % 8 == 0


@given(st.binary(max_size=400))
def test_any_bytes_are_a_request_or_a_protocol_error(body: bytes) -> None:
    with suppress(ProtocolError):
        parse_request(0, 0, body)


@given(parts, st.data())
def test_a_damaged_request_is_read_or_refused_but_never_more(sent: list[Part], data: st.DataObject) -> None:
    body = bytearray(encode_request(sent, MessageType.EXECUTE_DIRECT)[32:])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        request = parse_request(0, 0, bytes(body))
    except ProtocolError:
        return
    assert sum(len(part.data) for part in request.parts) <= len(body)


def test_errors_travel_in_a_segment_of_kind_error() -> None:
    message = encode_error(1, 2, [ErrorRecord(259, "invalid table name: ä", 15)])
    assert message[32 + 12] == SegmentKind.ERROR
    code, position, length, level = struct.unpack_from("<iiib", message, 32 + 24 + 16)
    assert (code, position, level) == (259, 15, 1)
    assert length == len("invalid table name: ä".encode())


def test_several_error_records_are_padded_to_eight() -> None:
    message = encode_error(1, 2, [ErrorRecord(1, "a"), ErrorRecord(2, "b")], [-3, -3])
    first = 32 + 24 + 16
    assert struct.unpack_from("<i", message, first)[0] == 1
    assert struct.unpack_from("<i", message, first + 24)[0] == 2
    assert message[32 + 8] == 2


def test_a_message_in_single_bytes_is_put_together(pair: Pair) -> None:
    client, transport = pair
    message = encode_request([Part(PartKind.COMMAND, 1, b"SELECT 1 FROM DUMMY")], 2)

    def trickle() -> None:
        for byte in message:
            client.sendall(bytes((byte,)))

    thread = threading.Thread(target=trickle)
    thread.start()
    request = transport.receive()
    thread.join()
    assert request is not None
    assert request.require(PartKind.COMMAND).data == b"SELECT 1 FROM DUMMY"


def test_messages_that_arrive_together_are_taken_apart(pair: Pair) -> None:
    client, transport = pair
    client.sendall(INIT + encode_request([], MessageType.COMMIT) * 2)
    assert transport.greet()
    assert len(client.recv(100)) == 8
    assert transport.receive() is not None
    assert transport.receive() is not None


def test_a_client_that_leaves_between_messages_ends_the_conversation(pair: Pair) -> None:
    client, transport = pair
    client.close()
    assert transport.receive() is None


def test_a_client_that_leaves_within_a_message_is_a_protocol_error(pair: Pair) -> None:
    client, transport = pair
    client.sendall(encode_request([], MessageType.COMMIT)[:40])
    client.close()
    with pytest.raises(ProtocolError, match="within a message"):
        transport.receive()


def test_a_length_beyond_the_limit_is_refused_before_anything_is_read(pair: Pair) -> None:
    client, transport = pair
    client.sendall(struct.pack("<qIIIhBxI4x", 0, 0, 0xFFFFFFFF, 0, 1, 0, 0))
    with pytest.raises(ProtocolError, match="limit"):
        transport.receive()


def test_a_claimed_length_takes_no_memory_until_the_bytes_arrive(pair: Pair) -> None:
    client, transport = pair
    transport.limit = 2**31
    client.sendall(struct.pack("<qIIIhBxI4x", 0, 0, 1_000_000_000, 0, 1, 0, 0) + bytes(100))
    client.close()
    tracemalloc.start()
    with pytest.raises(ProtocolError):
        transport.receive()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize(("segments", "options"), [(2, 0), (0, 0), (1, 2)])
def test_several_segments_and_compression_are_refused(pair: Pair, segments: int, options: int) -> None:
    client, transport = pair
    client.sendall(struct.pack("<qIIIhBxI4x", 0, 0, 24, 24, segments, options, 0) + bytes(24))
    with pytest.raises(ProtocolError):
        transport.receive()


def test_a_peer_that_speaks_something_else_is_refused(pair: Pair) -> None:
    client, transport = pair
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ProtocolError, match="init request"):
        transport.greet()
