"""HANA's day numbers: the hybrid calendar, Julian until 1582-10-04 and Gregorian from 1582-10-15.

Python's `date` is Gregorian throughout. Here it is only a label: 1582-10-04 is the day before 1582-10-15, as
HANA shows them. Day 1 is 0001-01-01.
"""

from __future__ import annotations

from datetime import date, datetime, time

from hana_ai.api.local.hana.interface import HanaError

FIRST_GREGORIAN_DAY = 577738
LAST_DAY = 3652061
"""9999-12-31."""

NULL_DAYDATE = 3652062
NULL_SECONDTIME = 86402
NULL_SECONDDATE = 315538070401
NULL_LONGDATE = 3155380704000000001

_GREGORIAN_OFFSET = 2
"""From Python's ordinals to day numbers, since both calendars count 0001-01-01 as 1."""
_DAY_SECONDS = 86_400
_TICKS = 10_000_000
_INVALID_DATE = 303


def day_number(value: date) -> int:
    """Return the number of the day with this label."""
    ordinal = value.toordinal()
    if ordinal >= FIRST_GREGORIAN_DAY - _GREGORIAN_OFFSET:
        return ordinal + _GREGORIAN_OFFSET
    years = value.year - 1
    days = years * 365 + years // 4
    # Unlike Python's calendar, the Julian one has a leap day in 1500 and in every other fourth year.
    february_is_long = value.month > 2 and value.year % 4 == 0
    return days + _DAYS_BEFORE_MONTH[value.month] + value.day + february_is_long


def day_of_number(number: int) -> date:
    """Return the label of a day.

    Raises
    ------
    HanaError
        Code 303 outside 0001-01-01 to 9999-12-31, and for the leap days that only the Julian calendar has
        (for example 1500-02-29), which Python cannot write.
    """
    if not 1 <= number <= LAST_DAY:
        raise _invalid(number)
    if number >= FIRST_GREGORIAN_DAY:
        return date.fromordinal(number - _GREGORIAN_OFFSET)
    cycles, rest = divmod(number - 1, 1461)
    years = min(rest // 365, 3)
    day = rest - years * 365
    year = cycles * 4 + years + 1
    leap = year % 4 == 0
    month = 1
    while month < 12 and day >= _DAYS_BEFORE_MONTH[month + 1] + (leap and month >= 2):
        month += 1
    try:
        return date(year, month, day - _DAYS_BEFORE_MONTH[month] - (leap and month > 2) + 1)
    except ValueError as error:
        raise _invalid(number) from error


def daydate(value: date) -> int:
    """Encode a DAYDATE."""
    return day_number(value)


def secondtime(value: time) -> int:
    """Encode a SECONDTIME; fractions of a second are dropped."""
    return value.hour * 3600 + value.minute * 60 + value.second + 1


def seconddate(value: datetime) -> int:
    """Encode a SECONDDATE; fractions of a second are dropped."""
    return (day_number(value) - 1) * _DAY_SECONDS + value.hour * 3600 + value.minute * 60 + value.second + 1


def longdate(value: datetime) -> int:
    """Encode a LONGDATE, in units of 100 nanoseconds."""
    return (seconddate(value) - 1) * _TICKS + value.microsecond * 10 + 1


def daydate_value(number: int) -> date | None:
    """Decode a DAYDATE; zero and the number after the last day are NULL."""
    return None if number in (0, NULL_DAYDATE) else day_of_number(number)


def secondtime_value(number: int) -> time | None:
    """Decode a SECONDTIME."""
    if number in (0, NULL_SECONDTIME):
        return None
    if not 1 <= number <= _DAY_SECONDS:
        raise _invalid(number)
    minutes, second = divmod(number - 1, 60)
    return time(minutes // 60, minutes % 60, second)


def seconddate_value(number: int) -> datetime | None:
    """Decode a SECONDDATE."""
    if number in (0, NULL_SECONDDATE):
        return None
    return _moment(number - 1, 0)


def longdate_value(number: int) -> datetime | None:
    """Decode a LONGDATE; the seventh digit is dropped, because `datetime` has six."""
    if number in (0, NULL_LONGDATE):
        return None
    seconds, ticks = divmod(number - 1, _TICKS)
    return _moment(seconds, ticks // 10)


def _moment(seconds: int, microsecond: int) -> datetime:
    days, rest = divmod(seconds, _DAY_SECONDS)
    day = day_of_number(days + 1)
    return datetime(day.year, day.month, day.day, rest // 3600, rest // 60 % 60, rest % 60, microsecond)


def _invalid(number: int) -> HanaError:
    return HanaError(_INVALID_DATE, f"invalid DATE, TIME or TIMESTAMP value: {number}")


_DAYS_BEFORE_MONTH = (0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
