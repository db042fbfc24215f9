"""Server-sent events from bytes, wherever the network happens to cut them.

Follows the parsing rules of the HTML standard (section 9.2.6): lines end with LF, CRLF or CR; a line that
starts with a colon is a comment; several `data` lines of one event are joined by LF; an event without data is
dropped, and so is one that the end of the stream cuts off.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_EVENT_BYTES = 16 * 1024 * 1024


class ServerSentEvent(NamedTuple):
    """One event: its data as sent, and its name (empty for the usual unnamed ones)."""

    data: bytes
    event: str = ""


class SSEDecoder:
    """Collect bytes, give events.

    Parameters
    ----------
    max_event_bytes : int
        Bound of one event, in bytes, so that a server that never ends its line can't take the memory.

    Examples
    --------
    >>> decoder = SSEDecoder()
    >>> decoder.feed(b'data: {"a":')
    []
    >>> decoder.feed(b'1}\\n\\ndata: [DONE]\\n\\n')
    [ServerSentEvent(data=b'{"a":1}', event=''), ServerSentEvent(data=b'[DONE]', event='')]
    """

    __slots__ = ("_buffer", "_data", "_event", "_max", "_size", "_skip_lf", "_start")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._buffer = b""
        self._data: list[bytes] = []
        self._event = ""
        self._max = max_event_bytes
        self._size = 0
        self._skip_lf = False
        self._start = True

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and return the events that they complete.

        Raises
        ------
        ValueError
            An event is larger than `max_event_bytes`.
        """
        if self._is_one_event(chunk):
            self._start = self._skip_lf = False
            return [ServerSentEvent(chunk[6:-2])]
        if not chunk:
            return []
        if self._skip_lf:
            # The last chunk ended in CR; an LF now belongs to it.
            self._skip_lf = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        buffer = self._buffer + chunk if self._buffer else chunk
        if self._start:
            if len(buffer) < 3 and b"\xef\xbb\xbf".startswith(buffer):
                self._buffer = buffer
                return []
            self._start = False
            buffer = buffer.removeprefix(b"\xef\xbb\xbf")
        if b"\r" in buffer:
            self._skip_lf = buffer.endswith(b"\r")
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = buffer.split(b"\n")
        self._buffer = lines.pop()
        events: list[ServerSentEvent] = []
        for line in lines:
            if line:
                self._field(line)
            elif self._data:
                events.append(ServerSentEvent(b"\n".join(self._data), self._event))
                self._data, self._event, self._size = [], "", 0
            else:
                self._event = ""
        if self._size + len(self._buffer) > self._max:
            raise ValueError(f"a server-sent event is larger than {self._max} bytes")
        return events

    def _is_one_event(self, chunk: bytes) -> bool:
        """Whether the bytes are one whole event of one line, ended by LF: by far the most frequent case."""
        return (
            chunk.startswith(b"data: ")
            and chunk.endswith(b"\n\n")
            and chunk.find(b"\n") == len(chunk) - 2
            and b"\r" not in chunk
            and len(chunk) <= self._max
            and not (self._buffer or self._data or self._event)
        )

    def _field(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._size += len(value)
            if self._size > self._max:
                raise ValueError(f"a server-sent event is larger than {self._max} bytes")
        elif line == b"data":
            self._data.append(b"")
        elif line.startswith(b"event:"):
            self._event = line[6:].removeprefix(b" ").decode("utf-8", "replace")
