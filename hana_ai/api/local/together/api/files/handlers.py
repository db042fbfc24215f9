"""The routes of files."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from functools import partial
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute

from ...contract import check_form
from ...refusal import JSON, Refusal
from ...requests import decode
from ..http import reply
from ..management import STORAGE_PATH, Management
from ..routes import refusing, routes_of
from .multipart import form_of
from .parts import PartUploads
from .store import PURPOSES, TYPES, DataFile, FileStore

_ADDRESS = STORAGE_PATH + "files/"
_PARTS = STORAGE_PATH + "file-parts/"


def file_routes(store: FileStore, management: Management) -> list[BaseRoute]:
    """The routes over one store; what a test wants refused is refused."""
    handlers = _Handlers(store)

    route = partial(routes_of, refusing(management.check_fault))
    return [
        *route("/v1/files", GET=handlers.list_files, POST=handlers.begin),
        *route("/v1/files/upload", POST=handlers.upload),
        *route("/v1/files/multipart/initiate", POST=handlers.initiate),
        *route("/v1/files/multipart/complete", POST=handlers.complete),
        *route("/v1/files/multipart/abort", POST=handlers.abort),
        *route(_PARTS + "{id}/{number:int}", PUT=handlers.put_part),
        *route("/v1/files/{id}", GET=handlers.get, DELETE=handlers.delete),
        *route("/v1/files/{id}/preprocess", POST=handlers.preprocess),
        *route("/v1/files/{id}/content", GET=handlers.content),
        *route(_ADDRESS + "{id}", PUT=handlers.put),
    ]


class _Handlers:
    """The handlers of files."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._parts = PartUploads(store)

    async def list_files(self, request: Request) -> Response:
        data: list[JSON] = [self._wire(file) for file in self._store.files]
        return reply({"object": "list", "data": data})

    async def begin(self, request: Request) -> Response:
        """Send the client to the presigned address that takes the bytes."""
        form = form_of(request.headers.get("content-type", ""), await request.body())
        checksum = _text(form, "checksum", "")
        file = self._reserved(form, checksum)
        if isinstance(file, Response):
            return file
        address = f"{str(request.base_url).rstrip('/')}{_ADDRESS}{file.id}?token={file.token}"
        return Response(status_code=302, headers={"Location": address, "X-Together-File-Id": file.id})

    async def initiate(self, request: Request) -> Response:
        """Send the client to one presigned address for each part."""
        fields = decode(await request.body())
        names = ("purpose", "file_name", "file_type", "checksum")
        form = {name: str(fields[name]).encode() for name in names if fields.get(name) is not None}
        file = self._reserved(form, _text(form, "checksum", ""))
        if isinstance(file, Response):
            return file
        try:
            upload = self._parts.begin(file, fields.get("file_size"), fields.get("num_parts"))
        except Refusal:
            self._store.delete(file)
            raise
        return reply(self._parts.wire(upload, f"{str(request.base_url).rstrip('/')}{_PARTS}{upload.id}"))

    async def put_part(self, request: Request) -> Response:
        if "authorization" in request.headers:
            raise Refusal(400, "A presigned address takes no other authorization.", code="invalid_argument")
        path = request.path_params
        token = request.query_params.get("token", "")
        etag = await self._parts.put(path["id"], path["number"], token, request.stream())
        return Response(status_code=200, headers={"ETag": f'"{etag}"'})

    async def complete(self, request: Request) -> Response:
        fields = decode(await request.body())
        upload = self._parts.find(fields)
        await asyncio.to_thread(self._parts.complete, upload, fields.get("parts"))
        return await self._taken(upload.file)

    async def abort(self, request: Request) -> Response:
        upload = self._parts.find(decode(await request.body()))
        self._parts.abort(upload)
        self._store.delete(upload.file)
        return reply({})

    async def upload(self, request: Request) -> Response:
        """Take a file that comes in the form itself."""
        form = form_of(request.headers.get("content-type", ""), await request.body())
        check_form("FileForm", form)
        file = self._reserved(form, "")
        assert isinstance(file, DataFile)
        await self._store.write(file, _once(form["file"]))
        return await self._taken(file)

    def _reserved(self, form: dict[str, bytes], checksum: str) -> DataFile | Response:
        purpose, name = _text(form, "purpose"), _text(form, "file_name")
        type = _text(form, "file_type", PurePosixPath(name).suffix.removeprefix("."))
        if purpose not in PURPOSES:
            raise Refusal(400, f"purpose must be one of {', '.join(PURPOSES)}, not {purpose!r}.", param="purpose")
        if type not in TYPES:
            raise Refusal(400, f"file_type must be one of {', '.join(TYPES)}, not {type!r}.", param="file_type")
        if (same := self._store.same(purpose, checksum)) is not None:
            refusal = Refusal(409, f"The file already exists as {same.id}.", code="already_exists")
            # The SDK reads the id beside the error, and would send the same request again without the header.
            return reply({"error": refusal.error(), "file_id": same.id}, 409, {"x-should-retry": "false"})
        return self._store.reserve(name, purpose, type, checksum)

    async def put(self, request: Request) -> Response:
        file = self._store.waiting(request.path_params["id"])
        token = request.query_params.get("token", "")
        if file is None or file.uploaded or not hmac.compare_digest(token.encode(), file.token.encode()):
            raise Refusal(403, "The address is not valid, or no longer.", code="access_denied")
        if "authorization" in request.headers:
            raise Refusal(400, "A presigned address takes no other authorization.", code="invalid_argument")
        await self._store.write(file, request.stream())
        return Response(status_code=200)

    async def preprocess(self, request: Request) -> Response:
        file = self._store.waiting(request.path_params["id"])
        if file is None:
            raise Refusal(404, f"File {request.path_params['id']} not found.", code="not_found")
        return reply(self._wire(file)) if file.uploaded else await self._taken(file)

    async def _taken(self, file: DataFile) -> Response:
        try:
            await asyncio.to_thread(self._store.take, file)
        except Refusal:
            self._store.delete(file)
            raise
        return reply(self._wire(file))

    async def get(self, request: Request) -> Response:
        return reply(self._wire(self._store.find(request.path_params["id"])))

    async def content(self, request: Request) -> Response:
        file = self._store.find(request.path_params["id"])
        return FileResponse(file.path, media_type="application/octet-stream", filename=file.filename)

    async def delete(self, request: Request) -> Response:
        file = self._store.find(request.path_params["id"])
        self._store.delete(file)
        return reply({"id": file.id, "deleted": True})

    def _wire(self, file: DataFile) -> dict[str, JSON]:
        return file.wire(self._store.dials, self._store.clock.now())


def _text(form: dict[str, bytes], name: str, default: str | None = None) -> str:
    raw = form.get(name)
    if raw is None and default is not None:
        return default
    text = (raw or b"").decode("utf-8", "replace").strip()
    if not text and default is None:
        raise Refusal(400, f"{name} is required.", param=name)
    return text


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
