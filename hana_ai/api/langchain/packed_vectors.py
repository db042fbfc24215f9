"""Vectors in a database's own binary form, made from a reply without lists of floats in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hana_ai.api.errors import TogetherAIResponseError
from hana_ai.api.langchain.embedding_job import BatchSize, EmbeddingJob, EmbeddingRules, OnUsage
from hana_ai.api.langchain.embedding_replies import packed_from_wire
from hana_ai.api.wire.encoding import Condense

if TYPE_CHECKING:
    from hana_ai.api.transport.call import Reply

Pack = Callable[[Sequence[float]], bytes]


@dataclass(frozen=True, slots=True)
class PackedVectors:
    """Vectors in the order of their texts."""

    vectors: list[bytes]
    width: int
    """Numbers in each; 0 where there are no texts."""
    tokens: int | None
    """As the server counted them; None where it did not."""


class _Condensed(dict[str, Any]):
    """A reply without its vectors, which are packed."""

    def __init__(self, rest: Mapping[str, Any], vectors: list[bytes], width: int) -> None:
        super().__init__(rest)
        self.vectors = vectors
        self.width = width


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
        self._packed: list[bytes] = [b""] * len(self.texts)
        self._width = 0

    def condense(self, count: int) -> Condense:
        """What packs the vectors of a reply to `count` texts where the reply is decoded."""
        return partial(_condensed, count, self._pack)

    def _read(self, reply: Reply, begin: int, end: int) -> dict[str, list[float]]:
        made = reply.data
        if not isinstance(made, _Condensed):
            # It could not be condensed: reading it tells why.
            pack, model, request_id = self._pack, self.rules.model, reply.request_id
            vectors = packed_from_wire(made, end - begin, pack, model=model, request_id=request_id)
            made = _Condensed({}, *vectors)
        self._packed[begin:end], self._width = made.vectors, made.width
        self._check_width(self._width, reply)
        return {}

    def packed(self) -> PackedVectors:
        """The vectors of all texts, after the last round."""
        usage = self.usage
        tokens = None if usage is None else usage.get("total_tokens")
        return PackedVectors([self._packed[place] for place in self._places], self._width, tokens)


def _condensed(count: int, pack: Pack, reply: Any) -> Any:
    try:
        vectors, width = packed_from_wire(reply, count, pack)
    except TogetherAIResponseError:
        return reply
    return _Condensed({name: value for name, value in reply.items() if name != "data"}, vectors, width)
