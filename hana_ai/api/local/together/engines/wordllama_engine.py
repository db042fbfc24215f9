"""Embeddings and rerank by WordLlama: averages of static word vectors, 256 numbers, no network.

Relevance scores of rerank are cosine similarities of query and document, mapped from -1..1 to 0..1: good enough to
try an application on, far from what a cross-encoder does.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..engine import Embedded, EngineBase, LocalModel, Ranked
from ..refusal import context_overflow

if TYPE_CHECKING:
    from wordllama.inference import WordLlamaInference  # type: ignore[import-untyped]

    from ..engine import Vectors

_DIMENSIONS = 256
_LONGEST = 8192


class WordVectors:
    """WordLlama's vectors and tokenizer, loaded from its own package folder once a process."""

    _loaded: WordVectors | None = None
    _loading = threading.Lock()

    def __init__(self) -> None:
        model = _load()
        self._rows: Vectors = model.embedding
        self._tokenizer = model.tokenizer
        self._tokenizer.no_padding()

    @classmethod
    def shared(cls) -> WordVectors:
        """The one of this process."""
        with cls._loading:
            if cls._loaded is None:
                cls._loaded = cls()
            return cls._loaded

    def embed(self, texts: Sequence[str]) -> tuple[Vectors, int]:
        """Vectors of length 1, shape `(texts, 256)`, and their tokens; a text without a token is all zeros.

        Raises
        ------
        Refusal
            400 for a text that is too long.
        """
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        lengths = np.array([len(encoding.ids) for encoding in encodings], dtype=np.int64)
        if len(lengths) and lengths.max() > _LONGEST:
            raise context_overflow(_LONGEST, int(lengths.max()), 0)
        vectors = np.zeros((len(texts), _DIMENSIONS), dtype=np.float32)
        filled = np.flatnonzero(lengths)
        if len(filled):
            ids = np.concatenate([encodings[index].ids for index in filled])
            starts = np.concatenate(([0], np.cumsum(lengths[filled])[:-1]))
            sums = np.add.reduceat(self._rows[np.minimum(ids, len(self._rows) - 1)], starts, axis=0)
            norms = np.linalg.norm(sums, axis=1, keepdims=True)
            vectors[filled] = sums / np.where(norms == 0, 1, norms)
        return vectors, int(lengths.sum())


class WordLlamaEngine(EngineBase):
    """Answers embeddings and rerank requests.

    Parameters
    ----------
    embedding_model, rerank_model
        The names to answer for.
    """

    EMBEDDING = "local/WordLlama-256"
    RERANK = "local/WordLlama-256-rerank"

    def __init__(self, *, embedding_model: str = EMBEDDING, rerank_model: str = RERANK) -> None:
        self._vectors = WordVectors.shared()
        self._models = (
            LocalModel(
                embedding_model,
                "embedding",
                _LONGEST,
                display_name="WordLlama 256 (local stand-in)",
                dimensions=_DIMENSIONS,
                license="MIT",
                description="Static word vectors, averaged; a small local stand-in for an embedding model.",
            ),
            LocalModel(
                rerank_model,
                "rerank",
                _LONGEST,
                display_name="WordLlama 256 cosine similarity (local stand-in)",
                license="MIT",
                description="Cosine similarity of static word vectors; a small local stand-in for a reranker.",
            ),
        )

    @property
    def models(self) -> Sequence[LocalModel]:
        """The models it answers for."""
        return self._models

    async def embed(self, model: str, texts: Sequence[str]) -> Embedded:
        """Vectors of length 1."""
        return Embedded(*await asyncio.to_thread(self._vectors.embed, texts))

    async def rank(self, model: str, query: str, documents: Sequence[str]) -> Ranked:
        """Cosine similarities, mapped to 0..1."""
        vectors, tokens = await asyncio.to_thread(self._vectors.embed, [query, *documents])
        similarities = vectors[1:] @ vectors[0]
        return Ranked([float(score) for score in np.clip((similarities + 1) / 2, 0, 1)], tokens)


def _load() -> WordLlamaInference:
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise ImportError("WordLlamaEngine needs the package wordllama: pip install 'hana-ai-together[local]'")
    # Importing wordllama calls logging.basicConfig, which is not ours to let happen.
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        from wordllama import WordLlama  # type: ignore[import-untyped]
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    return WordLlama.load(cache_dir=Path(spec.origin).parent, dim=_DIMENSIONS, disable_download=True)
