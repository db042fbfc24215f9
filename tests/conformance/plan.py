"""Every request to a model that the suite sends, so that what a run may cost can be said before it begins."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hana_ai.api.catalog.model_info import ModelInfo
from hana_ai.api.wire.token_counts import Tokens

WRONG_KEY = "tgp_v1_nobodys"
UNKNOWN_MODEL = "nobody/has-this-model"
_USUAL_CONTEXT = 131_072
"""Tokens, where the catalogue says nothing."""
PATHS = {
    "chat": "/v1/chat/completions",
    "completion": "/v1/completions",
    "embedding": "/v1/embeddings",
    "rerank": "/v1/rerank",
}

Models = Mapping[str, ModelInfo]
"""The model of each kind: chat, embedding, rerank; a kind that has none is missing."""
Body = dict[str, Any]


@dataclass(frozen=True)
class Ask:
    """One request.

    Attributes
    ----------
    operation
        chat, completion, embedding or rerank.
    fields
        The body without the model, or what makes it from the model.
    model
        Instead of the one of the catalogue.
    """

    operation: str
    fields: Body | Callable[[ModelInfo], Body]
    model: str | None = None

    @property
    def kind(self) -> str:
        """The kind of model that answers."""
        return "chat" if self.operation == "completion" else self.operation

    def body(self, models: Models) -> Body:
        """The whole body."""
        asked = models[self.kind]
        fields = self.fields(asked) if callable(self.fields) else self.fields
        return {"model": self.model or asked.id, **fields}

    def at_most(self, models: Models) -> Tokens | None:
        """The most tokens that it may take; None where no model of its kind is there, and it is not sent.

        A token has two characters or more in all that is sent here.
        """
        if self.kind not in models:
            return None
        body = self.body(models)
        bound = body.get("max_tokens", body.get("max_completion_tokens", 0))
        completion = bound * body.get("n", 1) if isinstance(bound, int) else 0
        return Tokens(prompt=len(json.dumps(body)) // 2, completion=completion)


def _chat(text: str, /, max_tokens: int = 24, **fields: Any) -> Ask:
    return Ask("chat", {"messages": [{"role": "user", "content": text}], "max_tokens": max_tokens, **fields})


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CITY = {
    "type": "json_schema",
    "json_schema": {
        "name": "city",
        "schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
_DOCUMENTS = ["A column store keeps columns.", "A row store keeps rows.", "Whales are mammals."]
_EVERY_SAMPLING_FIELD: Body = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.05,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "seed": 7,
}


def _too_long(model: ModelInfo) -> Body:
    words = (model.context_length or _USUAL_CONTEXT) + 1_000
    return {"messages": [{"role": "user", "content": "a " * words}], "max_tokens": 1}


PLAN: Mapping[str, Ask] = {
    # Replies.
    "chat": _chat("Say hello."),
    "chat, sampled": _chat("Say hello.", **_EVERY_SAMPLING_FIELD),
    "chat, two choices": _chat("Say hello.", n=2),
    "chat, log probabilities": _chat("Say hello.", max_tokens=4, logprobs=1),
    "chat, four tokens": _chat(
        "Count from one to one hundred in words, please, one after the other.", max_tokens=4
    ),
    "chat, max_completion_tokens": Ask(
        "chat",
        {"messages": [{"role": "user", "content": "Count from one to one hundred."}], "max_completion_tokens": 4},
    ),
    "chat, stopped": _chat("Repeat exactly: one two three four", stop=["three"]),
    "chat, stop as a string": _chat("Repeat exactly: one two three four", stop="three"),
    "chat, JSON mode": _chat("Answer in JSON: which city is the capital of France?", 64, response_format=CITY),
    "chat, any JSON": _chat(
        'Answer as a JSON object such as {"city": "Rome"}: the capital of France?',
        64,
        response_format={"type": "json_object"},
    ),
    "chat, tool": _chat("How is the weather in Paris?", 128, tools=[WEATHER], tool_choice="required"),
    "chat, named tool": _chat(
        "How is the weather in Paris?",
        128,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
    ),
    "chat, answer of a tool": Ask(
        "chat",
        {
            "messages": [
                {"role": "user", "content": "How is the weather in Paris?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "Sunny."},
            ],
            "tools": [WEATHER],
            "max_tokens": 32,
        },
    ),
    "chat, tools with response_format": _chat(
        "How is the weather in Paris?", 128, tools=[WEATHER], response_format=CITY
    ),
    "chat, unknown field": _chat("Say hello.", 4, nobody_knows_this=1),
    "completion": Ask("completion", {"prompt": "One, two, three,", "max_tokens": 8}),
    "embedding": Ask("embedding", {"input": ["A column store.", "A row store."]}),
    "embedding, one text": Ask("embedding", {"input": "A column store."}),
    "rerank": Ask("rerank", {"query": "What keeps columns?", "documents": _DOCUMENTS}),
    "rerank, best two": Ask(
        "rerank",
        {"query": "What keeps columns?", "documents": _DOCUMENTS, "top_n": 2, "return_documents": True},
    ),
    # Streams.
    "stream": _chat("Say hello.", stream=True),
    "stream, tool": _chat(
        "How is the weather in Paris?", 128, tools=[WEATHER], tool_choice="required", stream=True
    ),
    "stream, usage asked for": _chat("Say hello.", stream=True, stream_options={"include_usage": True}),
    "stream, completion": Ask("completion", {"prompt": "One, two, three,", "max_tokens": 8, "stream": True}),
    # Refusals.
    "wrong key": _chat("Say hello.", 1),
    "unknown model": Ask(
        "chat", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}, UNKNOWN_MODEL
    ),
    "unknown embedding model": Ask("embedding", {"input": "Hi"}, UNKNOWN_MODEL),
    "no messages": Ask("chat", {"messages": [], "max_tokens": 1}),
    "unknown role": Ask("chat", {"messages": [{"role": "nobody", "content": "Hi"}], "max_tokens": 1}),
    "temperature below 0": _chat("Say hello.", 1, temperature=-1),
    "top_p above 1": _chat("Say hello.", 1, top_p=2),
    "max_tokens as text": _chat("Say hello.", "four"),  # type: ignore[arg-type]
    "max_tokens of 0": _chat("Say hello.", 0),
    "too many choices": _chat("Say hello.", 1, n=129),
    "unknown response format": _chat("Say hello.", 1, response_format={"type": "nobody"}),
    "tool choice without tools": _chat("Say hello.", 1, tool_choice="required"),
    "prompt too long": Ask("chat", _too_long),
    "stream of an unknown model": Ask(
        "chat", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "stream": True}, UNKNOWN_MODEL
    ),
    "embedding of nothing": Ask("embedding", {"input": []}),
    "rerank, unknown field": Ask("rerank", {"query": "a", "documents": ["a"], "nobody_knows_this": 1}),
    # What the product's own classes send, much alike.
    "product, chat": _chat("Say hello.", 32),
    "product, stream": _chat("Say hello.", 32),
    "product, tool": _chat("How is the weather in Paris?", 128, tools=[WEATHER], tool_choice="required"),
    "product, structured": _chat("Which city is the capital of France?", 64, response_format=CITY),
    "product, prompt too long": Ask("chat", _too_long),
    "product, embedding": Ask("embedding", {"input": ["A column store.", "A row store."]}),
    "product, rerank": Ask("rerank", {"query": "What keeps columns?", "documents": _DOCUMENTS}),
    "batch of one line": _chat("Say hello.", 8),
}


@dataclass(frozen=True)
class Estimate:
    """What a run may cost at most."""

    usd: Decimal
    calls: int
    unpriced: tuple[str, ...]
    """Models whose price the catalogue does not say."""


def estimate(models: Models) -> Estimate:
    """Add up the most that each request may cost, by the catalogue's prices."""
    total, calls, unpriced = Decimal(0), 0, set()
    for ask in PLAN.values():
        tokens = ask.at_most(models)
        if tokens is None:
            continue
        calls += 1
        cost = models[ask.kind].cost_of(tokens)
        if cost is None:
            unpriced.add(models[ask.kind].id)
        else:
            total += cost
    return Estimate(total, calls, tuple(sorted(unpriced)))


def choose(catalog: Mapping[str, ModelInfo], wanted: Mapping[str, str]) -> dict[str, ModelInfo]:
    """The cheapest model of each kind that the address serves without an endpoint, or the one that is wanted."""
    chosen = {}
    for kind in ("chat", "embedding", "rerank"):
        if name := wanted.get(kind):
            chosen[kind] = catalog.get(name) or ModelInfo(name, name, frozenset({kind}))
            continue
        found = [model for model in catalog.values() if kind in model.kinds and _is_usable(model)]
        if kind == "chat":
            found = [model for model in found if {"TOOL_CALLING", "STRUCTURED_OUTPUT"} <= model.features]
        if found:
            chosen[kind] = min(found, key=_preference)
    return chosen


def _is_usable(model: ModelInfo) -> bool:
    listed_anyway = "capabilities" in model.raw and not model.raw.get("serverlessEndpoint")
    return model.input_price is not None and not model.deprecated and not listed_anyway


def _preference(model: ModelInfo) -> tuple[bool, Decimal, str]:
    # A model that thinks first spends the few tokens that it has on that.
    thinks = "REASONING" in model.features
    # Nearly all tokens are those of the two prompts that are too long for the model.
    prompts = (model.input_price or Decimal(0)) * 2 * (model.context_length or _USUAL_CONTEXT)
    return thinks, prompts + (model.output_price or Decimal(0)) * 2_000, model.id
