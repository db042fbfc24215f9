"""What a connector's calls return: answers with tokens, cost and latency, and the available models."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from hana_ai.api.errors import TogetherAIError, TogetherAIInputError, TogetherAIStatusError
from hana_ai.api.langchain.messages import usage_from_wire
from hana_ai.api.wire import token_counts

if TYPE_CHECKING:
    from decimal import Decimal

    from langchain_core.language_models import LanguageModelInput
    from langchain_core.messages.ai import UsageMetadata

    from hana_ai.api.catalog.catalog import ModelInfo
    from hana_ai.api.connector.account import Account

logger = logging.getLogger(__name__)


class Tokens(TypedDict):
    """Tokens of one call."""

    prompt: int
    completion: int
    total: int


class Inference(TypedDict):
    """An answer with its tokens, latency and cost."""

    text: str
    tokens: Tokens | None
    """None if the server did not count them."""
    latency_ms: float
    """Milliseconds from the first try to the last byte."""
    cost_usd: float
    """USD at the catalogue's prices; NaN if unknown, as for hardware billed by the hour."""
    finish_reason: str | None
    model: str


class InferenceChunk(TypedDict, total=False):
    """A part of an answer; only the last one has `usage`, `latency_ms` and `cost_usd`."""

    text: str
    finish_reason: str | None
    """None except in the last chunk."""
    model: str
    usage: Tokens | None
    latency_ms: float
    cost_usd: float


class Pricing(TypedDict):
    """USD per 1M tokens; NaN when unknown."""

    input: float
    output: float
    cached_input: float


class AvailableModel(TypedDict):
    """A model that can be asked or deployed."""

    id: str
    """What to pass as `model`."""
    name: str
    type: str
    context_length: int | None
    """Tokens of input and output together; None when unknown."""
    pricing: Pricing
    features: list[str]
    status: str
    serverless: bool
    """False for a model that needs an endpoint of your own."""


async def ask(account: Account, name: str, prompt: LanguageModelInput, parameters: Mapping[str, Any]) -> Inference:
    """Ask a model by the name to send; see `TogetherAIConnector.inference`."""
    client = account.client
    if await _is_language_only(account, name):
        answer = await client.agenerate_completion(_one_text(name, prompt), model=name, **parameters)
    else:
        answer = await client.agenerate_chat_completion(prompt, model=name, **parameters)
    return {
        "text": answer.text,
        "tokens": _tokens(answer.usage),
        "latency_ms": answer.latency_ms,
        "cost_usd": _usd(answer.cost_usd),
        "finish_reason": answer.finish_reason,
        "model": answer.model,
    }


async def ask_streaming(
    account: Account, name: str, prompt: LanguageModelInput, parameters: Mapping[str, Any]
) -> AsyncGenerator[InferenceChunk, None]:
    """Stream a model's answer; see `TogetherAIConnector.inference_streaming`."""
    client = account.client
    started = time.monotonic()
    usage: UsageMetadata | None = None
    reason: str | None = None
    stream: Any
    if await _is_language_only(account, name):
        stream = client._llm._astream(_one_text(name, prompt), model=name, **parameters)
    else:
        messages = client._chat._convert_input(prompt).to_messages()
        stream = client._chat._astream(messages, model=name, **parameters)
    try:
        async for chunk in stream:
            message = getattr(chunk, "message", None)
            told = message.response_metadata if message else chunk.generation_info or {}
            reason = told.get("finish_reason") or reason
            counted = message.usage_metadata if message else usage_from_wire(told.get("token_usage"))
            usage = counted or usage
            if chunk.text:
                yield {"text": chunk.text, "finish_reason": None, "model": name}
    finally:
        await stream.aclose()
    yield {
        "text": "",
        "finish_reason": reason,
        "model": name,
        "usage": _tokens(usage),
        "latency_ms": (time.monotonic() - started) * 1000,
        "cost_usd": _usd(_cost(account, name, usage)),
    }


async def available_models(account: Account) -> list[AvailableModel]:
    """The models that can be asked right away, then those that need an endpoint of one's own."""
    from hana_ai.api.catalog.model_info import read_model

    serverless = await account.catalog.amodels()
    found = [_available(info, serverless=True) for info in serverless.values()]
    try:
        dedicated = await account.pages(
            lambda sdk, page: sdk.models.list_supported(product="PRODUCT_DEDICATED", **page)
        )
    except TogetherAIStatusError as exc:
        # A compatible server may offer only the older list.
        logger.debug("no list of models for endpoints: %s", exc)
        dedicated = []
    for entry in dedicated:
        info = read_model(entry.to_dict(mode="json", warnings=False))
        if info.id not in serverless:
            found.append(_available(info, serverless=False))
    return found


async def _is_language_only(account: Account, name: str) -> bool:
    try:
        info = (await account.catalog.amodels()).get(name)
    except TogetherAIError as exc:
        logger.debug("no catalogue: %s", exc)
        return False
    return info is not None and _type(info) == "language"


def _one_text(name: str, prompt: LanguageModelInput) -> str:
    if not isinstance(prompt, str):
        raise TogetherAIInputError(f"{name} continues a text; it takes no messages.")
    return prompt


def _cost(account: Account, name: str, usage: UsageMetadata | None) -> Decimal | None:
    info = (account.catalog.cached or {}).get(name)
    if info is None or usage is None:
        return None
    cached = usage.get("input_token_details", {}).get("cache_read", 0)
    return info.cost_of(token_counts.Tokens(usage["input_tokens"], usage["output_tokens"], cached))


def _tokens(usage: UsageMetadata | None) -> Tokens | None:
    if usage is None:
        return None
    return {
        "prompt": usage["input_tokens"],
        "completion": usage["output_tokens"],
        "total": usage["total_tokens"],
    }


def _usd(cost: Decimal | None) -> float:
    return math.nan if cost is None else float(cost)


def _type(info: ModelInfo) -> str:
    """The kind that the catalogue displays; a model of type language may be able to chat as well."""
    named = (info.raw.get(key) for key in ("displayType", "type"))
    shown = next((kind for kind in named if isinstance(kind, str) and kind), "")
    return shown.lower() or min(info.kinds, default="")


def _available(info: ModelInfo, *, serverless: bool) -> AvailableModel:
    return {
        "id": info.id,
        "name": info.name,
        "type": _type(info),
        "context_length": info.context_length,
        "pricing": {
            "input": _usd(info.input_price),
            "output": _usd(info.output_price),
            "cached_input": _usd(info.cached_input_price),
        },
        "features": sorted(info.features),
        "status": info.status,
        "serverless": serverless,
    }
