"""Whether the file `.env` can be read, before anybody does.

This module loads nothing but the standard library: it runs at the start of processes that never use Together.
"""

from __future__ import annotations

import os
import stat

MOST_BYTES = 1024 * 1024
"""A file of settings has a few hundred."""

# Opening a pipe without a writer would wait for ever.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def fault_in(data: bytes) -> str | None:
    """What makes the content of a file of settings unreadable, in words that follow its name; None if nothing."""
    if b"\0" in data:
        return "holds a NUL, so it is no text"
    try:
        data.decode()
    except UnicodeDecodeError as exc:
        return f"is not UTF-8 from byte {exc.start} on"
    return None


def names_in(data: bytes) -> list[str]:
    """The names that such a file has values for, in the order of its lines."""
    found = []
    for line in data.splitlines():
        # Importing re takes longer than everything else.
        name, equals, _ = line.partition(b"=")
        name = name.strip().removeprefix(b"export ").strip(b" \t'\"")
        if equals and name.isascii() and name.decode().isidentifier():
            found.append(name.decode())
    return found


def read(path: str | os.PathLike[str]) -> bytes | str:
    """The bytes of a file of settings; a str is the fault, as of `fault_in`.

    A file that is missing, empty, the null device or the folder of a virtual environment counts as one without
    settings.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - importing pathlib takes longer than everything else
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except (OSError, ValueError) as exc:
        return _unreadable(exc)
    if not stat.S_ISREG(status.st_mode):
        return b"" if _means_none(path, status) else _not_a_file(status.st_mode)
    try:
        handle = os.open(path, _FLAGS)
    except OSError as exc:
        return _unreadable(exc)
    with os.fdopen(handle, "rb") as file:
        # It may have been exchanged since.
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return _not_a_file(os.fstat(handle).st_mode)
        try:
            data = file.read(MOST_BYTES + 1)
        except OSError as exc:
            return _unreadable(exc)
    return data if len(data) <= MOST_BYTES else f"is larger than {MOST_BYTES:,} bytes"


def _unreadable(exc: Exception) -> str:
    return f"can't be read ({getattr(exc, 'strerror', None) or exc})"


def _means_none(path: str | os.PathLike[str], status: os.stat_result) -> bool:
    if stat.S_ISDIR(status.st_mode):
        return os.path.exists(os.path.join(path, "pyvenv.cfg"))  # noqa: PTH110, PTH118 - as above
    try:
        null = os.stat(os.devnull)  # noqa: PTH116 - as above
    except OSError:
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == null.st_rdev


def _not_a_file(mode: int) -> str:
    kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "something else")
    return f"is {kind}, not a file"


def explained(path: str | os.PathLike[str], fault: str) -> str:
    """The message of an error for a fault."""
    return f"{os.path.abspath(path)} {fault}. Correct or remove it, or start in another folder."  # noqa: PTH100
