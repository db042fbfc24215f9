"""The product's own classes at Together's API: what a user meets first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, Field

from hana_ai.api import ChatTogetherAI, TogetherAIEmbeddings, TogetherAIRerank
from hana_ai.api.errors import (
    TogetherAIAuthenticationError,
    TogetherAIContextOverflowError,
    TogetherAIModelNotFoundError,
)

from .plan import PLAN, UNKNOWN_MODEL, WRONG_KEY
from .together_world import TogetherWorld

Product = Callable[[str], dict[str, Any]]
Saw = Callable[[str, Any], None]


class City(BaseModel):
    """A city."""

    city: str = Field(description="Its name.")


def _prompt(name: str) -> str:
    ask = PLAN[name]
    assert isinstance(ask.fields, dict)
    return str(ask.fields["messages"][0]["content"])


def test_a_chat(together_world: TogetherWorld, product: Product) -> None:
    message = ChatTogetherAI(**product("chat"), max_tokens=32).invoke(_prompt("product, chat"))
    assert message.text
    assert message.usage_metadata is not None
    assert message.usage_metadata["total_tokens"] > 0


def test_a_stream(together_world: TogetherWorld, product: Product) -> None:
    chunks = list(ChatTogetherAI(**product("chat"), max_tokens=32).stream(_prompt("product, stream")))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.text
    assert whole.usage_metadata is not None
    assert whole.response_metadata["finish_reason"]


def test_a_tool(together_world: TogetherWorld, product: Product) -> None:
    def weather(city: str) -> str:
        """The weather in a city."""
        return f"Sunny in {city}."

    chat = ChatTogetherAI(**product("chat"), max_tokens=128).bind_tools([weather], tool_choice="any")
    [call, *_] = chat.invoke(_prompt("product, tool")).tool_calls
    assert call["name"] == "weather"
    assert isinstance(call["args"]["city"], str)


def test_a_structured_answer(together_world: TogetherWorld, product: Product) -> None:
    chat = ChatTogetherAI(**product("chat"), max_tokens=64).with_structured_output(City, method="json_schema")
    assert isinstance(chat.invoke(_prompt("product, structured")), City)


def test_embeddings(together_world: TogetherWorld, product: Product) -> None:
    vectors = TogetherAIEmbeddings(**product("embedding")).embed_documents(["A column store.", "A row store."])
    assert len(vectors[0]) == len(vectors[1]) > 0


def test_a_reranking(together_world: TogetherWorld, product: Product) -> None:
    ask = PLAN["product, rerank"]
    assert isinstance(ask.fields, dict)
    ranked = TogetherAIRerank(**product("rerank")).rerank(ask.fields["query"], ask.fields["documents"])
    assert sorted(one["index"] for one in ranked) == [0, 1, 2]


def test_errors_are_told_apart(together_world: TogetherWorld, product: Product, saw: Saw) -> None:
    arguments = product("chat")
    with pytest.raises(TogetherAIAuthenticationError):
        ChatTogetherAI(**{**arguments, "api_key": WRONG_KEY}, max_tokens=1).invoke("Hi")
    with pytest.raises(TogetherAIModelNotFoundError):
        ChatTogetherAI(**{**arguments, "model": UNKNOWN_MODEL}, max_tokens=1).invoke("Hi")


def test_a_prompt_that_is_too_long_is_told_from_other_mistakes(
    together_world: TogetherWorld, product: Product
) -> None:
    """By the words of the refusal, since the status is that of any mistake."""
    fields = PLAN["product, prompt too long"].body(together_world.models)
    with pytest.raises(TogetherAIContextOverflowError):
        ChatTogetherAI(**product("chat"), max_tokens=1).invoke(fields["messages"][0]["content"])
