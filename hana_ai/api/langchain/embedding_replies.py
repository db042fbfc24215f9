"""What a server answers to a request of embeddings: vectors, or that it was too large. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from hana_ai.api.errors import TogetherAIContextOverflowError, TogetherAIRequestError, TogetherAIResponseError
from hana_ai.api.wire.shapes import shown

_BATCH_WORDS = ("too large", "too many", "too big", "batch size", "batch_size", "maximum batch", "max batch")
_TEXT_WORDS = ("too long", "context", "tokens", "sequence length", "maximum length", "max length")


def refusal(error: Exception) -> Literal["batch", "text"] | None:
    """Whether the server refused a request for its size: for that of the batch, or for that of a text in it.

    413 always says so; 400 and 422 have many meanings, and the words decide. Together documents none of them, so
    the words are those that servers of this API are known to use.
    """
    if not isinstance(error, TogetherAIRequestError) or error.status not in (400, 403, 413, 422):
        return None
    if isinstance(error, TogetherAIContextOverflowError):
        return "text"
    words = error.message.lower()
    if error.status == 413 or (error.status != 403 and any(word in words for word in _BATCH_WORDS)):
        return "batch"
    return "text" if error.status != 403 and any(word in words for word in _TEXT_WORDS) else None


def vectors_from_wire(
    reply: object, count: int, *, model: str | None = None, request_id: str | None = None
) -> list[list[float]]:
    """Turn a reply of embeddings into vectors, shape `(count, width)`, in the order of the request.

    JSON writes 0.0 as 0, and a database that wants floats refuses an integer: all numbers become floats.

    Raises
    ------
    TogetherAIResponseError
        The reply is not `count` vectors of one width, one for each `index`.
    """

    def wrong(what: str) -> TogetherAIResponseError:
        return TogetherAIResponseError(f"the reply to {count} texts {what}", model=model, request_id=request_id)

    entries = reply.get("data") if isinstance(reply, Mapping) else None
    if not isinstance(entries, list):
        raise wrong(f"has no list of vectors: {shown(reply)}")
    if len(entries) != count:
        raise wrong(f"has {len(entries)} vectors")
    vectors: list[list[float] | None] = [None] * count
    for entry in entries:
        index = entry.get("index") if isinstance(entry, Mapping) else None
        if not isinstance(index, (int, float)) or index != int(index) or not 0 <= index < count:
            raise wrong(f"has a vector with the index {index!r}")
        if vectors[int(index)] is not None:
            raise wrong(f"has two vectors with the index {index!r}")
        numbers = entry.get("embedding")
        if not isinstance(numbers, list):
            raise wrong(f"has a {type(numbers).__name__} in the place of a vector")
        try:
            # `sum` refuses what is no number, at next to no cost; `float` alone would read strings. What is a
            # float already stays the same object: a copy of each would cost more than the JSON.
            sum(numbers)
            vectors[int(index)] = list(map(float, numbers))
        except (TypeError, OverflowError) as exc:
            raise wrong(f"has a vector that is not of numbers: {exc}") from exc
    found = [vector for vector in vectors if vector is not None]
    widths = sorted({len(vector) for vector in found})
    if len(widths) != 1 or widths[0] == 0:
        raise wrong(f"has vectors of {' and '.join(map(str, widths))} numbers")
    return found
