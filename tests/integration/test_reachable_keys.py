"""No attribute, container or closure leads from our objects to the key, but through a `SecretStr`."""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from pydantic import SecretStr

from hana_ai.api import (
    ChatTogetherAI,
    TogetherAI,
    TogetherAIClient,
    TogetherAIConnector,
    TogetherAIEmbeddings,
    TogetherAIRequestError,
    TogetherAIRerank,
    TogetherAISettings,
)
from hana_ai.api.local.together import Reply, ScriptedEngine
from hana_ai.api.transport.engine import get_engine
from tests.conftest import ScriptedTogether

_ENDS = (types.ModuleType, type, SecretStr, int, float, complex, type(None), types.FrameType)
"""What is not looked into: code, the one class that may hold a key, and what holds nothing."""


def parts(value: object) -> Iterator[tuple[str, object]]:
    """What an object leads to, each with the step that leads there."""
    if isinstance(value, dict):
        for key, inner in list(value.items()):
            yield f" key {type(key).__name__}", key
            yield f"[{str(key)[:30]!r}]", inner
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        yield from ((f"[{number}]", inner) for number, inner in enumerate(list(value)))
    for name in ("__dict__", "__pydantic_private__", "__pydantic_extra__", "__closure__", "__self__", "__func__"):
        found = getattr(value, name, None)
        if found is not None and not isinstance(found, types.MappingProxyType):
            yield f".{name}", found
    if isinstance(value, types.CellType):
        try:
            yield ".cell_contents", value.cell_contents
        except ValueError:
            return
    if isinstance(value, partial):
        yield ".partial", (value.func, value.args, value.keywords)
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            mangled = f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") else name
            if name not in ("__weakref__", "__dict__") and (found := getattr(value, mangled, None)) is not None:
                yield f".{name}", found


def ways_to(text: str, start: object) -> list[str]:
    """The ways that lead from an object to a text, but not through a `SecretStr`."""
    seen: set[int] = set()
    kept: list[object] = []
    waiting: deque[tuple[str, object]] = deque([(type(start).__name__, start)])
    found = []
    while waiting:
        way, value = waiting.popleft()
        if isinstance(value, (str, bytes, bytearray)):
            if text in (value if isinstance(value, str) else value.decode("latin-1")):
                found.append(way)
            continue
        if id(value) in seen or isinstance(value, _ENDS):
            continue
        seen.add(id(value))
        kept.append(value)
        if isinstance(value, types.FunctionType):
            waiting.append((f"{way}.__closure__", value.__closure__ or ()))
            waiting.append((f"{way}.__defaults__", (value.__defaults__, value.__kwdefaults__)))
            continue
        if type(value).__name__ == "CIMultiDict":
            waiting.append((f"{way}.items()", list(value.items())))  # type: ignore[attr-defined]
        waiting.extend((way + step, inner) for step, inner in parts(value))
    return found


def test_the_walk_finds_what_there_is() -> None:
    class Slotted:
        __slots__ = ("inner",)

    hidden = Slotted()
    hidden.inner = {"a": [lambda: key]}
    key = "the-text"
    assert ways_to("the-text", hidden)
    assert ways_to("the-text", partial(print, {"x": b"..the-text.."}))
    assert not ways_to("the-text", {"x": SecretStr("the-text")})


async def _connector(server: ScriptedTogether) -> object:
    connector = TogetherAIConnector(server.client)
    await connector.__aenter__()
    await connector.list_endpoints()
    return connector


USED: dict[str, Callable[[ScriptedTogether], Any]] = {
    "chat": lambda server: _used(ChatTogetherAI(model=ScriptedEngine.CHAT, **server.client), "invoke", "Hi"),
    "stream": lambda server: _streamed(ChatTogetherAI(model=ScriptedEngine.CHAT, **server.client)),
    "llm": lambda server: _used(TogetherAI(model=ScriptedEngine.CHAT, **server.client), "invoke", "Hi"),
    "embeddings": lambda server: _used(
        TogetherAIEmbeddings(model=ScriptedEngine.EMBEDDING, **server.client), "embed_query", "Hi"
    ),
    "rerank": lambda server: _used(
        TogetherAIRerank(model=ScriptedEngine.RERANK, **server.client), "rerank", "a", ["a", "b"]
    ),
    "client": lambda server: _used(
        TogetherAIClient(TogetherAISettings(**{f"together_{k}": v for k, v in server.client.items()})),
        "generate_chat_completion",
        "Hi",
        model=ScriptedEngine.CHAT,
    ),
    "connector": lambda server: asyncio.run(_connector(server)),
    "engine": lambda server: (
        _used(ChatTogetherAI(model=ScriptedEngine.CHAT, **server.client), "invoke", "Hi") and get_engine()
    ),
}


def _used(made: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    getattr(made, method)(*args, **kwargs)
    return made


def _streamed(chat: ChatTogetherAI) -> ChatTogetherAI:
    stream = chat.stream("Hi")
    next(stream)
    return [chat, stream]  # type: ignore[return-value]


@pytest.mark.parametrize("name", USED)
def test_no_way_leads_from_an_object_that_was_used_to_the_key(together: ScriptedTogether, name: str) -> None:
    assert ways_to(str(together.api_key), USED[name](together)) == []


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_no_way_leads_from_an_error_to_the_key(together: ScriptedTogether, status: int) -> None:
    from hana_ai.api.local.together.refusal import Refusal

    together.check_answers = False
    together.engine.always(Reply(status=status))
    together.management.refuse("GET", "/endpoints$", Refusal(status, "no"), times=9)
    chat = ChatTogetherAI(model=ScriptedEngine.CHAT, max_retries=0, **together.client)
    with pytest.raises(TogetherAIRequestError) as of_chat:
        chat.invoke("Hi")
    async with TogetherAIConnector(together.client) as connector:
        with pytest.raises(TogetherAIRequestError) as of_connector:
            await connector.list_endpoints()
    for caught in (of_chat.value, of_connector.value):
        links: list[BaseException | None] = [caught, caught.__cause__, caught.__context__]
        assert [way for link in links if link is not None for way in ways_to(str(together.api_key), link)] == []
