"""HANA's hybrid calendar."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.local.hana.interface import HanaError
from hana_ai.api.local.hana.protocol import dates

GAP = (date(1582, 10, 5), date(1582, 10, 14))
labels = st.dates().filter(lambda day: not GAP[0] <= day <= GAP[1])
moments = st.datetimes().filter(lambda moment: not GAP[0] <= moment.date() <= GAP[1])


@pytest.mark.parametrize(
    ("label", "number"),
    [
        (date(1, 1, 1), 1),
        (date(1, 12, 31), 365),
        (date(4, 12, 31), 1461),
        (date(1582, 10, 4), 577737),
        (date(1582, 10, 15), 577738),
        (date(1970, 1, 1), 719165),
        (date(9999, 12, 31), 3652061),
    ],
)
def test_known_days(label: date, number: int) -> None:
    assert dates.day_number(label) == number
    assert dates.day_of_number(number) == label


@given(labels)
def test_every_label_has_its_own_day(label: date) -> None:
    assert dates.day_of_number(dates.day_number(label)) == label


@given(st.integers(1, dates.LAST_DAY - 1))
def test_days_follow_each_other(number: int) -> None:
    try:
        today, tomorrow = dates.day_of_number(number), dates.day_of_number(number + 1)
    except HanaError as error:
        # 29 February of 100, 200, 300, 500 ... 1500: only the Julian calendar has it.
        assert error.code == 303
        neighbour = dates.day_of_number(number + 2 if _has_label(number + 2) else number - 1)
        assert neighbour.year % 100 == 0
        assert neighbour.year % 400
        return
    expected = today + timedelta(days=1)
    if today == date(1582, 10, 4):
        expected = date(1582, 10, 15)
    assert tomorrow == expected


def _has_label(number: int) -> bool:
    try:
        return dates.day_of_number(number).month == 3 and dates.day_of_number(number).day <= 2
    except HanaError:
        return False


def test_a_julian_leap_day_is_an_error_because_python_cannot_write_it() -> None:
    number = dates.day_number(date(1500, 3, 1)) - 1
    assert dates.day_of_number(number - 1) == date(1500, 2, 28)
    with pytest.raises(HanaError) as error:
        dates.day_of_number(number)
    assert error.value.code == 303


@given(moments)
def test_longdates_survive(moment: datetime) -> None:
    assert dates.longdate_value(dates.longdate(moment)) == moment


@given(moments)
def test_seconddates_lose_only_fractions(moment: datetime) -> None:
    assert dates.seconddate_value(dates.seconddate(moment)) == moment.replace(microsecond=0)


@given(st.times())
def test_times_lose_only_fractions(moment: time) -> None:
    assert dates.secondtime_value(dates.secondtime(moment)) == moment.replace(microsecond=0)


def test_zero_and_the_number_beyond_the_end_are_null() -> None:
    for decode, null in (
        (dates.daydate_value, dates.NULL_DAYDATE),
        (dates.secondtime_value, dates.NULL_SECONDTIME),
        (dates.seconddate_value, dates.NULL_SECONDDATE),
        (dates.longdate_value, dates.NULL_LONGDATE),
    ):
        assert decode(0) is None
        assert decode(null) is None


@pytest.mark.parametrize("number", [-1, -(2**63), 2**63 - 1, 3652063])
def test_impossible_numbers_are_error_303(number: int) -> None:
    for decode in (dates.daydate_value, dates.secondtime_value, dates.longdate_value, dates.seconddate_value):
        if decode in (dates.longdate_value, dates.seconddate_value) and number == 3652063:
            continue
        with pytest.raises(HanaError) as error:
            decode(number)
        assert error.value.code == 303


def test_the_last_moment_is_the_one_before_null() -> None:
    assert dates.longdate(datetime.max) == dates.NULL_LONGDATE - 10
    assert dates.seconddate(datetime.max) == dates.NULL_SECONDDATE - 1
