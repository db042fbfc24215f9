"""Texts into the bodies of embedding requests, and replies into vectors in the order of the texts. No I/O.

An `EmbeddingJob` is one call of `TogetherAIEmbeddings`. It hands out `Batch`es; whoever carries them asks a batch
for its next body until there is none, and tells it what came back, so that the synchronous and the asynchronous
way differ only in how they wait.
"""

from __future__ import annotations

import json
import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from hana_ai.api.errors import (
    TogetherAIInputError,
    TogetherAIRequestError,
    TogetherAIResponseError,
)
from hana_ai.api.langchain.embedding_replies import refusal, vectors_from_wire
from hana_ai.api.wire.token_counts import sum_token_counts, token_counts

if TYPE_CHECKING:
    from hana_ai.api.transport.call import Reply

logger = logging.getLogger(__name__)

OnEmpty = Literal["error", "blank"]
OnTooLong = Literal["error", "truncate"]
OnUsage = Callable[[Mapping[str, int]], None]

_SHORTENINGS = 40

NO_TOKENS: Mapping[str, int] = {"prompt_tokens": 0, "total_tokens": 0}


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
    parameters: Mapping[str, Any] = field(default_factory=dict)
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
    made = list(texts)
    empty = []
    for position, text in enumerate(made):
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
        made[position] = " "
    return made


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
    """One call: its texts, the batches they are sent in, and the vectors that came back.

    Equal texts are sent once.

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
        # What a cache has stands at the end, and what is sent before it, from `_begin` on.
        self._begin = 0
        self._begun = False
        self._reordered = False
        self._missing = len(self.texts)
        self._usages: list[Any] = []
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

    def workers(self, limit: int) -> int:
        """How many batches to carry at the same time, `limit` at most."""
        size = self.size.within(self.rules.batch_size)
        return min(limit, -(-self._missing // size))

    def batches(self) -> Iterator[Batch]:
        """Cut the texts into batches, of the size that is known to be right when a batch is asked for."""
        begin, last = self._begin, self._missing
        while begin < last:
            end = min(last, begin + self.size.within(self.rules.batch_size))
            yield Batch(self, begin, end)
            begin = end

    def body(self, begin: int, end: int) -> dict[str, Any]:
        """The body for the texts from `begin` up to `end`."""
        texts, prefix = self.texts[begin:end], self.rules.prefix
        return {
            "model": self.rules.model,
            "input": [prefix + text for text in texts] if prefix else texts,
            **self.rules.parameters,
        }

    # --- what a cache has ---

    def inputs(self, begin: int = 0, end: int | None = None) -> list[str]:
        """The texts as they are sent, from `begin` up to `end`."""
        prefix = self.rules.prefix
        return [prefix + text for text in self.texts[begin:end]]

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
        if self.on_progress is not None:
            self.on_progress(len(found) - self._missing)

    @property
    def cached(self) -> bool:
        """Whether a cache had all."""
        return self._missing == 0

    def more(self) -> bool:
        """Whether there are batches to be carried, at first and after they were."""
        if not self._begun:
            self._begun = True
            return self._missing > 0
        if self._begin == 0 < self._missing < len(self.texts) and len({len(each) for each in self._vectors}) > 1:
            logger.warning("vectors that a cache has in another width than %s are asked for", self.rules.model)
            self._begin, self._missing = self._missing, len(self.texts)
            return True
        return False

    # --- replies ---

    def keep(self, begin: int, reply: Reply, count: int) -> dict[str, list[float]]:
        """Take the reply for `count` texts from `begin` on; gives the vectors by text, for a cache to keep."""
        vectors = vectors_from_wire(reply.data, count, model=self.rules.model, request_id=reply.request_id)
        self._check_width(len(vectors[0]), reply)
        kept: dict[str, list[float]] = {}
        if self._single:
            vectors = [array("f", vector).tolist() for vector in vectors]
            kept = dict(zip(self.inputs(begin, begin + count), vectors, strict=True))
        self._vectors[begin : begin + count] = vectors
        usage = token_counts(reply.data)
        self._usages.append(usage)
        if reply.request_id:
            self._request_ids.append(reply.request_id)
        if usage is not None and self.on_usage is not None:
            self.on_usage(usage)
        if self.on_progress is not None:
            self.on_progress(count)
        return kept

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

    def result(self) -> EmbeddingResult:
        """The vectors of all texts, after every batch has been carried."""
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
        usage = dict(NO_TOKENS) if self.cached else sum_token_counts(self._usages)
        return EmbeddingResult(vectors, usage, self.rules.model, self._request_ids)


class Batch:
    """Some texts of a job, sent in one request, or in several where the server refuses them together."""

    __slots__ = ("_length", "_now", "_shortened", "_waiting", "job")

    def __init__(self, job: EmbeddingJob, begin: int, end: int) -> None:
        self.job = job
        self._waiting = [(begin, end)]
        self._now = (begin, end)
        self._length = 0
        self._shortened = 0

    def next_body(self) -> dict[str, Any] | None:
        """The body of the next request; None when all texts have their vectors."""
        if not self._waiting:
            return None
        begin, end = self._waiting.pop()
        size = self.job.size.within(self.job.rules.batch_size)
        if end - begin > size:
            # Another batch has been refused since this one was cut.
            self._waiting.append((begin + size, end))
            end = begin + size
        self._now = (begin, end)
        return self.job.body(begin, end)

    def take(self, reply: Reply) -> dict[str, list[float]]:
        """Take the reply to the last body; gives what a cache is to keep.

        Raises
        ------
        TogetherAIResponseError
            It is not one vector a text, all of the known width.
        """
        begin, end = self._now
        kept = self.job.keep(begin, reply, end - begin)
        if self._shortened:
            logger.warning(
                "%s was cut from %d to %d letters, since the server refused it as too long",
                describe([self.job.positions[begin]]),
                self._length,
                len(self.job.texts[begin]),
            )
            self._shortened = 0
        return kept

    def refused(self, error: TogetherAIRequestError | TogetherAIInputError) -> None:
        """Take the error that the last body, or its reply, ended in; raise it if nothing can be done.

        A batch that is too large, or that has a text which is too long, is split in halves; a single text that is
        too long is shortened by a quarter where `on_too_long` says so.
        """
        begin, end = self._now
        why = refusal(error)
        if why is not None and end - begin > 1:
            if why == "batch":
                self.job.size.refused(end - begin)
            middle = (begin + end) // 2
            self._waiting += [(middle, end), (begin, middle)]
        elif why is not None and self._shorten(begin):
            self._waiting.append((begin, end))
        else:
            raise self._located(error, why)

    def _shorten(self, place: int) -> bool:
        text = self.job.texts[place]
        if self.job.rules.on_too_long == "error" or len(text) < 2 or self._shortened == _SHORTENINGS:
            return False
        shorter = text[: len(text) * 3 // 4].rstrip() or text[:1]
        self._length = self._length if self._shortened else len(text)
        self._shortened += 1
        self.job.texts[place] = shorter
        return True

    def _located(
        self, error: TogetherAIRequestError | TogetherAIInputError, why: str | None
    ) -> TogetherAIRequestError | TogetherAIInputError:
        """The error, with the positions of its texts in the message."""
        begin, end = self._now
        if isinstance(error, TogetherAIInputError):
            guilty = [place for place in range(begin, end) if not _encodable(self.job.texts[place])]
            if not guilty:
                return error
            made = TogetherAIInputError(f"{describe([self.job.positions[place] for place in guilty])}: {error}")
            made.__cause__ = error
            return made
        if len(self.job.positions) > 1:
            error.message = f"{error.message} [{describe(self.job.positions[begin:end])}]"
        if why is not None and self.job.rules.on_too_long == "error":
            error.hint = "Split the text, or set on_too_long='truncate'."
        return error


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
