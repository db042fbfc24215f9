"""Pieces of an answer in Together's shapes, whole and streamed; pure functions, no I/O.

The streamed shapes are those of two recordings of Together's API (tests/fixtures/together-recordings): the
text doubled beside the delta, usage on the last chunk with a finish reason, `tool_calls` as the finish reason
of two chunks.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from .engine import FinishReason, Piece, TokenLogprob, ToolCallDelta, Usage
from .refusal import JSON

Chunk: TypeAlias = "dict[str, JSON]"


def request_id() -> str:
    """An id that looks like Together's: two short random words and a ray id."""
    words = base64.b64encode(secrets.token_bytes(12)).decode().replace("+", "p").replace("/", "s")
    return f"{words[:7]}-{words[7:13]}-{secrets.token_hex(8)}"


def tool_call_id() -> str:
    """An id for a tool call, as Together makes them."""
    return "call_" + base64.b32encode(secrets.token_bytes(15)).decode().lower()


def seed_of(asked_for: int | None) -> int:
    """The seed an answer names: the request's, else a random one that may exceed 2^53, as Together's do."""
    return asked_for if asked_for is not None else secrets.randbits(64)


@dataclass
class _Choice:
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, _Call] = field(default_factory=dict)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None


@dataclass
class _Call:
    id: str
    name: str
    arguments: list[str]


class Collected:
    """All pieces of an answer, put together by choice.

    Raises nothing: a piece that carries an error event is the caller's to look at first.
    """

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}
        self.usage: Usage | None = None

    def add(self, piece: Piece) -> None:
        """Take the next piece."""
        choice = self._choices.setdefault(piece.index, _Choice())
        choice.text.append(piece.text)
        choice.reasoning.append(piece.reasoning)
        choice.logprobs.extend(piece.logprobs)
        if (delta := piece.tool_call) is not None:
            call = choice.calls.setdefault(delta.index, _Call(delta.id or tool_call_id(), delta.name or "", []))
            call.arguments.append(delta.arguments)
        if piece.finish_reason is not None:
            choice.finish_reason = piece.finish_reason
        if piece.usage is not None:
            self.usage = piece.usage

    def chat(self, *, id: str, model: str, seed: int, logprobs: bool, prompt: str | None) -> Chunk:
        """A chat completion."""
        choices: list[JSON] = []
        for index, choice in sorted(self._choices.items()):
            calls: list[JSON] = [
                {
                    "index": number,
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": "".join(call.arguments)},
                }
                for number, call in sorted(choice.calls.items())
            ]
            message: Chunk = {"role": "assistant", "content": "".join(choice.text), "tool_calls": calls}
            if reasoning := "".join(choice.reasoning):
                message["reasoning"] = reasoning
            choices.append(
                {
                    "finish_reason": choice.finish_reason or "stop",
                    "index": index,
                    "logprobs": _chat_logprobs(choice.logprobs) if logprobs else None,
                    "message": message,
                    "seed": (seed + index) % 2**64,
                }
            )
        return self._answer("chat.completion", choices, id=id, model=model, prompt=prompt)

    def completion(self, *, id: str, model: str, seed: int, logprobs: bool, prompt: str | None) -> Chunk:
        """A completion."""
        choices: list[JSON] = []
        for index, choice in sorted(self._choices.items()):
            made: Chunk = {
                "text": "".join(choice.text),
                "finish_reason": choice.finish_reason or "stop",
                "index": index,
                "seed": (seed + index) % 2**64,
            }
            if logprobs:
                made["logprobs"] = _completion_logprobs(choice.logprobs)
            choices.append(made)
        return self._answer("text.completion", choices, id=id, model=model, prompt=prompt)

    def _answer(self, kind: str, choices: list[JSON], *, id: str, model: str, prompt: str | None) -> Chunk:
        return {
            "id": id,
            "object": kind,
            "created": int(time.time()),
            "model": model,
            "prompt": _prompt(prompt),
            "choices": choices,
            "usage": self._usage(),
        }

    def _usage(self) -> JSON:
        return (self.usage or Usage(0)).wire()


def _prompt(text: str | None) -> list[JSON]:
    return [] if text is None else [{"text": text, "logprobs": None}]


def _chat_logprobs(tokens: Sequence[TokenLogprob]) -> JSON:
    return {
        "content": [
            {
                "token": token.token,
                "bytes": list(token.token.encode()),
                "logprob": token.logprob,
                "top_logprobs": [
                    {"token": text, "bytes": list(text.encode()), "logprob": logprob}
                    for text, logprob in token.top
                ],
            }
            for token in tokens
        ]
    }


def _completion_logprobs(tokens: Sequence[TokenLogprob]) -> JSON:
    top: list[JSON] = [dict(token.top) for token in tokens]
    return {
        "token_ids": [token.token_id if token.token_id is not None else 0 for token in tokens],
        "tokens": [token.token for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": top,
    }


class ChatStream:
    """Turns pieces into the chunks of a streamed chat, one answer an object."""

    def __init__(self, *, id: str, model: str, seed: int, logprobs: bool) -> None:
        self._logprobs = logprobs
        self._seed = seed
        self._head: Mapping[str, JSON] = {
            "id": id,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
        }
        self._model = model
        # The last tool delta of a choice waits for the finish reason, which Together puts beside it.
        self._waiting: dict[int, ToolCallDelta] = {}
        self._called: set[int] = set()

    def chunks(self, piece: Piece) -> Iterator[Chunk]:
        """The chunks for the next piece, mostly one."""
        if piece.error is not None:
            yield {"error": piece.error}
            return
        index = piece.index
        if piece.tool_call is not None:
            yield from self._tool_chunks(index, piece.tool_call)
        elif piece.text or piece.reasoning:
            yield self._text_chunk(piece)
        if piece.finish_reason is not None:
            yield from self._last_chunks(piece, piece.finish_reason)
        elif piece.usage is not None and piece.tool_call is None and not piece.text and not piece.reasoning:
            yield {**self._head, "choices": [], "model": self._model, "usage": piece.usage.wire()}

    def _text_chunk(self, piece: Piece) -> Chunk:
        delta: Chunk = {"token_id": piece.token_id, "role": "assistant", "content": piece.text}
        if piece.reasoning:
            delta["reasoning"] = piece.reasoning
        choice: Chunk = {
            "index": piece.index,
            "text": piece.text,
            "logprobs": None,
            "finish_reason": None,
            "seed": None,
            "delta": delta,
        }
        if self._logprobs and piece.logprobs:
            choice["logprobs"] = piece.logprobs[-1].logprob
            choice["top_logprobs"] = dict(piece.logprobs[-1].top)
        return {**self._head, "choices": [choice], "model": self._model, "usage": None}

    def _tool_chunks(self, index: int, call: ToolCallDelta) -> Iterator[Chunk]:
        if index not in self._called:
            self._called.add(index)
            yield self._bare(index, {}, role=True)
        if (waiting := self._waiting.pop(index, None)) is not None:
            yield self._bare(index, {"tool_calls": [_tool_delta(waiting)]})
        if call.name is not None:
            first = ToolCallDelta(call.index, call.id, call.name)
            yield self._bare(index, {"tool_calls": [_tool_delta(first)]})
        if call.arguments:
            self._waiting[index] = ToolCallDelta(call.index, arguments=call.arguments)

    def _last_chunks(self, piece: Piece, finish_reason: FinishReason) -> Iterator[Chunk]:
        if (waiting := self._waiting.pop(piece.index, None)) is not None:
            yield self._bare(piece.index, {"tool_calls": [_tool_delta(waiting)]}, finish_reason=finish_reason)
        choice: Chunk = {
            "index": piece.index,
            "text": "",
            "logprobs": None,
            "finish_reason": finish_reason,
            "seed": (self._seed + piece.index) % 2**64,
            "delta": {"token_id": piece.token_id, "role": "assistant", "content": ""},
        }
        usage = piece.usage.wire() if piece.usage is not None else None
        yield {**self._head, "choices": [choice], "model": self._model, "usage": usage}

    def _bare(
        self, index: int, delta: Chunk, *, role: bool = False, finish_reason: FinishReason | None = None
    ) -> Chunk:
        choice: Chunk = {"index": index}
        if role:
            choice["role"] = "assistant"
        choice["text"] = ""
        choice["logprobs"] = None
        choice["finish_reason"] = finish_reason
        choice["delta"] = {"token_id": None, "role": "assistant", "content": "", **delta}
        return {**self._head, "choices": [choice], "model": self._model}


def _tool_delta(call: ToolCallDelta) -> Chunk:
    if call.name is None:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    function: Chunk = {"name": call.name, "arguments": call.arguments}
    return {"index": call.index, "id": call.id or tool_call_id(), "type": "function", "function": function}


def completion_chunks(*, id: str, model: str, seed: int, logprobs: bool) -> Callable[[Piece], Iterator[Chunk]]:
    """Turns pieces into the chunks of a streamed completion, as the OpenAPI document draws them."""
    created = int(time.time())

    def chunks(piece: Piece) -> Iterator[Chunk]:
        if piece.error is not None:
            yield {"error": piece.error}
            return
        last = piece.logprobs[-1] if logprobs and piece.logprobs else None
        token: Chunk = {
            "id": piece.token_id if piece.token_id is not None else 0,
            "text": piece.text,
            "logprob": last.logprob if last is not None else 0.0,
            "special": piece.finish_reason is not None and not piece.text,
        }
        choice: Chunk = {
            "index": piece.index,
            "text": piece.text,
            "finish_reason": piece.finish_reason,
            "seed": (seed + piece.index) % 2**64 if piece.finish_reason is not None else None,
            "delta": {"token_id": piece.token_id, "role": "assistant", "content": piece.text},
        }
        if last is not None:
            choice["logprobs"] = last.logprob
            choice["top_logprobs"] = dict(last.top)
        yield {
            "id": id,
            "object": "completion.chunk",
            "created": created,
            "model": model,
            "token": token,
            "choices": [choice],
            "finish_reason": piece.finish_reason,
            "usage": piece.usage.wire() if piece.usage is not None else None,
        }

    return chunks
