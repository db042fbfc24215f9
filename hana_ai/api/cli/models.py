"""`hana-ai-together models`: the catalogue as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from decimal import Decimal
from difflib import get_close_matches
from typing import TYPE_CHECKING

from .console import Problem, console, print_json

if TYPE_CHECKING:
    from hana_ai.api.catalog.catalog import ModelInfo


def list_models(search: Sequence[str], kind: str | None, feature: str | None, *, as_json: bool) -> int:
    """Print the models that are looked for; returns the exit status.

    Raises
    ------
    Problem
        There are none; the message says which kinds, features or names there are.
    """
    from hana_ai.api.together_ai import TogetherAIClient

    client = TogetherAIClient()
    url = client.settings.together_base_url
    found = client.get_available_models(kind)
    if not found:
        kinds = sorted({kind for model in client.get_available_models() for kind in model.kinds})
        raise Problem(f"{url} lists no {kind or ''} models; kinds: {', '.join(kinds)}.")
    if feature is not None:
        wanted = feature.upper().replace("-", "_")
        having = [model for model in found if wanted in features(model)]
        if not having:
            names = sorted({name.lower() for model in found for name in features(model)})
            raise Problem(f"no model has the feature {feature}; features: {', '.join(names) or 'none'}.")
        found = having
    if search:
        named = [model for model in found if all(part.lower() in _names(model) for part in search)]
        if not named:
            close = get_close_matches(search[0].lower(), [model.id for model in found], 3, 0.3)
            hint = f" Similar names: {', '.join(close)}." if close else ""
            raise Problem(f"no model is called like {' '.join(search)}.{hint} All: hana-ai-together models")
        found = named
    found = sorted(found, key=lambda model: (sorted(model.kinds), model.id))
    if as_json:
        print_json([{**asdict(replace(model, raw={})), "features": sorted(features(model))} for model in found])
    else:
        print_models(found)
    return 0


def features(model: ModelInfo) -> set[str]:
    """A model's features, without the API's prefix."""
    return {name.upper().removeprefix("FEATURE_") for name in model.features}


def _names(model: ModelInfo) -> str:
    return f"{model.id} {model.name}".lower()


def print_models(models: Sequence[ModelInfo]) -> None:
    """Print models, one per line."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    table.add_column("model", overflow="fold", ratio=1)
    table.add_column("kind")
    for heading in ("context", "in $/1M", "out $/1M"):
        table.add_column(heading, justify="right")
    table.add_column("features", overflow="fold", ratio=1)
    table.add_column("status")
    for model in models:
        table.add_row(
            model.id,
            "\n".join(sorted(model.kinds)),
            "?" if model.context_length is None else f"{model.context_length:,}",
            _price(model.input_price),
            _price(model.output_price),
            ", ".join(sorted(name.lower() for name in features(model))) or "-",
            model.status.lower() or "-",
            style="dim" if model.deprecated else "",
        )
    table.caption = (
        f"{len(models)} model{'s' if len(models) != 1 else ''}; prices in USD per 1M tokens; ? means unknown"
    )
    console().print(table)


def _price(price: Decimal | None) -> str:
    return "?" if price is None else f"{price:.2f}"
