"""Bytes and exceptions of one HTTP exchange, read without I/O, so that sync and async share it."""

from __future__ import annotations

import email.utils
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from hana_ai.api.errors import (
    TogetherAIConnectionError,
    TogetherAIInputError,
    TogetherAIRequestError,
    TogetherAIResponseError,
    TogetherAIStatusError,
    TogetherAIStreamError,
    TogetherAITimeoutError,
    error_from_body,
)
from hana_ai.api.wire.sse import SSEDecoder

MAX_DEPTH = 200
"""Lists and objects in each other; a reply with more is refused."""

_LONGEST_NAMED_WAIT = 3600.0
_LONGEST_REASON = 300
_NO_BRACKETS = bytes(letter for letter in range(256) if letter not in b"[]{}")
_MANY_BYTES = 64 * 1024
_MANY_NUMBERS = 64
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")


def encode(body: Mapping[str, Any]) -> bytes:
    """Encode a request body.

    Raises
    ------
    TogetherAIInputError
        A value has no JSON form.
    """
    try:
        return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as exc:
        what = str(exc)
        hint = (
            "The text has half of a surrogate pair; repair it with "
            "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')."
            if "surrogate" in what or "UTF-8" in what
            else "Parameters and messages hold only strings, numbers, booleans, lists and dicts."
        )
        raise TogetherAIInputError(f"The request can't be written as JSON: {what}. {hint}") from exc


def decode(data: bytes, *, model: str | None, request_id: str | None, content_type: str = "") -> Any:
    """Decode a reply's body.

    Raises
    ------
    TogetherAIResponseError
        It is no JSON.
    """
    try:
        return loads(data)
    except ValueError as exc:
        begin = " ".join(data[:200].decode("utf-8", "replace").split())
        raise TogetherAIResponseError(
            f"the reply is not JSON (content type {content_type or 'unknown'}, {len(data)} bytes): {begin!r}",
            model=model,
            request_id=request_id,
            hint="Check TOGETHER_BASE_URL, and whether a proxy answers in Together's place.",
        ) from exc


def loads(data: bytes) -> Any:
    """Decode JSON that is not deeper than `MAX_DEPTH`.

    Raises
    ------
    ValueError
        It is deeper, or no JSON.
    """
    value = orjson.loads(data)
    # Each level takes an opening and a closing bracket: most replies are too short, or have too few, to be deep.
    if len(data) > 2 * MAX_DEPTH and not _has_few_brackets(data) and _is_deep(value):
        raise ValueError(f"JSON with more than {MAX_DEPTH} lists and objects in each other")
    return value


def _has_few_brackets(data: bytes) -> bool:
    return len(data) <= _MANY_BYTES and len(data.translate(None, _NO_BRACKETS)) <= 2 * MAX_DEPTH


def _is_deep(value: Any) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in _children(item) if isinstance(child, (dict, list))]
        if not level:
            return False
    return True


def _children(item: dict[str, Any] | list[Any]) -> Iterable[Any]:
    if isinstance(item, dict):
        return item.values()
    if len(item) > _MANY_NUMBERS:
        try:
            # The quickest way to know that a vector holds numbers alone.
            sum(item)
        except (TypeError, OverflowError):
            return item
        return ()
    return item


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """Together's own id of the exchange."""
    return headers.get("x-request-id") or headers.get("x-together-traceid")


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: `retry-after-ms`, `retry-after` or `x-ratelimit-reset`.

    Values that make no sense (negative, not a number, more than an hour) count as absent.
    """
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0), ("x-ratelimit-reset", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value.strip().removesuffix("s")) * scale
        except ValueError:
            try:
                stamp = email.utils.parsedate_tz(value)
                if stamp is None:
                    continue
                seconds = max(0.0, email.utils.mktime_tz(stamp) - time.time())
            except (ValueError, OverflowError):
                # It has the form of a date, with a year or a month that no calendar has.
                continue
        if seconds > 1_000_000_000:
            # A point in time instead of a span, as some gateways send it.
            seconds -= time.time()
        if 0 <= seconds <= _LONGEST_NAMED_WAIT:
            return seconds
    return None


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


class EventReader:
    """Turn a stream's bytes into its decoded events and know whether it ended as it should.

    Parameters
    ----------
    model, request_id : str, optional
        For the errors.
    """

    __slots__ = ("_decoder", "_failure", "_last", "done", "model", "request_id", "usage")

    def __init__(self, *, model: str | None, request_id: str | None) -> None:
        self._decoder = SSEDecoder()
        self._failure: TogetherAIRequestError | None = None
        self._last: dict[str, Any] = {}
        self.done = False
        self.model = model
        self.request_id = request_id
        self.usage: Any = None
        """The token counts that came last."""

    @property
    def model_name(self) -> Any:
        """The model that the stream names, as it came."""
        return self._last.get("model")

    @property
    def last(self) -> Mapping[str, Any]:
        """The chunk that came last; empty before the first one."""
        return self._last

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """Take bytes and return the decoded chunks that they complete.

        Raises
        ------
        TogetherAIStatusError
            The server sent an error as an event.
        TogetherAIResponseError
            An event is not the JSON object that the API promises, or is too large.
        """
        if self._failure is not None:
            raise self._failure
        out: list[dict[str, Any]] = []
        try:
            events = self._decoder.feed(chunk)
        except ValueError as exc:
            raise TogetherAIResponseError(str(exc), model=self.model, request_id=self.request_id) from exc
        for data, _ in events:
            if data == b"[DONE]":
                self.done = True
                break
            try:
                decoded = loads(data)
            except ValueError:
                decoded = None
            if not isinstance(decoded, dict):
                self._failure = TogetherAIResponseError(
                    f"a chunk of the stream is no JSON object: {data[:200]!r}",
                    model=self.model,
                    request_id=self.request_id,
                )
            elif decoded.get("error"):
                self._failure = self._error_event(decoded)
            if self._failure is not None:
                if out:
                    # What came before the error is handed out first; the next call raises.
                    return out
                raise self._failure
            self._last = decoded
            if decoded.get("usage"):
                self.usage = decoded["usage"]
            out.append(decoded)
        return out

    def finish(self) -> None:
        """Check, at the end of the bytes, that the stream was complete.

        Raises
        ------
        TogetherAIRequestError
            An error that `feed` held back, since chunks came before it.
        TogetherAIConnectionError
            Neither `[DONE]` nor a finish reason came: the server or the network cut it off.
        """
        if self._failure is not None:
            raise self._failure
        choices = self._last.get("choices")
        if self.done or (isinstance(choices, list) and any(map(_finish_reason, choices))):
            return
        if self._last and not choices and self._last.get("usage"):
            return
        raise TogetherAIConnectionError(
            "the stream ended before the answer was complete", model=self.model, request_id=self.request_id
        )

    def _error_event(self, decoded: dict[str, Any]) -> TogetherAIStatusError:
        inner = decoded["error"]
        code = str(inner.get("code")) if isinstance(inner, Mapping) else ""
        status = int(code) if code.isdigit() and 400 <= int(code) < 600 else 500
        return error_from_body(status, decoded, model=self.model, request_id=self.request_id)


def _finish_reason(choice: object) -> object:
    return choice.get("finish_reason") if isinstance(choice, dict) else None


def stream_error(exc: TogetherAIRequestError) -> TogetherAIStreamError:
    """Say of an error that it came in the middle of a stream, where no retry is possible."""
    error = TogetherAIStreamError(
        f"the stream broke: {exc.message}",
        status=exc.status,
        code=exc.code,
        type=exc.type,
        param=exc.param,
        request_id=exc.request_id,
        model=exc.model,
        hint="What was received until then is in this error's `partial`; ask again for a whole answer.",
    )
    error.__cause__ = exc
    return error
