"""ChatTogetherAI against the loopback server, through all of its faces."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import time
import traceback
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.tools import tool

from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.errors import (
    TogetherAIAuthenticationError,
    TogetherAIContextOverflowError,
    TogetherAIInputError,
    TogetherAIModelNotFoundError,
    TogetherAIRateLimitError,
    TogetherAIResponseError,
    TogetherAIServerError,
    TogetherAISettingsError,
    TogetherAIStreamError,
)
from hana_ai.api.local.together import Call, LlamaCppEngine, LocalTogether, Reply, ScriptedEngine, Usage
from hana_ai.api.transport.call import RetryEvent
from tests.conftest import ScriptedTogether, cancel_once, eventually

PATH = "/v1/chat/completions"

both = pytest.mark.parametrize("way", ["sync", "async"])
four = pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])


@pytest.fixture
def chat(together: ScriptedTogether) -> ChatTogetherAI:
    return ChatTogetherAI(model=together.model("chat"), **together.client)


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def asked(engine: ScriptedEngine) -> list[Any]:
    return [request.body for request in engine.requests if request.path == PATH]


async def collect(chat: Any, way: str, given: Any, received: list[Any] | None = None, **kwargs: Any) -> list[Any]:
    """The chunks of a stream, also those before an error when `received` is given."""
    chunks: list[Any] = [] if received is None else received
    if way in ("sync", "stream"):

        def read() -> None:
            chunks.extend(iter_into(chat.stream(given, **kwargs), chunks))

        await asyncio.to_thread(read)
    else:
        async for chunk in chat.astream(given, **kwargs):
            chunks.append(chunk)
    return chunks


def iter_into(source: Iterator[Any], chunks: list[Any]) -> list[Any]:
    for chunk in source:
        chunks.append(chunk)
    return []


def merged(chunks: list[Any]) -> AIMessageChunk:
    whole: AIMessageChunk = chunks[0].__add__(list(chunks[1:]))
    return whole


async def ask(chat: Any, way: str, given: Any, **kwargs: Any) -> AIMessage:
    """One message, whichever way it is asked for."""
    message: AIMessage
    if way == "invoke":
        message = await asyncio.to_thread(chat.invoke, given, **kwargs)
    elif way == "ainvoke":
        message = await chat.ainvoke(given, **kwargs)
    else:
        message = merged(await collect(chat, way, given, **kwargs))
    return message


def events(*deltas: dict[str, Any], usage: Any = None, finish: str = "stop", **last: Any) -> Reply:
    """A stream of these deltas, with whatever else a choice has under `choice`."""
    head = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "some/model"}
    chunks = []
    for delta in deltas:
        choice = {"index": 0, "delta": delta, **delta.pop("choice", {})}
        chunks.append({**head, "choices": [choice]})
    chunks.append(
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": usage, **last}
    )
    body = b"".join(b"data: %b\n\n" % orjson.dumps(chunk) for chunk in chunks) + b"data: [DONE]\n\n"
    return Reply(body=body, content_type="text/event-stream")


def answer(message: dict[str, Any], *, finish: str = "stop", usage: Any = None, **more: Any) -> Reply:
    """A whole reply."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    choice |= more.pop("choice", {})
    return Reply(body={"id": "a", "model": "some/model", "choices": [choice], "usage": usage, **more})


# --- four faces and their batches ---


@four
async def test_an_answer_has_text_usage_and_metadata(
    chat: ChatTogetherAI, engine: ScriptedEngine, way: str
) -> None:
    engine.reply(Reply(text="Good morning.", usage=Usage(5, 2, cached_tokens=3)))
    message = await ask(chat, way, [SystemMessage("Be kind."), HumanMessage("Hello")])
    assert message.content == "Good morning."
    assert message.usage_metadata == {
        "input_tokens": 5,
        "output_tokens": 2,
        "total_tokens": 7,
        "input_token_details": {"cache_read": 3},
    }
    metadata = message.response_metadata
    assert metadata["model_provider"] == "together"
    assert metadata["model_name"] == chat.model
    assert metadata["finish_reason"] == "stop"
    assert metadata["id"]
    [body] = asked(engine)
    assert body["messages"] == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    assert body["model"] == chat.model


@four
async def test_reasoning_tokens_are_counted(chat: ChatTogetherAI, engine: ScriptedEngine, way: str) -> None:
    engine.reply(Reply(reasoning="Hm, well.", text="Yes.", usage=Usage(2, 5, reasoning_tokens=3)))
    message = await ask(chat, way, "Really?")
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_token_details"] == {"reasoning": 3}


async def test_batches_keep_their_order(chat: ChatTogetherAI, engine: ScriptedEngine) -> None:
    engine.on(PATH, lambda request: Reply(delay=0.2 - int(request.body["messages"][-1]["content"]) / 50))
    prompts = [str(number) for number in range(8)]
    assert [message.content for message in await asyncio.to_thread(chat.batch, prompts)] == prompts
    assert [message.content for message in await chat.abatch(prompts)] == prompts  # type: ignore[arg-type]
    result = await chat.agenerate([[HumanMessage(text)] for text in prompts])
    assert result.llm_output is not None
    assert result.llm_output["token_usage"]["prompt_tokens"] == 8


async def test_astream_events_tell_the_tokens(chat: ChatTogetherAI) -> None:
    told = [event async for event in chat.astream_events("one two three", version="v2")]
    texts = [event["data"]["chunk"].content for event in told if event["event"] == "on_chat_model_stream"]
    assert "".join(texts) == "one two three"
    assert told[0]["event"] == "on_chat_model_start"
    [end] = [event for event in told if event["event"] == "on_chat_model_end"]
    assert end["data"]["output"].usage_metadata["output_tokens"] == 3


def test_stream_events_of_a_thoughtful_tool_call(chat: ChatTogetherAI, engine: ScriptedEngine) -> None:
    engine.reply(Reply(reasoning="I add.", tool_calls=[Call("add", {"a": 1, "b": 2})]))
    stream = chat.bind_tools([add]).stream_events("1 + 2?", version="v3")  # type: ignore[attr-defined]
    list(stream)
    message = stream.output
    kinds = [block["type"] for block in message.content_blocks]
    assert kinds == ["reasoning", "tool_call"]
    assert message.tool_calls[0]["args"] == {"a": 1, "b": 2}


@both
async def test_callbacks_see_every_token(chat: ChatTogetherAI, way: str) -> None:
    tokens: list[str] = []

    class Handler(BaseCallbackHandler):
        def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
            tokens.append(token)

    class AsyncHandler(AsyncCallbackHandler):
        async def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
            tokens.append(token)

    config: Any = {"callbacks": [Handler() if way == "sync" else AsyncHandler()]}
    await collect(chat, way, "one two three", config=config)
    assert "".join(tokens) == "one two three"
    assert len(tokens) >= 3


@both
async def test_invoke_uses_the_streaming_api_where_streaming_is_set(
    together: ScriptedTogether, engine: ScriptedEngine, way: str
) -> None:
    chat = ChatTogetherAI(model=together.model("chat"), streaming=True, **together.client)
    message = await ask(chat, "invoke" if way == "sync" else "ainvoke", "one two")
    assert message.content == "one two"
    assert message.usage_metadata is not None
    assert asked(engine)[0]["stream"] is True


# --- parameters on the wire ---


@four
async def test_fields_of_object_call_and_bind_reach_the_server(
    together: ScriptedTogether, engine: ScriptedEngine, way: str
) -> None:
    chat = ChatTogetherAI(model=together.model("chat"), temperature=0.5, top_p=0.9, stop="x", **together.client)
    chat.top_p = None
    await ask(chat.bind(seed=7), way, "Hello", max_tokens=3)
    [body] = asked(engine)
    assert {name: body[name] for name in ("temperature", "seed", "max_tokens", "stop")} == {
        "temperature": 0.5,
        "seed": 7,
        "max_tokens": 3,
        "stop": ["x"],
    }
    assert "top_p" not in body


@both
async def test_several_answers_share_one_usage(chat: ChatTogetherAI, way: str) -> None:
    given = [[HumanMessage("a b")]]
    if way == "sync":
        result = await asyncio.to_thread(chat.generate, given, n=3)  # type: ignore[arg-type]
    else:
        result = await chat.agenerate(given, n=3)  # type: ignore[arg-type]
    messages = [generation.message for generation in result.generations[0]]  # type: ignore[union-attr]
    assert [message.content for message in messages] == ["a b"] * 3
    assert [message.usage_metadata is not None for message in messages] == [True, False, False]
    assert result.llm_output is not None
    assert result.llm_output["token_usage"]["completion_tokens"] == 6


@both
async def test_a_stream_of_several_answers_is_refused_before_anything_is_sent(
    chat: ChatTogetherAI, engine: ScriptedEngine, way: str
) -> None:
    chat.n = 2
    with pytest.raises(TogetherAIInputError, match="n > 1"):
        await collect(chat, way, "Hello")
    assert asked(engine) == []


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_log_probabilities_come_in_the_form_of_the_server(
    chat: ChatTogetherAI, together: ScriptedTogether, engine: ScriptedEngine, way: str
) -> None:
    message = await ask(chat, way, "one two", logprobs=2)
    content = message.response_metadata["logprobs"]["content"]
    assert [entry["token"] for entry in content] == ["one", " two"]
    assert len(content[0]["top_logprobs"]) == 2
    together.check_answers = False
    tokens = {"tokens": ["one"], "token_logprobs": [-0.5], "token_ids": [1]}
    engine.reply(answer({"content": "one"}, choice={"logprobs": tokens}))
    assert (await ask(chat, way, "one", logprobs=1)).response_metadata["logprobs"] == tokens


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_streamed_log_probabilities_are_joined(
    chat: ChatTogetherAI, together: ScriptedTogether, engine: ScriptedEngine, way: str
) -> None:
    message = await ask(chat, way, "one two", logprobs=1)
    assert message.response_metadata["logprobs"] == {"tokens": ["one", " two"], "token_logprobs": [-0.5, -0.5]}
    together.check_answers = False
    parts = [{"content": [{"token": text, "logprob": -1.0}]} for text in ("a", "b")]
    engine.reply(events(*({"content": "x", "choice": {"logprobs": part}} for part in parts)))
    message = await ask(chat, way, "one two", logprobs=1)
    assert [entry["token"] for entry in message.response_metadata["logprobs"]["content"]] == ["a", "b"]


async def test_an_echoed_prompt_is_in_the_metadata(chat: ChatTogetherAI) -> None:
    message = await chat.ainvoke("one two", echo=True)  # type: ignore[arg-type]
    assert message.response_metadata["prompt"] == [{"text": "one two", "logprobs": None}]
    assert "prompt" not in (await chat.ainvoke("one two")).response_metadata


@both
async def test_what_goes_before_the_last_user_message_is_kept(
    chat: ChatTogetherAI, engine: ScriptedEngine, way: str
) -> None:
    history: list[BaseMessage] = [
        HumanMessage("1 + 2?", name="ada"),
        AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}, "id": "call_1", "type": "tool_call"}]),
        ToolMessage("3", tool_call_id="call_1"),
        HumanMessage("Thanks."),
    ]
    await ask(chat, "invoke" if way == "sync" else "ainvoke", history)
    sent = asked(engine)[0]["messages"]
    assert sent[0] == {"role": "user", "content": "1 + 2?", "name": "ada"}
    assert sent[1]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a":1,"b":2}'}
    assert sent[2] == {"role": "tool", "content": "3", "tool_call_id": "call_1"}


def test_images_sound_and_video_reach_the_server(chat: ChatTogetherAI, engine: ScriptedEngine) -> None:
    blocks: list[str | dict[str, Any]] = [
        "Look:",
        {"type": "text", "text": "and listen"},
        {"type": "image", "url": "https://example.com/a.png"},
        {"type": "image", "base64": "AAAA", "mime_type": "image/png"},
        {"type": "image", "source_type": "base64", "data": "BBBB", "mime_type": "image/jpeg"},
        {"type": "image_url", "image_url": "https://example.com/b.png"},
        {"type": "audio", "base64": "CCCC", "mime_type": "audio/wav"},
        {"type": "audio", "base64": "DDDD", "mime_type": "audio/mpeg"},
        {"type": "video", "url": "https://example.com/c.mp4"},
    ]
    chat.invoke([HumanMessage(blocks)])  # type: ignore[arg-type]
    assert asked(engine)[0]["messages"][0]["content"] == [
        {"type": "text", "text": "Look:"},
        {"type": "text", "text": "and listen"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,BBBB"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/b.png"}},
        {"type": "input_audio", "input_audio": {"data": "CCCC", "format": "wav"}},
        {"type": "audio_url", "audio_url": {"url": "data:audio/mpeg;base64,DDDD"}},
        {"type": "video_url", "video_url": {"url": "https://example.com/c.mp4"}},
    ]


def test_a_file_is_refused_and_the_error_says_what_to_do(chat: ChatTogetherAI, engine: ScriptedEngine) -> None:
    block = {"type": "file", "base64": "AAAA", "mime_type": "application/pdf"}
    with pytest.raises(TogetherAIInputError, match="takes no files; read the file and pass its text"):
        chat.invoke([HumanMessage([block])])
    assert asked(engine) == []


# --- tools ---


@four
async def test_tools_are_called(chat: ChatTogetherAI, way: str) -> None:
    message = await ask(chat.bind_tools([add], tool_choice="any"), way, "What is 1 plus 2?")
    [call] = message.tool_calls
    assert (call["name"], call["args"]) == ("add", {"a": 1, "b": 2})
    assert call["id"]
    assert message.content == ""
    assert message.response_metadata["finish_reason"] == "tool_calls"


@four
async def test_parallel_calls_are_kept_apart(chat: ChatTogetherAI, engine: ScriptedEngine, way: str) -> None:
    engine.reply(Reply(tool_calls=[Call("add", {"a": 1, "b": 2}), Call("add", {"a": 3, "b": 4})]))
    message = await ask(chat.bind_tools([add]), way, "1 + 2 and 3 + 4?")
    assert [call["args"] for call in message.tool_calls] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert len({call["id"] for call in message.tool_calls}) == 2


@four
@pytest.mark.parametrize("arguments", ['{"a": 1]', "[1]", "one and two"])
async def test_a_call_whose_arguments_are_no_object_is_kept_as_invalid(
    chat: ChatTogetherAI, engine: ScriptedEngine, way: str, arguments: str
) -> None:
    engine.reply(Reply(tool_calls=[Call("add", arguments)]))
    message = await ask(chat.bind_tools([add]), way, "1 + 2?")
    [call] = message.invalid_tool_calls
    assert (call["name"], call["args"]) == ("add", arguments)
    assert message.tool_calls == []
    # It goes back as it came, so that the model sees its mistake.
    await ask(chat, "invoke", [HumanMessage("1 + 2?"), message, ToolMessage("no", tool_call_id=str(call["id"]))])
    assert asked(engine)[-1]["messages"][1]["tool_calls"][0]["function"]["arguments"] == arguments


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_a_call_that_was_cut_off_is_invalid(chat: ChatTogetherAI, engine: ScriptedEngine, way: str) -> None:
    engine.reply(Reply(tool_calls=[Call("add", '{"a": 1, "b": 2')], finish_reason="length"))
    message = await ask(chat.bind_tools([add]), way, "1 + 22?")
    assert message.tool_calls == []
    assert message.invalid_tool_calls[0]["args"] == '{"a": 1, "b": 2'
    assert message.response_metadata["finish_reason"] == "length"


def pieces(*calls: dict[str, Any]) -> Reply:
    return events(*({"tool_calls": [call]} for call in calls), finish="tool_calls")


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize(
    "calls",
    [
        pytest.param(
            [
                {"index": 0.0, "id": "x", "function": {"name": "add", "arguments": ""}},
                {"index": 0.0, "function": {"arguments": '{"a":1,'}},
                {"index": 0.0, "function": {"arguments": '"b":2}'}},
                {"index": 1.0, "id": "y", "function": {"name": "add", "arguments": '{"a":3,"b":4}'}},
            ],
            id="the index is a float",
        ),
        pytest.param(
            [
                {"id": "x", "function": {"name": "add", "arguments": ""}},
                {"function": {"arguments": '{"a":1,'}},
                {"function": {"arguments": '"b":2}'}},
                {"id": "y", "function": {"name": "add", "arguments": ""}},
                {"function": {"arguments": '{"a":3,"b":4}'}},
            ],
            id="there is no index",
        ),
        pytest.param(
            [
                {"index": 0, "id": "x", "function": {"name": "add", "arguments": '{"a":1,'}},
                {"index": 0, "id": "x", "function": {"arguments": '"b":2}'}},
                {"index": 1, "id": "y", "function": {"name": "add", "arguments": '{"a":3,'}},
                {"index": 1, "id": "y", "function": {"name": None, "arguments": '"b":4}'}},
            ],
            id="the id is repeated",
        ),
        pytest.param(
            [
                {"id": "x", "function": {"name": "add", "arguments": '{"a":1,'}},
                {"id": "x", "function": {"arguments": '"b":2}'}},
                {"id": "y", "function": {"name": "add", "arguments": '{"a":3,"b":4}'}},
            ],
            id="the id is repeated and there is no index",
        ),
        pytest.param(
            [
                {"index": 0, "id": "x", "function": {"name": "add", "arguments": '{"a":1,'}},
                {"index": 0, "id": "x", "function": {"name": "add", "arguments": '"b":2}'}},
                {"index": 1, "id": "y", "function": {"name": "add", "arguments": '{"a":3,"b":4}'}},
            ],
            id="id and name are repeated",
        ),
        pytest.param(
            [
                {"index": 0, "id": "x", "function": {"name": "add", "arguments": ""}},
                {"index": 0, "id": "another", "function": {"arguments": '{"a":1,'}},
                {"index": 0, "id": "one more", "function": {"arguments": '"b":2}'}},
                {"index": 1, "id": "y", "function": {"name": "add", "arguments": '{"a":3,"b":4}'}},
            ],
            id="every piece has an id of its own",
        ),
        pytest.param(
            [
                {"index": 0, "id": "x", "function": {"name": "add", "arguments": '{"a":1,'}},
                {"index": 0, "function": {"arguments": '"b":2}'}},
                {"index": 0, "id": "y", "function": {"name": "add", "arguments": '{"a":3,'}},
                {"index": 0, "function": {"arguments": '"b":4}'}},
            ],
            id="every call has the same index",
        ),
        pytest.param(
            [
                {"index": 0, "function": {"name": "add", "arguments": ""}},
                {"index": 0, "id": "x", "function": {"arguments": '{"a":1,"b":2}'}},
                {"index": 1, "function": {"name": "add", "arguments": '{"a":3,"b":4}'}},
                {"index": 1, "id": "y", "function": {"arguments": ""}},
            ],
            id="the id comes late",
        ),
        pytest.param(
            [
                {"index": 1, "id": "x", "function": {"name": "add", "arguments": '{"a":1,"b":2}'}},
                {"index": 2, "id": "y", "function": {"name": "add", "arguments": '{"a":3,"b":4}'}},
            ],
            id="the index begins with one",
        ),
        pytest.param(
            [
                {"index": 0, "id": "x", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}},
                {"index": 1, "id": "y", "function": {"name": "add", "arguments": {"a": 3, "b": 4}}},
            ],
            id="the arguments are an object",
        ),
    ],
)
async def test_streamed_calls_in_any_shape_are_put_together(
    chat: ChatTogetherAI, together: ScriptedTogether, engine: ScriptedEngine, way: str, calls: list[dict[str, Any]]
) -> None:
    together.check_answers = False
    engine.reply(pieces(*calls))
    message = await ask(chat.bind_tools([add]), way, "1 + 2 and 3 + 4?")
    assert [(call["id"], call["name"], call["args"]) for call in message.tool_calls] == [
        ("x", "add", {"a": 1, "b": 2}),
        ("y", "add", {"a": 3, "b": 4}),
    ]
    assert message.invalid_tool_calls == []


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_calls_without_id_and_index_are_told_apart_by_their_names(
    chat: ChatTogetherAI, together: ScriptedTogether, engine: ScriptedEngine, way: str
) -> None:
    together.check_answers = False
    whole = [{"function": {"name": "add", "arguments": {"a": a, "b": 0}}} for a in range(3)]
    engine.reply(events({"tool_calls": whole[:2]}, {"tool_calls": whole[2:]}, finish="tool_calls"))
    message = await ask(chat.bind_tools([add]), way, "Add.")
    assert [call["args"]["a"] for call in message.tool_calls] == [0, 1, 2]


# --- reasoning ---


@four
@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_reasoning_is_beside_the_text(
    chat: ChatTogetherAI, together: ScriptedTogether, engine: ScriptedEngine, way: str, field: str
) -> None:
    together.check_answers = False
    if way in ("invoke", "ainvoke"):
        engine.reply(answer({"content": "Yes.", field: "Hm, well."}))
    else:
        engine.reply(events({field: "Hm,"}, {field: " well."}, {"content": "Yes."}))
    message = await ask(chat, way, "Really?")
    assert message.content == "Yes."
    assert message.additional_kwargs["reasoning_content"] == "Hm, well."
    assert [block["type"] for block in message.content_blocks] == ["reasoning", "text"]
    assert message.content_blocks[0]["reasoning"] == "Hm, well."  # type: ignore[typeddict-item]


@four
async def test_reasoning_is_a_block_in_version_1(
    together: ScriptedTogether, engine: ScriptedEngine, way: str
) -> None:
    chat = ChatTogetherAI(model=together.model("chat"), output_version="v1", **together.client)
    engine.reply(Reply(reasoning="Hm, well.", text="Yes it is."))
    message = await ask(chat, way, "Really?")
    assert isinstance(message.content, list)
    kinds = [(block["type"], block.get("reasoning") or block.get("text")) for block in message.content]  # type: ignore[union-attr,index]
    assert kinds == [("reasoning", "Hm, well."), ("text", "Yes it is.")]
    await ask(chat, "invoke", [HumanMessage("Really?"), message, HumanMessage("Sure?")])
    sent = asked(engine)[-1]["messages"][1]
    assert (sent["content"], sent["reasoning"]) == ("Yes it is.", "Hm, well.")


@four
async def test_reasoning_goes_back_in_the_next_turn(
    chat: ChatTogetherAI, engine: ScriptedEngine, way: str
) -> None:
    engine.reply(Reply(reasoning="Hm, well.", text="Yes."))
    message = await ask(chat, way, "Really?")
    await ask(chat, "invoke", [HumanMessage("Really?"), message, HumanMessage("Sure?")])
    assert asked(engine)[-1]["messages"][1] == {"role": "assistant", "content": "Yes.", "reasoning": "Hm, well."}


def test_the_reasoning_of_other_providers_is_not_sent(chat: ChatTogetherAI, engine: ScriptedEngine) -> None:
    for metadata in ({}, {"model_provider": "deepseek"}):
        foreign = AIMessage("Yes.", additional_kwargs={"reasoning_content": "Hm."}, response_metadata=metadata)
        chat.invoke([HumanMessage("Really?"), foreign, HumanMessage("Sure?")])
        assert asked(engine)[-1]["messages"][1] == {"role": "assistant", "content": "Yes."}


@four
async def test_think_tags_are_split_off(chat: ChatTogetherAI, engine: ScriptedEngine, way: str) -> None:
    text = "<think>\nIs 1 < 2?\n</think>\n\nYes, as <think> goes."
    engine.reply(Reply(text=text, chunks=[text[begin : begin + 3] for begin in range(0, len(text), 3)]))
    message = await ask(chat, way, "Really?")
    assert message.content == "Yes, as <think> goes."
    assert message.additional_kwargs["reasoning_content"].strip() == "Is 1 < 2?"


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_an_unfinished_thought_stays_a_thought(
    chat: ChatTogetherAI, engine: ScriptedEngine, way: str
) -> None:
    engine.reply(Reply(chunks=["<think>Well, ", "perhaps </thi"], text="x"))
    message = await ask(chat, way, "Really?")
    assert message.content == ""
    assert message.additional_kwargs["reasoning_content"] == "Well, perhaps </thi"


@given(
    text=st.sampled_from(
        ["<think>a</think>b", "<think>\n\n</think>\n b", "no <think>a</think>", "<thin", "  <think>a</", " \n x"]
    )
    | st.text(alphabet="<>/think ab\n", max_size=30).map(lambda tail: "<think>" + tail),
    cuts=st.lists(st.integers(0, 40), max_size=8),
)
def test_think_tags_are_split_the_same_wherever_the_text_is_cut(text: str, cuts: list[int]) -> None:
    from hana_ai.api.langchain.chat_chunks import ChunkReader
    from hana_ai.api.langchain.messages import chat_result

    whole = chat_result({"choices": [{"message": {"content": text}}], "model": "m"}).generations[0].message
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    reader = ChunkReader()
    chunks = []
    for begin, end in itertools.pairwise(bounds):
        chunks += reader.read({"choices": [{"index": 0, "delta": {"content": text[begin:end]}}]})
    chunks += reader.finish()
    message = merged([chunk.message for chunk in chunks])
    assert message.content == whole.content
    assert message.additional_kwargs.get("reasoning_content") == whole.additional_kwargs.get("reasoning_content")
    assert reader.partial().content == whole.content


# --- rate limiter, cache, models ---


@four
async def test_the_rate_limiter_is_asked(together: ScriptedTogether, way: str) -> None:
    limiter = InMemoryRateLimiter(requests_per_second=20, check_every_n_seconds=0.01, max_bucket_size=1)
    chat = ChatTogetherAI(model=together.model("chat"), rate_limiter=limiter, **together.client)
    started = time.monotonic()
    for _ in range(4):
        await ask(chat, way, "Hello")
    assert time.monotonic() - started >= 0.15


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_the_cache_answers_the_second_time_but_keeps_no_error(
    together: ScriptedTogether, engine: ScriptedEngine, way: str
) -> None:
    chat = ChatTogetherAI(model=together.model("chat"), cache=InMemoryCache(), max_retries=0, **together.client)
    engine.reply(Reply(status=503))
    with pytest.raises(TogetherAIServerError):
        await ask(chat, way, "Hello")
    first = await ask(chat, way, "Hello")
    second = await ask(chat, way, "Hello")
    assert first.content == second.content == "Hello"
    assert len(asked(engine)) == 2
    await ask(chat, way, "Hello", temperature=1)
    chat.top_k = 3
    await ask(chat, way, "Hello")
    assert len(asked(engine)) == 4


@four
async def test_without_a_model_the_catalogue_recommends_one(
    together: ScriptedTogether, engine: ScriptedEngine, way: str
) -> None:
    chat = ChatTogetherAI(**together.client)
    assert chat.model is None
    await ask(chat, way, "Hello")
    await ask(chat, way, "Hello")
    assert chat.model == together.model("chat")
    assert [request.method for request in engine.requests].count("GET") == 1
    profile = ChatTogetherAI(model=chat.model, **together.client).profile
    assert profile is not None
    assert profile["max_input_tokens"] == 8192
    assert profile["tool_calling"] is True


@four
async def test_without_any_model_the_error_says_what_to_set(together: ScriptedTogether, way: str) -> None:
    together.engine.on("/v2/supported-models", Reply(body={"data": []}))
    with pytest.raises(TogetherAISettingsError, match="TOGETHER_DEFAULT_MODEL"):
        await ask(ChatTogetherAI(**together.client), way, "Hello")


@four
async def test_a_model_that_is_gone_gives_living_names(together: ScriptedTogether, way: str) -> None:
    chat = ChatTogetherAI(model="local/scripted-chatt", **together.client)
    with pytest.raises(TogetherAIModelNotFoundError, match=r"local/scripted-chat\b") as caught:
        await ask(chat, way, "Hello")
    assert together.model("chat") in caught.value.alternatives


# --- errors ---


@four
async def test_retries_are_told(together: ScriptedTogether, engine: ScriptedEngine, way: str) -> None:
    told: list[RetryEvent] = []
    chat = ChatTogetherAI(model=together.model("chat"), on_retry=told.append, **together.client)
    engine.reply(Reply(status=429, headers={"retry-after": "0.05"}))
    assert (await ask(chat, way, "Hello")).content == "Hello"
    assert [(event.attempt, event.wait) for event in told] == [(1, 0.05)]


@four
@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(status=429), TogetherAIRateLimitError),
        (Reply(status=500), TogetherAIServerError),
        (Reply(status=401), TogetherAIAuthenticationError),
        (
            Reply(status=400, error={"message": "maximum context length is 8192 tokens"}),
            TogetherAIContextOverflowError,
        ),
        (Reply(body="<html>a proxy</html>"), TogetherAIResponseError),
    ],
)
async def test_errors_have_their_class_and_never_the_key(
    together: ScriptedTogether,
    caplog: pytest.LogCaptureFixture,
    way: str,
    reply: Reply,
    error: type[Exception],
) -> None:
    caplog.set_level(logging.DEBUG)
    together.check_answers = False
    chat = ChatTogetherAI(model=together.model("chat"), max_retries=0, **together.client)
    together.engine.reply(reply)
    with pytest.raises(error) as caught:
        await ask(chat, way, "Hello")
    told = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value)) + caplog.text
    assert str(together.api_key) not in told
    await eventually(lambda: chat.transport.limiter(chat.model).in_use == 0)


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": None}, []])
async def test_a_reply_without_choices_is_an_error(together: ScriptedTogether, way: str, body: Any) -> None:
    together.check_answers = False
    together.engine.reply(Reply(body=body))
    chat = ChatTogetherAI(model=together.model("chat"), **together.client)
    with pytest.raises(TogetherAIResponseError, match=r"does not fit at (choices|its top)"):
        await ask(chat, way, "Hello")


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize("how", ["break_at_chunk", "error_at_chunk", "stall_at_chunk"])
async def test_a_stream_that_breaks_gives_what_it_had(
    together: ScriptedTogether, engine: ScriptedEngine, way: str, how: str
) -> None:
    chat = ChatTogetherAI(model=together.model("chat"), stream_idle_timeout=1.5, **together.client)
    engine.reply(Reply(reasoning="Hm.", text="one two three four", **{how: 3}))
    received: list[Any] = []
    with pytest.raises(TogetherAIStreamError) as caught:
        await collect(chat, way, "Count.", received)
    partial = caught.value.partial
    assert isinstance(partial, AIMessageChunk)
    assert partial.content == "one two"
    assert partial.additional_kwargs["reasoning_content"] == "Hm."
    assert merged(received).content == "one two"
    assert len(asked(engine)) == 1
    await eventually(lambda: chat.transport.limiter(chat.model).in_use == 0)


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_broken_tool_call_is_in_the_partial_message(
    together: ScriptedTogether, engine: ScriptedEngine, way: str
) -> None:
    chat = ChatTogetherAI(model=together.model("chat"), **together.client)
    engine.reply(Reply(tool_calls=[Call("add", '{"a": 1, "b": 2}')], break_at_chunk=4))
    with pytest.raises(TogetherAIStreamError) as caught:
        await collect(chat.bind_tools([add]), way, "1 + 2?")
    partial = caught.value.partial
    assert partial.tool_calls or partial.invalid_tool_calls
    assert partial.tool_call_chunks[0]["args"].startswith('{"a":')


ONE = b'data: {"id":"a","model":"m","choices":[{"index":0,"delta":{"content":"one"}}]}\n\n'


@pytest.fixture
def unchecked(together: ScriptedTogether, chat: ChatTogetherAI) -> ChatTogetherAI:
    """A model whose server may give wrong answers."""
    together.check_answers = False
    return chat


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_chunk_of_a_wrong_shape_breaks_the_stream(
    unchecked: ChatTogetherAI, engine: ScriptedEngine, way: str
) -> None:
    wrong = b'data: {"id":"a","model":"m","choices":[{"index":0,"delta":{"content":["two"]}}]}\n\n'
    engine.reply(Reply(body=ONE + wrong, content_type="text/event-stream"))
    engine.reply(Reply(body=wrong, content_type="text/event-stream"))
    with pytest.raises(TogetherAIStreamError, match="does not fit at") as caught:
        await collect(unchecked, way, "Hello")
    assert caught.value.partial.content == "one"
    with pytest.raises(TogetherAIResponseError, match="does not fit at"):
        await collect(unchecked, way, "Hello")


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_stream_without_an_end_is_an_error(
    unchecked: ChatTogetherAI, engine: ScriptedEngine, way: str
) -> None:
    engine.reply(Reply(body=ONE, content_type="text/event-stream"))
    with pytest.raises(TogetherAIStreamError, match="before the answer was complete") as caught:
        await collect(unchecked, way, "Hello")
    assert caught.value.partial.content == "one"


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_stream_may_end_with_usage_alone(
    together: ScriptedTogether, engine: ScriptedEngine, way: str
) -> None:
    together.check_answers = False
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    head = {"id": "a", "model": "m"}
    chunks = [
        {**head, "choices": [{"index": 0, "delta": {"content": "one"}, "finish_reason": "stop"}]},
        {**head, "choices": [], "usage": usage},
    ]
    body = b"".join(b"data: %b\n\n" % orjson.dumps(chunk) for chunk in chunks)
    engine.reply(Reply(body=body, content_type="text/event-stream"))
    chat = ChatTogetherAI(model=together.model("chat"), **together.client)
    message = await ask(chat, way, "Hello")
    assert message.content == "one"
    assert message.usage_metadata == {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}


# --- leaving early ---


async def test_leaving_a_stream_early_gives_connection_and_place_back(
    chat: ChatTogetherAI, together: ScriptedTogether, engine: ScriptedEngine
) -> None:
    engine.always(Reply(text="one two three four", stall_at_chunk=2))
    limiter = chat.transport.limiter(chat.model)

    def leave() -> None:
        for _ in chat.stream("Count."):
            break

    await asyncio.to_thread(leave)
    await eventually(lambda: limiter.in_use == 0)
    await eventually(lambda: together.statistics.active == 0 and together.statistics.disconnects == 1)

    stream = chat.astream("Count.")
    async for _ in stream:
        break
    await stream.aclose()  # type: ignore[attr-defined]
    await eventually(lambda: limiter.in_use == 0)
    await eventually(lambda: together.statistics.active == 0 and together.statistics.disconnects == 2)


async def test_a_cancelled_stream_gives_connection_and_place_back(
    chat: ChatTogetherAI, together: ScriptedTogether, engine: ScriptedEngine
) -> None:
    engine.always(Reply(text="one two three four", stall_at_chunk=2))
    received: list[Any] = []
    await cancel_once(lambda: len(received) == 2, collect(chat, "astream", "Count.", received))
    await eventually(lambda: chat.transport.limiter(chat.model).in_use == 0)
    await eventually(lambda: together.statistics.active == 0)


def test_a_stream_that_is_forgotten_gives_its_place_back(
    chat: ChatTogetherAI, together: ScriptedTogether, engine: ScriptedEngine
) -> None:
    engine.always(Reply(text="one two three four", stall_at_chunk=2))
    stream = chat.stream("Count.")
    next(stream)
    del stream
    gc.collect()
    asyncio.run(eventually(lambda: chat.transport.limiter(chat.model).in_use == 0))


# --- with a small real model ---


@pytest.fixture(scope="module")
def real() -> Iterator[LocalTogether]:
    with LocalTogether(LlamaCppEngine()) as server:
        yield server


@four
async def test_a_real_model_answers_and_calls_a_tool(real: LocalTogether, way: str) -> None:
    chat = ChatTogetherAI(
        model=real.model("chat"), base_url=real.base_url, api_key=real.api_key, temperature=0, max_tokens=60
    )
    message = await ask(chat, way, "Say hello.")
    assert message.text
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] > 0
    message = await ask(chat.bind_tools([add], tool_choice="add"), way, "What is 1 plus 2?")
    [call] = message.tool_calls
    assert call["name"] == "add"
    assert set(call["args"]) == {"a", "b"}
