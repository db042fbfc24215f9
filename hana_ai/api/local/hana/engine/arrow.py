"""Hand many parameter rows to DuckDB at once, through the Arrow C data interface.

Binding values one by one costs a microsecond for each number: 1,000 vectors of 384 dimensions would take a second.
DuckDB also reads any object with `__arrow_c_stream__`; the structures behind it are a page of ctypes, which saves
the local extra a dependency of 40 MB. Layouts: https://arrow.apache.org/docs/format/CDataInterface.html
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from typing import Any, TypeAlias

import duckdb
import numpy as np
from numpy.typing import NDArray

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.interface import SqlType, TypeCode
from hana_ai.api.local.hana.translation.scope import Parameters

BATCH_ROWS = "batch_rows"
"""The relation of a batch's parameter rows."""

_Values: TypeAlias = Sequence[Any]
"""The values of one column, each of its Python type or None."""

_EPOCH = date(1970, 1, 1).toordinal()


class _Schema(ctypes.Structure):
    pass


class _Array(ctypes.Structure):
    pass


class _Stream(ctypes.Structure):
    pass


_ReleaseSchema = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Schema))
_ReleaseArray = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Array))
_ReleaseStream = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Stream))
_GetSchema = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Stream), ctypes.POINTER(_Schema))
_GetNext = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Stream), ctypes.POINTER(_Array))
_GetError = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.POINTER(_Stream))

_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(_Schema))),
    ("dictionary", ctypes.POINTER(_Schema)),
    ("release", _ReleaseSchema),
    ("private_data", ctypes.c_void_p),
]
_Array._fields_ = [
    ("length", ctypes.c_int64), ("null_count", ctypes.c_int64), ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64), ("n_children", ctypes.c_int64), ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))), ("dictionary", ctypes.POINTER(_Array)),
    ("release", _ReleaseArray), ("private_data", ctypes.c_void_p),
]  # fmt: skip
_Stream._fields_ = [
    ("get_schema", _GetSchema), ("get_next", _GetNext), ("get_last_error", _GetError), ("release", _ReleaseStream),
    ("private_data", ctypes.c_void_p),
]  # fmt: skip


def _released(kind: Callable[[], object]) -> Callable[[Any], None]:
    def release(pointer: Any) -> None:
        # Python owns the memory; an empty callback is how Arrow marks a structure as given back.
        pointer.contents.release = kind()

    return release


_release_schema = _ReleaseSchema(_released(_ReleaseSchema))
_release_array = _ReleaseArray(_released(_ReleaseArray))
_release_stream = _ReleaseStream(_released(_ReleaseStream))
_no_error = _GetError(lambda pointer: b"")

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class Table:
    """Columns of equal length that DuckDB can scan.

    Parameters
    ----------
    columns : sequence of (name, SqlType, values)
        The values are those that `inputs.convert` gives for the type, None for NULL.

    Notes
    -----
    The memory belongs to this object: it must live until the statement that scans it has ended.
    """

    def __init__(self, columns: Sequence[tuple[str, SqlType, _Values]]) -> None:
        self._keep: list[object] = []
        self.size = 0
        """Bytes of the values."""
        self._length = len(columns[0][2]) if columns else 0
        built = [self._column(name, kind, values) for name, kind, values in columns]
        self._schemas = [schema for schema, _ in built]
        self._arrays = [array for _, array in built]

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The stream as a capsule; one batch."""
        stream = _Stream()
        done = [False]

        def get_schema(pointer: object, out: int) -> int:
            schema = self._schema(b"+s", b"", self._schemas)
            ctypes.memmove(out, ctypes.byref(schema), ctypes.sizeof(schema))
            return 0

        def get_next(pointer: object, out: int) -> int:
            if done[0]:
                ctypes.memset(out, 0, ctypes.sizeof(_Array))
                return 0
            done[0] = True
            array = self._array(self._length, [None], self._arrays)
            ctypes.memmove(out, ctypes.byref(array), ctypes.sizeof(array))
            return 0

        stream.get_schema, stream.get_next = _GetSchema(get_schema), _GetNext(get_next)
        stream.get_last_error, stream.release = _no_error, _release_stream
        self._keep.append(stream)
        capsule: object = _new_capsule(ctypes.addressof(stream), b"arrow_array_stream", None)
        return capsule

    def _schema(self, layout: bytes, name: bytes, children: Sequence[_Schema] = ()) -> _Schema:
        schema = _Schema()
        schema.format, schema.name, schema.flags, schema.n_children = layout, name, 2, len(children)
        if children:
            pointers = (ctypes.POINTER(_Schema) * len(children))(*map(ctypes.pointer, children))
            schema.children = pointers
            self._keep.append(pointers)
        schema.release = _release_schema
        self._keep.append(schema)
        return schema

    def _array(self, length: int, buffers: Sequence[int | None], children: Sequence[_Array] = ()) -> _Array:
        array = _Array()
        array.length, array.null_count = length, -1
        array.n_buffers, array.n_children = len(buffers), len(children)
        addresses = (ctypes.c_void_p * len(buffers))(*buffers)
        array.buffers = addresses
        if children:
            pointers = (ctypes.POINTER(_Array) * len(children))(*map(ctypes.pointer, children))
            array.children = pointers
            self._keep.append(pointers)
        array.release = _release_array
        self._keep += [array, addresses]
        return array

    def _address(self, data: NDArray[Any] | bytes) -> int:
        array = np.frombuffer(data, dtype=np.uint8) if isinstance(data, bytes) else np.ascontiguousarray(data)
        if array.size == 0:
            array = np.zeros(8, dtype=np.uint8)
        self._keep += [data, array]
        self.size += array.nbytes
        return int(array.ctypes.data)

    def _column(self, name: str, kind: SqlType, values: _Values) -> tuple[_Schema, _Array]:
        whole = type(None) not in set(map(type, values))
        validity = None
        if not whole:
            present = np.fromiter((value is not None for value in values), dtype=np.bool_, count=len(values))
            validity = self._address(np.packbits(present, bitorder="little"))
        label = name.encode()
        if types.is_vector(kind):
            return self._vectors(label, values, validity)
        if kind.code in types.STRINGS or kind.code in types.DECIMALS:
            texts = [b"" if value is None else str(value).encode("utf-8", "surrogatepass") for value in values]
            return self._bytes(b"U", label, texts, validity)
        if kind.code in types.BINARIES:
            return self._bytes(b"Z", label, [b"" if value is None else value for value in values], validity)
        layout, numbers = _fixed(kind, values, whole)
        return self._schema(layout, label), self._array(len(values), [validity, self._address(numbers)])

    def _bytes(
        self, layout: bytes, label: bytes, parts: list[bytes], validity: int | None
    ) -> tuple[_Schema, _Array]:
        offsets = np.zeros(len(parts) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, parts), dtype=np.int64, count=len(parts)), out=offsets[1:])
        buffers = [validity, self._address(offsets), self._address(b"".join(parts))]
        return self._schema(layout, label), self._array(len(parts), buffers)

    def _vectors(self, label: bytes, values: _Values, validity: int | None) -> tuple[_Schema, _Array]:
        offsets = np.zeros(len(values) + 1, dtype=np.int32)
        np.cumsum([0 if value is None else len(value) for value in values], out=offsets[1:])
        parts = [np.asarray(value, dtype=np.float32) for value in values if value is not None]
        flat = np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
        items = self._array(len(flat), [None, self._address(flat)])
        array = self._array(len(values), [validity, self._address(offsets)], [items])
        return self._schema(b"+l", label, [self._schema(b"f", b"item")]), array


def _fixed(kind: SqlType, values: _Values, whole: bool) -> tuple[bytes, NDArray[Any]]:
    """Values of fixed width: Arrow's name of the type and the numbers."""
    if kind.code in types.FLOATS:
        return b"g", np.array(values if whole else [0.0 if v is None else v for v in values], dtype=np.float64)
    if kind.code == TypeCode.DAYDATE:
        days = [0 if v is None else v.toordinal() - _EPOCH for v in values]
        return b"tdD", np.array(days, dtype=np.int32)
    if kind.code in types.DATETIMES:
        return b"tsu:", np.array([0 if v is None else _microseconds(v) for v in values], dtype=np.int64)
    if kind.code == TypeCode.SECONDTIME:
        return b"ttu", np.array([0 if v is None else _of_day(v) for v in values], dtype=np.int64)
    return b"l", np.array(values if whole else [0 if v is None else int(v) for v in values], dtype=np.int64)


def _microseconds(value: datetime) -> int:
    days = value.toordinal() - _EPOCH
    return days * 86_400_000_000 + _of_day(value.time())


def _of_day(value: time) -> int:
    return (value.hour * 3600 + value.minute * 60 + value.second) * 1_000_000 + value.microsecond


def execute_over(
    rows: Table | None, connection: duckdb.DuckDBPyConnection, sql: str, values: object
) -> duckdb.DuckDBPyConnection:
    """Run SQL that may refer to `BATCH_ROWS`.

    DuckDB finds them as a variable of the function that calls it. To register and unregister them would take about
    a fifth of the time in which a packet of vectors is inserted.
    """
    batch_rows = rows  # noqa: F841 - named in `sql`
    return connection.execute(sql, values)


def batch_table(parameters: Parameters, rows: Sequence[Sequence[object]], numbers: range) -> Table:
    """Converted parameter rows as a table that DuckDB scans: p0, p1 ... and the row number `rid`."""
    columns: list[tuple[str, SqlType, Sequence[object]]] = []
    for index, kind in enumerate(parameters.types):
        assert kind is not None
        stored = types.vector() if index in parameters.vectors else kind
        columns.append((f"p{index}", stored, [row[index] for row in rows]))
    columns.append(("rid", types.BIGINT, numbers))
    return Table(columns)
