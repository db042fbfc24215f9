"""Vectors in a database's own binary form, made from a reply without lists of floats in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hana_ai.api.langchain.embedding_job import BatchSize, EmbeddingJob, EmbeddingRules, OnUsage
from hana_ai.api.langchain.embedding_replies import packed_from_wire
from hana_ai.api.langchain.vector_parts import Pack, decoder
from hana_ai.api.wire.long_lists import DecodePart

if TYPE_CHECKING:
    from hana_ai.api.transport.call import Reply


@dataclass(frozen=True, slots=True)
class PackedVectors:
    """Vectors in the order of their texts."""

    vectors: list[bytes]
    width: int
    """Numbers in each; 0 where there are no texts."""
    tokens: int | None
    """As the server counted them; None where it did not."""


class PackedJob(EmbeddingJob):
    """One call whose vectors are packed as soon as their reply is there; no cache takes part.

    Parameters
    ----------
    pack : callable
        Gives the binary form of a vector.
    texts, rules, size, widths, on_usage
        As for `EmbeddingJob`.
    """

    def __init__(
        self,
        pack: Pack,
        texts: Sequence[str],
        rules: EmbeddingRules,
        *,
        size: BatchSize,
        widths: dict[tuple[str, int | None], int],
        on_usage: OnUsage | None = None,
    ) -> None:
        super().__init__(texts, rules, size=size, widths=widths, on_usage=on_usage)
        self._pack = pack
        # It is made in the caller's thread, since it may import.
        self._decode = decoder(pack)
        self._packed: list[bytes] = [b""] * len(self.texts)
        self._width = 0

    @property
    def decode_part(self) -> DecodePart:
        """What decodes a part of a reply, and packs its vectors."""
        return self._decode

    def _read(self, reply: Reply, begin: int, end: int) -> dict[str, list[float]]:
        vectors, self._width = packed_from_wire(
            reply.data, end - begin, self._pack, model=self.rules.model, request_id=reply.request_id
        )
        self._packed[begin:end] = vectors
        self._check_width(self._width, reply)
        return {}

    def packed(self) -> PackedVectors:
        """The vectors of all texts, after the last round."""
        usage = self.usage
        tokens = None if usage is None else usage.get("total_tokens")
        return PackedVectors([self._packed[place] for place in self._places], self._width, tokens)
