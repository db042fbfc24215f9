"""Uploads in parts: create, presigned addresses for the parts, complete.

The rules are those of the SDK's command line (together 3.1, `lib/cli/api/models/upload.py`): the hash of a file
is the MD5 of its one part, or the MD5 of its parts' MD5 digests with `-N`; a part is answered by its MD5 as ETag.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import md5

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ...refusal import JSON, Refusal
from ...requests import JSONObject
from ..http import reply
from .fields import body_of, text, whole
from .records import RegisteredModel, Revision, StoredFile, new_id
from .state import STORAGE_PATH, Handlers, PendingFile

_SMALL = 1024 * 1024
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


class UploadHandlers(Handlers):
    """The handlers of uploads in parts."""

    async def create(self, request: Request) -> Response:
        fields = await body_of(request)
        model = self._all.model(text(fields, "objectId"))
        stored = {(file.path, file.hash) for revision in model.revisions for file in revision.files}
        files: list[JSON] = []
        for entry in _entries(fields):
            path, hash, count = text(entry, "path"), text(entry, "hash"), whole(entry, "numParts", 0)
            if not 1 <= count <= 10_000:
                raise Refusal(400, f"numParts of {path} must be 1 to 10000.", param="files")
            if (path, hash) in stored:
                files.append({"path": path, "skipUpload": True})
                continue
            pending = self._pending(model, path, hash, count)
            parts: list[JSON] = [
                {
                    "partNumber": number,
                    "url": str(request.base_url).rstrip("/")
                    + f"{STORAGE_PATH}{pending.id}/{number}?token={pending.token}",
                    "headers": {"x-amz-meta-part": str(number)},
                }
                for number in range(1, count + 1)
            ]
            files.append({"path": path, "uploadId": pending.id, "parts": parts})
        return reply({"files": files})

    def _pending(self, model: RegisteredModel, path: str, hash: str, count: int) -> PendingFile:
        for one in self._all.pending.values():
            if (one.model_id, one.path, one.hash, one.num_parts) == (model.id, path, hash, count):
                return one
        made = PendingFile(new_id("up"), model.id, path, hash, count, secrets.token_urlsafe(16))
        self._all.pending[made.id] = made
        return made

    async def put_part(self, request: Request) -> Response:
        pending = self._all.pending.get(request.path_params["upload_id"])
        token = request.query_params.get("token", "")
        if pending is None or not hmac.compare_digest(token.encode(), pending.token.encode()):
            raise Refusal(403, "The address is not valid, or no longer.", code="access_denied")
        if "authorization" in request.headers:
            raise Refusal(400, "A presigned address takes no other authorization.", code="invalid_argument")
        number: int = request.path_params["number"]
        if not 1 <= number <= pending.num_parts:
            raise Refusal(404, f"There is no part {number}.", code="not_found")
        data = await request.body()
        if len(data) != int(request.headers.get("content-length", len(data))):
            raise Refusal(400, f"Part {number} is not complete.", code="incomplete_body")
        if self._all.dials.corrupt_parts:
            self._all.dials.corrupt_parts -= 1
            data += b"!"
        digest = md5(data, usedforsecurity=False)
        pending.digests[number], pending.sizes[number] = digest.digest(), len(data)
        pending.received += 1
        if pending.num_parts == 1 and len(data) <= _SMALL:
            pending.small = data
        return Response(status_code=200, headers={"ETag": f'"{digest.hexdigest()}"'})

    async def complete(self, request: Request) -> Response:
        fields = await body_of(request)
        model = self._all.model(text(fields, "objectId"))
        earlier = {file.path: file for revision in model.revisions for file in revision.files}
        files: list[StoredFile] = []
        small: dict[str, bytes] = {}
        done: list[str] = []
        for entry in _entries(fields):
            path, hash = text(entry, "path"), text(entry, "hash")
            if entry.get("skipUpload"):
                if path not in earlier or earlier[path].hash != hash:
                    raise Refusal(400, f"{path} with hash {hash} is not stored; upload it.", param="files")
                files.append(earlier[path])
                continue
            pending = self._checked(model, path, hash, entry.get("uploadDetails"))
            files.append(StoredFile(path, hash, sum(pending.sizes.values())))
            small[path] = pending.small
            done.append(pending.id)
        for id in done:
            del self._all.pending[id]
        revision = Revision(new_id("rv"), files, _errors(model, files, small))
        model.revisions.append(revision)
        return reply({"revisionId": revision.id})

    def _checked(self, model: RegisteredModel, path: str, hash: str, details: object) -> PendingFile:
        given = details if isinstance(details, dict) else {}
        pending = self._all.pending.get(str(given.get("uploadId")))
        if pending is None or (pending.model_id, pending.path, pending.hash) != (model.id, path, hash):
            raise Refusal(400, f"There is no upload of {path} with hash {hash}.", param="files")
        listed = [(part.get("partNumber"), part.get("hash")) for part in given.get("parts") or ()]
        expected = [(number, digest.hex()) for number, digest in sorted(pending.digests.items())]
        if listed != expected or len(listed) != pending.num_parts:
            raise Refusal(400, f"The parts of {path} are not those that were uploaded.", param="files")
        digests = [digest for _, digest in sorted(pending.digests.items())]
        whole_hash = (
            digests[0].hex()
            if len(digests) == 1
            else f"{md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"
        )
        if whole_hash != hash:
            raise Refusal(400, f"The hash of {path} is {whole_hash}, not {hash}.", param="files")
        return pending


def _entries(fields: JSONObject) -> list[JSONObject]:
    files = fields.get("files")
    if not isinstance(files, list) or not files:
        raise Refusal(400, "files is required and must not be empty.", param="files")
    return files


def _errors(model: RegisteredModel, files: list[StoredFile], small: dict[str, bytes]) -> list[str]:
    """What is wrong with a revision: an adapter needs its two files, and a rank that is a whole number."""
    if not model.adapter:
        return []
    there = {file.path for file in files}
    errors = [f"{name} is missing." for name in _ADAPTER_FILES if name not in there]
    raw = small.get("adapter_config.json")
    if raw:
        try:
            config = orjson.loads(raw)
        except orjson.JSONDecodeError:
            config = None
        if not isinstance(config, dict) or not isinstance(config.get("r"), int):
            errors.append("adapter_config.json has no rank `r`.")
    return errors
