"""Clients of the provider and of its peers, told the same: one server, one model, everything else by default."""

from __future__ import annotations

from typing import Any

from benchmarks.case import Setting
from benchmarks.server import QUESTION

MESSAGES = [{"role": "user", "content": QUESTION}]

LANGCHAIN_TOGETHER = "langchain-together"
LITELLM = "litellm"
SDK = "sdk"
LABELS = {
    LANGCHAIN_TOGETHER: "langchain-together",
    LITELLM: "litellm",
    SDK: "together (the SDK, without LangChain)",
}


def chat(setting: Setting, model: str, **fields: Any) -> Any:
    """Our chat model."""
    from hana_ai.api.chat_models import ChatTogetherAI

    return ChatTogetherAI(model=model, base_url=setting.url, api_key="bench", **fields)


def embeddings(setting: Setting, model: str, **fields: Any) -> Any:
    """Our embedding model."""
    from hana_ai.api.embeddings import TogetherAIEmbeddings

    return TogetherAIEmbeddings(model=model, base_url=setting.url, api_key="bench", **fields)


def peer_chat(setting: Setting, model: str) -> Any:
    """langchain-together's chat model."""
    from langchain_together import ChatTogether

    return ChatTogether(model=model, base_url=f"{setting.url}/v1", api_key="bench")


def peer_embeddings(setting: Setting, model: str) -> Any:
    """langchain-together's embedding model."""
    from langchain_together import TogetherEmbeddings

    return TogetherEmbeddings(model=model, base_url=f"{setting.url}/v1", api_key="bench")


def litellm_told(setting: Setting, model: str) -> tuple[Any, dict[str, Any]]:
    """The module litellm and what each of its calls is told."""
    import litellm

    litellm.telemetry = False
    return litellm, {"model": f"together_ai/{model}", "api_base": f"{setting.url}/v1", "api_key": "bench"}


def sdk(setting: Setting) -> Any:
    """Together's client."""
    from together import Together

    return Together(base_url=setting.url, api_key="bench")


def async_sdk(setting: Setting) -> Any:
    """Together's client for coroutines."""
    from together import AsyncTogether

    return AsyncTogether(base_url=setting.url, api_key="bench")
