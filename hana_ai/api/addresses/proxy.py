"""Which proxy a connection takes.

Left to itself, aiohttp would not ask the environment; told to heed it, it also takes credentials from `~/.netrc`
and then refuses to send the key beside them. And httpx speaks plainly through HTTP_PROXY.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from hana_ai.api.addresses.checks import is_http_address, is_loopback
from hana_ai.api.errors import TogetherAISettingsError


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's address, and the headers that it wants."""

    url: str
    """Without credentials."""
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    """The credentials, if there are any."""


def proxy_for(base_url: str) -> Proxy | None:
    """The proxy that HTTPS_PROXY, ALL_PROXY and NO_PROXY (or the system's settings) name for an address.

    None for an address on this machine: what is sent there needs no proxy, and would pass it unencrypted.

    Raises
    ------
    TogetherAISettingsError
        The proxy is of a kind that can't be used.
    """
    import urllib.request

    if is_loopback(base_url):
        return None
    parts = urlsplit(base_url)
    proxies = urllib.request.getproxies()
    address = proxies.get(parts.scheme) or proxies.get("all")
    if not address or urllib.request.proxy_bypass(parts.netloc):
        return None
    proxy = _read(address)
    # The address itself stays out of the message and of the frame: a proxy's password may stand in it.
    del address, proxies
    if proxy is None:
        raise TogetherAISettingsError(
            "HTTPS_PROXY or ALL_PROXY names a proxy that can't be used: its address has to begin with http:// or "
            "https://, and to have a host and a port that can be. Correct it, or name this host in NO_PROXY."
        )
    return proxy


def _read(address: str) -> Proxy | None:
    """The proxy of an address; None if it can't be used."""
    if not address.isprintable():
        return None
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
    except ValueError:
        return None
    url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if not is_http_address(url):
        return None
    headers = {"Proxy-Authorization": f"Basic {b64encode(credentials).decode()}"} if parts.username else None
    return Proxy(url, headers)
