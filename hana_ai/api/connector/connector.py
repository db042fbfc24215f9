"""`TogetherAIConnector`: deploy models and adapters on Together AI, ask them, and watch what they cost.

It talks to Together's v2 endpoints through the official SDK's asynchronous client. Hardware that is billed by the
hour is started only when the configuration says so, and what a failed call leaves half made is undone, or found by
the next run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from hana_ai.api.addresses.checks import hide
from hana_ai.api.catalog.preflight import check_defaults
from hana_ai.api.connector.account import Account, KeptConfig, open_account, read_config
from hana_ai.api.connector.answers import (
    AvailableModel,
    Inference,
    InferenceChunk,
    ask,
    ask_streaming,
    available_models,
)
from hana_ai.api.connector.deployment_plan import EndpointConfig, make_plan, require_model
from hana_ai.api.connector.endpoint_records import KEPT, TEMPORARY, EndpointRecord, Orphan
from hana_ai.api.connector.endpoints import Endpoints
from hana_ai.api.connector.figures import Figures
from hana_ai.api.connector.names import ModelNames
from hana_ai.api.connector.removal import to_the_end
from hana_ai.api.connector.uploads import OnProgress, Uploads, is_uploaded
from hana_ai.api.errors import (
    TogetherAIAuthenticationError,
    TogetherAIError,
    TogetherAIInputError,
    TogetherAISettingsError,
)
from hana_ai.api.together_ai import TogetherAIClient

if TYPE_CHECKING:
    from langchain_core.language_models import LanguageModelInput

logger = logging.getLogger(__name__)

_BLOCK_TIMEOUT = 30
"""Minutes without a request after which a temporary endpoint stops by itself, should the program be killed."""


class TogetherAIConnector(Figures):
    """Endpoints, adapters, inference and usage of one Together AI project.

    Parameters
    ----------
    config : mapping, optional
        What `connect` takes; with it, `async with TogetherAIConnector(config)` connects.

    Examples
    --------
    >>> async with TogetherAIConnector({"api_key": key}) as connector:
    ...     answer = await connector.inference("openai/gpt-oss-120b", "What is a column store?")
    ...     print(answer["text"], f"{answer['cost_usd']:.6f} USD")
    """

    def __init__(self, config: Mapping[str, object] | None = None) -> None:
        self._config = None if config is None else KeptConfig(config)
        self._connected: Account | None = None
        self._names = ModelNames()
        self._in_use: set[str] = set()
        """Ids of this connector's temporary endpoints, which are no orphans."""

    def __repr__(self) -> str:
        where = self._connected.base_url if self._connected else "not connected"
        return f"TogetherAIConnector({where!r})"

    # --- the connection ---

    async def connect(self, config: Mapping[str, object]) -> bool:
        """Connect to a project.

        Parameters
        ----------
        config : mapping
            `api_key`, and optionally `project_id` (default: TOGETHER_PROJECT_ID, else the key's own project) and
            `base_url` (default: TOGETHER_BASE_URL).

        Raises
        ------
        ValueError
            ``api_key is required``, or ``Invalid API key`` when it is refused.
        TogetherAIRequestError
            Together can't be reached, or answers with an error.
        """
        config = dict(config)
        hide(config, "api_key")
        settings = read_config(config)
        try:
            account = await open_account(TogetherAIClient(settings), settings.together_project_id)
        except TogetherAIAuthenticationError as exc:
            raise TogetherAISettingsError("Invalid API key") from exc
        await self.disconnect()
        self._connected = account
        check_defaults(settings, account.catalog)
        return True

    async def verify_connection(self) -> bool:
        """Ask Together whether the key is still valid; False if it is not, or if not connected."""
        if self._connected is None:
            return False
        try:
            await self._connected.call(lambda sdk: sdk.whoami())
        except TogetherAIError as exc:
            logger.info("the connection is not usable: %s", exc)
            return False
        return True

    async def disconnect(self) -> bool:
        """Forget the key and the project; returns whether there was a connection.

        This stops nothing at Together. The sockets are shared with the other classes in this process and close
        when idle.
        """
        was_connected = self._connected is not None
        self._connected = None
        self._names.clear()
        self._in_use.clear()
        return was_connected

    async def __aenter__(self) -> Self:
        if self._config is not None and self._connected is None:
            await self.connect(self._config)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.disconnect()

    @property
    def _account(self) -> Account:
        if self._connected is None:
            raise TogetherAIError('Not connected. Call await connect({"api_key": ...}) first.')
        return self._connected

    @property
    def _endpoints(self) -> Endpoints:
        return Endpoints(self._account)

    @property
    def _uploads(self) -> Uploads:
        return Uploads(self._account)

    # --- endpoints ---

    async def create_endpoint(
        self, model_name: str, endpoint_name: str, endpoint_config: Mapping[str, object] | None = None
    ) -> str:
        """Create an endpoint for a model.

        A model that Together serves serverless gets an alias in this connector, with generation defaults; it is
        ready at once and costs nothing while idle. Any other model gets a dedicated deployment that is billed by
        the hour, but only if `endpoint_config` says so. What an interrupted run left under the same name is taken
        over.

        Parameters
        ----------
        model_name : str
            Name in the catalogue, name or id of a model of the project, or resource name.
        endpoint_name : str
            Without the project's prefix.
        endpoint_config : mapping, optional
            For an alias, the defaults `max_tokens`, `temperature` and `top_p`. For a deployment
            ``"type": "dedicated"`` and optionally `hardware` or `config`, `min_replicas`, `max_replicas`,
            `inactive_timeout` (minutes), `adapter_mode`, `visibility`, `wait` (until ready; a failure then undoes
            everything) and `timeout` (seconds to wait).

        Returns
        -------
        str
            The id, for the other methods.

        Raises
        ------
        TogetherAIInputError
            The model needs a dedicated deployment, and `endpoint_config` does not allow one; the message names
            the price per hour and the key to set.
        TogetherAIModelNotFoundError
            Together does not know the model; the hint names available ones.
        TogetherAIRequestError
            A step failed; the hint says what was created and undone within five minutes, and what was not and
            may still cost money. A cancellation leaves that 30 seconds, and has it as a note.
        """
        wanted = EndpointConfig.read(endpoint_config)
        _check_name(endpoint_name, "endpoint_name")
        account = self._account
        if wanted.type != "dedicated":
            info = (await account.catalog.amodels()).get(model_name)
            if info is not None:
                return self._names.add_alias(endpoint_name, info.id, wanted)
        plan = await make_plan(account, await require_model(account, model_name), wanted)
        plan.require_dedicated("endpoint_config")
        return (await self._endpoints.create(endpoint_name, plan, KEPT))[0]

    async def get_endpoint_status(self, id: str) -> str:
        """Return ``"creating"``, ``"ready"``, ``"failed"`` or ``"stopped"`` for an endpoint or a deployment.

        An endpoint without a deployment in its traffic split answers nothing, and counts as stopped. The server's
        own word for the state is in `list_endpoints`.
        """
        endpoints = self._endpoints
        if self._names.is_alias(id):
            return "ready"
        if id.startswith("dad_"):
            return await self._uploads.attachment_status(id)
        return await endpoints.status(id)

    async def list_endpoints(self) -> list[EndpointRecord]:
        """List the project's dedicated endpoints with their current cost, and this connector's aliases."""
        account = self._account
        records = await self._endpoints.records() if account.project else []
        return [*records, *self._names.aliases(f"{account.base_url}/v1")]

    async def stop_endpoint(self, id: str) -> bool:
        """Scale an endpoint or a deployment to zero replicas, which cost nothing; returns whether it exists.

        It stays, with its name and its share of the traffic, and no request starts it again. Whether it has
        stopped, `get_endpoint_status` says. An alias has nothing to stop.
        """
        if self._names.is_alias(id):
            return True
        return await self._endpoints.stop(id)

    async def delete_endpoint(self, id: str) -> bool:
        """Delete an endpoint, a deployment or an attached adapter; returns whether it existed.

        In the documented order: scale to zero replicas, wait until stopped, take it out of the traffic split,
        delete the deployment, delete the endpoint. After a failure, call this again: it resumes where it stopped.
        """
        endpoints = self._endpoints
        if self._names.forget(id):
            return True
        if self._names.names_alias(id):
            return False
        if id.startswith("dad_"):
            return await self._uploads.detach(id)
        deleted = await endpoints.delete(id)
        self._in_use.discard(id)
        return deleted

    @asynccontextmanager
    async def endpoint(
        self, model_name: str, endpoint_name: str, endpoint_config: Mapping[str, object] | None = None
    ) -> AsyncIterator[str]:
        """Create a temporary endpoint and delete it on exit.

        It is ready inside the block. Should the program be killed, its deployment stops 30 minutes after the last
        request, unless `inactive_timeout` says otherwise, and is then listed by `orphans`. A cancellation leaves
        its deletion 30 seconds; what is not deleted by then is named in a note of the CancelledError.

        Yields
        ------
        str
            The endpoint's id.

        Raises
        ------
        TogetherAIError
            As in `create_endpoint`; or, at the end, it could not be deleted: the message says what may still cost
            money.
        """
        wanted = replace(EndpointConfig.read(endpoint_config), wait=True)
        deployments: list[str] = []
        if wanted.type != "dedicated":
            id = await self.create_endpoint(model_name, endpoint_name, endpoint_config)
        else:
            if wanted.inactive_timeout is None:
                wanted = replace(wanted, inactive_timeout=_BLOCK_TIMEOUT)
            plan = await make_plan(self._account, await require_model(self._account, model_name), wanted)
            id, deployment = await self._endpoints.create(endpoint_name, plan, TEMPORARY)
            deployments.append(deployment)
            self._in_use.add(id)
        endpoints, limits = self._endpoints, self._account.limits
        cancelled: asyncio.CancelledError | None = None
        try:
            yield id
        except asyncio.CancelledError as exc:
            cancelled = exc
            raise
        finally:
            # Not through delete_endpoint: even if the block has disconnected, nothing must be left running.
            if not self._names.forget(id):
                seconds = None if cancelled is None else limits.grace_seconds
                try:
                    await to_the_end(endpoints.leave(id, deployments, seconds), limits.grace_seconds)
                except TogetherAIError as exc:
                    if cancelled is None:
                        raise
                    cancelled.add_note(str(exc))
                    logger.warning("%s", exc)
            self._in_use.discard(id)

    async def orphans(self) -> list[Orphan]:
        """List the deployments that cost money unnoticed.

        Those are deployments outside any traffic split, as a killed `create_endpoint` leaves them, and temporary
        ones that this connector does not use. Delete them with `delete_endpoint` and their id.
        """
        return await self._endpoints.orphans(self._in_use)

    # --- adapters ---

    async def upload_artifact(
        self, path: str | Path, metadata: Mapping[str, object], *, on_progress: OnProgress | None = None
    ) -> str:
        """Register an adapter and upload its files.

        Parameters
        ----------
        path : str or Path
            A local folder, a Hugging Face repository (``org/name``), or a presigned https address of a zip or
            tar.gz archive.
        metadata : mapping
            `name`, `base_model`, and optionally `description` and `token` (for a private repository).
        on_progress : callable, optional
            Called with an `UploadProgress` after each part.

        Returns
        -------
        str
            The model's id. Called again after an interruption, it sends only the missing parts.

        Raises
        ------
        FileNotFoundError
            ``No adapter files found ...``.
        ValueError
            The folder's configuration has no rank, or names another base model.
        TogetherAIError
            The upload failed, in the server's words.
        """
        return await self._uploads.upload(path, metadata, on_progress)

    async def deploy_adapter(
        self,
        adapter_path: str | Path,
        base_model: str,
        adapter_name: str,
        deployment_config: Mapping[str, object] | None = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> str:
        """Upload an adapter and deploy it.

        By default it is merged into its base model, on hardware of its own that is billed by the hour, which
        ``"type": "dedicated"`` must allow. With ``"attach_to"`` it is attached to a running multi-LoRA deployment
        instead, at no extra cost.

        Parameters
        ----------
        adapter_path : str or Path
            As in `upload_artifact`, or the id (``ml_...``) of an uploaded adapter.
        base_model : str
            Name in the catalogue.
        adapter_name : str
            Name of the model and, unless `deployment_config` has an `endpoint_name`, of the endpoint.
        deployment_config : mapping, optional
            As `endpoint_config` in `create_endpoint`, plus `attach_to`, the id of an endpoint or a deployment, and
            `force`, which evicts the oldest adapter if there is no room.

        Returns
        -------
        str
            The deployment's id, or an attached adapter's (``dad_...``). `inference`, `get_endpoint_status` and
            `delete_endpoint` take both.

        Raises
        ------
        FileNotFoundError, ValueError
            As in `upload_artifact`; nothing is uploaded unless a deployment is allowed.
        TogetherAIRequestError
            A step failed; the hint says what was undone. The uploaded adapter stays, since it costs nothing.
        """
        wanted = EndpointConfig.read(deployment_config, "deployment_config")
        uploads = self._uploads
        _check_name(adapter_name, "adapter_name")
        if not is_uploaded(adapter_path):
            await uploads.check(adapter_path, base_model)
        base = await require_model(self._account, base_model)
        metadata = {"name": adapter_name, "base_model": base_model}
        if wanted.attach_to is not None:
            return await uploads.attach(await uploads.ensure(adapter_path, metadata, on_progress), wanted)
        # The plan is made for the base, whose configs the adapter takes, so that the price is known first.
        plan = await make_plan(self._account, base, wanted)
        plan.require_dedicated("deployment_config", adapter=adapter_name)
        model_id = await uploads.ensure(adapter_path, metadata, on_progress)
        plan = plan.with_adapter(self._account.project_id, model_id, adapter_name)
        name = wanted.endpoint_name or adapter_name
        return (await self._endpoints.create(name, plan, KEPT))[1]

    # --- inference ---

    async def inference(
        self,
        model: str,
        prompt: LanguageModelInput,
        generation_config: Mapping[str, object] | None = None,
    ) -> Inference:
        """Ask a model.

        Parameters
        ----------
        model : str
            A model's name, or the id of an endpoint, a deployment or an attached adapter.
        prompt : str or sequence
            A text, or messages as `ChatTogetherAI.invoke` takes them.
        generation_config : mapping, optional
            Parameters of the request, such as `max_tokens`, `temperature`, `top_p` and `stop`.

        Raises
        ------
        TogetherAIRequestError
            The request failed; has the server's own message.
        """
        account = self._account
        name, parameters = await self._names.resolve(account, model, generation_config)
        return await ask(account, name, prompt, parameters)

    async def inference_streaming(
        self,
        model: str,
        prompt: LanguageModelInput,
        generation_config: Mapping[str, object] | None = None,
    ) -> AsyncGenerator[InferenceChunk, None]:
        """Ask a model and stream its answer; see `inference`.

        Yields
        ------
        InferenceChunk
            The last one has an empty text, the finish reason, the usage, the latency and the cost.
        """
        account = self._account
        name, parameters = await self._names.resolve(account, model, generation_config)
        async with aclosing(ask_streaming(account, name, prompt, parameters)) as stream:
            async for chunk in stream:
                yield chunk

    # --- models ---

    async def list_available_models(self) -> list[AvailableModel]:
        """List the models that can be asked right away, and those that need an endpoint of your own.

        Raises
        ------
        TogetherAIRequestError
            The catalogue can't be read.
        """
        return await available_models(self._account)


def _check_name(name: str, what: str) -> None:
    if not name or "/" in name or any(letter.isspace() for letter in name):
        raise TogetherAIInputError(f"{what} must be a name without spaces or slashes, not {name!r}.")
