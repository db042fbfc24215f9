"""The chunks of a chat's stream, turned into LangChain's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.tool import ToolCallChunk, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from hana_ai.api.errors import TogetherAIResponseError
from hana_ai.api.langchain.messages import dumped, reply_metadata, usage_from_wire
from hana_ai.api.langchain.model_copies import copier
from hana_ai.api.langchain.stream_reader import StreamReader
from hana_ai.api.langchain.think import ThinkSplitter
from hana_ai.api.wire.replies import CHUNK, check_reply
from hana_ai.api.wire.schemas import Choice, GenerationReply, JSONObject, Message, ToolCall
from hana_ai.api.wire.shapes import shown


class ChunkReader(StreamReader[ChatGenerationChunk]):
    """Turn the chunks of one stream into LangChain's, in order.

    What describes the whole answer (finish reason, model, usage) is held back and given once, with the last
    chunk: LangChain joins strings and adds numbers when it merges chunks, and Together repeats the finish
    reason on two chunks of a tool call (recorded 2026-04-28).
    """

    __slots__ = (
        "_calls",
        "_metadata",
        "_pieces",
        "_splitter",
        "_text",
        "_thoughts",
        "_usage",
    )

    def __init__(self, request_id: str | None = None) -> None:
        super().__init__(request_id)
        self._metadata: JSONObject = {}
        self._usage: object = None
        self._splitter: ThinkSplitter | None = ThinkSplitter()
        self._calls = _ToolCalls()
        # What was received, for `partial`. Strings, not chunks: thousands of objects that stay alive would cost
        # the garbage collector more than the parsing.
        self._text: list[str] = []
        self._thoughts: list[str] = []
        self._pieces: list[ToolCallChunk] = []

    def _read(self, wire: GenerationReply) -> list[ChatGenerationChunk]:
        if wire.get("usage"):
            self._usage = wire["usage"]
        if not self._metadata:
            self._metadata = reply_metadata(wire, self.request_id)
        if wire.get("warnings"):
            self._metadata["warnings"] = wire["warnings"]
        out: list[ChatGenerationChunk] = []
        choices = wire.get("choices")
        if not choices:
            check_reply(CHUNK, wire, request_id=self.request_id)
            return out
        for choice in choices:
            self._seen = True
            index = choice.get("index")
            if index == 0 or index is None:
                self._read_choice(choice, wire, out)
            else:
                check_reply(CHUNK, wire, request_id=self.request_id)
        return out

    def _read_choice(self, choice: Choice, wire: GenerationReply, out: list[ChatGenerationChunk]) -> None:
        if choice.get("finish_reason") is not None:
            self._metadata["finish_reason"] = choice["finish_reason"]
        if choice.get("seed") is not None:
            self._metadata["seed"] = choice["seed"]
        delta: Message = choice.get("delta") or choice.get("message") or {}
        content, calls, logprobs = delta.get("content"), delta.get("tool_calls"), choice.get("logprobs")
        reasoning = delta.get("reasoning") or delta.get("reasoning_content")
        if not content or calls or reasoning or logprobs is not None:
            # Most chunks are a text alone, whose type is seen below.
            check_reply(CHUNK, wire, request_id=self.request_id)
        if reasoning:
            # A model that has a field for its thoughts puts no tags into its text.
            self._splitter = None
            out.append(self._thought(reasoning))
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
        if calls:
            pieces = [self._calls.read(call, position) for position, call in enumerate(calls)]
            out.append(_generation_chunk(tool_call_chunks=pieces))
            # Afterwards: what could not be a chunk is not received.
            self._pieces += pieces
        if logprobs is not None:
            out.append(_generation_chunk(response_metadata={"logprobs": _logprobs(logprobs, choice)}))

    def finish(self, fallback: Mapping[str, object] | None = None) -> list[ChatGenerationChunk]:
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
        return whole.__add__([AIMessageChunk(content="", tool_call_chunks=[piece]) for piece in self._pieces])

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
        self._thoughts.append(text)
        return _generation_chunk(additional_kwargs={"reasoning_content": text})


class _ToolCalls:
    """The calls of one stream, whose pieces LangChain puts together by their index."""

    __slots__ = ("_known", "_last", "_places")

    def __init__(self) -> None:
        # Id and name of every call by its index here, and where the wire's indexes lead to now.
        self._known: dict[int, tuple[str | None, str | None]] = {}
        self._places: dict[int, int] = {}
        self._last = 0

    def read(self, call: ToolCall, position: int) -> ToolCallChunk:
        """Take a piece of a call that stands at a position in its chunk."""
        function = call.get("function") or {}
        call_id, name, arguments = call.get("id"), function.get("name"), function.get("arguments")
        index = self._index_of(call, position)
        # LangChain joins the strings of the pieces: what a server repeats is given once.
        known_id, known_name = self._known.get(index, (None, None))
        self._known[index] = (known_id or call_id, known_name or name)
        return tool_call_chunk(
            name=None if name == known_name else name,
            args=dumped(arguments) if isinstance(arguments, Mapping) else arguments,
            id=None if known_id else call_id,
            index=index,
        )

    def _index_of(self, call: ToolCall, position: int) -> int:
        """Which call a piece belongs to; servers leave the index out, or give every call the same one."""
        call_id, name = call.get("id"), (call.get("function") or {}).get("name")
        for index, (known_id, _) in self._known.items():
            if call_id and call_id == known_id:
                return index
        given = call.get("index")
        if given is None:
            index = self._last if self._known else position
            begins = bool(call_id or name) and bool(self._known)
        else:
            given = int(given)
            index = self._places.get(given, given)
            begins = bool(call_id and name and self._known.get(index, (None, None))[0])
        if begins or (given is not None and given not in self._places and index in self._known):
            index = max(self._known) + 1
        self._last = index
        if given is not None:
            self._places[given] = index
        return index


_copy_message = copier(AIMessageChunk(content=""))
_copy_generation = copier(ChatGenerationChunk(message=AIMessageChunk(content="")))


def _text_chunk(content: str) -> ChatGenerationChunk:
    """A chunk of text alone: most of a stream."""
    return _copy_generation({"message": _copy_message({"content": content}), "text": content})


def _generation_chunk(**fields: object) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content="", **fields))


def _logprobs(logprobs: object, choice: Choice) -> JSONObject:
    """A chunk's log probabilities as lists, which LangChain joins; the API also sends a bare number."""
    if isinstance(logprobs, Mapping):
        return {name: values for name, values in logprobs.items() if isinstance(values, list)}
    text = (choice.get("delta") or {}).get("content") or choice.get("text") or ""
    return {"tokens": [text], "token_logprobs": [logprobs]}
