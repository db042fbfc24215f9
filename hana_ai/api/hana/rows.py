"""Rows of a vector table, read from iterables of any length."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from hana_ai.api.errors import TogetherAIInputError

LONGEST_ID = 255
"""Characters in an id."""

_END = object()


@dataclass
class Row:
    """A text with its id, metadata and vector."""

    id: str
    text: str
    metadata: dict[str, object]
    vector: Sequence[float] | None
    """None until it is embedded."""


def read_rows(
    texts: Iterable[str],
    metadatas: Iterable[Mapping[str, object] | None] | None,
    embeddings: Iterable[Sequence[float]] | None,
    ids: Iterable[str | None] | None,
) -> Iterator[Row]:
    """Combine texts, metadata, vectors and ids into rows, one by one.

    Raises
    ------
    TogetherAIInputError
        One of them ends before the others, or an entry is invalid; the message has its position.
    """
    if isinstance(texts, str):
        raise TogetherAIInputError("texts is a string; it must be a list or another iterable of strings.")
    given = {"texts": texts, "metadatas": metadatas, "embeddings": embeddings, "ids": ids}
    named: dict[str, Iterable[Any]] = {name: values for name, values in given.items() if values is not None}
    for position, values in enumerate(zip_longest(*named.values(), fillvalue=_END)):
        short = [name for name, value in zip(named, values, strict=True) if value is _END]
        if short:
            raise TogetherAIInputError(f"{' and '.join(short)} ended after {position} entries, before the others.")
        row = dict(zip(named, values, strict=True))
        yield Row(
            _checked_id(row.get("ids"), position),
            _checked_text(row["texts"], position),
            dict(row.get("metadatas") or {}),
            row.get("embeddings"),
        )


def _checked_id(value: object, position: int) -> str:
    if value is None:
        return str(uuid.uuid4())
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_ID:
        raise TogetherAIInputError(
            f"ids[{position}] is {value!r:.80}, not a string of 1 to {LONGEST_ID} characters."
        )
    return value


def _checked_text(value: object, position: int) -> str:
    if not isinstance(value, str):
        raise TogetherAIInputError(f"texts[{position}] is a {type(value).__name__}, not a string.")
    return value
