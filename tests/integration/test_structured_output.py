"""Structured output against the loopback server: three methods, three kinds of schema, both ways."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, ValidationError
from typing_extensions import TypedDict

from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.errors import TogetherAIInputError, TogetherAIStructuredOutputError
from hana_ai.api.local.together import Call, LlamaCppEngine, LocalTogether, Reply, ScriptedEngine
from hana_ai.api.service import catalog_for
from hana_ai.api.together_ai import TogetherAIClient
from tests.conftest import ScriptedTogether


class City(BaseModel):
    """A city."""

    name: str
    people: int


class CityDict(TypedDict):
    """A city."""

    name: Annotated[str, ..., "its name"]
    people: Annotated[int, ..., "how many live there"]


JSON_SCHEMA = City.model_json_schema()
SCHEMAS: dict[str, Any] = {"pydantic": City, "typeddict": CityDict, "json schema": JSON_SCHEMA}
TEXT = "Walldorf has 15000 people."

four = pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
three = pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])


@pytest.fixture
def chat(together: ScriptedTogether) -> ChatTogetherAI:
    return ChatTogetherAI(model=together.model("chat"), **together.client)


async def ask(chain: Any, way: str, given: Any = TEXT) -> Any:
    """The answer, or the last of the answers of a stream."""
    if way == "invoke":
        return await asyncio.to_thread(chain.invoke, given)
    if way == "ainvoke":
        return await chain.ainvoke(given)
    if way == "stream":
        return (await asyncio.to_thread(lambda: list(chain.stream(given))))[-1]
    return [part async for part in chain.astream(given)][-1]


@four
@three
@pytest.mark.parametrize("kind", SCHEMAS)
@pytest.mark.parametrize("strict", [None, True])
async def test_the_answer_has_the_shape_of_the_schema(
    chat: ChatTogetherAI, engine: ScriptedEngine, way: str, method: Any, kind: str, strict: bool | None
) -> None:
    if method == "json_mode":
        # Only the prompt describes the shape, and the engine reads no prompts.
        engine.reply(Reply(text='{"name": "Walldorf", "people": 15000}'))
    chain = chat.with_structured_output(SCHEMAS[kind], method=method, strict=strict)
    got = await ask(chain, way)
    found = got.model_dump() if kind == "pydantic" else got
    assert isinstance(got, City if kind == "pydantic" else dict)
    assert set(found) == {"name", "people"}
    assert found["people"] == 15000
    body = engine.posts[-1].body
    if method == "function_calling":
        assert body["tool_choice"]["function"]["name"] == body["tools"][0]["function"]["name"]
        assert body["tools"][0]["function"].get("strict") is strict
    elif method == "json_schema":
        assert body["response_format"]["json_schema"].get("strict") is strict
    else:
        assert body["response_format"] == {"type": "json_object"}


@four
@three
async def test_the_raw_message_is_there_too(
    chat: ChatTogetherAI, engine: ScriptedEngine, way: str, method: Any
) -> None:
    if method == "json_mode":
        engine.reply(Reply(text='{"name": "Walldorf", "people": 15000}'))
    chain = chat.with_structured_output(City, method=method, include_raw=True)
    if way in ("invoke", "ainvoke"):
        got = await ask(chain, way)
        assert isinstance(got["raw"], AIMessage)
        assert got["raw"].usage_metadata is not None
        assert isinstance(got["parsed"], City)
        assert got["parsing_error"] is None
        return
    keys: set[str] = set()
    async for part in chain.astream(TEXT):
        keys |= set(part)
    assert keys == {"raw", "parsed", "parsing_error"}


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@three
async def test_with_the_raw_message_an_error_is_a_value(
    chat: ChatTogetherAI, engine: ScriptedEngine, way: str, method: Any
) -> None:
    engine.reply(Reply(text="I'd rather not."))
    got = await ask(chat.with_structured_output(City, method=method, include_raw=True), way)
    assert got["raw"].content == "I'd rather not."
    assert got["parsed"] is None
    assert isinstance(got["parsing_error"], TogetherAIStructuredOutputError)


@four
@three
async def test_an_answer_of_another_shape_is_an_error_with_the_finish_reason(
    chat: ChatTogetherAI, engine: ScriptedEngine, way: str, method: Any
) -> None:
    engine.reply(Reply(text="I'd rather not."))
    with pytest.raises(TogetherAIStructuredOutputError, match="finish reason: stop") as caught:
        await ask(chat.with_structured_output(City, method=method), way)
    assert "I'd rather not." in str(caught.value)
    assert caught.value.llm_output == "I'd rather not."


@four
async def test_an_answer_that_was_cut_off_is_an_error_that_says_so(
    chat: ChatTogetherAI, engine: ScriptedEngine, way: str
) -> None:
    engine.reply(Reply(text='{"name": "Wall', finish_reason="length"))
    with pytest.raises(TogetherAIStructuredOutputError, match=r"finish reason: length.*raise max_tokens"):
        await ask(chat.with_structured_output(City, method="json_schema"), way)


@four
@pytest.mark.parametrize("kind", SCHEMAS)
@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
async def test_an_answer_that_was_cut_off_is_an_error_whatever_the_schema(
    chat: ChatTogetherAI, engine: ScriptedEngine, way: str, kind: str, method: Any
) -> None:
    chain = chat.with_structured_output(SCHEMAS[kind], method=method)
    cut = '{"name": "Wall'
    if method == "function_calling":
        name = chain.first.kwargs["tools"][0]["function"]["name"]  # type: ignore[attr-defined]
        engine.reply(Reply(tool_calls=[Call(name, cut)], finish_reason="length"))
    else:
        engine.reply(Reply(text=cut, finish_reason="length"))
    with pytest.raises(TogetherAIStructuredOutputError, match=r"finish reason: length.*raise max_tokens"):
        await ask(chain, way)


@four
@pytest.mark.parametrize("arguments", ['{"name": "Walldorf", "people": "many"}', "{}", "Walldorf"])
async def test_a_call_whose_arguments_do_not_fit_is_an_error_that_says_why(
    chat: ChatTogetherAI, engine: ScriptedEngine, way: str, arguments: str
) -> None:
    engine.reply(Reply(tool_calls=[Call("City", arguments)]))
    with pytest.raises(TogetherAIStructuredOutputError, match="finish reason: tool_calls") as caught:
        await ask(chat.with_structured_output(City, method="function_calling"), way)
    assert "City" in str(caught.value)
    assert not isinstance(caught.value, ValidationError)


def test_a_stream_gives_the_object_as_it_grows(chat: ChatTogetherAI) -> None:
    chain = chat.with_structured_output(JSON_SCHEMA, method="json_schema")
    parts: list[Any] = list(chain.stream(TEXT))
    assert len(parts) > 1
    assert parts[-1] == {"name": TEXT, "people": 15000}


def test_with_other_tools_the_model_may_call_them(chat: ChatTogetherAI, engine: ScriptedEngine) -> None:
    chain = chat.with_structured_output(City, method="function_calling", tools=[CityDict])
    got = chain.invoke(TEXT)
    assert isinstance(got, City)
    engine.reply(Reply(tool_calls=[Call("CityDict", {"name": "x", "people": 1})]))
    raw = chat.with_structured_output(City, method="function_calling", tools=[CityDict], include_raw=True)
    found: Any = raw.invoke(TEXT)
    assert found["raw"].tool_calls[0]["name"] == "CityDict"
    assert found["parsed"] is None


def test_json_mode_without_a_schema_gives_whatever_it_is(chat: ChatTogetherAI) -> None:
    assert chat.with_structured_output(None, method="json_mode").invoke("yes") == {"answer": "yes"}


async def test_the_request_is_the_same_once_the_catalogue_is_read(
    together: ScriptedTogether, engine: ScriptedEngine
) -> None:
    chat = ChatTogetherAI(model=together.model("chat"), **together.client)
    chat.with_structured_output(City).invoke(TEXT)
    await catalog_for(chat.transport.base_url, chat.transport.api_key).amodels()
    chat.with_structured_output(City).invoke(TEXT)
    before, after = engine.posts
    assert before.body == after.body
    assert "tools" in after.body


# --- tools and a response format ---


def weather(place: str) -> str:
    """The weather of a place."""
    return place


FORMATS: dict[str, Any] = {
    "json_schema": {"type": "json_schema", "json_schema": {"name": "City", "schema": JSON_SCHEMA}},
    "json_object": {"type": "json_object"},
    "regex": {"type": "regex", "pattern": "yes|no"},
}


def _by_field(chat: ChatTogetherAI, wanted: Any) -> Any:
    return chat.model_copy(update={"response_format": wanted}).bind_tools([weather])


def _by_model_kwargs(chat: ChatTogetherAI, wanted: Any) -> Any:
    return chat.model_copy(update={"model_kwargs": {"response_format": wanted}}).bind_tools([weather])


def _by_extra_body(chat: ChatTogetherAI, wanted: Any) -> Any:
    return chat.bind_tools([weather], extra_body={"response_format": wanted}, tool_choice="none")


def _by_binding(chat: ChatTogetherAI, wanted: Any) -> Any:
    return chat.bind_tools([weather]).bind(response_format=wanted)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream", "batch", "abatch"])
@pytest.mark.parametrize("bound", [_by_field, _by_model_kwargs, _by_extra_body, _by_binding])
@pytest.mark.parametrize("wanted", FORMATS.values(), ids=FORMATS)
async def test_tools_and_a_response_format_never_leave_the_process(
    chat: ChatTogetherAI, engine: ScriptedEngine, way: str, bound: Any, wanted: Any
) -> None:
    chain = bound(chat, wanted)
    with pytest.raises(TogetherAIInputError, match=r"not both.*ToolStrategy\(schema\).*ask twice"):
        if way == "batch":
            await asyncio.to_thread(chain.batch, [TEXT, TEXT])
        elif way == "abatch":
            await chain.abatch([TEXT, TEXT])
        else:
            await ask(chain, way)
    assert engine.requests == deque()


def test_who_binds_both_learns_it_at_once(chat: ChatTogetherAI) -> None:
    with pytest.raises(TogetherAIInputError, match="not both"):
        chat.bind_tools([weather], response_format=FORMATS["json_object"])


async def test_the_client_refuses_both_too(together_environment: ScriptedTogether) -> None:
    client = TogetherAIClient()
    both: dict[str, Any] = {
        "tools": [convert_to_openai_tool(weather)],
        "response_format": FORMATS["json_object"],
        "model": together_environment.model("chat"),
    }
    with pytest.raises(TogetherAIInputError, match="not both"):
        client.generate_chat_completion(TEXT, **both)
    with pytest.raises(TogetherAIInputError, match="not both"):
        await client.agenerate_chat_completion(TEXT, **both)
    assert together_environment.engine.posts == []


@four
@pytest.mark.parametrize("nothing", [None, {"type": "text"}])
async def test_a_format_that_asks_for_no_shape_goes_with_tools(
    chat: ChatTogetherAI, engine: ScriptedEngine, way: str, nothing: Any
) -> None:
    await ask(chat.bind_tools([weather], response_format=nothing), way)
    [request] = engine.posts
    assert request.body["tools"]
    assert request.body.get("response_format") == nothing


@four
@pytest.mark.parametrize("tools", [[], None])
async def test_no_tools_are_left_out(chat: ChatTogetherAI, engine: ScriptedEngine, way: str, tools: Any) -> None:
    chain = chat.bind(tools=tools, tool_choice="auto", response_format=FORMATS["json_object"])
    if tools is not None:
        await ask(chain, way)
        [request] = engine.posts
        assert not {"tools", "tool_choice"} & set(request.body)
        assert request.body["response_format"] == FORMATS["json_object"]
    await ask(chat.bind(tools=tools), way)
    assert "tools" not in engine.posts[-1].body


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("tools", [[weather], []])
async def test_an_agent_makes_the_shape_a_tool(
    chat: ChatTogetherAI, engine: ScriptedEngine, way: str, tools: Any
) -> None:
    agents = pytest.importorskip("langchain.agents")
    engine.reply(Reply(tool_calls=[Call("City", {"name": "Walldorf", "people": 15000})]))
    agent = agents.create_agent(chat, tools, response_format=City)
    answer = await ask(agent, way, {"messages": [("user", TEXT)]})
    assert answer["structured_response"] == City(name="Walldorf", people=15000)
    # It needed no catalogue for that.
    [request] = engine.requests
    assert "response_format" not in request.body
    names = [tool["function"]["name"] for tool in request.body["tools"]]
    assert names == [*(tool.__name__ for tool in tools), "City"]


def test_an_agent_that_insists_on_both_is_told_what_to_do(chat: ChatTogetherAI, engine: ScriptedEngine) -> None:
    agents = pytest.importorskip("langchain.agents")
    strategy = pytest.importorskip("langchain.agents.structured_output").ProviderStrategy(City)
    with pytest.raises(TogetherAIInputError, match=r"ToolStrategy\(schema\)"):
        agents.create_agent(chat, [weather], response_format=strategy).invoke({"messages": [("user", TEXT)]})
    assert engine.requests == deque()
    agents.create_agent(chat, [], response_format=strategy).invoke({"messages": [("user", TEXT)]})
    [request] = engine.posts
    assert "tools" not in request.body
    assert request.body["response_format"]["type"] == "json_schema"


@pytest.fixture(scope="module")
def real() -> Iterator[LocalTogether]:
    with LocalTogether(LlamaCppEngine()) as server:
        yield server


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
async def test_a_real_model_keeps_to_the_schema(real: LocalTogether, method: Any) -> None:
    chat = ChatTogetherAI(model=real.model("chat"), base_url=real.base_url, api_key=real.api_key, temperature=0)
    got = await chat.with_structured_output(City, method=method).ainvoke(TEXT)
    assert isinstance(got, City)
