"""Vectors and scores made from the text alone, for tests: no model, the same on every machine.

A vector is a short head that comes from the text's hash, and a long tail that is one of a few hundred random
directions. The tails are written as JSON once, so that a server can answer with half a million numbers without
being what a benchmark measures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from ..engine import Vectors

_HEAD = 6
_TAILS = 512
_HEAD_SHARE = 0.1


@lru_cache(maxsize=4 * _TAILS)
def _tail(length: int, number: int) -> tuple[Vectors, bytes]:
    """A random direction whose squared length is what the head leaves, and its numbers in JSON."""
    import numpy as np

    noise = np.random.default_rng(number).standard_normal(length, dtype=np.float32)
    noise *= (1 - _HEAD_SHARE) ** 0.5 / np.linalg.norm(noise)
    return noise, orjson.dumps(noise, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def _heads(texts: Sequence[str], length: int, share: float) -> tuple[Vectors, list[int]]:
    """The heads, shape `(texts, length)`, of squared length `share`; and the number of each text's tail."""
    import numpy as np

    digests = [
        blake2b(text.encode("utf-8", "surrogatepass"), digest_size=2 * _HEAD + 4).digest() for text in texts
    ]
    words = np.frombuffer(b"".join(digests), dtype=">u2").reshape(len(texts), _HEAD + 2)
    heads = words[:, :length].astype(np.float32) - 32767.5  # never zero, so there always is a direction
    heads *= share**0.5 / np.linalg.norm(heads, axis=1, keepdims=True)
    return heads, [int(word) % _TAILS for word in words[:, -1]]


def hashed_vectors(texts: Sequence[str], dimensions: int) -> Vectors:
    """Vectors of length 1 from a hash of each text, shape `(texts, dimensions)`, float32."""
    import numpy as np

    if dimensions <= _HEAD:
        return _heads(texts, dimensions, 1)[0]
    heads, tails = _heads(texts, _HEAD, _HEAD_SHARE)
    return np.hstack([heads, [_tail(dimensions - _HEAD, number)[0] for number in tails]], dtype=np.float32)


def hashed_json(texts: Sequence[str], dimensions: int) -> list[bytes]:
    """The same vectors, each as a JSON array."""
    if dimensions <= _HEAD:
        return [_json(vector) for vector in _heads(texts, dimensions, 1)[0]]
    heads, tails = _heads(texts, _HEAD, _HEAD_SHARE)
    return [
        b"%b,%b]" % (_json(head)[:-1], _tail(dimensions - _HEAD, number)[1])
        for head, number in zip(heads, tails, strict=True)
    ]


def _json(vector: Vectors) -> bytes:
    return orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY)


def word_overlap(query: str, document: str) -> float:
    """The share of the query's words that the document holds, 0 to 1."""
    wanted = set(re.findall(r"\w+", query.lower()))
    if not wanted:
        return 0.0
    return len(wanted & set(re.findall(r"\w+", document.lower()))) / len(wanted)
