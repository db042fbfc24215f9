"""What the benchmarks compute: spreads, ratios of neighbouring rounds, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import BASELINE, FLOOR, OURS, Bar, Result, Round, Spread


def result(
    *bars: Bar, wall_only: bool = False, cpu: Sequence[float] = (4, 4, 4, 4), **values: Sequence[float]
) -> Result:
    """A result with these figures; `cpu` is ours, everybody else's is 1."""
    rounds = {
        name: [Round(value, spent) for value, spent in zip(found, cpu if name == OURS else (1,) * 4, strict=True)]
        for name, found in values.items()
    }
    return Result("name", "title", "ms", {name: name for name in rounds}, rounds, bars, wall_only)


def test_a_spread_has_the_median_and_the_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(median=3.0, low=2.0, high=4.0)


def test_a_spread_of_one_value_is_that_value() -> None:
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


@given(st.lists(st.floats(min_value=1e-9, max_value=1e9), min_size=1))
def test_a_median_lies_between_its_quartiles_and_these_between_the_extremes(values: list[float]) -> None:
    spread = Spread.of(values)
    ordered = [min(values), spread.low, spread.median, spread.high, max(values)]
    assert all(one <= next_one * (1 + 1e-12) for one, next_one in pairwise(ordered))


def test_ratios_are_of_neighbouring_rounds_so_that_a_slow_minute_cancels_out() -> None:
    # Both are ten times slower in two of four rounds, in which the medians would compare 22 with 2.
    found = result(ours=[2, 20, 20, 2.4], floor=[1, 10, 10, 1])
    assert found.ratio(OURS, FLOOR).median == 2
    assert found.ratio(FLOOR, OURS).median == pytest.approx(0.5)


def test_a_bar_is_met_up_to_its_value() -> None:
    (verdict,) = result(Bar(1.5), ours=[1.5] * 4, floor=[1] * 4).verdicts()
    assert verdict.met and verdict.found == 1.5
    (verdict,) = result(Bar(1.5), ours=[1.51] * 4, floor=[1] * 4).verdicts()
    assert not verdict.met


def test_cpu_time_is_judged_where_it_is_asked_for() -> None:
    found = result(Bar(1.5), ours=[1] * 4, floor=[1] * 4)
    assert found.verdicts()[0].met
    assert found.verdicts("cpu")[0].found == 4


def test_cpu_time_is_not_judged_where_it_says_nothing() -> None:
    found = result(Bar(1.5), wall_only=True, ours=[1] * 4, floor=[1] * 4)
    assert found.verdicts("cpu")[0].found == 1


def test_an_absolute_bar_is_compared_with_our_median() -> None:
    (verdict,) = result(Bar(32e6, None), ours=[1e6, 3e6, 2e6, 90e6]).verdicts()
    assert verdict.found == 2.5e6 and verdict.met


def test_a_bar_against_a_checkout_that_was_not_measured_is_not_judged() -> None:
    bars = Bar(1.9), Bar(1 / 1.5, BASELINE)
    assert [each.bar for each in result(*bars, ours=[1] * 4, floor=[1] * 4).verdicts()] == [bars[0]]
    faster = result(*bars, ours=[1] * 4, floor=[1] * 4, baseline=[1.6] * 4)
    assert [each.met for each in faster.verdicts()] == [True, True]


def test_nothing_is_judged_without_us() -> None:
    assert result(Bar(1.9), Bar(1.0, None), floor=[1] * 4).verdicts() == []
