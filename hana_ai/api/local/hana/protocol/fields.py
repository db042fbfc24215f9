"""The small containers inside parts: option lists, field lists and the strings of CLIENTINFO."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from hana_ai.api.local.hana.protocol.wire import ProtocolError

Option: TypeAlias = "bool | int | float | str | bytes"

_TYPE_TINYINT = 1
_TYPE_INT = 3
_TYPE_BIGINT = 4
_TYPE_DOUBLE = 7
_TYPE_BOOLEAN = 28
_TYPE_STRING = 29
_TYPE_BINARY_STRING = 33

_FIXED_OPTIONS = {
    _TYPE_TINYINT: struct.Struct("<B"),
    _TYPE_INT: struct.Struct("<i"),
    _TYPE_BIGINT: struct.Struct("<q"),
    _TYPE_DOUBLE: struct.Struct("<d"),
    _TYPE_BOOLEAN: struct.Struct("<?"),
}
_LONGEST_SHORT_FIELD = 250
_LONG_FIELD = 0xFF


def encode_options(options: Mapping[int, Option]) -> bytes:
    """Encode an option list: key, type and value of each."""
    pieces = []
    for key, value in options.items():
        if isinstance(value, bool):
            pieces.append(struct.pack("<BB?", key, _TYPE_BOOLEAN, value))
        elif isinstance(value, int):
            pieces.append(struct.pack("<BBi", key, _TYPE_INT, value))
        elif isinstance(value, float):
            pieces.append(struct.pack("<BBd", key, _TYPE_DOUBLE, value))
        else:
            kind = _TYPE_STRING if isinstance(value, str) else _TYPE_BINARY_STRING
            data = value.encode() if isinstance(value, str) else value
            pieces.append(struct.pack("<BBh", key, kind, len(data)) + data)
    return b"".join(pieces)


def decode_options(data: bytes, count: int) -> dict[int, Option]:
    """Decode an option list of `count` entries."""
    options: dict[int, Option] = {}
    position = 0
    for _ in range(count):
        if position + 2 > len(data):
            raise ProtocolError("option list ends early")
        key, kind = data[position], data[position + 1]
        position += 2
        fixed = _FIXED_OPTIONS.get(kind)
        if fixed is not None:
            if position + fixed.size > len(data):
                raise ProtocolError("option ends early")
            options[key] = fixed.unpack_from(data, position)[0]
            position += fixed.size
        elif kind in (_TYPE_STRING, _TYPE_BINARY_STRING):
            raw, position = _take(data, position + 2, int.from_bytes(data[position : position + 2], "little"))
            options[key] = raw.decode("utf-8", "replace") if kind == _TYPE_STRING else raw
        else:
            raise ProtocolError(f"option of type {kind}")
    return options


def encode_fields(fields: Sequence[bytes]) -> bytes:
    """Encode the field list of an AUTHENTICATION part."""
    pieces = [struct.pack("<H", len(fields))]
    for item in fields:
        if len(item) <= _LONGEST_SHORT_FIELD:
            pieces.append(bytes((len(item),)))
        else:
            pieces.append(struct.pack(">BH", _LONG_FIELD, len(item)))
        pieces.append(item)
    return b"".join(pieces)


def decode_fields(data: bytes) -> list[bytes]:
    """Decode the field list of an AUTHENTICATION part."""
    if len(data) < 2:
        raise ProtocolError("field list without a count")
    count = int.from_bytes(data[:2], "little")
    fields = []
    position = 2
    for _ in range(count):
        if position >= len(data):
            raise ProtocolError("field list ends early")
        size = data[position]
        position += 1
        if size == _LONG_FIELD:
            if position + 2 > len(data):
                raise ProtocolError("field list ends early")
            size = int.from_bytes(data[position : position + 2], "big")
            position += 2
        elif size > _LONGEST_SHORT_FIELD:
            raise ProtocolError(f"field length indicator {size}")
        item, position = _take(data, position, size)
        fields.append(item)
    return fields


def decode_client_info(data: bytes) -> dict[str, str]:
    """Decode CLIENTINFO: alternating keys and values, each with a length of one byte (or 0xF6 and two)."""
    strings = []
    position = 0
    while position < len(data):
        size = data[position]
        position += 1
        if size == 0xF6:
            size = int.from_bytes(data[position : position + 2], "little")
            position += 2
        item, position = _take(data, position, size)
        strings.append(item.decode("utf-8", "replace"))
    if len(strings) % 2:
        raise ProtocolError("CLIENTINFO with a key that has no value")
    return dict(zip(strings[::2], strings[1::2], strict=True))


def _take(data: bytes, position: int, size: int) -> tuple[bytes, int]:
    end = position + size
    if end > len(data):
        raise ProtocolError(f"{size} bytes announced, {len(data) - position} there")
    return data[position:end], end
