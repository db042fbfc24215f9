"""A limiter whose places are handed out elsewhere, so that several processes keep to one limit together.

Who hands them out is an `Authority`, which has the `Limiter` that learns. It is asked before each request, and
told what came of it. Without one, which is the rule, a process has its own limiters.
"""

from __future__ import annotations

import asyncio
from collections import deque
from hashlib import blake2b
from typing import Literal, Protocol

from pydantic import SecretStr

from hana_ai.api.transport.limiter import Limiter, Rate

_GRANTS = 64

Outcome = Literal["released", "answered", "refused", "paused"]


class Authority(Protocol):
    """Hands out the places of all limiters; called in the engine's thread, which it must not block."""

    async def take(self, name: str, ceiling: int, timeout: float | None, *, again: bool) -> float | None:
        """Wait for a place, `timeout` seconds at most; see `Limiter.acquire`.

        Returns
        -------
        float or None
            When it was granted, on the authority's clock; None when none came in time.
        """

    def tell(self, name: str, ceiling: int, outcome: Outcome, sent: float = 0.0, wait: float = 0.0) -> None:
        """Tell what came of a request.

        Parameters
        ----------
        name, ceiling
            As for `take`.
        outcome
            What is told.
        sent : float
            When it was sent, on the authority's clock.
        wait : float
            Seconds that the server named.
        """


_authorities: list[Authority] = []
"""One at most."""


def share_limits(authority: Authority | None) -> None:
    """Let an authority hand out the places of this process from now on; None gives it limiters of its own."""
    _authorities[:] = [] if authority is None else [authority]


def authority() -> Authority | None:
    """Who hands out this process's places; None for nobody else."""
    return _authorities[0] if _authorities else None


class SharedLimiter(Limiter):
    """A limiter that asks an authority; it knows how much of this process is under way, and not of the others.

    Parameters
    ----------
    authority : Authority
    name : str
        The same for all that share the limit; see `limit_name`.
    ceiling : int
    rate : Rate
        Its clock is this process's; the authority's own rate is what holds starts back.
    """

    def __init__(self, authority: Authority, name: str, ceiling: int, rate: Rate) -> None:
        super().__init__(ceiling, rate)
        self._authority = authority
        self._name = name
        self._ahead: deque[float] = deque(maxlen=_GRANTS)
        """By how much this process's clock seemed to be ahead of the authority's, as the last places came."""

    async def acquire(self, timeout: float | None = None, *, again: bool = False) -> bool:
        """Take a place; waits `timeout` seconds at most and says whether it got one."""
        asked = asyncio.ensure_future(self._authority.take(self._name, self.ceiling, timeout, again=again))
        try:
            granted = await asyncio.shield(asked)
        except asyncio.CancelledError:
            # The place may be granted when nobody waits for it any more.
            asked.add_done_callback(self._give_up)
            raise
        if granted is None:
            return False
        self._ahead.append(self._rate.clock() - granted)
        self.in_use += 1
        return True

    def _give_up(self, asked: asyncio.Future[float | None]) -> None:
        if not asked.cancelled() and asked.exception() is None and asked.result() is not None:
            self._authority.tell(self._name, self.ceiling, "released")

    def release(self) -> None:
        """Give the place back."""
        self.in_use -= 1
        self._authority.tell(self._name, self.ceiling, "released")

    def succeeded(self) -> None:
        """Tell that the request was answered."""
        self._rate.answered()
        self._authority.tell(self._name, self.ceiling, "answered")

    def refused(self, sent: float, wait: float | None) -> None:
        """Tell that a request was refused with 429; see `Limiter.refused`."""
        # The place that came fastest tells best how far apart the clocks are. A request that seemed to have been
        # sent after the last decrease would decrease the rate once more, and a burst of refusals many times.
        self._authority.tell(self._name, self.ceiling, "refused", sent - min(self._ahead), wait or 0.0)

    def pause(self, wait: float | None) -> None:
        """Let nobody start for `wait` seconds."""
        if wait:
            self._authority.tell(self._name, self.ceiling, "paused", wait=wait)


def limit_name(base_url: str, api_key: SecretStr, model: str | None) -> str:
    """What tells the limits of a server apart: the address, the account and the model. The key cannot be told."""
    mark = blake2b(api_key.get_secret_value().encode(), digest_size=6, person=b"limit").hexdigest()
    return f"{model} at {base_url} for {mark}"


def limiter_at(base_url: str, api_key: SecretStr, model: str | None, ceiling: int, rate: Rate) -> Limiter:
    """The limiter of a model: one that asks the authority, else one of this process's own with this rate."""
    shared = authority()
    if shared is None:
        return Limiter(ceiling, rate)
    return SharedLimiter(shared, limit_name(base_url, api_key, model), ceiling, rate)
