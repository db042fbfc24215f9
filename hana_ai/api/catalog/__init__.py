"""The models of an address: prices, context lengths, capabilities, retirement."""

from __future__ import annotations

from hana_ai.api import resolve_lazily

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hana_ai.api.catalog.catalog import Catalog
    from hana_ai.api.catalog.model_info import ModelInfo

_MODULES = {
    "Catalog": "catalog",
    "ModelInfo": "model_info",
}

__all__ = ["Catalog", "ModelInfo"]


def __getattr__(name: str) -> object:
    return resolve_lazily(globals(), _MODULES, name)
