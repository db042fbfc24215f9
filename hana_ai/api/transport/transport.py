"""One way out: every request to Together goes through a `Transport`.

It owns the SDK's clients (one synchronous client, one asynchronous client per event loop), the limiter, the
retry loop and the deadlines, and turns whatever goes wrong into one error of `errors`. The SDK authenticates,
pools connections and builds the requests; the replies' bytes are read here, because the SDK's typed objects
cost more than the parsing itself.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import SecretStr

from hana_ai.api.errors import (
    TogetherAIConflictError,
    TogetherAIModelNotFoundError,
    TogetherAIRateLimitError,
    TogetherAIRequestError,
    TogetherAIServerError,
)
from hana_ai.api.transport.attempts import Attempts, aretrying, attempts_of, no_place, retrying
from hana_ai.api.transport.body import abody_of, aclose, body_of, close
from hana_ai.api.transport.call import Call, OnRetry, Reply, RetryEvent
from hana_ai.api.transport.connections import Connections, breakage
from hana_ai.api.transport.deadlines import until
from hana_ai.api.transport.limiter import Limiter
from hana_ai.api.transport.reading import (
    Opened,
    aread_reply,
    aread_to_the_end,
    check,
    event_reader,
    read_reply,
    read_to_the_end,
    within,
)
from hana_ai.api.transport.starts import shared_starts
from hana_ai.api.usage.key import IN_MEMORY, UsageKey
from hana_ai.api.usage.meter import Meter, Recorder
from hana_ai.api.wire.failures import forget_frames, request_id_of, status_error, transport_error

if TYPE_CHECKING:
    import httpx
    from together import AsyncTogether

    from hana_ai.api.addresses.targets import FallbackTarget
    from hana_ai.api.catalog.catalog import Catalog

__all__ = ["Call", "OnRetry", "Reply", "RetryEvent", "Transport", "close_all", "get_transport"]

_sdk_logger = logging.getLogger("together")

_T = TypeVar("_T")


class Transport:
    """Requests to one address with one key. Thread-safe; use `get_transport` to share one.

    Parameters
    ----------
    base_url : str
        Address without `/v1`.
    api_key : SecretStr
        Sent as bearer token, to `base_url` alone: redirects are not followed.
    max_concurrency : int
        Ceiling of the limiter.
    recorder : Recorder, optional
        Gets a record of each call that costs tokens, and may refuse the next one.
    """

    def __init__(
        self, *, base_url: str, api_key: SecretStr, max_concurrency: int = 64, recorder: Recorder | None = None
    ) -> None:
        self.base_url = base_url
        self.api_key = api_key
        self.recorder = recorder
        self._max_concurrency = max_concurrency
        self._limiters: dict[str | None, Limiter] = {}
        self._lock = threading.Lock()
        self._connections = Connections(base_url, api_key)

    def __repr__(self) -> str:
        return f"Transport({self.base_url!r})"

    @cached_property
    def catalog(self) -> Catalog:
        """The models that this address serves."""
        from hana_ai.api.catalog.catalog import Catalog

        return Catalog(self)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._connections.closed

    def limiter(self, model: str | None) -> Limiter:
        """The limiter of one model; what it learns about the rate is the process's, for this address and key."""
        limiter = self._limiters.get(model)
        if limiter is None:
            with self._lock:
                starts = shared_starts((self.base_url, self.api_key, model))
                limiter = self._limiters.setdefault(model, Limiter(self._max_concurrency, starts))
        return limiter

    def at(self, target: FallbackTarget) -> Transport:
        """The transport to a target with its address and key: this one, where they are the same."""
        if target.base_url == self.base_url and target.api_key == self.api_key:
            return self
        assert target.base_url is not None and target.api_key is not None
        return get_transport(
            base_url=target.base_url, api_key=target.api_key, max_concurrency=self._max_concurrency
        )

    # --- the four faces ---

    def request(self, call: Call) -> Reply:
        """Send a request and return the decoded reply.

        Raises
        ------
        TogetherAIRequestError
            The one of its subclasses that fits, after the retries.
        """
        meter = self._begin(call)
        meter.admit()
        try:
            with meter:
                attempts = attempts_of(self, call)
                data, headers = retrying(attempts, call, Transport._exchange)
                request_id = request_id_of(headers)
                meter.reply(data, request_id, attempts.transport.catalog)
        except TogetherAIModelNotFoundError as exc:
            if call.model is None:
                raise
            raise self.catalog.suggest(exc, call.kind) from exc.__cause__
        return Reply(data, request_id, time.monotonic() - call.started, call.retries, call.used)

    async def arequest(self, call: Call) -> Reply:
        """Send a request from a coroutine; see `request`."""
        meter = self._begin(call)
        if meter.limited:
            await meter.aadmit()
        try:
            with meter:
                attempts = attempts_of(self, call)
                data, headers = await aretrying(attempts, call, Transport._aexchange)
                request_id = request_id_of(headers)
                meter.reply(data, request_id, attempts.transport.catalog)
        except TogetherAIModelNotFoundError as exc:
            if call.model is None:
                raise
            raise await self.catalog.asuggest(exc, call.kind) from exc.__cause__
        return Reply(data, request_id, time.monotonic() - call.started, call.retries, call.used)

    def stream(self, call: Call) -> Generator[dict[str, Any], None, None]:
        """Send a request and yield the decoded chunks of its answer as they come.

        Raises
        ------
        TogetherAIRequestError
            Before the first chunk: as `request` does. After it: TogetherAIStreamError.
        """
        meter = self._begin(call)
        meter.admit()
        try:
            with meter:
                attempts = attempts_of(self, call)
                opened = retrying(attempts, call, Transport._open)
                meter.opened(opened.reader, attempts.transport.catalog)
                try:
                    yield from opened.chunks
                    heard = time.monotonic()
                    while not opened.reader.done:
                        try:
                            if not opened.more(heard):
                                return
                        except breakage() as exc:
                            raise attempts.broken(attempts.transport._error(exc, call.model)) from exc
                        except TogetherAIRequestError as exc:
                            raise attempts.broken(exc) from exc
                        if opened.chunks:
                            yield from opened.chunks
                            heard = time.monotonic()
                    attempts.ended()
                    read_to_the_end(opened)
                finally:
                    close(opened.response)
                    opened.limiter.release()
        except TogetherAIModelNotFoundError as exc:
            if call.model is None:
                raise
            raise self.catalog.suggest(exc, call.kind) from exc.__cause__

    async def astream(self, call: Call) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the decoded chunks from a coroutine; see `stream`."""
        meter = self._begin(call)
        if meter.limited:
            await meter.aadmit()
        try:
            with meter:
                attempts = attempts_of(self, call)
                opened = await aretrying(attempts, call, Transport._aopen)
                meter.opened(opened.reader, attempts.transport.catalog)
                try:
                    for chunk in opened.chunks:
                        yield chunk
                    heard = time.monotonic()
                    while not opened.reader.done:
                        try:
                            if not await opened.amore(heard):
                                return
                        except breakage() as exc:
                            raise attempts.broken(attempts.transport._error(exc, call.model)) from exc
                        except TogetherAIRequestError as exc:
                            raise attempts.broken(exc) from exc
                        if opened.chunks:
                            for chunk in opened.chunks:
                                yield chunk
                            heard = time.monotonic()
                    attempts.ended()
                    await aread_to_the_end(opened)
                finally:
                    # Shielded: a cancelled task, too, must give its connection and its place back.
                    opened.limiter.release()
                    await asyncio.shield(aclose(opened.response))
        except TogetherAIModelNotFoundError as exc:
            if call.model is None:
                raise
            raise await self.catalog.asuggest(exc, call.kind) from exc.__cause__

    def _begin(self, call: Call) -> Meter:
        call.begin()
        return Meter(self.recorder, call, self.catalog)

    async def use_sdk(self, call: Call, operation: Callable[[AsyncTogether], Awaitable[_T]]) -> _T:
        """Run an operation of the SDK's own resources, within the call's deadline and with its retries.

        For the management API, whose few calls may cost the SDK's typed objects. A conflict is not tried again:
        it says that something has to be read anew.

        Raises
        ------
        TogetherAIRequestError
            The one of its subclasses that fits, after the retries.
        """
        import httpx

        call.begin()
        timeout = httpx.Timeout(call.timeout, connect=min(call.connect_timeout, call.timeout))
        attempts = Attempts(self, call)
        while True:
            try:
                async with within(call.remaining):
                    return await operation(self._connections.async_client().with_options(timeout=timeout))
            except breakage() as exc:
                error = self._error(exc, None)
                error.__cause__ = exc
            error.is_retryable = error.is_retryable and not isinstance(error, TogetherAIConflictError)
            await asyncio.sleep(attempts.failed(error))

    def close(self) -> None:
        """Close the connections; a later request raises TogetherAIConnectionError."""
        self._connections.close()

    async def aclose(self) -> None:
        """Close the connections, the running loop's in an orderly way."""
        await self._connections.aclose()

    # --- one try ---

    def _exchange(self, call: Call) -> tuple[Any, Mapping[str, str]]:
        limiter = self._admit(call)
        sent = time.monotonic()
        try:
            with until(call.deadline):
                result = read_reply(call, self._send(call))
        except breakage() as exc:
            raise self._learn(call, limiter, sent, self._error(exc, call.model)) from exc
        finally:
            limiter.release()
        limiter.succeeded()
        return result

    async def _aexchange(self, call: Call) -> tuple[Any, Mapping[str, str]]:
        limiter = await self._aadmit(call)
        sent = time.monotonic()
        try:
            async with within(call.remaining):
                result = await aread_reply(call, await self._asend(call))
        except breakage() as exc:
            raise self._learn(call, limiter, sent, self._error(exc, call.model)) from exc
        finally:
            limiter.release()
        limiter.succeeded()
        return result

    def _open(self, call: Call) -> Opened:
        limiter = self._admit(call)
        sent = time.monotonic()
        response: httpx.Response | None = None
        try:
            with until(call.deadline):
                response = self._send(call)
                # httpcore reads the timeout when the body's first byte is asked for: from here on, gaps count.
                response.request.extensions["timeout"]["read"] = call.stream_idle_timeout
                opened = self._opened(call, response, limiter, iter(body_of(response)))
                for part in opened.bytes:
                    check(call, 0)
                    if opened.add(part):
                        break
                else:
                    opened.reader.finish()
        except BaseException as exc:
            if response is not None:
                close(response)
            limiter.release()
            if isinstance(exc, breakage()):
                raise self._learn(call, limiter, sent, self._error(exc, call.model)) from exc
            if isinstance(exc, TogetherAIRequestError):
                self._learn(call, limiter, sent, exc)
            raise
        limiter.succeeded()
        return opened

    async def _aopen(self, call: Call) -> Opened:
        limiter = await self._aadmit(call)
        sent = time.monotonic()
        response: httpx.Response | None = None
        try:
            async with within(call.remaining):
                response = await self._asend(call)
                opened = self._opened(call, response, limiter, aiter(abody_of(response)))
                async for part in opened.bytes:
                    if opened.add(part):
                        break
                else:
                    opened.reader.finish()
        except BaseException as exc:
            limiter.release()
            if response is not None:
                await asyncio.shield(aclose(response))
            if isinstance(exc, breakage()):
                raise self._learn(call, limiter, sent, self._error(exc, call.model)) from exc
            if isinstance(exc, TogetherAIRequestError):
                self._learn(call, limiter, sent, exc)
            raise
        limiter.succeeded()
        return opened

    @staticmethod
    def _opened(call: Call, response: httpx.Response, limiter: Limiter, parts: Any) -> Opened:
        return Opened(response, limiter, parts, event_reader(call, response), call.stream_idle_timeout)

    def _send(self, call: Call) -> httpx.Response:
        import httpx
        from together import Stream

        client = self._connections.sync_client()
        options: Any = self._options(call, call.remaining)
        if call.method == "GET":
            return client.get(
                _address(self.base_url + call.path),
                cast_to=httpx.Response,
                options=options,
                stream=True,
                stream_cls=Stream[object],
            )  # type: ignore[return-value]
        return client.post(
            _address(self.base_url + call.path),
            cast_to=httpx.Response,
            content=call.payload,
            options=options,
            stream=True,
            stream_cls=Stream[object],
        )  # type: ignore[return-value]

    async def _asend(self, call: Call) -> httpx.Response:
        import httpx
        from together import AsyncStream

        client = self._connections.async_client()
        # aiohttp's own read timeout covers each gap; the time until the first chunk is bounded by `_within`.
        options: Any = self._options(call, call.stream_idle_timeout if call.stream else call.remaining)
        if call.method == "GET":
            return await client.get(
                _address(self.base_url + call.path),
                cast_to=httpx.Response,
                options=options,
                stream=True,
                stream_cls=AsyncStream[object],
            )  # type: ignore[return-value]
        return await client.post(
            _address(self.base_url + call.path),
            cast_to=httpx.Response,
            content=call.payload,
            options=options,
            stream=True,
            stream_cls=AsyncStream[object],
        )  # type: ignore[return-value]

    def _options(self, call: Call, read: float) -> dict[str, Any]:
        import httpx

        remaining = call.remaining
        # What is not given here the SDK takes from its defaults, each of them copied for each request.
        return {
            "timeout": httpx.Timeout(remaining, connect=min(call.connect_timeout, remaining), read=read),
            "params": call.params or {},
            "headers": {},
            "max_retries": 0,
        }

    # --- what both ways share ---

    def _admit(self, call: Call) -> Limiter:
        limiter = self.limiter(call.model)
        if not limiter.acquire(call.remaining, again=call.refusal is not None):
            raise no_place(call)
        return limiter

    async def _aadmit(self, call: Call) -> Limiter:
        limiter = self.limiter(call.model)
        if not await limiter.aacquire(call.remaining, again=call.refusal is not None):
            raise no_place(call)
        return limiter

    def _error(self, exc: BaseException, model: str | None) -> TogetherAIRequestError:
        from together import APIStatusError

        forget_frames(exc)
        if isinstance(exc, APIStatusError):
            response = exc.response
            return status_error(response.status_code, response.headers, response.content, model=model)
        return transport_error(exc, base_url=self.base_url, model=model)

    @staticmethod
    def _learn(call: Call, limiter: Limiter, sent: float, error: TogetherAIRequestError) -> TogetherAIRequestError:
        call.refusal = None
        if isinstance(error, TogetherAIRateLimitError):
            call.refusal = error
            call.others_answered = limiter.answered_since(call.started)
            limiter.refused(sent, error.retry_after)
        elif isinstance(error, TogetherAIServerError):
            limiter.pause(error.retry_after)
        return error


def _address(url: str) -> str:
    """An address as the SDK takes it: at DEBUG it writes a request's options, and warns of what is no string."""
    return url if _sdk_logger.isEnabledFor(logging.DEBUG) else _parsed(url)


@lru_cache(maxsize=256)
def _parsed(url: str) -> str:
    """An address as httpx's own object: the SDK would parse a string anew for each request."""
    import httpx

    return cast("str", httpx.URL(url))


# --- one transport for all who ask for the same ---

_shared: dict[tuple[str, SecretStr, int, UsageKey], Transport] = {}
_shared_lock = threading.Lock()


def get_transport(
    *, base_url: str, api_key: SecretStr, max_concurrency: int = 64, usage: UsageKey = IN_MEMORY
) -> Transport:
    """Return the process's transport for an address and a key, so that all classes share its connections.

    `usage` says which ledger its calls go to; see `usage.usage_key`.
    """
    key = (base_url, api_key, max_concurrency, usage)
    transport = _shared.get(key)
    if transport is None or transport.closed:
        recorder = usage.recorder()
        with _shared_lock:
            transport = _shared.get(key)
            if transport is None or transport.closed:
                transport = _shared[key] = Transport(
                    base_url=base_url, api_key=api_key, max_concurrency=max_concurrency, recorder=recorder
                )
    return transport


def close_all() -> None:
    """Close every shared transport; the next request makes a new one."""
    with _shared_lock:
        transports = list(_shared.values())
        _shared.clear()
    for transport in transports:
        transport.close()


def _end() -> None:
    # Ledgers first: they may still have to ask for a price.
    usage = sys.modules.get("hana_ai.api.usage.ledger")
    if usage is not None:
        usage.close_all()
    close_all()


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    # A forked child must not speak through its parent's sockets.
    os.register_at_fork(after_in_child=_shared.clear)
