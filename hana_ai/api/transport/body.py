"""A reply's body: unpacked in small parts, so that a few bytes that swell to gigabytes are noticed; let go of."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, cast

from hana_ai.api.errors import TogetherAIResponseError

if TYPE_CHECKING:
    import httpx

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


def body_of(response: httpx.Response) -> Iterable[bytes]:
    """A reply's bytes as they come, unpacked where they are packed."""
    encoding = response.headers.get("content-encoding", "")
    stream = cast("Iterable[bytes]", response.stream)
    return stream if encoding.lower() in _PLAIN else _inflated(stream, Inflater(encoding))


def abody_of(response: httpx.Response) -> AsyncIterable[bytes]:
    """A reply's bytes for a coroutine; see `body_of`."""
    encoding = response.headers.get("content-encoding", "")
    stream = cast("AsyncIterable[bytes]", response.stream)
    return stream if encoding.lower() in _PLAIN else _ainflated(stream, Inflater(encoding))


def close(response: httpx.Response) -> None:
    """Close a reply and take its stream from it.

    The two hold each other, and with them all of their exchange, which else waits for the garbage collector.
    """
    response.close()
    del response.stream


async def aclose(response: httpx.Response) -> None:
    """Close a reply in a coroutine; see `close`."""
    await response.aclose()
    del response.stream


def without_encoding(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of a reply whose body has been read and unpacked."""
    gone = (b"content-encoding", b"content-length", b"transfer-encoding")
    return [(name, value) for name, value in headers if name.lower() not in gone]


def _inflated(stream: Iterable[bytes], inflater: Inflater) -> Iterator[bytes]:
    for data in stream:
        yield from inflater.feed(data)
    inflater.finish()


async def _ainflated(stream: AsyncIterable[bytes], inflater: Inflater) -> AsyncIterator[bytes]:
    async for data in stream:
        for part in inflater.feed(data):
            yield part
    inflater.finish()
