"""What is measured and how it is judged: rounds, medians with their spread, ratios, bars. No I/O."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

Unit = Literal["us", "ms", "s", "MB"]
Clock = Literal["wall", "cpu"]
"""What ratios are of. Wall time is what users wait for; CPU time says more where the machine is busy."""

SCALES: Mapping[Unit, float] = {"us": 1e6, "ms": 1e3, "s": 1.0, "MB": 1e-6}
"""From seconds, or bytes, to the unit that is shown."""

OURS = "ours"
FLOOR = "floor"
BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one contestant."""

    value: float
    """Seconds of wall time for one operation; for a case of memory, bytes."""
    cpu: float
    """Seconds of CPU time that the contestant's process spent on one operation, all threads together."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values and the quartiles around it."""

    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Summarize at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)

    def scaled(self, factor: float) -> Spread:
        """The same in another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Bar:
    """What our figure may be at most: a multiple of another contestant's, or an absolute value.

    "At least five times faster than `against`" is ``at_most=1/5``.
    """

    at_most: float
    """A ratio; seconds or bytes where `against` is None."""
    against: str | None = FLOOR


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bar beside what was measured."""

    bar: Bar
    found: float
    """Median of the ratios of all rounds; our median where the bar is absolute."""

    @property
    def met(self) -> bool:
        """Whether the bar is met."""
        return self.found <= self.bar.at_most


@dataclass(frozen=True, slots=True)
class Result:
    """All rounds of one case, by contestant; the same position in each list is the same round."""

    name: str
    title: str
    unit: Unit
    labels: Mapping[str, str]
    """What each contestant is, for the table."""
    rounds: Mapping[str, Sequence[Round]]
    bars: Sequence[Bar] = ()
    wall_only: bool = False
    """Whether there is no CPU time worth showing; then `clock` makes no difference."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """The peers that could not take part, and what they have written."""

    def values(self, contestant: str, clock: Clock = "wall") -> list[float]:
        """A contestant's figures, round by round."""
        by_cpu = clock == "cpu" and not self.wall_only
        return [each.cpu if by_cpu else each.value for each in self.rounds[contestant]]

    def spread(self, contestant: str, clock: Clock = "wall") -> Spread:
        """A contestant's figures, summarized."""
        return Spread.of(self.values(contestant, clock))

    def ratio(self, contestant: str, against: str, clock: Clock = "wall") -> Spread:
        """Ratios of two contestants, round by round.

        The rounds of both are neighbours in time, so that a machine that slows down for a while slows both; the
        ratio of their medians would not cancel that.
        """
        pairs = zip(self.values(contestant, clock), self.values(against, clock), strict=True)
        return Spread.of([mine / its for mine, its in pairs])

    def verdicts(self, clock: Clock = "wall") -> list[Verdict]:
        """The bars whose contestants were measured; a baseline is there only if it was asked for."""
        if OURS not in self.rounds:
            return []
        found: list[Verdict] = []
        for bar in self.bars:
            if bar.against is None:
                found.append(Verdict(bar, self.spread(OURS, clock).median))
            elif bar.against in self.rounds:
                found.append(Verdict(bar, self.ratio(OURS, bar.against, clock).median))
        return found
