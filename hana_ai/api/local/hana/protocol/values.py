"""Single values as bytes: decimals, vectors, names and the length that goes before them.

Columns are encoded by `rows`, parameters decoded by `parameters`; both build on what is here.
"""

from __future__ import annotations

import struct
from decimal import ROUND_HALF_UP, Context, Decimal

import numpy as np

from hana_ai.api.local.hana.interface import HanaError, SqlType, TypeCode, Vector
from hana_ai.api.local.hana.protocol.wire import ProtocolError

FLOATING_SCALE = 0x7FFF
"""The scale of a DECIMAL without declared digits."""

NULL_LENGTH = b"\xff"
"""Length indicator of a NULL text or binary."""

NULL_DECIMAL = bytes(15) + b"\x70"

LOB_CODES = frozenset({TypeCode.CLOB, TypeCode.NCLOB, TypeCode.BLOB, TypeCode.TEXT})
FIXED_BYTES = {TypeCode.FIXED8: 8, TypeCode.FIXED12: 12, TypeCode.FIXED16: 16}

_LONGEST_TINY = 245
_TINY = tuple(bytes((n,)) for n in range(_LONGEST_TINY + 1))
_LENGTH_SHORT = struct.Struct("<Bh")
_LENGTH_LONG = struct.Struct("<Bi")
_INDICATOR_SHORT = 0xF6
_INDICATOR_LONG = 0xF7
_INDICATOR_NULL = 0xFF

_MANTISSA_BITS = 113
_MANTISSA = (1 << _MANTISSA_BITS) - 1
_EXPONENT_BIAS = 6176
_EXPONENT = 0x3FFF
_LARGEST_EXPONENT = 6111
_SIGN = 1 << 127
_FLOATING = Context(prec=34, rounding=ROUND_HALF_UP)
_EXACT = Context(prec=80, rounding=ROUND_HALF_UP)


def wire_code(declared: SqlType) -> TypeCode:
    """Return the wire's code for a type: a DECIMAL of declared precision is a scaled integer."""
    if declared.code is not TypeCode.DECIMAL or declared.scale == FLOATING_SCALE or not declared.length:
        return declared.code
    if declared.length <= 18:
        return TypeCode.FIXED8
    return TypeCode.FIXED12 if declared.length <= 28 else TypeCode.FIXED16


def length_prefix(size: int) -> bytes:
    """Return the length indicator of a text or binary of `size` bytes."""
    if size <= _LONGEST_TINY:
        return _TINY[size]
    if size <= 0x7FFF:
        return _LENGTH_SHORT.pack(_INDICATOR_SHORT, size)
    return _LENGTH_LONG.pack(_INDICATOR_LONG, size)


def prefixed(data: bytes) -> bytes:
    """Prefix bytes with their length indicator."""
    return length_prefix(len(data)) + data


def take_prefixed(data: bytes, position: int) -> tuple[bytes | None, int]:
    """Read length-prefixed bytes; return them and the position after them."""
    size = data[position]
    position += 1
    if size > _LONGEST_TINY:
        if size == _INDICATOR_NULL:
            return None, position
        if size == _INDICATOR_SHORT:
            size = data[position] | data[position + 1] << 8
            position += 2
        elif size == _INDICATOR_LONG:
            size = int.from_bytes(data[position : position + 4], "little")
            position += 4
        else:
            raise ProtocolError(f"length indicator {size}")
    end = position + size
    if end > len(data):
        raise ProtocolError(f"value of {size} bytes beyond its part")
    return data[position:end], end


def decimal_bytes(value: Decimal | float) -> bytes:
    """Encode a floating DECIMAL; more than 34 digits are rounded.

    Raises
    ------
    HanaError
        Code 314 for infinities and NaN, which HANA's decimals do not have.
    """
    number = _FLOATING.create_decimal(value if isinstance(value, (Decimal, int)) else repr(float(value)))
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or not -_EXPONENT_BIAS <= exponent <= _LARGEST_EXPONENT:
        raise HanaError(314, f"numeric overflow: {value}")
    mantissa = int(_EXACT.scaleb(number, -exponent))
    sign = _SIGN if number.is_signed() else 0
    biased = (exponent + _EXPONENT_BIAS) << _MANTISSA_BITS
    return (abs(mantissa) | biased | sign).to_bytes(16, "little")


def decimal_value(data: bytes) -> Decimal | None:
    """Decode the 16 bytes of a floating DECIMAL."""
    if data[15] & 0x70 == 0x70:
        return None
    number = int.from_bytes(data, "little")
    mantissa = number & _MANTISSA
    exponent = (number >> _MANTISSA_BITS & _EXPONENT) - _EXPONENT_BIAS
    return _EXACT.scaleb(Decimal(-mantissa if number & _SIGN else mantissa), exponent)


def scaled_integer(value: Decimal | float, scale: int) -> int:
    """Return a number times `10**scale`, rounded half up, as FIXED types carry it."""
    if isinstance(value, int):
        shift: int = 10**scale
        return value * shift
    number = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    if not number.is_finite():
        raise HanaError(314, f"numeric overflow: {value}")
    scaled: Decimal = _EXACT.scaleb(number, scale)
    return int(scaled.to_integral_value(ROUND_HALF_UP))


def unscaled(number: int, scale: int) -> Decimal:
    """Return the number that a FIXED integer encodes."""
    return _EXACT.scaleb(Decimal(number), -scale)


def vector_value(data: bytes, half: bool) -> Vector:
    """Read a vector: its dimension, then as many numbers of 4 bytes (or 2 in a HALF_VECTOR).

    Raises
    ------
    HanaError
        Code 266 when the length does not fit the dimension.
    """
    dimension = int.from_bytes(data[:4], "little")
    rest = len(data) - 4
    if rest == 4 * dimension and rest > 0:
        return np.frombuffer(data, "<f4", offset=4)
    if half and rest == 2 * dimension and rest > 0:
        return np.frombuffer(data, "<f2", offset=4).astype(np.float32)
    raise HanaError(266, f"inconsistent datatype: {len(data)} bytes are no vector of dimension {dimension}")


def clamp_length(length: int) -> int:
    """Return a declared length as the 16 bits of metadata hold it."""
    return min(length, 0x7FFF)


class NamePool:
    """The names that the records of a metadata part refer to, each stored once."""

    _NONE = 0xFFFFFFFF
    _LONGEST = 255

    def __init__(self) -> None:
        self._offsets: dict[str, int] = {}
        self._pieces: list[bytes] = []
        self._size = 0

    def offset(self, name: str | None) -> int:
        """Return a name's offset, adding the name if it is new."""
        if name is None:
            return self._NONE
        offset = self._offsets.get(name)
        if offset is None:
            data = name.encode()
            if len(data) > self._LONGEST:
                data = data[: self._LONGEST].decode("utf-8", "ignore").encode()
            offset = self._offsets[name] = self._size
            self._pieces.append(bytes((len(data),)) + data)
            self._size += len(data) + 1
        return offset

    def data(self) -> bytes:
        """Return the pool."""
        return b"".join(self._pieces)
