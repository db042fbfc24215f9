"""The SDK's clients: a synchronous one, and an asynchronous one for each event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import threading
import weakref
from collections.abc import AsyncGenerator
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from pydantic import SecretStr

from hana_ai.api.addresses.proxy import proxy_for
from hana_ai.api.errors import TogetherAIConnectionError, TogetherAIResponseError, TogetherAISettingsError
from hana_ai.api.transport.body import ACCEPTED, abody_of, aclose, body_of, close, without_encoding
from hana_ai.api.transport.deadlines import bound
from hana_ai.api.wire.failures import decode, request_id_of

if TYPE_CHECKING:
    import httpx
    from together import AsyncTogether, Together

_KEEPALIVE_SECONDS = 30.0
_LATIN_1 = "iso-8859-1"
"""The encoding of headers; left to itself, httpx tries others on all of them, for each request and each reply."""
_LARGEST_ERROR = 64 * 1024
"""Bytes of an error's body that are read; its words stand at the beginning."""
_LARGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of a reply that the SDK reads itself, those of the management API."""


class Connections:
    """Connections to one address with one key, made when first needed. Thread-safe."""

    def __init__(self, base_url: str, api_key: SecretStr) -> None:
        self.base_url = base_url
        self.api_key = api_key
        self.closed = False
        self._lock = threading.Lock()
        self._client: Together | None = None
        self._loops: dict[int, _LoopClient] = {}

    def sync_client(self) -> Together:
        """The client for threads."""
        client = self._client
        if client is None:
            import httpx
            from together import Together

            with self._lock:
                self._refuse_when_closed()
                if self._client is None:
                    # No bound here: the limiter is the bound, and a pool's queue would be a second one.
                    limits = httpx.Limits(keepalive_expiry=_KEEPALIVE_SECONDS)
                    http_client = _client_classes()[0](
                        limits=limits,
                        verify=_ssl_context(),
                        proxy=proxy_for(self.base_url, _ssl_context()),
                        trust_env=False,
                        follow_redirects=False,
                    )
                    bound(http_client)
                    self._client = Together(
                        api_key=self.api_key.get_secret_value(),
                        base_url=self.base_url,
                        max_retries=0,
                        default_headers=_own_headers(),
                        http_client=http_client,
                    )
                client = self._client
        return client

    def async_client(self) -> AsyncTogether:
        """The client for the running event loop."""
        loop = asyncio.get_running_loop()
        entry = self._loops.get(id(loop))
        if entry is None or entry.loop is not loop:
            with self._lock:
                self._refuse_when_closed()
                for key, old in list(self._loops.items()):
                    if old.loop.is_closed():
                        del self._loops[key]
                        old.abandon()
                entry = self._loops[id(loop)] = _LoopClient(self, loop)
        return entry.client

    def _refuse_when_closed(self) -> None:
        if self.closed:
            error = TogetherAIConnectionError("this client was closed", hint="Make a new one.")
            error.is_retryable = False
            raise error

    def forget(self, entry: _LoopClient) -> None:
        """Drop a loop's client, which has been closed."""
        with self._lock:
            if self._loops.get(id(entry.loop)) is entry:
                del self._loops[id(entry.loop)]

    def close(self) -> None:
        """Close the synchronous client, and the asynchronous ones of loops that are not running."""
        with self._lock:
            self.closed = True
            client, self._client = self._client, None
            loops = list(self._loops.values())
        if client is not None:
            client.close()
        for entry in loops:
            entry.abandon()

    async def aclose(self) -> None:
        """Close everything, the running loop's client in an orderly way."""
        entry = self._loops.get(id(asyncio.get_running_loop()))
        if entry is not None:
            await entry.aclose()
        self.close()


class _LoopClient:
    """The SDK's asynchronous client of one event loop, closed together with the loop.

    aiohttp's sessions belong to the loop they were made in. `asyncio.run` finishes the asynchronous generators
    of its loop before it closes it; one that waits for just that closes the session in time, so that nothing is
    left unclosed and the next loop starts afresh.
    """

    def __init__(self, connections: Connections, loop: asyncio.AbstractEventLoop) -> None:
        import aiohttp
        from together import AsyncTogether

        from hana_ai.api.transport.aiohttp_transport import AiohttpTransport

        self.loop = loop
        proxy = proxy_for(connections.base_url, _ssl_context())
        # limit=0 is aiohttp's word for "no limit": the limiter is the bound.
        self._connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS, ssl=_ssl_context())
        session = aiohttp.ClientSession(connector=self._connector, cookie_jar=aiohttp.DummyCookieJar(loop=loop))
        self.client = AsyncTogether(
            api_key=connections.api_key.get_secret_value(),
            base_url=connections.base_url,
            max_retries=0,
            default_headers=_own_headers(),
            http_client=_client_classes()[1](
                transport=AiohttpTransport(session, proxy),
                trust_env=False,
                follow_redirects=False,
            ),
        )
        self._connections = weakref.ref(connections)
        self._guard = self._until_the_loop_ends()
        # Its first step runs to the yield without suspending, and makes the loop know it.
        with contextlib.suppress(StopIteration):
            self._guard.asend(None).send(None)

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._close()

    async def _close(self) -> None:
        connections = self._connections()
        if connections is not None:
            connections.forget(self)
        await self.client.close()

    async def aclose(self) -> None:
        """Close now; the guard then finds nothing left to do."""
        await self._guard.aclose()

    def abandon(self) -> None:
        """Close without the loop's help: it is closed, or runs in another thread."""
        if not self.loop.is_closed():
            if self.loop.is_running():
                self.loop.call_soon_threadsafe(lambda: asyncio.ensure_future(self.aclose()))
                return
            self.loop.run_until_complete(self.aclose())
            return
        # On a closed loop nothing can be awaited; the first step alone drops the sockets.
        with contextlib.suppress(StopIteration):
            self._connector.close().__await__().send(None)


@cache
def _ssl_context() -> ssl.SSLContext:
    """One for all clients: making it takes longer than a request.

    Raises
    ------
    TogetherAISettingsError
        SSL_CERT_FILE or SSL_CERT_DIR names certificates that can't be read.
    """
    import httpx

    try:
        return httpx.create_ssl_context()
    except OSError as exc:
        named = [f"{name}={os.environ[name]}" for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ]
        raise TogetherAISettingsError(
            f"The trusted certificates can't be read ({', '.join(named) or 'the default ones'}): {exc}. Correct "
            "the path, or unset the variable."
        ) from exc


@cache
def _own_headers() -> dict[str, str]:
    """What the SDK is to send: the encodings that can be read here, and nothing that tells about this machine.

    Each header is merged and decoded anew several times.
    """
    from together import omit

    names = ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
    left_out = {f"X-Stainless-{name}": omit for name in names}
    return cast("dict[str, str]", {"Accept-Encoding": ACCEPTED, **left_out})


@cache
def _client_classes() -> tuple[type[httpx.Client], type[httpx.AsyncClient]]:
    """HTTP clients that keep no cookies, and read a bounded part of what the SDK would read whole.

    An API with a bearer token has no cookies, and looking for them takes a tenth of a request's time. Nor have
    these clients anything of their own to put into a request; finding that out takes httpx most of the time in
    which it builds one.
    """
    import httpx

    broken: tuple[type[BaseException], ...] = (*breakage(), TogetherAIResponseError)

    class NoCookies(httpx.Cookies):
        def extract_cookies(self, response: httpx.Response) -> None:
            pass

    class SyncClient(httpx.Client):
        cookies = property(lambda self: NoCookies())

        def build_request(self, method: str, url: Any, **parts: Any) -> httpx.Request:
            return _posted(method, url, **parts) or super().build_request(method, url, **parts)

        def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
            response = super().send(request, stream=True, **options)
            response.headers.encoding = _LATIN_1
            if stream and response.is_success:
                return response
            read = _Read(response)
            try:
                for part in body_of(response):
                    if read.add(part):
                        break
            except broken:
                read.broke()
            finally:
                close(response)
            return read.response()

    class AsyncClient(httpx.AsyncClient):
        cookies = property(lambda self: NoCookies())

        def build_request(self, method: str, url: Any, **parts: Any) -> httpx.Request:
            return _posted(method, url, **parts) or super().build_request(method, url, **parts)

        async def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:
            response = await super().send(request, stream=True, **options)
            response.headers.encoding = _LATIN_1
            if stream and response.is_success:
                return response
            read = _Read(response)
            try:
                async for part in abody_of(response):
                    if read.add(part):
                        break
            except broken:
                read.broke()
            finally:
                await asyncio.shield(aclose(response))
            return read.response()

    return SyncClient, AsyncClient


def _posted(
    method: str,
    url: object,
    *,
    headers: object = None,
    timeout: object = None,
    content: object = None,
    **others: object,
) -> httpx.Request | None:
    """What `build_request` makes of bytes to be posted; None for requests of another kind."""
    import httpx

    if not (
        isinstance(content, bytes)
        and isinstance(url, httpx.URL)
        and isinstance(headers, httpx.Headers)
        and isinstance(timeout, httpx.Timeout)
        and all(value is None for value in others.values())
    ):
        return None
    request = httpx.Request(
        method,
        url,
        headers=[
            (b"Host", url.netloc),
            *headers.raw,
            (b"Content-Length", str(len(content)).encode()),
        ],
        stream=httpx.ByteStream(content),
        extensions={"timeout": timeout.as_dict()},
    )
    request.headers.encoding = _LATIN_1
    request.read()
    return request


class _Read:
    """The body of a reply that the SDK wants whole: bounded, and for an error as much of it as came."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> bool:
        """Take a part; True when it is enough."""
        self._parts.append(part)
        self._size += len(part)
        if not self._response.is_success:
            return self._size > _LARGEST_ERROR
        if self._size > _LARGEST_ANSWER:
            raise TogetherAIResponseError(f"the reply is larger than {_LARGEST_ANSWER} bytes and was refused")
        return False

    def broke(self) -> None:
        """Bear, while an exception is handled, that the words of an error broke off: its status says enough."""
        if self._response.is_success:
            raise  # noqa: PLE0704 - the exception that is handled

    def response(self) -> httpx.Response:
        """The reply with the body.

        Raises
        ------
        TogetherAIResponseError
            It is a success, but no JSON, which the SDK would take for a text.
        """
        import httpx

        data, headers = b"".join(self._parts), self._response.headers
        kind = headers.get("content-type", "")
        if self._response.is_success and (data or "json" in kind):
            decode(data, model=None, request_id=request_id_of(headers), content_type=kind)
        return httpx.Response(
            self._response.status_code,
            headers=without_encoding(headers.raw),
            content=data,
            request=self._response.request,
        )


@cache
def breakage() -> tuple[type[BaseException], ...]:
    """What SDK, httpx and aiohttp raise when an exchange fails."""
    import aiohttp
    import httpx
    import together

    return (
        together.APIError,
        httpx.HTTPError,
        aiohttp.ClientError,
        OSError,
        TimeoutError,
        asyncio.TimeoutError,
    )
