"""The chunks of a stream, turned into LangChain's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

import orjson
from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from pydantic import BaseModel

from hana_ai.api.errors import TogetherAIResponseError
from hana_ai.api.langchain.messages import Wire, reply_metadata, usage_from_wire
from hana_ai.api.langchain.think import ThinkSplitter
from hana_ai.api.wire.events import stream_error
from hana_ai.api.wire.shapes import SHAPE_ERRORS, shown, wrong_shape


class ChunkReader:
    """Turn the chunks of one stream into LangChain's, in order.

    What describes the whole answer (finish reason, model, usage) is held back and given once, with the last
    chunk: LangChain joins strings and adds numbers when it merges chunks, and Together repeats the finish
    reason on two chunks of a tool call (recorded 2026-04-28).
    """

    __slots__ = (
        "_call_chunks",
        "_calls",
        "_last_call",
        "_metadata",
        "_places",
        "_seen",
        "_splitter",
        "_text",
        "_thoughts",
        "_usage",
        "request_id",
    )

    def __init__(self, request_id: str | None = None) -> None:
        self.request_id = request_id
        self._metadata: Wire = {}
        self._seen = False
        self._usage: Any = None
        self._splitter: ThinkSplitter | None = ThinkSplitter()
        # Id and name of every call by its index here, and where the wire's indexes lead to now.
        self._calls: dict[int, tuple[str | None, str | None]] = {}
        self._places: dict[int, int] = {}
        self._last_call = 0
        # What was received, for `partial`. Strings, not chunks: thousands of objects that stay alive would cost
        # the garbage collector more than the parsing.
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._call_chunks: list[ToolCallChunk] = []

    def read(self, wire: Mapping[str, Any]) -> list[ChatGenerationChunk]:
        """Take one decoded chunk of the wire; gives none, one or several chunks.

        Raises
        ------
        TogetherAIResponseError
            It is not what the API promises.
        TogetherAIStreamError
            The same, after chunks that were.
        """
        begun = self._seen
        try:
            return self._read(wire)
        except SHAPE_ERRORS as exc:
            error = wrong_shape(exc, request_id=self.request_id)
            raise (stream_error(error) if begun else error) from exc

    def _read(self, wire: Mapping[str, Any]) -> list[ChatGenerationChunk]:
        if wire.get("usage"):
            self._usage = wire["usage"]
        if not self._metadata:
            self._metadata = reply_metadata(wire, self.request_id)
        if wire.get("warnings"):
            self._metadata["warnings"] = wire["warnings"]
        out: list[ChatGenerationChunk] = []
        for choice in wire.get("choices") or ():
            self._seen = True
            if choice.get("index"):
                continue
            if choice.get("finish_reason") is not None:
                self._metadata["finish_reason"] = choice["finish_reason"]
            if choice.get("seed") is not None:
                self._metadata["seed"] = choice["seed"]
            delta = choice.get("delta") or choice.get("message") or {}
            reasoning = delta.get("reasoning") or delta.get("reasoning_content")
            if reasoning:
                # A model that has a field for its thoughts puts no tags into its text.
                self._splitter = None
                out.append(self._thought(reasoning))
            content = delta.get("content")
            if content:
                if type(content) is not str:
                    raise TypeError(f"a chunk's content is {shown(content)}")
                if self._splitter is None:
                    self._text.append(content)
                    out.append(_text_chunk(content))
                else:
                    out += self._split(self._splitter.feed(content))
                    if self._splitter.settled:
                        self._splitter = None
            calls = delta.get("tool_calls")
            if calls:
                chunks = [self._call_chunk(call, position) for position, call in enumerate(calls)]
                out.append(_generation_chunk("", tool_call_chunks=chunks))
                self._call_chunks += chunks
            logprobs = choice.get("logprobs")
            if logprobs is not None:
                metadata = {"logprobs": _stream_logprobs(logprobs, choice)}
                out.append(_generation_chunk("", response_metadata=metadata))
        return out

    def finish(self, fallback: Mapping[str, Any] | None = None) -> list[ChatGenerationChunk]:
        """Give what was held back, as the last chunk; `fallback` as for `chat_result`.

        Raises
        ------
        TogetherAIResponseError
            There was no answer in any chunk.
        """
        if not self._seen:
            raise TogetherAIResponseError("the stream had no choices", request_id=self.request_id)
        out = self._split(self._splitter.finish()) if self._splitter is not None else []
        metadata = {key: value for key, value in self._metadata.items() if value is not None}
        if fallback is not None:
            metadata["fallback"] = dict(fallback)
        message = AIMessageChunk(
            content="",
            response_metadata=metadata,
            usage_metadata=usage_from_wire(self._usage),
            chunk_position="last",
        )
        reason = metadata.get("finish_reason")
        info = {"finish_reason": reason} if reason else None
        return [*out, ChatGenerationChunk(message=message, generation_info=info)]

    def partial(self) -> AIMessageChunk:
        """What has been received so far, as one chunk."""
        thoughts = "".join(self._thoughts)
        whole = AIMessageChunk(
            content="".join(self._text), additional_kwargs={"reasoning_content": thoughts} if thoughts else {}
        )
        # One by one: merging is what joins the pieces of a call's arguments.
        return whole.__add__([AIMessageChunk(content="", tool_call_chunks=[chunk]) for chunk in self._call_chunks])

    def _split(self, parts: Iterable[tuple[bool, str]]) -> list[ChatGenerationChunk]:
        out = []
        for thought, text in parts:
            if thought:
                out.append(self._thought(text))
            else:
                self._text.append(text)
                out.append(_text_chunk(text))
        return out

    def _thought(self, text: str) -> ChatGenerationChunk:
        if type(text) is not str:
            raise TypeError(f"a chunk's reasoning is {shown(text)}")
        self._thoughts.append(text)
        return _generation_chunk("", additional_kwargs={"reasoning_content": text})

    def _call_chunk(self, call: Mapping[str, Any], position: int) -> ToolCallChunk:
        function = call.get("function") or {}
        call_id, name, arguments = call.get("id"), function.get("name"), function.get("arguments")
        index = self._call_index(call, position)
        # LangChain joins the strings of the pieces: what a server repeats is given once.
        known_id, known_name = self._calls.get(index, (None, None))
        self._calls[index] = (known_id or call_id, known_name or name)
        if isinstance(arguments, Mapping):
            arguments = orjson.dumps(arguments).decode()
        return tool_call_chunk(
            name=None if name == known_name else name,
            args=arguments,
            id=None if known_id else call_id,
            index=index,
        )

    def _call_index(self, call: Mapping[str, Any], position: int) -> int:
        """Which call a piece belongs to; servers leave the index out, or give every call the same one."""
        call_id, name = call.get("id"), (call.get("function") or {}).get("name")
        for index, (known_id, _) in self._calls.items():
            if call_id and call_id == known_id:
                return index
        wire_index = None if call.get("index") is None else int(call["index"])
        if wire_index is None:
            index = self._last_call if self._calls else position
            begins = bool(call_id or name) and bool(self._calls)
        else:
            index = self._places.get(wire_index, wire_index)
            begins = bool(call_id and name and self._calls.get(index, (None, None))[0])
        if begins or (wire_index is not None and wire_index not in self._places and index in self._calls):
            index = max(self._calls) + 1
        self._last_call = index
        if wire_index is not None:
            self._places[wire_index] = index
        return index


_PLAIN = ChatGenerationChunk(message=AIMessageChunk(content=""))
_PLAIN_MESSAGE = cast("AIMessageChunk", _PLAIN.message)
_CONTAINERS = {
    name: type(value) for name, value in vars(_PLAIN_MESSAGE).items() if isinstance(value, (dict, list))
}
_Model = TypeVar("_Model", bound=BaseModel)


def _text_chunk(content: str) -> ChatGenerationChunk:
    """A chunk of text alone: most of a stream. Copies one that was validated, at less than half the cost."""
    own = {name: make() for name, make in _CONTAINERS.items()}
    message = _like(_PLAIN_MESSAGE, {**own, "content": content})
    return _like(_PLAIN, {"message": message, "text": content})


def _like(model: _Model, changed: Mapping[str, Any]) -> _Model:
    """A copy with some other fields, as pydantic's `model_copy` makes it, which takes twice as long."""
    made = object.__new__(type(model))
    set_ = object.__setattr__
    set_(made, "__dict__", {**model.__dict__, **changed})
    set_(made, "__pydantic_fields_set__", set(model.__pydantic_fields_set__))
    extra, private = model.__pydantic_extra__, model.__pydantic_private__
    set_(made, "__pydantic_extra__", None if extra is None else {**extra})
    set_(made, "__pydantic_private__", None if private is None else {**private})
    return made


def _generation_chunk(content: str, **fields: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=content, **fields))


def _stream_logprobs(logprobs: Any, choice: Mapping[str, Any]) -> Wire:
    """A chunk's log probabilities as lists, which LangChain joins; the API also sends a bare number."""
    if isinstance(logprobs, Mapping):
        return {name: values for name, values in logprobs.items() if isinstance(values, list)}
    text = (choice.get("delta") or {}).get("content") or choice.get("text") or ""
    return {"tokens": [text], "token_logprobs": [logprobs]}
