"""The catalogue of an address on disk, so that all processes of a user together ask the server once in a while.

A file a pair of address and key, since what is listed, and for what price, is a matter of the account. Its name
tells neither, its content is what the server listed. A file that is damaged, too old, from the future, somebody
else's, or of another version counts as none and is replaced; a folder that can't be used is no fault of the call.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Self

import orjson
from pydantic import SecretStr

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.02
"""How long to wait before it is looked again whether another process has read the catalogue."""

_VERSION = 1
_OLDEST_SECONDS = 604_800.0
"""The longest lifetime that the settings allow: what is older counts for nobody."""
_LARGEST_FILE = 64 * 1024 * 1024
_PATIENCE_SECONDS = 5.0
_CLOCK_TOLERANCE_SECONDS = 60.0
"""How far in the future a file may be: clocks are set, and those of a network's machines differ."""

Entries = Sequence[Mapping[str, object]]


def cache_folder() -> Path:
    """This package's folder below the one that the platform has for caches.

    Raises
    ------
    RuntimeError
        The user has no home.
    """
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        named = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # The specification says that a relative path is to be ignored.
        base = named if named.is_absolute() else Path.home() / ".cache"
    return base / "hana-ai-together"


class KeptCatalog:
    """The file of one address and key.

    Parameters
    ----------
    base_url : str
        The address.
    api_key : SecretStr
        Whose catalogue it is; the file's name has a one-way mark of it.
    lifetime : float
        Seconds for which a file counts; 0 keeps nothing on disk.
    folder : str or Path, optional
        Where it is, with or without ``~``; default: the platform's folder for caches.
    """

    def __init__(
        self, base_url: str, api_key: SecretStr, *, lifetime: float, folder: str | Path | None = None
    ) -> None:
        self._base_url = base_url
        self._lifetime = lifetime
        found = _folder(folder) if lifetime > 0 else None
        self._path = None if found is None else found / f"catalogue-{_mark(base_url, api_key)}.json"

    def read(self) -> tuple[Entries, float] | None:
        """The entries and their age in seconds; None where there is no file that counts."""
        if self._path is None:
            return None
        try:
            kept = _loaded(self._path)
        except (OSError, ValueError) as exc:
            if not isinstance(exc, FileNotFoundError):
                logger.debug("the catalogue in %s is not used: %s", self._path, exc)
            return None
        if (kept.get("version"), kept.get("base_url")) != (_VERSION, self._base_url):
            return None
        entries, read_at = kept.get("models"), kept.get("read_at")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            return None
        if not isinstance(read_at, (int, float)) or not math.isfinite(read_at):
            return None
        age = time.time() - read_at
        if not -_CLOCK_TOLERANCE_SECONDS <= age < self._lifetime:
            return None
        return entries, max(age, 0.0)

    def write(self, entries: Entries) -> None:
        """Keep entries that have just been read; no file is ever seen half written."""
        # A server that lists nothing for a moment must not be believed for an hour, by everybody.
        if self._path is None or not entries:
            return
        kept = {"version": _VERSION, "base_url": self._base_url, "read_at": time.time(), "models": list(entries)}
        try:
            data = orjson.dumps(kept)
            _make_folder(self._path.parent)
            _replace(self._path, data)
            _tidy(self._path.parent)
        except (OSError, TypeError) as exc:
            logger.debug("the catalogue of %s is not kept in %s: %s", self._base_url, self._path.parent, exc)

    def turn(self) -> Turn:
        """A place in the line of those who want to ask the server."""
        return Turn(None if self._path is None else self._path.with_suffix(".lock"))


class Turn:
    """Who asks the server now: one at a time, of all threads and processes, so that the others find the file.

    Nobody waits for long: where turns can't be taken, and after five seconds, it is everybody's turn.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock: int | None = None
        self._ended = False
        # A task that is cancelled leaves while its thread still looks.
        self._guard = threading.Lock()
        self._until = time.monotonic() + _PATIENCE_SECONDS

    def come(self) -> bool:
        """Whether the turn has come; returns at once."""
        with self._guard:
            if self._path is None or self._ended or time.monotonic() > self._until:
                return True
            try:
                if self._lock is None:
                    _make_folder(self._path.parent)
                    self._lock = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
                return _locked(self._lock)
            except OSError as exc:
                logger.debug("no turns are taken in %s: %s", self._path.parent, exc)
                return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._guard:
            self._ended = True
            if self._lock is not None:
                _unlock(self._lock)
                os.close(self._lock)
                self._lock = None


if sys.platform == "win32":
    import msvcrt

    def _locked(file: int) -> bool:
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(file: int) -> None:
        with contextlib.suppress(OSError):
            msvcrt.locking(file, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _locked(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(file: int) -> None:
        # Not left to the end of the file: a child forked in the meantime has it open, too.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)


def _folder(given: str | Path | None) -> Path | None:
    """Where to keep it; None where a user has no home."""
    try:
        return Path(given).expanduser() if given else cache_folder()
    except RuntimeError as exc:
        logger.debug("the catalogue is kept in memory alone: %s", exc)
        return None


def _mark(base_url: str, api_key: SecretStr) -> str:
    """What tells address and key from others and leads back to neither; 128 bits."""
    salt = blake2b(base_url.encode(), digest_size=blake2b.SALT_SIZE).digest()
    return blake2b(api_key.get_secret_value().encode(), digest_size=16, salt=salt, person=b"catalogue").hexdigest()


def _loaded(path: Path) -> Mapping[str, object]:
    """What a file holds.

    Raises
    ------
    OSError, ValueError
        It can't be read, is no file of this user, is too large, or no JSON object.
    """
    # A pipe or a link that somebody put there must neither be waited for nor followed.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_FILE:
            raise ValueError("it is no file, or too large")
        if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
            raise ValueError("it is somebody else's")
        kept = orjson.loads(file.read())
    if not isinstance(kept, dict):
        raise ValueError("it is no JSON object")
    return kept


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _replace(path: Path, data: bytes) -> None:
    """Write a file beside another one, and put it in its place."""
    descriptor, name = tempfile.mkstemp(prefix=path.stem + "-", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _tidy(folder: Path) -> None:
    """Remove the files of addresses and keys that nobody uses any more, and what killed processes left."""
    for path in folder.glob("catalogue-*"):
        with contextlib.suppress(OSError):
            if path.suffix != ".lock" and time.time() - path.stat().st_mtime > _OLDEST_SECONDS:
                path.unlink()
                path.with_suffix(".lock").unlink(missing_ok=True)
