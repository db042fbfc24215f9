"""The tries of one call: again at the same target, or at the next one."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

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
from hana_ai.api.wire.failures import encode, stream_error

if TYPE_CHECKING:
    from hana_ai.api.addresses.targets import CircuitBreaker, FallbackTarget
    from hana_ai.api.transport.transport import Transport

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

FIRST_WAIT = 0.5
LONGEST_WAIT = 10.0


class _NoPlaceError(TogetherAITimeoutError):
    """The call's time passed in this process's own queue; its target has nothing to do with it."""

    is_retryable = False


def no_place(call: Call) -> TogetherAITimeoutError:
    """The error of a call whose time passed in the limiter's queue."""
    return _NoPlaceError(
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

    __slots__ = ("_call", "_failed", "transport")

    def __init__(self, transport: Transport, call: Call) -> None:
        self.transport = transport
        """Of the target that is asked now."""
        self._call = call
        self._failed = 0

    def failed(self, error: TogetherAIRequestError) -> float:
        """Return the seconds to wait before the next try.

        Raises
        ------
        TogetherAIRequestError
            There is to be none.
        """
        call = self._call
        if isinstance(error, _NoPlaceError) and call.refusal is not None:
            raise call.refusal
        in_turn = call.refusal is error and call.others_answered and call.max_retries > 0
        if not in_turn:
            self._failed += 1
        wait = self._wait(error)
        if wait is None:
            raise error
        if in_turn and error.retry_after is None:
            # The server is working off its callers, this one will have its turn: the limiter knows when.
            wait = 0.0
        self._tell(wait, error)
        return wait

    def succeeded(self) -> None:
        """Tell that the target answered."""

    def abandoned(self) -> None:
        """Tell that the call ends without an outcome, such as by a cancellation."""

    def ended(self) -> None:
        """Tell that a stream came to its end."""

    def broken(self, error: TogetherAIRequestError) -> TogetherAIStreamError:
        """The error for a stream that had begun when this one came."""
        return stream_error(error)

    def _wait(self, error: TogetherAIRequestError) -> float | None:
        """Seconds until this target can be tried again, None for never."""
        call = self._call
        if not error.is_retryable or self._failed > call.max_retries:
            return None
        wait = error.retry_after
        if wait is None:
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** max(0, self._failed - 1)) * random.uniform(0.5, 1.0)
        return None if time.monotonic() + wait >= call.deadline else wait

    def _tell(self, wait: float, error: TogetherAIRequestError, fallback: str | None = None) -> None:
        call = self._call
        call.retries += 1
        where = f" at {fallback}" if fallback else ""
        logger.info("try %d of %s failed, next%s in %.2f s: %s", call.retries, call.path, where, wait, error)
        if call.on_retry is not None:
            call.on_retry(RetryEvent(call.retries, wait, error, call.path, error.model or call.model, fallback))


class AttemptsWithFallback(Attempts):
    """Turns to the next target when the present one fails for good.

    That is so when the model is missing, the retries are used up, the breaker has opened, or a connection failed
    for the second time; and a target that says nothing is left after half of the time that the call has left.
    Targets whose breaker is open are passed over, unless all are: then the first is asked as if it were alone.
    """

    __slots__ = ("_breaker", "_end", "_errors", "_first", "_home", "_left", "_target")

    def __init__(self, transport: Transport, call: Call) -> None:
        from hana_ai.api.addresses.targets import FallbackTarget

        super().__init__(transport, call)
        self._home = transport
        self._end = call.deadline
        self._errors: list[tuple[FallbackTarget, TogetherAIRequestError]] = []
        self._first = FallbackTarget(call.model or "", transport.base_url, transport.api_key)
        self._left = [self._first, *(target for target in call.fallback if target != self._first)]
        if not self._go_on():
            self._turn_to(self._first)

    def failed(self, error: TogetherAIRequestError) -> float:
        """Return the seconds to wait before the next try, which may be at another target; see `Attempts`."""
        self._failed += 1
        self._errors.append((self._target, error))
        if isinstance(error, _NoPlaceError):
            self._breaker.abandoned()
        elif isinstance(error, _OUTAGE):
            self._breaker.failed()
        else:
            self._breaker.succeeded()
        wait = self._wait(error)
        lost = self._breaker.is_open or (isinstance(error, TogetherAIConnectionError) and self._failed > 1)
        if wait is not None and not lost:
            self._tell(wait, error)
            return wait
        if self._asked_wrongly(error):
            # It would be wrong at any target.
            raise error
        if self._go_on():
            self._tell(0.0, error, self._target.model)
            return 0.0
        self._call.deadline = self._end
        wait = self._wait(error)
        if wait is None:
            raise self._summary()
        self._tell(wait, error)
        return wait

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

    def ended(self) -> None:
        """Tell that a stream came to its end."""
        self._breaker.succeeded()

    def broken(self, error: TogetherAIRequestError) -> TogetherAIStreamError:
        """The error for a stream that had begun when this one came; the breaker counts it."""
        if isinstance(error, _OUTAGE):
            self._breaker.failed()
        return super().broken(error)

    def _go_on(self) -> bool:
        """Turn to the next target that may be asked; False when there is none, or no time."""
        while self._left and time.monotonic() < self._end:
            target = self._left.pop(0)
            if self._breaker_of(target).allow():
                self._turn_to(target)
                return True
        return False

    def _turn_to(self, target: FallbackTarget) -> None:
        call, home = self._call, self._home
        call.used = call.refusal = None
        if target.model != call.model:
            call.payload = encode({**(call.body or {}), "model": target.model})
        if target.model != self._first.model or target.base_url != home.base_url:
            call.used = {"model": target.model, "base_url": target.base_url, "instead_of": self._first.model}
        call.model = target.model
        self.transport = home.at(target)
        self._target, self._breaker, self._failed = target, self._breaker_of(target), 0
        now = time.monotonic()
        call.deadline = now + (self._end - now) / 2 if self._left else self._end

    @staticmethod
    def _breaker_of(target: FallbackTarget) -> CircuitBreaker:
        from hana_ai.api.addresses.targets import breaker_of

        assert target.base_url is not None and target.api_key is not None
        return breaker_of(target.base_url, target.api_key, target.model)

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


def attempts_of(transport: Transport, call: Call) -> Attempts:
    """The tries of a call that has begun."""
    return AttemptsWithFallback(transport, call) if call.fallback else Attempts(transport, call)


def retrying(attempts: Attempts, call: Call, once: Callable[[Transport, Call], _T]) -> _T:
    """Run one try after the other until one succeeds."""
    while True:
        try:
            result = once(attempts.transport, call)
        except TogetherAIRequestError as exc:
            wait = attempts.failed(exc)
        except BaseException:
            attempts.abandoned()
            raise
        else:
            attempts.succeeded()
            return result
        if wait:
            time.sleep(wait)


async def aretrying(attempts: Attempts, call: Call, once: Callable[[Transport, Call], Awaitable[_T]]) -> _T:
    """Run one try after the other from a coroutine; see `retrying`."""
    while True:
        try:
            result = await once(attempts.transport, call)
        except TogetherAIRequestError as exc:
            wait = attempts.failed(exc)
        except BaseException:
            attempts.abandoned()
            raise
        else:
            attempts.succeeded()
            return result
        if wait:
            await asyncio.sleep(wait)
