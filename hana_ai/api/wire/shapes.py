"""Replies that are JSON, but not what the API promises."""

from __future__ import annotations

import reprlib
from collections.abc import Collection

from pydantic_core import ValidationError

from hana_ai.api.errors import TogetherAIResponseError

SHAPE_ERRORS = (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError)
"""What reading a reply trips over when a part of it is missing or of another type."""

_LONGEST = 200
_HINT = "Check TOGETHER_BASE_URL, and whether another server answers in Together's place."
_repr = reprlib.Repr()
_repr.maxlevel = 4
_repr.maxstring = _repr.maxother = 120


def shown(value: object) -> str:
    """The beginning of a value, for a message; safe for values of any size and depth."""
    return _repr.repr(value)[:_LONGEST]


def wrong_shape(
    exc: BaseException, *, model: str | None = None, request_id: str | None = None
) -> TogetherAIResponseError:
    """Make the error for a reply that could not be read."""
    what = str(exc.args[0])[:_LONGEST] if exc.args else ""
    return TogetherAIResponseError(
        f"the reply has not the shape that the API promises ({type(exc).__name__}: {what})",
        model=model,
        request_id=request_id,
        hint=_HINT,
    )


def misfit(
    exc: ValidationError,
    what: str,
    *,
    model: str | None = None,
    request_id: str | None = None,
    secret: Collection[str] = (),
) -> TogetherAIResponseError:
    """Make the error for a reply that a schema refuses: the place, what is there and what was expected.

    Parameters
    ----------
    exc : ValidationError
    what : str
        Which reply it is, for the message.
    model, request_id : str, optional
        For the error.
    secret : collection of str, optional
        Fields of which nothing is shown.
    """
    first = exc.errors(include_url=False, include_context=False)[0]
    hidden = first["type"] == "missing" or any(part in secret for part in first["loc"])
    return TogetherAIResponseError(
        f"{what} does not fit at {_place(first['loc'])}: {first['msg']}"
        + ("" if hidden else f", not {shown(first['input'])}"),
        model=model,
        request_id=request_id,
        hint=_HINT,
    )


def _place(location: tuple[int | str, ...]) -> str:
    """A place as one would write it in Python: ``deployments[0].status.state``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "its top"
