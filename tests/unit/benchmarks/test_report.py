"""How the benchmarks write down what they have found."""

from __future__ import annotations

import json

import pytest

from benchmarks.figures import FLOOR, OURS, Bar, Result, Round, Verdict
from benchmarks.report import as_json, header, number, sentence, table

LABELS = {FLOOR: "floor: nothing", OURS: "hana-ai-together"}


def result(*bars: Bar, wall_only: bool = False) -> Result:
    """Ours takes 3 ms and 2 ms of CPU, the floor 2 ms and 0.5 ms."""
    rounds = {FLOOR: [Round(0.002, 0.0005)] * 3, OURS: [Round(0.003, 0.002)] * 3}
    return Result("invoke", "one invoke", "ms", LABELS, rounds, bars, wall_only)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234567.8, "1,234,568"), (123.4, "123"), (99.96, "100.0"), (12.34, "12.3"), (1.234, "1.23"), (0.0, "0.00")],
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_table_has_a_row_for_each_contestant_under_its_columns() -> None:
    title, floor, ours = table(result())
    assert title == "one invoke [ms]"
    assert floor.split() == ["floor:", "nothing", "2.00", "2.00", "..", "2.00", "1.00", "0.67", "0.50", "1.00"]
    assert ours.split() == ["hana-ai-together", "3.00", "3.00", "..", "3.00", "1.50", "1.00", "2.00", "4.00"]
    assert len(header()) == len(ours) == len(floor)
    assert header().split() == ["median", "quartiles", "x", "floor", "x", "ours", "cpu", "x", "floor"]


def test_a_table_leaves_out_cpu_time_that_says_nothing() -> None:
    _, _, ours = table(result(wall_only=True))
    assert ours.split() == ["hana-ai-together", "3.00", "3.00", "..", "3.00", "1.50", "1.00"]


def test_a_table_ends_with_its_bars() -> None:
    *_, met, missed = table(result(Bar(1.5), Bar(1.4)))
    assert met == "  -> 1.50 times floor, at most 1.5: met"
    assert missed == "  -> 1.50 times floor, at most 1.4: MISSED"
    *_, by_cpu = table(result(Bar(1.5)), "cpu")
    assert by_cpu == "  -> 4.00 times floor, at most 1.5: MISSED"


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (Verdict(Bar(1 / 5, "litellm"), 0.1), "10.00 times faster than litellm, at least 5: met"),
        (Verdict(Bar(1 / 1.5, "baseline"), 0.8), "1.25 times faster than baseline, at least 1.5: MISSED"),
        (Verdict(Bar(1.1, "baseline"), 1.0), "1.00 times baseline, at most 1.1: met"),
        (Verdict(Bar(32e6, None), 48e6), "48.0 MB, at most 32.0 MB: MISSED"),
    ],
)
def test_bars_are_said_as_people_say_them(verdict: Verdict, said: str) -> None:
    assert sentence(verdict, "MB") == said


def test_json_has_seconds_of_every_round_and_the_verdicts() -> None:
    told = json.loads(json.dumps(as_json([result(Bar(1.5))], {"python": "3.11"}, "cpu")))
    assert told["about"] == {"python": "3.11"} and told["judged_by"] == "cpu"
    (case,) = told["cases"]
    assert case["measured"] == "seconds"
    assert case["contestants"][OURS]["wall"]["rounds"] == [0.003] * 3
    assert case["contestants"][OURS]["wall"]["to_floor"]["median"] == pytest.approx(1.5)
    assert case["contestants"][OURS]["cpu"]["median"] == 0.002
    assert case["bars"] == [{"against": FLOOR, "at_most": 1.5, "found": 4.0, "met": False}]


def test_json_has_no_cpu_time_that_says_nothing() -> None:
    (case,) = as_json([result(wall_only=True)], {})["cases"]
    assert "cpu" not in case["contestants"][OURS]
