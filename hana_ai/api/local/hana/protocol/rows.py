"""Result sets as bytes: metadata, and an encoder that is built once for a result's columns.

Rows are encoded column by column: one list comprehension a column without a look at type codes, then one join
that brings the columns back into rows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain, islice
from typing import Any, TypeAlias

import numpy as np

from hana_ai.api.local.hana.interface import Column, HanaError, SqlType, TypeCode, Value
from hana_ai.api.local.hana.protocol import dates
from hana_ai.api.local.hana.protocol.lobs import OutgoingLobs
from hana_ai.api.local.hana.protocol.text import text_bytes
from hana_ai.api.local.hana.protocol.values import (
    FIXED_BYTES,
    LOB_CODES,
    NULL_DECIMAL,
    NULL_LENGTH,
    NamePool,
    clamp_length,
    decimal_bytes,
    length_prefix,
    scaled_integer,
    wire_code,
)
from hana_ai.api.local.hana.protocol.wire import Part, PartKind

Values: TypeAlias = Sequence[Any]
"""The values of one column, in order; each is of the column's Python type or None."""

ColumnEncoder: TypeAlias = Callable[[Values], "list[bytes]"]

_BLOCK_ROWS = 256
_LOB_BLOCK_ROWS = 4
_NUMERIC_OVERFLOW = 314

_COLUMN = struct.Struct("<bbhh2xIIII")
_NOT_NULL = 1
_NULLABLE = 2

_INTEGERS = {
    TypeCode.TINYINT: "<BB",
    TypeCode.SMALLINT: "<Bh",
    TypeCode.INTEGER: "<Bi",
    TypeCode.BIGINT: "<Bq",
}
_FLOATS = {TypeCode.REAL: "<f", TypeCode.DOUBLE: "<d"}
_TEXTS = frozenset({TypeCode.CHAR, TypeCode.VARCHAR, TypeCode.NCHAR, TypeCode.NVARCHAR, TypeCode.SHORTTEXT})
_DATES: dict[TypeCode, tuple[str, Callable[[Any], int], int]] = {
    TypeCode.LONGDATE: ("<q", dates.longdate, dates.NULL_LONGDATE),
    TypeCode.SECONDDATE: ("<q", dates.seconddate, dates.NULL_SECONDDATE),
    TypeCode.DAYDATE: ("<i", dates.daydate, dates.NULL_DAYDATE),
    TypeCode.SECONDTIME: ("<i", dates.secondtime, dates.NULL_SECONDTIME),
}
_NULL_INTEGER = b"\0"
_TRUE, _FALSE, _NULL_BOOLEAN = b"\2", b"\0", b"\1"


def _integers(code: TypeCode) -> ColumnEncoder:
    pack = struct.Struct(_INTEGERS[code]).pack
    return lambda values: [_NULL_INTEGER if v is None else pack(1, v) for v in values]


def _floats(code: TypeCode) -> ColumnEncoder:
    layout = struct.Struct(_FLOATS[code])
    pack, null = layout.pack, b"\xff" * layout.size
    return lambda values: [null if v is None else pack(v) for v in values]


def _moments(code: TypeCode) -> ColumnEncoder:
    layout, number, null = _DATES[code]
    pack = struct.Struct(layout).pack
    null_bytes = pack(null)
    return lambda values: [null_bytes if v is None else pack(number(v)) for v in values]


def _fixed(code: TypeCode, scale: int) -> ColumnEncoder:
    size = FIXED_BYTES[code]

    def encode(values: Values) -> list[bytes]:
        return [
            _NULL_INTEGER if v is None else b"\1" + scaled_integer(v, scale).to_bytes(size, "little", signed=True)
            for v in values
        ]

    return encode


def _decimals(values: Values) -> list[bytes]:
    return [NULL_DECIMAL if v is None else decimal_bytes(v) for v in values]


def _booleans(values: Values) -> list[bytes]:
    return [_NULL_BOOLEAN if v is None else _TRUE if v else _FALSE for v in values]


def _texts(values: Values) -> list[bytes]:
    return [NULL_LENGTH if v is None else length_prefix(len(data := text_bytes(v))) + data for v in values]


def _binaries(values: Values) -> list[bytes]:
    return [NULL_LENGTH if v is None else length_prefix(len(v)) + v for v in values]


def _alphanumerics(declared: int) -> ColumnEncoder:
    # The first byte says how the value was padded: bit 7 for a number, below it the declared length.
    declared = min(declared, 0x7F)

    def encode(values: Values) -> list[bytes]:
        return [
            NULL_LENGTH
            if v is None
            else length_prefix(len(data := text_bytes(v)) + 1)
            + bytes((declared | (0x80 if data.isdigit() else 0),))
            + data
            for v in values
        ]

    return encode


def _vectors(values: Values, layout: str) -> list[bytes]:
    width = np.dtype(layout).itemsize
    headers: dict[int, bytes] = {}
    encoded = []
    for v in values:
        if v is None:
            encoded.append(NULL_LENGTH)
            continue
        vector = np.asarray(v, layout)
        size = vector.size
        header = headers.get(size)
        if header is None:
            header = headers[size] = length_prefix(4 + width * size) + struct.pack("<I", size)
        encoded.append(header + vector.tobytes())
    return encoded


def _lobs(code: TypeCode, lobs: OutgoingLobs) -> ColumnEncoder:
    return lambda values: [lobs.column_value(v, code) for v in values]


@lru_cache(maxsize=256)
def _encoder(declared: SqlType) -> ColumnEncoder:
    code = wire_code(declared)
    if code in _TEXTS:
        return _texts
    if code in _INTEGERS:
        return _integers(code)
    if code in _FLOATS:
        return _floats(code)
    if code in _DATES:
        return _moments(code)
    if code in FIXED_BYTES:
        return _fixed(code, declared.scale)
    if code is TypeCode.DECIMAL:
        return _decimals
    if code is TypeCode.BOOLEAN:
        return _booleans
    if code is TypeCode.ALPHANUM:
        return _alphanumerics(declared.length)
    if code is TypeCode.REAL_VECTOR:
        return partial(_vectors, layout="<f4")
    if code is TypeCode.HALF_VECTOR:
        return partial(_vectors, layout="<f2")
    return _binaries


class RowEncoder:
    """Encodes rows of one result set.

    Parameters
    ----------
    columns : tuple of Column
        The columns, in order.
    lobs : OutgoingLobs
        Takes the LOBs that are too long for a row.
    """

    def __init__(self, columns: tuple[Column, ...], lobs: OutgoingLobs) -> None:
        self._encoders = [
            _lobs(column.type.code, lobs) if column.type.code in LOB_CODES else _encoder(column.type)
            for column in columns
        ]
        has_lobs = any(column.type.code in LOB_CODES for column in columns)
        self.block_rows = _LOB_BLOCK_ROWS if has_lobs else _BLOCK_ROWS

    def encode(self, rows: Sequence[Sequence[Value]]) -> bytes:
        """Encode rows, one after the other.

        Raises
        ------
        HanaError
            Code 314 when a number does not fit its column's type.
        """
        if not rows:
            return b""
        try:
            if len(self._encoders) == 1:
                return b"".join(self._encoders[0]([row[0] for row in rows]))
            columns = zip(*rows, strict=True)
            encoded = [encode(values) for encode, values in zip(self._encoders, columns, strict=True)]
        except (struct.error, OverflowError) as error:
            raise HanaError(_NUMERIC_OVERFLOW, f"numeric overflow: {error}") from error
        return b"".join(chain.from_iterable(zip(*encoded, strict=True)))


class ResultCursor:
    """An open result set: rows that the client has not fetched, and LOBs it may still read."""

    def __init__(self, columns: tuple[Column, ...], rows: Iterator[Sequence[Value]]) -> None:
        self.lobs = OutgoingLobs()
        self._rows = rows
        self._encoder = RowEncoder(columns, self.lobs)
        self._ahead: list[Sequence[Value]] = []
        self.finished = False

    def page(self, max_rows: int, max_bytes: int) -> tuple[int, bytes]:
        """Encode the next rows, at most `max_rows` and about `max_bytes`, at least one if any is left.

        Sets `finished` when no row is left after them.
        """
        pieces = []
        count = size = 0
        block_rows = self._encoder.block_rows
        while count < max_rows and size < max_bytes:
            # One extra row shows whether this page is the last.
            wanted = min(block_rows, max_rows - count)
            block = self._ahead
            block.extend(islice(self._rows, wanted + 1 - len(block)))
            self._ahead = block[wanted:]
            del block[wanted:]
            data = self._encoder.encode(block)
            pieces.append(data)
            count += len(block)
            size += len(data)
            if not self._ahead:
                self.finished = True
                break
        return count, b"".join(pieces)

    def close(self) -> None:
        """Release the rows and LOBs."""
        close = getattr(self._rows, "close", None)
        if close is not None:
            close()
        self._rows = iter(())
        self._ahead = []
        self.finished = True
        self.lobs.close()


@lru_cache(maxsize=256)
def metadata_part(columns: tuple[Column, ...]) -> Part:
    """Describe the columns of a result set."""
    names = NamePool()
    records = []
    for column in columns:
        name = names.offset(column.name)
        records.append(
            _COLUMN.pack(
                _NULLABLE if column.nullable else _NOT_NULL,
                wire_code(column.type),
                column.type.scale,
                clamp_length(column.type.length),
                names.offset(column.table),
                names.offset(column.schema),
                name,
                name,
            )
        )
    return Part(PartKind.RESULT_SET_METADATA, len(columns), b"".join(records) + names.data())
