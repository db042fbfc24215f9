"""The models behind VECTOR_EMBEDDING and CROSS_ENCODE: small, local, replaceable.

HANA embeds with SAP's own models. Here WordLlama answers (static token embeddings, 256 dimensions, read from a
file, no download), under its own name and under those that SAP's clients ask for by default. The
quality is that of a small model; what the clients do with the vectors is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Model:
    """A line of SYS.LOOPBACK_MODELS."""

    name: str
    kind: str
    dimension: int
    stands_for: str
    note: str


MODELS = (
    Model(
        "WORDLLAMA.L2_256",
        "EMBEDDING",
        256,
        "SAP_NEB.*, SAP_GXY.*",
        "WordLlama, in place of SAP's embedding models",
    ),
    Model(
        "WORDLLAMA.L2_256.COSINE",
        "CROSS_ENCODER",
        0,
        "SAP_CER.*",
        "cosine of WordLlama vectors, in place of SAP's",
    ),
)

_PREFIXES = {"EMBEDDING": ("SAP_NEB.", "SAP_GXY."), "CROSS_ENCODER": ("SAP_CER.",)}


def known_model(name: str, kind: str) -> bool:
    """Whether a model of this kind answers to the name."""
    upper = name.upper()
    return any(model.kind == kind and model.name == upper for model in MODELS) or upper.startswith(_PREFIXES[kind])


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
