"""What the troubleshooting page says about a message, in a terminal."""

from __future__ import annotations

import sys

from hana_ai.api.errors.entries import entries, one_line, pointer, words_in

from .console import Problem


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
    about = [found] if found else [words for words in entries() if one_line(asked) in one_line(words)]
    if not about:
        raise Problem("no entry is about this message. All: hana-ai-together explain")
    print("\n\n".join(f"{words}\n\n{entries()[words]}" for words in about))
    return 0


def point_to_entry(message: str) -> None:
    """Name the command that explains a message, to a person at a terminal."""
    if sys.stderr.isatty() and (line := pointer(message)):
        print(line, file=sys.stderr)
