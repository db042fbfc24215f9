"""Files in parts: their hashes, sending them to presigned addresses, and a note of what is done."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import md5
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import orjson

from hana_ai.api.addresses.proxy import proxy_for
from hana_ai.api.errors import TogetherAIConnectionError, TogetherAIError
from hana_ai.api.settings import is_loopback
from hana_ai.api.transport.sdk import httpx_proxy
from hana_ai.api.transport.tls import ssl_context

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

PART_BYTES = 20 * 1024 * 1024
"""Size of a part (together 3.1, `lib/cli/api/models/upload.py`)."""
JOURNAL = ".together-upload.json"
"""Hidden file in the folder, which uploads leave out."""

_TRIES = 5
_FIRST_WAIT = 1.0
_AT_ONCE = 8
_PART_SECONDS = 30 * 60.0
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True)
class UploadProgress:
    """What `on_progress` is told after each part."""

    path: str
    """The file, below the folder."""
    part: int
    """Number of the part, from 1; 0 for a file that was there already."""
    parts: int
    """How many parts the file has."""
    sent_bytes: int
    """Bytes of all files that are there now."""
    total_bytes: int


@dataclass(frozen=True)
class LocalFile:
    """A file to upload."""

    source: Path
    path: str
    size: int
    parts: tuple[str, ...]
    """Hex MD5 of each part."""

    @property
    def hash(self) -> str:
        """Hex MD5 of the whole if it is one part, else of the parts' digests, with their number."""
        if len(self.parts) == 1:
            return self.parts[0]
        digests = b"".join(bytes.fromhex(part) for part in self.parts)
        return f"{md5(digests, usedforsecurity=False).hexdigest()}-{len(self.parts)}"

    def bounds(self, number: int) -> tuple[int, int]:
        """Offset and size of a part, in bytes; parts count from 1."""
        offset = (number - 1) * PART_BYTES
        return offset, min(PART_BYTES, self.size - offset)


def local_files(folder: Path) -> list[LocalFile]:
    """The files below a folder with their hashes; hidden ones and empty ones are left out."""
    files = []
    for source in sorted(folder.rglob("*")):
        relative = source.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or not source.is_file() or not source.stat().st_size:
            continue
        size = source.stat().st_size
        files.append(LocalFile(source, relative.as_posix(), size, tuple(_hashes(source, size))))
    return files


def _hashes(source: Path, size: int) -> list[str]:
    hashes = []
    with source.open("rb") as stream:
        for _ in range(math.ceil(size / PART_BYTES)):
            digest, left = md5(usedforsecurity=False), PART_BYTES
            while left and (data := stream.read(min(left, _READ_BYTES))):
                digest.update(data)
                left -= len(data)
            hashes.append(digest.hexdigest())
    return hashes


@dataclass
class PartSender:
    """Sends parts, several at once, and notes which ones are there.

    Parameters
    ----------
    folder : Path
        Where the note is kept; where that can't be written, an upload that broke starts again.
    model_id : str
        The model that the files are for.
    total : int
        Bytes of all files.
    on_progress : callable, optional
        Told after each part.
    """

    folder: Path
    model_id: str
    total: int
    on_progress: Callable[[UploadProgress], None] | None
    _done: dict[str, dict[str, str]] = field(default_factory=dict)
    """ETag by part number, by upload id."""
    _sent: int = 0
    _ways: dict[str, httpx.AsyncHTTPTransport] = field(default_factory=dict)
    """By host."""
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def __aenter__(self) -> Self:
        self._done = self._read()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for way in self._ways.values():
            await way.aclose()

    def skip(self, file: LocalFile) -> None:
        """Count a file that is there already."""
        self._progress(file, 0, file.size)

    async def send(self, file: LocalFile, remote: Mapping[str, Any]) -> dict[str, Any]:
        """Send the parts of a file that are not there yet; returns its entry for `complete`.

        Raises
        ------
        TogetherAIError
            A part was refused, or could not be sent in five tries.
        """
        parts = {int(part["partNumber"]): part for part in remote.get("parts") or []}
        if sorted(parts) != list(range(1, len(file.parts) + 1)):
            raise TogetherAIError(
                f"Together asks for other parts of {file.path} than 1 to {len(file.parts)}: {sorted(parts)}."
            )
        upload_id = str(remote.get("uploadId") or "")
        done = self._done.setdefault(upload_id, {})
        tasks = [
            asyncio.ensure_future(self._part(file, number, parts[number], done))
            for number in range(1, len(parts) + 1)
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            # The first failure ends the others, so that none is still reading the file afterwards.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        entries = [{"partNumber": number, "hash": done[str(number)]} for number in range(1, len(parts) + 1)]
        return {
            "path": file.path,
            "hash": file.hash,
            "uploadDetails": {"uploadId": upload_id, "parts": entries},
        }

    async def _part(self, file: LocalFile, number: int, remote: Mapping[str, Any], done: dict[str, str]) -> None:
        expected = file.parts[number - 1]
        if done.get(str(number)) != expected:
            async with self._places:
                done[str(number)] = await self._put(file, number, remote)
            self._write()
        self._progress(file, number, file.bounds(number)[1])

    async def _put(self, file: LocalFile, number: int, remote: Mapping[str, Any]) -> str:
        """Send one part until it is taken; 429 and 5xx are tried again, any other refusal is final."""
        import httpx

        url, offset_size = str(remote["url"]), file.bounds(number)
        address = urlsplit(url)
        if address.scheme != "https" and not is_loopback(url):
            raise TogetherAIError(f"Together names an address for parts that is not https: {address.hostname}.")
        headers = {**(remote.get("headers") or {}), "Content-Length": str(offset_size[1])}
        what = f"part {number} of {file.path}"
        for attempt in range(1, _TRIES + 1):
            try:
                answer = await self._exchange(url, headers, _read(file.source, *offset_size))
            except httpx.HTTPError as exc:
                failure: TogetherAIError = TogetherAIConnectionError(f"no connection for {what}: {exc!r}")
            else:
                if answer.status_code == httpx.codes.OK:
                    etag = answer.headers.get("etag", "").strip().strip('"')
                    if etag == file.parts[number - 1]:
                        return str(etag)
                    failure = TogetherAIError(
                        f"The storage has {what} with checksum {etag!r}, not the file's own."
                    )
                else:
                    words = " ".join(answer.text.split())[:300]
                    failure = TogetherAIError(f"The storage refused {what} with {answer.status_code}: {words}")
                    if answer.status_code < 500 and answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                        raise failure
            if attempt == _TRIES:
                raise failure
            logger.info("try %d of %s failed: %s", attempt, what, failure)
            await asyncio.sleep(_FIRST_WAIT * 2 ** (attempt - 1))
        raise AssertionError("unreachable")

    async def _exchange(
        self, url: str, headers: Mapping[str, str], content: AsyncIterator[bytes]
    ) -> httpx.Response:
        """Send a part, without the key and without following redirects: the address itself is the permission.

        So it is not for the log either, in which httpx's client would write it.
        """
        import httpx

        host = urlsplit(url).netloc
        if host not in self._ways:
            proxy = httpx_proxy(proxy_for(url))
            self._ways[host] = httpx.AsyncHTTPTransport(verify=ssl_context(), proxy=proxy)
        timeout = httpx.Timeout(_PART_SECONDS, connect=30.0).as_dict()
        request = httpx.Request("PUT", url, headers=headers, content=content, extensions={"timeout": timeout})
        answer = await self._ways[host].handle_async_request(request)
        try:
            await answer.aread()
        finally:
            await answer.aclose()
        return answer

    def _progress(self, file: LocalFile, number: int, size: int) -> None:
        self._sent += size
        if self.on_progress is not None:
            self.on_progress(UploadProgress(file.path, number, len(file.parts), self._sent, self.total))

    # --- the note of what is done ---

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            noted = orjson.loads((self.folder / JOURNAL).read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return {}
        done = noted.get("done") if isinstance(noted, dict) and noted.get("model") == self.model_id else None
        return done if isinstance(done, dict) else {}

    def _write(self) -> None:
        noted = orjson.dumps({"model": self.model_id, "done": self._done})
        new = self.folder / f"{JOURNAL}.new"
        try:
            new.write_bytes(noted)
            new.replace(self.folder / JOURNAL)
        except OSError as exc:
            logger.debug("no note of the upload in %s: %s", self.folder, exc)

    def forget(self) -> None:
        """Take the note away when all is there."""
        with contextlib.suppress(OSError):
            (self.folder / JOURNAL).unlink(missing_ok=True)


async def _read(source: Path, offset: int, size: int) -> AsyncIterator[bytes]:
    """The bytes of a part, in pieces, so that no part is held as a whole."""
    with source.open("rb") as stream:
        stream.seek(offset)
        while size and (data := await asyncio.to_thread(stream.read, min(size, _READ_BYTES))):
            size -= len(data)
            yield data
