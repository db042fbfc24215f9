"""The recorded streams of Together's API, replayed over a socket."""

from __future__ import annotations

import asyncio
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk

from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.local.together import Reply, ScriptedEngine
from tests.conftest import ScriptedTogether
from tests.recordings import recorded_chunks, recording


def body_of(name: str) -> bytes:
    return str(recording(name)["response"]["body"]).encode()


@contextmanager
def cut_every(size: int, body: bytes) -> Iterator[str]:
    """A server that sends a stream in pieces of `size` bytes, each in a packet and a chunk of its own."""

    class Handler(socketserver.StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            length = 0
            while (line := self.rfile.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            self.rfile.read(length)
            self.wfile.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
                b"connection: close\r\n\r\n"
            )
            for begin in range(0, len(body), size):
                piece = body[begin : begin + size]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


async def streamed(chat: ChatTogetherAI, way: str) -> list[AIMessageChunk]:
    if way == "sync":
        return await asyncio.to_thread(lambda: list(chat.stream("Hello")))  # type: ignore[arg-type]
    return [chunk async for chunk in chat.astream("Hello")]  # type: ignore[misc]


def merged(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    return chunks[0].__add__(list(chunks[1:]))


def expect_one_message(name: str, chunks: list[AIMessageChunk]) -> None:
    """What the recording says, said once."""
    wire = recorded_chunks(name)
    usage = next(chunk["usage"] for chunk in reversed(wire) if chunk.get("usage"))
    whole = merged(chunks)
    assert sum(chunk.usage_metadata is not None for chunk in chunks) == 1
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["input_tokens"] == usage["prompt_tokens"]
    assert whole.usage_metadata["output_tokens"] == usage["completion_tokens"]
    assert whole.usage_metadata["total_tokens"] == usage["total_tokens"]
    assert sum("finish_reason" in chunk.response_metadata for chunk in chunks) == 1
    assert whole.response_metadata["model_name"] == wire[0]["model"]
    assert whole.response_metadata["model_provider"] == "together"
    assert whole.response_metadata["id"] == wire[0]["id"]
    if name == "text":
        said = [choice["delta"].get("content") or "" for chunk in wire for choice in chunk["choices"]]
        assert whole.content == "".join(said)
        assert whole.response_metadata["finish_reason"] == "stop"
        assert whole.tool_calls == []
    else:
        assert whole.content == ""
        assert whole.response_metadata["finish_reason"] == "tool_calls"
        [call] = whole.tool_calls
        assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
        assert call["id"]
        assert whole.invalid_tool_calls == []


names = pytest.mark.parametrize("name", ["text", "tool-call"])
ways = pytest.mark.parametrize("way", ["sync", "async"])


@pytest.fixture
def chat(together: ScriptedTogether, name: str) -> ChatTogetherAI:
    """A model whose next answer is the recorded one."""
    together.engine.reply(Reply(body=body_of(name), content_type="text/event-stream"))
    return ChatTogetherAI(model=together.model("chat"), **together.client)


@names
@ways
async def test_a_recorded_stream_is_one_message(chat: ChatTogetherAI, name: str, way: str) -> None:
    expect_one_message(name, await streamed(chat, way))


@names
@ways
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 255, 256, 257, 1000, 4096])
async def test_a_recorded_stream_is_the_same_message_wherever_it_is_cut(name: str, way: str, size: int) -> None:
    with cut_every(size, body_of(name)) as base_url:
        chat = ChatTogetherAI(model="some/model", base_url=base_url, api_key="a-key")
        expect_one_message(name, await streamed(chat, way))


@names
@ways
async def test_invoke_with_streaming_gives_the_recorded_message(chat: ChatTogetherAI, name: str, way: str) -> None:
    chat.streaming = True
    message: Any = await (asyncio.to_thread(chat.invoke, "Hello") if way == "sync" else chat.ainvoke("Hello"))
    expected = "tool_calls" if name == "tool-call" else "stop"
    assert message.response_metadata["finish_reason"] == expected
    assert len(message.tool_calls) == (name == "tool-call")
    assert message.usage_metadata is not None


@names
def test_the_recorded_request_is_what_this_class_sends(
    together: ScriptedTogether, engine: ScriptedEngine, name: str
) -> None:
    sent = recording(name)["request"]["body"]
    engine.reply(Reply(body=body_of(name), content_type="text/event-stream"))
    fields = ("model", "max_tokens", "temperature")
    chat: Any = ChatTogetherAI(**{field: sent[field] for field in fields}, **together.client)
    if "tools" in sent:
        chat = chat.bind_tools(sent["tools"], tool_choice=sent["tool_choice"]["function"]["name"])
    list(chat.stream([(message["role"], message["content"]) for message in sent["messages"]]))
    assert engine.posts[-1].body == sent
