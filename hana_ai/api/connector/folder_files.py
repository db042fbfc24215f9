"""The files of a folder that may be uploaded: links count within the folder, or within a Hugging Face cache."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hana_ai.api.errors import TogetherAIInputError

_MOST_FILES = 10_000
"""Links to folders beside each other can multiply; an adapter has a dozen files."""
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
# Opening a pipe without a writer would wait for ever.
_READ = os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_ENTER = os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_DIRECTORY", 0)


@dataclass(frozen=True)
class FolderFile:
    """A regular file, as it was when its folder was looked through."""

    path: str
    """Relative to the folder, with slashes."""
    base: Path
    """The folder, or the blobs of its cache; without links."""
    below: tuple[str, ...]
    """The way from there, without links."""
    size: int
    """Bytes."""
    identity: tuple[int, int]
    """Device and inode."""

    def open(self) -> BinaryIO:
        """Open the very same file for reading.

        Raises
        ------
        TogetherAIInputError
            It can't be read, or is another file or a link by now.
        """
        try:
            handle = _open_below(self.base, self.below)
        except OSError as exc:
            raise TogetherAIInputError(f"{self.path} in {self.base} can't be read: {exc.strerror}.") from exc
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or (status.st_dev, status.st_ino) != self.identity:
            os.close(handle)
            raise TogetherAIInputError(f"{self.path} in {self.base} was exchanged for another file meanwhile.")
        return os.fdopen(handle, "rb")


def folder_files(folder: Path) -> list[FolderFile]:
    """The files below a folder, sorted by path; hidden ones are left out.

    Raises
    ------
    TogetherAIInputError
        A link leads out of the folder, to nothing, in a circle, or to what is no file; or something can't be read.
    """
    root = folder.resolve()
    files = []
    for file in _walk(root, "", root, (root,), _blobs_of(root)):
        files.append(file)
        if len(files) > _MOST_FILES:
            raise TogetherAIInputError(f"{folder} has more than {_MOST_FILES} files, those behind links included.")
    return sorted(files, key=lambda file: file.path)


def read_regular(folder: Path, name: str) -> bytes:
    """The content of a file in a folder, if it is neither a link nor a pipe or the like.

    Raises
    ------
    OSError
        It can't be read.
    """
    handle = _open_below(folder, (name,))
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{name} is no regular file")
        return stream.read()


def _walk(
    root: Path, prefix: str, folder: Path, above: tuple[Path, ...], blobs: Path | None
) -> Iterator[FolderFile]:
    """The files below `folder`, which has no links in its path; `above` are the folders on the way to it."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
    except OSError as exc:
        raise TogetherAIInputError(f"{folder} can't be read: {exc.strerror}.") from exc
    for name in names:
        path, source = f"{prefix}{name}", folder / name
        target = _followed(root, path, source, blobs) if source.is_symlink() else source
        try:
            status = target.lstat()
        except OSError as exc:
            raise TogetherAIInputError(f"{source} can't be read: {exc.strerror}.") from exc
        what = str(source) if target == source else f"{source}, a link to {target},"
        if stat.S_ISDIR(status.st_mode):
            if target in above:
                raise TogetherAIInputError(f"{what} leads in a circle; remove it, then upload again.")
            yield from _walk(root, f"{path}/", target, (*above, target), blobs)
        elif stat.S_ISREG(status.st_mode):
            base = root if target.is_relative_to(root) else target.parent
            below = target.relative_to(base).parts
            yield FolderFile(path, base, below, status.st_size, (status.st_dev, status.st_ino))
        else:
            raise TogetherAIInputError(f"{what} is neither a file nor a folder; remove it, then upload again.")


def _followed(root: Path, path: str, link: Path, blobs: Path | None) -> Path:
    """Where a link leads, without links."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as exc:
        shown = link.readlink()
        raise TogetherAIInputError(
            f"{link} is a link to {shown}, which leads nowhere or in a circle; remove it, then upload again."
        ) from exc
    if target.is_relative_to(root) or (target.parent == blobs and target.is_file()):
        return target
    raise TogetherAIInputError(
        f"{link} is a link to {target}, outside of {root}, so nothing was uploaded. Put a copy in its place if "
        f"{path} is to be uploaded."
    )


def _blobs_of(root: Path) -> Path | None:
    """Where a snapshot in a Hugging Face cache keeps its files: ``models--owner--name/blobs``."""
    for folder in (root, *root.parents):
        snapshots, model = folder.parent, folder.parent.parent
        if snapshots.name == "snapshots" and model.name.startswith("models--"):
            blobs = model / "blobs"
            return blobs if blobs.is_dir() and not blobs.is_symlink() else None
    return None


def _open_below(base: Path, below: tuple[str, ...]) -> int:
    """Open a file for reading, by way of folders that are no links."""
    *folders, name = below
    if os.open not in os.supports_dir_fd:
        return os.open(base.joinpath(*below), _READ)
    at = os.open(base, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        for folder in folders:
            inner = os.open(folder, _ENTER, dir_fd=at)
            os.close(at)
            at = inner
        return os.open(name, _READ, dir_fd=at)
    finally:
        os.close(at)
