"""Embedding the chunks of a batch into HANA's binary vectors; a text that cannot be embedded stops no other."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.embeddings import Embeddings

from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import (
    TogetherAIContextOverflowError,
    TogetherAIError,
    TogetherAIInputError,
    TogetherAIInvalidRequestError,
    TogetherAIRequestError,
    TogetherAIResponseError,
    TogetherAIServerError,
)
from hana_ai.api.hana.embedding import width_of
from hana_ai.api.hana.vector_column import Packing
from hana_ai.api.langchain.packed_vectors import PackedVectors

_OF_THE_TEXT = (
    TogetherAIContextOverflowError,
    TogetherAIInputError,
    TogetherAIInvalidRequestError,
    TogetherAIResponseError,
)
_MOST_IN_A_ROW = 20
"""Texts that are refused, one after the other, before the fault is taken for the service's."""


@dataclass(frozen=True)
class Embedded:
    """What came of the texts of a batch."""

    vectors: list[bytes | None]
    """None for a text that cannot be embedded."""
    reasons: dict[int, str]
    """Why, by position."""
    width: int
    """Numbers in a vector; 0 if there is none."""
    tokens: int | None


class Embedder:
    """Embeds texts; may be pickled, and used by several threads.

    Parameters
    ----------
    embedding : langchain_core.embeddings.Embeddings
    type : str
        REAL_VECTOR or HALF_VECTOR.
    """

    def __init__(self, embedding: Embeddings, type: str) -> None:
        if isinstance(embedding, TogetherAIEmbeddings):
            # The ingest knows itself what has been embedded.
            embedding = embedding.model_copy(update={"cache": False})
        self.embedding = embedding
        self.type = type
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._in_a_row = 0

    def __getstate__(self) -> dict[str, object]:
        return {"embedding": self.embedding, "type": self.type}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __call__(self, texts: Sequence[str]) -> Embedded:
        """Embed texts; those that are refused are found by halving the batch.

        Raises
        ------
        TogetherAIError
            It is not a text's fault: there is no key, no connection, no such model, no money left.
        """
        try:
            made = self._packed(texts)
        except TogetherAIError as exc:
            if not _is_of_the_text(exc):
                raise
            if len(texts) > 1:
                middle = len(texts) // 2
                return _joined(self(texts[:middle]), self(texts[middle:]), middle)
            self._refused(exc)
            return Embedded([None], {0: _reason(exc)}, 0, None)
        with self._lock:
            self._in_a_row = 0
        return Embedded(list(made.vectors), {}, made.width, made.tokens)

    def _packed(self, texts: Sequence[str]) -> PackedVectors:
        pack = Packing(self.type)
        if isinstance(self.embedding, TogetherAIEmbeddings):
            return self.embedding._embed_packed(texts, pack)
        vectors = self.embedding.embed_documents(list(texts))
        return PackedVectors(list(map(pack, vectors)), width_of(vectors), None)

    def _refused(self, exc: TogetherAIError) -> None:
        with self._lock:
            self._in_a_row += 1
            if self._in_a_row >= _MOST_IN_A_ROW:
                raise exc


def _is_of_the_text(exc: TogetherAIError) -> bool:
    return isinstance(exc, _OF_THE_TEXT) or (isinstance(exc, TogetherAIServerError) and exc.status == 500)


def _reason(exc: TogetherAIError) -> str:
    said = exc.message if isinstance(exc, TogetherAIRequestError) else str(exc)
    return f"{type(exc).__name__}: {' '.join(said.split())}"[:1000]


def _joined(first: Embedded, second: Embedded, middle: int) -> Embedded:
    tokens = [found.tokens for found in (first, second) if found.tokens is not None]
    return Embedded(
        first.vectors + second.vectors,
        first.reasons | {middle + position: reason for position, reason in second.reasons.items()},
        first.width or second.width,
        sum(tokens) if tokens else None,
    )
