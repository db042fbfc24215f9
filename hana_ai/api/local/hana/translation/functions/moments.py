"""Functions on dates and times, and conversions with a format."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from hana_ai.api.local.hana import types
from hana_ai.api.local.hana.catalog.environment import SessionState
from hana_ai.api.local.hana.errors import syntax, unsupported
from hana_ai.api.local.hana.interface import HanaError, SqlType, TypeCode
from hana_ai.api.local.hana.language import nodes as syntax_nodes
from hana_ai.api.local.hana.names import literal
from hana_ai.api.local.hana.translation.binding import Binding, Handler, NodeHandler
from hana_ai.api.local.hana.translation.conversions import cast
from hana_ai.api.local.hana.translation.fragments import cast_to, compose
from hana_ai.api.local.hana.translation.functions.signatures import (
    Simple,
    bind_arguments,
    by_name,
    constant_text,
    wrong_arguments,
)
from hana_ai.api.local.hana.translation.scope import Bound, Scope
from hana_ai.api.local.hana.types import BIGINT, DATE, INTEGER, SECONDDATE, TIME, TIMESTAMP, nvarchar

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


def _parsed(name: str, target: SqlType) -> Handler:
    def handler(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if not 1 <= len(nodes) <= 2:
            raise wrong_arguments(name)
        value = binder.bind(nodes[0], scope)
        if len(nodes) == 1:
            return cast(binder, value, target)
        value = binder.coerce(value, nvarchar())
        pattern = time_format(constant_text(nodes[1])).replace("%f0", "%f")
        parsed = compose("strptime({}, {})", value.sql, literal(pattern))
        return Bound(cast_to(parsed, types.storage(target)), target, exact=True)

    return handler


def _to_nvarchar(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    if not 1 <= len(nodes) <= 2:
        raise wrong_arguments("TO_NVARCHAR")
    value = binder.bind(nodes[0], scope)
    if len(nodes) == 1:
        if value.type is None:
            return binder.coerce(value, nvarchar())
        if types.is_string(value.type) and value.type.code not in types.LOBS:
            return value
        return cast(binder, value, nvarchar())
    is_time = value.type is not None and value.type.code == TypeCode.SECONDTIME
    if not is_time and not types.is_datetime(value.type):
        raise unsupported("number formats in TO_VARCHAR")
    pattern = time_format(constant_text(nodes[1]))
    moment = compose("(DATE '1970-01-01' + {})", value.sql) if is_time else value.sql
    return Bound(compose("strftime({}, {})", moment, literal(pattern)), nvarchar(), exact=True)


def _to_dats(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
    (value,) = bind_arguments(binder, "TO_DATS", "D", nodes, scope)
    return Bound(compose("strftime({}, '%Y%m%d')", value.sql), nvarchar(8), exact=True)


def _moment(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    # Text becomes a TIMESTAMP.
    bound = binder.bind(node, scope)
    if types.is_datetime(bound.type):
        return bound
    return binder.coerce(bound, TIMESTAMP)


def _add(name: str, unit: str, factor: int = 1) -> Handler:
    def handler(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if len(nodes) != 2:
            raise wrong_arguments(name)
        value = _moment(binder, nodes[0], scope)
        amount = binder.coerce(binder.bind(nodes[1], scope), BIGINT)
        kind = value.type or TIMESTAMP
        if unit == "microseconds" and kind.code == TypeCode.DAYDATE:
            kind = SECONDDATE
        scaled = amount.sql if factor == 1 else compose("({} * {})", amount.sql, factor)
        later = compose("CAST({} AS TIMESTAMP) + to_{}({})", value.sql, unit, scaled)
        return Bound(cast_to(later, types.storage(kind)), kind, exact=True)

    return handler


_ADDING = {
    "ADD_DAYS": ("days", 1),
    "ADD_WEEKS": ("days", 7),
    "ADD_MONTHS": ("months", 1),
    "ADD_YEARS": ("years", 1),
    "ADD_SECONDS": ("microseconds", 1_000_000),
    "ADD_MINUTES": ("microseconds", 60_000_000),
    "ADD_HOURS": ("microseconds", 3_600_000_000),
}


def _between(name: str, unit: str, result: SqlType) -> Simple:
    return Simple(name, "TT", result, f"CAST(date_sub('{unit}', {{0}}, {{1}}) AS {types.storage(result)})")


def _part(name: str, template: str) -> Simple:
    return Simple(name, "T", INTEGER, f"CAST({template} AS INTEGER)")


_SIMPLE = (
    Simple(
        "ADD_MONTHS_LAST", "Di", DATE,
        "CAST(CASE WHEN {0} = last_day({0}) THEN last_day(CAST({0} + to_months({1}) AS DATE)) "
        "ELSE {0} + to_months({1}) END AS DATE)",
    ),
    _between("DAYS_BETWEEN", "day", INTEGER),
    _between("SECONDS_BETWEEN", "second", BIGINT),
    _between("MONTHS_BETWEEN", "month", INTEGER),
    _between("YEARS_BETWEEN", "year", INTEGER),
    _between("HOURS_BETWEEN", "hour", BIGINT),
    _between("MINUTES_BETWEEN", "minute", BIGINT),
    _between("WEEKS_BETWEEN", "week", INTEGER),
    Simple("NANO100_BETWEEN", "TT", BIGINT, "(date_sub('microsecond', {0}, {1}) * 10)"),
    _part("YEAR", "year({0})"),
    _part("MONTH", "month({0})"),
    _part("DAYOFMONTH", "day({0})"),
    _part("DAYOFYEAR", "dayofyear({0})"),
    _part("HOUR", "hour({0})"),
    _part("MINUTE", "minute({0})"),
    _part("SECOND", "second({0})"),
    _part("WEEK", "(week({0}))"),
    _part("WEEKDAY", "(isodow({0}) - 1)"),
    Simple("DAYNAME", "T", nvarchar(10), "upper(dayname({0}))"),
    Simple("MONTHNAME", "T", nvarchar(10), "upper(monthname({0}))"),
    Simple(
        "QUARTER", "T?i", nvarchar(10),
        "(CAST(year({0}) AS VARCHAR) || '-Q' || CAST(quarter({0}) AS VARCHAR))",
        "(CAST(year({0} - to_months({1} - 1)) AS VARCHAR) || '-Q' || "
        "CAST(quarter({0} - to_months({1} - 1)) AS VARCHAR))",
    ),
    Simple(
        "ISOWEEK", "T", nvarchar(10),
        "(CAST(isoyear({0}) AS VARCHAR) || '-W' || lpad(CAST(week({0}) AS VARCHAR), 2, '0'))",
    ),
    Simple("LAST_DAY", "D", DATE, "last_day({0})"),
    Simple("NEXT_DAY", "D", DATE, "CAST({0} + to_days(1) AS DATE)"),
)  # fmt: skip


def _now(kind: SqlType, template: str) -> Handler:
    def value(state: SessionState) -> object:
        return state.now

    def handler(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if nodes:
            raise wrong_arguments("CURRENT_TIMESTAMP")
        moment = cast_to(binder.parameters.hide(value), "TIMESTAMP")
        return Bound(compose(template, moment), kind, False, exact=True)

    return handler


def _zone(name: str, template: str) -> Handler:
    def handler(binder: Binding, nodes: Sequence[exp.Expr], scope: Scope) -> Bound:
        if not 1 <= len(nodes) <= 3:
            raise wrong_arguments(name)
        value = _moment(binder, nodes[0], scope)
        if len(nodes) == 3 and constant_text(nodes[2]).upper() not in {"SAP", "PLATFORM"}:
            raise HanaError(2048, f"column store error: {name}: unknown data set of time zones")
        if len(nodes) == 1:
            # The server's own time is UTC.
            return value
        zone = binder.coerce(binder.bind(nodes[1], scope), nvarchar()).sql
        return Bound(compose(template, zone, cast_to(value.sql, "TIMESTAMP")), value.type, exact=True)

    return handler


def _extract(binder: Binding, node: exp.Expr, scope: Scope) -> Bound:
    part = node.args["part"]
    if part not in {"YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"}:
        raise syntax(f'"{part}"')
    return FUNCTIONS[part if part != "DAY" else "DAYOFMONTH"](binder, [node.this], scope)


_CURRENT_TIMESTAMP = _now(TIMESTAMP, "{0}")

FUNCTIONS: dict[str, Handler] = {
    **by_name(_SIMPLE),
    **{name: _add(name, *step) for name, step in _ADDING.items()},
    "TO_DATE": _parsed("TO_DATE", DATE),
    "TO_TIMESTAMP": _parsed("TO_TIMESTAMP", TIMESTAMP),
    "TO_SECONDDATE": _parsed("TO_SECONDDATE", SECONDDATE),
    "TO_TIME": _parsed("TO_TIME", TIME),
    **dict.fromkeys(("TO_NVARCHAR", "TO_VARCHAR", "TO_CHAR", "TO_ALPHANUM", "TO_FIXEDCHAR"), _to_nvarchar),
    "TO_DATS": _to_dats,
    "NOW": _CURRENT_TIMESTAMP,
    "UTCTOLOCAL": _zone("UTCTOLOCAL", "timezone({0}, timezone('UTC', {1}))"),
    "LOCALTOUTC": _zone("LOCALTOUTC", "timezone('UTC', timezone({0}, {1}))"),
}
NILADIC: dict[str, Handler] = {
    "NOW": _CURRENT_TIMESTAMP,
    **{
        f"{prefix}{name}": handler
        for prefix in ("CURRENT_", "CURRENT_UTC")
        for name, handler in (
            ("DATE", _now(DATE, "CAST({0} AS DATE)")),
            ("TIME", _now(TIME, "CAST(date_trunc('second', {0}) AS TIME)")),
            ("TIMESTAMP", _CURRENT_TIMESTAMP),
        )
    },
}
NODES: dict[type[exp.Expr], NodeHandler] = {syntax_nodes.ExtractPart: _extract}
