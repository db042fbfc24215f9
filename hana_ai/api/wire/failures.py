"""Exceptions and error statuses of one HTTP exchange to the errors of this package."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping

from hana_ai.api.errors import (
    TogetherAIConnectionError,
    TogetherAIRequestError,
    TogetherAIStatusError,
    TogetherAITimeoutError,
)
from hana_ai.api.wire.encoding import loads
from hana_ai.api.wire.error_bodies import error_from_body
from hana_ai.api.wire.headers import request_id_of, retry_after_of

_LONGEST_REASON = 300
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")


def status_error(
    status: int, headers: Mapping[str, str], data: bytes, *, model: str | None
) -> TogetherAIStatusError:
    """Make the error for a reply with an error status."""
    body: object
    try:
        body = loads(data)
    except ValueError:
        body = data.decode("utf-8", "replace")
    error = error_from_body(
        status, body, model=model, request_id=request_id_of(headers), retry_after=retry_after_of(headers)
    )
    if 300 <= status < 400:
        error.hint = "Redirects are not followed, since the key would travel along; correct TOGETHER_BASE_URL."
    if headers.get("x-should-retry") == "false":
        error.is_retryable = False
    return error


def transport_error(exc: BaseException, *, base_url: str, model: str | None) -> TogetherAIRequestError:
    """Make the error for an exchange that broke below HTTP.

    The SDK's own classes are not enough: the innermost cause tells what it was.
    """
    causes = list(_causes(exc))
    for link in causes:
        if isinstance(link, TogetherAIRequestError):
            # The SDK wraps what our own HTTP client refused.
            link.model = link.model or model
            return link
        if isinstance(link, ssl.SSLError) and (error := _tls_error(link, base_url, model)) is not None:
            return error
    names = {cls.__name__ for link in causes for cls in type(link).__mro__}
    what = next((str(link) for link in reversed(causes) if str(link)), type(exc).__name__)
    what = " ".join(what.split())[:_LONGEST_REASON]
    if names & {"TimeoutException", "TimeoutError", "APITimeoutError", "ServerTimeoutError"}:
        phase = "connecting" if names & {"ConnectTimeout", "ConnectionTimeoutError"} else "waiting for an answer"
        return TogetherAITimeoutError(
            f"timed out while {phase} ({base_url})",
            model=model,
            hint="Raise TOGETHER_TIMEOUT or TOGETHER_CONNECT_TIMEOUT.",
        )
    return TogetherAIConnectionError(
        f"no connection to {base_url}: {what}",
        model=model,
        hint="Check the network, the proxy settings and TOGETHER_BASE_URL.",
    )


def forget_frames(exc: BaseException) -> None:
    """Take the frames from an exception and its causes.

    Those of the SDK, httpx, h11 and aiohttp hold the request's headers in their variables, and tools that report
    errors show variables. What went wrong is in the messages.
    """
    for link in _causes(exc):
        link.__traceback__ = None


def _tls_error(exc: ssl.SSLError, base_url: str, model: str | None) -> TogetherAIConnectionError | None:
    """Make the error for a certificate or a port that will be as wrong at the next try; None for other reasons."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        error = TogetherAIConnectionError(
            f"the certificate of {base_url} can't be trusted: {getattr(exc, 'verify_message', None) or exc}",
            model=model,
            hint="Check TOGETHER_BASE_URL and the machine's clock. Where a proxy of your network signs with an "
            "authority of its own, name that authority's file with SSL_CERT_FILE.",
        )
    elif getattr(exc, "reason", None) in _NO_TLS or any(reason in str(exc) for reason in _NO_TLS):
        error = TogetherAIConnectionError(
            f"{base_url} does not speak TLS",
            model=model,
            hint="Check the port and the scheme of TOGETHER_BASE_URL, and the proxy settings.",
        )
    else:
        return None
    error.is_retryable = False
    return error


def _causes(exc: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = exc
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
