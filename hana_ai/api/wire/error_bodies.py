"""Error statuses and error bodies to the errors that they stand for."""

from __future__ import annotations

from collections.abc import Mapping

from hana_ai.api.errors import (
    TogetherAIAuthenticationError,
    TogetherAIConflictError,
    TogetherAIContextOverflowError,
    TogetherAIInvalidRequestError,
    TogetherAIModelNotFoundError,
    TogetherAIPaymentRequiredError,
    TogetherAIPermissionDeniedError,
    TogetherAIRateLimitError,
    TogetherAIServerError,
    TogetherAIStatusError,
    TogetherAITimeoutError,
)


class _ModelTimeoutStatusError(TogetherAITimeoutError, TogetherAIStatusError):
    """408: the server gave up waiting."""


_BY_STATUS: Mapping[int, type[TogetherAIStatusError]] = {
    400: TogetherAIInvalidRequestError,
    401: TogetherAIAuthenticationError,
    402: TogetherAIPaymentRequiredError,
    403: TogetherAIPermissionDeniedError,
    404: TogetherAIModelNotFoundError,
    408: _ModelTimeoutStatusError,
    409: TogetherAIConflictError,
    413: TogetherAIInvalidRequestError,
    422: TogetherAIInvalidRequestError,
    429: TogetherAIRateLimitError,
}

_HINTS: Mapping[type[TogetherAIStatusError], str] = {
    TogetherAIAuthenticationError: "Check TOGETHER_API_KEY; keys are made at https://api.together.ai/settings/api-keys.",
    TogetherAIPaymentRequiredError: "Add credit or raise the spending limit at https://api.together.ai/settings/billing.",
    TogetherAIContextOverflowError: "Shorten the input, lower max_tokens, or set "
    "context_length_exceeded_behavior='truncate'.",
    TogetherAIRateLimitError: "Lower TOGETHER_MAX_CONCURRENCY or raise TOGETHER_MAX_RETRIES.",
}

_OVERFLOW_WORDS = ("max_new_tokens", "context length", "context window", "maximum context", "context_length")
_NOT_SERVED_WORDS = (
    "model_not_available",
    "non-serverless model",
    "model_not_found",
    "unable to access model",
)


def error_class(status: int, message: str, code: str | None = None) -> type[TogetherAIStatusError]:
    """Choose the class for an error status and the words beside it.

    Together reports an exceeded context as 400 or as 403 (its error-codes page says both), and a model that is
    not served as 400 `model_not_available` or as 404; the words tell them apart from their neighbours.
    """
    words = f"{code or ''} {message}".lower()
    if status in (400, 403) and any(word in words for word in _OVERFLOW_WORDS):
        return TogetherAIContextOverflowError
    if status == 400 and any(word in words for word in _NOT_SERVED_WORDS):
        return TogetherAIModelNotFoundError
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return TogetherAIServerError if status >= 500 else TogetherAIStatusError


def error_from_body(
    status: int,
    body: object,
    *,
    model: str | None = None,
    request_id: str | None = None,
    retry_after: float | None = None,
) -> TogetherAIStatusError:
    """Make the error for a reply's status and body.

    Parameters
    ----------
    status : int
        HTTP status of the reply.
    body : object
        The decoded JSON (``{"error": {message, type, param, code}, "error_type": ...}``), or text that was no
        JSON, such as a proxy's page.
    model, request_id, retry_after
        As in `TogetherAIRequestError`.
    """
    fields = read_error(body)
    message = fields["message"] or f"the server gave no reason for status {status}"
    cls = error_class(status, message, fields["code"])
    return cls(
        message,
        status=status,
        code=fields["code"],
        type=fields["type"],
        param=fields["param"],
        request_id=request_id,
        model=model,
        hint=_hint(cls, message),
        retry_after=retry_after,
    )


def _hint(cls: type[TogetherAIStatusError], message: str) -> str | None:
    """What to do; an address that the server has named is not named again."""
    if cls is TogetherAIAuthenticationError and "api.together.ai/settings/api-keys" in message:
        return "Check TOGETHER_API_KEY."
    return _HINTS.get(cls)


def read_error(body: object) -> dict[str, str | None]:
    """Read message, type, param and code out of an error body, whatever its shape."""
    found: dict[str, str | None] = {"message": None, "type": None, "param": None, "code": None}
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            for name in found:
                found[name] = _text(inner.get(name))
            found["message"] = found["message"] or _text(inner.get("detail"))
        else:
            found["message"] = _text(inner)
        found["message"] = found["message"] or _text(body.get("message"))
        found["type"] = found["type"] or _text(body.get("error_type"))
    elif isinstance(body, str) and body.strip():
        # An HTML page or plain text, usually of a proxy on the way: its beginning is enough to tell whose.
        found["message"] = " ".join(body.split())[:300]
    return found


_LONGEST_TEXT = 2000


def _text(value: object) -> str | None:
    return None if value is None or value == "" else str(value)[:_LONGEST_TEXT]
