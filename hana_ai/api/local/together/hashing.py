"""Vectors and scores made from the text alone, for tests: no model, the same on every machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engine import Vectors

_BLOCK = 1 << 18


@lru_cache(maxsize=8)
def _noise(dimensions: int) -> Vectors:
    """A long row of normal noise: any `dimensions` of it in a row are a random direction."""
    import numpy as np

    return np.random.default_rng(20_260_101).standard_normal(_BLOCK + dimensions, dtype=np.float32)


def hashed_vectors(texts: Sequence[str], dimensions: int) -> Vectors:
    """Vectors of length 1 from a hash of each text, shape `(texts, dimensions)`, float32.

    The first numbers come from the hash itself, so that different texts have different vectors even where
    their noise begins at the same place.
    """
    import numpy as np

    noise = _noise(dimensions)
    vectors = np.empty((len(texts), dimensions), dtype=np.float32)
    for row, text in enumerate(texts):
        digest = blake2b(text.encode(), digest_size=16).digest()
        start = int.from_bytes(digest[:4], "big") % _BLOCK
        vectors[row] = noise[start : start + dimensions]
        head = np.frombuffer(digest, dtype=">u2", offset=4)[:dimensions].astype(np.float32)
        vectors[row, : len(head)] = head / 32768.0 - 1.0
    # A vector of length 0 has no direction; only a text whose hash is all zeros could have one.
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.where(norms == 0, 1, norms)
    return vectors


def word_overlap(query: str, document: str) -> float:
    """The share of the query's words that the document holds, 0 to 1."""
    wanted = set(re.findall(r"\w+", query.lower()))
    if not wanted:
        return 0.0
    return len(wanted & set(re.findall(r"\w+", document.lower()))) / len(wanted)
