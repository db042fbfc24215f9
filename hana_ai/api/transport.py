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
import random
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from pydantic import SecretStr

from hana_ai.api._connections import Connections, breakage
from hana_ai.api._deadlines import is_bound, until
from hana_ai.api._inflating import abody_of, body_of
from hana_ai.api._usage_key import IN_MEMORY, UsageKey
from hana_ai.api._usage_record import Meter, Recorder
from hana_ai.api._wire import (
    EventReader,
    decode,
    encode,
    request_id_of,
    status_error,
    stream_error,
    transport_error,
)
from hana_ai.api.errors import (
    TogetherAIConflictError,
    TogetherAIModelNotFoundError,
    TogetherAIRateLimitError,
    TogetherAIRequestError,
    TogetherAIResponseError,
    TogetherAIServerError,
    TogetherAITimeoutError,
)
from hana_ai.api.limiter import Limiter

if TYPE_CHECKING:
    import httpx
    from together import AsyncTogether

    from hana_ai.api.catalog import Catalog

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

MAX_REPLY_BYTES = 256 * 1024 * 1024
"""A reply larger than this is refused while it is read."""

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 10.0
_LONGEST_END = 0.05


@dataclass(frozen=True, slots=True)
class RetryEvent:
    """What an `on_retry` callback is told before each wait."""

    attempt: int
    """How many tries have failed so far, from 1."""
    wait: float
    """Seconds until the next try."""
    error: TogetherAIRequestError
    path: str
    model: str | None


OnRetry = Callable[[RetryEvent], None]


@dataclass(slots=True)
class Call:
    """One request, with everything that decides how long and how often it is tried.

    `timeout` bounds the whole call in seconds, waiting and retries included; for a stream it bounds the time
    until the first chunk, and `stream_idle_timeout` each gap after it.
    """

    path: str
    body: Mapping[str, Any] | None = None
    method: Literal["GET", "POST"] = "POST"
    params: Mapping[str, Any] | None = None
    model: str | None = None
    timeout: float = 60.0
    connect_timeout: float = 5.0
    stream_idle_timeout: float = 60.0
    max_retries: int = 3
    on_retry: OnRetry | None = None
    stream: bool = False
    kind: str = "chat"
    """Kind of model, for naming living ones when this one is gone."""
    tags: tuple[str, ...] = ()
    """For the ledger, beside those of `usage_tags`."""
    started: float = field(init=False, default=0.0)
    deadline: float = field(init=False, default=0.0)
    retries: int = field(init=False, default=0)
    """How many there have been so far."""
    payload: bytes | None = field(init=False, default=None)

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
        from hana_ai.api.catalog import Catalog

        return Catalog(self)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._connections.closed

    def limiter(self, model: str | None) -> Limiter:
        """The limiter of one model."""
        limiter = self._limiters.get(model)
        if limiter is None:
            with self._lock:
                limiter = self._limiters.setdefault(model, Limiter(self._max_concurrency))
        return limiter

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
                data, headers = _retrying(call, self._exchange)
                request_id = request_id_of(headers)
                meter.reply(data, request_id)
        except TogetherAIModelNotFoundError as exc:
            if call.model is None:
                raise
            raise self.catalog.suggest(exc, call.kind) from exc.__cause__
        return Reply(data, request_id, time.monotonic() - call.started, call.retries)

    async def arequest(self, call: Call) -> Reply:
        """Send a request from a coroutine; see `request`."""
        meter = self._begin(call)
        if meter.limited:
            await meter.aadmit()
        try:
            with meter:
                data, headers = await _aretrying(call, self._aexchange)
                request_id = request_id_of(headers)
                meter.reply(data, request_id)
        except TogetherAIModelNotFoundError as exc:
            if call.model is None:
                raise
            raise await self.catalog.asuggest(exc, call.kind) from exc.__cause__
        return Reply(data, request_id, time.monotonic() - call.started, call.retries)

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
                opened = _retrying(call, self._open)
                meter.opened(opened.reader)
                try:
                    yield from opened.chunks
                    heard = time.monotonic()
                    while not opened.reader.done:
                        try:
                            with until(heard + call.stream_idle_timeout):
                                data = next(opened.bytes, None)
                            if data is None:
                                opened.reader.finish()
                                return
                            opened.grow(data)
                            chunks = opened.reader.feed(data)
                        except breakage() as exc:
                            raise stream_error(self._error(exc, call.model)) from exc
                        except TogetherAIRequestError as exc:
                            raise stream_error(exc) from exc
                        if chunks:
                            yield from chunks
                            heard = time.monotonic()
                    _read_to_the_end(opened)
                finally:
                    opened.response.close()
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
                opened = await _aretrying(call, self._aopen)
                meter.opened(opened.reader)
                try:
                    for chunk in opened.chunks:
                        yield chunk
                    heard, chunks = time.monotonic(), opened.chunks
                    while not opened.reader.done:
                        try:
                            if chunks:
                                data = await anext(opened.bytes, None)
                            else:
                                async with _within(heard + call.stream_idle_timeout - time.monotonic()):
                                    data = await anext(opened.bytes, None)
                            if data is None:
                                opened.reader.finish()
                                return
                            opened.grow(data)
                            chunks = opened.reader.feed(data)
                        except breakage() as exc:
                            raise stream_error(self._error(exc, call.model)) from exc
                        except TogetherAIRequestError as exc:
                            raise stream_error(exc) from exc
                        if chunks:
                            for chunk in chunks:
                                yield chunk
                            heard = time.monotonic()
                    await _aread_to_the_end(opened)
                finally:
                    # Shielded: a cancelled task, too, must give its connection and its place back.
                    opened.limiter.release()
                    await asyncio.shield(opened.response.aclose())
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
        call.begin()
        attempt = 0
        while True:
            try:
                async with _within(call.remaining):
                    return await operation(self._connections.async_client())
            except breakage() as exc:
                error = self._error(exc, None)
                error.__cause__ = exc
            error.is_retryable = error.is_retryable and not isinstance(error, TogetherAIConflictError)
            attempt += 1
            wait = _next_wait(call, attempt, error)
            if wait is None:
                raise error
            await asyncio.sleep(wait)

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
                response = self._send(call)
                try:
                    size, parts = 0, []
                    for part in body_of(response):
                        size = self._check(call, size + len(part))
                        parts.append(part)
                finally:
                    response.close()
            result = self._decoded(call, response, b"".join(parts))
        except breakage() as exc:
            raise self._learn(limiter, sent, self._error(exc, call.model)) from exc
        finally:
            limiter.release()
        limiter.succeeded()
        return result

    async def _aexchange(self, call: Call) -> tuple[Any, Mapping[str, str]]:
        limiter = await self._aadmit(call)
        sent = time.monotonic()
        try:
            async with _within(call.remaining):
                response = await self._asend(call)
                try:
                    size, parts = 0, []
                    async for part in abody_of(response):
                        size = self._check(call, size + len(part))
                        parts.append(part)
                finally:
                    await response.aclose()
            result = self._decoded(call, response, b"".join(parts))
        except breakage() as exc:
            raise self._learn(limiter, sent, self._error(exc, call.model)) from exc
        finally:
            limiter.release()
        limiter.succeeded()
        return result

    def _open(self, call: Call) -> _Opened:
        limiter = self._admit(call)
        sent = time.monotonic()
        response: httpx.Response | None = None
        try:
            with until(call.deadline):
                response = self._send(call)
            # httpcore reads the timeout when the body's first byte is asked for: from here on, gaps count.
            response.request.extensions["timeout"]["read"] = call.stream_idle_timeout
            opened = _Opened(response, limiter, iter(body_of(response)), self._reader(call, response))
            with until(call.deadline):
                for part in opened.bytes:
                    self._check(call, 0)
                    if opened.add(part):
                        break
                else:
                    opened.reader.finish()
        except BaseException as exc:
            if response is not None:
                response.close()
            limiter.release()
            if isinstance(exc, breakage()):
                raise self._learn(limiter, sent, self._error(exc, call.model)) from exc
            if isinstance(exc, TogetherAIRequestError):
                self._learn(limiter, sent, exc)
            raise
        limiter.succeeded()
        return opened

    async def _aopen(self, call: Call) -> _Opened:
        limiter = await self._aadmit(call)
        sent = time.monotonic()
        response: httpx.Response | None = None
        try:
            async with _within(call.remaining):
                response = await self._asend(call)
                opened = _Opened(response, limiter, aiter(abody_of(response)), self._reader(call, response))
                async for part in opened.bytes:
                    if opened.add(part):
                        break
                else:
                    opened.reader.finish()
        except BaseException as exc:
            limiter.release()
            if response is not None:
                await asyncio.shield(response.aclose())
            if isinstance(exc, breakage()):
                raise self._learn(limiter, sent, self._error(exc, call.model)) from exc
            if isinstance(exc, TogetherAIRequestError):
                self._learn(limiter, sent, exc)
            raise
        limiter.succeeded()
        return opened

    def _send(self, call: Call) -> httpx.Response:
        import httpx
        from together import Stream

        client = self._connections.sync_client()
        options: Any = self._options(call, call.remaining)
        if call.method == "GET":
            return client.get(
                self.base_url + call.path,
                cast_to=httpx.Response,
                options=options,
                stream=True,
                stream_cls=Stream[object],
            )  # type: ignore[return-value]
        return client.post(
            self.base_url + call.path,
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
                self.base_url + call.path,
                cast_to=httpx.Response,
                options=options,
                stream=True,
                stream_cls=AsyncStream[object],
            )  # type: ignore[return-value]
        return await client.post(
            self.base_url + call.path,
            cast_to=httpx.Response,
            content=call.payload,
            options=options,
            stream=True,
            stream_cls=AsyncStream[object],
        )  # type: ignore[return-value]

    def _options(self, call: Call, read: float) -> dict[str, Any]:
        import httpx

        remaining = call.remaining
        options: dict[str, Any] = {
            "timeout": httpx.Timeout(remaining, connect=min(call.connect_timeout, remaining), read=read)
        }
        if call.params:
            options["params"] = call.params
        return options

    # --- what both ways share ---

    def _admit(self, call: Call) -> Limiter:
        limiter = self.limiter(call.model)
        if not limiter.acquire(call.remaining):
            raise self._no_place(call)
        return limiter

    async def _aadmit(self, call: Call) -> Limiter:
        limiter = self.limiter(call.model)
        if not await limiter.aacquire(call.remaining):
            raise self._no_place(call)
        return limiter

    @staticmethod
    def _no_place(call: Call) -> TogetherAITimeoutError:
        error = TogetherAITimeoutError(
            f"timed out after {call.timeout:g} s, waiting for earlier requests of this process",
            model=call.model,
            hint="Raise TOGETHER_TIMEOUT or TOGETHER_MAX_CONCURRENCY.",
        )
        error.is_retryable = False
        return error

    @staticmethod
    def _check(call: Call, size: int) -> int:
        """Bound size and time while a reply is read."""
        if size > MAX_REPLY_BYTES:
            raise TogetherAIResponseError(
                f"the reply is larger than {MAX_REPLY_BYTES} bytes and was refused", model=call.model
            )
        if time.monotonic() > call.deadline:
            raise TogetherAITimeoutError(
                f"timed out after {call.timeout:g} s while reading the reply",
                model=call.model,
                hint="Raise TOGETHER_TIMEOUT.",
            )
        return size

    @staticmethod
    def _decoded(call: Call, response: httpx.Response, data: bytes) -> tuple[Any, Mapping[str, str]]:
        headers = response.headers
        decoded = decode(
            data,
            model=call.model,
            request_id=request_id_of(headers),
            content_type=headers.get("content-type", ""),
        )
        return decoded, headers

    @staticmethod
    def _reader(call: Call, response: httpx.Response) -> EventReader:
        headers = response.headers
        kind = headers.get("content-type", "")
        if "text/event-stream" not in kind:
            raise TogetherAIResponseError(
                f"asked for a stream, but the reply's content type is {kind or 'missing'}",
                model=call.model,
                request_id=request_id_of(headers),
            )
        return EventReader(model=call.model, request_id=request_id_of(headers))

    def _error(self, exc: BaseException, model: str | None) -> TogetherAIRequestError:
        from together import APIStatusError

        if isinstance(exc, APIStatusError):
            response = exc.response
            return status_error(response.status_code, response.headers, response.content, model=model)
        return transport_error(exc, base_url=self.base_url, model=model)

    @staticmethod
    def _learn(limiter: Limiter, sent: float, error: TogetherAIRequestError) -> TogetherAIRequestError:
        if isinstance(error, TogetherAIRateLimitError):
            limiter.refused(sent, error.retry_after)
        elif isinstance(error, TogetherAIServerError):
            limiter.pause(error.retry_after)
        return error


@dataclass(slots=True)
class _Opened:
    """A stream whose first chunk has come."""

    response: httpx.Response
    limiter: Limiter
    bytes: Any
    reader: EventReader
    chunks: list[dict[str, Any]] = field(default_factory=list)

    size: int = 0

    def grow(self, part: bytes) -> None:
        """Bound the whole stream, as any reply."""
        self.size += len(part)
        if self.size > MAX_REPLY_BYTES:
            raise TogetherAIResponseError(f"the reply is larger than {MAX_REPLY_BYTES} bytes and was refused")

    def add(self, part: bytes) -> bool:
        """Take bytes; True when there is a first chunk (or the end)."""
        self.grow(part)
        self.chunks = self.reader.feed(part)
        return bool(self.chunks) or self.reader.done


# --- what the two ways of waiting share ---


def _next_wait(call: Call, attempt: int, error: TogetherAIRequestError) -> float | None:
    """Seconds to wait before the next try, after `attempt` failed ones; None when there is to be none."""
    if not error.is_retryable or attempt > call.max_retries:
        return None
    wait = error.retry_after
    if wait is None:
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
    if time.monotonic() + wait >= call.deadline:
        return None
    logger.info("try %d of %s failed, next in %.2f s: %s", attempt, call.path, wait, error)
    if call.on_retry is not None:
        call.on_retry(RetryEvent(attempt, wait, error, call.path, call.model))
    call.retries = attempt
    return wait


def _retrying(call: Call, once: Callable[[Call], _T]) -> _T:
    """Run one try after the other; the call counts the retries."""
    attempt = 0
    while True:
        try:
            return once(call)
        except TogetherAIRequestError as exc:
            attempt += 1
            wait = _next_wait(call, attempt, exc)
            if wait is None:
                raise
        time.sleep(wait)


async def _aretrying(call: Call, once: Callable[[Call], Awaitable[_T]]) -> _T:
    """Run one try after the other from a coroutine; see `_retrying`."""
    attempt = 0
    while True:
        try:
            return await once(call)
        except TogetherAIRequestError as exc:
            attempt += 1
            wait = _next_wait(call, attempt, exc)
            if wait is None:
                raise
        await asyncio.sleep(wait)


def _within(seconds: float) -> AbstractAsyncContextManager[Any]:
    """Bound a coroutine's block; raises TimeoutError."""
    if sys.version_info >= (3, 11):
        return asyncio.timeout(seconds)
    from async_timeout import timeout  # aiohttp brings it where asyncio has none

    return cast("AbstractAsyncContextManager[Any]", timeout(seconds))


def _read_to_the_end(opened: _Opened) -> None:
    """Read what follows `[DONE]`, so that the connection can be used again.

    HTTP ends a body after its last byte of data; a connection whose body was not read to that end is closed. It
    comes at once, so a server that holds it back is not waited for.
    """
    if not is_bound(opened.response.extensions.get("network_stream")):
        return
    try:
        with until(time.monotonic() + _LONGEST_END):
            next(opened.bytes, None)
    except breakage():
        logger.debug("a stream's connection was closed, since its end did not come in %g s", _LONGEST_END)


async def _aread_to_the_end(opened: _Opened) -> None:
    """Read what follows `[DONE]` in a coroutine; see `_read_to_the_end`."""
    try:
        async with _within(_LONGEST_END):
            await anext(opened.bytes, None)
    except breakage():
        logger.debug("a stream's connection was closed, since its end did not come in %g s", _LONGEST_END)


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
    usage = sys.modules.get("hana_ai.api.usage")
    if usage is not None:
        usage.close_all()
    close_all()


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    # A forked child must not speak through its parent's sockets.
    os.register_at_fork(after_in_child=_shared.clear)
