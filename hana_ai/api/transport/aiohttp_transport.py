"""httpx's requests over aiohttp's connections.

For 500 requests at a time httpx's own pool takes about eight times as long. The package httpx-aiohttp joins the
two as well, but where it is installed every import of LangChain pays for it: langsmith imports it, and with it
aiohttp and httpx's command line, a fifth of the time in which a chat model is imported.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import lru_cache

import aiohttp
import httpx
from yarl import URL

_PART = 32 * 1024
"""Bytes that are handed on at a time at most, so that a bound on them is noticed soon."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends httpx's requests through a session of aiohttp, which it closes at its own end.

    Parameters
    ----------
    session : aiohttp.ClientSession
    proxy : httpx.Proxy, optional
    """

    def __init__(self, session: aiohttp.ClientSession, proxy: httpx.Proxy | None = None) -> None:
        self._session = session
        self._proxy = proxy

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the response's body is still to be read.

        Raises
        ------
        httpx.TransportError
        """
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        body: bytes | httpx.AsyncByteStream | None
        try:
            body = request.content or None
        except httpx.RequestNotRead:
            assert isinstance(request.stream, httpx.AsyncByteStream)
            body = request.stream
            # aiohttp sets it itself.
            headers = [header for header in headers if header[0].lower() != "transfer-encoding"]
        timeout = request.extensions.get("timeout", {})
        try:
            response = await self._session.request(
                request.method,
                _address(str(request.url)),
                headers=headers,
                data=body,
                allow_redirects=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    connect=timeout.get("pool"),
                    sock_connect=timeout.get("connect"),
                    sock_read=timeout.get("read"),
                ),
                server_hostname=request.extensions.get("sni_hostname"),
                proxy=str(self._proxy.url) if self._proxy is not None else None,
                proxy_headers=self._proxy.headers if self._proxy is not None else None,
            )
        except _BROKEN as exc:
            raise _as_httpx(exc) from exc
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=_Body(response),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": (response.reason or "").encode()},
        )

    async def aclose(self) -> None:
        """Close the session and its connections."""
        await self._session.close()


class _Body(httpx.AsyncByteStream):
    """The body of a response as it comes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._response.content.iter_chunked(_PART):
                yield part
        except _BROKEN as exc:
            raise _as_httpx(exc) from exc

    async def aclose(self) -> None:
        """Close the connection, if the body has not come to its end: there aiohttp took the connection back."""
        self._response.close()


@lru_cache(maxsize=256)
def _address(url: str) -> URL:
    # As it is: httpx has quoted what has to be.
    return URL(url, encoded=True)


_BROKEN = (aiohttp.ClientError, asyncio.TimeoutError)
_MEANINGS: tuple[tuple[type[BaseException], type[httpx.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (asyncio.TimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientProxyConnectionError, httpx.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx.ProxyError),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError),
    (aiohttp.ClientError, httpx.NetworkError),
)


def _as_httpx(exc: BaseException) -> httpx.TransportError:
    """aiohttp's error as httpx's, by which the SDK tells a timeout from a broken connection."""
    made = next(made for kind, made in _MEANINGS if isinstance(exc, kind))
    return made(str(exc))
