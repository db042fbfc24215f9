"""Uploads in parts: hash files, send their parts to presigned URLs, and keep a journal of what has been sent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import md5
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import orjson

from hana_ai.api.addresses.checks import is_http_address, is_loopback
from hana_ai.api.addresses.proxy import proxy_for
from hana_ai.api.connector.account import Limits
from hana_ai.api.connector.folder_files import FolderFile, folder_files, read_regular
from hana_ai.api.connector.replies import PartAddress, PlannedFile
from hana_ai.api.errors import TogetherAIConnectionError, TogetherAIError
from hana_ai.api.transport.sdk import httpx_proxy
from hana_ai.api.transport.tls import ssl_context

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

JOURNAL = ".together-upload.json"
"""Hidden file in the folder, which is not uploaded itself."""

_READ_BYTES = 1024 * 1024
_LONGEST_URL = 60_000
"""Characters; httpx refuses longer ones with an error of its own."""


@dataclass(frozen=True)
class UploadProgress:
    """What `on_progress` receives after each part."""

    path: str
    """The file, relative to the folder."""
    part: int
    """Number of the part, from 1; 0 for a file that Together already had."""
    parts: int
    """How many parts the file has."""
    sent_bytes: int
    """Bytes of all files that Together has now."""
    total_bytes: int


@dataclass(frozen=True)
class LocalFile:
    """A file to upload."""

    source: FolderFile
    part_bytes: int
    parts: tuple[str, ...]
    """Hex MD5 of each part."""

    @property
    def path(self) -> str:
        """Relative to the folder."""
        return self.source.path

    @property
    def size(self) -> int:
        """Bytes."""
        return self.source.size

    @property
    def hash(self) -> str:
        """Hex MD5 of a single part, else of the parts' digests, with their number."""
        if len(self.parts) == 1:
            return self.parts[0]
        digests = b"".join(bytes.fromhex(part) for part in self.parts)
        return f"{md5(digests, usedforsecurity=False).hexdigest()}-{len(self.parts)}"

    def bounds(self, number: int) -> tuple[int, int]:
        """Offset and size of a part, in bytes; parts count from 1."""
        offset = (number - 1) * self.part_bytes
        return offset, min(self.part_bytes, self.size - offset)


def local_files(folder: Path, part_bytes: int) -> list[LocalFile]:
    """The files below a folder with their hashes; hidden and empty ones are left out.

    Raises
    ------
    TogetherAIInputError
        A link leads out of the folder, or a file can't be read.
    """
    return [
        LocalFile(source, part_bytes, tuple(_hashes(source, part_bytes)))
        for source in folder_files(folder)
        if source.size
    ]


def _hashes(source: FolderFile, part_bytes: int) -> list[str]:
    hashes = []
    with source.open() as stream:
        for _ in range(math.ceil(source.size / part_bytes)):
            digest, left = md5(usedforsecurity=False), part_bytes
            while left and (data := stream.read(min(left, _READ_BYTES))):
                digest.update(data)
                left -= len(data)
            hashes.append(digest.hexdigest())
    return hashes


@dataclass
class PartSender:
    """Sends parts, several at a time, and keeps a journal of them.

    Parameters
    ----------
    folder : Path
        Where the journal is kept; if it can't be written, an interrupted upload starts over.
    model_id : str
        The model that the files belong to.
    total : int
        Bytes of all files.
    on_progress : callable, optional
        Called after each part.
    limits : Limits
        Parts at a time, tries and waits.
    """

    folder: Path
    model_id: str
    total: int
    on_progress: Callable[[UploadProgress], None] | None
    limits: Limits
    _done: dict[str, dict[str, str]] = field(default_factory=dict)
    """ETag by part number, by upload id."""
    _sent: int = 0
    _transports: dict[str, httpx.AsyncHTTPTransport] = field(default_factory=dict)
    """By host."""

    def __post_init__(self) -> None:
        self._places = asyncio.Semaphore(self.limits.parts_at_once)

    async def __aenter__(self) -> Self:
        self._done = self._read()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for transport in self._transports.values():
            await transport.aclose()

    def skip(self, file: LocalFile) -> None:
        """Count a file that Together already has."""
        self._progress(file, 0, file.size)

    async def send(self, file: LocalFile, remote: PlannedFile) -> dict[str, object]:
        """Send the missing parts of a file; returns its entry for `complete`.

        Raises
        ------
        TogetherAIError
            A part was refused, or could not be sent in several tries.
        """
        parts = {part.part_number: part for part in remote.parts or []}
        if sorted(parts) != list(range(1, len(file.parts) + 1)):
            raise TogetherAIError(
                f"Together asks for other parts of {file.path} than 1 to {len(file.parts)}: {sorted(parts)}."
            )
        upload_id = remote.upload_id or ""
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

    async def _part(self, file: LocalFile, number: int, remote: PartAddress, done: dict[str, str]) -> None:
        expected = file.parts[number - 1]
        if done.get(str(number)) != expected:
            async with self._places:
                done[str(number)] = await self._put(file, number, remote)
            self._write()
        self._progress(file, number, file.bounds(number)[1])

    async def _put(self, file: LocalFile, number: int, remote: PartAddress) -> str:
        """Send one part until it is accepted; 429 and 5xx are retried, any other refusal is final."""
        url = remote.url
        # The query is the permission, and may be long.
        if not url.isprintable() or len(url) > _LONGEST_URL or not is_http_address(url.partition("?")[0]):
            raise TogetherAIError(f"Together names a URL for parts of {file.path} that is no address.")
        if urlsplit(url).scheme != "https" and not is_loopback(url):
            raise TogetherAIError(f"Together names a URL for parts that is not https: {urlsplit(url).hostname}.")
        what = f"part {number} of {file.path}"
        attempt = 1
        while True:
            try:
                return await self._try_once(file, number, remote, what)
            except _MaySucceedLater as exc:
                if attempt == self.limits.part_tries:
                    raise exc.error from exc.__cause__
                logger.info("try %d of %s failed: %s", attempt, what, exc.error)
            await asyncio.sleep(self.limits.first_retry * 2 ** (attempt - 1))
            attempt += 1

    async def _try_once(self, file: LocalFile, number: int, remote: PartAddress, what: str) -> str:
        import httpx

        offset, size = file.bounds(number)
        headers = {**(remote.headers or {}), "Content-Length": str(size)}
        try:
            answer = await self._exchange(remote.url, headers, _read(file.source, offset, size))
        except httpx.HTTPError as exc:
            raise _MaySucceedLater(TogetherAIConnectionError(f"no connection for {what}: {exc!r}")) from exc
        if answer.status_code == httpx.codes.OK:
            etag: str = answer.headers.get("etag", "").strip().strip('"')
            if etag != file.parts[number - 1]:
                error = TogetherAIError(f"The storage has {what} with checksum {etag!r}, not the file's own.")
                raise _MaySucceedLater(error)
            return etag
        message = " ".join(answer.text.split())[:300]
        error = TogetherAIError(f"The storage refused {what} with {answer.status_code}: {message}")
        if answer.status_code >= 500 or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise _MaySucceedLater(error)
        raise error

    async def _exchange(
        self, url: str, headers: Mapping[str, str], content: AsyncIterator[bytes]
    ) -> httpx.Response:
        """Send a part, without the key and without following redirects: the URL itself is the permission.

        So it must not be logged either, as httpx's client would.
        """
        import httpx

        host = urlsplit(url).netloc
        if host not in self._transports:
            proxy = httpx_proxy(proxy_for(url))
            self._transports[host] = httpx.AsyncHTTPTransport(verify=ssl_context(), proxy=proxy)
        timeout = httpx.Timeout(self.limits.part_seconds, connect=30.0).as_dict()
        request = httpx.Request("PUT", url, headers=headers, content=content, extensions={"timeout": timeout})
        answer = await self._transports[host].handle_async_request(request)
        try:
            await answer.aread()
        finally:
            await answer.aclose()
        return answer

    def _progress(self, file: LocalFile, number: int, size: int) -> None:
        self._sent += size
        if self.on_progress is not None:
            self.on_progress(UploadProgress(file.path, number, len(file.parts), self._sent, self.total))

    # --- the journal ---

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            journal = orjson.loads(read_regular(self.folder, JOURNAL))
        except (OSError, orjson.JSONDecodeError):
            return {}
        done = journal.get("done") if isinstance(journal, dict) and journal.get("model") == self.model_id else None
        return done if isinstance(done, dict) else {}

    def _write(self) -> None:
        journal = orjson.dumps({"model": self.model_id, "done": self._done})
        new = self.folder / f"{JOURNAL}.new"
        try:
            # Made anew, since what has the name may be a link.
            new.unlink(missing_ok=True)
            with new.open("xb") as stream:
                stream.write(journal)
            new.replace(self.folder / JOURNAL)
        except OSError as exc:
            logger.debug("no journal of the upload in %s: %s", self.folder, exc)
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)

    def forget(self) -> None:
        """Delete the journal once everything has been sent."""
        with contextlib.suppress(OSError):
            (self.folder / JOURNAL).unlink(missing_ok=True)


class _MaySucceedLater(Exception):  # noqa: N818 - it leads to another try
    """A part was not accepted this time."""

    def __init__(self, error: TogetherAIError) -> None:
        self.error = error


async def _read(source: FolderFile, offset: int, size: int) -> AsyncIterator[bytes]:
    """The bytes of a part in small pieces, so that no part is held in memory as a whole."""
    with await asyncio.to_thread(source.open) as stream:
        stream.seek(offset)
        while size and (data := await asyncio.to_thread(stream.read, min(size, _READ_BYTES))):
            size -= len(data)
            yield data
