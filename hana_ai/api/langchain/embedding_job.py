"""Texts into the bodies of embedding requests, and replies into vectors in the order of the texts. No I/O.

An `EmbeddingJob` is one call of `TogetherAIEmbeddings`. It hands out bodies and takes what came back, so that the
synchronous and the asynchronous way differ only in how they wait.
"""

from __future__ import annotations

import json
import logging
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from hana_ai.api.errors import (
    TogetherAIInputError,
    TogetherAIRequestError,
    TogetherAIResponseError,
)
from hana_ai.api.langchain.embedding_replies import refusal, vectors_from_wire
from hana_ai.api.langchain.vector_parts import decode_checked
from hana_ai.api.wire.token_counts import sum_token_counts, token_counts

if TYPE_CHECKING:
    from hana_ai.api.transport.call import Reply
    from hana_ai.api.wire.long_lists import DecodePart
    from hana_ai.api.wire.schemas import JSONObject

logger = logging.getLogger(__name__)

OnEmpty = Literal["error", "blank"]
OnTooLong = Literal["error", "truncate"]
OnUsage = Callable[[Mapping[str, int]], None]

_MOST_CUTS = 40
_NO_TOKENS: Mapping[str, int] = {"prompt_tokens": 0, "total_tokens": 0}


@runtime_checkable
class VectorCache(Protocol):
    """Where vectors are kept by text, in a space that names all that they must have in common."""

    def read(self, space: str, texts: Sequence[str]) -> Mapping[str, list[float]]:
        """The vectors of those texts that it has."""

    async def aread(self, space: str, texts: Sequence[str]) -> Mapping[str, list[float]]:
        """The vectors, from a coroutine."""

    def write(self, space: str, vectors: Mapping[str, Sequence[float]]) -> None:
        """Keep vectors."""

    async def awrite(self, space: str, vectors: Mapping[str, Sequence[float]]) -> None:
        """Keep vectors, from a coroutine."""


@dataclass(frozen=True, slots=True)
class EmbeddingResult:
    """Vectors in the order of their texts, and what they took."""

    vectors: list[list[float]]
    """Shape `(texts, dimension)`."""
    usage: dict[str, int] | None
    """Token counts under the API's names, added over all requests; None when a reply had none."""
    model: str
    request_ids: list[str] = field(default_factory=list)
    """Together's ids of the requests, in the order of their replies."""


class BatchSize:
    """The size that the server has been found to take; one object for all calls, so that it is learned once."""

    def __init__(self) -> None:
        self._limit: int | None = None

    def within(self, wanted: int) -> int:
        """The wanted size, or the smaller one that was found."""
        return wanted if self._limit is None else min(wanted, self._limit)

    def refused(self, size: int) -> None:
        """Remember that a batch of `size` texts was too large."""
        half = max(1, size // 2)
        self._limit = half if self._limit is None else min(half, self._limit)


@dataclass(frozen=True, slots=True)
class EmbeddingRules:
    """How the texts of a call become input."""

    model: str
    batch_size: int
    prefix: str = ""
    dimensions: int | None = None
    """Width to ask for; None asks for the model's own."""
    on_too_long: OnTooLong = "error"
    context_length: int | None = None
    """Tokens that the model takes; None when unknown."""
    parameters: Mapping[str, object] = field(default_factory=dict)
    """Further fields of the request."""

    @property
    def space(self) -> str:
        """What vectors must have in common to be compared: the model and all parameters.

        The address is not among them: a model is the same wherever it is served.
        """
        return json.dumps({"model": self.model, **self.parameters}, sort_keys=True, default=repr)


def check_texts(texts: Iterable[str], on_empty: OnEmpty) -> list[str]:
    """Return the texts as a list of strings, none of which is empty.

    A text of nothing but white space counts as empty, since tokenizers leave nothing of it.

    Raises
    ------
    TogetherAIInputError
        A text is no string, or is empty and `on_empty` is "error"; the message names the positions.
    """
    if isinstance(texts, (str, bytes)):
        raise TogetherAIInputError("A list of texts is needed, not one text; for a single text use embed_query.")
    checked = list(texts)
    empty = []
    for position, text in enumerate(checked):
        if not isinstance(text, str):
            raise TogetherAIInputError(f"texts[{position}] is a {type(text).__name__}, not a string.")
        if not text or text.isspace():
            empty.append(position)
    if empty and on_empty == "error":
        raise TogetherAIInputError(
            f"{describe(empty)} can't be embedded: empty. Leave empty texts out, or set on_empty='blank' to send "
            f"a single space in their place."
        )
    for position in empty:
        checked[position] = " "
    return checked


def describe(positions: Sequence[int]) -> str:
    """Positions for an error message: `texts[3]`, `texts[128:256]` or `texts[3], texts[7], ...`."""
    first, last = positions[0], positions[-1]
    if len(positions) == 1:
        return f"texts[{first}]"
    if last - first + 1 == len(positions):
        return f"texts[{first}:{last + 1}]"
    named = ", ".join(f"texts[{position}]" for position in positions[:5])
    return named if len(positions) <= 5 else f"{named} and {len(positions) - 5} more"


def cut_to_words(text: str, words: int) -> str:
    """Keep the first `words` words of a text, as they are."""
    parts = text.split(None, words)
    return text if len(parts) <= words else text[: len(text) - len(parts[words])].rstrip()


class EmbeddingJob:
    """One call: its texts, the requests they are sent in, and the vectors that came back.

    Equal texts are sent once. What the server refuses as too large comes again, smaller.

    Parameters
    ----------
    texts : list of str
        As `check_texts` returns them.
    rules : EmbeddingRules
    size : BatchSize
        What earlier calls learned; this one adds to it.
    widths : dict
        Known widths of vectors by model and `dimensions`; this call checks and adds to them.
    on_usage : callable, optional
        Gets the token counts of each reply that has them.
    single : bool
        Whether numbers are rounded to 32 bits, as a cache keeps them.

    Raises
    ------
    TogetherAIInputError
        A text is surely too long, and `on_too_long` is "error".
    """

    def __init__(
        self,
        texts: Sequence[str],
        rules: EmbeddingRules,
        *,
        size: BatchSize,
        widths: dict[tuple[str, int | None], int],
        on_usage: OnUsage | None = None,
        single: bool = False,
    ) -> None:
        self.rules = rules
        self._single = single
        self.space = rules.space if single else ""
        self.size = size
        self.on_usage = on_usage
        self.on_progress: Callable[[int], None] | None = None
        self._widths = widths
        places: dict[str, int] = {}
        self._places = [places.setdefault(text, len(places)) for text in texts]
        self.texts = list(places)
        if len(places) == len(texts):
            self.positions: Sequence[int] = range(len(texts))
        else:
            first: dict[int, int] = {}
            for position, place in enumerate(self._places):
                first.setdefault(place, position)
            self.positions = list(first.values())
        self._fit()
        self._vectors: list[list[float]] = [[]] * len(self.texts)
        self._reordered = False
        # What a cache has stands at the end, and what is sent before it.
        self._missing = len(self.texts)
        # What is still to be sent, the next one last, and what the bodies of this round were made of.
        self._waiting = [(0, self._missing)]
        self._sent: list[tuple[int, int]] = []
        self._cuts: dict[int, tuple[int, int]] = {}
        self._usages: list[dict[str, int] | None] = []
        self._request_ids: list[str] = []

    def _fit(self) -> None:
        """Apply `on_too_long` to texts that surely have more tokens than the model takes.

        Without the model's tokenizer one thing is sure: a token never reaches over white space, so that a text
        has at least as many tokens as words. What is too long beyond that only the server can tell.
        """
        if self.rules.context_length is None:
            return
        room = max(1, self.rules.context_length - len(self.rules.prefix.split()))
        for place, text in enumerate(self.texts):
            if len(text) < 2 * room or len(text.split(None, room)) <= room:
                continue
            where = describe([self.positions[place]])
            if self.rules.on_too_long == "error":
                raise TogetherAIInputError(
                    f"{where} is too long: it has more than {room} words, and {self.rules.model} takes "
                    f"{self.rules.context_length} tokens. Split it, or set on_too_long='truncate'."
                )
            self.texts[place] = cut_to_words(text, room)
            logger.warning("%s was cut to its first %d words", where, room)

    # --- what a cache has ---

    def inputs(self, begin: int = 0, end: int | None = None) -> list[str]:
        """The texts as they are sent, from `begin` up to `end`."""
        texts, prefix = self.texts[begin:end], self.rules.prefix
        return [prefix + text for text in texts] if prefix else texts

    def fill(self, known: Mapping[str, list[float]]) -> None:
        """Take the vectors that a cache has, by text as it is sent."""
        width = self.rules.dimensions or self._widths.get((self.rules.model, self.rules.dimensions))
        found = [known.get(text) for text in self.inputs()]
        widths = {len(vector) for vector in found if vector is not None}
        if not widths or len(widths) > 1 or (width is not None and widths != {width}):
            # Nothing, or not what this model answers with: all is asked for.
            return
        order = sorted(range(len(found)), key=lambda place: found[place] is not None)
        new = {place: position for position, place in enumerate(order)}
        self.texts = [self.texts[place] for place in order]
        self.positions = [self.positions[place] for place in order]
        self._places = [new[place] for place in self._places]
        self._vectors = [found[place] or [] for place in order]
        self._reordered = True
        self._missing = sum(vector is None for vector in found)
        self._waiting = [(0, self._missing)] if self._missing else []
        if self.on_progress is not None:
            self.on_progress(len(found) - self._missing)

    @property
    def cached(self) -> bool:
        """Whether a cache had all."""
        return self._missing == 0

    # --- requests ---

    def begin_round(self) -> bool:
        """Whether there are requests to be sent: at first, and after those of an earlier round."""
        if not self._waiting and self._cache_disagrees():
            logger.warning("vectors that a cache has in another width than %s are asked for", self.rules.model)
            self._waiting.append((self._missing, len(self.texts)))
            self._missing = len(self.texts)
        self._sent = []
        return bool(self._waiting)

    def _cache_disagrees(self) -> bool:
        return 0 < self._missing < len(self.texts) and len({len(vector) for vector in self._vectors}) > 1

    def bodies(self) -> Iterator[JSONObject]:
        """Yield the bodies of a round, each of the size that is known to be right when it is asked for.

        A body's position in the round is what `take` and `recover` know it by.
        """
        while self._waiting:
            begin, end = self._waiting.pop()
            size = self.size.within(self.rules.batch_size)
            if end - begin > size:
                self._waiting.append((begin + size, end))
                end = begin + size
            self._sent.append((begin, end))
            yield {"model": self.rules.model, "input": self.inputs(begin, end), **self.rules.parameters}

    @property
    def decode_part(self) -> DecodePart:
        """What decodes a part of a reply's vectors."""
        return decode_checked

    def take(self, position: int, reply: Reply) -> dict[str, list[float]]:
        """Take a reply; gives the vectors by text, for a cache to keep, and none without a cache.

        Raises
        ------
        TogetherAIResponseError
            It is not one vector a text, all of the known width.
        """
        begin, end = self._sent[position]
        try:
            kept = self._read(reply, begin, end)
        except TogetherAIResponseError as exc:
            self._locate(exc, begin, end)
            raise
        self._tell_of_cut(begin)
        self._count(reply, end - begin)
        return kept

    def _read(self, reply: Reply, begin: int, end: int) -> dict[str, list[float]]:
        """Put the vectors of a reply in their places; gives them by text, for a cache to keep."""
        vectors = vectors_from_wire(reply.data, end - begin, model=self.rules.model, request_id=reply.request_id)
        self._check_width(len(vectors[0]), reply)
        kept: dict[str, list[float]] = {}
        if self._single:
            vectors = [_as_kept(vector) for vector in vectors]
            kept = dict(zip(self.inputs(begin, end), vectors, strict=True))
        self._vectors[begin:end] = vectors
        return kept

    def recover(self, position: int, error: TogetherAIRequestError) -> bool:
        """Whether what was refused will be sent in another way; if not, the error names its texts from now on.

        A batch that is too large, or that has a text which is too long, is split in halves; a single text that is
        too long is shortened by a quarter where `on_too_long` says so.
        """
        begin, end = self._sent[position]
        why = refusal(error)
        if why is not None and end - begin > 1:
            if why == "batch":
                self.size.refused(end - begin)
            middle = (begin + end) // 2
            self._waiting += [(middle, end), (begin, middle)]
            return True
        if why is not None and self._shorten(begin):
            self._waiting.append((begin, end))
            return True
        self._locate(error, begin, end)
        if why is not None and self.rules.on_too_long == "error":
            error.hint = "Split the text, or set on_too_long='truncate'."
        return False

    @contextmanager
    def naming_texts(self) -> Iterator[None]:
        """Name the texts that have no form in UTF-8 in the error for the body that was to be sent last."""
        try:
            yield
        except TogetherAIInputError as exc:
            begin, end = self._sent[-1] if self._sent else (0, 0)
            unencodable = [
                self.positions[place] for place in range(begin, end) if not _encodable(self.texts[place])
            ]
            if not unencodable:
                raise
            raise TogetherAIInputError(f"{describe(unencodable)}: {exc}") from exc

    def _locate(self, error: TogetherAIRequestError, begin: int, end: int) -> None:
        if len(self.positions) > 1:
            error.message = f"{error.message} [{describe(self.positions[begin:end])}]"

    def _shorten(self, place: int) -> bool:
        text = self.texts[place]
        length, cuts = self._cuts.get(place, (len(text), 0))
        if self.rules.on_too_long == "error" or len(text) < 2 or cuts == _MOST_CUTS:
            return False
        self.texts[place] = text[: len(text) * 3 // 4].rstrip() or text[:1]
        self._cuts[place] = (length, cuts + 1)
        return True

    def _tell_of_cut(self, place: int) -> None:
        if place in self._cuts:
            length, _ = self._cuts.pop(place)
            logger.warning(
                "%s was cut from %d to %d letters, since the server refused it as too long",
                describe([self.positions[place]]),
                length,
                len(self.texts[place]),
            )

    def _count(self, reply: Reply, texts: int) -> None:
        usage = token_counts(reply.data)
        self._usages.append(usage)
        if reply.request_id:
            self._request_ids.append(reply.request_id)
        if usage is not None and self.on_usage is not None:
            self.on_usage(usage)
        if self.on_progress is not None:
            self.on_progress(texts)

    def _check_width(self, width: int, reply: Reply) -> None:
        dimensions = self.rules.dimensions
        key = (self.rules.model, dimensions)
        known = dimensions or self._widths.get(key, width)
        if width == known:
            # Another thread may have been first.
            known = self._widths.setdefault(key, width)
        if width != known:
            asked = "was asked for" if dimensions else "it answered with before"
            raise TogetherAIResponseError(
                f"the vectors have {width} numbers, not the {known} that {asked}",
                model=self.rules.model,
                request_id=reply.request_id,
                hint="Vectors of different widths can't be compared or stored in one column.",
            )

    @property
    def usage(self) -> dict[str, int] | None:
        """Token counts, added over all replies; None when one had none."""
        return dict(_NO_TOKENS) if self.cached else sum_token_counts(self._usages)

    def result(self) -> EmbeddingResult:
        """The vectors of all texts, after the last round."""
        vectors = self._vectors
        if self.texts:
            # All from a cache: then this is how the width is learned.
            self._widths.setdefault((self.rules.model, self.rules.dimensions), len(vectors[0]))
        if self._reordered or len(vectors) < len(self._places):
            # Equal texts get equal vectors, but not the same list: who changes one does not change the other.
            seen: set[int] = set()
            vectors = []
            for place in self._places:
                vectors.append(list(self._vectors[place]) if place in seen else self._vectors[place])
                seen.add(place)
        return EmbeddingResult(vectors, self.usage, self.rules.model, self._request_ids)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_kept(vector: list[float]) -> list[float]:
    """A vector rounded to 32 bits; as it is, where a number is too large for that. No cache keeps the latter."""
    rounded = array("f", vector).tolist()
    return rounded if math.isfinite(sum(rounded)) else vector
