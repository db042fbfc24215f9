"""langgraph's store with the embeddings as its index, and its checkpointers with the chat model's messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.prebuilt import InjectedStore
from langgraph.store.base import BaseStore, PutOp
from langgraph.store.memory import InMemoryStore

from hana_ai.api import ChatTogetherAI, TogetherAIEmbeddings
from hana_ai.api.local.together import Call, Reply, ScriptedEngine, Usage
from tests.conftest import ScriptedTogether

THREAD: Any = {"configurable": {"thread_id": "1"}}


@pytest.fixture
def store(together: ScriptedTogether) -> InMemoryStore:
    embeddings = TogetherAIEmbeddings(model=together.engine.EMBEDDING, **together.client)
    return InMemoryStore(index={"embed": embeddings, "dims": 256, "fields": ["text"]})


@pytest.fixture
def chat(together: ScriptedTogether) -> ChatTogetherAI:
    return ChatTogetherAI(model=together.engine.CHAT, **together.client)


def lookup(material: str) -> str:
    """Look a material up."""
    return f"{material} is a pump."


# --- stores ---


def test_a_store_finds_by_meaning(store: InMemoryStore, engine: ScriptedEngine) -> None:
    for number, text in enumerate(("a pump", "a valve", "a pipe")):
        store.put(("parts",), str(number), {"text": text})
    found = store.search(("parts",), query="a valve", limit=2)

    assert (found[0].key, found[0].score) == ("1", pytest.approx(1.0, abs=1e-5))
    assert len(found) == 2
    assert {request.path for request in engine.posts} == {"/v1/embeddings"}


async def test_a_store_finds_by_meaning_from_a_coroutine(store: InMemoryStore, engine: ScriptedEngine) -> None:
    await asyncio.gather(
        *(store.aput(("parts",), str(number), {"text": f"part {number}"}) for number in range(20))
    )
    found = await store.asearch(("parts",), query="part 7", limit=1)
    assert (found[0].key, found[0].score) == ("7", pytest.approx(1.0, abs=1e-5))


def test_a_batch_of_a_store_is_embedded_in_one_request(store: InMemoryStore, engine: ScriptedEngine) -> None:
    store.batch([PutOp(("parts",), str(number), {"text": f"part {number}"}) for number in range(50)])
    assert [len(request.body["input"]) for request in engine.posts] == [50]


def test_an_agents_tool_remembers_in_a_store(
    store: InMemoryStore, chat: ChatTogetherAI, engine: ScriptedEngine
) -> None:
    def recall(question: str, store: Annotated[BaseStore, InjectedStore()]) -> str:
        """Recall something."""
        return str(store.search(("parts",), query=question, limit=1)[0].value["text"])

    store.put(("parts",), "1", {"text": "a pump"})
    store.put(("parts",), "2", {"text": "a valve"})
    engine.on(
        "/v1/chat/completions",
        lambda request: (
            Reply(tool_calls=[Call("recall", {"question": "a pump"})])
            if request.body["messages"][-1]["role"] == "user"
            else None
        ),
    )
    state = create_agent(chat, [recall], store=store).invoke({"messages": [HumanMessage("What do I need?")]})
    assert state["messages"][-2].content == "a pump"


# --- checkpointers ---

SERIALIZERS: dict[str, Callable[[], JsonPlusSerializer]] = {
    "default": JsonPlusSerializer,
    "with pickle": lambda: JsonPlusSerializer(pickle_fallback=True),
}


def answers(chat: ChatTogetherAI, engine: ScriptedEngine) -> list[BaseMessage]:
    """A message of each form: text, reasoning, tool calls that are valid and not, structure, a stream's chunks."""
    engine.reply(
        Reply(text="plain", usage=Usage(10, 5, cached_tokens=4)),
        Reply(text="thought through", reasoning="Let me see.", usage=Usage(3, 9, reasoning_tokens=3)),
        Reply(tool_calls=[Call("lookup", {"material": "M-1"}), Call("lookup", {"material": "M-2"})]),
        Reply(tool_calls=[Call("lookup", '{"material": ')]),
        Reply(text="one two three", reasoning="Count."),
    )
    bound = chat.bind_tools([lookup])
    given = [chat.invoke("1"), chat.invoke("2"), bound.invoke("3"), bound.invoke("4", logprobs=1)]
    chunks = list(chat.stream("5"))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return [*given, *chunks, whole]


@pytest.mark.parametrize("serializer", SERIALIZERS.values(), ids=list(SERIALIZERS))
@pytest.mark.parametrize("output_version", ["v0", "v1"])
def test_every_answer_survives_a_checkpoint(
    together: ScriptedTogether,
    engine: ScriptedEngine,
    serializer: Callable[[], JsonPlusSerializer],
    output_version: str,
) -> None:
    chat = ChatTogetherAI(model=engine.CHAT, output_version=output_version, **together.client)
    given = answers(chat, engine)
    plain, thought, calling, invalid, *chunks = given
    assert isinstance(plain, AIMessage)
    assert isinstance(calling, AIMessage)
    assert isinstance(invalid, AIMessage)
    assert isinstance(chunks[-1], AIMessageChunk)
    assert plain.usage_metadata is not None
    assert plain.usage_metadata["input_token_details"] == {"cache_read": 4}
    assert "reasoning" in [block["type"] for block in thought.content_blocks]
    assert (len(calling.tool_calls), len(invalid.invalid_tool_calls)) == (2, 1)

    serde = serializer()
    for message in given:
        again = serde.loads_typed(serde.dumps_typed(message))
        assert (type(again), again) == (type(message), message)
        assert again.content_blocks == message.content_blocks


@pytest.mark.parametrize("asynchronously", [False, True], ids=["sync", "async"])
def test_a_thread_goes_on_where_it_was(chat: ChatTogetherAI, engine: ScriptedEngine, asynchronously: bool) -> None:
    saver = InMemorySaver()

    def run(text: str) -> list[BaseMessage]:
        # A fresh agent each time, as another process would make it.
        agent = create_agent(chat, [lookup], checkpointer=saver)
        given: Any = {"messages": [HumanMessage(text)]}
        state = asyncio.run(agent.ainvoke(given, THREAD)) if asynchronously else agent.invoke(given, THREAD)
        return list(state["messages"])

    engine.reply(
        Reply(reasoning="I should look.", tool_calls=[Call("lookup", {"material": "M-1"}, id="call_1")]),
        Reply(text="A pump.", reasoning="It says so."),
    )
    before = run("What is M-1?")
    engine.reply(Reply(text="You are welcome."))
    after = run("Thank you.")

    assert after[:4] == before
    sent = engine.posts[-1].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "assistant", "user"]
    assert [sent[1]["reasoning"], sent[3]["reasoning"]] == ["I should look.", "It says so."]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"] == "call_1"


def test_a_checkpoint_holds_no_key(chat: ChatTogetherAI, together: ScriptedTogether) -> None:
    saver = InMemorySaver()
    create_agent(chat, checkpointer=saver).invoke({"messages": [HumanMessage("Hello")]}, THREAD)
    kept = repr(dict(saver.storage)) + repr(dict(saver.blobs)) + repr(dict(saver.writes))
    assert "Hello" in kept
    assert str(together.api_key) not in kept
