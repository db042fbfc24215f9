"""The tries of one call: again at the same target, or at the next one.

This is where a 429 or a failure is turned into a wait, another target, or the caller's error. No I/O.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hana_ai.api.addresses.targets import FallbackTarget
from hana_ai.api.errors import (
    TogetherAIConnectionError,
    TogetherAIContextOverflowError,
    TogetherAIInvalidRequestError,
    TogetherAIModelNotFoundError,
    TogetherAIPaymentRequiredError,
    TogetherAIRequestError,
    TogetherAIResponseError,
    TogetherAIServerError,
    TogetherAIStreamError,
    TogetherAITimeoutError,
)
from hana_ai.api.transport.call import Call, RetryEvent
from hana_ai.api.wire.encoding import encode
from hana_ai.api.wire.events import stream_error

if TYPE_CHECKING:
    from hana_ai.api.transport.breaker import CircuitBreaker
    from hana_ai.api.transport.destinations import Destination, Destinations

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait before a further try, where the server does not say."""

    first_wait: float = 0.5
    """Seconds before the second try; doubled for each further one."""
    longest_wait: float = 10.0
    """Seconds at most."""
    jitter: float = 0.5
    """Part of a wait that is left to chance, so that callers do not come back all at once."""

    def wait(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        wait = min(self.longest_wait, self.first_wait * 2.0 ** max(0, failures - 1))
        return wait * random.uniform(1.0 - self.jitter, 1.0)


class QueueTimeoutError(TogetherAITimeoutError):
    """The call's time passed in this process's own queue; its target has nothing to do with it."""

    is_retryable = False


def queue_timeout(call: Call) -> QueueTimeoutError:
    """The error of a call whose time passed in the limiter's queue."""
    return QueueTimeoutError(
        f"timed out after {call.timeout:g} s, waiting for earlier requests of this process",
        model=call.model,
        hint="Raise TOGETHER_TIMEOUT or TOGETHER_MAX_CONCURRENCY.",
    )


_OUTAGE = (
    TogetherAIConnectionError,
    TogetherAITimeoutError,
    TogetherAIServerError,
    TogetherAIResponseError,
    TogetherAIModelNotFoundError,
    TogetherAIPaymentRequiredError,
)
"""What says that a target is of no use at present; a breaker counts these."""
_WRONG = (TogetherAIInvalidRequestError, TogetherAIContextOverflowError)
"""What says that a request is wrong, and not who sends it."""


class Attempts:
    """Decides after each failed try of a call whether and when there is another one."""

    __slots__ = ("_call", "_failed", "_policy", "destination")

    def __init__(self, destination: Destination, call: Call, policy: RetryPolicy) -> None:
        self.destination = destination
        """Of the target that is asked now."""
        self._call = call
        self._policy = policy
        self._failed = 0

    def failed(self, error: TogetherAIRequestError) -> RetryEvent:
        """Return what comes next: how long to wait before the next try, and at which target that is.

        Raises
        ------
        TogetherAIRequestError
            There is to be none.
        """
        call = self._call
        if isinstance(error, QueueTimeoutError) and call.refusal is not None:
            raise call.refusal
        in_turn = call.refusal is error and call.overtaken and call.max_retries > 0
        if not in_turn:
            self._failed += 1
        wait = self._wait(error)
        if wait is None:
            raise error
        if in_turn and error.retry_after is None:
            # The server is working off its callers, this one will have its turn: the limiter knows when.
            wait = 0.0
        return self._next_try(wait, error)

    def succeeded(self) -> None:
        """Tell that the target answered."""

    def abandoned(self) -> None:
        """Tell that the call ends without an outcome, such as by a cancellation."""

    def stream_ended(self) -> None:
        """Tell that a stream came to its end."""

    def stream_broke(self, error: TogetherAIRequestError) -> TogetherAIStreamError:
        """The error for a stream that had begun when this one came."""
        return stream_error(error)

    def _wait(self, error: TogetherAIRequestError) -> float | None:
        """Seconds until this target can be tried again, None for never."""
        call = self._call
        if not error.is_retryable or self._failed > call.max_retries:
            return None
        wait = error.retry_after
        if wait is None:
            wait = self._policy.wait(self._failed)
        return None if time.monotonic() + wait >= call.deadline else wait

    def _next_try(self, wait: float, error: TogetherAIRequestError, fallback: str | None = None) -> RetryEvent:
        call = self._call
        call.retries += 1
        where = f" at {fallback}" if fallback else ""
        logger.info("try %d of %s failed, next%s in %.2f s: %s", call.retries, call.path, where, wait, error)
        return RetryEvent(call.retries, wait, error, call.path, error.model or call.model, fallback)


class AttemptsWithFallback(Attempts):
    """Turns to the next target when the present one fails for good.

    That is so when the model is missing, the retries are used up, the breaker has opened, or a connection failed
    for the second time; and a target that says nothing is left after half of the time that the call has left.
    Targets whose breaker is open are passed over, unless all are: then the first is asked as if it were alone.
    """

    __slots__ = ("_all", "_breaker", "_end", "_errors", "_first", "_left", "_target")

    def __init__(self, destination: Destination, call: Call, policy: RetryPolicy, others: Destinations) -> None:
        super().__init__(destination, call, policy)
        self._all = others
        self._end = call.deadline
        self._errors: list[tuple[FallbackTarget, TogetherAIRequestError]] = []
        self._first = FallbackTarget(call.model or "", destination.base_url, destination.api_key)
        self._left = [self._first, *(target for target in call.fallback if target != self._first)]
        if not self._go_on():
            self._turn_to(self._first)

    def failed(self, error: TogetherAIRequestError) -> RetryEvent:
        """Return what comes next, which may be another target; see `Attempts`."""
        self._failed += 1
        self._errors.append((self._target, error))
        if isinstance(error, QueueTimeoutError):
            self._breaker.abandoned()
        elif isinstance(error, _OUTAGE):
            self._breaker.failed()
        else:
            self._breaker.succeeded()
        wait = self._wait(error)
        lost = self._breaker.is_open or (isinstance(error, TogetherAIConnectionError) and self._failed > 1)
        if wait is not None and not lost:
            return self._next_try(wait, error)
        if self._asked_wrongly(error):
            # It would be wrong at any target.
            raise error
        if self._go_on():
            return self._next_try(0.0, error, self._target.model)
        self._call.deadline = self._end
        wait = self._wait(error)
        if wait is None:
            raise self._summary()
        return self._next_try(wait, error)

    def _asked_wrongly(self, error: TogetherAIRequestError) -> bool:
        """Whether the request itself is at fault, as far as one can tell from the target that refused it."""
        if error.is_retryable or isinstance(error, _OUTAGE):
            return False
        if self._call.used is None:
            return True
        # At another address of the same model: too large a batch, say. Its key is another matter.
        return self._target.model == self._first.model and isinstance(error, _WRONG)

    def succeeded(self) -> None:
        """Tell that the target answered; the ledger's tag says when it was a fallback."""
        if self._call.stream:
            self._breaker.began()
        else:
            self._breaker.succeeded()
        if self._call.used is not None:
            self._call.tags += ("fallback",)

    def abandoned(self) -> None:
        """Let another call probe, if this one was to."""
        self._breaker.abandoned()

    def stream_ended(self) -> None:
        """Tell that a stream came to its end."""
        self._breaker.succeeded()

    def stream_broke(self, error: TogetherAIRequestError) -> TogetherAIStreamError:
        """The error for a stream that had begun when this one came; the breaker counts it."""
        if isinstance(error, _OUTAGE):
            self._breaker.failed()
        return super().stream_broke(error)

    def _go_on(self) -> bool:
        """Turn to the next target that may be asked; False when there is none, or no time."""
        while self._left and time.monotonic() < self._end:
            target = self._left.pop(0)
            if self._breaker_of(target).allow():
                self._turn_to(target)
                return True
        return False

    def _turn_to(self, target: FallbackTarget) -> None:
        call, first = self._call, self._first
        call.used = call.refusal = None
        if target.model != call.model:
            call.payload = encode({**(call.body or {}), "model": target.model})
        self.destination = self._destination_of(target)
        if target.model != first.model or target.base_url != first.base_url:
            call.used = {"model": target.model, "base_url": target.base_url, "instead_of": first.model}
        call.model = target.model
        self._target, self._breaker, self._failed = target, self._breaker_of(target), 0
        now = time.monotonic()
        call.deadline = now + (self._end - now) / 2 if self._left else self._end

    def _destination_of(self, target: FallbackTarget) -> Destination:
        assert target.base_url is not None and target.api_key is not None
        return self._all.at(target.base_url, target.api_key)

    def _breaker_of(self, target: FallbackTarget) -> CircuitBreaker:
        return self._destination_of(target).breaker(target.model)

    def _summary(self) -> TogetherAIRequestError:
        """The first error, which also says how the other targets failed."""
        _, error = self._errors[0]
        last = {target: exc for target, exc in self._errors[1:] if exc is not error}
        others = [f"{target}: {exc.message}" for target, exc in last.items() if target != self._errors[0][0]]
        if others:
            told = f"The fallback failed too ({'; '.join(others)})."
            error.hint = f"{error.hint} {told}" if error.hint else told
        self._call.model = self._errors[0][0].model
        return error


def attempts_at(destination: Destination, call: Call, policy: RetryPolicy, others: Destinations) -> Attempts:
    """The tries of a call that has begun."""
    if call.fallback:
        return AttemptsWithFallback(destination, call, policy, others)
    return Attempts(destination, call, policy)
