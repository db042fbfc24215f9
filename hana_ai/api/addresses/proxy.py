"""Which proxy a connection takes: one answer for the synchronous and the asynchronous client.

Left to themselves, httpx would ask the environment and aiohttp would not, and either can be led to send more than
it should: httpx speaks plainly through HTTP_PROXY, and aiohttp, told to heed the environment, also takes
credentials from `~/.netrc` and then refuses to send the key beside them.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from hana_ai.api.addresses.checks import is_loopback
from hana_ai.api.errors import TogetherAISettingsError

if TYPE_CHECKING:
    import ssl

    import httpx


def proxy_for(base_url: str, ssl_context: ssl.SSLContext) -> httpx.Proxy | None:
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
    url = urlsplit(address if "://" in address else f"http://{address}")
    # The address itself stays out of the message: a proxy's password may stand in it.
    if url.scheme not in ("http", "https") or not url.hostname:
        raise TogetherAISettingsError(
            "HTTPS_PROXY or ALL_PROXY names a proxy that can't be used: its address has to begin with http:// or "
            "https://. Correct it, or name this host in NO_PROXY."
        )
    import httpx

    # As a header, since aiohttp 3.14 warns of its class for a proxy's credentials.
    credentials = f"{unquote(url.username or '')}:{unquote(url.password or '')}".encode()
    headers = {"Proxy-Authorization": f"Basic {b64encode(credentials).decode()}"} if url.username else None
    host = url.netloc.rpartition("@")[2]
    return httpx.Proxy(
        f"{url.scheme}://{host}", headers=headers, ssl_context=ssl_context if url.scheme == "https" else None
    )
