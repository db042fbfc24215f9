"""HANA's SQL types: how they are declared, stored in DuckDB, and combined in expressions."""

from __future__ import annotations

from collections.abc import Sequence

from hana_ai.api.local.hana.interface import HanaError, SqlType, TypeCode

FLOATING = 32767
"""The scale of a DECIMAL without declared digits."""

LOB_LENGTH = 2147483647
FLOATING_SCALE = 12
"""Digits after the point that are stored of a floating decimal."""
STORED_FLOATING = f"DECIMAL(38, {FLOATING_SCALE})"
"""DuckDB has no decimal floating point; a DECIMAL without digits keeps 26 before and 12 after the point."""

TINYINT = SqlType(TypeCode.TINYINT, "TINYINT", 3)
SMALLINT = SqlType(TypeCode.SMALLINT, "SMALLINT", 5)
INTEGER = SqlType(TypeCode.INTEGER, "INTEGER", 10)
BIGINT = SqlType(TypeCode.BIGINT, "BIGINT", 19)
REAL = SqlType(TypeCode.REAL, "REAL", 7)
DOUBLE = SqlType(TypeCode.DOUBLE, "DOUBLE", 15)
DECIMAL = SqlType(TypeCode.DECIMAL, "DECIMAL", 34, FLOATING)
SMALLDECIMAL = SqlType(TypeCode.DECIMAL, "SMALLDECIMAL", 16, FLOATING)
BOOLEAN = SqlType(TypeCode.BOOLEAN, "BOOLEAN", 5)
DATE = SqlType(TypeCode.DAYDATE, "DATE", 10)
TIME = SqlType(TypeCode.SECONDTIME, "TIME", 8)
SECONDDATE = SqlType(TypeCode.SECONDDATE, "SECONDDATE", 19)
TIMESTAMP = SqlType(TypeCode.LONGDATE, "TIMESTAMP", 27, 7)
CLOB = SqlType(TypeCode.CLOB, "CLOB", LOB_LENGTH)
NCLOB = SqlType(TypeCode.NCLOB, "NCLOB", LOB_LENGTH)
BLOB = SqlType(TypeCode.BLOB, "BLOB", LOB_LENGTH)
TEXT = SqlType(TypeCode.TEXT, "TEXT", LOB_LENGTH)

_SIMPLE = {
    "TINYINT": TINYINT,
    "SMALLINT": SMALLINT,
    "INT": INTEGER,
    "INTEGER": INTEGER,
    "BIGINT": BIGINT,
    "REAL": REAL,
    "DOUBLE": DOUBLE,
    "DOUBLE PRECISION": DOUBLE,
    "SMALLDECIMAL": SMALLDECIMAL,
    "BOOLEAN": BOOLEAN,
    "DATE": DATE,
    "DAYDATE": DATE,
    "TIME": TIME,
    "SECONDTIME": TIME,
    "SECONDDATE": SECONDDATE,
    "LONGDATE": TIMESTAMP,
    "TIMESTAMP": TIMESTAMP,
    "DATETIME": TIMESTAMP,
    "CLOB": NCLOB,
    "NCLOB": NCLOB,
    "BLOB": BLOB,
    "TEXT": TEXT,
    "BINTEXT": TEXT,
}

# HANA Cloud keeps every string as Unicode: CHAR, VARCHAR and CLOB are other names of NCHAR, NVARCHAR and NCLOB.
_SIZED = {
    "VARCHAR": (TypeCode.NVARCHAR, "NVARCHAR", 5000),
    "NVARCHAR": (TypeCode.NVARCHAR, "NVARCHAR", 5000),
    "CHAR": (TypeCode.NCHAR, "NCHAR", 2000),
    "NCHAR": (TypeCode.NCHAR, "NCHAR", 2000),
    "ALPHANUM": (TypeCode.ALPHANUM, "ALPHANUM", 127),
    "SHORTTEXT": (TypeCode.SHORTTEXT, "SHORTTEXT", 5000),
    "VARBINARY": (TypeCode.VARBINARY, "VARBINARY", 5000),
    "BINARY": (TypeCode.BINARY, "BINARY", 2000),
}

STRINGS = frozenset({
    TypeCode.CHAR, TypeCode.VARCHAR, TypeCode.NCHAR, TypeCode.NVARCHAR, TypeCode.CLOB, TypeCode.NCLOB,
    TypeCode.TEXT, TypeCode.SHORTTEXT, TypeCode.ALPHANUM,
})  # fmt: skip
LOBS = frozenset({TypeCode.CLOB, TypeCode.NCLOB, TypeCode.BLOB, TypeCode.TEXT})
BINARIES = frozenset({TypeCode.BINARY, TypeCode.VARBINARY, TypeCode.BLOB})
INTEGERS = frozenset({TypeCode.TINYINT, TypeCode.SMALLINT, TypeCode.INTEGER, TypeCode.BIGINT})
DECIMALS = frozenset({TypeCode.DECIMAL, TypeCode.FIXED8, TypeCode.FIXED12, TypeCode.FIXED16})
FLOATS = frozenset({TypeCode.REAL, TypeCode.DOUBLE})
NUMBERS = INTEGERS | DECIMALS | FLOATS
DATETIMES = frozenset({TypeCode.DAYDATE, TypeCode.SECONDDATE, TypeCode.LONGDATE})
VECTORS = frozenset({TypeCode.REAL_VECTOR, TypeCode.HALF_VECTOR})

_STORAGE = {
    TypeCode.TINYINT: "UTINYINT",
    TypeCode.SMALLINT: "SMALLINT",
    TypeCode.INTEGER: "INTEGER",
    TypeCode.BIGINT: "BIGINT",
    TypeCode.REAL: "FLOAT",
    TypeCode.DOUBLE: "DOUBLE",
    TypeCode.BOOLEAN: "BOOLEAN",
    TypeCode.DAYDATE: "DATE",
    TypeCode.SECONDTIME: "TIME",
    TypeCode.SECONDDATE: "TIMESTAMP",
    TypeCode.LONGDATE: "TIMESTAMP",
    TypeCode.REAL_VECTOR: "FLOAT[]",
    TypeCode.HALF_VECTOR: "FLOAT[]",
    **dict.fromkeys(STRINGS, "VARCHAR"),
    **dict.fromkeys(BINARIES, "BLOB"),
}


def nvarchar(length: int = 5000) -> SqlType:
    """NVARCHAR(length); beyond HANA's limit of 5000 it becomes an NCLOB."""
    if length > 5000:
        return NCLOB
    return SqlType(TypeCode.NVARCHAR, "NVARCHAR", max(length, 1))


NVARCHAR = nvarchar()


def varbinary(length: int = 5000) -> SqlType:
    """VARBINARY(length)."""
    return SqlType(TypeCode.VARBINARY, "VARBINARY", length)


def decimal(precision: int, scale: int = 0) -> SqlType:
    """DECIMAL(precision, scale); the wire has three widths for it."""
    if not 1 <= precision <= 38 or not 0 <= scale <= precision:
        raise HanaError(264, f"invalid datatype: DECIMAL({precision},{scale})")
    code = TypeCode.FIXED8 if precision <= 18 else TypeCode.FIXED12 if precision <= 28 else TypeCode.FIXED16
    return SqlType(code, "DECIMAL", precision, scale)


def vector(dimension: int = 0, half: bool = False) -> SqlType:
    """REAL_VECTOR(dimension) or HALF_VECTOR(dimension); 0 takes any."""
    if half:
        return SqlType(TypeCode.HALF_VECTOR, "HALF_VECTOR", dimension)
    return SqlType(TypeCode.REAL_VECTOR, "REAL_VECTOR", dimension)


NAMES = (
    *_SIMPLE, *_SIZED, "DECIMAL", "NUMERIC", "DEC", "FLOAT", "REAL_VECTOR", "HALF_VECTOR",
)  # fmt: skip
"""All names of types."""


def declared(name: str, params: Sequence[int]) -> SqlType | None:
    """The type that a declaration such as ``NVARCHAR(10)`` names; None for a name that is no type.

    Raises
    ------
    HanaError
        264, when the size is not possible.
    """
    simple = _SIMPLE.get(name)
    if simple is not None:
        return simple
    sized = _SIZED.get(name)
    if sized is not None:
        code, shown, longest = sized
        length = params[0] if params else 1
        if not 1 <= length <= max(longest, 5000):
            raise HanaError(264, f"invalid datatype: length of {name} must be 1 to {longest}")
        return SqlType(code, shown, length)
    if name in {"DECIMAL", "NUMERIC", "DEC"}:
        return decimal(*params[:2]) if params else DECIMAL
    if name == "FLOAT":
        return REAL if params and params[0] <= 24 else DOUBLE
    if name in {"REAL_VECTOR", "HALF_VECTOR"}:
        dimension = params[0] if params else 0
        if not 0 <= dimension <= 65000:
            raise HanaError(264, f"invalid datatype: dimension of {name} must be 1 to 65000")
        return vector(dimension, name == "HALF_VECTOR")
    return None


def storage(kind: SqlType) -> str:
    """The DuckDB type that holds it."""
    if kind.code in DECIMALS:
        if kind.scale == FLOATING:
            return STORED_FLOATING
        return f"DECIMAL({kind.length}, {kind.scale})"
    return _STORAGE[kind.code]


def shown(kind: SqlType) -> str:
    """As HANA writes it, for messages and view definitions."""
    if kind.code in DECIMALS and kind.scale != FLOATING:
        return f"{kind.name}({kind.length}, {kind.scale})"
    if kind.name in _SIZED or (kind.code in VECTORS and kind.length):
        return f"{kind.name}({kind.length})"
    return kind.name


def length_and_scale(kind: SqlType) -> tuple[int, int | None]:
    """As system views show them."""
    if kind.code in DECIMALS:
        return kind.length, None if kind.scale == FLOATING else kind.scale
    if kind.code in INTEGERS:
        return kind.length, 0
    if kind == TIMESTAMP:
        return kind.length, 7
    return kind.length, None


def is_string(kind: SqlType | None) -> bool:
    """Any character type, LOBs too."""
    return kind is not None and kind.code in STRINGS


def is_number(kind: SqlType | None) -> bool:
    """Any numeric type."""
    return kind is not None and kind.code in NUMBERS


def is_vector(kind: SqlType | None) -> bool:
    """REAL_VECTOR or HALF_VECTOR."""
    return kind is not None and kind.code in VECTORS


def is_datetime(kind: SqlType | None) -> bool:
    """DATE, SECONDDATE or TIMESTAMP."""
    return kind is not None and kind.code in DATETIMES


_INT_RANK = {TypeCode.TINYINT: 0, TypeCode.SMALLINT: 1, TypeCode.INTEGER: 2, TypeCode.BIGINT: 3}
_INT_DIGITS = {TypeCode.TINYINT: 3, TypeCode.SMALLINT: 5, TypeCode.INTEGER: 10, TypeCode.BIGINT: 19}
_DATE_RANK = {TypeCode.DAYDATE: 0, TypeCode.SECONDDATE: 1, TypeCode.LONGDATE: 2}


def as_decimal(kind: SqlType) -> tuple[int, int] | None:
    """(precision, scale) of an exact number, None for a floating one."""
    if kind.code in _INT_DIGITS:
        return _INT_DIGITS[kind.code], 0
    if kind.code in DECIMALS and kind.scale != FLOATING:
        return kind.length, kind.scale
    return None


def common(left: SqlType | None, right: SqlType | None) -> SqlType | None:
    """The type that can hold both, for CASE, COALESCE, UNION and comparisons.

    Raises
    ------
    HanaError
        266, when nothing can.
    """
    if left is None or left == right:
        return right
    if right is None:
        return left
    if left.code in NUMBERS and right.code in NUMBERS:
        return _common_number(left, right)
    if left.code in STRINGS and right.code in STRINGS:
        return _common_string(left, right)
    if left.code in DATETIMES and right.code in DATETIMES:
        return left if _DATE_RANK[left.code] >= _DATE_RANK[right.code] else right
    if left.code in BINARIES and right.code in BINARIES:
        return BLOB if TypeCode.BLOB in (left.code, right.code) else varbinary(max(left.length, right.length))
    if left.code in VECTORS and right.code in VECTORS:
        return vector(
            left.length if left.length == right.length else 0, left.code == right.code == TypeCode.HALF_VECTOR
        )
    # A string meets something else: HANA converts the string.
    if left.code in STRINGS:
        return right
    if right.code in STRINGS:
        return left
    raise HanaError(266, f"inconsistent datatype: {left.name} and {right.name}")


def _common_number(left: SqlType, right: SqlType) -> SqlType:
    if left.code in FLOATS or right.code in FLOATS:
        return DOUBLE if left.code != right.code or left.code == TypeCode.DOUBLE else REAL
    if left.code in _INT_RANK and right.code in _INT_RANK:
        return left if _INT_RANK[left.code] >= _INT_RANK[right.code] else right
    first, second = as_decimal(left), as_decimal(right)
    if first is None or second is None:
        return DECIMAL
    scale = max(first[1], second[1])
    precision = max(first[0] - first[1], second[0] - second[1]) + scale
    return decimal(precision, scale) if precision <= 38 else DECIMAL


def _common_string(left: SqlType, right: SqlType) -> SqlType:
    if left.code in LOBS or right.code in LOBS:
        return NCLOB if {left.code, right.code} != {TypeCode.CLOB} else CLOB
    length = max(left.length, right.length)
    if left.code == right.code:
        return SqlType(left.code, left.name, length)
    national = (
        TypeCode.VARCHAR if {left.code, right.code} <= {TypeCode.CHAR, TypeCode.VARCHAR} else TypeCode.NVARCHAR
    )
    return SqlType(national, national.name, length)
