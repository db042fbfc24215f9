"""Vectors made where a part of their reply is decoded, while its numbers are in the processor's cache.

Packed, no list of numbers outlives its part; else they are checked there, which takes two thirds of the time that
it takes later.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, partial
from math import hypot
from typing import Any, Protocol

import orjson
from pydantic_core import ValidationError

from hana_ai.api.wire.long_lists import DecodePart
from hana_ai.api.wire.replies import NUMBERS

LARGEST = 3.4028234663852886e38
"""The largest finite 32-bit float: what is larger would be infinite once it is stored."""


class Pack(Protocol):
    """Makes the binary form of vectors; raises an OverflowError for a number that it cannot hold."""

    def __call__(self, vector: Sequence[float], /) -> bytes:
        """That of a list; raises a `struct.error` for what is no number."""

    def blocks(self, vectors: Sequence[memoryview[float]], /) -> list[bytes]:
        """Those of blocks of 64-bit floats; it may need numpy."""


class Made(tuple[Any, int]):
    """Stands in an entry for its list of numbers: what was made of them, and how many there were.

    No JSON can give one. A named tuple would take twice as long to be made.
    """

    __slots__ = ()


_BOOLEANS = ((b"true", b"u"), (b"false", b"f"))
_FEW = 64


def decode_checked(part: bytes) -> list[Any]:
    """Decode entries and check their vectors, as floats that 32 bits can hold; what is none stays as it is."""
    entries: list[Any] = orjson.loads(part)
    for entry in entries:
        if isinstance(entry, dict):
            with suppress(ValidationError):
                numbers = NUMBERS.validate_python(entry.get("embedding"))
                if numbers and hypot(*numbers) <= LARGEST:
                    entry["embedding"] = Made((numbers, len(numbers)))
    return entries


def decoder(pack: Pack) -> DecodePart:
    """What decodes entries and packs their vectors; those that are none stay as they are.

    simdjson reads numbers into one block of memory, and numpy rounds them there: where both are installed, no
    Python float is made.
    """
    if (parser_of := _parser()) is None:
        return partial(_packed, pack)
    # Its memory is used again for the next part.
    parser = parser_of()

    def decode(part: bytes) -> list[Any]:
        try:
            return _from_blocks(pack, part, parser)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RuntimeError):
            # It is no list of vectors, or one is not as it should be; who reads the lists tells which, and why.
            return _packed(pack, part)

    return decode


@cache
def _parser() -> Any | None:
    try:
        import numpy  # noqa: F401 - `pack` needs it for what simdjson reads
        from simdjson import Parser
    except ImportError:
        return None
    return Parser


def _from_blocks(pack: Pack, part: bytes, parser: Any) -> list[dict[str, Any]]:
    entries = parser.parse(part)
    # Lists in lists become one block, too.
    if _count(part, b"[") != 1 + len(entries):
        raise ValueError("not only vectors")
    vectors = [memoryview(entry["embedding"].as_buffer(of_type="d")).cast("d") for entry in entries]
    indexes = [entry["index"] for entry in entries]
    if not all(vectors) or not all(isinstance(index, (int, float)) for index in indexes):
        raise ValueError("no vectors")
    return [
        {"index": index, "embedding": Made((made, len(vector)))}
        for index, made, vector in zip(indexes, pack.blocks(vectors), vectors, strict=True)
    ]


def _count(data: bytes, letter: bytes) -> int:
    """As `bytes.count`, and twenty times faster where there are few."""
    count, at = 0, data.find(letter)
    while at >= 0:
        count, at = count + 1, data.find(letter, at + 1)
    return count


def _packed(pack: Pack, part: bytes) -> list[Any]:
    entries: list[Any] = orjson.loads(part)
    if _may_have_booleans(part):
        return entries
    for entry in entries:
        if isinstance(entry, dict) and isinstance(numbers := entry.get("embedding"), list) and numbers:
            with suppress(OverflowError, struct.error):
                entry["embedding"] = Made((pack(numbers), len(numbers)))
    return entries


def _may_have_booleans(data: bytes) -> bool:
    """Whether there may be `true` or `false` in JSON, which are packed as numbers, but are none.

    A search for a letter that the JSON of vectors hardly has is many times faster than one for the word.
    """
    for word, letter in _BOOLEANS:
        place, found = word.index(letter), 0
        at = data.find(letter)
        while at >= 0:
            found += 1
            if found > _FEW or data.startswith(word, at - place):
                return True
            at = data.find(letter, at + 1)
    return False
