"""What a call leaves behind."""

from __future__ import annotations

import asyncio
import gc

from hana_ai.api import ChatTogetherAI, TogetherAIEmbeddings
from hana_ai.api.local.together import Reply, ScriptedEngine
from tests.conftest import ScriptedTogether, eventually


async def test_a_stream_that_is_not_read_to_its_end_closes_its_connection(together: ScriptedTogether) -> None:
    together.check_answers = False
    chat = ChatTogetherAI(model=ScriptedEngine.CHAT, **together.client)
    together.engine.reply(Reply(text="one two three", stall_at_chunk=2), Reply(), Reply())
    stream = chat.astream("Hello")
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    await eventually(lambda: together.statistics.open_connections == 0)
    for _ in range(2):
        await chat.ainvoke("Hello")
    assert together.statistics.open_connections == 1


async def test_a_call_leaves_nothing_to_the_garbage_collector(together: ScriptedTogether) -> None:
    chat = ChatTogetherAI(model=ScriptedEngine.CHAT, **together.client)
    embeddings = TogetherAIEmbeddings(model=ScriptedEngine.EMBEDDING, **together.client)

    async def calls() -> None:
        chat.invoke("Hello")
        await chat.ainvoke("Hello")
        assert list(chat.stream("Hello"))
        assert [chunk async for chunk in chat.astream("Hello")]
        embeddings.embed_query("Hello")
        await embeddings.aembed_query("Hello")

    await calls()
    gc.collect()
    gc.disable()
    try:
        gc.set_debug(gc.DEBUG_SAVEALL)
        await calls()
        await asyncio.sleep(0)
        gc.collect()
        modules = {type(thing).__module__ for thing in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    ours = ("httpx", "httpcore", "aiohttp", "together", "hana_ai.api.transport", "hana_ai.api.langchain")
    assert not [module for module in modules if module.startswith(ours)]
