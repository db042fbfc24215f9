"""The certificates that are trusted, and the system's look-up of names without a thread pool."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from functools import lru_cache
from typing import TYPE_CHECKING

import certifi

from hana_ai.api.errors import TogetherAISettingsError
from hana_ai.api.transport.native_threads import start_thread

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult

_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def ssl_context() -> ssl.SSLContext:
    """The context of all connections: making one takes longer than a request.

    Trusts what SSL_CERT_FILE or SSL_CERT_DIR name, else Mozilla's authorities, as certifi has them.

    Raises
    ------
    TogetherAISettingsError
        SSL_CERT_FILE or SSL_CERT_DIR names certificates that can't be read.
    """
    return _ssl_context(*(os.environ.get(name) or None for name in _VARIABLES))


@lru_cache(maxsize=4)
def _ssl_context(file: str | None, folder: str | None) -> ssl.SSLContext:
    if not file and not folder:
        file = certifi.where()
    try:
        if folder and not file:
            _check_readable(folder.split(os.pathsep))
        context = ssl.create_default_context(cafile=file, capath=folder)
    except OSError as exc:
        named = [f"{name}={os.environ[name]}" for name in _VARIABLES if os.environ.get(name)]
        raise TogetherAISettingsError(
            f"The trusted certificates can't be read ({', '.join(named)}): {exc}. Correct the path, or unset the "
            "variable."
        ) from exc
    # Some builds of Python leave the lowest version to OpenSSL's configuration.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _check_readable(folders: list[str]) -> None:
    """Look whether any of the folders can be read: OpenSSL says nothing where none is, and then trusts nobody."""
    errors = []
    for folder in folders:
        try:
            os.scandir(folder).close()
        except OSError as exc:
            errors.append(exc)
    if len(errors) == len(folders):
        raise errors[0]


async def look_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    """Look up a host's addresses in a daemon thread, which holds up neither a caller that leaves nor the exit.

    Raises
    ------
    OSError
        There is no such host.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[ResolveResult]] = loop.create_future()

    def ask() -> None:
        found: list[ResolveResult] | OSError
        try:
            found = _addresses(host, port, family)
        except OSError as exc:
            found = exc
        try:
            loop.call_soon_threadsafe(_tell, future, found)
        except RuntimeError:
            # The engine ended meanwhile: nobody is left to tell.
            return

    try:
        start_thread(ask)
    except RuntimeError:
        # At the end of the interpreter no thread can be started; there is nothing else to hold up.
        return _addresses(host, port, family)
    return await future


def _tell(future: asyncio.Future[list[ResolveResult]], found: list[ResolveResult] | OSError) -> None:
    if future.done():
        return
    if isinstance(found, OSError):
        future.set_exception(found)
    else:
        future.set_result(found)


def _addresses(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return [
        {
            "hostname": host,
            "host": str(address[0]),
            "port": int(address[1]),
            "family": kind,
            "proto": protocol,
            "flags": flags,
        }
        for kind, _, protocol, _, address in socket.getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
    ]
