"""Uploads in parts, as the SDK sends files above 5 GB: initiate, an address for each part, complete or abort.

The steps and the names of the fields are those of the SDK (together 3.1, `MultipartUploadManager` of
`lib/resources/files.py`); what a part must be is as in S3, which the SDK's constants name.
"""

from __future__ import annotations

import hashlib
import hmac
import shutil
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from ...refusal import JSON, Refusal
from ...requests import JSONObject
from .store import DataFile, FileStore

_MOST_PARTS = 10_000


@dataclass
class PartUpload:
    """A file of which parts are coming in.

    Attributes
    ----------
    size
        Bytes of the whole file, as announced.
    etags
        MD5 of each part that is there, by its number from 1.
    """

    file: DataFile
    size: int
    num_parts: int
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    etags: dict[int, str] = field(default_factory=dict)

    def place(self, number: int) -> Path:
        """Where a part is kept."""
        return self.file.path.with_name(f"{self.file.id}.{number}")

    def remove(self) -> None:
        """Forget the parts."""
        for number in self.etags:
            self.place(number).unlink(missing_ok=True)


class PartUploads:
    """The uploads in parts that are under way."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._uploads: dict[str, PartUpload] = {}

    def begin(self, file: DataFile, size: object, num_parts: object) -> PartUpload:
        """Start an upload; 400 for a size or a number of parts that cannot be."""
        for name, value, most in (
            ("file_size", size, self._store.dials.largest),
            ("num_parts", num_parts, _MOST_PARTS),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise Refusal(400, f"{name} must be 1 to {most}, not {value!r}.", param=name)
        assert isinstance(size, int)
        assert isinstance(num_parts, int)
        made = PartUpload(file, size, num_parts)
        self._uploads[made.id] = made
        return made

    def find(self, fields: JSONObject) -> PartUpload:
        """The upload that a body names; 404 when there is none."""
        found = self._uploads.get(str(fields.get("upload_id")))
        if found is None or found.file.id != fields.get("file_id"):
            raise Refusal(404, f"Upload {fields.get('upload_id')} not found.", param="upload_id", code="not_found")
        return found

    async def put(self, id: str, number: int, token: str, chunks: AsyncIterator[bytes]) -> str:
        """Keep a part; returns its ETag. A part that comes again takes the place of the first one."""
        upload = self._uploads.get(id)
        if upload is None or not hmac.compare_digest(token.encode(), upload.file.token.encode()):
            raise Refusal(403, "The address is not valid, or no longer.", code="access_denied")
        if not 1 <= number <= upload.num_parts:
            raise Refusal(404, f"There is no part {number}.", code="not_found")
        digest = hashlib.md5(usedforsecurity=False)
        size = 0
        with upload.place(number).open("wb") as out:
            async for chunk in chunks:
                size += len(chunk)
                if size > upload.size:
                    raise Refusal(400, f"Part {number} is larger than the file.", code="entity_too_large")
                digest.update(chunk)
                out.write(chunk)
        upload.etags[number] = digest.hexdigest()
        return upload.etags[number]

    def complete(self, upload: PartUpload, parts: object) -> None:
        """Put the file together.

        Raises
        ------
        Refusal
            400 for parts that are not those that came, that are too small, or that are not the whole file.
        """
        listed = parts if isinstance(parts, list) else []
        named = [
            (one.get("part_number"), str(one.get("etag")).strip('"')) for one in listed if isinstance(one, dict)
        ]
        if named != sorted(upload.etags.items()) or len(named) != upload.num_parts:
            raise Refusal(400, "The parts are not those that were uploaded.", param="parts", code="invalid_part")
        places = [upload.place(number) for number in sorted(upload.etags)]
        sizes = [place.stat().st_size for place in places]
        least = self._store.dials.smallest_part
        if any(size < least for size in sizes[:-1]):
            raise Refusal(400, f"Every part but the last must have {least} bytes.", code="entity_too_small")
        if sum(sizes) != upload.size:
            raise Refusal(400, f"The parts have {sum(sizes)} bytes, not {upload.size}.", param="parts")
        digest = hashlib.sha256()
        with upload.file.path.open("wb") as out:
            for place in places:
                with place.open("rb") as part:
                    shutil.copyfileobj(part, out)
        with upload.file.path.open("rb") as whole:
            while block := whole.read(2**20):
                digest.update(block)
        upload.file.size, upload.file.digest = sum(sizes), digest.hexdigest()
        self.abort(upload)

    def abort(self, upload: PartUpload) -> None:
        """Forget an upload and its parts."""
        upload.remove()
        del self._uploads[upload.id]

    @staticmethod
    def wire(upload: PartUpload, address: str) -> dict[str, JSON]:
        """What the client is told: where each part goes."""
        parts: list[JSON] = [
            {"PartNumber": number, "URL": f"{address}/{number}?token={upload.file.token}", "Headers": {}}
            for number in range(1, upload.num_parts + 1)
        ]
        return {"upload_id": upload.id, "file_id": upload.file.id, "parts": parts}
