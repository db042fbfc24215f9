"""Frames of the SQL Command Network Protocol: messages, segments and parts, read with hard bounds.

A client message is 32 bytes of header, one segment header and its parts. Everything is little-endian. Nothing
here knows what a part means; `session` does. Memory grows with the bytes that arrive, never with the lengths
that a client claims.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The longest message accepted from an authenticated client, header included."""

MAX_MESSAGE_BYTES_BEFORE_LOGIN = 64 * 1024
"""The longest message accepted before authentication."""

_RECEIVE_BYTES = 256 * 1024
_INIT_REQUEST_BYTES = 14
_INIT_FILLER = b"\xff\xff\xff\xff"
_INIT_REPLY = bytes((4, 20, 0, 4, 1, 0, 0, 0))
_LITTLE_ENDIAN = 1
_COMPRESSED = 2

_MESSAGE_HEADER = struct.Struct("<qIIIhBxI4x")
_REQUEST_SEGMENT = struct.Struct("<iihhbbbb8x")
_REPLY_SEGMENT = struct.Struct("<iihhbxh8x")
_PART_HEADER = struct.Struct("<bbhiii")
_REPLY_HEADERS = _MESSAGE_HEADER.size + _REPLY_SEGMENT.size
_ERROR_RECORD = struct.Struct("<iiib5s")

_PADDING = tuple(b"\0" * n for n in range(8))
_MAX_SHORT_COUNT = 0x7FFF


class ProtocolError(Exception):
    """The peer broke the protocol: its connection ends, and nothing else does."""


class MessageType(IntEnum):
    """What a client asks for."""

    EXECUTE_DIRECT = 2
    PREPARE = 3
    EXECUTE = 13
    READ_LOB = 16
    WRITE_LOB = 17
    AUTHENTICATE = 65
    CONNECT = 66
    COMMIT = 67
    ROLLBACK = 68
    CLOSE_RESULT_SET = 69
    DROP_STATEMENT_ID = 70
    FETCH_NEXT = 71
    DISCONNECT = 77
    DB_CONNECT_INFO = 82


class PartKind(IntEnum):
    """What a part carries."""

    COMMAND = 3
    RESULT_SET = 5
    ERROR = 6
    STATEMENT_ID = 10
    ROWS_AFFECTED = 12
    RESULT_SET_ID = 13
    READ_LOB_REQUEST = 17
    READ_LOB_REPLY = 18
    WRITE_LOB_REQUEST = 28
    CLIENT_CONTEXT = 29
    WRITE_LOB_REPLY = 30
    PARAMETERS = 32
    AUTHENTICATION = 33
    OUTPUT_PARAMETERS = 41
    CONNECT_OPTIONS = 42
    FETCH_SIZE = 45
    PARAMETER_METADATA = 47
    RESULT_SET_METADATA = 48
    CLIENT_INFO = 57
    TRANSACTION_FLAGS = 64
    DB_CONNECT_INFO = 67


class SegmentKind(IntEnum):
    """The kind of a segment; clients read errors only from segments of kind `ERROR`."""

    REQUEST = 1
    REPLY = 2
    ERROR = 5


class PartAttribute(IntEnum):
    """Bits on result sets and on the pieces of a batch."""

    LAST = 1
    NEXT = 2
    FIRST = 4
    ROW_NOT_FOUND = 8
    RESULT_SET_CLOSED = 16


class Part(NamedTuple):
    """One part, of a request or a reply.

    `elements` says how many there are in `data`, in the units of its kind (rows, fields, options).
    """

    kind: int
    elements: int
    data: bytes
    attributes: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One message of a client."""

    session_id: int
    packet_count: int
    message_type: int
    commit_immediately: bool
    parts: tuple[Part, ...]

    def find(self, kind: PartKind) -> Part | None:
        """Return the first part of a kind, if there is one."""
        for part in self.parts:
            if part.kind == kind:
                return part
        return None

    def require(self, kind: PartKind) -> Part:
        """Return the first part of a kind; a request without it is malformed."""
        part = self.find(kind)
        if part is None:
            raise ProtocolError(f"message {self.message_type} lacks its part {kind.name}")
        return part


class ErrorRecord(NamedTuple):
    """One entry of an error reply; `position` counts characters of the statement from 1, 0 is unknown."""

    code: int
    message: str
    position: int = 0


class Transport:
    """The messages of one client on its socket.

    Parameters
    ----------
    connection : socket.socket
        A connected socket, wrapped in TLS or not. The transport does not close it.
    limit : int
        Longest message in bytes that will be read; may be raised later.
    """

    def __init__(self, connection: socket.socket, limit: int = MAX_MESSAGE_BYTES_BEFORE_LOGIN) -> None:
        self._connection = connection
        self._received = b""
        self.limit = limit

    def greet(self) -> bool:
        """Exchange the init messages; False when the peer disconnects without sending anything."""
        request = self._take(_INIT_REQUEST_BYTES, b"")
        if request is None:
            return False
        if request[:4] != _INIT_FILLER or request[-2:] != bytes((1, _LITTLE_ENDIAN)):
            raise ProtocolError("not an init request of a little-endian client")
        self._connection.sendall(_INIT_REPLY)
        return True

    def receive(self) -> Request | None:
        """Read one message; None when the peer closed the connection between messages."""
        header = self._take(_MESSAGE_HEADER.size, b"")
        if header is None:
            return None
        session_id, packet_count, length, _, segments, options, _ = _MESSAGE_HEADER.unpack(header)
        if _MESSAGE_HEADER.size + length > self.limit:
            raise ProtocolError(f"message of {length} bytes, the limit is {self.limit}")
        if segments != 1 or options & _COMPRESSED:
            raise ProtocolError(f"message with {segments} segments and options {options}")
        body = self._take(length, header)
        if body is None:
            raise ProtocolError("connection closed within a message")
        return parse_request(session_id, packet_count, body)

    def send(self, message: bytes) -> None:
        """Send one encoded message."""
        self._connection.sendall(message)

    def _take(self, size: int, before: bytes) -> bytes | None:
        """Return the next `size` bytes, None at a clean end (`before` is empty and nothing came)."""
        received = self._received
        if len(received) < size:
            chunks = [received]
            missing = size - len(received)
            while missing > 0:
                chunk = self._connection.recv(_RECEIVE_BYTES)
                if not chunk:
                    if before or len(chunks) > 1 or received:
                        raise ProtocolError("connection closed within a message")
                    return None
                chunks.append(chunk)
                missing -= len(chunk)
            received = b"".join(chunks)
        self._received = received[size:]
        return received[:size]


def parse_request(session_id: int, packet_count: int, body: bytes) -> Request:
    """Parse what follows a message header.

    Raises
    ------
    ProtocolError
        When a length does not fit what is there.
    """
    if len(body) < _REQUEST_SEGMENT.size:
        raise ProtocolError("message without a segment header")
    length, _, part_count, _, kind, message_type, commit, _ = _REQUEST_SEGMENT.unpack_from(body)
    if kind != SegmentKind.REQUEST or not _REQUEST_SEGMENT.size <= length <= len(body) or part_count < 0:
        raise ProtocolError(f"segment of kind {kind}, {length} bytes and {part_count} parts")
    parts = []
    position = _REQUEST_SEGMENT.size
    for _ in range(part_count):
        if position + _PART_HEADER.size > length:
            raise ProtocolError("part header beyond its segment")
        part_kind, attributes, count, big_count, size, _ = _PART_HEADER.unpack_from(body, position)
        position += _PART_HEADER.size
        if size < 0 or position + size > length:
            raise ProtocolError(f"part of {size} bytes beyond its segment")
        if count < 0:
            count = big_count
        if count < 0:
            raise ProtocolError(f"part of {count} elements")
        parts.append(Part(part_kind, count, body[position : position + size], attributes))
        position += size + (-size & 7)
    return Request(session_id, packet_count, message_type, bool(commit), tuple(parts))


def encode_reply(
    session_id: int,
    packet_count: int,
    function_code: int,
    parts: Iterable[Part],
    kind: SegmentKind = SegmentKind.REPLY,
) -> bytes:
    """Build a whole reply message."""
    pieces = [b"", b""]
    size = _REPLY_HEADERS
    part_count = 0
    for part in parts:
        part_kind, elements, data, attributes = part
        length = len(data)
        short, big = (elements, 0) if elements <= _MAX_SHORT_COUNT else (-1, elements)
        pieces.append(_PART_HEADER.pack(part_kind, attributes, short, big, length, 0x7FFFFFFF))
        pieces.append(data)
        padding = -length & 7
        if padding:
            pieces.append(_PADDING[padding])
        size += _PART_HEADER.size + length + padding
        part_count += 1
    segment_length = size - _MESSAGE_HEADER.size
    pieces[0] = _MESSAGE_HEADER.pack(session_id, packet_count, segment_length, segment_length, 1, 0, 0)
    pieces[1] = _REPLY_SEGMENT.pack(segment_length, 0, part_count, 1, kind, function_code)
    return b"".join(pieces)


def encode_error(
    session_id: int,
    packet_count: int,
    errors: Sequence[ErrorRecord],
    rows_affected: Sequence[int] | None = None,
) -> bytes:
    """Build an error reply, with the outcome of every row when a batch failed."""
    records = []
    for error in errors:
        text = error.message.encode("utf-8", "replace")
        record = _ERROR_RECORD.pack(error.code, error.position, len(text), 1, b"HY000") + text
        records.append(record + _PADDING[-len(record) & 7] if len(errors) > 1 else record)
    parts = [Part(PartKind.ERROR, len(errors), b"".join(records))]
    if rows_affected is not None:
        parts.append(rows_affected_part(rows_affected))
    return encode_reply(session_id, packet_count, 0, parts, SegmentKind.ERROR)


def rows_affected_part(counts: Sequence[int]) -> Part:
    """Return how many rows each parameter row changed (-2: unknown, -3: failed)."""
    return Part(PartKind.ROWS_AFFECTED, len(counts), struct.pack(f"<{len(counts)}i", *counts))
