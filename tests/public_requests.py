"""Public requests by name, for processes that make them in the order in which they are told.

    python -m tests.public_requests

imports everything once; each line that it reads is a JSON object of ``environment``, variables to set, ``read``,
whether the catalogue is read first, and ``names``. A fork of its own makes these requests and ends, and its exit
status is printed. Each text that is sent holds its request's name in brackets, so that a server can tell which is
which.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import hana_ai

_CHECKOUT = str(Path(__file__).parents[1] / "hana_ai")
hana_ai.__path__ = [_CHECKOUT, *(path for path in hana_ai.__path__ if path != _CHECKOUT)]

from langchain.agents import create_agent  # noqa: E402
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy  # noqa: E402
from langchain_core.documents import Document  # noqa: E402
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage  # noqa: E402
from pydantic import BaseModel  # noqa: E402
from typing_extensions import TypedDict  # noqa: E402

from hana_ai.api import (  # noqa: E402
    ChatTogetherAI,
    TogetherAI,
    TogetherAIClient,
    TogetherAIEmbeddings,
    TogetherAIRerank,
    get_together_ai_client,
    init_embedding_model,
    init_llm,
)
from hana_ai.api.local.together import ScriptedEngine  # noqa: E402
from tests.generation import PARAMETERS  # noqa: E402

Request = Callable[[str], Awaitable[object]]
"""Makes a request, or more than one, with a text."""

CHAT, EMBEDDING, RERANK = ScriptedEngine.CHAT, ScriptedEngine.EMBEDDING, ScriptedEngine.RERANK


class City(BaseModel):
    """A city."""

    name: str
    people: int


class CityDict(TypedDict):
    """A city."""

    name: str
    people: int


def weather(place: str) -> str:
    """The weather of a place."""
    return f"It rains in {place}."


def _chat(**fields: Any) -> ChatTogetherAI:
    return ChatTogetherAI(model=CHAT, **fields)


def _history(text: str) -> list[Any]:
    call: Any = {"name": "weather", "args": {"place": "Walldorf"}, "id": "call-0", "type": "tool_call"}
    return [
        SystemMessage("Be short."),
        HumanMessage(text),
        AIMessage("", tool_calls=[call]),
        ToolMessage("It rains.", tool_call_id="call-0"),
        HumanMessage(
            [{"type": "text", "text": "And this?"}, {"type": "image", "url": "https://example.com/a.png"}]
        ),
    ]


CHATS: dict[str, Callable[[], Any]] = {
    "plain": _chat,
    "default model": ChatTogetherAI,
    "init_llm": lambda: init_llm(CHAT),
    "client's": lambda: TogetherAIClient().chat_model(CHAT),
    "parameters": lambda: _chat(**{**PARAMETERS, "n": 1}),
    "bound": lambda: _chat().bind(temperature=0.25, stop=["end"]),
    "reasoning": lambda: _chat(reasoning={"enabled": False}, reasoning_effort="low"),
    "tools": lambda: _chat().bind_tools([weather], tool_choice="auto"),
    "strict tools": lambda: _chat().bind_tools([weather, City], strict=True, tool_choice="any"),
    "no tools": lambda: _chat().bind_tools([]),
    "format": lambda: _chat(response_format={"type": "json_object"}),
    "structured": lambda: _chat().with_structured_output(City),
    "structured dict": lambda: _chat().with_structured_output(CityDict),
    "structured schema": lambda: _chat().with_structured_output(City.model_json_schema()),
    "structured raw": lambda: _chat().with_structured_output(City, include_raw=True),
    "structured with tools": lambda: _chat().with_structured_output(City, tools=[weather], include_raw=True),
    "function_calling": lambda: _chat().with_structured_output(City, method="function_calling", strict=True),
    "json_schema": lambda: _chat().with_structured_output(City, method="json_schema", strict=True),
    "json_mode": lambda: _chat().with_structured_output(method="json_mode"),
    "a profile of one's own": lambda: _chat(profile={"structured_output": True}).with_structured_output(City),
}
AGENTS: dict[str, Callable[[], Any]] = {
    "agent": lambda: create_agent(_chat(), [weather]),
    "agent without tools": lambda: create_agent(_chat(), []),
    "agent with a shape": lambda: create_agent(_chat(), [weather], response_format=City),
    "agent with a shape alone": lambda: create_agent(_chat(), [], response_format=City),
    "agent with a tool's shape": lambda: create_agent(_chat(), [weather], response_format=ToolStrategy(City)),
    "agent with a format": lambda: create_agent(_chat(), [], response_format=ProviderStrategy(City)),
}
COMPLETIONS: dict[str, Callable[[], Any]] = {
    "completion": lambda: TogetherAI(model=CHAT, max_tokens=5),
    "completion with parameters": lambda: TogetherAI(model=CHAT, **{**PARAMETERS, "n": 1}),
    "completion of the default model": TogetherAI,
}


async def _list(chunks: Any) -> list[Any]:
    return [chunk async for chunk in chunks]


FACES: dict[str, Callable[[Any, Any], Awaitable[object]]] = {
    "invoke": lambda chain, given: asyncio.to_thread(chain.invoke, given),
    "ainvoke": lambda chain, given: chain.ainvoke(given),
    "stream": lambda chain, given: asyncio.to_thread(lambda: list(chain.stream(given))),
    "astream": lambda chain, given: _list(chain.astream(given)),
}
BATCHES: dict[str, Callable[[Any, Any], Awaitable[object]]] = {
    "batch": lambda chain, given: asyncio.to_thread(chain.batch, [given, given]),
    "abatch": lambda chain, given: chain.abatch([given, given]),
}


def _asking(make: Callable[[], Any], face: str) -> Request:
    return lambda text: {**FACES, **BATCHES}[face](make(), text)


def _running(make: Callable[[], Any], face: str) -> Request:
    return lambda text: FACES[face](make(), {"messages": [("user", text)]})


def _in_thread(ask: Callable[[str], object]) -> Request:
    return lambda text: asyncio.to_thread(ask, text)


OTHERS: dict[str, Request] = {
    "history": lambda text: _chat().ainvoke(_history(text)),
    "generate": _in_thread(lambda text: _chat(n=2).generate([[HumanMessage(text)], [HumanMessage(text)]])),
    "client.generate_completion": _in_thread(
        lambda text: TogetherAIClient().generate_completion(text, max_tokens=3)
    ),
    "client.agenerate_completion": lambda text: TogetherAIClient().agenerate_completion(text, model=CHAT),
    "client.generate_chat_completion": _in_thread(
        lambda text: get_together_ai_client().generate_chat_completion(text, model=CHAT, temperature=0)
    ),
    "client.agenerate_chat_completion": lambda text: get_together_ai_client().agenerate_chat_completion(text),
    "client.generate_embeddings": _in_thread(lambda text: TogetherAIClient().generate_embeddings(text)),
    "client.agenerate_embeddings": lambda text: TogetherAIClient().agenerate_embeddings([text], model=EMBEDDING),
    "embed_query": _in_thread(lambda text: TogetherAIEmbeddings(model=EMBEDDING).embed_query(text)),
    "aembed_query": lambda text: TogetherAIEmbeddings(model=EMBEDDING, query_prefix="q: ").aembed_query(text),
    "embed_documents": _in_thread(
        lambda text: TogetherAIEmbeddings(batch_size=2).embed_documents([f"{text} {i}" for i in range(5)])
    ),
    "aembed_documents": lambda text: TogetherAIEmbeddings(model=EMBEDDING, dimensions=256).aembed_documents(
        [text]
    ),
    "init_embedding_model": _in_thread(lambda text: init_embedding_model(EMBEDDING).embed_query(text)),
    "a long text": _in_thread(lambda text: TogetherAIEmbeddings().embed_query(f"{text} {'word ' * 9000}")),
    "a long text to cut": lambda text: TogetherAIEmbeddings(model=EMBEDDING, on_too_long="truncate").aembed_query(
        f"{text} {'word ' * 9000}"
    ),
    "rerank": _in_thread(lambda text: TogetherAIRerank(model=RERANK, top_n=1).rerank(text, ["a", "b"])),
    "arerank": lambda text: TogetherAIRerank(model=RERANK).arerank(text, ["a", "b"]),
    "compress_documents": _in_thread(
        lambda text: TogetherAIRerank(model=RERANK).compress_documents([Document("a"), Document("b")], text)
    ),
    "predict": _in_thread(lambda text: TogetherAIRerank(model=RERANK).predict([(text, "a"), (text, "b")])),
}

REQUESTS: dict[str, Request] = {
    **{f"{name}, {face}": _asking(CHATS[name], face) for name, face in itertools.product(CHATS, FACES)},
    **{f"{name}, {face}": _running(AGENTS[name], face) for name, face in itertools.product(AGENTS, FACES)},
    **{
        f"{name}, {face}": _asking(COMPLETIONS[name], face) for name, face in itertools.product(COMPLETIONS, FACES)
    },
    **{f"{name}, {face}": _asking(CHATS[name], face) for name in ("plain", "structured") for face in BATCHES},
    **{f"completion, {face}": _asking(COMPLETIONS["completion"], face) for face in BATCHES},
    **OTHERS,
}


def mark(name: str) -> str:
    """What tells a request's texts from those of the others."""
    return f"[{name}]"


async def _make(names: list[str]) -> None:
    for name in names:
        await REQUESTS[name](f"How many live in Walldorf? {mark(name)}")


def _serve() -> None:
    for line in sys.stdin:
        told = json.loads(line)
        child = os.fork()
        if not child:
            os.environ.update(told["environment"])
            if told["read"]:
                TogetherAIClient().get_available_models()
            asyncio.run(_make(told["names"]))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
