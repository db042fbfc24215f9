"""What the troubleshooting page says about a message."""

from __future__ import annotations

import re
import shlex
import sys
from functools import cache
from pathlib import Path

from .console import Problem

_PAGE = "troubleshooting.md"
_HERE = Path(__file__).resolve()
_PLACES = (_HERE.parents[3] / "docs" / _PAGE, _HERE.with_name("documents") / _PAGE)
"""In a checkout, and where a wheel has it."""


@cache
def entries() -> dict[str, str]:
    """The entries of the page, by the words of the message that each is about; empty where there is no page."""
    page = next((path for path in _PLACES if path.is_file()), None)
    if page is None:
        return {}
    _, *parts = re.split(r"^## `(.+)`$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {words: _plain(text) for words, text in zip(parts[::2], parts[1::2], strict=True)}


def words_in(message: str) -> str | None:
    """The words of the entry about a message: the longest that it has; None if there is no entry."""
    said = _one_line(message)
    return max((words for words in entries() if _one_line(words) in said), key=len, default=None)


def explain(*message: str) -> int:
    """Say what the troubleshooting page knows about a message.

    Parameters
    ----------
    message
        The message, or words of it; without any, the messages that have an entry are listed.
    """
    if not entries():
        raise Problem("the troubleshooting page is not installed with this package; it is docs/troubleshooting.md")
    asked = " ".join(message)
    if not asked.strip():
        print(*entries(), sep="\n")
        return 0
    found = words_in(asked)
    about = [found] if found else [words for words in entries() if _one_line(asked) in _one_line(words)]
    if not about:
        raise Problem("no entry is about this message. All: hana-ai-together explain")
    print("\n\n".join(f"{words}\n\n{entries()[words]}" for words in about))
    return 0


def point_to_entry(message: str) -> None:
    """Name the command that explains a message, to a person at a terminal."""
    if sys.stderr.isatty() and (words := words_in(message)):
        print(f"More: hana-ai-together explain {shlex.quote(words)}", file=sys.stderr)


def _one_line(text: str) -> str:
    return " ".join(text.split()).casefold()


def _plain(text: str) -> str:
    """Without the links to other pages, which are not here."""
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text).strip()
