"""Many calls of one caller, at most so many at a time: what its thread or task has to remember of them."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from dataclasses import dataclass
from typing import Generic, TypeVar

from hana_ai.api.errors import TogetherAIRequestError
from hana_ai.api.transport.call import Call
from hana_ai.api.transport.engine import Crossing
from hana_ai.api.transport.watching import Watched

_T = TypeVar("_T")

Recover = Callable[[int, TogetherAIRequestError], bool]
"""Gets the position and the error of a call that failed, and says whether the others may go on."""


@dataclass(slots=True, eq=False)
class Member(Generic[_T]):
    """One call that is under way."""

    position: int
    call: Call
    watched: Watched
    crossing: Crossing[_T]
    context: Context
    """Of its own, so that what its watchers set in it is no other call's."""


class Gathering(Generic[_T]):
    """The calls of one caller.

    Parameters
    ----------
    calls : iterable of Call
        Taken one by one, when there is room for the next: what is still to come takes no memory.
    limit : int
    recover : callable, optional
        Default: the first error ends all.
    """

    def __init__(self, calls: Iterable[Call], limit: int, recover: Recover | None = None) -> None:
        self._calls = enumerate(calls)
        self._recover = recover
        self._limit = max(1, limit)
        self._under_way: list[Member[_T]] = []
        self._exhausted = False

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._under_way

    def next_calls(self) -> Iterator[tuple[int, Call]]:
        """Yield the next calls with their positions, for as long as there is room."""
        while not self._exhausted and len(self._under_way) < self._limit:
            taken = next(self._calls, None)
            if taken is None:
                self._exhausted = True
            else:
                yield taken

    def begin(self, member: Member[_T]) -> None:
        """Send a call on its way."""
        self._under_way.append(member)
        member.crossing.begin()

    def finished(self) -> Iterator[Member[_T]]:
        """Take the calls that have ended out, one by one."""
        for member in list(self._under_way):
            member.crossing.take()
            if member.crossing.ended:
                self._under_way.remove(member)
                yield member

    def recovers(self, member: Member[_T], error: TogetherAIRequestError) -> bool:
        """Whether the others may go on after the error of one."""
        return self._recover is not None and self._recover(member.position, error)

    def leave(self) -> None:
        """Cancel what is under way."""
        for member in self._under_way:
            member.crossing.leave()
            member.context.run(member.watched.__exit__, CancelledError, CancelledError(), None)
        self._under_way.clear()
