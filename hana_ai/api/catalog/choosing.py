"""Which model to take when none is named, and which ones to name when the one that was named is gone."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from hana_ai.api.catalog.model_info import ModelInfo
from hana_ai.api.errors import TogetherAIModelNotFoundError, TogetherAISettingsError

_CHAT_VARIABLE = "TOGETHER_DEFAULT_MODEL"
_VARIABLES: Mapping[str, str] = {
    "embedding": "TOGETHER_DEFAULT_EMBEDDING_MODEL",
    "rerank": "TOGETHER_DEFAULT_RERANK_MODEL",
}
_IN_THE_DATABASE: Mapping[str, str] = {
    "embedding": ' Or let SAP HANA embed a table with its own model: TogetherHanaDB(embedding="hana").',
    "rerank": " Or let SAP HANA score: HanaDB's rerank_config and PALCrossEncoder do it in the database.",
}


def variable_of(kind: str) -> str:
    """The environment variable that names the default model of a kind."""
    return _VARIABLES.get(kind, _CHAT_VARIABLE)


def default_of(models: Iterable[ModelInfo], kind: str, base_url: str) -> str:
    """An available model of a kind: a recommended one, else the first.

    Raises
    ------
    TogetherAISettingsError
        There is none; the message says what to set.
    """
    available = _available(models, kind)
    exact = [model for model in available if kind in model.kinds]
    recommended = [model for model in exact if model.recommended]
    for model in recommended or exact or available:
        return model.id
    raise TogetherAISettingsError(
        f"{base_url} lists no {kind} model, so none can be chosen. Set {variable_of(kind)} or pass model=..., for "
        f"example to the name of a dedicated endpoint.{_IN_THE_DATABASE.get(kind, '')}"
    )


def close_names(models: Iterable[ModelInfo], kind: str, asked: str) -> list[str]:
    """Up to three available models of a kind: those with similar names, else the recommended ones."""
    # A catalogue that was read before the model went still lists it.
    available = [model for model in _available(models, kind) if model.id != asked]
    by_name = {model.id.lower(): model.id for model in available}
    close = difflib.get_close_matches(asked.lower(), by_name, n=3, cutoff=0.4)
    return [by_name[name] for name in close] or [
        model.id for model in sorted(available, key=lambda model: not model.recommended)[:3]
    ]


def with_alternatives(
    error: TogetherAIModelNotFoundError, models: Iterable[ModelInfo], kind: str
) -> TogetherAIModelNotFoundError:
    """Name available models in the error for a missing one."""
    names = close_names(models, kind, error.model or "")
    error.alternatives = tuple(names)
    if names:
        hint = (
            f"Available {kind} models with similar names: {', '.join(names)}. "
            f"Pass model=... or set {variable_of(kind)}."
        )
    else:
        hint = (
            f"The catalogue lists no serverless {kind} model; name a dedicated endpoint with model=... "
            f"or {variable_of(kind)}."
        )
    error.hint = f"{hint} {error.hint}" if error.hint else hint
    return error


def _available(models: Iterable[ModelInfo], kind: str) -> list[ModelInfo]:
    wanted = {kind, "chat"} if kind == "language" else {kind}
    return [
        model for model in models if model.kinds & wanted and not model.deprecated and "HIDDEN" not in model.status
    ]
