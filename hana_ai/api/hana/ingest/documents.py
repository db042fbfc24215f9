"""What is read from a source: documents, what could not be read, and the hashes by which a row is known.

A chunk's id is the hash of its place (corpus, source and part) followed by that of its position, content and
model, so that all rows of a document are one range of ids, and equal input gives equal ids in every run.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b
from typing import NamedTuple, Protocol

PLACE_LENGTH = 24
"""Letters of an id that say which document a chunk is of."""

_sorted_json = json.JSONEncoder(sort_keys=True, default=str).encode
_length = struct.Struct("<Q").pack
_END = "g"
"""Comes after every hexadecimal digit."""


class SourceDocument(Protocol):
    """A document, whose text is not read before it is needed."""

    @property
    def source(self) -> str:
        """Where it comes from, for people and for LangChain's `group_id`."""

    @property
    def part(self) -> str:
        """Which document of its source; empty where the source is one document."""

    @property
    def metadata(self) -> Mapping[str, object]:
        """What is kept beside each chunk."""

    def digest(self) -> bytes:
        """A hash of the content, without converting it.

        Raises
        ------
        UnreadableError
            It cannot be read.
        """

    def texts(self) -> Iterable[str]:
        """The text, in segments of bounded size where it is long; raises as `digest`."""


class UnreadableError(Exception):
    """A document cannot be read; the message is the reason, in one line."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What could not be read."""

    source: str
    reason: str


class TextDocument(NamedTuple):
    """A text that is there already, such as a row of a table or a Document of LangChain's."""

    source: str
    text: str
    metadata: Mapping[str, object]
    name: str | None = None
    """Its id within the source; None knows it by its content."""

    @property
    def part(self) -> str:
        """Its name, else a hash of what it holds."""
        return self.name if self.name is not None else self.digest().hex()

    def digest(self) -> bytes:
        """A hash of text and metadata."""
        return _hash(_framed(self.text) + _framed(_as_json(self.metadata))).digest()

    def texts(self) -> Iterable[str]:
        """The text, in one piece."""
        return (self.text,)


def place_of(corpus: str, document: SourceDocument) -> str:
    """Where the rows of a document begin: the first letters of their ids."""
    return place(corpus, document.source, document.part)


def place(corpus: str, source: str, part: str = "") -> str:
    """See `place_of`."""
    return _hash(_shared(corpus, source) + _framed(part)).hexdigest()[:PLACE_LENGTH]


def rows_of(place: str) -> tuple[str, str]:
    """The range of ids of a document's rows, its end not included."""
    return place, place + _END


def fingerprint_of(document: SourceDocument, recipe: str) -> str:
    """What changes when the document does, or the recipe by which it becomes rows.

    Raises
    ------
    UnreadableError
        It cannot be read.
    """
    content = _framed(document.digest().hex()) + _framed(_as_json(document.metadata))
    return _hash(content + _shared(recipe)).hexdigest()[:32]


def chunk_id(place: str, position: int, content: str, model: str) -> str:
    """The id of a chunk's row."""
    return place + _hash(_framed(str(position)) + _framed(content) + _shared(model)).hexdigest()[:24]


_hash = partial(blake2b, digest_size=20)


def _framed(text: str) -> bytes:
    """A text behind its length, so that no two lists of texts have the same bytes."""
    encoded = text.encode("utf-8", "surrogatepass")
    return _length(len(encoded)) + encoded


@lru_cache(maxsize=256)
def _shared(*texts: str) -> bytes:
    """What the hashes of many documents have in common."""
    return b"".join(map(_framed, texts))


def _as_json(metadata: Mapping[str, object]) -> str:
    return _sorted_json(metadata) if metadata else "{}"
