"""Conversions between HANA types in generated SQL, and what arithmetic does to types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import raising
from hana_ai.api.local.hana.interface import HanaError, SqlType, TypeCode
from hana_ai.api.local.hana.translation.scope import Bound
from hana_ai.api.local.hana.types import DECIMAL, DOUBLE, INTEGER, TIMESTAMP

if TYPE_CHECKING:
    from hana_ai.api.local.hana.translation.expressions import ExpressionBinder

VECTOR_TEXT = (
    "('[' || array_to_string(list_transform({0}, "
    "lambda x: regexp_replace(CAST(x AS VARCHAR), '\\.0$', '')), ',') || ']')"
)
"""A vector as HANA writes it: [1,0.5]."""


def utf16_length(text: str) -> int:
    """HANA counts UTF-16 units: a character beyond the first plane counts twice."""
    if text.isascii():
        return len(text)
    return len(text) + sum(char > "\uffff" for char in text)


def convert(bound: Bound, target: SqlType) -> Bound:
    """Convert implicitly; raises 266 where HANA would not."""
    source = bound.type
    if source == target and bound.exact:
        return bound
    sql = bound.sql
    if source is None:
        return Bound(f"CAST({sql} AS {types.storage(target)})", target, bound.nullable, exact=True)
    if types.is_string(target):
        return _to_text(bound, target)
    if types.is_vector(source) != types.is_vector(target) and not types.is_string(source):
        raise HanaError(266, f"inconsistent datatype: {source.name} cannot become {target.name}")
    if types.is_vector(target):
        return _to_vector(bound, target)
    if target.code in types.BINARIES:
        if types.is_string(source):
            return Bound(f"encode({sql})", target, bound.nullable, exact=True)
        if source.code in types.BINARIES:
            return Bound(sql, target, bound.nullable, exact=True)
        raise HanaError(266, f"inconsistent datatype: {source.name} cannot become {target.name}")
    if source.code in types.BINARIES:
        raise HanaError(266, f"inconsistent datatype: {source.name} cannot become {target.name}")
    return _to_scalar(bound, target)


def _to_scalar(bound: Bound, target: SqlType) -> Bound:
    source = bound.type
    assert source is not None
    sql = bound.sql
    stored = types.storage(target)
    temporal = types.is_datetime(source) or source.code == TypeCode.SECONDTIME
    if temporal and types.is_number(target):
        raise HanaError(266, f"inconsistent datatype: {source.name} cannot become {target.name}")
    if types.is_number(source) and (types.is_datetime(target) or target.code == TypeCode.SECONDTIME):
        raise HanaError(266, f"inconsistent datatype: {source.name} cannot become {target.name}")
    if target.code == TypeCode.SECONDDATE:
        if types.is_string(source):
            sql = timestamp_of_text(sql)
        return Bound(f"date_trunc('second', CAST({sql} AS TIMESTAMP))", target, bound.nullable, exact=True)
    if types.is_string(source):
        if target.code in types.INTEGERS:
            # '12.7' becomes 12: HANA truncates, DuckDB rounds.
            return Bound(
                f"CAST(trunc(CAST({sql} AS DECIMAL(38, 12))) AS {stored})", target, bound.nullable, exact=True
            )
        if target.code == TypeCode.LONGDATE:
            sql = timestamp_of_text(sql)
        elif target.code == TypeCode.DAYDATE:
            sql = date_of_text(sql)
        elif target.code == TypeCode.BOOLEAN:
            sql = f"trim({sql})"
    elif target.code in types.INTEGERS and source.code not in types.INTEGERS and types.is_number(source):
        return Bound(f"CAST(trunc({sql}) AS {stored})", target, bound.nullable, exact=True)
    return Bound(f"CAST({sql} AS {stored})", target, bound.nullable, exact=True)


def date_of_text(sql: str) -> str:
    """Text in HANA's default forms, 'YYYY-MM-DD' and 'YYYYMMDD', with or without a time."""
    return (
        f"(CASE WHEN regexp_full_match(trim({sql}), '\\d{{8}}') THEN "
        f"CAST(strptime(trim({sql}), '%Y%m%d') AS DATE) ELSE CAST(CAST(trim({sql}) AS TIMESTAMP) AS DATE) END)"
    )


def timestamp_of_text(sql: str) -> str:
    """Text in HANA's default forms, 'YYYY-MM-DD HH24:MI:SS.FF7' and 'YYYYMMDDHH24MISS'."""
    return (
        f"(CASE WHEN regexp_full_match(trim({sql}), '\\d{{14}}') THEN strptime(trim({sql}), '%Y%m%d%H%M%S') "
        f"WHEN regexp_full_match(trim({sql}), '\\d{{8}}') THEN strptime(trim({sql}), '%Y%m%d') "
        f"ELSE CAST(trim({sql}) AS TIMESTAMP) END)"
    )


def _to_text(bound: Bound, target: SqlType) -> Bound:
    source = bound.type
    assert source is not None
    if types.is_string(source):
        return bound
    sql = bound.sql
    if types.is_vector(source):
        text, length = VECTOR_TEXT.format(sql), types.LOB_LENGTH
    elif source.code in types.FLOATS:
        text, length = f"regexp_replace(CAST({sql} AS VARCHAR), '\\.0$', '')", 30
    elif source.code in types.DECIMALS and source.scale == types.FLOATING:
        text = f"regexp_replace(CAST(CAST({sql} AS DECIMAL(38, 12)) AS VARCHAR), '\\.?0+$', '')"
        length = 40
    elif source.code in types.DECIMALS:
        text, length = f"CAST(CAST({sql} AS {types.storage(source)}) AS VARCHAR)", source.length + 2
    elif source.code == TypeCode.BOOLEAN:
        text, length = f"upper(CAST({sql} AS VARCHAR))", 5
    elif source.code == TypeCode.LONGDATE:
        text, length = f"(strftime({sql}, '%Y-%m-%d %H:%M:%S.%f') || '0')", 27
    elif source.code == TypeCode.SECONDDATE:
        text, length = f"strftime({sql}, '%Y-%m-%d %H:%M:%S')", 19
    elif source.code in types.BINARIES:
        text, length = f"hex({sql})", min(source.length * 2, 5000)
    else:
        text, length = f"CAST({sql} AS VARCHAR)", 20
    kind = target if target.code in types.LOBS else types.nvarchar(min(length, 5000))
    return Bound(text, kind, bound.nullable, exact=True)


def _to_vector(bound: Bound, target: SqlType) -> Bound:
    source = bound.type
    assert source is not None
    sql = f"CAST({bound.sql} AS FLOAT[])" if types.is_string(source) else bound.sql
    length = source.length if types.is_vector(source) else 0
    half = target.code == TypeCode.HALF_VECTOR
    if half and source.code != TypeCode.HALF_VECTOR:
        sql = f"hana_half({sql})"
    kind = types.vector(length or target.length, half)
    if target.length and length != target.length:
        sql = checked_dimension(sql, target.length, source.length if types.is_vector(source) else 0)
    return Bound(sql, kind, bound.nullable, exact=True)


def checked_dimension(sql: str, expected: int, known: int = 0) -> str:
    """The vector, or an error when its dimension is another."""
    if known and known != expected:
        raise HanaError(2048, f"column store error: vector dimension mismatch: expected {expected}, got {known}")
    problem = raising(2048, f"column store error: vector dimension mismatch: expected {expected}")
    return f"(CASE WHEN len({sql}) <> {expected} THEN {problem} ELSE {sql} END)"


def to_number(bound: Bound) -> Bound:
    """A number as it is, text as DECIMAL.

    Raises
    ------
    HanaError
        266 for what is no number.
    """
    if bound.type is None:
        return bound
    if types.is_number(bound.type):
        return bound
    if types.is_string(bound.type):
        return convert(bound, DECIMAL)
    raise HanaError(266, f"inconsistent datatype: {bound.type.name} is not a number")


def cast(binder: ExpressionBinder, bound: Bound, target: SqlType) -> Bound:
    """CAST: as the implicit conversion, but a text is cut to its new length."""
    if bound.type is None:
        return binder.coerce(bound, target)
    source = bound.type
    if types.is_string(target):
        text = convert(bound, target)
        known = text.type.length if text.type is not None else types.LOB_LENGTH
        sql = text.sql
        if target.code not in types.LOBS and known > target.length:
            sql = f"left({sql}, {target.length})"
        return Bound(sql, target, bound.nullable, exact=True)
    if types.is_datetime(source) and target.code == TypeCode.SECONDTIME:
        return Bound(f"CAST(date_trunc('second', {bound.sql}) AS TIME)", target, bound.nullable, exact=True)
    if target.code == TypeCode.DAYDATE and types.is_datetime(source):
        return Bound(f"CAST({bound.sql} AS DATE)", target, bound.nullable, exact=True)
    if source.code == TypeCode.SECONDTIME and types.is_datetime(target):
        raise HanaError(266, f"inconsistent datatype: {source.name} cannot become {target.name}")
    return convert(bound, target)


def concatenated(kinds: Sequence[SqlType | None]) -> SqlType:
    """The type of a concatenation."""
    total = 0
    for kind in kinds:
        if kind is not None and kind.code in types.LOBS:
            return types.NCLOB
        total += kind.length if kind is not None else 1
    return types.nvarchar(min(total, 5000))


def arithmetic(binder: ExpressionBinder, operator: str, left: Bound, right: Bound) -> Bound:
    """`left operator right` with HANA's result type."""
    if types.is_datetime(left.type) and operator in "+-":
        return _date_arithmetic(binder, operator, left, right)
    if left.type is None and right.type is not None:
        left = binder.coerce(left, to_number(right).type or DECIMAL)
    elif right.type is None and left.type is not None:
        right = binder.coerce(right, to_number(left).type or DECIMAL)
    elif left.type is None and right.type is None:
        left, right = binder.coerce(left, DECIMAL), binder.coerce(right, DECIMAL)
    left, right = to_number(left), to_number(right)
    assert left.type is not None and right.type is not None
    nullable = left.nullable or right.nullable
    if operator == "/":
        return divide(left, right)
    if left.type.code in types.FLOATS or right.type.code in types.FLOATS:
        a, b = convert(left, DOUBLE), convert(right, DOUBLE)
        return Bound(f"({a.sql} {operator} {b.sql})", DOUBLE, nullable, exact=True)
    if left.type.code in types.INTEGERS and right.type.code in types.INTEGERS:
        wide = types.common(types.common(left.type, right.type), INTEGER)
        assert wide is not None
        a, b = convert(left, wide), convert(right, wide)
        return Bound(f"({a.sql} {operator} {b.sql})", wide, nullable, exact=True)
    kind = _decimal_result(operator, left.type, right.type)
    if kind.scale == types.FLOATING:
        first, second = (f"CAST({side.sql} AS {types.STORED_FLOATING})" for side in (left, right))
        if operator == "*":
            return Bound(f"hana_multiply({first}, {second})", DECIMAL, nullable, exact=True)
        sql = f"CAST({first} {operator} {second} AS {types.STORED_FLOATING})"
        return Bound(sql, DECIMAL, nullable, exact=True)
    first, second = (_as_decimal(side).sql for side in (left, right))
    return Bound(f"CAST({first} {operator} {second} AS {types.storage(kind)})", kind, nullable, exact=True)


def _as_decimal(bound: Bound) -> Bound:
    shape = types.as_decimal(bound.type) if bound.type is not None else None
    assert shape is not None
    return convert(bound, types.decimal(*shape))


def _decimal_result(operator: str, left: SqlType, right: SqlType) -> SqlType:
    first, second = types.as_decimal(left), types.as_decimal(right)
    if first is None or second is None:
        return DECIMAL
    if operator == "*":
        precision, scale = first[0] + second[0], first[1] + second[1]
    else:
        scale = max(first[1], second[1])
        precision = max(first[0] - first[1], second[0] - second[1]) + scale + 1
    return types.decimal(precision, scale) if precision <= 38 and scale <= precision else DECIMAL


def divide(left: Bound, right: Bound) -> Bound:
    """A quotient: DECIMAL unless a side floats, and an error instead of NULL for a zero."""
    assert left.type is not None and right.type is not None
    nullable = left.nullable or right.nullable
    integers = left.type.code in types.INTEGERS and right.type.code in types.INTEGERS
    floating = left.type.code in types.FLOATS or right.type.code in types.FLOATS
    if not integers and not floating:
        a, b = (f"CAST({side.sql} AS {types.STORED_FLOATING})" for side in (left, right))
        return Bound(f"hana_divide({a}, {b})", DECIMAL, nullable, exact=True)
    quotient = f"CAST({left.sql} AS DOUBLE) / CAST({right.sql} AS DOUBLE)"
    if integers:
        quotient = f"CAST(round({quotient}, 6) AS {types.STORED_FLOATING})"
    kind = DECIMAL if integers else DOUBLE
    guard = raising(304, "division by zero undefined: the right-hand value of the division is zero")
    return Bound(f"(CASE WHEN {right.sql} = 0 THEN {guard} ELSE {quotient} END)", kind, nullable, exact=True)


def _date_arithmetic(binder: ExpressionBinder, operator: str, left: Bound, right: Bound) -> Bound:
    if types.is_datetime(right.type):
        if operator == "+":
            raise HanaError(266, "inconsistent datatype: two dates cannot be added")
        days = f"(epoch(CAST({left.sql} AS TIMESTAMP)) - epoch(CAST({right.sql} AS TIMESTAMP))) / 86400"
        return Bound(f"CAST({days} AS BIGINT)", types.BIGINT, exact=True)
    amount = binder.coerce(right, INTEGER) if right.type is None else to_number(right)
    span = f"to_microseconds(CAST({amount.sql} * 86400000000 AS BIGINT))"
    sql = f"CAST(CAST({left.sql} AS TIMESTAMP) {operator} {span} AS {types.storage(left.type or TIMESTAMP)})"
    return Bound(sql, left.type, exact=True)


def assign(binder: ExpressionBinder, bound: Bound, target: SqlType, column: str) -> Bound:
    """Convert to a column's type and check that the value fits, as INSERT and UPDATE do."""
    if bound.parameter is not None and binder.parameters.types[bound.parameter] in {None, target}:
        # The session checks a parameter's length when it reads it: no need to do it again.
        return binder.coerce(bound, target)
    source = bound.type
    converted = binder.coerce(bound, target)
    if source is None:
        return converted
    checked = converted.sql
    if types.is_string(target) and target.code not in types.LOBS:
        known = converted.type.length if converted.type is not None and types.is_string(converted.type) else 0
        if known == 0 or known > target.length:
            if bound.text is not None:
                raise HanaError(274, f"inserted value too large for column: {column}")
            problem = raising(274, f"inserted value too large for column: {column}")
            checked = f"(CASE WHEN length({checked}) > {target.length} THEN {problem} ELSE {checked} END)"
    elif target.code in {TypeCode.BINARY, TypeCode.VARBINARY}:
        problem = raising(274, f"inserted value too large for column: {column}")
        checked = f"(CASE WHEN octet_length({checked}) > {target.length} THEN {problem} ELSE {checked} END)"
    elif types.is_vector(target) and target.length and converted.type is not None and not converted.type.length:
        checked = checked_dimension(checked, target.length)
    return Bound(checked, target, bound.nullable, exact=True)
