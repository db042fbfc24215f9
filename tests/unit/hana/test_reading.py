"""What of the reader's work on documents that are as they were goes on at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from threading import Barrier, BrokenBarrierError

import pytest

from hana_ai.api.errors import TogetherAIError
from hana_ai.api.hana.ingest import reading
from hana_ai.api.hana.ingest.documents import TextDocument, fingerprint_of, place_of
from hana_ai.api.hana.ingest.progress import Counter
from hana_ai.api.hana.ingest.reading import Reader
from hana_ai.api.hana.ingest.splitting import Splitter

_LONG_ENOUGH = 10.0
_FOR_NOBODY = 0.3
_CORPUS, _MODEL = "corpus", "model"
_SPLITTER = Splitter(400, 40, None)


class _Known:
    """A database that has records of documents, in memory."""

    started = 100.0
    asks = True

    def __init__(self, documents: list[TextDocument]) -> None:
        recipe = f"{_MODEL} {_SPLITTER.recipe}"
        self.records = {
            place_of(_CORPUS, document): (fingerprint_of(document, recipe), 1.0) for document in documents
        }
        self.touching = Barrier(2)
        self.seconds = 0.0
        self.met: list[bool] = []

    def states(self, places: list[str]) -> dict[str, tuple[str, float]]:
        self._meet(0.0)
        return {place: self.records[place] for place in places if place in self.records}

    def touch(self, places: list[str]) -> None:
        if places:
            self._meet(self.seconds)
            self.records.update((place, (self.records[place][0], self.started)) for place in places)

    def touch_failed(self, places: list[str]) -> None:
        assert not places

    def ids_at(self, place: str) -> set[str]:
        return set()

    def unreadable(self, failures: list[tuple[str, str, str]]) -> None:
        assert not failures

    def _meet(self, seconds: float) -> None:
        """Note whether somebody else is here within the time."""
        if self.touching.n_waiting or seconds:
            with suppress(BrokenBarrierError):
                self.touching.wait(seconds)
            self.met.append(not self.touching.broken)
            self.touching.reset()


def _documents(count: int) -> list[TextDocument]:
    return [TextDocument("source", f"text {number}", {}, str(number)) for number in range(count)]


@pytest.fixture(autouse=True)
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "AT_ONCE", 2)


def _reader(known: _Known) -> tuple[Reader, Counter]:
    counter = Counter(None, lambda _: None)
    return Reader(_CORPUS, _MODEL, _SPLITTER, known, counter), counter


def test_documents_are_looked_up_after_those_before_were_touched() -> None:
    documents = _documents(5)
    known = _Known(documents)
    known.seconds = _FOR_NOBODY
    reader, counter = _reader(known)
    changed = TextDocument("source", "another text", {}, "0")
    assert not list(reader.documents([*documents, changed])), "the first of a name counts"
    now = counter.snapshot()
    assert (now.unchanged, now.duplicates) == (5, 1)
    assert known.met == [False] * 3


def test_documents_are_read_while_those_before_are_touched() -> None:
    documents = _documents(4)
    known = _Known(documents)
    known.seconds = _LONG_ENOUGH

    def read() -> Iterator[TextDocument]:
        for number, document in enumerate(documents):
            if number == 2:
                known.touching.wait(_LONG_ENOUGH)
                known.seconds = _FOR_NOBODY
            yield document

    assert not list(_reader(known)[0].documents(read()))
    assert known.met == [True, False]


@pytest.mark.parametrize("documents", [2, 3, 6])
def test_what_goes_wrong_as_documents_are_touched_ends_the_reading(
    documents: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = _documents(documents)
    known = _Known(given)

    def refuse(places: list[str]) -> None:
        raise TogetherAIError("no connection")

    monkeypatch.setattr(known, "touch", refuse)
    with pytest.raises(TogetherAIError, match="no connection"):
        list(_reader(known)[0].documents(given))
