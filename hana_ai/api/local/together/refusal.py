"""How a request is refused: in Together's error shape."""

from __future__ import annotations

from typing import TypeAlias

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"


class Refusal(Exception):  # noqa: N818 - an answer of the API, not a fault of the server
    """An answer in Together's error shape.

    Parameters
    ----------
    status
        The HTTP status.
    message, type, param, code
        The fields of Together's `error` object.
    headers
        More headers of the answer, such as `retry-after`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.headers = headers or {}

    def error(self) -> dict[str, JSON]:
        """The `error` object."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


def context_overflow(context_length: int, prompt_tokens: int, max_tokens: int) -> Refusal:
    """The refusal of a request whose prompt and answer do not fit into the model's context."""
    return Refusal(
        400,
        f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {context_length}. "
        f"Given: {prompt_tokens} `inputs` tokens and {max_tokens} `max_new_tokens`",
        param="max_tokens",
    )
