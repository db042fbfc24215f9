"""An address with a key, as the engine sees it: connections, limiters and breakers.

Everything here lives in the engine's thread.
"""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakKeyDictionary, WeakSet

import aiohttp
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict
from pydantic import SecretStr
from yarl import URL

from hana_ai.api import __version__
from hana_ai.api.addresses.proxy import Proxy, proxy_for
from hana_ai.api.transport.body import ACCEPTED
from hana_ai.api.transport.breaker import BreakerPolicy, CircuitBreaker
from hana_ai.api.transport.limiter import Limiter, Rate
from hana_ai.api.transport.native_threads import handshake_seconds
from hana_ai.api.transport.shared_limiter import Authority, authority, limiter_at
from hana_ai.api.transport.tls import look_up, ssl_context

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult
    from together import AsyncTogether

    from hana_ai.api.transport.engine import Engine

_KEEPALIVE_SECONDS = 30.0
_LARGE_BODY = 512 * 1024


class Destination:
    """Connections to one address with one key, and what was learned about it; parameters as of `Transport`."""

    breaker_policy: ClassVar[BreakerPolicy] = BreakerPolicy()

    def __init__(self, base_url: str, api_key: SecretStr) -> None:
        self.base_url = base_url
        self.api_key = api_key
        # Given to each request and not to the session, whose headers aiohttp would send to a proxy as well. The
        # key joins them there, so that no object holds it in the clear.
        self._headers: CIMultiDict[str] = CIMultiDict(
            {
                "Accept": "application/json",
                "Accept-Encoding": ACCEPTED,
                "User-Agent": f"hana-ai-together/{__version__}",
            }
        )
        self._headers_of_json = self._headers.copy()
        self._headers_of_json["Content-Type"] = "application/json"
        self._session: aiohttp.ClientSession | None = None
        self._proxy: Proxy | None = None
        self._rates: dict[str | None, Rate] = {}
        self._limiters: dict[tuple[str | None, int, Authority | None], Limiter] = {}
        self._breakers: dict[str | None, CircuitBreaker] = {}
        self._sdk: AsyncTogether | None = None
        self.users: WeakSet[object] = WeakSet()
        """Who sends requests here; the last one to leave closes the connections."""

    def __repr__(self) -> str:
        return f"Destination({self.base_url!r})"

    def limiter(self, model: str | None, ceiling: int) -> Limiter:
        """The limiter of one model; what it learns about the rate is shared by those with another ceiling."""
        key = (model, ceiling, authority())
        limiter = self._limiters.get(key)
        if limiter is None:
            rate = self._rates.setdefault(model, Rate())
            made = limiter_at(self.base_url, self.api_key, model, ceiling, rate)
            limiter = self._limiters.setdefault(key, made)
        return limiter

    def breaker(self, model: str | None) -> CircuitBreaker:
        """The circuit breaker of one model."""
        breaker = self._breakers.get(model)
        if breaker is None:
            breaker = CircuitBreaker(f"{model} at {self.base_url}", self.breaker_policy)
            breaker = self._breakers.setdefault(model, breaker)
        return breaker

    async def post(self, path: str, payload: bytes, connect_timeout: float) -> aiohttp.ClientResponse:
        """Send a JSON body; the reply's own body is still to be read."""
        return await self._send("POST", _url(self.base_url + path), payload, connect_timeout)

    async def get(
        self, path: str, params: Mapping[str, str | int] | None, connect_timeout: float
    ) -> aiohttp.ClientResponse:
        """Send a query; the reply's body is still to be read."""
        url = _url(self.base_url + path)
        return await self._send("GET", url.with_query(params) if params else url, None, connect_timeout)

    async def _send(
        self, method: str, url: URL, payload: bytes | None, connect_timeout: float
    ) -> aiohttp.ClientResponse:
        session = self._session
        if session is None:
            session = self._session = self._open()
        proxy = self._proxy
        headers = (self._headers if payload is None else self._headers_of_json).copy()
        headers["Authorization"] = f"Bearer {self.api_key.get_secret_value()}"
        # Later than the time-out of the connection, which is what the caller is told.
        handshake_seconds.set(connect_timeout + 1.0)
        return await session.request(
            method,
            url,
            # aiohttp warns of large bodies as bytes, since it would write them at once.
            data=payload if payload is None or len(payload) < _LARGE_BODY else io.BytesIO(payload),
            headers=headers,
            allow_redirects=False,
            timeout=_timeout(connect_timeout),
            proxy=None if proxy is None else proxy.url,
            proxy_headers=None if proxy is None else proxy.headers,
        )

    def _open(self) -> aiohttp.ClientSession:
        context = ssl_context()
        self._proxy = proxy_for(self.base_url)
        # limit=0 is aiohttp's word for "no limit": the limiter is the bound, and a pool's queue would be a second.
        connector = _Connector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS, ssl=context, resolver=_Resolver())
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    @property
    def in_use(self) -> int:
        """How many requests are under way, or about to start."""
        return sum(limiter.in_use for limiter in list(self._limiters.values()))

    def sdk(self, most_bytes: int) -> AsyncTogether:
        """The SDK's client for the management API; it refuses replies of more than `most_bytes`."""
        if self._sdk is None:
            from hana_ai.api.transport.sdk import make_sdk

            self._sdk = make_sdk(self.base_url, self.api_key, most_bytes)
        return self._sdk

    async def left_by(self, user: object) -> None:
        """Close the connections, if nobody else uses them."""
        self.users.discard(user)
        if not self.users:
            await self.close()

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        session, self._session = self._session, None
        sdk, self._sdk = self._sdk, None
        if session is not None:
            await session.close()
        if sdk is not None:
            await sdk.close()


class Destinations:
    """Those of an engine."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, SecretStr], Destination] = {}

    def at(self, base_url: str, api_key: SecretStr) -> Destination:
        """The destination for an address and a key."""
        key = (base_url, api_key)
        found = self._all.get(key)
        return found or self._all.setdefault(key, Destination(base_url, api_key))

    async def close(self) -> None:
        """Close all connections."""
        for destination in self._all.values():
            await destination.close()


_of_engine: WeakKeyDictionary[Engine, Destinations] = WeakKeyDictionary()


def destinations_of(engine: Engine) -> Destinations:
    """The destinations of an engine, which closes them at its end."""
    found = _of_engine.get(engine)
    if found is None:
        found = Destinations()
        if _of_engine.setdefault(engine, found) is found:
            engine.on_close(found.close)
        found = _of_engine[engine]
    return found


class _Connector(aiohttp.TCPConnector):
    """A connector that a forked child leaves alone: its sockets are the parent's."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._process = os.getpid()

    def __del__(self, *_: object) -> None:
        if os.getpid() == self._process:
            super().__del__()


class _Resolver(AbstractResolver):
    """Looks names up as the system does."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return await look_up(host, port, family)

    async def close(self) -> None:
        """Close nothing: there is nothing that is kept open."""


@lru_cache(maxsize=256)
def _url(url: str) -> URL:
    return URL(url)


@lru_cache(maxsize=64)
def _timeout(connect: float) -> aiohttp.ClientTimeout:
    """aiohttp's time-outs: connecting alone, since the whole of a call is bounded by `asyncio.timeout`."""
    return aiohttp.ClientTimeout(total=None, connect=connect)
