"""What `model` may be: a model's name, an alias, or the id of an endpoint, a deployment or an attached adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hana_ai.api.connector.account import Account
from hana_ai.api.connector.deployment_plan import EndpointConfig
from hana_ai.api.connector.endpoint_records import EndpointRecord
from hana_ai.api.connector.endpoints import Endpoints
from hana_ai.api.connector.uploads import Uploads
from hana_ai.api.errors import TogetherAIInputError

_ALIAS = "alias-"
_IDS = ("ep_", "dep_", "dad_")
_RESERVED = ("model", "messages", "prompt", "stream")


@dataclass(frozen=True)
class _Alias:
    id: str
    name: str
    model: str
    generation: Mapping[str, object]


class ModelNames:
    """A connector's aliases, and the names behind the ids that it was asked for."""

    def __init__(self) -> None:
        self._aliases: dict[str, _Alias] = {}
        self._names: dict[str, str] = {}

    def add_alias(self, name: str, model: str, wanted: EndpointConfig) -> str:
        """Give a serverless model another name with generation defaults; returns the alias's id."""
        id = _ALIAS + name
        self._aliases[id] = _Alias(id, name, model, wanted.generation)
        return id

    def is_alias(self, id: str) -> bool:
        """Whether there is such an alias."""
        return id in self._aliases

    @staticmethod
    def names_alias(id: str) -> bool:
        """Whether an id is one of an alias, whether or not that exists."""
        return id.startswith(_ALIAS)

    def aliases(self, url: str) -> Iterator[EndpointRecord]:
        """The aliases, as `list_endpoints` gives them."""
        for alias in self._aliases.values():
            yield EndpointRecord(
                id=alias.id,
                name=alias.name,
                model=alias.model,
                status="ready",
                url=url,
                type="alias",
                state="",
                deployments=[],
                hardware="",
                price_per_hour_usd=0.0,
                created_at="",
            )

    def forget(self, id: str) -> bool:
        """Forget an id; returns whether it was an alias."""
        self._names.pop(id, None)
        return self._aliases.pop(id, None) is not None

    def clear(self) -> None:
        """Forget everything."""
        self._aliases.clear()
        self._names.clear()

    async def resolve(
        self, account: Account, model: str, generation_config: Mapping[str, object] | None
    ) -> tuple[str, dict[str, object]]:
        """The name to send, and the parameters: those given override an alias's.

        Raises
        ------
        TogetherAIInputError
            `generation_config` has a key that is an argument of its own.
        TogetherAIRequestError
            The name behind an id can't be read.
        """
        given = dict(generation_config or {})
        for reserved in _RESERVED:
            if reserved in given:
                raise TogetherAIInputError(f"generation_config must not have {reserved!r}; it is an argument.")
        for alias in self._aliases.values():
            if model in (alias.id, alias.name):
                return alias.model, {**alias.generation, **given}
        if not model.startswith(_IDS):
            return model, given
        if model not in self._names:
            self._names[model] = await _name_of(account, model)
        return self._names[model], given


async def _name_of(account: Account, id: str) -> str:
    endpoints = Endpoints(account)
    if id.startswith("ep_"):
        return (await endpoints.endpoint(id)).name
    if id.startswith("dad_"):
        return await Uploads(account).attachment_name(id)
    return (await endpoints.deployment(await endpoints.endpoint_of(id), id)).name
