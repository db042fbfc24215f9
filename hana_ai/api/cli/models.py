"""`hana-ai-together models`: the catalogue as a table."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from .console import Problem, console

if TYPE_CHECKING:
    from hana_ai.api.catalog.catalog import ModelInfo


def list_models(kind: str | None) -> int:
    """Print the models of a kind; returns the exit status."""
    from hana_ai.api.together_ai import TogetherAIClient

    client = TogetherAIClient()
    found = client.get_available_models(kind)
    if not found:
        kinds = sorted({kind for model in client.get_available_models() for kind in model.kinds})
        raise Problem(
            f"{client.settings.together_base_url} lists no {kind or ''} models; kinds: {', '.join(kinds)}."
        )
    print_models(sorted(found, key=lambda model: (sorted(model.kinds), model.id)))
    return 0


def print_models(models: Sequence[ModelInfo]) -> None:
    """Print models, one per line."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    table.add_column("model", overflow="fold", ratio=1)
    table.add_column("kind")
    for heading in ("context", "in $/1M", "out $/1M"):
        table.add_column(heading, justify="right")
    table.add_column("status")
    for model in models:
        table.add_row(
            model.id,
            "\n".join(sorted(model.kinds)),
            "?" if model.context_length is None else f"{model.context_length:,}",
            _price(model.input_price),
            _price(model.output_price),
            model.status.lower() or "-",
            style="dim" if model.deprecated else "",
        )
    table.caption = f"{len(models)} models; prices in USD per 1M tokens; ? means unknown"
    console().print(table)


def _price(price: Decimal | None) -> str:
    return "?" if price is None else f"{price:.2f}"
