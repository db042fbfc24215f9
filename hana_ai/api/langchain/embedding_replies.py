"""What a server answers to a request of embeddings: vectors, or that it was too large. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import hypot
from typing import Literal, TypeVar

from pydantic_core import ValidationError

from hana_ai.api.errors import TogetherAIContextOverflowError, TogetherAIRequestError, TogetherAIResponseError
from hana_ai.api.langchain.vector_parts import LARGEST, Made, Pack
from hana_ai.api.wire.replies import EMBEDDINGS, NUMBERS, check_reply, is_number
from hana_ai.api.wire.shapes import shown

_Vector = TypeVar("_Vector")

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
        The reply is not `count` vectors of one width, one for each `index`, or a number is too large for 32-bit
        floats, which databases and caches keep.
    """
    return _read(reply, count, _fitting, model, request_id)[0]


def packed_from_wire(
    reply: object,
    count: int,
    pack: Pack,
    *,
    model: str | None = None,
    request_id: str | None = None,
) -> tuple[list[bytes], int]:
    """Turn a reply of embeddings into what `pack` makes of each vector, in the request's order, and their width.

    Vectors that were made as their reply was decoded stay as they are.

    Raises
    ------
    TogetherAIResponseError
        As `vectors_from_wire`.
    """
    return _read(reply, count, pack, model, request_id)


def _read(
    reply: object,
    count: int,
    made: Callable[[list[float]], _Vector],
    model: str | None,
    request_id: str | None,
) -> tuple[list[_Vector], int]:
    """Vectors as `made` makes them of their numbers, in the order of the request, and their width."""

    def wrong(what: str) -> TogetherAIResponseError:
        # Where its very shape is wrong, this raises, with the place.
        check_reply(EMBEDDINGS, _with_lists(reply), model=model, request_id=request_id)
        return TogetherAIResponseError(f"the reply to {count} texts {what}", model=model, request_id=request_id)

    entries = reply.get("data") if isinstance(reply, Mapping) else None
    if not isinstance(entries, list):
        raise wrong(f"has no list of vectors: {shown(reply)}")
    if len(entries) != count:
        raise wrong(f"has {len(entries)} vectors")
    vectors: list[_Vector | None] = [None] * count
    widths: set[int] = set()
    for position, entry in enumerate(entries):
        # A dict is recognized many times faster than a Mapping.
        index = entry.get("index") if isinstance(entry, (dict, Mapping)) else None
        if not is_number(index) or not 0 <= index < count or index != int(index):
            raise wrong(f"has the index {shown(index)} at data[{position}].index")
        if vectors[int(index)] is not None:
            raise wrong(f"has two vectors with the index {index!r}, the second at data[{position}]")
        given = entry.get("embedding")
        if isinstance(given, Made):
            vectors[int(index)], width = given
            widths.add(width)
            continue
        try:
            numbers = NUMBERS.validate_python(given)
        except ValidationError as exc:
            raise wrong(f"has a vector that is not of numbers at data[{position}].embedding") from exc
        try:
            vectors[int(index)] = made(numbers)
        except OverflowError as exc:
            if (place := _first_unfit(numbers)) is None:
                raise wrong(f"has a number at data[{position}].embedding that is too large: {exc}") from exc
            raise wrong(
                f"has {numbers[place]!r} at data[{position}].embedding[{place}], which no 32-bit float can hold"
            ) from exc
        widths.add(len(numbers))
    if len(widths) != 1 or widths == {0}:
        raise wrong(f"has vectors of {' and '.join(map(str, sorted(widths)))} numbers")
    return [vector for vector in vectors if vector is not None], widths.pop()


def _with_lists(reply: object) -> object:
    """The reply with lists in place of vectors that are made, for the check of its shape."""
    if not isinstance(reply, Mapping) or not isinstance(entries := reply.get("data"), list):
        return reply
    return {
        **reply,
        "data": [
            {**entry, "embedding": [0.0]}
            if isinstance(entry, Mapping) and isinstance(entry.get("embedding"), Made)
            else entry
            for entry in entries
        ],
    }


def _fitting(numbers: list[float]) -> list[float]:
    if not hypot(*numbers) <= LARGEST and _first_unfit(numbers) is not None:
        raise OverflowError
    return numbers


def _first_unfit(numbers: Sequence[float]) -> int | None:
    return next((place for place, number in enumerate(numbers) if not abs(number) <= LARGEST), None)
