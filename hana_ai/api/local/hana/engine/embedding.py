"""The models behind VECTOR_EMBEDDING and CROSS_ENCODE: small, local, replaceable.

HANA embeds with SAP's own models. Here WordLlama answers (static token embeddings, 256 dimensions, loaded from its
installed package, no download), under its own name and under those that SAP's clients ask for by default. The
quality is that of a small model; what the clients do with the vectors is the same.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol

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

    def __init__(self) -> None:
        self._model: Any = None
        self._lock = threading.Lock()

    def _loaded(self) -> Any:
        with self._lock:
            if self._model is None:
                import wordllama  # type: ignore[import-untyped]

                folder = Path(wordllama.__file__).parent
                self._model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
        return self._model

    def __call__(self, texts: list[str], text_type: str) -> NDArray[np.float32]:
        """Vectors of unit length, shape `(len(texts), 256)`."""
        vectors = self._loaded().embed(texts, norm=True)
        return np.asarray(vectors, dtype=np.float32)

    def score(self, text: str, query: str) -> float:
        """Cosine of both vectors, moved into 0 to 1."""
        first, second = self(([text, query]), "DOCUMENT")
        return float((np.dot(first, second) + 1) / 2)
