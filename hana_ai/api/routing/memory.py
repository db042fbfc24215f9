"""The tables in which the toolkit's agents keep their memory: they keep to one embedding model, too."""

from __future__ import annotations

import functools
from typing import Any

from hana_ai.api.routing import toolkit


@functools.cache
def guarded(owner: Any) -> type | None:
    """A `HanaDB` that refuses vectors of another model, in the place of the one that the agents use.

    The table is made and written as langchain_hana does it, so that it can be used without this package as well.
    None for langchain_community's own class, which has the same name and is left alone.
    """
    from langchain_hana import HanaDB

    if owner is not HanaDB:
        return None
    from hana_ai.api.hana.vector_column import model_name
    from hana_ai.api.hana.vector_store import TogetherHanaDB

    class MemoryTable(TogetherHanaDB):
        """langchain_hana's `HanaDB` for an agent's memory, with the model of the table checked."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{"id_column": None, **kwargs})

        def _model_name(self) -> str:
            service: Any = self.embedding
            if toolkit.is_embedding_service(service):
                service = toolkit.embeddings_of(service) or service
            elif type(service).__name__ == "GenAIHubEmbeddings":
                service = service.model
            return model_name(service)

    MemoryTable.__name__ = MemoryTable.__qualname__ = owner.__name__
    return MemoryTable
