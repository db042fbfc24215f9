"""Dedicated endpoints, LoRA adapters, uploads, and what was used."""

from __future__ import annotations

from hana_ai.api import resolve_lazily

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hana_ai.api.connector.connector import TogetherAIConnector

_MODULES = {
    "TogetherAIConnector": "connector",
}

__all__ = ["TogetherAIConnector"]


def __getattr__(name: str) -> object:
    return resolve_lazily(globals(), _MODULES, name)
