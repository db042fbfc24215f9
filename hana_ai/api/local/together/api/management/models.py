"""Registered models and adapters, their files and revisions, configs, and remote uploads."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from ...refusal import JSON, Refusal
from ..catalog import page
from ..hardware import PUBLIC_PROJECT
from ..http import reply
from .fields import body_of, conflict, mask_of, name_of, precondition, text
from .records import PROJECT, RegisteredModel, RemoteUpload, Revision, StoredFile, new_id, since
from .state import Handlers

_TYPES = {"model": "model", "models": "model", "adapter": "adapter", "adapters": "adapter"}
_STATUS = "REMOTE_UPLOAD_STATUS_"


class ModelHandlers(Handlers):
    """The handlers of models, configs and remote uploads."""

    async def create_model(self, request: Request) -> Response:
        fields = await body_of(request)
        name, type, base = name_of(fields), text(fields, "type"), text(fields, "baseModelId")
        if type not in _TYPES:
            raise Refusal(400, f"type must be model or adapter, not {type!r}.", param="type")
        self._all.base_of(base)
        if any(model.name == name for model in self._all.models.values()):
            raise conflict(f"Model {name}")
        made = RegisteredModel(new_id("ml"), name, _TYPES[type], base, text(fields, "description", ""))
        self._all.models[made.id] = made
        return reply(made.wire())

    async def list_models(self, request: Request) -> Response:
        return reply(page([model.wire() for model in self._all.models.values()], request.query_params))

    async def get_model(self, request: Request) -> Response:
        id, project = request.path_params["id"], request.path_params["project_id"]
        if id in self._all.base_models and project == PUBLIC_PROJECT:
            return reply(self._public(id))
        return reply(self._all.model(id).wire())

    def _public(self, id: str) -> dict[str, JSON]:
        model = self._all.base_models[id]
        return {
            "id": id,
            "name": model.id,
            "organizationId": "org_public",
            "projectId": PUBLIC_PROJECT,
            "visibility": "VISIBILITY_INTERNAL",
            "weights": {"type": "WEIGHTS_TYPE_DEFAULT", "contextLength": str(model.context_length)},
        }

    async def update_model(self, request: Request) -> Response:
        model = self._all.model(request.path_params["id"])
        fields = await body_of(request)
        for name in mask_of(request, fields):
            if name == "description":
                model.description = text(fields, "description", "")
            elif name == "name":
                model.name = name_of(fields)
            elif name == "visibility":
                model.visibility = text(fields, "visibility")
        model.touch()
        return reply(model.wire())

    async def delete_model(self, request: Request) -> Response:
        model = self._all.model(request.path_params["id"])
        if any(one.model_id == model.id for one in self._all.deployments()):
            raise precondition(f"Model {model.id} is deployed; delete its deployments first.")
        del self._all.models[model.id]
        return reply({})

    async def list_files(self, request: Request) -> Response:
        model = self._all.model(request.path_params["id"])
        self._settle_uploads(model)
        if not model.revisions:
            return reply({"object": "list", "data": [], "next_cursor": None})
        revision = model.revisions[-1]
        data: list[JSON] = [
            {"path": file.path, "hash": file.hash, "sizeBytes": str(file.size)} for file in revision.files
        ]
        return reply(
            {
                "object": "list",
                "data": data,
                "next_cursor": None,
                "revisionId": revision.id,
                "revisionCreatedAt": since(revision.created),
                "totalSizeBytes": str(sum(file.size for file in revision.files)),
            }
        )

    async def list_revisions(self, request: Request) -> Response:
        model = self._all.model(request.path_params["id"])
        self._settle_uploads(model)
        shown: list[dict[str, JSON]] = []
        for revision in reversed(model.revisions):
            errors: list[JSON] = [
                {"message": message, "rule": "files", "severity": "ERROR"} for message in revision.errors
            ]
            status = "FAILED" if revision.errors else "SUCCESS"
            shown.append(
                {
                    "revisionId": revision.id,
                    "createdAt": since(revision.created),
                    "validationStatus": f"REVISION_VALIDATION_STATUS_{status}",
                    "validationErrors": errors,
                }
            )
        return reply(page(shown, request.query_params))

    # --- configs ---

    async def list_configs(self, request: Request) -> Response:
        query = request.query_params
        wanted = query.get("referenceModelId") or query.get("referenceModel", "").rpartition("/models/")[2]
        if wanted in self._all.models:
            wanted = self._all.models[wanted].base_id
        found = [shown for _, base, shown, _ in self._all.configs() if wanted in ("", base)]
        return reply(page(found, query))

    async def get_config(self, request: Request) -> Response:
        for id, _, shown, _ in self._all.configs():
            if id == request.path_params["id"]:
                return reply(shown)
        raise Refusal(404, f"Config {request.path_params['id']} not found.", code="not_found")

    # --- remote uploads ---

    async def create_upload(self, request: Request) -> Response:
        fields = await body_of(request)
        model = self._all.model(text(fields, "modelId"))
        url = text(fields, "remoteUrl")
        parts = urlsplit(url)
        if parts.scheme != "https" and (parts.scheme or url.count("/") != 1):
            raise Refusal(400, f"remoteUrl must be a Hugging Face repository or https, not {url!r}.")
        dials = self._all.dials
        made = RemoteUpload(new_id("ru"), model.id, url, dials.remote_states, dials.remote_message)
        self._all.remote_uploads[made.id] = made
        return reply(self._upload(made))

    async def list_uploads(self, request: Request) -> Response:
        found = [self._upload(one) for one in self._all.remote_uploads.values()]
        return reply(page(found, request.query_params))

    async def get_upload(self, request: Request) -> Response:
        return reply(self._upload(self._remote(request)))

    async def upload_events(self, request: Request) -> Response:
        upload = self._remote(request)
        event: dict[str, JSON] = {
            "id": f"{upload.id}-0",
            "createdAt": since(upload.created),
            "level": "LEVEL_INFO",
            "message": f"Importing {upload.url}",
            "type": "download.started",
        }
        return reply(page([event], request.query_params))

    def _remote(self, request: Request) -> RemoteUpload:
        found = self._all.remote_uploads.get(request.path_params["id"])
        if found is None:
            raise Refusal(404, f"Upload {request.path_params['id']} not found.", code="not_found")
        return found

    def _upload(self, upload: RemoteUpload) -> dict[str, JSON]:
        state = self._settle(upload)
        return {
            "id": upload.id,
            "createdAt": since(upload.created),
            "modelId": upload.model_id,
            "projectId": PROJECT,
            "remoteUrl": upload.url,
            "status": _STATUS + state,
            "statusMessage": upload.message,
            "restartCount": 0,
            "maxRestarts": 3,
        }

    def _settle(self, upload: RemoteUpload) -> str:
        state = upload.state(self._all.dials)
        if state == "SUCCEEDED" and not upload.done:
            upload.done = True
            model = self._all.models.get(upload.model_id)
            if model is not None:
                names = ("adapter_config.json", "adapter_model.safetensors") if model.adapter else ("config.json",)
                files = [StoredFile(name, "0" * 32, 1) for name in names]
                model.revisions.append(Revision(new_id("rv"), files, []))
        return state

    def _settle_uploads(self, model: RegisteredModel) -> None:
        for upload in self._all.remote_uploads.values():
            if upload.model_id == model.id:
                self._settle(upload)
