"""Values as they come from the client, checked and converted to what DuckDB gets; and the way back."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation

import numpy as np

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.interface import HanaError, SqlType, TypeCode, Value, Vector
from hana_ai.api.local.hana.translation.conversions import utf16_length
from hana_ai.api.local.hana.translation.functions.vectors import vector_of_text

_RANGES = {
    TypeCode.TINYINT: (0, 255),
    TypeCode.SMALLINT: (-(2**15), 2**15 - 1),
    TypeCode.INTEGER: (-(2**31), 2**31 - 1),
    TypeCode.BIGINT: (-(2**63), 2**63 - 1),
}
_FLOATING_DIGITS = Decimal(10) ** 26
_WIDE = Context(prec=80)
"""Python's own context rounds to 28 digits; HANA has up to 38."""
_TWELVE_PLACES = Decimal("0.000000000001")
_SECONDS_FORM = re.compile(
    r"(\d{1,4})-(\d{1,2})-(\d{1,2})(?:[T ](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,9}))?)?)?$"
)
_COMPACT_FORM = re.compile(r"(\d{4})(\d{2})(\d{2})(?:(\d{2})(\d{2})(\d{2}))?$")
_TIME_FORM = re.compile(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.\d+)?)?$")


def _number(value: Value, code: int = 339) -> Decimal:
    if isinstance(value, bool):
        return Decimal(int(value))
    try:
        if isinstance(value, int | Decimal):
            return Decimal(value)
        if isinstance(value, float):
            return Decimal(repr(value))
        if isinstance(value, str):
            found = Decimal(value.strip())
            if found.is_finite():
                return found
    except (InvalidOperation, ValueError):
        pass  # The error below tells the caller.
    raise HanaError(code, f"invalid number: {repr(value)[:40]}")


def _integer(value: Value, kind: SqlType) -> int:
    if type(value) is int:
        number = value
    else:
        exact = _number(value)
        if not exact.is_finite():
            raise HanaError(314, f"numeric overflow: {exact}")
        number = int(exact)
    low, high = _RANGES[kind.code]
    if not low <= number <= high:
        raise HanaError(314, f"numeric overflow: {number} does not fit into {kind.name}")
    return number


def _decimal(value: Value, kind: SqlType) -> Decimal:
    number = _number(value)
    if not number.is_finite():
        raise HanaError(314, f"numeric overflow: {number}")
    if kind.scale == types.FLOATING:
        if number.copy_abs() >= _FLOATING_DIGITS:
            raise HanaError(314, f"numeric overflow: {number}")
        digits = -int(number.as_tuple().exponent)
        return number.quantize(_TWELVE_PLACES, ROUND_HALF_UP, _WIDE) if digits > 12 else number
    if number.copy_abs() >= Decimal(10) ** (kind.length - kind.scale):
        raise HanaError(314, f"numeric overflow: {number} does not fit into {types.shown(kind)}")
    if -int(number.as_tuple().exponent) > kind.scale:
        number = number.quantize(Decimal(1).scaleb(-kind.scale), ROUND_HALF_UP, _WIDE)
    return number


def _float(value: Value, kind: SqlType) -> float:
    if type(value) is float:
        return value
    if isinstance(value, int | float):
        return float(value)
    return float(_number(value))


def _boolean(value: Value, kind: SqlType) -> bool:
    if isinstance(value, bool | int | float):
        return bool(value)
    word = str(value).strip().upper()
    if word in {"TRUE", "T", "1", "YES", "ON"}:
        return True
    if word in {"FALSE", "F", "0", "NO", "OFF"}:
        return False
    raise HanaError(339, f"invalid number: {value!r} is no BOOLEAN")


def _text(value: Value, kind: SqlType) -> str:
    if isinstance(value, str):
        text = value
    elif isinstance(value, bytes):
        text = value.decode("utf-8", "replace")
    elif isinstance(value, bool):
        text = "1" if value else "0"
    elif isinstance(value, float):
        text = repr(value).removesuffix(".0")
    elif isinstance(value, datetime):
        text = value.strftime("%Y-%m-%d %H:%M:%S.%f") + "0"
    elif isinstance(value, np.ndarray):
        raise HanaError(266, "inconsistent datatype: a vector cannot become a text")
    else:
        text = str(value)
    if kind.code not in types.LOBS and len(text) * 2 > kind.length and utf16_length(text) > kind.length:
        raise HanaError(
            274, f"inserted value too large for column: {utf16_length(text)} characters, {types.shown(kind)}"
        )
    return text


def _wrong_date(value: Value) -> HanaError:
    return HanaError(303, f"invalid DATE, TIME or TIMESTAMP value: {value!r}")


def parse_timestamp(text: str) -> datetime:
    """A timestamp in one of HANA's default forms.

    Raises
    ------
    HanaError
        303.
    """
    found = _SECONDS_FORM.match(text.strip()) or _COMPACT_FORM.match(text.strip())
    if found is None:
        raise _wrong_date(text)
    parts = found.groups()
    fraction = parts[6] if len(parts) > 6 and parts[6] else "0"
    try:
        year, month, day, hour, minute, second = (int(part or 0) for part in parts[:6])
        return datetime(year, month, day, hour, minute, second, int(fraction[:6].ljust(6, "0")))
    except ValueError:
        raise _wrong_date(text) from None


def _timestamp(value: Value, kind: SqlType) -> datetime:
    if isinstance(value, datetime):
        found = value.replace(tzinfo=None)
    elif isinstance(value, date):
        found = datetime(value.year, value.month, value.day)
    elif isinstance(value, str):
        found = parse_timestamp(value)
    else:
        raise _wrong_date(value)
    return found.replace(microsecond=0) if kind.code == TypeCode.SECONDDATE else found


def _date(value: Value, kind: SqlType) -> date:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    if isinstance(value, str):
        return parse_timestamp(value).date()
    raise _wrong_date(value)


def _time(value: Value, kind: SqlType) -> time:
    if isinstance(value, time):
        return value.replace(microsecond=0, tzinfo=None)
    if isinstance(value, datetime):
        return value.time().replace(microsecond=0)
    if isinstance(value, str):
        found = _TIME_FORM.match(value.strip())
        if found:
            try:
                hour, minute, second = (int(part or 0) for part in found.groups())
                return time(hour, minute, second)
            except ValueError:
                raise _wrong_date(value) from None
        return parse_timestamp(value).time().replace(microsecond=0)
    raise _wrong_date(value)


def _binary(value: Value, kind: SqlType) -> bytes:
    if isinstance(value, str):
        found = value.encode()
    elif isinstance(value, bytes | bytearray | memoryview):
        found = bytes(value)
    elif isinstance(value, np.ndarray):
        found = struct.pack("<I", len(value)) + value.astype("<f4").tobytes()
    else:
        raise HanaError(266, f"inconsistent datatype: {type(value).__name__} cannot become {kind.name}")
    if kind.code not in types.LOBS and len(found) > kind.length:
        raise HanaError(274, f"inserted value too large for column: {len(found)} bytes, {types.shown(kind)}")
    return found


def vector_of(value: Value, half: bool) -> Vector:
    """A vector from fvecs bytes, text or numbers; rounded to half precision if asked."""
    if isinstance(value, np.ndarray):
        found = value.astype(np.float32, copy=False)
    elif isinstance(value, bytes | bytearray | memoryview):
        found = _fvecs(bytes(value))
    elif isinstance(value, str):
        found = np.array(vector_of_text(value), dtype=np.float32)
    elif isinstance(value, list | tuple):
        found = np.array(value, dtype=np.float32)
    else:
        raise HanaError(266, f"inconsistent datatype: {type(value).__name__} is not a vector")
    if half:
        with np.errstate(over="ignore"):
            found = found.astype(np.float16).astype(np.float32)
    # The sum of a vector with Inf or NaN is neither finite; asking each number costs more than all the rest.
    if not math.isfinite(float(found.sum())) and not np.isfinite(found).all():
        raise HanaError(314, "numeric overflow: a vector holds finite numbers only")
    return found


def _fvecs(data: bytes) -> Vector:
    if len(data) >= 4:
        count = int.from_bytes(data[:4], "little")
        if len(data) == 4 + 4 * count and count:
            return np.frombuffer(data, dtype="<f4", offset=4)
        if len(data) == 4 + 2 * count and count:
            return np.frombuffer(data, dtype="<f2", offset=4).astype(np.float32)
        try:
            # A LOB's text arrives as bytes.
            return np.array(vector_of_text(data.decode()), dtype=np.float32)
        except UnicodeDecodeError:
            pass  # The error below tells the caller.
    raise HanaError(339, "invalid number: the bytes are not a vector (fvecs)")


def _vector(value: Value, kind: SqlType) -> Vector:
    found = vector_of(value, kind.code == TypeCode.HALF_VECTOR)
    if kind.length and len(found) != kind.length:
        raise HanaError(
            2048, f"column store error: vector dimension mismatch: expected {kind.length}, got {len(found)}"
        )
    return found


_CONVERTERS: dict[TypeCode, Callable[[Value, SqlType], Value]] = {
    **dict.fromkeys(types.INTEGERS, _integer),
    **dict.fromkeys(types.DECIMALS, _decimal),
    **dict.fromkeys(types.FLOATS, _float),
    **dict.fromkeys(types.STRINGS, _text),
    **dict.fromkeys(types.BINARIES, _binary),
    **dict.fromkeys(types.VECTORS, _vector),
    TypeCode.BOOLEAN: _boolean,
    TypeCode.DAYDATE: _date,
    TypeCode.SECONDTIME: _time,
    TypeCode.SECONDDATE: _timestamp,
    TypeCode.LONGDATE: _timestamp,
}


def vectors_of(values: Sequence[Value], dimension: int) -> list[Vector] | None:
    """The vectors of some rows at once, where all are of the column's dimension, 0 being any; else None.

    One look at all numbers takes a tenth of the time of a look at each vector; what is out of the ordinary is left
    to `vector_of`, which says what is wrong with it.
    """
    found = [value for value in values if isinstance(value, np.ndarray) and value.dtype == np.float32]
    if len(found) < len(values) or (dimension and set(map(len, found)) != {dimension}):
        return None
    return found if np.isfinite(np.concatenate(found)).all() else None


def is_plain(values: Sequence[Value], kind: SqlType) -> bool:
    """Whether all values of a column are what they would be converted to; False where only a closer look tells."""
    found = set(map(type, values)) - {type(None)}
    if found == {float}:
        return kind.code in types.FLOATS
    if found != {str} or kind.code not in types.STRINGS:
        return False
    return (
        kind.code in types.LOBS or 2 * max(len(value) for value in values if isinstance(value, str)) <= kind.length
    )


def converter(kind: SqlType, half: bool | None = None) -> Callable[[Value], Value]:
    """A function that checks and converts values for a parameter of this type.

    `half` is not None for the parameters of TO_REAL_VECTOR (False) and TO_HALF_VECTOR (True), whose declared type
    is NCLOB.
    """
    if half is not None:
        return lambda value: None if value is None else vector_of(value, half)
    convert = _CONVERTERS[kind.code]
    return lambda value: None if value is None else convert(value, kind)


def for_duckdb(value: object) -> object:
    """A converted value as DuckDB takes it as a single parameter."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def _vector_out(value: Value) -> Value:
    return None if value is None else np.array(value, dtype=np.float32)


def _decimal_out(value: Value) -> Value:
    if not isinstance(value, Decimal):
        return value
    found = value.normalize(_WIDE)
    return found.quantize(Decimal(1), context=_WIDE) if int(found.as_tuple().exponent) > 0 else found


def _moment_out(value: Value) -> Value:
    if isinstance(value, str):
        # What Python has no object for, DuckDB gives as text.
        raise HanaError(314, f"numeric overflow: {value} is outside 0001-01-01 to 9999-12-31")
    return value


def output_converters(kinds: Sequence[SqlType]) -> list[tuple[int, Callable[[Value], Value]]]:
    """Which columns of a result need a conversion, and which."""
    found: list[tuple[int, Callable[[Value], Value]]] = []
    for index, kind in enumerate(kinds):
        if types.is_vector(kind):
            found.append((index, _vector_out))
        elif kind.code in types.DECIMALS and kind.scale == types.FLOATING:
            found.append((index, _decimal_out))
        elif kind.code in types.DATETIMES:
            found.append((index, _moment_out))
    return found
