"""SAP's LangChain classes for GenAI Hub: ``ChatOpenAI(proxy_model_name=...)`` and others make Together's models.

Routed is the construction of exactly these classes, whenever their names were imported: the class's metaclass is
exchanged for one that makes Together's object instead (sap-ai-sdk-gen 7.4.1). That object is none of SAP's class,
and `isinstance` says so. SAP's own is made where the call names a client or an address of its own, or a
deployment that TOGETHER_MODEL_MAP does not have, for a subclass of the user's, and in a block of `stay`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from hana_ai.api.routing import models, scopes
from hana_ai.api.routing.arguments import (
    WITHOUT_MEANING,
    asked_model,
    fields_of,
    is_given,
    names_a_deployment,
)
from hana_ai.api.routing.seams import Patcher, Seam, class_in
from hana_ai.api.wire.schemas import JSONObject

if TYPE_CHECKING:
    from pydantic import BaseModel

_OF_ITS_OWN = frozenset(
    {
        "api_base", "api_key", "async_client", "aws_access_key_id", "aws_secret_access_key", "aws_session_token",
        "azure_ad_token", "azure_endpoint", "base_url", "bedrock_client", "client", "credentials",
        "credentials_profile_name", "endpoint_url", "google_api_key", "http_async_client", "http_client",
        "openai_api_base", "openai_api_key", "root_async_client", "root_client",
    }
)  # fmt: skip
"""Whoever gives one of these has a server, a client or a key of their own, which is not for Together."""

_OPENAI = frozenset(
    {
        "api_version", "check_embedding_ctx_length", "embedding_ctx_length", "input_type", "openai_api_type",
        "openai_api_version", "openai_organization", "organization", "tiktoken_enabled", "tiktoken_model_name",
    }
)  # fmt: skip
_AMAZON = frozenset({"beta_use_converse_api", "config", "model_id", "provider", "region_name"})
_GOOGLE = frozenset(
    {"convert_system_message_to_human", "location", "model_id", "project", "task_type", "transport"}
)


@dataclass(frozen=True)
class _HubClass:
    """One of SAP's classes, and what stands in for it."""

    name: str
    kind: Literal["chat", "text", "embedding"]
    without_meaning: frozenset[str]
    renamed: Mapping[str, str] = field(default_factory=dict)


_BEDROCK_NAMES = {"maxTokenCount": "max_tokens", "topP": "top_p", "stopSequences": "stop"}
_GOOGLE_NAMES = {"max_output_tokens": "max_tokens"}

_CLASSES: dict[str, tuple[_HubClass, ...]] = {
    "openai": (
        _HubClass("ChatOpenAI", "chat", _OPENAI, {"top_logprobs": "logprobs"}),
        _HubClass("OpenAI", "text", _OPENAI | {"streaming"}),
        _HubClass("OpenAIEmbeddings", "embedding", _OPENAI),
    ),
    "amazon": (
        _HubClass("ChatBedrock", "chat", _AMAZON, _BEDROCK_NAMES),
        _HubClass("ChatBedrockConverse", "chat", _AMAZON, _BEDROCK_NAMES),
        _HubClass("BedrockEmbeddings", "embedding", _AMAZON),
    ),
    "google_genai": (
        _HubClass("ChatGoogleGenerativeAI", "chat", _GOOGLE, _GOOGLE_NAMES),
        _HubClass("GoogleGenerativeAIEmbeddings", "embedding", _GOOGLE, {"output_dimensionality": "dimensions"}),
    ),
}


def _make(hub_class: _HubClass, *args: object, **given: object) -> object | None:
    """Together's object for a call of one of SAP's classes; None where SAP's own is to be made."""
    asked = asked_model(args, given)
    own = names_a_deployment(given) or any(is_given(given.get(name)) for name in _OF_ITS_OWN)
    if asked is None or len(args) > 1 or own or scopes.is_staying():
        return None
    if hub_class.kind == "embedding":
        if not models.routes_embeddings("user"):
            return None
        return models.embeddings(asked, fields=_fields(hub_class, given))
    make = models.chat_model if hub_class.kind == "chat" else models.text_model
    return make(asked, _fields(hub_class, given))


def _fields(hub_class: _HubClass, asked: Mapping[str, object]) -> dict[str, object]:
    from hana_ai.api.chat_models import ChatTogetherAI
    from hana_ai.api.embeddings import TogetherAIEmbeddings
    from hana_ai.api.llms import TogetherAI

    kinds: dict[str, type[BaseModel]] = {
        "chat": ChatTogetherAI,
        "text": TogetherAI,
        "embedding": TogetherAIEmbeddings,
    }
    given: JSONObject = dict(asked)
    if hub_class.without_meaning is _AMAZON:
        # Where the legacy API of Bedrock has the parameters of a request.
        given = {**(given.pop("model_kwargs", None) or {}), **given}
    if isinstance(given.get("logprobs"), bool):
        # OpenAI's switch, beside which is the number that Together takes for it.
        wanted = given.pop("logprobs")
        given["top_logprobs"] = given.get("top_logprobs") or 1 if wanted else None
    return fields_of(
        kinds[hub_class.kind],
        hub_class.name,
        given,
        renamed=hub_class.renamed,
        without_meaning=WITHOUT_MEANING | hub_class.without_meaning,
    )


def _patch(classes: tuple[_HubClass, ...], module: ModuleType, patcher: Patcher) -> None:
    for hub_class in classes:
        patcher.construct(class_in(module, hub_class.name), partial(_make, hub_class))


SEAMS = tuple(
    Seam(
        f"GenAI Hub's {', '.join(hub_class.name for hub_class in classes)}",
        f"gen_ai_hub.proxy.langchain.{module}",
        "sap-ai-sdk-gen",
        "constructing one makes Together's model",
        partial(_patch, classes),
    )
    for module, classes in _CLASSES.items()
)
