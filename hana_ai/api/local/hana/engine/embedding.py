"""The models behind VECTOR_EMBEDDING and CROSS_ENCODE: small, local, replaceable.

HANA embeds with SAP's own models. Here WordLlama answers (static token embeddings, 256 dimensions, read from a
file, no download), under its own name and under those that SAP's clients ask for by default; half of its numbers
stand in for SAP's other model, whose vectors thus differ in width. The quality is that of a small model; what the
clients do with the vectors is the same.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class EmbeddingFunction(Protocol):
    """What can stand behind VECTOR_EMBEDDING."""

    def __call__(self, texts: list[str], text_type: str) -> NDArray[np.float32]:
        """Vectors of shape `(len(texts), dimension)`; `text_type` is DOCUMENT or QUERY."""


class CrossEncodeFunction(Protocol):
    """What can stand behind CROSS_ENCODE."""

    def __call__(self, text: str, query: str) -> float:
        """How well the text answers the query, 0 to 1."""


class WordLlamaModel:
    """WordLlama, loaded at the first call. Calls may come from several threads."""

    def __call__(self, texts: list[str], text_type: str) -> NDArray[np.float32]:
        """Vectors of unit length, shape `(len(texts), 256)`."""
        from hana_ai.api.local.word_vectors import WordVectors

        words = WordVectors.shared()
        return words.embed(words.tokens(texts))

    def score(self, text: str, query: str) -> float:
        """Cosine of both vectors, moved into 0 to 1."""
        first, second = self(([text, query]), "DOCUMENT")
        return float((np.dot(first, second) + 1) / 2)
