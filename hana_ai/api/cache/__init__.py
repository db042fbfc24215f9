"""Answers and vectors that are kept, in SQLite or SAP HANA."""

from __future__ import annotations

from hana_ai.api import resolve_lazily

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hana_ai.api.cache.caches import CacheStats, TogetherAICache, TogetherAIEmbeddingCache

_MODULES = {
    "CacheStats": "caches",
    "TogetherAICache": "caches",
    "TogetherAIEmbeddingCache": "caches",
}

__all__ = ["CacheStats", "TogetherAICache", "TogetherAIEmbeddingCache"]


def __getattr__(name: str) -> object:
    return resolve_lazily(globals(), _MODULES, name)
