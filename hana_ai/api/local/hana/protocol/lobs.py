"""Large objects that do not fit one message: kept for READLOB, gathered from WRITELOB."""

from __future__ import annotations

import struct
import tempfile
from typing import IO, NamedTuple

from hana_ai.api.local.hana.interface import HanaError, TypeCode
from hana_ai.api.local.hana.protocol.text import cesu8, text_bytes, text_or_bytes
from hana_ai.api.local.hana.protocol.wire import Part, PartKind, ProtocolError

INLINE_BYTES = 1024 * 1024
"""A LOB up to this size travels whole within its row."""

MAX_LOB_BYTES = 1024 * 1024 * 1024
"""The largest LOB that a client may send in pieces."""

_FIRST_CHUNK_UNITS = 64 * 1024
_MEMORY_BYTES = 64 * 1024 * 1024
_MAX_CHUNK_UNITS = 1024 * 1024

_OPTION_NULL = 1
_OPTION_DATA = 2
_OPTION_LAST = 4
_LOB_KINDS = {TypeCode.BLOB: 1, TypeCode.CLOB: 2, TypeCode.NCLOB: 3, TypeCode.TEXT: 3}
_COLUMN_HEADER = struct.Struct("<BB2xqq8si")
_READ_REQUEST = struct.Struct("<8sqi4x")
_READ_REPLY = struct.Struct("<8sBi3x")
_WRITE_REQUEST = struct.Struct("<8sBqi")


class _Stored(NamedTuple):
    """A LOB kept for reading: `width` bytes a unit, in memory or at `start` of the spill file."""

    width: int
    size: int
    start: int
    data: bytes | None


class OutgoingLobs:
    """The LOBs that a result set has announced but not sent whole.

    They live as long as their result set. Beyond 64 MB they lie in an anonymous temporary file, so that a
    client which pages through a table of large objects does not make the server hold them all in memory.
    """

    def __init__(self, memory_bytes: int = _MEMORY_BYTES, inline_bytes: int = INLINE_BYTES) -> None:
        self._stored: dict[bytes, _Stored] = {}
        self.next_locator = 1
        """The next free locator; set by the session, because locators are unique within it."""
        self._memory_left = memory_bytes
        self._inline_bytes = inline_bytes
        self._spill: IO[bytes] | None = None
        self._spilled = 0

    def __len__(self) -> int:
        return len(self._stored)

    def column_value(self, value: str | bytes | None, code: TypeCode) -> bytes:
        """Encode the field of a LOB column, and keep what does not fit into it."""
        kind = _LOB_KINDS[code]
        if value is None:
            return bytes((kind, _OPTION_NULL))
        if isinstance(value, str):
            data = text_bytes(value)
            units = len(value) if value.isascii() else len(value.encode("utf-16-le")) // 2
        else:
            data = bytes(value)
            units = len(data)
        if len(data) <= self._inline_bytes:
            header = _COLUMN_HEADER.pack(kind, _OPTION_DATA | _OPTION_LAST, units, len(data), bytes(8), len(data))
            return header + data
        # Locators count UTF-16 units of text; ASCII has one byte a unit, so it is kept as it is.
        width = 2 if isinstance(value, str) and units != len(data) else 1
        kept = value.encode("utf-16-le") if width == 2 and isinstance(value, str) else data
        locator = self._keep(width, kept)
        chunk, _ = self._chunk(self._stored[locator], 0, min(self._inline_bytes, _FIRST_CHUNK_UNITS))
        return _COLUMN_HEADER.pack(kind, _OPTION_DATA, units, len(data), locator, len(chunk)) + chunk

    def read(self, locator: bytes, offset: int, units: int) -> tuple[bytes, bool]:
        """Return up to `units` units from `offset` (0-based), and whether that was the end."""
        stored = self._stored[locator]
        if offset < 0 or units < 0:
            raise ProtocolError(f"LOB read of {units} units at {offset}")
        return self._chunk(stored, offset, min(units, _MAX_CHUNK_UNITS))

    def __contains__(self, locator: bytes) -> bool:
        return locator in self._stored

    def close(self) -> None:
        """Forget every LOB."""
        self._stored.clear()
        if self._spill is not None:
            self._spill.close()
            self._spill = None

    def _keep(self, width: int, data: bytes) -> bytes:
        locator = struct.pack("<q", self.next_locator)
        self.next_locator += 1
        if len(data) <= self._memory_left:
            self._memory_left -= len(data)
            self._stored[locator] = _Stored(width, len(data), 0, data)
            return locator
        if self._spill is None:
            self._spill = tempfile.TemporaryFile(prefix="hana-lob-")  # noqa: SIM115 - closed by close()
        self._spill.seek(self._spilled)
        self._spill.write(data)
        self._stored[locator] = _Stored(width, len(data), self._spilled, None)
        self._spilled += len(data)
        return locator

    def _chunk(self, stored: _Stored, offset: int, units: int) -> tuple[bytes, bool]:
        start = min(offset * stored.width, stored.size)
        end = min(start + units * stored.width, stored.size)
        raw = self._slice(stored, start, end)
        if stored.width == 1:
            return raw, end >= stored.size
        # A chunk must not end within a surrogate pair; the client asks for the rest from where it stands.
        if end < stored.size and len(raw) > 2 and 0xD8 <= raw[-1] <= 0xDB:
            raw = raw[:-2]
            end -= 2
        return cesu8(raw), end >= stored.size

    def _slice(self, stored: _Stored, start: int, end: int) -> bytes:
        if stored.data is not None:
            return stored.data[start:end]
        if self._spill is None:
            raise RuntimeError("a LOB is read after its result set was closed")
        self._spill.seek(stored.start + start)
        return self._spill.read(end - start)


class LobRead(NamedTuple):
    """What a READLOB asks for: `units` units from `offset`, counted from 0."""

    locator: bytes
    offset: int
    units: int


def read_request(part: Part) -> LobRead:
    """Decode the part of a READLOB message."""
    if len(part.data) < _READ_REQUEST.size:
        raise ProtocolError("READLOB request ends early")
    locator, offset, units = _READ_REQUEST.unpack_from(part.data)
    return LobRead(locator, offset - 1, units)


def read_reply(locator: bytes, chunk: bytes, last: bool) -> Part:
    """Build the part that answers a READLOB."""
    options = _OPTION_DATA | (_OPTION_LAST if last else 0)
    return Part(PartKind.READ_LOB_REPLY, 1, _READ_REPLY.pack(locator, options, len(chunk)) + chunk)


class IncomingLob:
    """A LOB parameter that is still arriving."""

    def __init__(self, code: int, first: bytes) -> None:
        self._binary = code == TypeCode.BLOB
        self._data = bytearray(first)

    def append(self, data: bytes) -> None:
        """Add the next piece."""
        if len(self._data) + len(data) > MAX_LOB_BYTES:
            raise HanaError(274, f"inserted value too large for column: LOB beyond {MAX_LOB_BYTES} bytes")
        self._data += data

    def value(self) -> str | bytes:
        """Return the bytes received so far."""
        data = bytes(self._data)
        return data if self._binary else text_or_bytes(data)


class LobWrite(NamedTuple):
    """One piece of a LOB parameter."""

    locator: bytes
    data: bytes
    last: bool


def write_requests(part: Part) -> list[LobWrite]:
    """Decode the part of a WRITELOB message; pieces always append."""
    writes = []
    position = 0
    for _ in range(part.elements):
        if position + _WRITE_REQUEST.size > len(part.data):
            raise ProtocolError("WRITELOB request ends early")
        locator, options, _, size = _WRITE_REQUEST.unpack_from(part.data, position)
        position += _WRITE_REQUEST.size
        if size < 0 or position + size > len(part.data):
            raise ProtocolError(f"LOB piece of {size} bytes beyond its part")
        data = part.data[position : position + size]
        writes.append(LobWrite(locator, data, bool(options & _OPTION_LAST)))
        position += size
    return writes


def write_reply(open_locators: list[bytes]) -> Part:
    """Build the part that lists the LOB parameters still open."""
    return Part(PartKind.WRITE_LOB_REPLY, len(open_locators), b"".join(open_locators))


def lob_is_last(options: int) -> bool:
    """Whether a LOB parameter arrived in one piece."""
    return bool(options & _OPTION_LAST)
