"""What travels between the stages of an ingest: documents that are open, their chunks, and batches of those."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import compress
from queue import Empty, Full, Queue
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from hana_ai.api.hana.costs import estimated_tokens

OPEN = ""
"""The state of a document of which some rows may be there."""
MOST_TOKENS = 64_000
"""Tokens in a request of embeddings, about."""
MOST_BYTES = 1_000_000
"""Bytes of text in a request of embeddings."""
_POLL = 0.05

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class OpenDocument:
    """A document of which not all rows are written yet."""

    place: str
    source: str
    fingerprint: str
    recorded: bool
    """Whether the database has a record of it."""
    old: set[str] | None = None
    """Ids of rows that are there and not among its chunks, as far as they are known."""
    kept: list[tuple[str, str]] | None = None
    """Metadata and ids of chunks that have their row already."""
    waiting: int = 1
    """Chunks under way, and one while it is read."""
    chunks: int = 0
    problem: str | None = None
    """Why it cannot be embedded."""

    @property
    def may_pass(self) -> bool:
        """Whether that is the server's fault rather than the text's."""
        return (self.problem or "").startswith("TogetherAIServerError")


class Chunk(NamedTuple):
    """A part of a document."""

    document: OpenDocument
    id: str
    text: str
    metadata: str
    """As JSON."""


Row: TypeAlias = tuple[str, str, str, "bytes | None"]
"""Id, text, metadata and vector."""


@dataclass(slots=True)
class Batch:
    """Chunks that are embedded by one request, in columns.

    Thousands wait between two stages; an object for each would make the collections of garbage twice as costly.
    """

    documents: list[OpenDocument] = field(default_factory=list)
    """That of each chunk."""
    ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    vectors: list[bytes | None] = field(default_factory=list)
    """Once they are embedded."""
    tokens: int = 0
    """About."""
    size: int = 0
    """Bytes of the texts, about."""
    width: int = 0
    """Numbers in a vector, once they are embedded."""
    counted: int | None = None
    """Tokens, as the server counted them."""

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self) -> list[Row]:
        """What is written of it: not of documents that cannot be embedded."""
        rows = zip(self.ids, self.texts, self.metadata, self.vectors, strict=True)
        return list(compress(rows, [document.problem is None for document in self.documents]))


class Batcher:
    """Gathers chunks until a request is full: by texts, tokens and bytes."""

    def __init__(self, most_texts: int) -> None:
        self._most_texts = most_texts
        self._batch = Batch()

    def add(self, chunk: Chunk) -> tuple[Batch, ...]:
        """Take a chunk; gives the batch that it no longer fits into, or that it fills."""
        tokens, size = estimated_tokens(len(chunk.text)), 2 * len(chunk.text)
        batch = self._batch
        full: tuple[Batch, ...] = ()
        if batch.ids and (batch.tokens + tokens > MOST_TOKENS or batch.size + size > MOST_BYTES):
            full, batch = self.flush(), self._batch
        document, id, text, metadata = chunk
        batch.documents.append(document)
        batch.ids.append(id)
        batch.texts.append(text)
        batch.metadata.append(metadata)
        batch.tokens += tokens
        batch.size += size
        return (*full, *self.flush()) if len(batch.ids) >= self._most_texts else full

    def flush(self) -> tuple[Batch, ...]:
        """Give what is left."""
        if not self._batch.ids:
            return ()
        batch, self._batch = self._batch, Batch()
        return (batch,)


class Window:
    """How many chunks may be under way between being sent and being committed: what a kill costs at most."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._closed = False
        self._changed = threading.Condition()

    def enter(self, count: int) -> bool:
        """Wait for room; False if the run has been stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._used == 0 or self._used + count <= self._size)
            self._used += count
            return not self._closed

    def leave(self, count: int) -> None:
        """Make room."""
        with self._changed:
            self._used -= count
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Handover(Generic[_T]):
    """What a stage hands to the next one, at most `size` at a time."""

    def __init__(self, size: int) -> None:
        self._queue: Queue[_T | None] = Queue(size)
        """None wakes those who wait when there is no more."""
        self._ended = threading.Event()

    def put(self, item: _T, refused: Callable[[], bool]) -> bool:
        """Hand something on; False if there is no room, and `refused` says that there will be none."""
        while True:
            try:
                self._queue.put(item, timeout=_POLL)
            except Full:
                if refused():
                    return False
            else:
                return True

    def take(self) -> _T | None:
        """The next; None if there is no more."""
        while True:
            ended = self._ended.is_set()
            try:
                item = self._passed_on(self._queue.get(timeout=_POLL))
            except Empty:
                item = None
            if item is not None or ended:
                return item

    def take_within(self, seconds: float) -> _T | None:
        """The next that is there in so many seconds; None if there is none, or no more."""
        try:
            return self._passed_on(self._queue.get(block=not self._ended.is_set(), timeout=seconds))
        except Empty:
            return None

    def end(self) -> None:
        """There is no more to come."""
        self._ended.set()
        self._wake()

    def _wake(self) -> None:
        # Where there is no room, nobody waits.
        with contextlib.suppress(Full):
            self._queue.put_nowait(None)

    def _passed_on(self, item: _T | None) -> _T | None:
        if item is None:
            self._wake()
        return item
