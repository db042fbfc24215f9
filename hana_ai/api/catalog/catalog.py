"""The models that an address serves: prices, context, capabilities, retirement.

Read from `/v2/supported-models` (which tells what is serverless), else from `/v1/models` (which does not), and
kept for an hour. Names and prices are never in the code: models retire every month.
"""

from __future__ import annotations

import difflib
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, cast

from langchain_core.language_models import ModelProfile

from hana_ai.api.catalog.money import EXACT, total
from hana_ai.api.errors import (
    TogetherAIError,
    TogetherAIModelNotFoundError,
    TogetherAIRequestError,
    TogetherAIResponseError,
    TogetherAISettingsError,
)
from hana_ai.api.usage.turns import RenewableLock
from hana_ai.api.wire.shapes import shown

if TYPE_CHECKING:
    from hana_ai.api.transport.call import Call, Reply
    from hana_ai.api.transport.transport import Transport

logger = logging.getLogger(__name__)

LIFETIME = 3600.0
"""Seconds for which a catalogue counts as fresh."""

_PAGE = 500
_MILLION = Decimal(1_000_000)

# Capabilities of /v2/supported-models under the names that /v1/models uses for kinds.
_KINDS: Mapping[str, str] = {"RERANKING": "rerank"}
_VARIABLES: Mapping[str, str] = {
    "chat": "TOGETHER_DEFAULT_MODEL",
    "language": "TOGETHER_DEFAULT_MODEL",
    "embedding": "TOGETHER_DEFAULT_EMBEDDING_MODEL",
    "rerank": "TOGETHER_DEFAULT_RERANK_MODEL",
}

_IN_THE_DATABASE: Mapping[str, str] = {
    "embedding": ' Or let SAP HANA embed a table with its own model: TogetherHanaDB(embedding="hana").',
    "rerank": " Or let SAP HANA score: HanaDB's rerank_config and PALCrossEncoder do it in the database.",
}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the catalogue says of one model."""

    id: str
    """The name to use as `model`."""
    name: str
    """The name for people."""
    kinds: frozenset[str]
    """chat, language, embedding, rerank, ...; a name that the server invented is kept as it is."""
    context_length: int | None = None
    """Tokens of input and output together; None when unknown."""
    input_price: Decimal | None = None
    """USD per 1M input tokens; None when unknown, which is not zero."""
    cached_input_price: Decimal | None = None
    """USD per 1M input tokens that came from the cache; None when there is no price of its own."""
    output_price: Decimal | None = None
    """USD per 1M output tokens; None when unknown."""
    features: frozenset[str] = frozenset()
    """TOOL_CALLING, STRUCTURED_OUTPUT, REASONING, ... as the server writes them."""
    modalities: frozenset[str] = frozenset()
    """Kinds of input beside text, such as IMAGE."""
    status: str = ""
    """RECOMMENDED, SUPPORTED, DEPRECATED, ... as the server writes it; empty when it says nothing."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The entry as the server sent it."""

    @property
    def deprecated(self) -> bool:
        """Whether the model is about to be retired."""
        return "DEPRECATED" in self.status.upper()

    def cost(self, prompt: int, completion: int = 0, cached: int = 0) -> Decimal | None:
        """Cost in USD of a call with so many tokens; None when a price that it needs is unknown.

        `cached` tokens are part of `prompt` and cost the cached price, or the input price where there is none.
        Reasoning tokens are part of `completion`.
        """
        if self.input_price is None or (completion and self.output_price is None):
            return None
        cached = min(cached, prompt)
        cached_price = self.input_price if self.cached_input_price is None else self.cached_input_price
        parts = [(prompt - cached, self.input_price), (cached, cached_price)]
        if completion and self.output_price is not None:
            parts.append((completion, self.output_price))
        millionths = total(EXACT.multiply(Decimal(tokens), price) for tokens, price in parts)
        return EXACT.divide(millionths, _MILLION)

    def profile(self) -> ModelProfile:
        """The model's capabilities in LangChain's terms; what the catalogue does not say is left out."""
        profile: dict[str, Any] = {"name": self.name, "text_inputs": True, "text_outputs": True}
        if self.context_length is not None:
            profile["max_input_tokens"] = self.context_length
        if self.status:
            profile["status"] = "deprecated" if self.deprecated else "active"
        if self.features:
            profile["tool_calling"] = profile["tool_choice"] = "TOOL_CALLING" in self.features
            profile["structured_output"] = "STRUCTURED_OUTPUT" in self.features
            profile["reasoning_output"] = "REASONING" in self.features
        if self.modalities:
            for name in ("image", "audio", "video"):
                profile[f"{name}_inputs"] = name.upper() in self.modalities
        return cast("ModelProfile", profile)


class Catalog:
    """The catalogue of one address. Thread-safe; read when first asked for, and again after an hour."""

    def __init__(self, transport: Transport, lifetime: float = LIFETIME) -> None:
        self._transport = transport
        self._lifetime = lifetime
        self._lock = threading.Lock()
        self._models: dict[str, ModelInfo] | None = None
        self._read_at = 0.0
        _catalogs.add(self)

    @property
    def base_url(self) -> str:
        """The address."""
        return self._transport.base_url

    @property
    def cached(self) -> Mapping[str, ModelInfo] | None:
        """The models by name as last read, without asking the server; None before the first time."""
        return self._models

    @property
    def fresh(self) -> bool:
        """Whether the catalogue has been read and is not older than its lifetime."""
        return self._models is not None and time.monotonic() - self._read_at < self._lifetime

    def models(self, *, refresh: bool = False) -> Mapping[str, ModelInfo]:
        """Return all models by name.

        Raises
        ------
        TogetherAIRequestError
            Neither list can be read.
        """
        if self.fresh and not refresh:
            return self._models or {}
        reading = _Reading()
        while (call := reading.next_call()) is not None:
            try:
                reading.take(self._transport.request(call))
            except TogetherAIRequestError as exc:
                reading.refused(exc)
        return self._keep(reading)

    async def amodels(self, *, refresh: bool = False) -> Mapping[str, ModelInfo]:
        """Return all models by name, from a coroutine; see `models`."""
        if self.fresh and not refresh:
            return self._models or {}
        reading = _Reading()
        while (call := reading.next_call()) is not None:
            try:
                reading.take(await self._transport.arequest(call))
            except TogetherAIRequestError as exc:
                reading.refused(exc)
        return self._keep(reading)

    def default(self, kind: str) -> str:
        """Pick a living model of a kind: a recommended one, else the first that is not deprecated.

        Raises
        ------
        TogetherAISettingsError
            The catalogue has none; the message says what to set.
        """
        return _pick(self.models().values(), kind, self._transport.base_url)

    async def adefault(self, kind: str) -> str:
        """Pick a living model of a kind, from a coroutine; see `default`."""
        return _pick((await self.amodels()).values(), kind, self._transport.base_url)

    def suggest(self, error: TogetherAIModelNotFoundError, kind: str) -> TogetherAIModelNotFoundError:
        """Add close living names to an error about a missing model."""
        try:
            models = self.models()
        except TogetherAIError as exc:
            logger.debug("no suggestions for %s: %s", error.model, exc)
            models = self._models or {}
        return _suggest(error, models.values(), kind)

    async def asuggest(self, error: TogetherAIModelNotFoundError, kind: str) -> TogetherAIModelNotFoundError:
        """Add close living names to an error, from a coroutine; see `suggest`."""
        try:
            models = await self.amodels()
        except TogetherAIError as exc:
            logger.debug("no suggestions for %s: %s", error.model, exc)
            models = self._models or {}
        return _suggest(error, models.values(), kind)

    def _keep(self, reading: _Reading) -> Mapping[str, ModelInfo]:
        with self._lock:
            self._models = {model.id: model for model in reading.models}
            self._read_at = time.monotonic()
            models = self._models
        _check_defaults(self.base_url, models)
        return models


class _Reading:
    """One reading of the catalogue, page by page, without I/O of its own."""

    def __init__(self) -> None:
        self.models: list[ModelInfo] = []
        self._path: str | None = "/v2/supported-models"
        self._after: str | None = None

    def next_call(self) -> Call | None:
        from hana_ai.api.transport.call import Call

        if self._path is None:
            return None
        params: dict[str, Any] = {}
        if self._path == "/v2/supported-models":
            params = {"product": "PRODUCT_SERVERLESS", "limit": _PAGE}
            if self._after:
                params["after"] = self._after
        return Call(self._path, method="GET", params=params, timeout=20.0, max_retries=2)

    def take(self, reply: Reply) -> None:
        data = reply.data
        entries = data.get("data", data.get("models", [])) if isinstance(data, Mapping) else data
        if not isinstance(entries, (list, type(None))):
            raise TogetherAIResponseError(f"the catalogue is no list of models: {shown(data)}")
        self.models += [read_model(entry) for entry in entries or () if isinstance(entry, Mapping)]
        cursor = data.get("next_cursor", data.get("nextCursor")) if isinstance(data, Mapping) else None
        if cursor and cursor != self._after:
            self._after = str(cursor)
        else:
            self._path = None

    def refused(self, error: TogetherAIRequestError) -> None:
        if self._path != "/v2/supported-models" or error.status == 401:
            raise error
        # Dedicated gateways and compatible servers know only the older list.
        logger.debug("no /v2/supported-models, trying /v1/models: %s", error)
        self._path, self._after, self.models = "/v1/models", None, []


def read_model(entry: Mapping[str, Any]) -> ModelInfo:
    """Read an entry of either list; whatever is missing stays unknown.

    `/v1/models` names a model by `id`; in `/v2/supported-models` the `id` belongs to the catalogue, and inference
    takes `serverlessEndpoint` or `name` (together 3.1, `types/supported_model.py`).
    """
    pricing = entry.get("pricing")
    prices: Mapping[str, Any] = pricing if isinstance(pricing, Mapping) else {}
    second = "capabilities" in entry or "displayType" in entry
    name = (entry.get("serverlessEndpoint") or entry.get("name")) if second else entry.get("id")
    kinds = {_KINDS.get(kind, kind.lower()) for kind in _bare(entry.get("capabilities"), "CAPABILITY_")}
    kinds |= {str(entry[key]).lower() for key in ("type", "displayType") if entry.get(key)}
    status = str(entry.get("status") or "").removeprefix("SUPPORTED_MODEL_STATUS_")
    return ModelInfo(
        id=str(name or entry.get("id") or ""),
        name=str(entry.get("displayName") or entry.get("display_name") or name or ""),
        kinds=frozenset(kinds),
        context_length=_whole(entry.get("contextLength", entry.get("context_length"))),
        input_price=_price(prices.get("input")),
        cached_input_price=_price(prices.get("cachedInput", prices.get("cached_input"))),
        output_price=_price(prices.get("output")),
        features=frozenset(_bare(entry.get("features"), "FEATURE_")),
        modalities=frozenset(_bare(entry.get("inputModalities"), "MODALITY_")),
        status=status,
        raw=dict(entry),
    )


def _bare(values: object, prefix: str) -> list[str]:
    """An enumeration's values without the prefix that the API gives them."""
    return [value.removeprefix(prefix) for value in _strings(values)]


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else []


def _whole(value: object) -> int | None:
    try:
        number = int(str(value))
    except ValueError:
        return None
    return number if number > 0 else None


def _price(value: object) -> Decimal | None:
    if value is None or value == "":
        return None
    try:
        price = Decimal(str(value))
    except InvalidOperation:
        return None
    # More digits than these are no price, and would not fit where costs are exact.
    exact = price.is_finite() and len(price.as_tuple().digits) <= 30 and abs(price.adjusted()) <= 30
    return price if exact and price >= 0 else None


def _living(models: Iterable[ModelInfo], kind: str) -> list[ModelInfo]:
    wanted = {kind, "chat"} if kind == "language" else {kind}
    return [
        model for model in models if model.kinds & wanted and not model.deprecated and "HIDDEN" not in model.status
    ]


def _pick(models: Iterable[ModelInfo], kind: str, base_url: str) -> str:
    living = _living(models, kind)
    exact = [model for model in living if kind in model.kinds]
    for model in exact:
        if "RECOMMENDED" in model.status:
            return model.id
    if exact or living:
        return (exact or living)[0].id
    variable = _VARIABLES.get(kind, "TOGETHER_DEFAULT_MODEL")
    raise TogetherAISettingsError(
        f"{base_url} lists no {kind} model, so none can be chosen. Set {variable} or pass model=..., for example "
        f"to the name of a dedicated endpoint.{_IN_THE_DATABASE.get(kind, '')}"
    )


def _close(models: Iterable[ModelInfo], kind: str, asked: str) -> list[str]:
    """Up to three living models of a kind: those with a name like the one asked for, else the recommended ones."""
    living = _living(models, kind)
    by_name = {model.id.lower(): model.id for model in living}
    close = difflib.get_close_matches(asked.lower(), by_name, n=3, cutoff=0.4)
    return [by_name[name] for name in close] or [
        model.id for model in sorted(living, key=lambda model: "RECOMMENDED" not in model.status)[:3]
    ]


def _suggest(
    error: TogetherAIModelNotFoundError, models: Iterable[ModelInfo], kind: str
) -> TogetherAIModelNotFoundError:
    names = _close(models, kind, error.model or "")
    error.alternatives = tuple(names)
    variable = _VARIABLES.get(kind, "TOGETHER_DEFAULT_MODEL")
    if names:
        hint = f"Living {kind} models close to it: {', '.join(names)}. Pass model=... or set {variable}."
    else:
        hint = (
            f"The catalogue lists no serverless {kind} model; name a dedicated endpoint with model=... "
            f"or {variable}."
        )
    error.hint = f"{hint} {error.hint}" if error.hint else hint
    return error


# --- default models that retire ---

_catalogs: weakref.WeakSet[Catalog] = weakref.WeakSet()
_defaults: dict[tuple[str, str], str] = {}
_warned: set[tuple[str, str, str]] = set()
_warning = RenewableLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_warning.renew)


def expect(base_url: str, kind: str, model: str) -> None:
    """Note that an address is expected to serve a default model of the settings.

    Making an object asks no server: the catalogue is looked at when it is read for the first time, whoever reads
    it (the pre-flight at start, the client for its prices, the ledger's thread, the budget before the first call,
    an error about a model), or at once if it has been read already. A model that is deprecated or missing is then
    warned of, once.
    """
    if _defaults.get((base_url, kind)) == model:
        return
    _defaults[base_url, kind] = model
    for catalog in list(_catalogs):
        if catalog.base_url == base_url and catalog.cached is not None:
            _check_defaults(base_url, catalog.cached)
            return


def _check_defaults(base_url: str, models: Mapping[str, ModelInfo]) -> None:
    for (address, kind), name in list(_defaults.items()):
        info = models.get(name)
        if address != base_url or (info is not None and not info.deprecated):
            continue
        with _warning:
            if (address, kind, name) in _warned:
                continue
            _warned.add((address, kind, name))
        what = (
            f"is not in the catalogue of {base_url}, which is fine only for an endpoint of your own"
            if info is None
            else "is deprecated and will be retired"
        )
        logger.warning(
            "%s=%s %s. Living %s models: %s.",
            _VARIABLES.get(kind, "TOGETHER_DEFAULT_MODEL"),
            name,
            what,
            kind,
            ", ".join(_close(models.values(), kind, name)) or "none",
        )
