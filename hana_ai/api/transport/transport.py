"""One way out: every request to Together's inference API goes through a `Transport`.

It has four faces: whole replies and streams, for threads and for coroutines. The work is written once and runs in
the engine; what is left for each face is to wait, and to tell the watchers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from pydantic import SecretStr

from hana_ai.api.errors import TogetherAIConflictError, TogetherAIModelNotFoundError, TogetherAIRequestError
from hana_ai.api.transport.attempts import Attempts, RetryPolicy, attempts_at
from hana_ai.api.transport.call import Call, Reply
from hana_ai.api.transport.destinations import Destination, destinations_of
from hana_ai.api.transport.engine import (
    Crossing,
    Engine,
    closed_error,
    get_engine,
    running_engine,
)
from hana_ai.api.transport.exchange import BREAKAGE, Exchange, broken_exchange
from hana_ai.api.transport.gathering import Gathering, Member, Recover
from hana_ai.api.transport.waiters import LoopWaiter, Waiter, blocking_waiter
from hana_ai.api.transport.watching import Adviser, Observers, Watched, Watcher
from hana_ai.api.wire.headers import request_id_of
from hana_ai.api.wire.schemas import JSONObject

if TYPE_CHECKING:
    from weakref import ref

    from together import AsyncTogether

    from hana_ai.api.transport.breaker import CircuitBreaker
    from hana_ai.api.transport.limiter import Limiter

_T = TypeVar("_T")
_Chunk = JSONObject


class _Answer(NamedTuple):
    """A reply, and where it came from."""

    data: Any
    request_id: str | None
    destination: Destination


class Transport:
    """Requests to one address with one key. Thread-safe; `service.get_transport` shares them.

    Parameters
    ----------
    base_url : str
        Address without `/v1`.
    api_key : SecretStr
        Sent as bearer token, to `base_url` alone: redirects are not followed.
    max_concurrency : int
        Ceiling of the limiter.
    watchers : sequence of Watcher
        They are told of each call, and may refuse it.
    adviser : Adviser, optional
        Names available models where one is missing.
    """

    retry_policy: ClassVar[RetryPolicy] = RetryPolicy()
    max_reply_bytes: ClassVar[int] = 256 * 1024 * 1024
    """A larger reply is refused while it is read."""

    def __init__(
        self,
        *,
        base_url: str,
        api_key: SecretStr,
        max_concurrency: int = 64,
        watchers: Sequence[Watcher] = (),
        adviser: Adviser | None = None,
    ) -> None:
        self.base_url = base_url
        self.api_key = api_key
        self.closed = False
        """Whether `close` was called."""
        self.users: dict[int, ref[object]] = {}
        """Who asks through it, by their ids, for whoever keeps it; they may have no hash."""
        self._home: tuple[Engine | None, Destination | None] = (None, None)
        self._max_concurrency = max_concurrency
        self._observers = Observers(watchers, adviser)

    def __repr__(self) -> str:
        return f"Transport({self.base_url!r})"

    def limiter(self, model: str | None) -> Limiter:
        """The limiter of one model; what it learns about the rate is the process's, for this address and key."""
        return self._destination(get_engine()).limiter(model, self._max_concurrency)

    def breaker(self, model: str | None) -> CircuitBreaker:
        """The circuit breaker of one model at this address."""
        return self._destination(get_engine()).breaker(model)

    # --- the four faces ---

    def request(self, call: Call) -> Reply:
        """Send a request and return the decoded reply.

        Raises
        ------
        TogetherAIRequestError
            A subclass of it, once retries are exhausted.
        """
        self._begin(call).admit(call)
        try:
            with self._watch(call) as watched:
                return _reply(call, watched, self._crossing(call, blocking_waiter()).wait())
        except TogetherAIModelNotFoundError as exc:
            raise self._observers.suggest(exc, call) from exc.__cause__

    async def arequest(self, call: Call) -> Reply:
        """Send a request from a coroutine; raises the same errors as `request`."""
        await self._begin(call).aadmit(call)
        try:
            with self._watch(call) as watched:
                return _reply(call, watched, await self._crossing(call, LoopWaiter()).await_())
        except TogetherAIModelNotFoundError as exc:
            raise await self._observers.asuggest(exc, call) from exc.__cause__

    def stream(self, call: Call) -> Generator[_Chunk, None, None]:
        """Send a request and yield the decoded chunks of its answer as they come.

        Raises
        ------
        TogetherAIRequestError
            Before the first chunk: as `request` does. After it: TogetherAIStreamError.
        """
        self._begin(call).admit(call)
        try:
            with self._watch(call) as watched:
                crossing = self._stream_crossing(call, watched, blocking_waiter())
                batches = crossing.chunks()
                try:
                    for batch in batches:
                        watched.chunks_came()
                        yield from batch
                finally:
                    batches.close()
                crossing.result()
        except TogetherAIModelNotFoundError as exc:
            raise self._observers.suggest(exc, call) from exc.__cause__

    async def astream(self, call: Call) -> AsyncGenerator[_Chunk, None]:
        """Yield the decoded chunks from a coroutine; raises the same errors as `stream`."""
        await self._begin(call).aadmit(call)
        try:
            with self._watch(call) as watched:
                crossing = self._stream_crossing(call, watched, LoopWaiter())
                batches = crossing.achunks()
                try:
                    async for batch in batches:
                        watched.chunks_came()
                        for chunk in batch:
                            yield chunk
                finally:
                    await batches.aclose()
                crossing.result()
        except TogetherAIModelNotFoundError as exc:
            raise await self._observers.asuggest(exc, call) from exc.__cause__

    # --- many requests of one caller ---

    def request_each(
        self, calls: Iterable[Call], limit: int, recover: Recover | None = None
    ) -> Generator[tuple[int, Reply], None, None]:
        """Send requests, at most `limit` at a time, and yield each reply with its position as it comes.

        The calls are taken from their iterable one by one, when there is room for the next: what is still to come
        takes no memory. The first error that `recover` does not take care of cancels what is under way.

        Raises
        ------
        TogetherAIRequestError
            As `request`.
        """
        waiter = blocking_waiter()
        gathering = Gathering[_Answer](calls, limit, recover)
        try:
            while True:
                for position, call in gathering.next_calls():
                    self._begin(call).admit(call)
                    gathering.begin(self._member(position, call, waiter))
                if gathering.idle:
                    return
                waiter.wait()
                for member in gathering.finished():
                    try:
                        reply = _reply_of(member, gathering)
                    except TogetherAIModelNotFoundError as exc:
                        raise self._observers.suggest(exc, member.call) from exc.__cause__
                    if reply is not None:
                        yield member.position, reply
        finally:
            gathering.leave()

    async def arequest_each(
        self, calls: Iterable[Call], limit: int, recover: Recover | None = None
    ) -> AsyncGenerator[tuple[int, Reply], None]:
        """Send requests from a coroutine; raises the same errors as `request_each`."""
        waiter = LoopWaiter()
        gathering = Gathering[_Answer](calls, limit, recover)
        try:
            while True:
                for position, call in gathering.next_calls():
                    await self._begin(call).aadmit(call)
                    gathering.begin(self._member(position, call, waiter))
                if gathering.idle:
                    return
                await waiter.wait()
                for member in gathering.finished():
                    try:
                        reply = _reply_of(member, gathering)
                    except TogetherAIModelNotFoundError as exc:
                        raise await self._observers.asuggest(exc, member.call) from exc.__cause__
                    if reply is not None:
                        yield member.position, reply
        finally:
            gathering.leave()

    # --- the management API ---

    async def use_sdk(self, call: Call, operation: Callable[[AsyncTogether], Awaitable[_T]]) -> _T:
        """Run an operation of the SDK's own resources, within the call's deadline and with its retries.

        For the management API, whose few calls may cost the SDK's typed objects. A conflict is not tried again:
        it says that something has to be read anew.

        Raises
        ------
        TogetherAIRequestError
            A subclass of it, once retries are exhausted.
        """
        self._begin(call)
        engine = get_engine()
        work = partial(self._operate, engine, call, operation)
        crossing: Crossing[_T] = Crossing(engine, work, LoopWaiter())
        return await crossing.await_()

    # --- the end ---

    def close(self) -> None:
        """Close the connections; a later request raises TogetherAIConnectionError."""
        if (engine := self._leave()) is not None:
            Crossing(engine, self._close_connections, blocking_waiter()).wait()

    async def aclose(self) -> None:
        """Close the connections from a coroutine; see `close`."""
        if (engine := self._leave()) is not None:
            await Crossing(engine, self._close_connections, LoopWaiter()).await_()

    def _leave(self) -> Engine | None:
        """Refuse further calls; the engine, if there are connections in it."""
        self.closed = True
        engine = running_engine()
        return engine if engine is not None and self._home[0] is engine else None

    async def _close_connections(self, _: Crossing[None]) -> None:
        destination = self._home[1]
        if destination is not None:
            await destination.left_by(self)

    # --- in the caller's thread ---

    def _begin(self, call: Call) -> Observers:
        if self.closed:
            raise closed_error()
        call.begin()
        return self._observers

    def _watch(self, call: Call) -> Watched:
        return self._observers.watch(call, self.base_url, self.api_key)

    def _crossing(self, call: Call, waiter: Waiter, context: Context | None = None) -> Crossing[_Answer]:
        engine = get_engine()
        return Crossing(engine, partial(self._exchange, engine, call), waiter, context)

    def _stream_crossing(self, call: Call, watched: Watched, waiter: Waiter) -> Crossing[None]:
        engine = get_engine()
        return Crossing(engine, partial(self._hand_over, engine, call, watched), waiter)

    def _member(self, position: int, call: Call, waiter: Waiter) -> Member[_Answer]:
        context = copy_context()
        watched = context.run(self._watch, call)
        return Member(position, call, watched, self._crossing(call, waiter, context.copy()), context)

    # --- in the engine ---

    def _destination(self, engine: Engine) -> Destination:
        home, destination = self._home
        if home is not engine or destination is None:
            destination = destinations_of(engine).at(self.base_url, self.api_key)
            destination.users.add(self)
            self._home = (engine, destination)
        return destination

    async def _exchange(self, engine: Engine, call: Call, crossing: Crossing[_Answer]) -> _Answer:
        exchange = Exchange(call, self._max_concurrency, self.max_reply_bytes)
        attempts, (data, headers) = await self._tried(engine, call, crossing, exchange.whole)
        return _Answer(data, request_id_of(headers), attempts.destination)

    async def _hand_over(self, engine: Engine, call: Call, watched: Watched, crossing: Crossing[None]) -> None:
        exchange = Exchange(call, self._max_concurrency, self.max_reply_bytes)
        attempts, opened = await self._tried(engine, call, crossing, exchange.opened)
        destination = attempts.destination
        call.request_id = opened.reader.request_id
        watched.base_url, watched.api_key, watched.reader = (
            destination.base_url,
            destination.api_key,
            opened.reader,
        )
        try:
            async for batch in opened.batches():
                await crossing.hand_over(batch)
        except BREAKAGE as exc:
            error = broken_exchange(exc, destination, call.model)
            raise attempts.stream_broke(error) from error
        except TogetherAIRequestError as exc:
            raise attempts.stream_broke(exc) from exc
        else:
            attempts.stream_ended()
        finally:
            opened.close()

    async def _tried(
        self,
        engine: Engine,
        call: Call,
        crossing: Crossing[Any],
        once: Callable[[Destination], Awaitable[_T]],
    ) -> tuple[Attempts, _T]:
        """Run one try after the other until one succeeds."""
        attempts = attempts_at(self._destination(engine), call, self.retry_policy, destinations_of(engine))
        try:
            while True:
                try:
                    result = await once(attempts.destination)
                except TogetherAIRequestError as exc:
                    event = attempts.failed(exc)
                else:
                    attempts.succeeded()
                    return attempts, result
                if call.on_retry is not None:
                    await crossing.tell(partial(call.on_retry, event))
                if event.wait:
                    await asyncio.sleep(event.wait)
        except TogetherAIRequestError:
            raise
        except BaseException:
            attempts.abandoned()
            raise

    async def _operate(
        self,
        engine: Engine,
        call: Call,
        operation: Callable[[AsyncTogether], Awaitable[_T]],
        crossing: Crossing[_T],
    ) -> _T:
        import httpx

        from hana_ai.api.transport.sdk import BREAKAGE as SDK_BREAKAGE
        from hana_ai.api.transport.sdk import sdk_error

        async def once(destination: Destination) -> _T:
            # httpx closes a connection whose handshake it times out, but not one whose handshake is cancelled: its
            # own time-out has to come first.
            connect = min(call.connect_timeout, 0.9 * call.remaining)
            sdk = destination.sdk(self.max_reply_bytes)
            try:
                async with asyncio.timeout(call.remaining):
                    return await operation(sdk.with_options(timeout=httpx.Timeout(call.timeout, connect=connect)))
            except SDK_BREAKAGE as exc:
                error = sdk_error(exc, destination.base_url)
                error.is_retryable = error.is_retryable and not isinstance(error, TogetherAIConflictError)
                raise error from exc

        return (await self._tried(engine, call, crossing, once))[1]


def _reply(call: Call, watched: Watched, answer: _Answer) -> Reply:
    watched.base_url, watched.api_key = answer.destination.base_url, answer.destination.api_key
    watched.replied(answer.data, answer.request_id)
    return Reply(answer.data, answer.request_id, time.monotonic() - call.started, call.retries, call.used)


def _reply_of(member: Member[_Answer], gathering: Gathering[_Answer]) -> Reply | None:
    """What came of a call that has ended; its watchers are told. None where the others may go on without it."""

    def told() -> Reply:
        with member.watched:
            return _reply(member.call, member.watched, member.crossing.result())

    try:
        return member.context.run(told)
    except TogetherAIRequestError as exc:
        if not gathering.recovers(member, exc):
            raise
        return None
