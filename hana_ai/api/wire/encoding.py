"""Request bodies to bytes and replies' bytes to values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from hana_ai.api.errors import TogetherAIInputError, TogetherAIResponseError
from hana_ai.api.wire import long_lists
from hana_ai.api.wire.long_lists import DecodePart
from hana_ai.api.wire.schemas import JSONObject

MAX_DEPTH = 200
"""Lists and objects in each other; a reply with more is refused."""

_NO_BRACKETS = bytes(letter for letter in range(256) if letter not in b"[]{}")
_MANY_BYTES = 64 * 1024
_MANY_NUMBERS = 64


def encode(body: Mapping[str, object]) -> bytes:
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


def decode(
    data: bytes,
    *,
    model: str | None,
    request_id: str | None,
    content_type: str = "",
    decode_part: DecodePart | None = None,
) -> Any:
    """Decode a reply's body, as `loads`.

    Raises
    ------
    TogetherAIResponseError
        It is no JSON.
    """
    try:
        return loads(data, decode_part)
    except ValueError as exc:
        begin = " ".join(data[:200].decode("utf-8", "replace").split())
        raise TogetherAIResponseError(
            f"the reply is not JSON (content type {content_type or 'unknown'}, {len(data)} bytes): {begin!r}",
            model=model,
            request_id=request_id,
            hint="Check TOGETHER_BASE_URL, and whether a proxy answers in Together's place.",
        ) from exc


def loads(data: bytes, decode_part: DecodePart | None = None) -> Any:
    """Decode JSON that is not deeper than `MAX_DEPTH`; its `data` by `decode_part`, where that is possible.

    Raises
    ------
    ValueError
        It is deeper, or no JSON.
    """
    value = None if decode_part is None else long_lists.decoded(data, decode_part)
    if value is None:
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


def _children(item: JSONObject | list[Any]) -> Iterable[Any]:
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
