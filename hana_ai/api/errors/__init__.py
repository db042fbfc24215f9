"""Everything that can go wrong, as one tree.

::

    TogetherAIError (RuntimeError)
    ├── TogetherAISettingsError (ValueError)       a setting is missing or wrong
    │   └── TogetherAINotEnabledError              ENABLE_TOGETHER_AI is not true
    ├── TogetherAIInputError (ValueError)          refused before anything was sent
    ├── TogetherAIBudgetExceededError              TOGETHER_BUDGET_USD is spent; nothing was sent
    ├── TogetherAIUnsafeContentError               a guard model refused a text
    ├── TogetherAIClusterError                     a run on several machines cannot go on
    ├── TogetherAIRequestError                     a request to Together failed
    │   ├── TogetherAIStatusError                  Together answered with an error status
    │   │   ├── TogetherAIInvalidRequestError      400, 413, 422     ModelInvalidRequestError
    │   │   ├── TogetherAIContextOverflowError     400, 403          ContextOverflowError
    │   │   ├── TogetherAIAuthenticationError      401               ModelAuthenticationError
    │   │   ├── TogetherAIPaymentRequiredError     402
    │   │   ├── TogetherAIPermissionDeniedError    403               ModelPermissionDeniedError
    │   │   ├── TogetherAIModelNotFoundError       404, 400          ModelNotFoundError
    │   │   ├── TogetherAIConflictError            409
    │   │   ├── TogetherAIRateLimitError           429               ModelRateLimitError
    │   │   └── TogetherAIServerError              5xx               ModelAPIError
    │   ├── TogetherAIConnectionError              no connection     ModelConnectionError
    │   ├── TogetherAITimeoutError                 a deadline passed ModelTimeoutError
    │   ├── TogetherAIStreamError                  a stream broke    ModelAPIError
    │   └── TogetherAIResponseError                unreadable reply  ModelAPIError
    └── TogetherAIStructuredOutputError (OutputParserException)      no output of the asked-for shape

The right column is the class of ``langchain_core.exceptions`` that each one also is, so that code written for
any LangChain provider catches them.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelRateLimitError,
    ModelTimeoutError,
    OutputParserException,
)

from .entries import pointer


class TogetherAIError(RuntimeError):
    """Base of every error of this package."""

    def _render_traceback_(self) -> list[str]:
        """What IPython and Jupyter show: the lines of the caller's own code, the error, and where to read more.

        The fifty lines of packages between the two hide both; `traceback.print_exception` has them.
        """
        own = [frame for frame in traceback.extract_tb(self.__traceback__) if _is_own(frame.filename)]
        lines = [*map(_line, own), f"{type(self).__name__}: {self}"]
        more = pointer(str(self))
        return [*lines, more] if more else lines


def _is_own(filename: str) -> bool:
    """Whether a file is neither Python's nor a package's, wherever that is installed."""
    parts = Path(filename).parts
    return not filename.startswith(_PACKAGES) and "site-packages" not in parts and "dist-packages" not in parts


def _line(frame: traceback.FrameSummary) -> str:
    is_cell = "ipykernel_" in frame.filename or frame.filename.startswith("<")
    return f"{'' if is_cell else frame.filename + ', '}line {frame.lineno}: {frame.line}"


_PACKAGES = (
    sysconfig.get_path("purelib"),
    sysconfig.get_path("platlib"),
    sysconfig.get_path("stdlib"),
    str(Path(__file__).parents[1]),
)


class TogetherAISettingsError(TogetherAIError, ValueError):
    """A setting is missing or has a value that is not allowed; the message names it."""


class TogetherAINotEnabledError(TogetherAISettingsError):
    """Together is asked for, but not switched on; the message lists what to set."""


class TogetherAIInputError(TogetherAIError, ValueError):
    """The input can't be sent as it is; nothing was sent."""


class TogetherAIBudgetExceededError(TogetherAIError):
    """The budget is spent, so that the request was not sent.

    Parameters
    ----------
    message : str
    spent_usd, budget_usd : Decimal
        USD in the period, by all who share the ledger.
    period : str
        day or month, of UTC.
    """

    def __init__(self, message: str, *, spent_usd: Decimal, budget_usd: Decimal, period: str) -> None:
        self.spent_usd = spent_usd
        self.budget_usd = budget_usd
        self.period = period
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_budget, (self.__class__, str(self), self.spent_usd, self.budget_usd, self.period))


def _rebuild_budget(
    cls: type[TogetherAIBudgetExceededError], message: str, spent: Decimal, budget: Decimal, period: str
) -> TogetherAIBudgetExceededError:
    return cls(message, spent_usd=spent, budget_usd=budget, period=period)


class TogetherAIClusterError(TogetherAIError):
    """A run on several machines cannot go on: its coordinator is away, or its workers cannot work."""


class TogetherAIUnsafeContentError(TogetherAIError):
    """A guard model refused a text of an agent; the text itself is not part of the error.

    Parameters
    ----------
    message : str
    where : str
        input, output or tool result.
    categories : sequence of str
        The guard's names for what is unsafe, such as ``S1``; empty where it named none.
    """

    def __init__(self, message: str, *, where: str, categories: Sequence[str] = ()) -> None:
        self.where = where
        self.categories = tuple(categories)
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_unsafe, (self.__class__, str(self), self.where, self.categories))


def _rebuild_unsafe(
    cls: type[TogetherAIUnsafeContentError], message: str, where: str, categories: tuple[str, ...]
) -> TogetherAIUnsafeContentError:
    return cls(message, where=where, categories=categories)


class TogetherAIRequestError(TogetherAIError, ModelError):
    """A request to Together failed.

    Parameters
    ----------
    message : str
        What happened, in the server's words where there are any.
    status : int, optional
        HTTP status, None when there was no complete reply.
    code, type, param : str, optional
        The fields of Together's error body.
    request_id : str, optional
        Together's `x-request-id`; name it when you ask their support.
    model : str, optional
        The model that the request asked for.
    hint : str, optional
        What to do about it.
    retry_after : float, optional
        Seconds that the server asks to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        model: str | None = None,
        hint: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.message = message
        self.status = status
        self.code = code
        self.type = type
        self.param = param
        self.request_id = request_id
        self.model = model
        self.hint = hint
        self.retry_after = retry_after
        super().__init__(message)

    @property
    def status_code(self) -> int | None:
        """The HTTP status under the name that the SDKs use."""
        return self.status

    def __str__(self) -> str:
        # "Error code: 429" stays the beginning: the toolkit's agents look for it.
        text = f"Error code: {self.status} - {self.message}" if self.status else self.message
        named = [
            f"{name} {value}" for name, value in (("model", self.model), ("request", self.request_id)) if value
        ]
        if named:
            text += f" ({', '.join(named)})"
        if not self.hint:
            return text
        return f"{text} {self.hint}" if text.endswith((".", "!", "?")) else f"{text}. {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.__class__, self.message, self.__dict__.copy()))


def _rebuild(cls: type[TogetherAIRequestError], message: str, state: dict[str, object]) -> TogetherAIRequestError:
    error = cls.__new__(cls)
    RuntimeError.__init__(error, message)
    error.__dict__.update(state)
    return error


class TogetherAIStatusError(TogetherAIRequestError):
    """Together answered with an error status."""


class TogetherAIInvalidRequestError(TogetherAIStatusError, ModelInvalidRequestError):
    """The request is not valid (400, 413, 422)."""


class TogetherAIContextOverflowError(TogetherAIStatusError, ContextOverflowError):
    """Input and `max_tokens` together exceed the model's context (400 or 403)."""


class TogetherAIAuthenticationError(TogetherAIStatusError, ModelAuthenticationError):
    """The key was refused (401)."""


class TogetherAIPaymentRequiredError(TogetherAIStatusError):
    """The account's credit or spending limit is used up (402)."""


class TogetherAIPermissionDeniedError(TogetherAIStatusError, ModelPermissionDeniedError):
    """The key may not do this (403)."""


class TogetherAIModelNotFoundError(TogetherAIStatusError, ModelNotFoundError):
    """The model or the address does not exist, or is not served without an endpoint of one's own (404, 400).

    `alternatives` holds close names that the catalogue lists as living; it may be empty.
    """

    alternatives: Sequence[str] = ()


class TogetherAIConflictError(TogetherAIStatusError):
    """The resource is being changed by somebody else (409)."""

    is_retryable = True


class TogetherAIRateLimitError(TogetherAIStatusError, ModelRateLimitError):
    """More requests or tokens than Together allows at this moment (429)."""


class TogetherAIServerError(TogetherAIStatusError, ModelAPIError):
    """Together failed or has no capacity (5xx)."""


class TogetherAIConnectionError(TogetherAIRequestError, ModelConnectionError):
    """No connection, or it broke before the reply was complete."""


class TogetherAITimeoutError(TogetherAIRequestError, ModelTimeoutError):
    """A deadline passed: connecting, between two chunks, or of the whole call."""


NOT_OF_ONE_REQUEST = (
    TogetherAIAuthenticationError,
    TogetherAIConnectionError,
    TogetherAIModelNotFoundError,
    TogetherAIPaymentRequiredError,
    TogetherAIPermissionDeniedError,
    TogetherAIRateLimitError,
)
"""What every other request of the same kind would meet as well."""


class TogetherAIResponseError(TogetherAIRequestError, ModelAPIError):
    """The reply was not what the API promises: not JSON, cut off, too large, or of another shape."""

    is_retryable = False


class TogetherAIStreamError(TogetherAIRequestError, ModelAPIError):
    """A stream ended early, after it had begun.

    `partial` holds what was received until then: the text for a completion, an `AIMessageChunk` for a chat.
    """

    partial: Any = None


class TogetherAIStructuredOutputError(TogetherAIError, OutputParserException):
    """The model's answer does not have the asked-for shape; the message has the finish reason."""

    def __init__(self, message: str, *, llm_output: str | None = None) -> None:
        OutputParserException.__init__(self, message, llm_output=llm_output)
