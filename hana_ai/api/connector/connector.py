"""`TogetherAIConnector`: deploy models and adapters on Together AI, ask them, and watch what it costs.

It talks to Together's v2 endpoints through the official SDK's asynchronous client. What is billed by the hour is
made only when the configuration says so, and whatever was made half is undone again, or found by the next run.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypedDict

from pydantic import SecretStr

from hana_ai.api.addresses.checks import check_api_key, hide
from hana_ai.api.connector.answers import (
    AvailableModel,
    Inference,
    InferenceChunk,
    ask,
    ask_streaming,
    available_models,
)
from hana_ai.api.connector.billing import UsageStats, usage_stats
from hana_ai.api.connector.deployment_plan import EndpointConfig, ModelReference, Plan, find_model, make_plan
from hana_ai.api.connector.endpoint_records import KEPT, TEMPORARY, EndpointRecord, Orphan
from hana_ai.api.connector.endpoints import Endpoints, to_the_end
from hana_ai.api.errors import (
    TogetherAIAuthenticationError,
    TogetherAIError,
    TogetherAIInputError,
    TogetherAIModelNotFoundError,
    TogetherAISettingsError,
)
from hana_ai.api.settings import TogetherAISettings

if TYPE_CHECKING:
    from hana_ai.api.catalog.catalog import ModelInfo
    from hana_ai.api.connector.account import Account
    from hana_ai.api.connector.uploads import OnProgress, Uploads

logger = logging.getLogger(__name__)

_ALIAS = "alias-"
_BLOCK_TIMEOUT = 30
"""Minutes: an endpoint for a block stops by itself when the program is killed."""


class _Alias(TypedDict):
    id: str
    name: str
    model: str
    generation: dict[str, Any]


class TogetherAIConnector:
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

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self._config = config
        self._connected: Account | None = None
        self._aliases: dict[str, _Alias] = {}
        self._names: dict[str, str] = {}
        self._kept: set[str] = set()

    def __repr__(self) -> str:
        where = self._connected.base_url if self._connected else "not connected"
        return f"TogetherAIConnector({where!r})"

    # --- the connection ---

    async def connect(self, config: Mapping[str, Any]) -> bool:
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
        from hana_ai.api.catalog.preflight import check_defaults
        from hana_ai.api.connector.account import open_account
        from hana_ai.api.service import catalog_of
        from hana_ai.api.together_ai import TogetherAIClient

        config = dict(config)
        hide(config, "api_key")
        key = config.get("api_key")
        if not key:
            raise TogetherAISettingsError("api_key is required")
        if not isinstance(key, SecretStr):
            raise TogetherAISettingsError("Invalid API key")
        given = {
            "together_base_url": config.get("base_url"),
            "together_project_id": config.get("project_id"),
        }
        try:
            secret = SecretStr(
                check_api_key(key.get_secret_value() if hasattr(key, "get_secret_value") else str(key))
            )
        except TogetherAISettingsError as exc:
            raise TogetherAISettingsError("Invalid API key") from exc
        settings = TogetherAISettings(
            together_api_key=secret,
            # A connector is asked for one model, endpoint or deployment, never for another in its place.
            together_fallback="",
            **{name: value for name, value in given.items() if value},
        )
        try:
            account = await open_account(TogetherAIClient(settings), settings.together_project_id)
        except TogetherAIAuthenticationError as exc:
            raise TogetherAISettingsError("Invalid API key") from exc
        await self.disconnect()
        self._connected = account
        check_defaults(settings, catalog_of(settings))
        return True

    async def verify_connection(self) -> bool:
        """Ask Together whether the key is still good; False when it is not, or when not connected."""
        if self._connected is None:
            return False
        try:
            await self._connected.call(lambda sdk: sdk.whoami())
        except TogetherAIError as exc:
            logger.info("the connection is not usable: %s", exc)
            return False
        return True

    async def disconnect(self) -> bool:
        """Forget key and project; says whether there was a connection.

        Nothing of Together's is stopped by it. The sockets are shared with this process's other classes and
        close when idle.
        """
        was_connected = self._connected is not None
        self._connected = None
        self._aliases.clear()
        self._names.clear()
        self._kept.clear()
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
        from hana_ai.api.connector.uploads import Uploads

        return Uploads(self._account)

    # --- endpoints ---

    async def create_endpoint(
        self, model_name: str, endpoint_name: str, endpoint_config: Mapping[str, Any] | None = None
    ) -> str:
        """Give a model an address.

        A model that Together serves serverless gets an alias of this connector, with generation defaults, ready at
        once and without idle cost. Any other model gets a dedicated deployment, billed by the hour, but only where
        `endpoint_config` says so. An earlier run's remains under the same name are taken over.

        Parameters
        ----------
        model_name : str
            Name in the catalogue, name or id of a model of the project, or resource name.
        endpoint_name : str
            Bare name.
        endpoint_config : mapping, optional
            `max_tokens`, `temperature`, `top_p` as defaults of an alias. For a deployment ``"type": "dedicated"``
            and optionally `hardware` or `config`, `min_replicas`, `max_replicas`, `inactive_timeout` (minutes),
            `adapter_mode`, `visibility`, `wait` (until ready; a failure then undoes everything) and `timeout`
            (seconds to wait).

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
            Together does not know the model; the hint names living ones.
        TogetherAIRequestError
            A step failed; the hint says what was made and undone.
        """
        wanted = EndpointConfig.read(endpoint_config)
        _check_name(endpoint_name, "endpoint_name")
        account = self._account
        if wanted.type != "dedicated":
            info = (await self._catalog()).get(model_name)
            if info is not None:
                return self._alias(endpoint_name, info.id, wanted)
        model = await find_model(account, model_name)
        if model is None:
            error = TogetherAIModelNotFoundError("Together does not know this model.", model=model_name)
            raise await account.client.catalog.asuggest(error, "chat")
        plan = await make_plan(account, model, wanted)
        self._require_dedicated(plan, "endpoint_config")
        return (await self._endpoints.create(endpoint_name, plan, KEPT))[0]

    def _alias(self, name: str, model: str, wanted: EndpointConfig) -> str:
        id = _ALIAS + name
        self._aliases[id] = {"id": id, "name": name, "model": model, "generation": wanted.generation}
        return id

    @staticmethod
    def _require_dedicated(plan: Plan, key: str) -> None:
        if plan.wanted.type != "dedicated":
            raise TogetherAIInputError(
                f"{plan.model.name} is not served serverless: it needs a dedicated deployment, which costs "
                f'{plan.price} as long as it runs. To make it, pass {key}={{"type": "dedicated"}}; '
                '"inactive_timeout" stops it by itself.'
            )

    async def get_endpoint_status(self, id: str) -> str:
        """Return ``"creating"``, ``"ready"``, ``"failed"`` or ``"stopped"`` for an endpoint or a deployment.

        An endpoint without a deployment in its traffic split answers nothing, and counts as stopped. The state in
        the server's words is in `list_endpoints`.
        """
        endpoints = self._endpoints
        if id in self._aliases:
            return "ready"
        if id.startswith("dad_"):
            return await self._uploads.attachment_status(id)
        return await endpoints.status(id)

    async def list_endpoints(self) -> list[EndpointRecord]:
        """List the project's dedicated endpoints with what they cost now, and this connector's aliases."""
        account = self._account
        records = await self._endpoints.records() if account.project else []
        for alias in self._aliases.values():
            records.append(
                EndpointRecord(
                    id=alias["id"],
                    name=alias["name"],
                    model=alias["model"],
                    status="ready",
                    url=f"{account.base_url}/v1",
                    type="alias",
                    state="",
                    deployments=[],
                    hardware="",
                    price_per_hour_usd=0.0,
                    created_at="",
                )
            )
        return records

    async def delete_endpoint(self, id: str) -> bool:
        """Take an endpoint, a deployment or an attached adapter away; says whether it was there.

        In the documented order: 0/0 replicas, wait until stopped, out of the traffic split, deployment, endpoint.
        After a failure, call it again: it goes on where it was.
        """
        endpoints = self._endpoints
        self._names.pop(id, None)
        if self._aliases.pop(id, None) is not None:
            return True
        if id.startswith(_ALIAS):
            return False
        if id.startswith("dad_"):
            return await self._uploads.detach(id)
        gone = await endpoints.delete(id)
        self._kept.discard(id)
        return gone

    @asynccontextmanager
    async def endpoint(
        self, model_name: str, endpoint_name: str, endpoint_config: Mapping[str, Any] | None = None
    ) -> AsyncIterator[str]:
        """Have an endpoint for the length of a block; it is ready in it and gone after it, whatever happens.

        Its deployment stops by itself 30 minutes after the last request when the program is killed, unless
        `inactive_timeout` says otherwise, and is then among `orphans`.

        Yields
        ------
        str
            The endpoint's id.
        """
        wanted = replace(EndpointConfig.read(endpoint_config), wait=True)
        if wanted.type != "dedicated":
            id = await self.create_endpoint(model_name, endpoint_name, endpoint_config)
        else:
            if wanted.inactive_timeout is None:
                wanted = replace(wanted, inactive_timeout=_BLOCK_TIMEOUT)
            model = await self._model(model_name)
            plan = await make_plan(self._account, model, wanted)
            id, _ = await self._endpoints.create(endpoint_name, plan, TEMPORARY)
            self._kept.add(id)
        endpoints = self._endpoints
        try:
            yield id
        finally:
            # Not through delete_endpoint: the block may have disconnected, and must still not leave it running.
            self._names.pop(id, None)
            if self._aliases.pop(id, None) is None:
                await to_the_end(endpoints.delete(id))
            self._kept.discard(id)

    async def _model(self, name: str) -> ModelReference:
        model = await find_model(self._account, name)
        if model is None:
            error = TogetherAIModelNotFoundError("Together does not know this model.", model=name)
            raise await self._account.client.catalog.asuggest(error, "chat")
        return model

    async def orphans(self) -> list[Orphan]:
        """List the deployments that cost money unnoticed.

        These are the ones in no traffic split, as a killed `create_endpoint` leaves them, and those of an
        `endpoint` block that is not one of this connector's. `delete_endpoint` takes them away by their id.
        """
        return await self._endpoints.orphans(self._kept)

    # --- adapters ---

    async def upload_artifact(
        self, path: str | Path, metadata: Mapping[str, Any], *, on_progress: OnProgress | None = None
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
            The model's id. Called again after a break, it goes on with the parts that are missing.

        Raises
        ------
        FileNotFoundError
            ``No adapter files found ...``.
        ValueError
            The folder's configuration has no rank, or another base model than the one named.
        TogetherAIError
            The upload failed, in the server's words.
        """
        return await self._uploads.upload(path, metadata, on_progress)

    async def deploy_adapter(
        self,
        adapter_path: str | Path,
        base_model: str,
        adapter_name: str,
        deployment_config: Mapping[str, Any] | None = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> str:
        """Upload an adapter and deploy it.

        By default it is merged into its base model, on hardware of its own that is billed by the hour; this has to
        be allowed by ``"type": "dedicated"``. With ``"attach_to"`` it is attached to a running multi-LoRA
        deployment instead, which costs nothing more.

        Parameters
        ----------
        adapter_path : str or Path
            As in `upload_artifact`, or the id (``ml_...``) of an adapter that is uploaded already.
        base_model : str
            Name in the catalogue.
        adapter_name : str
            Name of the model and, unless `deployment_config` has an `endpoint_name`, of the endpoint.
        deployment_config : mapping, optional
            As `endpoint_config` in `create_endpoint`; and `attach_to`, the id of an endpoint or a deployment, and
            `force`, which evicts the oldest adapter where there is no room.

        Returns
        -------
        str
            The deployment's id; of an attached adapter the attachment's (``dad_...``). Both can be asked by
            `inference`, watched by `get_endpoint_status` and taken away by `delete_endpoint`.

        Raises
        ------
        FileNotFoundError, ValueError
            As in `upload_artifact`; nothing is uploaded when no deployment is allowed.
        TogetherAIRequestError
            A step failed; the hint says what was undone. The uploaded adapter stays: it costs nothing.
        """
        wanted = EndpointConfig.read(deployment_config, "deployment_config")
        uploads = self._uploads
        _check_name(adapter_name, "adapter_name")
        uploaded = str(adapter_path).startswith("ml_")
        if not uploaded:
            await uploads.check(adapter_path, base_model)
        base = await self._model(base_model)
        if wanted.attach_to is not None:
            model_id = await self._adapter_id(adapter_path, base_model, adapter_name, on_progress)
            return await uploads.attach(model_id, wanted)
        # The plan is made for the base, whose configs the adapter takes, so that the price is known first.
        plan = await make_plan(self._account, base, wanted)
        self._require_dedicated(plan, "deployment_config")
        model_id = await self._adapter_id(adapter_path, base_model, adapter_name, on_progress)
        path = f"projects/{self._account.project_id}/models/{model_id}"
        plan = replace(plan, model=ModelReference(path, base.reference, adapter_name))
        name = wanted.endpoint_name or adapter_name
        return (await self._endpoints.create(name, plan, KEPT))[1]

    async def _adapter_id(
        self, path: str | Path, base_model: str, name: str, on_progress: OnProgress | None
    ) -> str:
        if str(path).startswith("ml_"):
            return str(path)
        return await self._uploads.upload(path, {"name": name, "base_model": base_model}, on_progress)

    # --- inference ---

    async def inference(
        self,
        model: str,
        prompt: str | Sequence[Any],
        generation_config: Mapping[str, Any] | None = None,
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
            The one of its subclasses that fits, in the server's words.
        """
        account = self._account
        name, parameters = await self._asked(model, generation_config)
        return await ask(account, name, prompt, parameters)

    async def inference_streaming(
        self,
        model: str,
        prompt: str | Sequence[Any],
        generation_config: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[InferenceChunk, None]:
        """Ask a model and get its answer in parts, as they come; see `inference`.

        Yields
        ------
        InferenceChunk
            The last one has an empty text, the finish reason, the usage, the latency and the cost.
        """
        account = self._account
        name, parameters = await self._asked(model, generation_config)
        stream = ask_streaming(account, name, prompt, parameters)
        try:
            async for chunk in stream:
                yield chunk
        finally:
            await stream.aclose()

    async def _asked(self, model: str, generation_config: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
        """The name to send, and the parameters: those given win over an alias's."""
        given = dict(generation_config or {})
        for reserved in ("model", "messages", "prompt", "stream"):
            if reserved in given:
                raise TogetherAIInputError(f"generation_config must not have {reserved!r}; it is an argument.")
        for alias in self._aliases.values():
            if model in (alias["id"], alias["name"]):
                return alias["model"], {**alias["generation"], **given}
        if not model.startswith(("ep_", "dep_", "dad_")):
            return model, given
        if model not in self._names:
            self._names[model] = await self._name_of(model)
        return self._names[model], given

    async def _name_of(self, id: str) -> str:
        endpoints = self._endpoints
        if id.startswith("ep_"):
            return str((await endpoints.endpoint(id)).name)
        if id.startswith("dad_"):
            return await self._uploads.attachment_name(id)
        return str((await endpoints.deployment(await endpoints.endpoint_of(id), id)).name)

    async def _catalog(self) -> Mapping[str, ModelInfo]:
        return await self._account.client.catalog.amodels()

    # --- models and usage ---

    async def list_available_models(self) -> list[AvailableModel]:
        """List the models that can be asked at once, and those that need an endpoint of your own.

        Raises
        ------
        TogetherAIRequestError
            The catalogue can't be read.
        """
        return await available_models(self._account)

    async def get_usage_stats(
        self,
        start_date: str | date | datetime | None = None,
        end_date: str | date | datetime | None = None,
    ) -> UsageStats:
        """Count calls, tokens and costs from the ledger, with Together's own bill beside it.

        Parameters
        ----------
        start_date, end_date : str, date or datetime, optional
            ISO texts are read; both days are included; times without a zone are UTC. Default: the current month.

        Returns
        -------
        UsageStats
            `total_cost_usd` does not count `unknown_cost_requests`, and is NaN when no cost is known. `billed` is
            what the billing API says about the organisation's same days, or None where it is not enabled; the two
            are never mixed.

        Raises
        ------
        ValueError
            A date can't be read, or the end is before the start.
        """
        return await usage_stats(self._account, start_date, end_date)


def _check_name(name: str, what: str) -> None:
    if not name or "/" in name or any(letter.isspace() for letter in name):
        raise TogetherAIInputError(f"{what} is a bare name without blanks and slashes, not {name!r}.")
