"""The official SDK's client, for the management API. It lives in the engine's loop."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol, cast

import httpx
from pydantic import SecretStr
from together import APIError, APIStatusError, AsyncTogether, omit

from hana_ai.api.addresses.proxy import Proxy, proxy_for
from hana_ai.api.errors import TogetherAIRequestError, TogetherAIResponseError
from hana_ai.api.transport.body import ACCEPTED, Inflater
from hana_ai.api.transport.tls import ssl_context
from hana_ai.api.wire.encoding import decode
from hana_ai.api.wire.failures import forget_frames, status_error, transport_error
from hana_ai.api.wire.headers import request_id_of

BREAKAGE = (APIError, httpx.HTTPError, OSError, TimeoutError)
"""What the SDK, httpx and the system raise when an exchange fails."""

last_reply: ContextVar[tuple[bytes, str | None]] = ContextVar("last_reply", default=(b"", None))
"""Body and request id of the last good reply that this task got: the SDK's objects keep neither."""

_LARGEST_ERROR = 64 * 1024
_PLAIN = ("", "identity")
_BINARY = "application/binary"
"""What the SDK accepts where it wants a file's bytes."""
_GONE = (b"content-encoding", b"content-length", b"transfer-encoding")
"""Headers that are no longer true of a body that has been read and unpacked."""
_NO_KEY = "-"
"""What the SDK's client has for a key; it insists on one."""
_UNTOLD = ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
"""What the SDK would tell of this machine."""


def make_sdk(base_url: str, api_key: SecretStr, most_bytes: int) -> AsyncTogether:
    """Make the SDK's client for an address; neither it nor its HTTP client retries or follows redirects."""
    inner = httpx.AsyncHTTPTransport(verify=ssl_context(), proxy=httpx_proxy(proxy_for(base_url)), trust_env=False)
    # The SDK leaves such a header out; its types do not know that it does so for defaults, too.
    untold = {f"X-Stainless-{name}": omit for name in _UNTOLD}
    return AsyncTogether(
        api_key=_NO_KEY,
        base_url=base_url,
        max_retries=0,
        default_headers=cast("dict[str, str]", {"Accept-Encoding": ACCEPTED, **untold}),
        http_client=httpx.AsyncClient(
            transport=_Bounded(inner, api_key, most_bytes), trust_env=False, follow_redirects=False, cookies=None
        ),
    )


def httpx_proxy(proxy: Proxy | None) -> httpx.Proxy | None:
    """A proxy as httpx takes it."""
    if proxy is None:
        return None
    context = ssl_context() if proxy.url.startswith("https:") else None
    return httpx.Proxy(proxy.url, headers=dict(proxy.headers or {}), ssl_context=context)


def sdk_error(exc: BaseException, base_url: str) -> TogetherAIRequestError:
    """Make the error for what the SDK raised, with its cause, but without the frames that hold the key."""
    forget_frames(exc)
    if isinstance(exc, APIStatusError):
        response = exc.response
        error: TogetherAIRequestError = status_error(
            response.status_code, response.headers, response.content, model=None
        )
    else:
        error = transport_error(exc, base_url=base_url, model=None)
    return error


class _Bounded(httpx.AsyncBaseTransport):
    """Sends requests with the key, and reads replies whole, within a size, before the SDK sees them.

    Neither the SDK's client nor its requests, which its errors hold, know the key.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, api_key: SecretStr, most_bytes: int) -> None:
        self._inner = inner
        self._api_key = api_key
        self._most_bytes = most_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["trace"] = handshake = _Handshake()
        try:
            response = await self._inner.handle_async_request(self._with_key(request))
        except BaseException:
            await handshake.give_up()
            raise
        try:
            data = await _read(response, self._most_bytes)
        finally:
            await response.aclose()
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _GONE]
        kind = response.headers.get("content-type", "")
        binary = request.headers.get("accept") == _BINARY
        if response.is_success and not binary and (data or "json" in kind):
            # The SDK would take what is no JSON for a text.
            decode(data, model=None, request_id=request_id_of(response.headers), content_type=kind)
        if response.is_success and not binary:
            last_reply.set((data, request_id_of(response.headers)))
        return httpx.Response(response.status_code, headers=headers, content=data, request=request)

    def _with_key(self, request: httpx.Request) -> httpx.Request:
        if request.headers.get("authorization") != f"Bearer {_NO_KEY}":
            # Not one to the API: a presigned address, which takes no key and is not to see it.
            return request
        headers = request.headers.copy()
        headers["Authorization"] = f"Bearer {self._api_key.get_secret_value()}"
        return httpx.Request(
            request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Handshake:
    """Knows the connection that is in its TLS handshake, as httpcore's trace of a request.

    If the task is cancelled then, httpcore leaves the socket to the garbage collector.
    """

    def __init__(self) -> None:
        self._opened: _Closeable | None = None
        self._shaking: _Closeable | None = None

    async def __call__(self, event: str, info: dict[str, Any]) -> None:
        """Note where a connection is; `event` is httpcore's name, such as ``connection.start_tls.started``."""
        if event.endswith(".connect_tcp.complete"):
            self._opened = info["return_value"]
        elif event.endswith(".start_tls.started"):
            self._shaking = self._opened
        elif event.endswith(".start_tls.complete"):
            self._shaking = None

    async def give_up(self) -> None:
        """Close the connection, unless its handshake is over."""
        if self._shaking is not None:
            await self._shaking.aclose()


class _Closeable(Protocol):
    async def aclose(self) -> None: ...


async def _read(response: httpx.Response, most_bytes: int) -> bytes:
    """Read a reply's body; of an error's, as much as came and no more than its beginning."""
    encoding = response.headers.get("content-encoding", "")
    size, parts = 0, []
    try:
        inflater = None if encoding.lower() in _PLAIN else Inflater(encoding)
        async for data in response.aiter_raw():
            for part in (data,) if inflater is None else inflater.feed(data):
                parts.append(part)
                size += len(part)
                if not response.is_success and size > _LARGEST_ERROR:
                    return b"".join(parts)
                if size > most_bytes:
                    raise TogetherAIResponseError(f"the reply is larger than {most_bytes} bytes and was refused")
        if inflater is not None:
            inflater.finish()
    except (httpx.HTTPError, OSError, TogetherAIResponseError):
        # Ignore a truncated error body: the status says enough.
        if response.is_success:
            raise
    return b"".join(parts)
