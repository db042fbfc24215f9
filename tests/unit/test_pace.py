"""The learned rate, against a token bucket and a clock of its own: no time passes."""

from __future__ import annotations

import heapq
import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.limited import Bucket, Named, Plan
from hana_ai.api.transport.pace import Pace

_WORKERS = 64


class Client:
    """Workers that ask again as soon as they are answered, held back by a pace."""

    def __init__(self, bucket: Bucket, seed: int, name: str = "one") -> None:
        self.name = name
        self._random = random.Random(seed)
        self.pace = Pace(lambda: self._random.uniform(0.8, 1.25))
        self._bucket = bucket
        self._resume_at = 0.0
        self._idle = _WORKERS
        self._answers: list[float] = []
        self._waking = False

    def send(self, now: float) -> list[tuple[float, str, float]]:
        """Start what may start; returns what happens when, with the time it was sent."""
        events: list[tuple[float, str, float]] = []
        while self._idle:
            delay = self._resume_at - now
            if delay <= 1e-9:
                delay = self.pace.start(now) if self.pace.learned else 0.0
            if delay > 1e-9:
                if not self._waking:
                    self._waking = True
                    events.append((now + max(delay, 0.0005), "wake", now))
                break
            self._idle -= 1
            wait = self._bucket.take(now, self.name)
            if wait is None:
                events.append((now + self._bucket.plan.latency * self._random.uniform(1, 1.3), "answer", now))
            else:
                named = {"nothing": 0.0, "exact": wait, "seconds": math.ceil(wait)}[self._bucket.plan.named]
                events.append((now + 0.002, f"refusal {named}", now))
        return events

    def receive(self, now: float, what: str, sent: float) -> None:
        """Take what happened."""
        if what == "wake":
            self._waking = False
            return
        self._idle += 1
        if what == "answer":
            self._answers.append(now)
            return
        wait = float(what.split()[1])
        self._resume_at = max(self._resume_at, now + wait)
        recent = sum(1 for moment in self._answers[-3000:] if moment > now - 1)
        self.pace.refused(now, sent, wait, recent / max(0.05, min(1.0, now)))


def simulate(plan: Plan, *, seconds: float, clients: int = 1, seed: int = 1) -> Bucket:
    """Let clients work for some seconds of the simulation."""
    bucket = Bucket(plan)
    order = itertools.count()
    all_clients = [Client(bucket, seed * 100 + number, f"client {number}") for number in range(clients)]
    events = [(0.001 * number, next(order), client, "start", 0.0) for number, client in enumerate(all_clients)]
    while events[0][0] < seconds:
        now, _, client, what, sent = heapq.heappop(events)
        if what != "start":
            client.receive(now, what, sent)
        for at, event, begun in client.send(now):
            heapq.heappush(events, (at, next(order), client, event, begun))
    bucket.advance(seconds)
    return bucket


@pytest.mark.parametrize("named", ["nothing", "exact", "seconds"])
def test_the_allowed_rate_is_used_though_it_changes_three_times(named: Named) -> None:
    told = simulate(Plan([300, 150, 400, 250], seconds=15, named=named), seconds=72).statistics
    assert told.share >= 0.9
    assert told.refused_share < 0.05


@settings(max_examples=8, derandomize=True)
@given(
    rates=st.lists(st.floats(80, 500), min_size=4, max_size=4),
    depth=st.floats(0.5, 4.0),
    named=st.sampled_from(["nothing", "exact"]),
    seed=st.integers(0, 1000),
)
def test_any_rates_are_found(rates: list[float], depth: float, named: Named, seed: int) -> None:
    told = simulate(Plan(rates, seconds=15, depth=depth, named=named), seconds=60, seed=seed).statistics
    assert told.share >= 0.85
    assert told.refused_share < 0.06


@pytest.mark.parametrize("named", ["nothing", "exact"])
@pytest.mark.parametrize("seed", range(3))
def test_four_processes_get_equal_shares(named: Named, seed: int) -> None:
    told = simulate(Plan([300], named=named), seconds=60, clients=4, seed=seed).statistics
    mean = told.answered / 4
    assert told.share >= 0.9
    assert all(abs(count - mean) < 0.25 * mean for count in told.clients.values()), told.clients


def test_a_small_limit_is_kept_too() -> None:
    told = simulate(Plan([5], latency=0.5), seconds=200).statistics
    assert told.share >= 0.85
    # The first 64 did not know.
    assert told.refused - _WORKERS < 0.1 * told.answered


def test_only_the_first_refusal_of_requests_of_one_time_counts() -> None:
    pace = Pace(lambda: 1.0)
    pace.refused(10.0, 9.9, 0.0, 100.0)
    rate = pace.rate(10.0)
    assert rate == pytest.approx(50.0)
    pace.refused(10.01, 9.95, 0.0, 100.0)
    assert pace.rate(10.0) == rate


def test_a_refusal_brings_the_rate_down_to_what_was_answered_since_the_last_one() -> None:
    pace = Pace(lambda: 1.0)
    pace.refused(0.0, 0.0, 0.0, 200.0)
    started = sum(pace.start(step * 0.001) == 0.0 for step in range(1, 1000))
    before = pace.rate(1.0)
    pace.refused(1.0, 0.99, 0.0, 0.0)
    assert 0.6 * (started - 1) <= pace.rate(1.0) < before


def test_a_pause_takes_the_place_of_the_slack() -> None:
    rates = []
    for wait in (0.0, 1.0):
        pace = Pace(lambda: 1.0)
        pace.refused(0.0, 0.0, 0.0, 100.0)
        for step in range(1, 500):
            pace.start(step * 0.001)
        pace.refused(0.5, 0.49, wait, 0.0)
        rates.append(pace.rate(0.5))
        assert pace.start(0.5 + wait) > 0.0
    assert rates[0] == pytest.approx(0.6 * rates[1])


def test_missed_starts_are_made_up_for_within_bounds() -> None:
    pace = Pace(lambda: 1.0)
    pace.refused(0.0, 0.0, 0.0, 200.0)
    at_once = 0
    while pace.start(1.0) == 0.0:
        at_once += 1
    assert at_once == int(0.2 * pace.rate(1.0))


def test_a_rate_that_no_longer_limits_is_forgotten() -> None:
    pace = Pace(lambda: 1.0)
    pace.refused(0.0, 0.0, 0.0, 200.0)
    assert pace.start(60.0) == 0.0
    assert not pace.learned


def test_a_start_that_is_not_used_is_given_back() -> None:
    pace = Pace(lambda: 1.0)
    pace.refused(0.0, 0.0, 0.0, 20.0)
    assert pace.start(0.1) == 0.0
    assert pace.start(0.1) > 0.0
    pace.undo()
    assert pace.start(0.1) == 0.0
