"""What the troubleshooting page says about the messages of errors."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

_PAGE = "troubleshooting.md"
_API = Path(__file__).resolve().parents[1]
_PLACES = (_API.parents[1] / "docs" / _PAGE, _API / "cli" / "documents" / _PAGE)
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
    said = one_line(message)
    return max((words for words in entries() if one_line(words) in said), key=len, default=None)


def pointer(message: str) -> str | None:
    """The line that names the command which shows the entry about a message; None if there is no entry."""
    words = words_in(message)
    return None if words is None else f"More: hana-ai-together explain {shlex.quote(words)}"


def one_line(text: str) -> str:
    """The text without line breaks, and without regard to case."""
    return " ".join(text.split()).casefold()


def _plain(text: str) -> str:
    """Without the links to other pages, which are not here."""
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text).strip()
