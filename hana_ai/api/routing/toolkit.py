"""The places in hana_ai that embed and rerank. All but one are classes, so names imported earlier are covered too.

As of hana-ai 1.1.26081400. The toolkit makes embeddings itself for the memory of its agents, and offers classes to
the user; `TOGETHER_ROUTE_EMBEDDINGS` tells the two apart by the module that calls the constructor.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from hana_ai.api.routing import models, scopes
from hana_ai.api.routing.arguments import fields_of, mapped_deployment, names_a_deployment
from hana_ai.api.routing.seams import NotNeeded, Patcher, Seam, UpstreamChanged, class_in

if TYPE_CHECKING:
    from hana_ai.api.embeddings import TogetherAIEmbeddings
    from hana_ai.api.rerankers import TogetherAIRerank

_ORIGIN = "_together_origin"
_STAYS = "_together_stays"
_bound: dict[type, type] = {}
_EMBEDDING_SERVICE = "hana_ai.vectorstore.embedding_service"


def embeddings_of(service: object) -> TogetherAIEmbeddings | None:
    """What embeds for one of the toolkit's embedding services now; None when it does so itself."""
    if _STAYS in vars(service) or scopes.has_stayed(service):
        return None
    asked = getattr(service, "model_version", None)
    with scopes.within(scopes.scope_of(service)):
        return models.embeddings_for(origin_of(service), asked)


def origin_of(service: object) -> models.Origin:
    """Who made a service."""
    found: models.Origin = getattr(service, _ORIGIN, "user")
    return found


def kept_in_database(service: Any, model: str) -> Any:
    """A copy of a service that goes on embedding in the database, with this model."""
    made = copy.copy(service)
    vars(made).update({_STAYS: True, "model_version": model})
    return made


def bound_to(service: Any, embeddings: TogetherAIEmbeddings) -> Any:
    """A copy of a service that embeds with one model of Together's for good, even while the routing is off."""
    made = copy.copy(service)
    if is_embedding_service(service):
        made.__class__ = _bound_class(type(service))
    vars(made)["model"] = embeddings
    return made


def _bound_class(owner: type) -> type:
    return _bound.setdefault(
        owner, type(owner.__name__, (owner,), {"__module__": owner.__module__, "__call__": _embed_bound})
    )


def _embed_bound(self: Any, input: str | Sequence[str]) -> object:
    # The model is the table's, but the key is the caller's: several tenants may use one store.
    with scopes.within(scopes.scope_of(self)):
        embeddings = models.embeddings_named(self.model.model, self.model.dimensions)
    return _embed_with(embeddings, self, input)


def is_embedding_service(value: object) -> bool:
    """Whether an object is one of the toolkit's services that embed in the database."""
    return any(
        cls.__module__ == _EMBEDDING_SERVICE and cls.__name__ in ("HANAVectorEmbeddings", "PALModelEmbeddings")
        for cls in type(value).__mro__
    )


def _remember_origin(original: Callable[..., object], self: object, *args: object, **kwargs: object) -> None:
    original(self, *args, **kwargs)
    setattr(self, _ORIGIN, origin_of_caller(sys._getframe(2)))
    scopes.remember(self)


def _remember_scope(original: Callable[..., object], self: object, *args: object, **kwargs: object) -> None:
    original(self, *args, **kwargs)
    scopes.remember(self)


def origin_of_caller(frame: FrameType) -> models.Origin:
    """Whether the code of a frame is the toolkit's."""
    caller = frame.f_globals.get("__name__")
    is_toolkit = (
        isinstance(caller, str) and caller.startswith("hana_ai.") and not caller.startswith("hana_ai.api.")
    )
    return "default" if is_toolkit else "user"


def _embed(original: Callable[..., object], self: object, input: str | Sequence[str]) -> object:
    embeddings = embeddings_of(self)
    return original(self, input) if embeddings is None else _embed_with(embeddings, self, input)


def _embed_with(embeddings: TogetherAIEmbeddings, self: object, input: str | Sequence[str]) -> object:
    if getattr(self, "is_query", None):
        # PALModelEmbeddings: the user declared all its texts to be queries.
        return [embeddings.embed_query(text) for text in models.as_lists(input)]
    return embeddings(input)


def _patch_hana_vector_embeddings(module: ModuleType, patcher: Patcher) -> None:
    owner = class_in(module, "HANAVectorEmbeddings")
    patcher.replace(owner, "__call__", _embed, ["self", "input"])
    patcher.replace(owner, "__init__", _remember_origin, ["self", "connection_context", "model_version"])
    _check_every_method_calls(owner)


def _patch_pal_model_embeddings(module: ModuleType, patcher: Patcher) -> None:
    owner = class_in(module, "PALModelEmbeddings")
    patcher.replace(owner, "__call__", _embed, ["self", "input"])
    patcher.replace(owner, "__init__", _remember_origin, ["self", "connection_context", "model_version"])
    _check_every_method_calls(owner)


def _check_every_method_calls(owner: type) -> None:
    """Check that both methods go through `__call__`, the one place that is routed."""
    for name in ("embed_documents", "embed_query"):
        method = vars(owner).get(name)
        if not inspect.isfunction(method) or "__call__" not in method.__code__.co_names:
            raise UpstreamChanged(f"{owner.__name__}.{name} does not go through __call__")


def _make_hub_embeddings(original: Callable[..., object], self: object, *args: object, **kwargs: object) -> None:
    origin = origin_of_caller(sys._getframe(2))
    embeddings = (
        None if scopes.is_staying() or names_a_deployment(kwargs) else _hub_embeddings(origin, args, kwargs)
    )
    if embeddings is None:
        original(self, *args, **kwargs)
    else:
        vars(self)["model"] = embeddings


def _hub_embeddings(
    origin: models.Origin, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> TogetherAIEmbeddings | None:
    from hana_ai.api.embeddings import TogetherAIEmbeddings

    if not models.routes_embeddings(origin):
        return None
    named = args[0] if args else kwargs.get("model_id", "text-embedding-ada-002")
    asked = mapped_deployment(kwargs) or str(named)
    given = {name: value for name, value in kwargs.items() if name != "model_id"}
    return models.embeddings(asked, fields=fields_of(TogetherAIEmbeddings, "GenAIHubEmbeddings", given))


def _patch_gen_ai_hub_embeddings(module: ModuleType, patcher: Patcher) -> None:
    owner = class_in(module, "GenAIHubEmbeddings")
    patcher.replace(owner, "__init__", _make_hub_embeddings, ["self", "model_id"])


def _reranker_of(encoder: object) -> TogetherAIRerank | None:
    """What scores for one of the toolkit's cross encoders now; None when it does so itself."""
    if scopes.has_stayed(encoder):
        return None
    with scopes.within(scopes.scope_of(encoder)):
        return models.reranker()


def _predict(
    original: Callable[..., object], self: object, data: object, *args: object, **kwargs: object
) -> object:
    wants_table = kwargs.get("return_table") or (len(args) > 4 and args[4])
    if not isinstance(data, list) or wants_table or (reranker := _reranker_of(self)) is None:
        return original(self, data, *args, **kwargs)
    import numpy as np

    return np.asarray(reranker.predict(data), dtype=float)


def _patch_pal_cross_encoder(module: ModuleType, patcher: Patcher) -> None:
    owner = class_in(module, "PALCrossEncoder")
    patcher.replace(
        owner,
        "predict",
        _predict,
        ["self", "data", "thread_number", "batch_size", "max_token_num", "model_version", "return_table"],
    )
    patcher.replace(owner, "__init__", _remember_scope, ["self", "connection_context"])


def _predict_for_dummy(original: Callable[..., object], self: object, pairs: Sequence[tuple[str, str]]) -> object:
    reranker = _reranker_of(self)
    return original(self, pairs) if reranker is None else reranker.predict(pairs)


def _patch_dummy_cross_encoder(module: ModuleType, patcher: Patcher) -> None:
    owner = class_in(module, "CrossEncoder")
    if owner.__module__ != module.__name__:
        # sentence_transformers is installed, so a real model does the scoring.
        raise NotNeeded
    patcher.replace(owner, "predict", _predict_for_dummy, ["self", "pairs"])
    patcher.replace(owner, "__init__", _remember_scope, ["self", "model_name"])


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
)
