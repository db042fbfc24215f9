"""Files and folders as documents: text in any encoding, and what a converter makes Markdown of.

What cannot be read is handed on with its reason, never left out.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.ingest.documents import Unreadable, UnreadableError

CONVERTED = frozenset(
    (".html", ".htm", ".xhtml", ".pdf", ".docx", ".pptx", ".xlsx", ".xls", ".csv", ".epub", ".ipynb", ".msg")
)
"""Endings of files that markitdown turns into Markdown."""

MARKDOWN = (".md", ".markdown", ".mdx", *CONVERTED)

_BEGINNINGS = {
    ".pdf": b"%PDF",
    **dict.fromkeys((".docx", ".pptx", ".xlsx", ".epub"), b"PK"),
    **dict.fromkeys((".xls", ".msg"), b"\xd0\xcf\x11\xe0"),
}
_BLOCK = 1 << 20
_SAMPLE = 1 << 18
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_INSTALL = "pip install 'hana-ai-together[documents]'"


@dataclass(frozen=True, slots=True)
class FileDocument:
    """A file."""

    path: str | Path
    source: str
    """Its path within the folder that is read."""

    @property
    def part(self) -> str:
        """Nothing: a file is one document."""
        return ""

    @property
    def metadata(self) -> Mapping[str, object]:
        """Its name."""
        return {"source": self.source}

    def digest(self) -> bytes:
        """A hash of the file's bytes.

        Raises
        ------
        UnreadableError
            It cannot be read.
        """
        made = blake2b(digest_size=20)
        try:
            with open(self.path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path takes as long as a small file
                while block := file.read(_BLOCK):
                    made.update(block)
        except OSError as exc:
            raise UnreadableError(exc.strerror or str(exc)) from exc
        return made.digest()

    def texts(self) -> Iterator[str]:
        """The text as Markdown, where there is a converter, else as it is.

        Raises
        ------
        UnreadableError
            It is neither text nor of a format that can be converted, or is damaged.
        """
        path = Path(self.path)
        try:
            if path.suffix.lower() in CONVERTED:
                yield _converted(path)
            else:
                yield from _decoded(path, encoding_of(path))
        except (OSError, UnicodeError) as exc:
            raise UnreadableError(_one_line(exc)) from exc


@dataclass(frozen=True)
class FileSource:
    """A file, or all files below a folder; hidden ones and those of hidden folders are counted as not read."""

    root: Path

    @property
    def name(self) -> str:
        """What its rows are known by: the path."""
        return str(self.root.resolve())

    def __post_init__(self) -> None:
        if not self.root.exists():
            raise TogetherAIInputError(f"There is no file or folder {self.root}.")

    def __iter__(self) -> Iterator[FileDocument | Unreadable]:
        if not self.root.is_dir():
            yield FileDocument(self.root, self.root.name)
            return
        for path, source, is_file in _walk(self.root):
            if (reason := None if is_file else _refused(Path(path))) is not None:
                yield Unreadable(source, reason)
            else:
                yield FileDocument(path, source)

    def count(self) -> int | None:
        """How many files there are."""
        return sum(1 for _ in _walk(self.root)) if self.root.is_dir() else 1


def _walk(root: Path) -> Iterator[tuple[str, str, bool]]:
    """All files in a fixed order, those behind links to folders left to be named.

    Gives each one's path, its path within the root, and whether it is known to be a file that is read.
    """
    waiting = [(str(root), "")]
    while waiting:
        folder, within = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            yield folder, within or ".", False
            continue
        folders = []
        for entry in entries:
            source, hidden = f"{within}/{entry.name}" if within else entry.name, entry.name.startswith(".")
            if entry.is_dir(follow_symlinks=False) and not hidden:
                folders.append((entry.path, source))
            else:
                yield entry.path, source, not hidden and entry.is_file(follow_symlinks=False)
        waiting += reversed(folders)


def _refused(path: Path) -> str | None:
    if path.name.startswith("."):
        return "hidden"
    if path.is_file():
        return None
    if path.is_symlink() and path.is_dir():
        return "a link to a folder"
    if path.is_dir():
        return "a folder that may not be read"
    return "not a regular file" if path.exists() else "a link to nothing"


def encoding_of(path: Path) -> str:
    """The encoding of a text file: by its mark, UTF-8 if it is valid, else as its letters suggest.

    Raises
    ------
    UnreadableError
        It is no text, or a package is missing.
    """
    with path.open("rb") as file:
        start = file.read(_SAMPLE)
        for mark, encoding in _MARKS:
            if start.startswith(mark):
                return encoding
        if b"\0" in start:
            raise UnreadableError(f"neither text nor a known document format ({path.suffix or 'no ending'})")
        if _is_utf8(start, file):
            return "utf-8"
    try:
        from charset_normalizer import from_bytes
    except ModuleNotFoundError as exc:
        raise UnreadableError(f"neither UTF-8 nor a known format; to guess encodings: {_INSTALL}") from exc
    best = from_bytes(start).best() if start else None
    if best is None:
        raise UnreadableError("in no encoding that is known")
    return best.encoding


def _is_utf8(start: bytes, rest: Any) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(start)
        while block := rest.read(_BLOCK):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _decoded(path: Path, encoding: str) -> Iterator[str]:
    """The text in segments of about a million letters, cut where a paragraph or a line ends."""
    with path.open(encoding=encoding) as file:
        kept = ""
        while block := file.read(_BLOCK):
            kept += block
            if len(kept) < _BLOCK:
                continue
            cut = max(kept.rfind("\n\n") + 2, kept.rfind("\n") + 1 if "\n\n" not in kept else 0)
            if cut <= 1:
                cut = len(kept)
            yield kept[:cut]
            kept = kept[cut:]
        if kept:
            yield kept


@cache
def _converter() -> Any:
    try:
        from markitdown import MarkItDown
    except ModuleNotFoundError as exc:
        raise UnreadableError(f"this format needs another package: {_INSTALL}") from exc
    return MarkItDown(enable_plugins=False)


def _converted(path: Path) -> str:
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        start = file.read(8)
    if suffix in _BEGINNINGS and not start.startswith(_BEGINNINGS[suffix]):
        # The converter would take it for plain text.
        raise UnreadableError("damaged, or not what its name says")
    converter = _converter()
    try:
        text = str(converter.convert_local(str(path)).text_content)
    # What the libraries behind it raise for a damaged file has no common class; the run's summary names each.
    except Exception as exc:
        raise UnreadableError(f"damaged, or not what its name says: {_one_line(exc)}") from exc
    if suffix in _BEGINNINGS and text.encode("utf-8", "replace").startswith(_BEGINNINGS[suffix]):
        raise UnreadableError("damaged, or not what its name says")
    if suffix == ".pdf" and not text.strip():
        raise UnreadableError("no text in it; pages that are pictures are not read")
    return text


def _one_line(exc: BaseException) -> str:
    return " ".join((str(exc) or type(exc).__name__).split())[:300]
