"""The ranges of a request's parameters, checked before it is sent.

They are those of Together's OpenAPI document, which has some in its schemas and some in its words. It describes a
temperature as 0 to 1, but the API takes up to 2, and engines read a `top_k` of -1 as "all".
"""

from __future__ import annotations

from collections.abc import Mapping

from hana_ai.api.errors import TogetherAIError, TogetherAIInputError, TogetherAISettingsError

RANGES: Mapping[str, tuple[float, float | None]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "top_k": (-1, None),
    "min_p": (0, 1),
    "max_tokens": (1, None),
    "repetition_penalty": (0, None),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "n": (1, 128),
    "logprobs": (0, 20),
}
"""The least and the most of each parameter; None is without end."""


def check_body(body: Mapping[str, object]) -> None:
    """Check the parameters of a request.

    Raises
    ------
    TogetherAIInputError
        One is out of its range, or no number; the message has its name, its value and the range.
    """
    for name in RANGES:
        if name in body:
            _check(name, body[name], TogetherAIInputError)


def check_field(name: str, value: object) -> None:
    """Check the value of a field; None is no value.

    Raises
    ------
    TogetherAISettingsError
        As TogetherAIInputError of `check_body`.
    """
    if value is not None:
        _check(name, value, TogetherAISettingsError)


def _check(name: str, value: object, error: type[TogetherAIError]) -> None:
    least, most = RANGES[name]
    try:
        # Not the other way round: a NaN is neither inside nor outside.
        allowed = least <= value and (most is None or value <= most)  # type: ignore[operator]
    except TypeError:
        allowed = False
    if not allowed:
        span = f"{least} or more" if most is None else f"from {least} to {most}"
        raise error(f"{name} is {value!r}; it must be {span}.")
