"""One for each run on several machines: hands out parts, places of the limiters and money of the budget.

Everything runs in one event loop, and no lock is taken. A worker is known by its number and by its turn: when it
is lost, what it held is given back, its parts go to others, and whatever its ghost still says is not heard.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, NamedTuple

from hana_ai.api.errors import TogetherAIBudgetExceededError, TogetherAIClusterError
from hana_ai.api.hana.cluster.work import Counts, Lease, News, Note
from hana_ai.api.transport.limiter import Limiter, Rate
from hana_ai.api.transport.shared_limiter import Outcome
from hana_ai.api.usage.budget import Budget

MOST_TRIES = 5
"""Workers that may be lost over one part before it is taken for the cause."""
LOST_AFTER = 20.0
"""Seconds without a word after which a worker is taken for lost."""

Worker = tuple[int, int]
"""Number and turn."""
_Limit = tuple[str, int]
"""Name and ceiling."""


class Money(NamedTuple):
    """A budget, and what has been spent of it before the run began; USD."""

    limit: Decimal
    period: Literal["day", "month"]
    spent: Decimal

    def budget(self) -> Budget:
        """The budget, to be spent."""
        made = Budget(self.limit, self.period)
        made.set_others(self.spent, made.first_day)
        return made


@dataclass
class _Part:
    """A part that is not done."""

    number: int
    data: bytes
    tries: int = 0
    counted: Counter[str] = field(default_factory=Counter)


@dataclass
class _Member:
    """A worker's present turn."""

    turn: int
    heard: float
    parts: dict[int, _Part] = field(default_factory=dict)
    places: Counter[_Limit] = field(default_factory=Counter)


class Coordinator:
    """See the module.

    Parameters
    ----------
    room : int
        Parts that may wait.
    money : Money, optional
    lost_after : float
        Seconds.
    clock : callable
        Seconds, as `time.monotonic` gives them.
    """

    def __init__(
        self,
        room: int,
        money: Money | None = None,
        *,
        lost_after: float = LOST_AFTER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._room = room
        self._budget = None if money is None else money.budget()
        self._lost_after = lost_after
        self._clock = clock
        self._waiting: deque[_Part] = deque()
        self._members: dict[int, _Member] = {}
        self._handles: dict[int, object] = {}
        self._offered = 0
        self._ended = False
        self._stopped = False
        self._error: bytes | None = None
        self._changed = asyncio.Condition()
        self._rates: dict[str, Rate] = {}
        self._limiters: dict[tuple[str, int], Limiter] = {}
        self._begin_news()

    def _begin_news(self) -> None:
        self._counts: Counter[str] = Counter()
        self._notes: list[Note] = []
        self._finished: list[int] = []
        self._costs: list[tuple[Decimal, float]] = []

    # --- who began the run ---

    async def offer(self, part: bytes) -> bool:
        """Add a part, once there is room; False if the run has been stopped."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._stopped or len(self._waiting) < self._room)
            if self._stopped:
                return False
            self._waiting.append(_Part(self._offered, part))
            self._offered += 1
            self._changed.notify_all()
        return True

    async def end(self) -> None:
        """Say that no part will follow."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def stop(self, error: bytes | None = None) -> None:
        """Let nobody begin a further part, and all leave those that are under way."""
        async with self._changed:
            self._stopped = True
            self._error = self._error or error
            self._waiting.clear()
            self._changed.notify_all()

    async def news(self) -> News:
        """What has happened since; workers that are lost are noticed here."""
        for number, member in list(self._members.items()):
            if member.parts and self._clock() - member.heard > self._lost_after:
                await self._lose(number)
        counts, notes, finished, costs = dict(self._counts), self._notes, self._finished, self._costs
        self._begin_news()
        return News(counts, notes, finished, costs, await self.is_over(), self._error)

    async def is_over(self) -> bool:
        """Whether nothing is left to do, or under way."""
        idle = not self._waiting and not any(member.parts for member in self._members.values())
        return idle and (self._ended or self._stopped)

    async def handles(self) -> list[object]:
        """What the workers gave as they joined."""
        return list(self._handles.values())

    # --- workers ---

    async def join(self, number: int, handle: object = None) -> int:
        """Begin a worker's next turn; what its last one held is given back."""
        await self._lose(number)
        self._handles[number] = handle
        turn = self._members[number].turn if number in self._members else 0
        self._members[number] = _Member(turn + 1, self._clock())
        return turn + 1

    async def _lose(self, number: int) -> None:
        member = self._members.get(number)
        if member is None:
            return
        self._members[number] = _Member(member.turn + 1, self._clock())
        for key, count in member.places.items():
            for _ in range(count):
                self._limiters[key].release()
        for part in member.parts.values():
            part.tries += 1
            if part.tries >= MOST_TRIES:
                error = TogetherAIClusterError(
                    f"{part.tries} workers were lost, one after the other, over the same part of the source. Look "
                    "for what ends them in Ray's logs, such as too little memory."
                )
                await self.stop(pickled(error))
        async with self._changed:
            if not self._stopped:
                self._waiting.extendleft(member.parts.values())
            self._changed.notify_all()

    def _is_present(self, worker: Worker) -> bool:
        member = self._members.get(worker[0])
        return member is not None and member.turn == worker[1]

    def _present(self, worker: Worker) -> _Member | None:
        """Who speaks; None for a ghost."""
        if not self._is_present(worker):
            return None
        member = self._members[worker[0]]
        member.heard = self._clock()
        return member

    async def next_part(self, worker: Worker) -> Lease | None:
        """Wait for a part; None if there is none to come, or it is another's turn."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._waiting or self._stopped or self._all_done() or not self._is_present(worker)
            )
            if not self._is_present(worker) or self._stopped or not self._waiting:
                return None
            member = self._members[worker[0]]
            part = self._waiting.popleft()
            member.parts[part.number] = part
            self._changed.notify_all()
            return Lease(part.number, part.data, dict(part.counted))

    def _all_done(self) -> bool:
        # What is under way may come back: whoever waits may have to take it over.
        return self._ended and not any(member.parts for member in self._members.values())

    async def done(self, worker: Worker, number: int) -> None:
        """Say that a part is done, and committed."""
        member = self._present(worker)
        if member is not None and member.parts.pop(number, None) is not None:
            self._finished.append(number)
            async with self._changed:
                self._changed.notify_all()

    async def report(self, worker: Worker, number: int, counts: Counts, notes: Sequence[Note]) -> None:
        """Add to the counts of a part."""
        member = self._present(worker)
        if member is not None and number in member.parts:
            # `+=` would drop what is negative.
            member.parts[number].counted.update(counts)
            self._counts.update(counts)
            self._notes += notes

    async def fail(self, worker: Worker, error: bytes) -> None:
        """Stop the run, since a worker cannot go on."""
        member = self._present(worker)
        if member is not None:
            member.parts.clear()
            await self.stop(error)

    async def beat(self, worker: Worker) -> bool:
        """Say that one is there; False when it is to leave."""
        return self._present(worker) is not None and not self._stopped

    async def leave(self, worker: Worker) -> None:
        """Say that one has ended."""
        member = self._present(worker)
        if member is not None:
            # Parts that were not done: the run has been stopped.
            member.parts.clear()
            await self._lose(worker[0])

    # --- places and money ---

    async def take(
        self, worker: Worker, limit: _Limit, timeout: float | None, *, again: bool
    ) -> float | TogetherAIBudgetExceededError | None:
        """Wait for a place of a limiter; see `shared_limiter.Authority`. The error where the budget is spent."""
        limiter = self._limiter(*limit)
        if (error := self._spent()) is not None:
            return error
        if not await limiter.acquire(timeout, again=again):
            return None
        member = self._present(worker)
        if member is None or (error := self._spent()) is not None:
            limiter.release()
            return error
        member.places[limit] += 1
        return self._clock()

    def _spent(self) -> TogetherAIBudgetExceededError | None:
        try:
            if self._budget is not None:
                self._budget.check()
        except TogetherAIBudgetExceededError as exc:
            return exc
        return None

    async def tell(self, worker: Worker, limit: _Limit, outcome: Outcome, sent: float, wait: float) -> None:
        """Tell what came of a request; see `shared_limiter.Authority`."""
        limiter = self._limiter(*limit)
        if outcome == "answered":
            limiter.succeeded()
        elif outcome == "refused":
            limiter.refused(sent, wait)
        elif outcome == "paused":
            limiter.pause(wait)
        else:
            member = self._present(worker)
            if member is not None and member.places[limit] > 0:
                member.places[limit] -= 1
                limiter.release()

    def _limiter(self, name: str, ceiling: int) -> Limiter:
        limiter = self._limiters.get((name, ceiling))
        if limiter is None:
            rate = self._rates.setdefault(name, Rate(clock=self._clock))
            limiter = self._limiters[name, ceiling] = Limiter(ceiling, rate)
        return limiter

    async def spend(self, cost: Decimal, called_at: float) -> None:
        """Count what a call has cost, whoever made it."""
        if self._budget is not None:
            self._budget.add(cost, called_at)
        self._costs.append((cost, called_at))


def pickled(error: BaseException) -> bytes:
    """An error as bytes; one that cannot be pickled, as another that says the same."""
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # noqa: BLE001 - whatever a class of somebody else's raises
        return pickle.dumps(TogetherAIClusterError(f"{type(error).__name__}: {error}"))
    return data
