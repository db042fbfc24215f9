"""What an address and a key must look like.

Apart from the settings, so that importing a LangChain class does not import pydantic-settings, which costs more
than all modules here.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from hana_ai.api.errors import TogetherAISettingsError

DEFAULT_BASE_URL = "https://api.together.ai"
"""The SDK's own default (together 3.1, `_client.py`)."""

KEY_PAGE = "https://api.together.ai/settings/api-keys"
"""Where keys are made."""


def is_loopback(url: str) -> bool:
    """Whether a URL points to this machine, where no key is needed and plain http is allowed."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=64)
def check_base_url(value: str, name: str = "TOGETHER_BASE_URL") -> str:
    """Return the address without a trailing slash and `/v1`.

    The SDK's paths carry their own `/v1`. The key is sent along, so only https and loopback are accepted.

    Raises
    ------
    TogetherAISettingsError
        The value is no such address.
    """
    url = value.strip().rstrip("/").removesuffix("/v1").rstrip("/")
    parts = urlsplit(url)
    # First, since the other messages repeat the value.
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise TogetherAISettingsError(f"{name} must not carry a user, a password, a query or a fragment.")
    if parts.scheme not in ("http", "https") or not parts.hostname or " " in url or not url.isprintable():
        raise TogetherAISettingsError(f"{name}={value!r} is not an address such as {DEFAULT_BASE_URL!r}.")
    if parts.scheme == "http" and not is_loopback(url):
        raise TogetherAISettingsError(
            f"{name}={value!r} would send the key unencrypted; use https, or an address on this machine."
        )
    return url


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


def hide(values: dict[str, Any], *names: str) -> None:
    """Wrap the secrets among the arguments of a function, for tools that print a traceback with its variables."""
    for name in names:
        if isinstance(value := values.get(name), str):
            values[name] = SecretStr(value)
        del value
