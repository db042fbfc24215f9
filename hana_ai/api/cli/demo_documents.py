"""What the demo reads: files of any format that `ingest` reads, as short passages; what is left out is named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from hana_ai.api.hana.ingest.documents import Unreadable, UnreadableError
from hana_ai.api.hana.ingest.files import MARKDOWN, FileDocument, FileSource

from .console import Problem, counted

if TYPE_CHECKING:
    from langchain_core.documents import Document

PASSAGE = 300
"""Characters, at most."""
MOST_TEXT = 5_000_000
"""Characters that the demo embeds, so that a mistyped folder does not cost a fortune."""

_MOST_NAMED = 5
"""Files of one reason that are named."""
_CODE = re.compile(r"^```.*?^```[^\n]*$", re.DOTALL | re.MULTILINE)
_PACKED = Path(__file__).with_name("documents")


@dataclass
class Reading:
    """What was read, and what was not."""

    texts: dict[str, str] = field(default_factory=dict)
    """By the name of the file."""
    left_out: list[Unreadable] = field(default_factory=list)


def project_documents() -> list[FileDocument]:
    """This project's own documents: those of the checkout, else those that were installed.

    Raises
    ------
    Problem
        There are none.
    """
    root = Path(__file__).resolve().parents[3]
    if (root / "docs").is_dir() and (root / "setup.cfg").is_file():
        found = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    else:
        root, found = _PACKED, sorted(_PACKED.glob("*.md"))
    if not found:
        raise Problem(
            "This project's documents are not installed with it; name a folder: hana-ai-together demo FOLDER"
        )
    return [FileDocument(path, path.relative_to(root).as_posix()) for path in found]


def read_documents(place: Path | None) -> Reading:
    """A file, all files below a folder, or this project's own documents.

    Raises
    ------
    Problem
        There is nothing to read; the first reasons are named.
    TogetherAIInputError
        There is no such file or folder.
    """
    reading = read(project_documents() if place is None else FileSource(place))
    if reading.texts:
        return reading
    reasons = "; ".join(f"{one.source}: {one.reason}" for one in reading.left_out[:_MOST_NAMED])
    raise Problem(f"There is nothing to read in {place}" + (f" - {reasons}" if reasons else ": it has no files."))


def read(source: Iterable[FileDocument | Unreadable]) -> Reading:
    """Read documents; each is a text, or is left out for a reason."""
    reading, size = Reading(), 0
    for document in source:
        if isinstance(document, Unreadable):
            reading.left_out.append(document)
            continue
        text, reason = _text_of(document, MOST_TEXT - size)
        if reason is None:
            reading.texts[document.source] = text
            size += len(text)
        else:
            reading.left_out.append(Unreadable(document.source, reason))
    return reading


def _text_of(document: FileDocument, room: int) -> tuple[str, str | None]:
    """The text, or why there is none."""
    if "node_modules" in PurePath(document.source).parts:
        return "", "packages of Node.js"
    too_long = f"more than the {MOST_TEXT:,} characters that the demo takes; hana-ai-together ingest takes them"
    pieces: list[str] = []
    try:
        for piece in document.texts():
            pieces.append(piece)
            room -= len(piece)
            if room < 0:
                return "", too_long
    except UnreadableError as exc:
        return "", str(exc)
    text = "".join(pieces)
    return text, None if text.strip() else "empty"


def left_out_lines(left_out: list[Unreadable]) -> Iterator[str]:
    """What was not read, by its reasons."""
    by_reason: dict[str, list[str]] = {}
    for one in left_out:
        by_reason.setdefault(one.reason, []).append(one.source)
    if left_out:
        yield f"Not read: {counted(len(left_out), 'file')}."
    for reason, names in by_reason.items():
        more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
        yield f"  {', '.join(names[:_MOST_NAMED])}{more}: {reason}"


def split(texts: dict[str, str], *, prose_only: bool = False) -> list[Document]:
    """Split texts into short passages with their file and heading.

    Parameters
    ----------
    texts : dict of str to str
        By the name of the file, whose ending says whether they are Markdown.
    prose_only : bool
        Whether to leave out blocks of code and headings, which confuse a small model.

    Raises
    ------
    Problem
        The text splitter is not installed.
    """
    try:
        from langchain_text_splitters import MarkdownHeaderTextSplitter, RecursiveCharacterTextSplitter
    except ModuleNotFoundError as exc:
        raise Problem(
            f"The demo needs the package {exc.name}. Run: pip install 'hana-ai-together[local]'"
        ) from exc
    from langchain_core.documents import Document

    by_heading = MarkdownHeaderTextSplitter([("#", "h1"), ("##", "h2"), ("###", "h3")], strip_headers=prose_only)
    by_length = RecursiveCharacterTextSplitter(
        chunk_size=PASSAGE, chunk_overlap=0, separators=["\n\n", "\n", ". ", " ", ""]
    )
    passages: list[Document] = []
    for name, text in texts.items():
        told = _CODE.sub("", text) if prose_only else text
        is_markdown = PurePath(name).suffix.lower() in MARKDOWN
        for section in by_heading.split_text(told) if is_markdown else [Document(told)]:
            heading = next((section.metadata[key] for key in ("h3", "h2", "h1") if key in section.metadata), "")
            for passage in by_length.split_documents([section]):
                passage.metadata = {"source": name, "heading": heading}
                passages.append(passage)
    return passages
