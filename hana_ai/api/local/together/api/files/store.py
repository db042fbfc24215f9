"""`FileStore`: the account's files, whose bytes are kept on disk, however large they are."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
import time
import uuid
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias, get_args

from ...refusal import JSON, Refusal
from ..clock import Clock
from .checks import Report, check

FileType: TypeAlias = Literal["csv", "jsonl", "parquet"]
ProcessingStatus: TypeAlias = Literal["QUEUED", "RUNNING", "COMPLETED", "INVALID_FORMAT"]

TYPES: tuple[str, ...] = get_args(FileType)
PURPOSES = ("fine-tune", "calibration", "eval", "batch-api")
_CHECKED = ("fine-tune", "eval")
"""A batch's input is checked by the batch; files of other purposes are not opened."""


@dataclass
class FileDials:
    """Settings that a test may change at any time."""

    processing: float = 0.05
    """Seconds from the end of an upload until the file is checked: half of them QUEUED, half RUNNING."""
    largest: int = int(50.1 * 2**30)
    """Bytes of the largest file; 50.1 GB as the SDK's `lib/constants.py` has it."""
    smallest_part: int = 5 * 2**20
    """Bytes that every part of an upload in parts must have but the last; 5 MB as in S3."""


@dataclass
class DataFile:
    """A file.

    Attributes
    ----------
    created_at
        Seconds since 1970.
    token
        Proof of the right to write, in the presigned address.
    uploaded
        Whether its bytes are there and were taken; until then nobody sees the file.
    """

    id: str
    filename: str
    purpose: str
    type: str
    path: Path
    checksum: str = ""
    created_at: int = field(default_factory=lambda: int(time.time()))
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    size: int = 0
    digest: str = ""
    uploaded: bool = False
    taken: float = 0.0
    report: Report | None = None

    def status(self, dials: FileDials, now: float) -> ProcessingStatus | None:
        """How far the check is; None for a file that needs none."""
        if self.report is None or self.purpose not in _CHECKED:
            return None
        age = now - self.taken
        if age < dials.processing:
            return "QUEUED" if age < dials.processing / 2 else "RUNNING"
        return "COMPLETED" if self.report.valid else "INVALID_FORMAT"

    def wire(self, dials: FileDials, now: float) -> dict[str, JSON]:
        """The file as the API shows it."""
        status = self.status(dials, now)
        shown: dict[str, JSON] = {
            "id": self.id,
            "object": "file",
            "created_at": self.created_at,
            "filename": self.filename,
            "bytes": self.size,
            "purpose": self.purpose,
            "FileType": self.type,
            "Processed": status in (None, "COMPLETED"),
        }
        if self.report is not None and self.report.lines is not None:
            shown["LineCount"] = self.report.lines
        if status is not None:
            shown["processing_status"] = status
        if status in ("COMPLETED", "INVALID_FORMAT") and self.report is not None:
            shown["validation_report"] = self.report.wire(self.id)
        return shown


class FileStore:
    """All files of the account.

    Examples
    --------
    >>> server.files.dials.processing = 1.5
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.dials = FileDials()
        self.clock = clock or Clock()
        self._files: dict[str, DataFile] = {}
        self._folder: Path | None = None
        self._removal: weakref.finalize[[str, bool], FileStore] | None = None

    @property
    def files(self) -> list[DataFile]:
        """The files that are there, oldest first."""
        return [one for one in self._files.values() if one.uploaded]

    def reserve(self, filename: str, purpose: str, type: str, checksum: str = "") -> DataFile:
        """A file that waits for its bytes."""
        id = f"file-{uuid.uuid4()}"
        made = DataFile(id, filename, purpose, type, self._place() / id, checksum)
        self._files[id] = made
        return made

    def same(self, purpose: str, checksum: str) -> DataFile | None:
        """A file of the same purpose with these bytes."""
        wanted = (purpose, checksum.lower())
        found = (one for one in self.files if checksum and (one.purpose, one.digest) == wanted)
        return next(found, None)

    def find(self, id: str) -> DataFile:
        """A file by its id; 404 when there is none."""
        found = self._files.get(id)
        if found is None or not found.uploaded:
            raise Refusal(404, f"File {id} not found.", code="not_found")
        return found

    def waiting(self, id: str) -> DataFile | None:
        """A file by its id, also one whose bytes are not there yet."""
        return self._files.get(id)

    async def write(self, file: DataFile, chunks: AsyncIterator[bytes]) -> None:
        """Write the bytes; 400 when there are too many."""
        digest = hashlib.sha256()
        size = file.size = 0
        with _opened(file.path) as out:
            async for chunk in chunks:
                size += len(chunk)
                if size > self.dials.largest:
                    raise Refusal(400, f"A file may have {self.dials.largest} bytes at most.", param="file")
                digest.update(chunk)
                out.write(chunk)
        file.size, file.digest = size, digest.hexdigest()

    def take(self, file: DataFile) -> None:
        """Check what was written, and let everybody see it.

        Raises
        ------
        Refusal
            400 when the file is empty, or is not the one whose checksum was announced.
        """
        if not file.size:
            raise Refusal(400, f"File {file.filename} is empty, or has not been uploaded.", param="file")
        if file.checksum and file.checksum.lower() != file.digest:
            raise Refusal(400, f"The SHA-256 of {file.filename} is {file.digest}, not {file.checksum}.")
        self._show(file, check(file.path, file.type, file.purpose))

    def add(self, file: DataFile, size: int, lines: int) -> None:
        """Let everybody see a file that the server wrote itself."""
        file.size = size
        self._show(file, Report(lines=lines))

    def _show(self, file: DataFile, report: Report) -> None:
        file.report = report
        file.taken = self.clock.now()
        file.uploaded = True

    def delete(self, file: DataFile) -> None:
        """Forget a file and its bytes."""
        self._files.pop(file.id, None)
        file.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Forget all files."""
        self._files.clear()
        if self._removal is not None:
            self._removal()
        self._folder = self._removal = None

    def _place(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="local-together-"))
            self._removal = weakref.finalize(self, shutil.rmtree, str(self._folder), True)
        return self._folder


def _opened(path: Path) -> BinaryIO:
    return path.open("wb")
