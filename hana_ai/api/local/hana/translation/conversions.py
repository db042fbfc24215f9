"""Conversions between HANA types in generated SQL, and what arithmetic does to types."""

from __future__ import annotations

from collections.abc import Sequence

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import raising
from hana_ai.api.local.hana.interface import HanaError, SqlType, TypeCode
from hana_ai.api.local.hana.translation.binding import Binding
from hana_ai.api.local.hana.translation.fragments import Sql, cast_to, compose
from hana_ai.api.local.hana.translation.scope import Bound
from hana_ai.api.local.hana.types import DECIMAL, DOUBLE, INTEGER, TIMESTAMP

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
    """Convert implicitly.

    Raises
    ------
    HanaError
        266 where HANA would not.
    """
    source = bound.type
    if source == target and bound.exact:
        return bound
    sql = bound.sql
    if source is None:
        return Bound(cast_to(sql, types.storage(target)), target, bound.nullable, exact=True)
    if types.is_string(target):
        return _to_text(bound, target)
    if types.is_vector(source) != types.is_vector(target) and not types.is_string(source):
        raise HanaError(266, f"inconsistent datatype: {source.name} cannot become {target.name}")
    if types.is_vector(target):
        return _to_vector(bound, target)
    if target.code in types.BINARIES:
        if types.is_string(source):
            return Bound(compose("encode({})", sql), target, bound.nullable, exact=True)
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
        sql = compose("date_trunc('second', CAST({} AS TIMESTAMP))", sql)
        return Bound(sql, target, bound.nullable, exact=True)
    if types.is_string(source):
        if target.code in types.INTEGERS:
            # '12.7' becomes 12: HANA truncates, DuckDB rounds.
            sql = compose("trunc(CAST({} AS DECIMAL(38, 12)))", sql)
        elif target.code == TypeCode.LONGDATE:
            sql = timestamp_of_text(sql)
        elif target.code == TypeCode.DAYDATE:
            sql = date_of_text(sql)
        elif target.code == TypeCode.BOOLEAN:
            sql = compose("trim({})", sql)
    elif target.code in types.INTEGERS and source.code not in types.INTEGERS and types.is_number(source):
        sql = compose("trunc({})", sql)
    return Bound(cast_to(sql, stored), target, bound.nullable, exact=True)


def date_of_text(sql: Sql) -> Sql:
    """Text in HANA's default forms, 'YYYY-MM-DD' and 'YYYYMMDD', with or without a time."""
    return compose(
        "(CASE WHEN regexp_full_match(trim({0}), '\\d{{8}}') THEN CAST(strptime(trim({0}), '%Y%m%d') AS DATE) "
        "ELSE CAST(CAST(trim({0}) AS TIMESTAMP) AS DATE) END)",
        sql,
    )


def timestamp_of_text(sql: Sql) -> Sql:
    """Text in HANA's default forms, 'YYYY-MM-DD HH24:MI:SS.FF7' and 'YYYYMMDDHH24MISS'."""
    return compose(
        "(CASE WHEN regexp_full_match(trim({0}), '\\d{{14}}') THEN strptime(trim({0}), '%Y%m%d%H%M%S') "
        "WHEN regexp_full_match(trim({0}), '\\d{{8}}') THEN strptime(trim({0}), '%Y%m%d') "
        "ELSE CAST(trim({0}) AS TIMESTAMP) END)",
        sql,
    )


def _to_text(bound: Bound, target: SqlType) -> Bound:
    source = bound.type
    assert source is not None
    if types.is_string(source):
        return bound
    sql = bound.sql
    if types.is_vector(source):
        text, length = compose(VECTOR_TEXT, sql), types.LOB_LENGTH
    elif source.code in types.FLOATS:
        text, length = compose("regexp_replace(CAST({} AS VARCHAR), '\\.0$', '')", sql), 30
    elif source.code in types.DECIMALS and source.scale == types.FLOATING:
        text = compose("regexp_replace(CAST(CAST({} AS DECIMAL(38, 12)) AS VARCHAR), '\\.?0+$', '')", sql)
        length = 40
    elif source.code in types.DECIMALS:
        text, length = compose("CAST(CAST({} AS {}) AS VARCHAR)", sql, types.storage(source)), source.length + 2
    elif source.code == TypeCode.BOOLEAN:
        text, length = compose("upper(CAST({} AS VARCHAR))", sql), 5
    elif source.code == TypeCode.LONGDATE:
        text, length = compose("(strftime({}, '%Y-%m-%d %H:%M:%S.%f') || '0')", sql), 27
    elif source.code == TypeCode.SECONDDATE:
        text, length = compose("strftime({}, '%Y-%m-%d %H:%M:%S')", sql), 19
    elif source.code in types.BINARIES:
        text, length = compose("hex({})", sql), min(source.length * 2, 5000)
    else:
        text, length = cast_to(sql, "VARCHAR"), 20
    kind = target if target.code in types.LOBS else types.nvarchar(min(length, 5000))
    return Bound(text, kind, bound.nullable, exact=True)


def _to_vector(bound: Bound, target: SqlType) -> Bound:
    source = bound.type
    assert source is not None
    sql = cast_to(bound.sql, "FLOAT[]") if types.is_string(source) else bound.sql
    length = source.length if types.is_vector(source) else 0
    half = target.code == TypeCode.HALF_VECTOR
    if half and source.code != TypeCode.HALF_VECTOR:
        sql = compose("hana_half({})", sql)
    kind = types.vector(length or target.length, half)
    if target.length and length != target.length:
        sql = checked_dimension(sql, target.length, source.length if types.is_vector(source) else 0)
    return Bound(sql, kind, bound.nullable, exact=True)


def checked_dimension(sql: Sql, expected: int, known: int = 0) -> Sql:
    """The vector, or an error when its dimension is another."""
    if known and known != expected:
        raise HanaError(2048, f"column store error: vector dimension mismatch: expected {expected}, got {known}")
    problem = raising(2048, f"column store error: vector dimension mismatch: expected {expected}")
    return compose("(CASE WHEN len({0}) <> {1} THEN {2} ELSE {0} END)", sql, expected, problem)


def comparable(binder: Binding, left: Bound, right: Bound) -> tuple[Bound, Bound]:
    """Bring two sides to one type for a comparison.

    Raises
    ------
    HanaError
        266 when no type can hold both.
    """
    if left.type is not None and right.type is not None and left.type.code == right.type.code:
        return left, right
    if types.is_vector(left.type) or types.is_vector(right.type):
        raise HanaError(266, "inconsistent datatype: vectors cannot be compared")
    if types.is_string(left.type) and types.is_number(right.type):
        return _number_beside(binder, left, right), right
    if types.is_number(left.type) and types.is_string(right.type):
        return left, _number_beside(binder, right, left)
    (first, second), _ = binder.unify(left, right)
    return first, second


def _number_beside(binder: Binding, text: Bound, number: Bound) -> Bound:
    floating = number.type is not None and number.type.code in types.FLOATS
    return binder.coerce(text, DOUBLE if floating else DECIMAL)


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


def cast(binder: Binding, bound: Bound, target: SqlType) -> Bound:
    """CAST: as the implicit conversion, but a text is cut to its new length."""
    if bound.type is None:
        return binder.coerce(bound, target)
    source = bound.type
    if types.is_string(target):
        text = convert(bound, target)
        known = text.type.length if text.type is not None else types.LOB_LENGTH
        sql = text.sql
        if target.code not in types.LOBS and known > target.length:
            sql = compose("left({}, {})", sql, target.length)
        return Bound(sql, target, bound.nullable, exact=True)
    if types.is_datetime(source) and target.code == TypeCode.SECONDTIME:
        seconds = compose("date_trunc('second', {})", bound.sql)
        return Bound(cast_to(seconds, "TIME"), target, bound.nullable, exact=True)
    if target.code == TypeCode.DAYDATE and types.is_datetime(source):
        return Bound(cast_to(bound.sql, "DATE"), target, bound.nullable, exact=True)
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


def arithmetic(binder: Binding, operator: str, left: Bound, right: Bound) -> Bound:
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
        return Bound(compose("({} {} {})", a.sql, operator, b.sql), DOUBLE, nullable, exact=True)
    if left.type.code in types.INTEGERS and right.type.code in types.INTEGERS:
        wide = types.common(types.common(left.type, right.type), INTEGER)
        assert wide is not None
        a, b = convert(left, wide), convert(right, wide)
        return Bound(compose("({} {} {})", a.sql, operator, b.sql), wide, nullable, exact=True)
    kind = _decimal_result(operator, left.type, right.type)
    if kind.scale == types.FLOATING:
        first, second = (cast_to(side.sql, types.STORED_FLOATING) for side in (left, right))
        if operator == "*":
            return Bound(compose("hana_multiply({}, {})", first, second), DECIMAL, nullable, exact=True)
    else:
        first, second = (_as_decimal(side).sql for side in (left, right))
    result = compose("{} {} {}", first, operator, second)
    return Bound(cast_to(result, types.storage(kind)), kind, nullable, exact=True)


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


def _fits_floating(kind: SqlType) -> bool:
    """Whether every value of a type can be stored as a floating decimal."""
    shape = types.as_decimal(kind)
    whole = 38 - types.FLOATING_SCALE
    return shape is None or (shape[1] <= types.FLOATING_SCALE and shape[0] - shape[1] <= whole)


def divide(left: Bound, right: Bound) -> Bound:
    """A quotient: DECIMAL unless a side floats, and an error instead of NULL for a zero."""
    assert left.type is not None and right.type is not None
    nullable = left.nullable or right.nullable
    integers = left.type.code in types.INTEGERS and right.type.code in types.INTEGERS
    floating = left.type.code in types.FLOATS or right.type.code in types.FLOATS
    if not integers and not floating:
        exactly = _fits_floating(left.type) and _fits_floating(right.type)
        name, kept = ("hana_divide", types.STORED_FLOATING) if exactly else ("hana_divide_long", "VARCHAR")
        a, b = (cast_to(side.sql, kept) for side in (left, right))
        return Bound(compose(name + "({}, {})", a, b), DECIMAL, nullable, exact=True)
    quotient = compose("CAST({} AS DOUBLE) / CAST({} AS DOUBLE)", left.sql, right.sql)
    if integers:
        quotient = compose("CAST(round({}, 6) AS {})", quotient, types.STORED_FLOATING)
    kind = DECIMAL if integers else DOUBLE
    guard = raising(304, "division by zero undefined: the right-hand value of the division is zero")
    guarded = compose("(CASE WHEN {} = 0 THEN {} ELSE {} END)", right.sql, guard, quotient)
    return Bound(guarded, kind, nullable, exact=True)


def _date_arithmetic(binder: Binding, operator: str, left: Bound, right: Bound) -> Bound:
    if types.is_datetime(right.type):
        if operator == "+":
            raise HanaError(266, "inconsistent datatype: two dates cannot be added")
        days = compose(
            "(epoch(CAST({} AS TIMESTAMP)) - epoch(CAST({} AS TIMESTAMP))) / 86400", left.sql, right.sql
        )
        return Bound(cast_to(days, "BIGINT"), types.BIGINT, exact=True)
    amount = binder.coerce(right, INTEGER) if right.type is None else to_number(right)
    span = compose("to_microseconds(CAST({} * 86400000000 AS BIGINT))", amount.sql)
    moment = compose("CAST({} AS TIMESTAMP) {} {}", left.sql, operator, span)
    return Bound(cast_to(moment, types.storage(left.type or TIMESTAMP)), left.type, exact=True)


def assign(binder: Binding, bound: Bound, target: SqlType, column: str) -> Bound:
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
            checked = _checked_length("length", checked, target.length, column)
    elif target.code in {TypeCode.BINARY, TypeCode.VARBINARY}:
        checked = _checked_length("octet_length", checked, target.length, column)
    elif types.is_vector(target) and target.length and converted.type is not None and not converted.type.length:
        checked = checked_dimension(checked, target.length)
    return Bound(checked, target, bound.nullable, exact=True)


def _checked_length(measure: str, value: Sql, longest: int, column: str) -> Sql:
    problem = raising(274, f"inserted value too large for column: {column}")
    return compose("(CASE WHEN {0}({1}) > {2} THEN {3} ELSE {1} END)", measure, value, longest, problem)
