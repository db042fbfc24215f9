"""What the catalogue says of one model: kinds, context, capabilities, prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, cast

from hana_ai.api.catalog.money import EXACT, plain, total
from hana_ai.api.wire.html import Listing

if TYPE_CHECKING:
    from langchain_core.language_models import ModelProfile

    from hana_ai.api.wire.token_counts import Tokens

_MILLION = Decimal(1_000_000)
# Capabilities of /v2/supported-models under the names that /v1/models uses for kinds.
_KINDS: Mapping[str, str] = {"RERANKING": "rerank"}
_WITHOUT_COMPLETION = frozenset({"embedding", "rerank"})


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
    raw: Mapping[str, object] = field(default_factory=dict, repr=False, compare=False)
    """The entry as the server sent it."""

    @property
    def deprecated(self) -> bool:
        """Whether the model is about to be retired."""
        return "DEPRECATED" in self.status.upper()

    @property
    def recommended(self) -> bool:
        """Whether the server recommends the model."""
        return "RECOMMENDED" in self.status

    def cost_of(self, tokens: Tokens) -> Decimal | None:
        """Cost in USD of a call with these tokens; None when tokens or a price that it needs are unknown.

        Cached tokens are part of the prompt and cost the cached price, or the input price where there is none.
        Reasoning tokens are part of the completion. A model that only embeds or ranks completes nothing, whether
        or not the server says so.
        """
        completion = tokens.completion
        if completion is None and self.kinds and self.kinds <= _WITHOUT_COMPLETION:
            completion = 0
        if tokens.prompt is None or completion is None or self.input_price is None:
            return None
        cached = min(tokens.cached or 0, tokens.prompt)
        cached_price = self.input_price if self.cached_input_price is None else self.cached_input_price
        parts = [(tokens.prompt - cached, self.input_price), (cached, cached_price)]
        if completion:
            if self.output_price is None:
                return None
            parts.append((completion, self.output_price))
        millionths = total(EXACT.multiply(Decimal(count), price) for count, price in parts)
        return EXACT.divide(millionths, _MILLION)

    def profile(self) -> ModelProfile:
        """The model's capabilities in LangChain's terms; what the catalogue does not say is left out.

        `structured_output` is False for every model; whether one keeps to a schema stands in `features`.
        """
        profile: dict[str, object] = {
            "name": self.name,
            "text_inputs": True,
            "text_outputs": True,
            # Agents read it as leave to send a response format beside tools, which Together does not take.
            "structured_output": False,
        }
        if self.context_length is not None:
            profile["max_input_tokens"] = self.context_length
        if self.status:
            profile["status"] = "deprecated" if self.deprecated else "active"
        if self.features:
            profile["tool_calling"] = profile["tool_choice"] = "TOOL_CALLING" in self.features
            profile["reasoning_output"] = "REASONING" in self.features
        if self.modalities:
            for name in ("image", "audio", "video"):
                profile[f"{name}_inputs"] = name.upper() in self.modalities
        return cast("ModelProfile", profile)

    def _repr_html_(self) -> str:
        return ModelList([self])._repr_html_()


class ModelList(Listing[ModelInfo]):
    """Models, with their prices in notebooks."""

    headings = ("model", "kinds", "context", "$ per 1M in", "cached", "out", "features", "status")

    @staticmethod
    def cells(item: ModelInfo) -> list[str]:
        prices = (item.input_price, item.cached_input_price, item.output_price)
        return [
            item.id,
            ", ".join(sorted(item.kinds)),
            "-" if item.context_length is None else f"{item.context_length:,}",
            *("-" if price is None else plain(price) for price in prices),
            ", ".join(sorted(item.features)).lower(),
            item.status.lower(),
        ]


def read_model(entry: Mapping[str, object]) -> ModelInfo:
    """Read an entry of either list; whatever is missing stays unknown.

    `/v1/models` names a model by `id`; in `/v2/supported-models` the `id` belongs to the catalogue, and inference
    takes `serverlessEndpoint` or `name` (together 3.1, `types/supported_model.py`).
    """
    pricing = entry.get("pricing")
    prices: Mapping[str, object] = pricing if isinstance(pricing, Mapping) else {}
    second = "capabilities" in entry or "displayType" in entry
    id = _text(entry.get("id"))
    name = (_text(entry.get("serverlessEndpoint")) or _text(entry.get("name"))) if second else id
    kinds = {_KINDS.get(kind, kind.lower()) for kind in _bare(entry.get("capabilities"), "CAPABILITY_")}
    kinds |= {kind.lower() for key in ("type", "displayType") if (kind := _text(entry.get(key)))}
    status = _text(entry.get("status")).removeprefix("SUPPORTED_MODEL_STATUS_")
    return ModelInfo(
        id=name or id,
        name=_text(entry.get("displayName")) or _text(entry.get("display_name")) or name,
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
    if not isinstance(values, (list, tuple)):
        return []
    return [value.removeprefix(prefix) for value in values if isinstance(value, str)]


def _text(value: object) -> str:
    """A text; empty for anything else."""
    return value if isinstance(value, str) else ""


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
