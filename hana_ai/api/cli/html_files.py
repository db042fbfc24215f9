"""The pages that commands write: an earlier one is replaced, any other file is left as it is."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from .console import Problem


def replaceable(target: Path, mark: str, kind: str, *, force: bool) -> Path:
    """The file behind a path, if it may be written: there is none yet, or it is an earlier page of this kind.

    Parameters
    ----------
    target : Path
    mark : str
        What such a page has in its first line.
    kind : str
        What such a page is called.
    force : bool
        Whether any file may be replaced.

    Raises
    ------
    Problem
        It may not.
    """
    try:
        target = target.expanduser().resolve()
        if not target.exists():
            if not target.parent.is_dir():
                raise Problem(f"there is no folder {str(target.parent)!r}: create it, or name a file elsewhere.")
            return target
        if not target.is_file():
            raise Problem(f"{str(target)!r} is no file: name one for the {kind}, such as page.html.")
        with target.open("rb") as file:
            is_earlier = mark.encode() in file.readline(200)
    except (OSError, ValueError) as exc:
        raise Problem(f"{str(target)!r} can't be used for the {kind}: {exc}.") from exc
    if not is_earlier and not force:
        raise Problem(f"{str(target)!r} is no {kind}, so it was left as it is. To replace it, pass --force.")
    return target


def write_whole(target: Path, text: str) -> None:
    """Write the file whole or not at all.

    Raises
    ------
    Problem
        It can't be written.
    """
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            part = Path(file.name)
            try:
                file.write(text.encode("utf-8"))
                file.close()
                part.chmod(mode)
                part.replace(target)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as exc:
        raise Problem(f"the page can't be written to {str(target)!r}: {exc.strerror or exc}.") from exc


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
