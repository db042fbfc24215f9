"""Embeddings and rerank by WordLlama: averages of static word vectors, 256 numbers, no network.

Relevance scores of rerank are cosine similarities of query and document, mapped from -1..1 to 0..1: good enough to
try an application on, far from what a cross-encoder does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hana_ai.api.local.word_vectors import DIMENSIONS, WordVectors

from ..engine import Embedded, EngineBase, LocalModel, Ranked
from ..refusal import context_overflow

if TYPE_CHECKING:
    from ..engine import Vectors

_LONGEST = 8192


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
        WordVectors.require()
        self._models = (
            LocalModel(
                embedding_model,
                "embedding",
                _LONGEST,
                display_name="WordLlama 256 (local stand-in)",
                dimensions=DIMENSIONS,
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
        return Embedded(*await asyncio.to_thread(self._embed, texts))

    async def rank(self, model: str, query: str, documents: Sequence[str]) -> Ranked:
        """Cosine similarities, mapped to 0..1."""
        vectors, tokens = await asyncio.to_thread(self._embed, [query, *documents])
        similarities = vectors[1:] @ vectors[0]
        return Ranked([min(max((float(score) + 1) / 2, 0.0), 1.0) for score in similarities], tokens)

    def _embed(self, texts: Sequence[str]) -> tuple[Vectors, int]:
        """Vectors of length 1, shape `(texts, 256)`, and the number of all their tokens.

        Raises
        ------
        Refusal
            400 for a text that is too long.
        """
        vectors = WordVectors.shared()
        tokens = vectors.tokens(texts)
        longest = max(map(len, tokens), default=0)
        if longest > _LONGEST:
            raise context_overflow(_LONGEST, longest, 0)
        return vectors.embed(tokens), sum(map(len, tokens))
