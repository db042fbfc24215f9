"""SAP's GenAI Hub: routes its `init_llm` and `init_embedding_model`, and offers both without SAP's SDK.

Both of the SDK's functions end in the private `_init_model` of their module, which they look up at each call; it
is replaced, so that functions imported before the activation are routed as well (sap-ai-sdk-gen 7.4.1,
`gen_ai_hub/proxy/langchain/init_models.py`). The caller's own `proxy_client` or `init_func` is respected, as is a
deployment chosen by its id or configuration, unless TOGETHER_MODEL_MAP has a model for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hana_ai.api.routing import models, scopes
from hana_ai.api.routing.arguments import asked_model, fields_of, mapped_deployment, names_a_deployment
from hana_ai.api.routing.seams import Patcher, Seam, UpstreamChanged, check_parameters

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseLanguageModel

_INIT_MODEL = ["proxy_client", "model_type", "args", "kwargs", "init_func", "model_kwargs"]


def init_llm(
    *args: object,
    proxy_client: Any = None,
    temperature: float = 0.0,
    max_tokens: int = 256,
    top_k: int | None = None,
    top_p: float = 1.0,
    init_func: Callable[..., Any] | None = None,
    model_id: str | None = "",
    **kwargs: object,
) -> BaseLanguageModel[Any]:
    """Make a chat model, like SAP's ``gen_ai_hub.proxy.langchain.init_llm`` but without SAP's SDK.

    Parameters
    ----------
    *args
        The model's name first, as SAP's function takes it: one of Together's, or another one such as gpt-4o, for
        which the model in TOGETHER_MODEL_MAP answers, or else the default one.
    proxy_client, init_func
        With either of them, SAP's own function is called, and its SDK is needed.
    temperature, max_tokens, top_k, top_p
        As in SAP's function, defaults included.
    model_id
        Says how Amazon Bedrock is reached, which has no meaning here, like `config`.
    **kwargs
        `model_name`, and fields of `ChatTogetherAI`, such as `api_key` and `base_url`, which stand in for the
        settings. With `deployment_id`, `config_id` or `config_name` SAP's own function is called.

    Raises
    ------
    TogetherAIInputError
        There is no such argument; the message names it.
    TogetherAISettingsError
        There is no key, or a setting has a value that is not allowed.

    Examples
    --------
    >>> from hana_ai.api import init_llm
    >>> llm = init_llm("gpt-4o", max_tokens=1024)
    """
    if names_a_deployment({**kwargs, "proxy_client": proxy_client, "init_func": init_func}):
        from gen_ai_hub.proxy.langchain import init_llm as original

        made: BaseLanguageModel[Any] = original(
            *args, proxy_client=proxy_client, temperature=temperature, max_tokens=max_tokens, top_k=top_k,
            top_p=top_p, init_func=init_func, model_id=model_id, **kwargs,
        )  # fmt: skip
        return made
    _hide_the_key(kwargs)
    parameters = {"temperature": temperature, "max_tokens": max_tokens, "top_k": top_k, "top_p": top_p}
    return _llm(args, {**parameters, "model_id": model_id, **kwargs})


def init_embedding_model(
    *args: object,
    proxy_client: Any = None,
    init_func: Callable[..., Any] | None = None,
    model_id: str | None = "",
    **kwargs: object,
) -> Embeddings:
    """Make embeddings, like SAP's ``init_embedding_model`` but without SAP's SDK; see `init_llm`.

    Raises
    ------
    TogetherAIInputError
        There is no such argument; the message names it.
    TogetherAISettingsError
        There is no key, or no embedding model is set and the catalogue has none.
    """
    if names_a_deployment({**kwargs, "proxy_client": proxy_client, "init_func": init_func}):
        from gen_ai_hub.proxy.langchain import (
            init_embedding_model as original,
        )

        made: Embeddings = original(
            *args, proxy_client=proxy_client, init_func=init_func, model_id=model_id, **kwargs
        )
        return made
    _hide_the_key(kwargs)
    fields = _embedding_fields(args, {**kwargs, "model_id": model_id})
    found = models.embeddings(asked_model(args, kwargs), required=True, fields=fields)
    assert found is not None
    return found


def _hide_the_key(given: dict[str, object]) -> None:
    from hana_ai.api.addresses.checks import hide

    hide(given, "api_key", "together_api_key")


def _llm(args: Sequence[object], given: Mapping[str, object]) -> BaseLanguageModel[Any]:
    from hana_ai.api.chat_models import ChatTogetherAI

    _check_one(args, "init_llm")
    return models.chat_model(asked_model(args, given), fields_of(ChatTogetherAI, "init_llm", given))


def _embedding_fields(args: Sequence[object], given: Mapping[str, object]) -> dict[str, object]:
    from hana_ai.api.embeddings import TogetherAIEmbeddings

    _check_one(args, "init_embedding_model")
    return fields_of(TogetherAIEmbeddings, "init_embedding_model", given)


def _check_one(args: Sequence[object], where: str) -> None:
    from hana_ai.api.errors import TogetherAIInputError

    if len(args) > 1:
        raise TogetherAIInputError(
            f"{where} takes one argument without a name, the model's; there are {len(args)}."
        )


def _route(  # noqa: PLR0917 - the parameters of _init_model, in its order
    original: Callable[..., object],
    proxy_client: object,
    model_type: Enum,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    init_func: object = None,
    model_kwargs: Mapping[str, object] | None = None,
    **more: object,
) -> object:
    given: dict[str, object] = {**(model_kwargs or {}), **kwargs}
    own = names_a_deployment({**given, "proxy_client": proxy_client, "init_func": init_func})
    is_named = bool(args) or "model_name" in kwargs or mapped_deployment(given) is not None
    if is_named and not own and not scopes.is_staying():
        if model_type.name == "LLM":
            return _llm(args, given)
        # It is always the user who makes the SDK's embeddings.
        if models.routes_embeddings("user"):
            made = models.embeddings(asked_model(args, given), fields=_embedding_fields(args, given))
            if made is not None:
                return made
    return original(proxy_client, model_type, args, kwargs, init_func, model_kwargs, **more)


def _patch(module: ModuleType, patcher: Patcher) -> None:
    kinds = {kind.name for kind in getattr(module, "ModelType", ())}
    if not {"LLM", "EMBEDDINGS"} <= kinds:
        raise UpstreamChanged(f"{module.__name__}.ModelType has {sorted(kinds)}")
    for name in ("init_llm", "init_embedding_model"):
        function = vars(module).get(name)
        if function is None or "_init_model" not in function.__code__.co_names:
            raise UpstreamChanged(f"{name} does not go through _init_model")
        check_parameters(function, ["args"], name)
    patcher.replace(module, "_init_model", _route, _INIT_MODEL)


SEAMS = (
    Seam(
        "GenAI Hub's init_llm and init_embedding_model",
        "gen_ai_hub.proxy.langchain.init_models",
        "sap-ai-sdk-gen",
        "make Together's models",
        _patch,
    ),
)
