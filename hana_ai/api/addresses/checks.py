"""What an address and a key must look like.

Apart from the settings, so that importing a LangChain class does not import pydantic-settings, which costs more
than all modules here.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

from pydantic import SecretStr

from hana_ai.api.errors import TogetherAISettingsError

DEFAULT_BASE_URL = "https://api.together.ai"
"""The SDK's own default (together 3.1, `_client.py`)."""

KEY_PAGE = "https://api.together.ai/settings/api-keys"
"""Where keys are made."""


_LONGEST = 2_000
"""Characters of an address; httpx refuses far longer ones with an error of its own."""
_NETLOC = re.compile(r"(?:\[(?P<literal>[^][]+)\]|(?P<name>[^][:@/\\]+))(?::(?P<port>[0-9]*))?")
_LABEL = re.compile(r"[A-Z0-9_](?:[A-Z0-9_-]{0,61}[A-Z0-9_])?", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
_ZONE = re.compile(r"[\w.~-]+", re.ASCII)


def is_loopback(url: str) -> bool:
    """Whether a URL points to this machine, where no key is needed and plain http is allowed."""
    try:
        host = urlsplit(url).hostname or ""
        if host == "localhost":
            return True
        address = ipaddress.ip_address(host)
        # Only Python 3.13 and later ask the IPv4 address that an IPv6 one stands for.
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback
    except ValueError:
        return False


def is_http_address(url: str) -> bool:
    """Whether a URL is http or https and has a host and a port that every library takes; no user, no password.

    urllib, yarl and httpx each accept what another one refuses, with bare errors, and only when a request is made.
    """
    if not url.isprintable() or " " in url or len(url) > _LONGEST:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    found = _NETLOC.fullmatch(parts.netloc)
    if parts.scheme not in ("http", "https") or found is None:
        return False
    port = found["port"]
    if port and not (len(port) <= 5 and 0 < int(port) <= 65_535):
        return False
    return _is_ipv6(found["literal"]) if found["name"] is None else _is_name(found["name"])


def _is_ipv6(literal: str) -> bool:
    address, has_zone, zone = literal.partition("%")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return not has_zone or _ZONE.fullmatch(zone) is not None


def _is_name(host: str) -> bool:
    """Whether a host is a name that DNS can hold, or an IPv4 address."""
    if not host.isascii() or "xn--" in host.lower():
        # Loaded for such names alone.
        import idna

        try:
            host = idna.encode(host.lower()).decode()
            idna.decode(host)
        except UnicodeError:
            return False
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return False
    if _NUMBER.fullmatch(labels[-1]):
        # Systems read 127.1, 1 and 0x7f as addresses too, each in its own way.
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            return False
    return True


def check_base_url(value: object, name: str = "TOGETHER_BASE_URL") -> str:
    """Return the address without a trailing slash and `/v1`.

    The SDK's paths carry their own `/v1`. The key is sent along, so only https and loopback are accepted.

    Raises
    ------
    TogetherAISettingsError
        The value is no such address.
    """
    if not isinstance(value, str):
        raise TogetherAISettingsError(
            f"{name} is a {type(value).__name__}, not an address such as {DEFAULT_BASE_URL!r}."
        )
    return _check_base_url(value, name)


@lru_cache(maxsize=64)
def _check_base_url(value: str, name: str) -> str:
    url = value.strip().rstrip("/").removesuffix("/v1").rstrip("/")
    # First, since the other messages repeat the value.
    if "@" in _netloc(url) or "?" in url or "#" in url:
        raise TogetherAISettingsError(f"{name} must not carry a user, a password, a query or a fragment.")
    if not is_http_address(url):
        raise TogetherAISettingsError(
            f"{name}{shown_address(value)} is not an address such as {DEFAULT_BASE_URL!r}."
        )
    if urlsplit(url).scheme == "http" and not is_loopback(url):
        raise TogetherAISettingsError(
            f"{name}={value!r} would send the key unencrypted; use https, or an address on this machine."
        )
    return url


def _netloc(url: str) -> str:
    """The part with user, host and port, also of what can't be parsed."""
    return url.partition("://")[2].partition("/")[0]


def shown_address(value: str) -> str:
    """Return what a message may repeat of an address that is wrong: nothing that may be a key or a password."""
    looks_like_one = (":" in value or "/" in value) and not any(mark in value for mark in "@?#")
    return f"={value[:100]!r}" if looks_like_one else ""


def check_api_key(value: str, name: str = "TOGETHER_API_KEY") -> str:
    """Return the key without surrounding white space; a line break inside would end the header it is sent in."""
    key = value.strip()
    if key and key.isascii() and key.isprintable() and " " not in key:
        return key
    del key, value  # some tools print a traceback with its variables
    raise TogetherAISettingsError(
        f"{name} is not a key: it is empty or has blanks, line breaks or letters beyond ASCII. "
        f"Copy it again from {KEY_PAGE}."
    )


def hide(values: dict[str, object], *names: str) -> None:
    """Wrap the secrets among the arguments of a function, for tools that print a traceback with its variables."""
    for name in names:
        if isinstance(value := values.get(name), str):
            values[name] = SecretStr(value)
        del value
