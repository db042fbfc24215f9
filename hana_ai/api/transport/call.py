"""A request on its way: what is asked, how long and how often it is tried, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from hana_ai.api.wire.encoding import encode
from hana_ai.api.wire.long_lists import DecodePart
from hana_ai.api.wire.schemas import JSONObject

if TYPE_CHECKING:
    from hana_ai.api.addresses.targets import FallbackTarget
    from hana_ai.api.errors import TogetherAIRateLimitError, TogetherAIRequestError


@dataclass(frozen=True, slots=True)
class RetryEvent:
    """What an `on_retry` callback is told before each further try."""

    attempt: int
    """How many tries have failed so far, from 1."""
    wait: float
    """Seconds until the next try."""
    error: TogetherAIRequestError
    path: str
    model: str | None
    fallback: str | None = None
    """The model that is asked next, where the next try goes to another target."""


OnRetry = Callable[[RetryEvent], None]


@dataclass(slots=True)
class Call:
    """One request, with everything that decides how long and how often it is tried.

    `timeout` bounds the whole call in seconds, waiting and retries included; for a stream it bounds the time
    until the first chunk, and `stream_idle_timeout` each gap after it.
    """

    path: str
    # No repr: prompts are not for logs.
    body: Mapping[str, object] | None = field(default=None, repr=False)
    method: Literal["GET", "POST"] = "POST"
    params: Mapping[str, str | int] | None = None
    model: str | None = None
    """The model that is asked; with a fallback, the one that was asked last."""
    timeout: float = 60.0
    connect_timeout: float = 5.0
    stream_idle_timeout: float = 60.0
    max_retries: int = 3
    """For each target."""
    on_retry: OnRetry | None = None
    decode_part: DecodePart | None = None
    """Decodes a long list in the reply, a part at a time."""
    stream: bool = False
    kind: str = "chat"
    """Kind of model, for naming living ones when this one is gone."""
    tags: tuple[str, ...] = ()
    """For the ledger, beside those of `usage_tags`."""
    fallback: tuple[FallbackTarget, ...] = ()
    """Where else the call may go, in this order."""
    started: float = field(init=False, default=0.0)
    deadline: float = field(init=False, default=0.0)
    """Of the present target; the last one's is the whole call's."""
    retries: int = field(init=False, default=0)
    """How many further tries there have been so far, of all targets together."""
    payload: bytes | None = field(init=False, default=None, repr=False)
    refusal: TogetherAIRateLimitError | None = field(init=False, default=None)
    """What the last try ended in, where that was a 429."""
    overtaken: bool = field(init=False, default=False)
    """Whether the server that refused this call has answered another one since this one began."""
    request_id: str | None = field(init=False, default=None)
    """Of the stream that was opened."""
    used: JSONObject | None = field(init=False, default=None)
    """The fallback that answered, for `response_metadata`; None when the first target did."""

    def begin(self) -> None:
        """Start the clock and encode the body, once for all tries."""
        self.started = time.monotonic()
        self.deadline = self.started + self.timeout
        self.retries = 0
        if self.body is not None and self.payload is None:
            self.payload = encode(self.body)

    @property
    def remaining(self) -> float:
        """Seconds left; never below a millisecond, since 0 means "no timeout" to some libraries."""
        return max(0.001, self.deadline - time.monotonic())


@dataclass(slots=True)
class Reply:
    """A decoded reply and what is known about how it came."""

    data: Any
    request_id: str | None
    latency: float
    """Seconds from the first try to the last byte."""
    retries: int
    fallback: JSONObject | None = None
    """The target that answered in the first one's place, with `model`, `base_url` and `instead_of`."""
