"""HANA's date and time functions, and conversions with a format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.errors import unsupported
from hana_ai.api.local.hana.interface import HanaError, SqlType, TypeCode
from hana_ai.api.local.hana.names import literal
from hana_ai.api.local.hana.translation.conversions import cast
from hana_ai.api.local.hana.translation.functions import (
    FUNCTIONS,
    NILADIC,
    Handler,
    bind_arguments,
    constant_text,
    define,
    function,
    wrong_arguments,
)
from hana_ai.api.local.hana.translation.scope import Bound, Scope
from hana_ai.api.local.hana.types import BIGINT, DATE, INTEGER, SECONDDATE, TIME, TIMESTAMP, nvarchar

if TYPE_CHECKING:
    from hana_ai.api.local.hana.catalog.environment import SessionState
    from hana_ai.api.local.hana.translation.expressions import ExpressionBinder

_FORMAT = (
    ("YYYY", "%Y"),
    ("MONTH", "%B"),
    ("MON", "%b"),
    ("HH24", "%H"),
    ("HH12", "%I"),
    ("DDD", "%j"),
    ("DAY", "%A"),
    ("FF7", "%f0"),
    ("FF6", "%f"),
    ("FF3", "%g"),
    ("FF", "%f"),
    ("YY", "%y"),
    ("MM", "%m"),
    ("DD", "%d"),
    ("DY", "%a"),
    ("HH", "%I"),
    ("MI", "%M"),
    ("SS", "%S"),
    ("AM", "%p"),
    ("PM", "%p"),
    ("WW", "%W"),
)


def time_format(text: str) -> str:
    """HANA's date format in strftime's letters."""
    out, at, upper = [], 0, text.upper()
    while at < len(text):
        for mark, code in _FORMAT:
            if upper.startswith(mark, at):
                out.append(code)
                at += len(mark)
                break
        else:
            if text[at].isalpha() and text[at] != "T":
                raise unsupported(f"date format {text}")
            out.append("%%" if text[at] == "%" else text[at])
            at += 1
    return "".join(out)


def _parsed(target: SqlType, name: str) -> Handler:
    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if not 1 <= len(nodes) <= 2:
            raise wrong_arguments(name)
        value = binder.bind(nodes[0], scope)
        if len(nodes) == 1:
            return cast(binder, value, target)
        value = binder.coerce(value, nvarchar())
        pattern = time_format(constant_text(nodes[1])).replace("%f0", "%f")
        parsed = f"strptime({value.sql}, {literal(pattern)})"
        return Bound(f"CAST({parsed} AS {types.storage(target)})", target, exact=True)

    return handler


for _name, _type in {
    "TO_DATE": DATE, "TO_TIMESTAMP": TIMESTAMP, "TO_SECONDDATE": SECONDDATE, "TO_TIME": TIME,
}.items():  # fmt: skip
    FUNCTIONS[_name] = _parsed(_type, _name)


@function("TO_NVARCHAR", "TO_VARCHAR", "TO_CHAR", "TO_ALPHANUM", "TO_FIXEDCHAR")
def _to_nvarchar(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if not 1 <= len(nodes) <= 2:
        raise wrong_arguments("TO_NVARCHAR")
    value = binder.bind(nodes[0], scope)
    if len(nodes) == 1:
        if value.type is None:
            return binder.coerce(value, nvarchar())
        if types.is_string(value.type) and value.type.code not in types.LOBS:
            return value
        return cast(binder, value, nvarchar())
    if types.is_datetime(value.type) or (value.type is not None and value.type.code == TypeCode.SECONDTIME):
        pattern = time_format(constant_text(nodes[1]))
        source = value.sql
        if value.type is not None and value.type.code == TypeCode.SECONDTIME:
            source = f"(DATE '1970-01-01' + {source})"
        return Bound(f"strftime({source}, {literal(pattern)})", nvarchar(), exact=True)
    raise unsupported("number formats in TO_VARCHAR")


@function("TO_DATS")
def _to_dats(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    (value,) = bind_arguments(binder, "TO_DATS", "D", nodes, scope)
    return Bound(f"strftime({value.sql}, '%Y%m%d')", nvarchar(8), exact=True)


def _moment(binder: ExpressionBinder, node: exp.Expr, scope: Scope) -> Bound:
    """A date or timestamp; text becomes a TIMESTAMP."""
    bound = binder.bind(node, scope)
    if types.is_datetime(bound.type):
        return bound
    return binder.coerce(bound, TIMESTAMP)


def _add(name: str, unit: str, factor: int = 1) -> Handler:
    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if len(nodes) != 2:
            raise wrong_arguments(name)
        value = _moment(binder, nodes[0], scope)
        amount = binder.coerce(binder.bind(nodes[1], scope), BIGINT)
        kind = value.type or TIMESTAMP
        if unit == "microseconds" and kind.code == TypeCode.DAYDATE:
            kind = SECONDDATE
        scaled = amount.sql if factor == 1 else f"({amount.sql} * {factor})"
        sql = f"CAST(CAST({value.sql} AS TIMESTAMP) + to_{unit}({scaled}) AS {types.storage(kind)})"
        return Bound(sql, kind, exact=True)

    return handler


FUNCTIONS["ADD_DAYS"] = _add("ADD_DAYS", "days")
FUNCTIONS["ADD_WEEKS"] = _add("ADD_WEEKS", "days", 7)
FUNCTIONS["ADD_MONTHS"] = _add("ADD_MONTHS", "months")
FUNCTIONS["ADD_YEARS"] = _add("ADD_YEARS", "years")
FUNCTIONS["ADD_SECONDS"] = _add("ADD_SECONDS", "microseconds", 1_000_000)
FUNCTIONS["ADD_MINUTES"] = _add("ADD_MINUTES", "microseconds", 60_000_000)
FUNCTIONS["ADD_HOURS"] = _add("ADD_HOURS", "microseconds", 3_600_000_000)

define("ADD_MONTHS_LAST", "Di", DATE,
       "CAST(CASE WHEN {0} = last_day({0}) THEN last_day(CAST({0} + to_months({1}) AS DATE)) "
       "ELSE {0} + to_months({1}) END AS DATE)")  # fmt: skip

for _name, _unit, _result in (
    ("DAYS_BETWEEN", "day", INTEGER), ("SECONDS_BETWEEN", "second", BIGINT), ("MONTHS_BETWEEN", "month", INTEGER),
    ("YEARS_BETWEEN", "year", INTEGER), ("HOURS_BETWEEN", "hour", BIGINT), ("MINUTES_BETWEEN", "minute", BIGINT),
    ("WEEKS_BETWEEN", "week", INTEGER),
):  # fmt: skip
    define(_name, "TT", _result, f"CAST(date_sub('{_unit}', {{0}}, {{1}}) AS {types.storage(_result)})")
define("NANO100_BETWEEN", "TT", BIGINT, "(date_sub('microsecond', {0}, {1}) * 10)")

for _name, _sql in {
    "YEAR": "year({0})", "MONTH": "month({0})", "DAYOFMONTH": "day({0})", "DAYOFYEAR": "dayofyear({0})",
    "HOUR": "hour({0})", "MINUTE": "minute({0})", "SECOND": "second({0})", "WEEK": "(week({0}))",
    "WEEKDAY": "(isodow({0}) - 1)",
}.items():  # fmt: skip
    define(_name, "T", INTEGER, f"CAST({_sql} AS INTEGER)")
define("DAYNAME", "T", nvarchar(10), "upper(dayname({0}))")
define("MONTHNAME", "T", nvarchar(10), "upper(monthname({0}))")
define("QUARTER", "T?i", nvarchar(10),
       "(CAST(year({0}) AS VARCHAR) || '-Q' || CAST(quarter({0}) AS VARCHAR))",
       "(CAST(year({0} - to_months({1} - 1)) AS VARCHAR) || '-Q' || "
       "CAST(quarter({0} - to_months({1} - 1)) AS VARCHAR))")  # fmt: skip
define(
    "ISOWEEK",
    "T",
    nvarchar(10),
    "(CAST(isoyear({0}) AS VARCHAR) || '-W' || lpad(CAST(week({0}) AS VARCHAR), 2, '0'))",
)
define("LAST_DAY", "D", DATE, "last_day({0})")
define("NEXT_DAY", "D", DATE, "CAST({0} + to_days(1) AS DATE)")


def _now(kind: SqlType, cut: str) -> Handler:
    def value(state: SessionState) -> object:
        return state.now

    def handler(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if nodes:
            raise wrong_arguments("CURRENT_TIMESTAMP")
        reference = binder.parameters.hide(value)
        sql = f"CAST({reference} AS TIMESTAMP)"
        return Bound(cut.format(sql), kind, False, exact=True)

    return handler


for _prefix in ("CURRENT_", "CURRENT_UTC"):
    NILADIC[f"{_prefix}DATE"] = _now(DATE, "CAST({0} AS DATE)")
    NILADIC[f"{_prefix}TIME"] = _now(TIME, "CAST(date_trunc('second', {0}) AS TIME)")
    NILADIC[f"{_prefix}TIMESTAMP"] = _now(TIMESTAMP, "{0}")
NILADIC["NOW"] = FUNCTIONS["NOW"] = _now(TIMESTAMP, "{0}")


@function("UTCTOLOCAL", "LOCALTOUTC")
def _zone(binder: ExpressionBinder, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if not 1 <= len(nodes) <= 2:
        raise wrong_arguments("UTCTOLOCAL")
    value = _moment(binder, nodes[0], scope)
    if len(nodes) == 2 and constant_text(nodes[1]).upper() != "UTC":
        raise HanaError(7, "feature not supported by the loopback server: time zones other than UTC")
    return value
