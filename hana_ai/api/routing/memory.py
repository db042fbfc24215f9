"""The tables in which the toolkit's agents keep their memory: they, too, keep to one embedding model."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from hana_ai.api.routing.seams import NotNeeded, Patcher, Seam, class_in
from hana_ai.api.routing.toolkit import embeddings_of, is_embedding_service


@functools.cache
def guarded(owner: type) -> type | None:
    """A `HanaDB` that refuses vectors of another model, in place of the one that the agents use.

    The table is created and written as langchain_hana does it, so that it works without this package as well.
    None for langchain_community's own class, which has the same name and is left alone.
    """
    from langchain_hana import HanaDB

    if owner is not HanaDB:
        return None
    from hana_ai.api.hana.embedding import model_name
    from hana_ai.api.hana.vector_store import TogetherHanaDB

    class MemoryTable(TogetherHanaDB):
        """langchain_hana's `HanaDB` for an agent's memory, with the model of the table checked."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{"id_column": None, **kwargs})

        def _model_name(self) -> str:
            service: Any = self.embedding
            if is_embedding_service(service):
                service = embeddings_of(service) or service
            elif type(service).__name__ == "GenAIHubEmbeddings":
                service = service.model
            return model_name(service)

    MemoryTable.__name__ = MemoryTable.__qualname__ = owner.__name__
    return MemoryTable


def _patch_memory_table(module: ModuleType, patcher: Patcher) -> None:
    """Let the agents' memory tables refuse vectors of another model, before the first row is written."""
    made = guarded(class_in(module, "HanaDB"))
    if made is None:
        raise NotNeeded
    patcher.set(module, "HanaDB", made)


SEAMS = tuple(
    Seam(f"{agent}'s memory table", module, "hana-ai", "refuses vectors of another model", _patch_memory_table)
    for agent, module in (
        ("HANAMLRAGAgent", "hana_ai.agents.hanaml_rag_agent"),
        ("Mem0HanaAdapter", "hana_ai.mem0.hana_mem0_adapter"),
    )
)
