"""What a dedicated deployment will be and cost: read and checked before anything is created."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from hana_ai.api.addresses.spelling import unknown_keys
from hana_ai.api.connector.account import MODEL_PATH, Account
from hana_ai.api.errors import TogetherAIInputError, TogetherAIModelNotFoundError
from hana_ai.api.langchain.ranges import check_body
from hana_ai.api.wire.schemas import JSONObject

if TYPE_CHECKING:
    from together.types.models import Config

_CONFIG = re.compile(r"projects/([^/]+)/configs/([^/]+)\Z")
_GENERATION = ("max_tokens", "temperature", "top_p")
_LEAST_TIMEOUT, _MOST_TIMEOUT = 30, 1440


@dataclass(frozen=True)
class EndpointConfig:
    """What `endpoint_config` and `deployment_config` may say; unknown keys are refused."""

    type: Literal["dedicated", "serverless"] | None = None
    """``"dedicated"`` allows hardware that is billed by the hour; ``"serverless"`` refuses it."""
    hardware: str | None = None
    """Name of an instance type, such as ``1xnvidia-h100-80gb``; default: the one certified for the model."""
    config: str | None = None
    """Id or resource name of a config, instead of `hardware`."""
    adapter_mode: Literal["dynamic", "fixed", "disabled"] | None = None
    """``"dynamic"`` or ``"fixed"`` makes a multi-LoRA deployment; default: ``"disabled"``."""
    min_replicas: int = 1
    max_replicas: int | None = None
    """Default: `min_replicas`."""
    inactive_timeout: int | None = None
    """Minutes without a request after which it stops, 30 to 1440; 0 is never; default: the API's, never."""
    visibility: Literal["VISIBILITY_PRIVATE", "VISIBILITY_INTERNAL"] | None = None
    """Default: the API's, ``VISIBILITY_PRIVATE``."""
    wait: bool = False
    """Whether to return only once it is ready, and to undo everything if it fails."""
    timeout: float = 3600.0
    """Seconds to wait until it is ready."""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    endpoint_name: str | None = None
    """For adapters: the name of the endpoint; default: the adapter's."""
    attach_to: str | None = None
    """For adapters: id of a running multi-LoRA endpoint or deployment to attach to, instead of merging."""
    force: bool = False
    """For attaching: evict the oldest adapter if there is no room."""

    @classmethod
    def read(cls, config: Mapping[str, object] | None, name: str = "endpoint_config") -> EndpointConfig:
        """Check a configuration.

        Raises
        ------
        TogetherAIInputError
            A key is unknown, or a value is not allowed.
        """
        given: JSONObject = dict(config or {})
        if wrong := unknown_keys(given, [field.name for field in fields(cls)], name):
            raise TogetherAIInputError(wrong)
        made = cls(**given)
        check_body(made.generation)
        if made.type not in (None, "dedicated", "serverless"):
            raise TogetherAIInputError(f'{name}["type"] is "dedicated" or "serverless", not {made.type!r}.')
        if made.adapter_mode not in (None, "dynamic", "fixed", "disabled"):
            raise TogetherAIInputError(
                f'{name}["adapter_mode"] is "dynamic", "fixed" or "disabled", not {made.adapter_mode!r}.'
            )
        if not 1 <= made.min_replicas <= made.most_replicas:
            raise TogetherAIInputError(
                f"{name} needs 1 <= min_replicas <= max_replicas, not {made.min_replicas} and {made.max_replicas}."
            )
        if made.inactive_timeout and not _LEAST_TIMEOUT <= made.inactive_timeout <= _MOST_TIMEOUT:
            raise TogetherAIInputError(
                f'{name}["inactive_timeout"] is 0 or {_LEAST_TIMEOUT} to {_MOST_TIMEOUT} minutes, '
                f"not {made.inactive_timeout}."
            )
        return made

    @property
    def most_replicas(self) -> int:
        """The upper bound of the replicas."""
        return self.min_replicas if self.max_replicas is None else self.max_replicas

    @property
    def generation(self) -> dict[str, object]:
        """Generation defaults."""
        return {name: getattr(self, name) for name in _GENERATION if getattr(self, name) is not None}


@dataclass(frozen=True)
class ModelReference:
    """A model that can be deployed."""

    path: str
    """Resource name ``projects/{project}/models/{id}``, with the revision if one was named."""
    reference: str
    """Id of the model that configs are listed for."""
    name: str
    certified: str | None = None
    """Resource name of the certified config, if the catalogue names one."""

    @property
    def model_id(self) -> str:
        """Id of the model itself."""
        found = MODEL_PATH.match(self.path)
        return found.group(2) if found else self.path


@dataclass(frozen=True)
class Plan:
    """A deployment to be created, with its price."""

    model: ModelReference
    config_path: str
    hardware: str
    price_per_hour: Decimal | None
    """USD for one replica; None when the hardware has no listed price."""
    wanted: EndpointConfig

    @property
    def config_id(self) -> str:
        """Id of the config."""
        return self.config_path.rpartition("/")[2]

    @property
    def price(self) -> str:
        """What it costs, in words."""
        if self.price_per_hour is None:
            return f"an unlisted price per hour on {self.hardware or 'its hardware'}"
        least, most = self.wanted.min_replicas, self.wanted.most_replicas
        low, high = self.price_per_hour * least, self.price_per_hour * most
        span = f"{low:.2f}" if least == most else f"{low:.2f} to {high:.2f}"
        return f"{span} USD per hour on {self.hardware}"

    def require_dedicated(self, key: str, *, adapter: str | None = None) -> None:
        """Refuse to start hardware that is billed by the hour without permission.

        Parameters
        ----------
        key : str
            The argument to set.
        adapter : str, optional
            The name of the adapter that is to be merged into the model, which needs hardware of its own even where
            the model is served serverless.

        Raises
        ------
        TogetherAIInputError
            The configuration does not say ``"type": "dedicated"``; the message has the price, and `key` to set.
        """
        if self.wanted.type != "dedicated":
            why = (
                f"{self.model.name} is not served serverless: it needs a dedicated deployment"
                if adapter is None
                else f"{adapter} merged into {self.model.name} needs a dedicated deployment"
            )
            instead = "" if adapter is None else ' To use a deployment that runs already, pass "attach_to".'
            raise TogetherAIInputError(
                f"{why}, which costs {self.price} as long as it runs. To create it, pass "
                f'{key}={{"type": "dedicated"}}; "inactive_timeout" stops it by itself.{instead}'
            )

    def with_adapter(self, project: str, model_id: str, name: str) -> Plan:
        """The same deployment with an adapter merged into its model."""
        path = f"projects/{project}/models/{model_id}"
        return replace(self, model=ModelReference(path, self.model.reference, name))


async def require_model(
    account: Account, name: str, unknown: str = "Together does not know this model."
) -> ModelReference:
    """Find a model; see `find_model`.

    Raises
    ------
    TogetherAIModelNotFoundError
        There is none of this name; the hint names available ones.
    TogetherAIRequestError
        A list can't be read.
    """
    model = await find_model(account, name)
    if model is None:
        raise await account.catalog.asuggest(TogetherAIModelNotFoundError(unknown, model=name), "chat")
    return model


async def find_model(account: Account, name: str) -> ModelReference | None:
    """Find a model by its catalogue name, id, resource name or its name in this project; None if unknown.

    Raises
    ------
    TogetherAIRequestError
        A list can't be read.
    """
    path = MODEL_PATH.match(name)
    if path is not None or name.startswith("ml_"):
        project, id = (path.group(1), path.group(2)) if path else (account.project_id, name)
        try:
            found = await account.call(lambda sdk: sdk.models.retrieve(id, project_id=project))
        except TogetherAIModelNotFoundError:
            if path is not None:
                return None
        else:
            resource = name if path else f"projects/{project}/models/{id}"
            return ModelReference(resource, found.base_model_id or id, found.name)
    elif account.slug and name.startswith(f"{account.slug}/"):
        return await _own_model(account, name)
    return await _supported_model(account, name)


async def _own_model(account: Account, name: str) -> ModelReference | None:
    project = account.project_id
    for model in await account.pages(lambda sdk, page: sdk.models.list(project_id=project, **page)):
        if model.name == name:
            return ModelReference(f"projects/{project}/models/{model.id}", model.base_model_id or model.id, name)
    return None


async def _supported_model(account: Account, name: str) -> ModelReference | None:
    from together import omit

    search = omit if name.startswith("ml_") else name
    for model in await account.pages(lambda sdk, page: sdk.models.list_supported(search=search, **page)):
        profiles = model.deployment_profiles or []
        named = [profile for profile in profiles if getattr(profile, "api_model_name", None) == name]
        if not named and name not in (model.name, model.id, model.base_model_id):
            continue
        for profile in named or profiles:
            found = MODEL_PATH.match(profile.model or "")
            if found is not None:
                return ModelReference(profile.model, found.group(2), model.name, profile.config or None)
        if model.base_model:
            return ModelReference(model.base_model, model.base_model_id, model.name)
    return None


async def make_plan(account: Account, model: ModelReference, wanted: EndpointConfig) -> Plan:
    """Choose a config and find its price.

    Raises
    ------
    TogetherAIInputError
        No config of the model fits; the message lists the available ones.
    """
    configs = await _configs(account, model)
    chosen = await _choose(account, model, configs, wanted)
    hardware = _hardware(chosen)
    price = None
    for instance in await account.hardware():
        if hardware in (instance.name, instance.id):
            price = Decimal(instance.price_cents_per_hour) / 100
    return Plan(model, f"projects/{chosen.project_id}/configs/{chosen.id}", hardware, price, wanted)


async def _configs(account: Account, model: ModelReference) -> list[Config]:
    project = account.project_id
    return await account.pages(
        lambda sdk, page: sdk.models.configs.list(project_id=project, reference_model_id=model.reference, **page)
    )


async def _choose(
    account: Account, model: ModelReference, configs: list[Config], wanted: EndpointConfig
) -> Config:
    if wanted.config is not None:
        bare = wanted.config.rpartition("/")[2]
        for config in configs:
            if config.id == bare:
                return config
        path = _CONFIG.match(wanted.config)
        project = path.group(1) if path else account.project_id
        return await account.call(lambda sdk: sdk.models.configs.retrieve(bare, project_id=project))
    mode = wanted.adapter_mode or "disabled"
    fitting = [config for config in configs if (_selector(config, "adapter_mode") or "disabled") == mode]
    if wanted.hardware is not None:
        fitting = [config for config in fitting if _hardware(config) == wanted.hardware]
    elif model.certified is not None:
        certified = model.certified.rpartition("/")[2]
        fitting = [config for config in fitting if config.id == certified] or fitting
    if not fitting:
        listed = sorted({f"{_hardware(one)} ({_selector(one, 'adapter_mode') or 'disabled'})" for one in configs})
        raise TogetherAIInputError(
            f"{model.name} has no config for hardware {wanted.hardware or 'of any kind'} "
            f"with adapter_mode {mode}. Available: {', '.join(listed) or 'none'}."
        )
    prices = {one.name: one.price_cents_per_hour for one in await account.hardware()}
    return min(fitting, key=lambda config: prices.get(_hardware(config), float("inf")))


def _selector(config: Config, key: str) -> str:
    values = [selector.value for selector in config.selectors or [] if selector.key == key]
    return (values[0] if values else "").lower().removeprefix("adapter_mode_")


def _hardware(config: Config) -> str:
    """The instance type's name, as the selectors spell it."""
    count, kind = _selector(config, "accelerator_count"), _selector(config, "accelerator_type")
    return f"{count}x{kind}" if count and kind else ""
