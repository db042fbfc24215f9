"""Parameter rows from bytes, and the metadata that tells a client what to send.

Every value carries its own type byte, which need not be the declared one; the declared type only says the
scale of a decimal and which binaries are vectors.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from hana_ai.api.local.hana.interface import Parameter, TypeCode, Value
from hana_ai.api.local.hana.protocol import dates
from hana_ai.api.local.hana.protocol.lobs import IncomingLob, lob_is_last
from hana_ai.api.local.hana.protocol.text import text_or_bytes
from hana_ai.api.local.hana.protocol.values import (
    FIXED_BYTES,
    LOB_CODES,
    NamePool,
    clamp_length,
    decimal_value,
    take_prefixed,
    unscaled,
    vector_value,
    wire_code,
)
from hana_ai.api.local.hana.protocol.wire import Part, PartKind, ProtocolError

ParameterRow: TypeAlias = "list[Value | IncomingLob]"
"""One row; a LOB that is still arriving is an `IncomingLob`."""

_Decoded: TypeAlias = "tuple[Value, int]"
"""A value and where the next one begins."""

_Decoder: TypeAlias = Callable[[bytes, int], _Decoded]

_NULL_BIT = 0x80
_TYPE_STRING, _TYPE_NSTRING, _TYPE_BINARY_STRING = 29, 30, 33
_PARAMETER = struct.Struct("<bbbxIhh4x")
_MANDATORY = 1
_NULLABLE = 2
_MODES = {"IN": 1, "INOUT": 2, "OUT": 4}
_LOB_DESCRIPTOR = struct.Struct("<Bii")
_DECIMAL_BYTES = 16


class _LobField(NamedTuple):
    """A LOB within its row; its bytes are at `start` of the part."""

    column: int
    code: int
    options: int
    size: int
    start: int


def _fixed_size(layout: str, convert: Callable[[int], Value] | None = None) -> _Decoder:
    reader = struct.Struct(layout)
    unpack, size = reader.unpack_from, reader.size

    def plain(data: bytes, position: int) -> _Decoded:
        return unpack(data, position)[0], position + size

    if convert is None:
        return plain

    def converted(data: bytes, position: int) -> _Decoded:
        return convert(unpack(data, position)[0]), position + size

    return converted


def _boolean(data: bytes, position: int) -> _Decoded:
    value = data[position]
    return None if value == 1 else value == 2, position + 1


def _decimal(data: bytes, position: int) -> _Decoded:
    end = position + _DECIMAL_BYTES
    if end > len(data):
        raise ProtocolError("DECIMAL beyond its part")
    return decimal_value(data[position:end]), end


def _text(data: bytes, position: int) -> _Decoded:
    raw, position = take_prefixed(data, position)
    return None if raw is None else text_or_bytes(raw), position


_DECODERS: dict[int, _Decoder] = {
    TypeCode.TINYINT: _fixed_size("<B"),
    TypeCode.SMALLINT: _fixed_size("<h"),
    TypeCode.INTEGER: _fixed_size("<i"),
    TypeCode.BIGINT: _fixed_size("<q"),
    TypeCode.REAL: _fixed_size("<f"),
    TypeCode.DOUBLE: _fixed_size("<d"),
    TypeCode.BOOLEAN: _boolean,
    TypeCode.DECIMAL: _decimal,
    TypeCode.LONGDATE: _fixed_size("<q", dates.longdate_value),
    TypeCode.SECONDDATE: _fixed_size("<q", dates.seconddate_value),
    TypeCode.DAYDATE: _fixed_size("<i", dates.daydate_value),
    TypeCode.SECONDTIME: _fixed_size("<i", dates.secondtime_value),
    **dict.fromkeys(
        (
            TypeCode.CHAR,
            TypeCode.VARCHAR,
            TypeCode.NCHAR,
            TypeCode.NVARCHAR,
            TypeCode.SHORTTEXT,
            TypeCode.ALPHANUM,
            _TYPE_STRING,
            _TYPE_NSTRING,
        ),
        _text,
    ),
    **dict.fromkeys(
        (
            TypeCode.BINARY,
            TypeCode.VARBINARY,
            TypeCode.REAL_VECTOR,
            TypeCode.HALF_VECTOR,
            _TYPE_BINARY_STRING,
        ),
        take_prefixed,
    ),
}
_DECODER_OF_CODE = [_DECODERS.get(code) for code in range(_NULL_BIT)]
_FIXED_BYTES_OF_CODE = {int(code): size for code, size in FIXED_BYTES.items()}


def decode_rows(data: bytes, count: int, parameters: Sequence[Parameter]) -> list[ParameterRow]:
    """Decode the rows of a PARAMETERS part.

    Raises
    ------
    ProtocolError
        When the bytes do not hold `count` rows of these parameters.
    HanaError
        When a value is of the right form but impossible, such as a day after 9999-12-31.
    """
    if not parameters and count > 1:
        # Such rows take no bytes, so the count alone could make a list of any length.
        raise ProtocolError(f"{count} rows for a statement without parameters")
    declared = [parameter.type for parameter in parameters]
    vectors = {
        index: kind.code is TypeCode.HALF_VECTOR
        for index, kind in enumerate(declared)
        if kind.code in (TypeCode.REAL_VECTOR, TypeCode.HALF_VECTOR)
    }
    decoders = _DECODER_OF_CODE
    rows: list[ParameterRow] = []
    position = 0
    try:
        for _ in range(count):
            row: ParameterRow = []
            lobs: list[_LobField] = []
            for kind in declared:
                code = data[position]
                position += 1
                if code >= _NULL_BIT:
                    row.append(None)
                    continue
                decode = decoders[code]
                if decode is not None:
                    value, position = decode(data, position)
                    row.append(value)
                elif code in _FIXED_BYTES_OF_CODE:
                    end = position + _FIXED_BYTES_OF_CODE[code]
                    if end > len(data):
                        raise ProtocolError("FIXED beyond its part")
                    row.append(unscaled(int.from_bytes(data[position:end], "little", signed=True), kind.scale))
                    position = end
                elif code in LOB_CODES:
                    options, size, start = _LOB_DESCRIPTOR.unpack_from(data, position)
                    position += _LOB_DESCRIPTOR.size
                    lobs.append(_LobField(len(row), code, options, size, start))
                    row.append(None)
                else:
                    raise ProtocolError(f"parameter of type {code}")
            if lobs:
                position = _take_lobs(data, position, row, lobs)
            for index, half in vectors.items():
                raw = row[index]
                if isinstance(raw, bytes):
                    row[index] = vector_value(raw, half)
            rows.append(row)
    except (IndexError, struct.error) as error:
        raise ProtocolError("parameters end early") from error
    return rows


def _take_lobs(data: bytes, position: int, row: ParameterRow, lobs: Sequence[_LobField]) -> int:
    """Fill in the LOBs of a row, whose bytes follow it; return where the next row starts."""
    for column, code, options, size, start in lobs:
        # LOBs may not overlap: descriptors of ten bytes could otherwise multiply one piece of data.
        if size < 0 or (size and not position <= start <= len(data) - size):
            raise ProtocolError(f"LOB of {size} bytes at {start} beyond its part")
        raw = data[start : start + size] if size else b""
        position = start + size if size else position
        if not lob_is_last(options):
            row[column] = IncomingLob(code, raw)
        else:
            row[column] = raw if code == TypeCode.BLOB else text_or_bytes(raw)
    return position


@lru_cache(maxsize=256)
def metadata_part(parameters: tuple[Parameter, ...]) -> Part:
    """Describe the parameters of a prepared statement."""
    names = NamePool()
    nowhere = names.offset(None)
    records = [
        _PARAMETER.pack(
            _NULLABLE if parameter.nullable else _MANDATORY,
            wire_code(parameter.type),
            _MODES[parameter.mode],
            nowhere if parameter.name is None else names.offset(parameter.name),
            clamp_length(parameter.type.length),
            parameter.type.scale,
        )
        for parameter in parameters
    ]
    return Part(PartKind.PARAMETER_METADATA, len(parameters), b"".join(records) + names.data())
