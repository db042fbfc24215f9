"""LangChain's `init_chat_model` and `init_embeddings`, with ``together_ai`` as a provider.

LangChain has no public way to add one (langchain 1.4.10, langchain-classic 1.0.8): its providers are a private
table or a chain of conditions. ``together`` is langchain-together's name; it makes classes of this package only
where that is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from hana_ai.api.routing import scopes
from hana_ai.api.routing.seams import Patcher, Seam, UpstreamChanged, has_module

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseChatModel

OUR_NAME = "together_ai"
THEIR_NAME = "together"
THEIR_PACKAGE = "langchain_together"


def _names() -> set[str]:
    return {OUR_NAME} if has_module(THEIR_PACKAGE) else {OUR_NAME, THEIR_NAME}


def _ours(model: str, provider: str | None) -> str | None:
    """The model's name, if the provider is this package and its model is to be made; else None."""
    if scopes.is_staying():
        return None
    if provider is None:
        provider, colon, model = (model or "").partition(":")
        if not colon:
            return None
    return model if provider.strip().replace("-", "_").lower() in _names() else None


def _init_chat_model(
    original: Callable[..., object], model: str, *, model_provider: str | None = None, **fields: object
) -> object:
    name = _ours(model, model_provider)
    return original(model, model_provider=model_provider, **fields) if name is None else _chat(name, **fields)


def _init_embeddings(
    original: Callable[..., object], model: str, *, provider: str | None = None, **fields: object
) -> object:
    name = _ours(model, provider)
    return original(model, provider=provider, **fields) if name is None else _embeddings(name, **fields)


def _chat(model: str, **fields: object) -> BaseChatModel:
    from hana_ai.api.chat_models import ChatTogetherAI

    return ChatTogetherAI(model=model or None, **fields)


def _embeddings(model: str, **fields: object) -> Embeddings:
    from hana_ai.api.embeddings import TogetherAIEmbeddings

    return TogetherAIEmbeddings(model=model.strip() or None, **fields)


def _entry(cls: type, *, model: str, **fields: object) -> Embeddings:
    """What the table has for a class to be made."""
    return _embeddings(model, **fields)


def _patch_chat(module: ModuleType, patcher: Patcher) -> None:
    patcher.replace(module, "_init_chat_model_helper", _init_chat_model, ["model"])


def _patch_embeddings(module: ModuleType, patcher: Patcher) -> None:
    patcher.replace(module, "init_embeddings", _init_embeddings, ["model"])


class _Providers(dict[str, tuple[str, str, Callable[..., object]]]):
    """LangChain's table with ours in it."""


def _patch_providers(module: ModuleType, patcher: Patcher) -> None:
    # Not the function itself, which people have imported by its name: it looks the table up at each call.
    table, creator = vars(module).get("_BUILTIN_PROVIDERS"), vars(module).get("_get_embeddings_class_creator")
    if not isinstance(table, dict) or any(not isinstance(it, tuple) or len(it) != 3 for it in table.values()):
        raise UpstreamChanged(f"{module.__name__}._BUILTIN_PROVIDERS is no table of modules, classes and makers")
    forget = getattr(creator, "cache_clear", None)
    if forget is None:
        raise UpstreamChanged(f"there is no cached {module.__name__}._get_embeddings_class_creator")
    ours = dict.fromkeys(_names(), ("hana_ai.api.embeddings", "TogetherAIEmbeddings", _entry))
    patcher.set(module, "_BUILTIN_PROVIDERS", _Providers({**table, **ours}))
    patcher.after_undoing(forget)


_WHAT = "the provider together_ai makes Together's model"


def _seams(distribution: str, embeddings: dict[str, Callable[[ModuleType, Patcher], None]]) -> Iterator[Seam]:
    package = distribution.replace("-", "_")
    module = f"{package}.chat_models.base"
    yield Seam(f"init_chat_model of {distribution}", module, distribution, _WHAT, _patch_chat)
    for name, patch in embeddings.items():
        yield Seam(f"init_embeddings of {name}", name, distribution, _WHAT, patch)


SEAMS = (
    *_seams("langchain", {"langchain.embeddings.base": _patch_providers}),
    *_seams(
        "langchain-classic",
        # The package has the function, too.
        dict.fromkeys(("langchain_classic.embeddings.base", "langchain_classic.embeddings"), _patch_embeddings),
    ),
)
