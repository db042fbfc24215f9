"""The server's models in the shapes of GET /v1/models and GET /v2/supported-models."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence

from ..engine import LocalModel
from ..refusal import JSON, Refusal
from .hardware import PUBLIC_PROJECT, profile

_CREATED = 1_735_689_600
_CREATED_AT = "2025-01-01T00:00:00Z"
_CAPABILITY = {
    "chat": "CAPABILITY_CHAT",
    "language": "CAPABILITY_CHAT",
    "embedding": "CAPABILITY_EMBEDDING",
    "rerank": "CAPABILITY_RERANKING",
}
_PRODUCTS = ("PRODUCT_SERVERLESS", "PRODUCT_DEDICATED", "PRODUCT_FINE_TUNING", "PRODUCT_RESERVED")
_MODALITIES = ("MODALITY_TEXT", "MODALITY_IMAGE", "MODALITY_AUDIO", "MODALITY_VIDEO")
_ADAPTER_MODES = ("ADAPTER_MODE_FIXED", "ADAPTER_MODE_DYNAMIC", "ADAPTER_MODE_DISABLED")


def model_info(model: LocalModel) -> dict[str, JSON]:
    """An entry of GET /v1/models; prices in USD per 1M tokens."""
    pricing: dict[str, JSON] = {
        "hourly": 0,
        "input": model.price_input,
        "output": model.price_output,
        "base": 0,
        "finetune": 0,
    }
    if model.price_cached_input is not None:
        pricing["cached_input"] = model.price_cached_input
    return {
        "id": model.id,
        "object": "model",
        "created": _CREATED,
        "type": model.type,
        "running": False,
        "display_name": model.display_name or model.id,
        "organization": model.organization,
        "link": "",
        "license": model.license,
        "context_length": model.context_length,
        "pricing": pricing,
    }


def supported_model(model: LocalModel) -> dict[str, JSON]:
    """An entry of GET /v2/supported-models; prices in USD per 1M tokens, contextLength a string as there."""
    pricing: dict[str, JSON] = {"input": model.price_input, "output": model.price_output}
    if model.price_cached_input is not None:
        pricing["cachedInput"] = model.price_cached_input
    entry: dict[str, JSON] = {
        "id": model_id(model),
        "name": model.id,
        "baseModel": f"projects/{PUBLIC_PROJECT}/models/{model_id(model)}",
        "baseModelId": model_id(model),
        "capabilities": [_CAPABILITY[model.type]],
        "createdAt": _CREATED_AT,
        "updatedAt": _CREATED_AT,
        "deploymentProfiles": [profile(model_id(model), model.id)],
        "displayName": model.display_name or model.id,
        "displayType": model.type,
        "inputModalities": ["MODALITY_TEXT"],
        "outputModalities": ["MODALITY_TEXT"],
        "products": [_product(model)],
        "publisher": model.organization,
        "status": f"SUPPORTED_MODEL_STATUS_{'DEPRECATED' if model.deprecated else 'SUPPORTED'}",
        "contextLength": str(model.context_length),
        "description": model.description,
        "features": list(model.features),
        "tags": ["local"],
    }
    if model.serverless:
        entry["serverlessEndpoint"] = model.id
        entry["pricing"] = pricing
    return entry


def model_id(model: LocalModel) -> str:
    """The id of a model in the curated catalogue: made from its name, the same at every start."""
    return "ml_" + "".join(letter if letter.isalnum() else "-" for letter in model.id.lower())


def _product(model: LocalModel) -> str:
    return "PRODUCT_SERVERLESS" if model.serverless else "PRODUCT_DEDICATED"


def find_supported(models: Iterable[LocalModel], wanted: str) -> LocalModel:
    """The model with this catalogue id or name.

    Raises
    ------
    Refusal
        404 when there is none.
    """
    for model in models:
        if wanted in (model_id(model), model.id):
            return model
    raise Refusal(404, f"Supported model {wanted} not found.", code="not_found")


def supported_page(models: Sequence[LocalModel], query: Mapping[str, str]) -> dict[str, JSON]:
    """A page of GET /v2/supported-models for the query's filters, cursor (`after`) and limit.

    Raises
    ------
    Refusal
        400 for a filter, cursor or limit that the API does not know.
    """
    product = _one_of(query, "product", _PRODUCTS)
    modality = _one_of(query, "modality", _MODALITIES)
    adapter_mode = _one_of(query, "adapterMode", _ADAPTER_MODES)
    search = query.get("search", "").lower()
    found = [
        model
        for model in models
        if (product is None or product == _product(model))
        and (modality is None or modality == "MODALITY_TEXT")
        # The one profile of a local model takes no adapters.
        and adapter_mode in (None, "ADAPTER_MODE_DISABLED")
        and (not search or any(search in text.lower() for text in (model_id(model), model.id, model.description)))
    ]
    return page([supported_model(model) for model in found], query)


def page(entries: Sequence[dict[str, JSON]], query: Mapping[str, str]) -> dict[str, JSON]:
    """One page of a cursor-paged list: `after` is the cursor that the page before named, `limit` 1 to 500."""
    limit = query.get("limit", "50")
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= 500:
        raise Refusal(400, f"limit must be an integer from 1 to 500, not {limit!r}.", param="limit")
    start = _position(query["after"]) if query.get("after") else 0
    end = start + int(limit)
    data: list[JSON] = list(entries[start:end])
    cursor = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(entries) else ""
    return {"object": "list", "data": data, "next_cursor": cursor}


def _position(cursor: str) -> int:
    try:
        return max(0, int(base64.urlsafe_b64decode(cursor.encode())))
    except (ValueError, binascii.Error) as exc:
        raise Refusal(400, f"after is not a cursor of this list: {cursor!r}.", param="after") from exc


def _one_of(query: Mapping[str, str], name: str, allowed: Sequence[str]) -> str | None:
    value = query.get(name)
    if value is not None and value not in allowed:
        raise Refusal(400, f"{name} must be one of {', '.join(allowed)}, not {value!r}.", param=name)
    return value
