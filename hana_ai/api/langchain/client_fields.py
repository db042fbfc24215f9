"""What every LangChain class here has in common: where Together is, the key, deadlines and retries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar

from pydantic import (
    AliasChoices,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from hana_ai.api.addresses.checks import check_api_key, check_base_url, hide
from hana_ai.api.addresses.targets import FallbackTarget, targets_of
from hana_ai.api.errors import TogetherAISettingsError
from hana_ai.api.langchain.arguments import sort_out
from hana_ai.api.langchain.habits import Habits
from hana_ai.api.transport.call import Call, OnRetry
from hana_ai.api.usage.key import IN_MEMORY, UsageKey, usage_key
from hana_ai.api.usage.tags import own_tags

if TYPE_CHECKING:
    from hana_ai.api.catalog.catalog import Catalog
    from hana_ai.api.settings import TogetherAISettings
    from hana_ai.api.transport.call import Reply
    from hana_ai.api.transport.transport import Transport
    from hana_ai.api.wire.schemas import JSONObject

Kind = Literal["chat", "language", "embedding", "rerank"]

_Result = TypeVar("_Result")
ReadReply = Callable[["JSONObject", "Reply"], _Result]
"""Takes a body and the reply to it."""


class ClientFields(Habits):
    """Fields that default to the settings and can be assigned at any time.

    Raises
    ------
    TogetherAISettingsError
        There is no key, a setting or a field has a value that is not allowed, or there is no such field, but one
        with a name that is close.
    """

    # Inputs are hidden, since the key can be among them.
    # Built are the classes below, of which there are objects.
    model_config = ConfigDict(
        populate_by_name=True, arbitrary_types_allowed=True, hide_input_in_errors=True, defer_build=True
    )

    kind: ClassVar[Kind]
    """Kind of model, as the catalogue calls it."""
    path: ClassVar[str]
    """Where requests are sent, below the address."""
    request_fields: ClassVar[frozenset[str]] = frozenset({"model"})
    """The names that a request has for what is no field here, or another one."""

    model: str | None = Field(default=None, validation_alias=AliasChoices("model", "model_name"))
    """Name of a model, or of an endpoint of your own. Default: the environment variable for this kind of model,
    else an available model from the catalogue, chosen at the first call."""
    api_key: SecretStr | None = Field(default=None, validation_alias=AliasChoices("api_key", "together_api_key"))
    """Default: TOGETHER_API_KEY. Not needed for an address on this machine."""
    base_url: str | None = Field(
        default=None, validation_alias=AliasChoices("base_url", "together_api_base", "together_base_url")
    )
    """Address, with or without `/v1`. Default: TOGETHER_BASE_URL."""
    timeout: float | None = Field(default=None, gt=0, validation_alias=AliasChoices("timeout", "request_timeout"))
    """Seconds for a call with its retries; for a stream, until its first chunk. Default: TOGETHER_TIMEOUT."""
    connect_timeout: float | None = Field(default=None, gt=0)
    """Seconds for connecting. Default: TOGETHER_CONNECT_TIMEOUT."""
    stream_idle_timeout: float | None = Field(default=None, gt=0)
    """Seconds between two chunks of a stream. Default: TOGETHER_STREAM_IDLE_TIMEOUT."""
    max_retries: int | None = Field(default=None, ge=0)
    """Retries after the first try. Default: TOGETHER_MAX_RETRIES."""
    max_concurrency: int | None = Field(default=None, ge=1)
    """At most this many requests at a time, of all that share address and key. Default:
    TOGETHER_MAX_CONCURRENCY."""
    fallback: list[str | FallbackTarget] | None = None
    """Where else to ask when the model does not answer: models, `base_url#model`, or `FallbackTarget`s, in this
    order; a comma list will do. An embedding or rerank model takes only other addresses of itself. ``[]`` is none.
    Default: TOGETHER_FALLBACK."""
    on_retry: OnRetry | None = Field(default=None, exclude=True)
    """Called with a `RetryEvent` before each further try."""

    _usage: UsageKey = PrivateAttr(default=IN_MEMORY)
    _settings_fallback: tuple[FallbackTarget, ...] = PrivateAttr(default=())
    _fallback_key: SecretStr | None = PrivateAttr(default=None)
    _targets: tuple[object, tuple[FallbackTarget, ...]] = PrivateAttr(default=(None, ()))
    _on_choice: Callable[[str], None] | None = PrivateAttr(default=None)
    """Told which model the catalogue recommended, once this object needs one."""

    def __init__(self, **values: object) -> None:
        hide(values, "api_key", "together_api_key")
        sort_out(type(self), values)
        try:
            super().__init__(**values)
        except ValidationError as exc:
            found = _explained(exc)
            if found is None:
                raise
        else:
            return
        raise found

    @field_validator("base_url", mode="before")
    @classmethod
    def _read_base_url(cls, value: object) -> object:
        return check_base_url(value, "base_url") if value else None

    @field_validator("fallback", mode="before")
    @classmethod
    def _read_fallback(cls, value: object) -> object:
        if isinstance(value, (str, FallbackTarget)):
            return list(targets_of(value))
        return value

    @model_validator(mode="after")
    def _fill_from_settings(self) -> Self:
        # Here, since pydantic-settings would add a tenth to what importing the classes takes.
        from hana_ai.api.settings import TogetherAISettings, current_settings

        settings = current_settings()
        if self.api_key is None:
            self.api_key = settings.together_api_key
        else:
            self.api_key = SecretStr(check_api_key(self.api_key.get_secret_value()))
        self.base_url = check_base_url(self.base_url or settings.together_base_url, "base_url")
        if self.api_key is None:
            self.api_key = SecretStr(
                TogetherAISettings(together_base_url=self.base_url, together_api_key=None).require_api_key()
            )
        if self.model is None:
            self.model = default_model(settings, self.kind)
            if self.model is not None:
                from hana_ai.api.catalog.retiring import expect

                expect(self.base_url, self.kind, self.model)
        self.timeout = self.timeout or settings.together_timeout
        self.connect_timeout = self.connect_timeout or settings.together_connect_timeout
        self.stream_idle_timeout = self.stream_idle_timeout or settings.together_stream_idle_timeout
        if self.max_retries is None:
            self.max_retries = settings.together_max_retries
        self.max_concurrency = self.max_concurrency or settings.together_max_concurrency
        self._usage = usage_key(settings)
        self._fallback_key = settings.together_fallback_api_key
        self._check_fallback(settings)
        self._fill_own(settings)
        return self

    def _check_fallback(self, settings: TogetherAISettings) -> None:
        if self.fallback is None:
            self._settings_fallback = settings.fallback_targets
        elif self.kind in ("embedding", "rerank"):
            for target in targets_of(self.fallback):
                if self.model is not None and target.model != self.model:
                    raise TogetherAISettingsError(
                        f"fallback: {target} is another model than {self.model}, and what two {self.kind} models "
                        "give can't be mixed. Name another address of the same model."
                    )
        self._fallback_of(self.model)

    def _fallback_of(self, model: str | None) -> tuple[FallbackTarget, ...]:
        """The targets that can stand in for a model, with their addresses and keys."""
        given = self._noted("_settings_fallback") if self.fallback is None else self.fallback
        if not given:
            return ()
        seen = (list(given), self.base_url, self.api_key, model)
        if self._targets[0] != seen:
            assert self.base_url is not None and self.api_key is not None
            targets = [
                target.completed(self.base_url, self.api_key, self._fallback_key) for target in targets_of(given)
            ]
            if self.kind in ("embedding", "rerank"):
                targets = [target for target in targets if target.model == model]
            self._targets = (seen, tuple(targets))
        return self._targets[1]

    def _fill_own(self, settings: TogetherAISettings) -> None:
        """Fill what only a subclass has."""

    # --- requests ---

    @property
    def transport(self) -> Transport:
        """The shared transport for this object's address and key, as they are now."""
        # Here, as the settings above: nothing of it is needed before the first call.
        from hana_ai.api.service import get_transport, used_by

        base_url, api_key = self._address
        found = get_transport(
            base_url=base_url, api_key=api_key, max_concurrency=self._limit, usage=self._noted("_usage")
        )
        return used_by(found, self)

    @property
    def _catalog(self) -> Catalog:
        from hana_ai.api.service import catalog_for

        return catalog_for(*self._address)

    @property
    def _address(self) -> tuple[str, SecretStr]:
        key = self.api_key if isinstance(self.api_key, SecretStr) else SecretStr(str(self.api_key))
        return check_base_url(self.base_url, "base_url"), key

    def _noted(self, name: str) -> Any:
        """A private attribute, many times faster than by its name, which pydantic looks up in several places."""
        assert self.__pydantic_private__ is not None
        return self.__pydantic_private__[name]

    @property
    def _limit(self) -> int:
        """How many requests of one call may be under way."""
        return self.max_concurrency or 1

    def _call(self, body: JSONObject, *, stream: bool = False, run: Run | None = None) -> Call:
        model = body.get("model")
        return Call(
            self.path,
            body,
            model=model,
            timeout=self.timeout or 60.0,
            connect_timeout=self.connect_timeout or 5.0,
            stream_idle_timeout=self.stream_idle_timeout or 60.0,
            max_retries=self.max_retries or 0,
            on_retry=self.on_retry,
            fallback=self._fallback_of(model),
            stream=stream,
            kind=self.kind,
            tags=own_tags(run.tags) if run is not None and run.tags else (),
        )

    def _resolve_model(self, asked: str | None = None) -> str:
        """The model to ask: the call's own, this object's, or one that the catalogue recommends."""
        name = asked or self.model
        if name is None:
            name = self._chosen(self._catalog.default(self.kind))
        return name

    async def _aresolve_model(self, asked: str | None = None) -> str:
        name = asked or self.model
        if name is None:
            name = self._chosen(await self._catalog.adefault(self.kind))
        return name

    def _chosen(self, name: str) -> str:
        self.model = name
        if self._on_choice is not None:
            self._on_choice(name)
        return name

    def _with_model(self, body: JSONObject) -> JSONObject:
        """Name the model in a body, which may have to be asked for."""
        body["model"] = self._resolve_model(body.get("model"))
        return body

    async def _awith_model(self, body: JSONObject) -> JSONObject:
        body["model"] = await self._aresolve_model(body.get("model"))
        return body

    def _request_each(
        self, bodies: Iterable[JSONObject], read: ReadReply[_Result], run: Run | None = None
    ) -> list[_Result]:
        """Send requests, at most `max_concurrency` at a time, and return what `read` makes of them, in order."""
        each = _Each(self, bodies, read, run)
        with closing(self.transport.request_each(each.calls(), self._limit)) as replies:
            for position, reply in replies:
                each.take(position, reply)
        return each.results()

    async def _arequest_each(
        self, bodies: Iterable[JSONObject], read: ReadReply[_Result], run: Run | None = None
    ) -> list[_Result]:
        """Send requests from a coroutine; raises the same errors as `_request_each`."""
        each = _Each(self, bodies, read, run)
        async with aclosing(self.transport.arequest_each(each.calls(), self._limit)) as replies:
            async for position, reply in replies:
                each.take(position, reply)
        return each.results()


def _explained(exc: ValidationError) -> TogetherAISettingsError | None:
    """The error that says more than pydantic's, if there is one."""
    errors = exc.errors(include_url=False)
    for error in errors:
        # pydantic wraps what a validator raises.
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, TogetherAISettingsError):
            return cause
    if not all(error["type"].startswith(("greater_than", "less_than")) for error in errors):
        return None
    # pydantic is told to hide inputs; a number is no key.
    said = [f"{error['loc'][0]} is {error['input']!r}; {error['msg'].lower()}." for error in errors]
    return TogetherAISettingsError(" ".join(said).replace("; input should", "; it should"))


class _Each(Generic[_Result]):
    """Several requests of one method, and what came of each."""

    def __init__(
        self,
        asker: ClientFields,
        bodies: Iterable[JSONObject],
        read: ReadReply[_Result],
        run: Run | None,
    ) -> None:
        self._asker = asker
        self._bodies = bodies
        self._read = read
        self._run = run
        self._under_way: dict[int, JSONObject] = {}
        self._results: dict[int, _Result] = {}

    def calls(self) -> Iterator[Call]:
        for position, body in enumerate(self._bodies):
            self._under_way[position] = body
            yield self._asker._call(body, run=self._run)

    def take(self, position: int, reply: Reply) -> None:
        self._results[position] = self._read(self._under_way.pop(position), reply)

    def results(self) -> list[_Result]:
        return [self._results[position] for position in range(len(self._results))]


class Run(Protocol):
    """What is asked of LangChain's callback managers."""

    tags: list[str]


def default_model(settings: TogetherAISettings, kind: str) -> str | None:
    """The model that the settings name for a kind."""
    if kind == "embedding":
        return settings.together_default_embedding_model
    if kind == "rerank":
        return settings.together_default_rerank_model
    return settings.together_default_model


def merged_body(*layers: JSONObject | None) -> JSONObject:
    """Merge layers of a request body, later ones winning; None means "leave out"."""
    body: JSONObject = {}
    for layer in layers:
        if layer:
            body.update(layer)
    return {name: value for name, value in body.items() if value is not None}
