"""The places of hana_ai that embed and rerank. All but one are classes, so names imported earlier are covered too.

Read in hana-ai 1.1.26081400. The toolkit makes embeddings itself for the memory of its agents, and offers classes
to the user; `TOGETHER_ROUTE_EMBEDDINGS` tells the two apart, by the module that calls the constructor.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hana_ai.api.routing import models
from hana_ai.api.routing.hooks import Patcher, Seam, UpstreamChanged, not_needed

if TYPE_CHECKING:
    from hana_ai.api.embeddings import TogetherAIEmbeddings

_ORIGIN = "_together_origin"
_EMBEDDING_SERVICE = "hana_ai.vectorstore.embedding_service"


def embeddings_of(service: Any) -> TogetherAIEmbeddings | None:
    """What embeds for one of the toolkit's embedding services at the moment; None when it does so itself."""
    asked = getattr(service, "model_version", None)
    return models.embeddings_for(getattr(service, _ORIGIN, "user"), asked)


def is_embedding_service(value: Any) -> bool:
    """Whether an object is one of the toolkit's that embed in the database."""
    return any(
        cls.__module__ == _EMBEDDING_SERVICE and cls.__name__ in ("HANAVectorEmbeddings", "PALModelEmbeddings")
        for cls in type(value).__mro__
    )


def _remember_origin(original: Callable[..., None], self: Any, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    setattr(self, _ORIGIN, _origin(sys._getframe(2).f_globals.get("__name__")))


def _origin(caller: object) -> models.Origin:
    is_toolkit = (
        isinstance(caller, str) and caller.startswith("hana_ai.") and not caller.startswith("hana_ai.api.")
    )
    return "default" if is_toolkit else "user"


def _embed(original: Callable[..., Any], self: Any, input: Any) -> Any:
    embeddings = embeddings_of(self)
    if embeddings is None:
        return original(self, input)
    if getattr(self, "is_query", None):
        # PALModelEmbeddings: its owner says that all its texts are queries.
        return [embeddings.embed_query(text) for text in models.as_lists(input)]
    return embeddings(input)


def _class(module: ModuleType, name: str) -> type:
    found = getattr(module, name, None)
    if not inspect.isclass(found):
        raise UpstreamChanged(f"there is no class {module.__name__}.{name}")
    return found


def _patch_hana_vector_embeddings(module: ModuleType, patcher: Patcher) -> None:
    owner = _class(module, "HANAVectorEmbeddings")
    patcher.replace(owner, "__call__", _embed, ["self", "input"])
    patcher.replace(owner, "__init__", _remember_origin, ["self", "connection_context", "model_version"])
    _check_every_method_calls(owner)


def _patch_pal_model_embeddings(module: ModuleType, patcher: Patcher) -> None:
    owner = _class(module, "PALModelEmbeddings")
    patcher.replace(owner, "__call__", _embed, ["self", "input"])
    patcher.replace(owner, "__init__", _remember_origin, ["self", "connection_context", "model_version"])
    _check_every_method_calls(owner)


def _check_every_method_calls(owner: type) -> None:
    """Both methods have to go through `__call__`, the one place that is routed."""
    for name in ("embed_documents", "embed_query"):
        method = vars(owner).get(name)
        if not inspect.isfunction(method) or "__call__" not in method.__code__.co_names:
            raise UpstreamChanged(f"{owner.__name__}.{name} does not go through __call__")


def _make_hub_embeddings(original: Callable[..., None], self: Any, *args: Any, **kwargs: Any) -> None:
    origin = _origin(sys._getframe(2).f_globals.get("__name__"))
    asked = args[0] if args else kwargs.get("model_id", "text-embedding-ada-002")
    explicit = kwargs.get("proxy_client") is not None or kwargs.get("init_func") is not None
    embeddings = None if explicit else models.embeddings_for(origin, asked)
    if embeddings is None:
        original(self, *args, **kwargs)
    else:
        self.model = embeddings


def _patch_gen_ai_hub_embeddings(module: ModuleType, patcher: Patcher) -> None:
    owner = _class(module, "GenAIHubEmbeddings")
    patcher.replace(owner, "__init__", _make_hub_embeddings, ["self", "model_id"])


def _predict(original: Callable[..., Any], self: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
    reranker = models.reranker() if isinstance(data, list) else None
    wants_table = kwargs.get("return_table") or (len(args) > 4 and args[4])
    if reranker is None or wants_table:
        return original(self, data, *args, **kwargs)
    import numpy as np

    return np.array(reranker.predict(data))


def _patch_pal_cross_encoder(module: ModuleType, patcher: Patcher) -> None:
    owner = _class(module, "PALCrossEncoder")
    patcher.replace(
        owner,
        "predict",
        _predict,
        ["self", "data", "thread_number", "batch_size", "max_token_num", "model_version", "return_table"],
    )


def _predict_for_dummy(original: Callable[..., Any], self: Any, pairs: Any) -> Any:
    reranker = models.reranker()
    return original(self, pairs) if reranker is None else reranker.predict(pairs)


def _patch_dummy_cross_encoder(module: ModuleType, patcher: Patcher) -> None:
    owner = _class(module, "CrossEncoder")
    if owner.__module__ != module.__name__:
        # sentence_transformers is installed, so a real model scores.
        raise not_needed()
    patcher.replace(owner, "predict", _predict_for_dummy, ["self", "pairs"])


def _merge(original: Callable[..., Any], vector_stores: Any, *args: Any, **kwargs: Any) -> Any:
    from hana_ai.api.errors import TogetherAIInputError
    from hana_ai.api.hana.vector_engine import TogetherVectorEngine

    stores = list(vector_stores)
    ours = [store for store in stores if isinstance(store, TogetherVectorEngine)]
    if not ours:
        return original(stores, *args, **kwargs)
    models_of = sorted({store.model_version for store in stores})
    if len(models_of) > 1:
        raise TogetherAIInputError(
            f"The stores hold vectors of {' and '.join(models_of)}; vectors of two models cannot be compared. "
            "Embed the knowledge of one of them again before they are merged."
        )
    merged = original(stores, *args, **kwargs)
    return ours[0].on_table(merged.table_name, merged.schema)


def _patch_merge(module: ModuleType, patcher: Patcher) -> None:
    patcher.replace(module, "merge_hana_vector_store", _merge, ["vector_stores"])


def _patch_memory_table(module: ModuleType, patcher: Patcher) -> None:
    """Let the agents' memory tables refuse vectors of another model, before the first row is written."""
    owner: Any = _class(module, "HanaDB")
    from hana_ai.api.routing.memory import guarded

    made = guarded(owner)
    if made is None:
        raise not_needed()
    patcher.set(module, "HanaDB", made)


def _embedding_seam(name: str, patch: Callable[[ModuleType, Patcher], None], what: str) -> Seam:
    return Seam(name, _EMBEDDING_SERVICE, "hana-ai", what, patch, models.why_embeddings_stay)


SEAMS = (
    _embedding_seam(
        "HANAVectorEmbeddings",
        _patch_hana_vector_embeddings,
        "embeds through Together, also in the agents' memory",
    ),
    _embedding_seam("PALModelEmbeddings", _patch_pal_model_embeddings, "embeds through Together"),
    _embedding_seam("GenAIHubEmbeddings", _patch_gen_ai_hub_embeddings, "embeds through Together"),
    Seam(
        "PALCrossEncoder",
        "hana_ai.vectorstore.pal_cross_encoder",
        "hana-ai",
        "lists are scored by Together, tables in the database",
        _patch_pal_cross_encoder,
        models.why_reranking_stays,
    ),
    Seam(
        "HANAMLRAGAgent's cross encoder",
        "hana_ai.agents.hanaml_rag_agent",
        "hana-ai",
        "Together scores where the stand-in says 0 to everything",
        _patch_dummy_cross_encoder,
        models.why_reranking_stays,
    ),
    Seam(
        "merge_hana_vector_store",
        "hana_ai.vectorstore.union_vector_stores",
        "hana-ai",
        "what is merged from TogetherVectorEngine keeps its embeddings",
        _patch_merge,
    ),
    Seam(
        "HANAMLRAGAgent's memory table",
        "hana_ai.agents.hanaml_rag_agent",
        "hana-ai",
        "refuses vectors of another model",
        _patch_memory_table,
    ),
    Seam(
        "Mem0HanaAdapter's memory table",
        "hana_ai.mem0.hana_mem0_adapter",
        "hana-ai",
        "refuses vectors of another model",
        _patch_memory_table,
    ),
)
