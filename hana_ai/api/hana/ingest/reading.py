"""The first stage: what of a source is new, as chunks to be embedded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol, TypeVar

from hana_ai.api.hana.ingest.documents import (
    SourceDocument,
    TextDocument,
    Unreadable,
    UnreadableError,
    chunk_id,
    fingerprint_of,
    place,
    place_of,
)
from hana_ai.api.hana.ingest.files import MARKDOWN
from hana_ai.api.hana.ingest.progress import Counter
from hana_ai.api.hana.ingest.splitting import Splitter
from hana_ai.api.hana.ingest.work import OPEN, Chunk, OpenDocument

AT_ONCE = 1000
"""Documents that are looked up together in the database."""
_FEW = 128
"""Documents at a time where it is not asked: what waits for its turn makes collections of garbage more costly."""
_LETTERS = 8_000_000
"""Letters of texts that are in memory with those documents, about."""

_as_json = json.JSONEncoder(default=str).encode
_Item = TypeVar("_Item", bound="SourceDocument | Unreadable")
_Found = tuple[str, str, SourceDocument]
"""Place, fingerprint and the document."""


class Known(Protocol):
    """What the database knows of documents."""

    @property
    def started(self) -> float:
        """When this run began, by the database's clock."""

    @property
    def asks(self) -> bool:
        """Whether `states` asks the database."""

    def states(self, places: list[str]) -> dict[str, tuple[str, float]]:
        """The states of those that are recorded, and when each was met last."""

    def ids_at(self, place: str) -> set[str]:
        """The ids of a document's rows."""

    def touch(self, places: list[str]) -> None:
        """Documents are still there, as they were."""

    def touch_failed(self, places: list[str]) -> None:
        """Documents still cannot be embedded."""

    def unreadable(self, failures: list[tuple[str, str, str]]) -> None:
        """Place, source and reason of what cannot be read."""


@dataclass(frozen=True)
class Reader:
    """Finds the documents of a source that are new or changed."""

    corpus: str
    """What tells the rows of several sources in a table apart."""
    model: str
    splitter: Splitter
    known: Known
    counter: Counter
    retry_failed: bool = False
    """Whether to try those again that could not be embedded."""
    takes_over: bool = False
    """Whether to finish what this same run has left half done, since a worker of it was lost."""

    @cached_property
    def _recipe(self) -> str:
        return f"{self.model} {self.splitter.recipe}"

    def documents(
        self, source: Iterable[SourceDocument | Unreadable], under_way: Callable[[str], bool] = lambda _: False
    ) -> Iterator[tuple[OpenDocument, SourceDocument]]:
        """Yield the documents that have to be embedded; `under_way` tells whether one of this place is already."""
        with _Background("ingest-tell") as background:
            for group in _groups(source, lambda: AT_ONCE if self.known.asks else _FEW):
                found, unreadable = self._recognized(group, under_way)
                # A document that comes again was met by then.
                background.finish()
                states = self.known.states([*found, *(failure[0] for failure in unreadable)])
                same, failed, new = self._compared(found, states)
                if same or failed or unreadable:
                    # While the next documents are hashed.
                    background.begin(partial(self._tell, same, failed, unreadable, states))
                for key, fingerprint, document in new:
                    old = self.known.ids_at(key) if key in states else None
                    yield OpenDocument(key, document.source, fingerprint, key in states, old), document
            background.finish()

    def _compared(
        self, found: Mapping[str, _Found], states: Mapping[str, tuple[str, float]]
    ) -> tuple[list[str], list[str], list[_Found]]:
        """The places of documents that are as they were, those of which embedding has failed, and the others."""
        same, failed, new = [], [], []
        for key, one in found.items():
            _, fingerprint, document = one
            state, met = states.get(key, ("", 0.0))
            if met >= self.known.started and not (self.takes_over and state == OPEN):
                self.counter.add(duplicates=1, documents=1)
            elif state == fingerprint:
                same.append(key)
            elif state == f"!{fingerprint}" and not self.retry_failed:
                failed.append(key)
                self.counter.problem(document.source, "could not be embedded in an earlier run")
            else:
                new.append(one)
        return same, failed, new

    def _recognized(
        self, group: list[SourceDocument | Unreadable], under_way: Callable[[str], bool]
    ) -> tuple[dict[str, _Found], list[tuple[str, str, str]]]:
        found: dict[str, _Found] = {}
        unreadable: list[tuple[str, str, str]] = []
        for item in group:
            if isinstance(item, Unreadable):
                unreadable.append((place(self.corpus, item.source), item.source, item.reason))
                continue
            key = place_of(self.corpus, item)
            if key in found or under_way(key):
                self.counter.add(duplicates=1, documents=1)
                continue
            try:
                found[key] = (key, fingerprint_of(item, self._recipe), item)
            except UnreadableError as exc:
                unreadable.append((key, item.source, str(exc)))
        return found, unreadable

    def _tell(
        self,
        same: list[str],
        failed: list[str],
        unreadable: list[tuple[str, str, str]],
        states: Mapping[str, object],
    ) -> None:
        self.known.touch([*same, *failed])
        self.known.touch_failed(failed)
        self.counter.add(unchanged=len(same), failed=len(failed), documents=len(same) + len(failed))
        for recorded in (True, False):
            part = [failure for failure in unreadable if (failure[0] in states) is recorded]
            self.unreadable(part, recorded=recorded)

    def unreadable(self, failures: list[tuple[str, str, str]], *, recorded: bool) -> None:
        """Name and count what cannot be read: place, source and reason."""
        if recorded:
            # What cannot be read now is no reason to remove what was read before.
            self.known.touch([failure[0] for failure in failures])
        for _, source, reason in failures:
            self.counter.problem(source, reason)
        self.counter.add(unreadable=len(failures), documents=len(failures))
        self.known.unreadable(failures)

    def chunks(self, document: OpenDocument, content: SourceDocument) -> Iterator[Chunk]:
        """Yield the chunks of a document that have no row yet; the others are remembered.

        Raises
        ------
        UnreadableError
            It cannot be read.
        """
        markdown = content.source.lower().endswith(MARKDOWN)
        metadata = dict(content.metadata)
        # In front of the chunk's own: the encoder takes longer to be made than to encode.
        shared = "" if "chunk" in metadata else f"{_as_json(metadata)[:-1]}, " if metadata else "{"
        for text in content.texts():
            for part in self.splitter.split(text, markdown=markdown):
                chunk = self._chunk(document, part, metadata, shared)
                document.chunks += 1
                if document.old and chunk.id in document.old:
                    document.old.discard(chunk.id)
                    document.kept = document.kept or []
                    document.kept.append((chunk.metadata, chunk.id))
                else:
                    yield chunk

    def _chunk(self, document: OpenDocument, text: str, metadata: dict[str, object], shared: str) -> Chunk:
        position = document.chunks
        own = f'{shared}"chunk": {position}}}' if shared else _as_json({**metadata, "chunk": position})
        return Chunk(document, chunk_id(document.place, position, text, self.model), text, own)


class _Background:
    """One thing at a time in another thread."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name)
        self._last: Future[None] | None = None

    def __enter__(self) -> _Background:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def begin(self, work: Callable[[], None]) -> None:
        """Let it do something; what came before has ended."""
        self._last = self._pool.submit(work)

    def finish(self) -> None:
        """Wait for the end of that, and raise its error."""
        if self._last is not None:
            self._last.result()


def _groups(source: Iterable[_Item], most: Callable[[], int]) -> Iterator[list[_Item]]:
    group: list[_Item] = []
    letters, size = 0, most()
    for item in source:
        group.append(item)
        letters += len(item.text) if isinstance(item, TextDocument) else 0
        if len(group) >= size or letters >= _LETTERS:
            yield group
            group, letters, size = [], 0, most()
    if group:
        yield group
