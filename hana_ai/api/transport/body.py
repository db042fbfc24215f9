"""The bytes of a reply: unpacked in small parts, so that a few bytes that swell to gigabytes are noticed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hana_ai.api.errors import TogetherAIResponseError

if TYPE_CHECKING:
    import aiohttp

ACCEPTED = "gzip, deflate"
"""What is asked for: encodings that can be unpacked in parts."""
_PART = 256 * 1024
_PLAIN = ("", "identity")


class Inflater:
    """Unpack gzip or deflate.

    Parameters
    ----------
    encoding : str
        The reply's `content-encoding`.

    Raises
    ------
    TogetherAIResponseError
        It is another one; or, later, the bytes are not what it says.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding.strip().lower()
        if self._encoding not in ("gzip", "x-gzip", "deflate"):
            raise TogetherAIResponseError(
                f"the reply has the content-encoding {encoding[:50]!r}, which was not asked for"
            )
        # 32 more: gzip or zlib, as the first bytes say.
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._begin = b""
        self._begun = self._encoding != "deflate"

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take packed bytes and give what they hold, a part at a time."""
        if not self._begun:
            self._begin = data = self._begin + data
            if len(data) < 2:
                return
            self._begun = True
            if data[0] & 15 != zlib.DEFLATED or int.from_bytes(data[:2], "big") % 31:
                # Some servers mean by deflate the bare stream, without zlib's two bytes.
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        while data:
            try:
                part = self._stream.decompress(data, _PART)
            except zlib.error as exc:
                raise TogetherAIResponseError(f"the reply is not {self._encoding}: {exc}") from exc
            data = self._stream.unconsumed_tail
            if part:
                yield part

    def finish(self) -> None:
        """Check that the end has come."""
        if not self._stream.eof:
            raise TogetherAIResponseError(f"the reply is cut off: its {self._encoding} stream has no end")


class Body:
    """The bytes of one reply, read within a size and unpacked where they are packed.

    Parameters
    ----------
    response : aiohttp.ClientResponse
    most_bytes : int
        Of the unpacked body.
    model : str, optional
        For the errors.

    Raises
    ------
    TogetherAIResponseError
        It is packed in a way that was not asked for; or, later, is larger, or not what its header says.
    """

    __slots__ = ("_content", "_inflater", "_model", "_most_bytes", "_parts", "size")

    def __init__(self, response: aiohttp.ClientResponse, most_bytes: int, model: str | None = None) -> None:
        encoding = response.headers.get("Content-Encoding", "")
        self._content = response.content
        self._inflater = None if encoding.lower() in _PLAIN else Inflater(encoding)
        self._parts: Iterator[bytes] = iter(())
        self._most_bytes = most_bytes
        self._model = model
        self.size = 0
        """Bytes so far."""

    async def next(self) -> bytes:
        """Read what has come, up to the bound; empty at the end.

        Raises
        ------
        TogetherAIResponseError
            There is more than the bound allows.
        """
        room = self._most_bytes - self.size
        data = b""
        if room >= 0:
            data = await (self._content.readany() if self._inflater is None else self._next_part(self._inflater))
            self.size += len(data)
        if room < len(data):
            # What is within the bound is still given: a stream may end in it, with something else behind.
            data = data[: max(room, 0)]
            if not data:
                raise TogetherAIResponseError(
                    f"the reply is larger than {self._most_bytes} bytes and was refused", model=self._model
                )
        return data

    async def _next_part(self, inflater: Inflater) -> bytes:
        while True:
            part = next(self._parts, None)
            if part is not None:
                # A small body can swell to hours of unpacking: the deadline and other calls have their turn.
                await asyncio.sleep(0)
                return part
            data = await self._content.readany()
            if not data:
                inflater.finish()
                return b""
            self._parts = inflater.feed(data)

    async def whole(self) -> bytes:
        """Read to the end."""
        parts = []
        while data := await self.next():
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)
