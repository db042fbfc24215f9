"""The stages of an ingest on one machine: threads that read, embed and write, with bounded queues between them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain

from hana_ai.api.hana.ingest.documents import SourceDocument, Unreadable, UnreadableError
from hana_ai.api.hana.ingest.embedding import Embedder
from hana_ai.api.hana.ingest.reading import Reader
from hana_ai.api.hana.ingest.work import Batch, Batcher, Handover, OpenDocument, Window
from hana_ai.api.hana.ingest.writing import MOST_ROWS, Writer

_TELL = 0.25
_MORE = 0.05
"""Seconds in which more rows may come for a transaction: each costs as much as a hundred rows."""

_Arrived = Batch | OpenDocument


@dataclass(frozen=True)
class Sizes:
    """How much is under way at a time."""

    request_texts: int
    """Texts in a request of embeddings."""
    window: int
    """Texts that are sent, but not committed."""
    requests: int
    """Requests at a time."""
    writers: int
    """Connections that write."""


class Pipeline:
    """One run over one source; `run` may be called once.

    Parameters
    ----------
    reader, embedder, writer
        The stages.
    sizes : Sizes
    """

    def __init__(self, reader: Reader, embedder: Embedder, writer: Writer, sizes: Sizes) -> None:
        self._reader = reader
        self._embedder = embedder
        self._writer = writer
        self._sizes = sizes
        self._to_embed = Handover[Batch](sizes.requests)
        self._to_write = Handover[_Arrived](max(64, 2 * sizes.requests))
        self._window = Window(sizes.window)
        # While these rows are written, twice as many others may be under way, so that nobody waits for a commit.
        self._most_rows = min(MOST_ROWS, max(1, sizes.window // 3))
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self._open: set[str] = set()
        """Places of documents that are under way; what is done with it is one step of the interpreter each."""

    def run(self, source: Iterable[SourceDocument | Unreadable], tell: Callable[[], None]) -> None:
        """Do all that there is to do; `tell` is called in this thread a few times a second.

        Raises
        ------
        KeyboardInterrupt
            After what was under way has been written. A second one leaves at once.
        Exception
            The first of any stage; what was committed before stays.
        """
        sizes = self._sizes
        reader = self._start("read", self._reading, source)
        embedders = [self._start(f"embed-{number}", self._embedding) for number in range(sizes.requests)]
        writers = [self._start(f"write-{number}", self._writing) for number in range(sizes.writers)]
        try:
            self._wait([reader], tell)
            self._to_embed.end()
            self._wait(embedders, tell)
            self._to_write.end()
            self._wait(writers, tell)
        except BaseException:
            # What is sent has been paid for: it is written, unless somebody asks a second time.
            self.stop()
            self._wait([reader, *embedders], tell)
            self._to_write.end()
            self._wait(writers, tell)
            raise
        if self._errors:
            raise self._errors[0]

    def stop(self) -> None:
        """Read and send no more; what is under way is written."""
        self._stop.set()
        self._to_embed.end()
        self._window.close()

    def _start(self, name: str, work: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(
            target=self._guarded, args=(work, *arguments), name=f"ingest-{name}", daemon=True
        )
        thread.start()
        return thread

    def _guarded(self, work: Callable[..., None], *arguments: object) -> None:
        try:
            work(*arguments)
        except BaseException as exc:  # noqa: BLE001 - it is raised again, in another thread
            self._errors.append(exc)
            self.stop()

    @staticmethod
    def _wait(threads: list[threading.Thread], tell: Callable[[], None]) -> None:
        for thread in threads:
            while thread.is_alive():
                thread.join(_TELL)
                tell()

    # --- the stages ---

    def _reading(self, source: Iterable[SourceDocument | Unreadable]) -> None:
        batcher = Batcher(self._sizes.request_texts)
        for document, content in self._reader.documents(source, self._open.__contains__):
            if self._stop.is_set():
                return
            self._open.add(document.place)
            try:
                for chunk in self._reader.chunks(document, content):
                    self._writer.begin(document)
                    for batch in batcher.add(chunk):
                        if not self._send(batch):
                            return
            except UnreadableError as exc:
                if not self._unreadable(document, str(exc)):
                    continue
            if self._writer.end(document) and not self._to_write.put(document, self._stop.is_set):
                return
        for batch in batcher.flush():
            self._send(batch)

    def _unreadable(self, document: OpenDocument, reason: str) -> bool:
        """Whether chunks of it are under way, so that it has to be taken back."""
        if document.chunks:
            document.problem = reason
            return True
        self._writer.end(document)
        self._closed([document])
        self._reader.unreadable([(document.place, document.source, reason)], recorded=document.recorded)
        return False

    def _send(self, batch: Batch) -> bool:
        return self._to_embed.put(batch, self._stop.is_set)

    def _embedding(self) -> None:
        while True:
            batch = self._to_embed.take()
            if batch is None or not self._window.enter(len(batch)) or self._stop.is_set():
                return
            made = self._embedder(batch.texts)
            batch.vectors, batch.width, batch.counted = made.vectors, made.width, made.tokens
            for position, reason in made.reasons.items():
                batch.documents[position].problem = reason
            # What is sent has been paid for: it is written unless writing has failed.
            self._to_write.put(batch, lambda: bool(self._errors))

    def _writing(self) -> None:
        complete: list[OpenDocument] = []
        while True:
            first = None if complete else self._to_write.take()
            if first is None and not complete:
                return
            batches: list[Batch] = []
            rows = 0
            arrived: _Arrived | None = first
            while arrived is not None:
                if isinstance(arrived, Batch):
                    batches.append(arrived)
                    rows += len(arrived)
                else:
                    complete.append(arrived)
                full = rows >= self._most_rows or len(complete) >= MOST_ROWS
                arrived = None if full else self._to_write.take_within(_MORE)
            left = self._writer.write(batches, complete)
            self._closed(chain(complete, *(batch.documents for batch in batches)))
            self._window.leave(rows)
            complete = left

    def _closed(self, documents: Iterable[OpenDocument]) -> None:
        self._open.difference_update(document.place for document in documents if document.waiting == 0)
