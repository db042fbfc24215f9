"""The thoughts of older models, which stand between tags at the beginning of their text."""

from __future__ import annotations


class ThinkSplitter:
    """Split a leading `<think>...</think>` off a text that comes in pieces.

    Only a tag at the very beginning counts: later in a text it is something that the answer talks about.
    """

    _OPEN = "<think>"
    _CLOSE = "</think>"

    __slots__ = ("_buffer", "_state")

    def __init__(self) -> None:
        self._buffer = ""
        self._state = "start"

    @classmethod
    def begins(cls, text: str) -> bool:
        """Whether a whole text has thoughts to split off."""
        return text.lstrip().startswith(cls._OPEN)

    @property
    def settled(self) -> bool:
        """Whether all that follows is plain text."""
        return self._state == "text"

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """Take a piece; returns (is it a thought, text) pairs that are certain by now."""
        self._buffer += text
        out: list[tuple[bool, str]] = []
        if self._state == "start":
            begin = self._buffer.lstrip()
            if begin.startswith(self._OPEN):
                self._state = "thought"
                self._buffer = begin[len(self._OPEN) :].lstrip("\n")
                if not self._buffer:
                    self._state = "thought-start"
            elif not self._OPEN.startswith(begin):
                self._state = "text"
        if self._state == "thought-start":
            self._buffer = self._buffer.lstrip("\n")
            if self._buffer:
                self._state = "thought"
        if self._state == "thought":
            end = self._buffer.find(self._CLOSE)
            if end >= 0:
                _add(out, True, self._buffer[:end])
                self._buffer = self._buffer[end + len(self._CLOSE) :]
                self._state = "after"
            else:
                keep = _overlap(self._buffer, self._CLOSE)
                _add(out, True, self._buffer[: len(self._buffer) - keep])
                self._buffer = self._buffer[len(self._buffer) - keep :]
        if self._state == "after":
            self._buffer = self._buffer.lstrip()
            if self._buffer:
                self._state = "text"
        if self._state == "text":
            _add(out, False, self._buffer)
            self._buffer = ""
        return out

    def finish(self) -> list[tuple[bool, str]]:
        """Give what is left at the end; a thought that was never closed stays a thought."""
        out: list[tuple[bool, str]] = []
        if self._state in ("start", "text"):
            _add(out, False, self._buffer)
        elif self._state == "thought":
            _add(out, True, self._buffer)
        self._buffer = ""
        return out


def _add(out: list[tuple[bool, str]], thought: bool, text: str) -> None:
    if text:
        out.append((thought, text))


def _overlap(text: str, tag: str) -> int:
    """Length of the longest end of `text` that is a beginning of `tag`."""
    return next((size for size in range(min(len(text), len(tag) - 1), 0, -1) if tag.startswith(text[-size:])), 0)
