"""Adapters: check a folder, register it, upload it in parts and, on request, attach it to a deployment.

The SDK has no resource for uploads in parts, so these follow its command line (together 3.1,
`lib/cli/api/models/upload.py`): parts of 20 MiB with their MD5 as ETag, and for a file of several parts the MD5 of
their digests. A hidden file in the folder records what has been sent, so that an interrupted upload can resume.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlsplit

import orjson

from hana_ai.api.addresses.spelling import unknown_keys
from hana_ai.api.connector.account import Account
from hana_ai.api.connector.deployment_plan import EndpointConfig, require_model
from hana_ai.api.connector.endpoints import Endpoints
from hana_ai.api.connector.folder_files import folder_files
from hana_ai.api.connector.removal import poll
from hana_ai.api.connector.replies import Camel, Uploaded, UploadPlan
from hana_ai.api.connector.upload_parts import LocalFile, PartSender, UploadProgress, local_files
from hana_ai.api.errors import (
    TogetherAIConflictError,
    TogetherAIError,
    TogetherAIInputError,
    TogetherAIModelNotFoundError,
    TogetherAIStatusError,
)

if TYPE_CHECKING:
    from together.types import Model
    from together.types.endpoints import (
        AdapterCreateResponse,
        AdapterListResponse,
        AdapterRetrieveResponse,
        DeploymentAdapterStatus,
    )
    from together.types.models import RemoteUploadCreateResponse, RemoteUploadListResponse

logger = logging.getLogger(__name__)

_Reply = TypeVar("_Reply", bound=Camel)
OnProgress = Callable[[UploadProgress], None]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_ENDED = ("SUCCEEDED", "FAILED")
"""Final states of an import."""
_STATUSES = {
    "PENDING": "creating",
    "LOADING": "creating",
    "READY": "ready",
    "FAILED": "failed",
    "REMOVING": "stopped",
}


class AdapterFilesNotFoundError(TogetherAIError, FileNotFoundError):
    """The folder holds no adapter; nothing was sent."""

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
    adapter: AdapterListResponse


def is_uploaded(path: str | Path) -> bool:
    """Whether a path is the id of an adapter that Together already has."""
    return str(path).startswith("ml_")


def is_remote(path: str | Path) -> bool:
    """Whether a path is a URL, or a Hugging Face repository rather than a local folder."""
    text = str(path)
    if urlsplit(text).scheme in ("http", "https"):
        return True
    if isinstance(path, Path) or Path(text).exists():
        return False
    return text.count("/") == 1 and not text.startswith((".", "/", "~")) and "\\" not in text


def check_folder(path: str | Path, base_model: str) -> None:
    """Check that a folder holds an adapter for a base model.

    Raises
    ------
    FileNotFoundError
        A file is missing or empty.
    ValueError
        The configuration is not JSON, has no rank, or names another base model; or a link leads out of the folder.
    """
    folder = _folder(path)
    files = {file.path: file for file in folder_files(folder)} if folder.is_dir() else {}
    missing = [name for name in (CONFIG, WEIGHTS) if name not in files or not files[name].size]
    if missing:
        raise AdapterFilesNotFoundError(
            f"No adapter files found in {folder}: {' and '.join(missing)} missing or empty. "
            f"The folder of a LoRA adapter holds {CONFIG} and {WEIGHTS}."
        )
    try:
        with files[CONFIG].open() as stream:
            config = orjson.loads(stream.read())
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


def _folder(path: str | Path) -> Path:
    return Path(path).expanduser()


class Uploads:
    """The adapters of one account."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._endpoints = Endpoints(account)

    async def check(self, path: str | Path, base_model: str) -> None:
        """Check a folder; Together checks a remote source."""
        if not is_remote(path):
            await asyncio.to_thread(check_folder, path, base_model)

    async def ensure(
        self, path: str | Path, metadata: Mapping[str, object], on_progress: OnProgress | None
    ) -> str:
        """The id of an adapter, which is uploaded unless `path` is already an id."""
        return str(path) if is_uploaded(path) else await self.upload(path, metadata, on_progress)

    async def upload(
        self, path: str | Path, metadata: Mapping[str, object], on_progress: OnProgress | None
    ) -> str:
        """Register and upload an adapter; see `TogetherAIConnector.upload_artifact`."""
        name, base_model = _metadata(metadata)
        await self.check(path, base_model)
        model = await self._register(name, base_model, str(metadata.get("description") or ""))
        if is_remote(path):
            await self._import(model.id, str(path), str(metadata.get("token") or ""))
        else:
            await self._send(model.id, _folder(path), on_progress)
        return model.id

    async def _register(self, name: str, base_model: str, description: str) -> Model:
        """Create the model's record, or take an earlier run's."""
        from together import omit

        base = await require_model(self._account, base_model, "Together does not know this base model.")
        project = self._account.project_id
        try:
            return await self._account.call(
                lambda sdk: sdk.models.create(
                    project_id=project,
                    base_model_id=base.reference,
                    name=name,
                    type="adapter",
                    description=description or omit,
                )
            )
        except TogetherAIConflictError:
            found = await self._find(name)
            if found is None or found.base_model_id != base.reference:
                raise
            logger.info("adapter %s is already registered (%s)", name, found.id)
            return found

    async def _find(self, name: str) -> Model | None:
        project = self._account.project_id
        models = await self._account.pages(lambda sdk, page: sdk.models.list(project_id=project, **page))
        return next((model for model in models if model.name.rpartition("/")[2] == name), None)

    # --- a local folder ---

    async def _send(self, model_id: str, folder: Path, on_progress: OnProgress | None) -> None:
        limits = self._account.limits
        files = await asyncio.to_thread(local_files, folder, limits.part_bytes)
        offered = [{"path": file.path, "hash": file.hash, "numParts": len(file.parts)} for file in files]
        plan = await self._post("create", {"objectId": model_id, "files": offered}, UploadPlan)
        by_path = {file.path: file for file in files}
        total = sum(file.size for file in files)
        completed: list[Mapping[str, object]] = []
        async with PartSender(folder, model_id, total, on_progress, limits) as sender:
            for remote in plan.files or []:
                file = by_path.pop(remote.path, None)
                if file is None:
                    raise TogetherAIError(f"Together asks for a file that was not offered: {remote.path!r}.")
                if remote.skip_upload:
                    sender.skip(file)
                    completed.append({"path": file.path, "hash": file.hash, "skipUpload": True})
                else:
                    completed.append(await sender.send(file, remote))
            if by_path:
                raise TogetherAIError(f"Together did not take {', '.join(sorted(by_path))}.")
            answer = await self._post("complete", {"objectId": model_id, "files": completed}, Uploaded)
            sender.forget()
        await self._check_stored(model_id, files, answer.revision_id or "")

    async def _post(self, step: str, body: Mapping[str, object], schema: type[_Reply]) -> _Reply:
        path = f"/v2/projects/{quote(self._account.project_id, safe='')}/models/upload/{step}"
        return await self._account.read(lambda sdk: sdk.post(path, cast_to=object, body=body), schema)

    async def _check_stored(self, model_id: str, files: list[LocalFile], revision: str) -> None:
        """Compare what Together lists with what was sent, and ask whether it accepts the files."""
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

    async def _import(self, model_id: str, url: str, token: str) -> None:
        """Let Together fetch the files, and wait until it has.

        REMOTE_UPLOAD_STATUS_ERROR is not final: the job is restarted up to `max_restarts` times before it is
        FAILED (together 3.1, `types/models/remote_upload_create_response.py`).
        """
        from together import omit

        project, limits = self._account.project_id, self._account.limits
        job: RemoteUploadCreateResponse | RemoteUploadListResponse | None
        job = await self._running_import(model_id, url)
        if job is None:
            job = await self._account.call(
                lambda sdk: sdk.models.remote_uploads.create(
                    project_id=project, model_id=model_id, remote_url=url, token=token or omit
                )
            )
        job_id, state, reason = job.id, "", ""

        async def ended() -> bool:
            nonlocal state, reason
            found = await self._account.call(
                lambda sdk: sdk.models.remote_uploads.retrieve(job_id, project_id=project)
            )
            state, reason = _import_state(found.status), found.status_message or ""
            return state in _ENDED

        if not await poll(ended, limits.import_seconds, limits):
            raise TogetherAIError(
                f"The import of {_shown(url)} is still {state} after {limits.import_seconds:g} s. {reason}"
            )
        if state == "FAILED":
            raise TogetherAIError(f"Together could not import {_shown(url)}: {reason or 'it gave no reason'}")

    async def _running_import(self, model_id: str, url: str) -> RemoteUploadListResponse | None:
        """The job of an earlier run that has not ended yet, if any."""
        project = self._account.project_id
        jobs = await self._account.pages(
            lambda sdk, page: sdk.models.remote_uploads.list(project_id=project, **page)
        )
        for job in jobs:
            if (job.api_model_id, job.remote_url) == (model_id, url) and _import_state(job.status) not in _ENDED:
                return job
        return None

    # --- attached to a deployment ---

    async def attach(self, model_id: str, wanted: EndpointConfig) -> str:
        """Attach an adapter to a multi-LoRA deployment and wait until it is loaded; returns its new id."""
        from together import omit

        endpoint_id, deployment_id = await self._target(str(wanted.attach_to))
        project, limits = self._account.project_id, self._account.limits
        adapter: AdapterCreateResponse | AdapterListResponse | None
        try:
            adapter = await self._account.call(
                lambda sdk: sdk.endpoints.adapters.create(
                    project_id=project,
                    endpoint_id=endpoint_id,
                    deployment_id=deployment_id,
                    adapter_model_id=model_id,
                    force=wanted.force or omit,
                )
            )
        except TogetherAIConflictError:
            # An earlier run has attached it.
            adapters = await self._adapters(endpoint_id, deployment_id)
            adapter = next((one for one in adapters if one.adapter_model_id == model_id), None)
            if adapter is None:
                raise
        id = adapter.id

        async def loaded() -> bool:
            found: AdapterRetrieveResponse = await self._account.call(
                lambda sdk: sdk.endpoints.adapters.retrieve(
                    id, project_id=project, endpoint_id=endpoint_id, deployment_id=deployment_id
                )
            )
            status = _load_status(found.per_cluster)
            if status == "failed":
                reasons = "; ".join(one.adapter_valid_reason or one.message or "" for one in found.per_cluster)
                await self.detach(id)
                raise TogetherAIError(f"The adapter {model_id} could not be loaded and was detached: {reasons}")
            return status == "ready"

        if not await poll(loaded, min(wanted.timeout, limits.load_seconds), limits):
            await self.detach(id)
            raise TogetherAIError(f"The adapter {model_id} was not loaded in time and was detached.")
        return id

    async def _target(self, id: str) -> tuple[str, str]:
        """The ids of the endpoint and the deployment to attach to."""
        if id.startswith("dep_"):
            return await self._endpoints.endpoint_of(id), id
        endpoint = await self._endpoints.endpoint(id)
        if not endpoint.deployments:
            raise TogetherAIInputError(f"Endpoint {id} has no deployment to attach to.")
        best = max(endpoint.deployments, key=lambda one: one.estimated_effective_traffic_share or 0.0)
        return id, best.id

    async def _adapters(self, endpoint_id: str, deployment_id: str) -> list[AdapterListResponse]:
        project = self._account.project_id
        return await self._account.pages(
            lambda sdk, page: sdk.endpoints.adapters.list(endpoint_id, deployment_id, project_id=project, **page)
        )

    async def attached(self, id: str) -> Attached:
        """Where an adapter is attached.

        Raises
        ------
        TogetherAIModelNotFoundError
            It is attached to no deployment.
        """
        for endpoint in await self._endpoints.all():
            for deployment in endpoint.deployments or []:
                try:
                    adapters = await self._adapters(endpoint.id, deployment.id)
                except TogetherAIStatusError as exc:
                    # A deployment that takes no adapters refuses to list them.
                    logger.debug("no adapters on %s: %s", deployment.id, exc)
                    continue
                for adapter in adapters:
                    if adapter.id == id:
                        return Attached(id, endpoint.id, endpoint.name, deployment.id, adapter)
        raise TogetherAIModelNotFoundError(f"Adapter {id} is not attached to any deployment.", status=404)

    async def attachment_status(self, id: str) -> str:
        """The status of an attached adapter."""
        return _load_status((await self.attached(id)).adapter.per_cluster)

    async def attachment_name(self, id: str) -> str:
        """What to use as `model`.

        The form ``endpoint:adapter`` comes from v1; for v2 Together only says that the model field names the
        adapter.
        """
        found = await self.attached(id)
        project = self._account.project_id
        model = await self._account.call(
            lambda sdk: sdk.models.retrieve(found.adapter.adapter_model_id, project_id=project)
        )
        return f"{found.endpoint_name}:{model.name.rpartition('/')[2]}"

    async def detach(self, id: str) -> bool:
        """Detach an adapter from its deployment; False if it is attached to none."""
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


def _metadata(metadata: Mapping[str, object]) -> tuple[str, str]:
    if wrong := unknown_keys(metadata, ("name", "base_model", "description", "token"), "metadata"):
        raise TogetherAIInputError(wrong)
    missing = [name for name in ("name", "base_model") if not metadata.get(name)]
    if missing:
        raise TogetherAIInputError(f"metadata needs {' and '.join(missing)}.")
    return str(metadata["name"]), str(metadata["base_model"])


def _import_state(status: str) -> str:
    return status.removeprefix("REMOTE_UPLOAD_STATUS_")


def _load_status(clusters: Sequence[DeploymentAdapterStatus] | None) -> str:
    """The worst of the clusters' states; an unknown state counts as creating."""
    states = [one.state.removeprefix("ADAPTER_LOAD_STATE_") for one in clusters or []]
    statuses = {_STATUSES.get(state, "creating") for state in states} or {"creating"}
    return next(one for one in ("failed", "creating", "stopped", "ready") if one in statuses)


def _shown(url: str) -> str:
    """A URL without its query: the signature of a presigned one is a secret."""
    return url.partition("?")[0]
