"""A server on 127.0.0.1 that answers at once with bytes made beforehand, so that the client's cost is what counts.

It runs in a process of its own: ``python -m benchmarks.server`` prints the port it listens on, and ends when
its standard input is closed. It reads of a request only what decides the answer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import orjson

from benchmarks.process import serve

CHAT_PATH = "/v1/chat/completions"
EMBEDDINGS_PATH = "/v1/embeddings"
QUESTION = "Hello"
DIMENSIONS = 1024
FAST = "bench/fast"
SLOW = "bench/slow"
"""Name of the model that answers after `LATENCY`; every other one answers at once."""
LATENCY = 0.020
"""Seconds."""
CHUNKS = 1000
"""Chunks of a streamed answer; a longer one has `max_tokens`, rounded down to thousands."""

_MODEL = {
    "id": FAST,
    "object": "model",
    "type": "chat",
    "context_length": 32768,
    "pricing": {"hourly": 0, "input": 0.2, "output": 0.6, "base": 0, "finetune": 0},
}
_USAGE = {"prompt_tokens": 12, "completion_tokens": 40, "total_tokens": 52, "cached_tokens": 0}
_ANSWER = {
    "id": "bench-0123456789abcdef",
    "object": "chat.completion",
    "created": 1_760_000_000,
    "model": SLOW,
    "prompt": [],
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "seed": 1,
            "logprobs": None,
            "message": {
                "role": "assistant",
                "content": "A column store keeps the values of one column side by side. " * 5,
                "tool_calls": [],
            },
        }
    ],
    "usage": _USAGE,
}


def _plain(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _event(data: bytes) -> bytes:
    """One server-sent event in an HTTP chunk of its own, as servers write them."""
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _chunk(text: str, finish_reason: str | None = None) -> bytes:
    return orjson.dumps(
        {
            "id": "bench-0123456789abcdef",
            "object": "chat.completion.chunk",
            "created": 1_760_000_000,
            "model": SLOW,
            "choices": [
                {
                    "index": 0,
                    "text": text,
                    "logprobs": None,
                    "finish_reason": finish_reason,
                    "seed": None,
                    "delta": {"token_id": 4242, "role": "assistant", "content": text, "tool_calls": None},
                }
            ],
            "usage": _USAGE if finish_reason else None,
        }
    )


@cache
def _chat_reply() -> bytes:
    return _plain(orjson.dumps(_ANSWER))


_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@cache
def _stream_end() -> bytes:
    """The last thousand chunks of a stream and its end."""
    events = [_event(_chunk(f" word{number}")) for number in range(CHUNKS - 1)]
    return b"".join([*events, _event(_chunk("", "stop")), _event(b"[DONE]"), b"0\r\n\r\n"])


@cache
def _lean_chunks() -> bytes:
    """A thousand chunks of which all but the text is left out that can be."""
    words = (orjson.dumps({"choices": [{"index": 0, "delta": {"content": f" word{n}"}}]}) for n in range(CHUNKS))
    return b"".join(map(_event, words))


def _stream_reply(chunks: int) -> Iterator[bytes]:
    yield _STREAM_HEAD
    for _ in range(chunks // CHUNKS - 1):
        yield _lean_chunks()
    yield _stream_end()


@cache
def _vector() -> bytes:
    """Numbers with eight digits, as Together sends 32-bit floats."""
    numbers = random.Random(7)
    return orjson.dumps([float(f"{numbers.uniform(-0.1, 0.1):.8g}") for _ in range(DIMENSIONS)])


@cache
def _embedding_reply(count: int) -> bytes:
    rows = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%b}' % (index, _vector()) for index in range(count)
    )
    return _plain(
        b'{"object":"list","model":"bench/slow","data":[%b],"usage":{"prompt_tokens":1,"total_tokens":1}}' % rows
    )


class _Connection(asyncio.Protocol):
    """One connection; requests are answered in their order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._waiting: Iterator[bytes] = iter(())
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            _, named, length = head.partition(b"content-length:")
            whole = end + 4 + (int(length.split(b"\r\n", 1)[0]) if named else 0)
            if len(self._received) < whole:
                return
            body, self._received = self._received[end + 4 : whole], self._received[whole:]
            self._answer(head.split(b" ", 2)[1].decode(), orjson.loads(body) if body else {})

    def _answer(self, path: str, body: dict[str, Any]) -> None:
        if path == EMBEDDINGS_PATH:
            given = body["input"]
            reply = iter([_embedding_reply(1 if isinstance(given, str) else len(given))])
        elif path == "/v1/models":
            reply = iter([_plain(orjson.dumps([_MODEL]))])
        elif path != CHAT_PATH:
            reply = iter([b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"])
        elif body.get("stream"):
            reply = _stream_reply(max(CHUNKS, body.get("max_tokens") or 0))
        else:
            reply = iter([_chat_reply()])
        if body.get("model") == SLOW:
            self._loop.call_later(LATENCY, self._write, reply)
        else:
            self._write(reply)

    def _write(self, parts: Iterator[bytes]) -> None:
        assert self._transport is not None
        self._waiting = parts
        while not self._paused and not self._transport.is_closing():
            part = next(parts, None)
            if part is None:
                return
            self._transport.write(part)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._write(self._waiting)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    await serve(lambda: _Connection(loop))


if __name__ == "__main__":
    asyncio.run(_serve())
