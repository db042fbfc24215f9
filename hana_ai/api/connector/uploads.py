"""Adapters: a folder is checked, registered, uploaded in parts and, on request, attached to a deployment.

Uploads in parts follow the SDK's own command line (together 3.1, `lib/cli/api/models/upload.py`), since the SDK
has no resource for them: parts of 20 MiB, their MD5 as ETag, and for a file of several parts the MD5 of their
digests. What is done is noted in a hidden file in the folder, so that an upload that broke goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import orjson

from hana_ai.api.connector.account import Account
from hana_ai.api.connector.deployment_plan import EndpointConfig, find_model
from hana_ai.api.connector.endpoints import Endpoints, poll
from hana_ai.api.connector.upload_parts import LocalFile, PartSender, UploadProgress, local_files
from hana_ai.api.errors import (
    TogetherAIConflictError,
    TogetherAIError,
    TogetherAIInputError,
    TogetherAIModelNotFoundError,
)

if TYPE_CHECKING:
    from together.types import Model

logger = logging.getLogger(__name__)

OnProgress = Callable[[UploadProgress], None]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_REMOTE_SECONDS = 6 * 3600.0
_LOAD_SECONDS = 1800.0
_STATUSES = {
    "PENDING": "creating",
    "LOADING": "creating",
    "READY": "ready",
    "FAILED": "failed",
    "REMOVING": "stopped",
}


class AdapterFilesNotFoundError(TogetherAIError, FileNotFoundError):
    """The folder is not one of an adapter; nothing was sent."""

    def __str__(self) -> str:
        # FileNotFoundError would write its arguments as an errno.
        return str(self.args[0])


@dataclass(frozen=True)
class Attached:
    """Where an adapter is attached."""

    id: str
    endpoint_id: str
    endpoint_name: str
    deployment_id: str
    adapter: Any


def is_remote(path: str | Path) -> bool:
    """Whether a path is an address, or a Hugging Face name that is no local folder."""
    text = str(path)
    if urlsplit(text).scheme in ("http", "https"):
        return True
    if isinstance(path, Path) or Path(text).exists():
        return False
    return text.count("/") == 1 and not text.startswith((".", "/", "~")) and "\\" not in text


def check_folder(path: str | Path, base_model: str) -> dict[str, Any]:
    """Check that a folder holds an adapter for a base model; returns its configuration.

    Raises
    ------
    FileNotFoundError
        A file is missing or empty.
    ValueError
        The configuration is no JSON, has no rank, or names another base model.
    """
    folder = _folder(path)
    missing = [name for name in (CONFIG, WEIGHTS) if not _filled(folder / name)]
    if missing:
        raise AdapterFilesNotFoundError(
            f"No adapter files found in {folder}: {' and '.join(missing)} missing or empty. "
            f"A LoRA adapter has {CONFIG} and {WEIGHTS} in its folder."
        )
    try:
        config = orjson.loads((folder / CONFIG).read_bytes())
    except orjson.JSONDecodeError as exc:
        raise TogetherAIInputError(f"{folder / CONFIG} is not JSON: {exc}.") from exc
    rank = config.get("r") if isinstance(config, dict) else None
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise TogetherAIInputError(f"{folder / CONFIG} has no rank: `r` must be a whole number, not {rank!r}.")
    named = config.get("base_model_name_or_path")
    if named != base_model:
        raise TogetherAIInputError(
            f"The adapter in {folder} was trained on {named!r}, not on base_model={base_model!r}."
        )
    return dict(config)


def _folder(path: str | Path) -> Path:
    return Path(path).expanduser()


def _filled(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


class Uploads:
    """The adapters of one account."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._endpoints = Endpoints(account)

    async def check(self, path: str | Path, base_model: str) -> None:
        """Check a folder; a remote source is checked by Together."""
        if not is_remote(path):
            await asyncio.to_thread(check_folder, path, base_model)

    async def upload(self, path: str | Path, metadata: Mapping[str, Any], on_progress: OnProgress | None) -> str:
        """Register and upload an adapter; see `TogetherAIConnector.upload_artifact`."""
        name, base_model = _metadata(metadata)
        await self.check(path, base_model)
        model = await self._register(name, base_model, str(metadata.get("description") or ""))
        if is_remote(path):
            await self._import(model.id, str(path), metadata.get("token"))
        else:
            await self._send(model.id, _folder(path), on_progress)
        return str(model.id)

    async def _register(self, name: str, base_model: str, description: str) -> Model:
        """Make the model's record, or take an earlier run's."""
        base = await find_model(self._account, base_model)
        if base is None:
            error = TogetherAIModelNotFoundError("Together does not know this base model.", model=base_model)
            raise await self._account.client.catalog.asuggest(error, "chat")
        project = self._account.project_id
        more: dict[str, Any] = {"description": description} if description else {}
        try:
            return await self._account.call(
                lambda sdk: sdk.models.create(
                    project_id=project, base_model_id=base.reference, name=name, type="adapter", **more
                )
            )
        except TogetherAIConflictError:
            found = await self._find(name)
            if found is None or found.base_model_id != base.reference:
                raise
            logger.info("adapter %s is registered already (%s)", name, found.id)
            return found

    async def _find(self, name: str) -> Model | None:
        project = self._account.project_id
        models = await self._account.pages(lambda sdk, page: sdk.models.list(project_id=project, **page))
        return next((model for model in models if model.name.rpartition("/")[2] == name), None)

    # --- a local folder ---

    async def _send(self, model_id: str, folder: Path, on_progress: OnProgress | None) -> None:
        files = await asyncio.to_thread(local_files, folder)
        plan = await self._post(
            "create",
            {
                "objectId": model_id,
                "files": [{"path": file.path, "hash": file.hash, "numParts": len(file.parts)} for file in files],
            },
        )
        by_path = {file.path: file for file in files}
        total = sum(file.size for file in files)
        completed: list[dict[str, Any]] = []
        async with PartSender(folder, model_id, total, on_progress) as sender:
            for remote in plan.get("files") or []:
                file = by_path.pop(str(remote.get("path")), None)
                if file is None:
                    raise TogetherAIError(
                        f"Together asks for a file that was not offered: {remote.get('path')!r}."
                    )
                if remote.get("skipUpload"):
                    sender.skip(file)
                    completed.append({"path": file.path, "hash": file.hash, "skipUpload": True})
                else:
                    completed.append(await sender.send(file, remote))
            if by_path:
                raise TogetherAIError(f"Together did not take {', '.join(sorted(by_path))}.")
            answer = await self._post("complete", {"objectId": model_id, "files": completed})
            sender.forget()
        await self._check_stored(model_id, files, str(answer.get("revisionId") or ""))

    async def _post(self, step: str, body: Mapping[str, Any]) -> dict[str, Any]:
        path = f"/v2/projects/{quote(self._account.project_id, safe='')}/models/upload/{step}"
        answer = await self._account.call(lambda sdk: sdk.post(path, cast_to=object, body=body))
        return dict(answer) if isinstance(answer, Mapping) else {}

    async def _check_stored(self, model_id: str, files: list[LocalFile], revision: str) -> None:
        """Compare what Together lists with what was sent, and let it say whether it takes it."""
        project = self._account.project_id
        listed = await self._account.call(lambda sdk: sdk.models.list_files(model_id, project_id=project))
        stored = {file.path: file.hash for file in listed.data or []}
        wrong = [file.path for file in files if stored.get(file.path, file.hash) != file.hash]
        if wrong:
            raise TogetherAIError(f"Together stored {', '.join(wrong)} with another checksum than was sent.")
        revisions = await self._account.call(lambda sdk: sdk.models.list_revisions(model_id, project_id=project))
        for one in revisions.data or []:
            if one.revision_id == revision and str(one.validation_status).endswith("_FAILED"):
                words = "; ".join(error.message or "" for error in one.validation_errors or [])
                raise TogetherAIError(f"Together refuses the files of {model_id}: {words}")

    # --- from elsewhere ---

    async def _import(self, model_id: str, url: str, token: str | None) -> None:
        """Let Together fetch the files, and wait until it has.

        REMOTE_UPLOAD_STATUS_ERROR is not final: the job is started again up to `max_restarts` times before it is
        FAILED (together 3.1, `types/models/remote_upload_create_response.py`).
        """
        project = self._account.project_id
        more: dict[str, Any] = {"token": token} if token else {}
        job: Any = await self._running_import(model_id, url)
        if job is None:
            job = await self._account.call(
                lambda sdk: sdk.models.remote_uploads.create(
                    project_id=project, model_id=model_id, remote_url=url, **more
                )
            )
        state, words = "", ""

        async def ended() -> bool:
            nonlocal state, words
            now = await self._account.call(
                lambda sdk: sdk.models.remote_uploads.retrieve(job.id, project_id=project)
            )
            state, words = str(now.status).removeprefix("REMOTE_UPLOAD_STATUS_"), now.status_message or ""
            return state in ("SUCCEEDED", "FAILED")

        if not await poll(ended, _REMOTE_SECONDS):
            raise TogetherAIError(
                f"The import of {_shown(url)} is still {state} after {_REMOTE_SECONDS:g} s. {words}"
            )
        if state == "FAILED":
            raise TogetherAIError(f"Together could not import {_shown(url)}: {words or 'it gave no reason'}")

    async def _running_import(self, model_id: str, url: str) -> Any:
        """The job of an earlier run that has not ended yet; None without one."""
        project = self._account.project_id
        jobs = await self._account.pages(
            lambda sdk, page: sdk.models.remote_uploads.list(project_id=project, **page)
        )
        for job in jobs:
            state = str(job.status).removeprefix("REMOTE_UPLOAD_STATUS_")
            if (job.api_model_id, job.remote_url) == (model_id, url) and state not in ("SUCCEEDED", "FAILED"):
                return job
        return None

    # --- attached to a deployment ---

    async def attach(self, model_id: str, wanted: EndpointConfig) -> str:
        """Attach an adapter to a multi-LoRA deployment and wait until it is loaded; gives the attachment's id."""
        endpoint_id, deployment_id = await self._target(str(wanted.attach_to))
        project = self._account.project_id
        more: dict[str, Any] = {"force": True} if wanted.force else {}
        try:
            adapter: Any = await self._account.call(
                lambda sdk: sdk.endpoints.adapters.create(
                    project_id=project,
                    endpoint_id=endpoint_id,
                    deployment_id=deployment_id,
                    adapter_model_id=model_id,
                    **more,
                )
            )
        except TogetherAIConflictError:
            # An earlier run has attached it.
            adapters = await self._adapters(endpoint_id, deployment_id)
            adapter = next((one for one in adapters if one.adapter_model_id == model_id), None)
            if adapter is None:
                raise

        async def loaded() -> bool:
            now = await self._account.call(
                lambda sdk: sdk.endpoints.adapters.retrieve(
                    adapter.id, project_id=project, endpoint_id=endpoint_id, deployment_id=deployment_id
                )
            )
            if _load_status(now) == "failed":
                words = "; ".join(one.adapter_valid_reason or one.message or "" for one in now.per_cluster)
                await self.detach(adapter.id)
                raise TogetherAIError(f"The adapter {model_id} could not be loaded and was detached: {words}")
            return _load_status(now) == "ready"

        if not await poll(loaded, min(wanted.timeout, _LOAD_SECONDS)):
            await self.detach(adapter.id)
            raise TogetherAIError(f"The adapter {model_id} was not loaded in time and was detached.")
        return str(adapter.id)

    async def _target(self, id: str) -> tuple[str, str]:
        """Ids of endpoint and deployment."""
        if id.startswith("dep_"):
            return await self._endpoints.endpoint_of(id), id
        endpoint = await self._endpoints.endpoint(id)
        if not endpoint.deployments:
            raise TogetherAIInputError(f"Endpoint {id} has no deployment to attach to.")
        best = max(endpoint.deployments, key=lambda one: one.estimated_effective_traffic_share or 0.0)
        return id, best.id

    async def _adapters(self, endpoint_id: str, deployment_id: str) -> list[Any]:
        project = self._account.project_id
        return await self._account.pages(
            lambda sdk, page: sdk.endpoints.adapters.list(endpoint_id, deployment_id, project_id=project, **page)
        )

    async def attached(self, id: str) -> Attached:
        """Where an attachment is; TogetherAIModelNotFoundError when it is nowhere."""
        for endpoint in await self._endpoints.all():
            for deployment in endpoint.deployments or []:
                try:
                    adapters = await self._adapters(endpoint.id, deployment.id)
                except TogetherAIError as exc:
                    # A deployment that takes no adapters refuses the list.
                    logger.debug("no adapters on %s: %s", deployment.id, exc)
                    continue
                for adapter in adapters:
                    if adapter.id == id:
                        return Attached(id, endpoint.id, endpoint.name, deployment.id, adapter)
        raise TogetherAIModelNotFoundError(f"Adapter {id} is not attached to any deployment.", status=404)

    async def attachment_status(self, id: str) -> str:
        """The status of an attached adapter."""
        return _load_status((await self.attached(id)).adapter)

    async def attachment_name(self, id: str) -> str:
        """What to use as `model`.

        The form ``endpoint:adapter`` is that of v1; for v2 Together says only that the model field names the
        adapter.
        """
        found = await self.attached(id)
        project = self._account.project_id
        model = await self._account.call(
            lambda sdk: sdk.models.retrieve(found.adapter.adapter_model_id, project_id=project)
        )
        return f"{found.endpoint_name}:{model.name.rpartition('/')[2]}"

    async def detach(self, id: str) -> bool:
        """Take an adapter off its deployment; False when it is on none."""
        try:
            found = await self.attached(id)
        except TogetherAIModelNotFoundError:
            return False
        project = self._account.project_id
        await self._account.call(
            lambda sdk: sdk.endpoints.adapters.delete(
                id,
                project_id=project,
                endpoint_id=found.endpoint_id,
                deployment_id=found.deployment_id,
                etag=found.adapter.etag,
            )
        )
        return True


def _metadata(metadata: Mapping[str, Any]) -> tuple[str, str]:
    missing = [name for name in ("name", "base_model") if not metadata.get(name)]
    if missing:
        raise TogetherAIInputError(f"metadata needs {' and '.join(missing)}.")
    return str(metadata["name"]), str(metadata["base_model"])


def _load_status(adapter: Any) -> str:
    """The worst of the clusters' states; an unknown one counts as on its way."""
    states = [str(one.state).removeprefix("ADAPTER_LOAD_STATE_") for one in adapter.per_cluster or []]
    statuses = {_STATUSES.get(state, "creating") for state in states} or {"creating"}
    return next(one for one in ("failed", "creating", "stopped", "ready") if one in statuses)


def _shown(url: str) -> str:
    """An address without its query: the signature of a presigned one is a secret."""
    return url.partition("?")[0]
