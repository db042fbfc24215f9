"""What the caches keep, as text and bytes: keys, answers and vectors. No I/O, and no pickle.

Keys are hashes: neither a prompt nor a text to embed can be read from a cache. Answers are kept as LangChain's
JSON, in the clear, and are read with an allowlist, so that a row that somebody else wrote can name no other class.
"""

from __future__ import annotations

import inspect
import json
import math
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from uuid import uuid4

from langchain_core.load import dumps, load
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk

from hana_ai.api.cache.hits import OURS
from hana_ai.api.wire.schemas import PROVIDER

_ALLOWED = (Generation, ChatGeneration, GenerationChunk, ChatGenerationChunk, AIMessage, AIMessageChunk)
_WHOLE = frozenset({"stop", "eos", "length", "tool_calls", "function_call"})
_NO_ANSWER = frozenset({"content_filter", "safety", "error"})
# Beta only in name: the decorator would warn whoever uses the cache.
_load = inspect.unwrap(load)


# --- keys ---


def response_key(prompt: str, llm_string: str) -> str:
    """The key of an answer.

    What a history tells about its earlier answers, and no model reads, does not count: LangChain marks an answer
    that came from a cache, and a conversation would miss the cache in its second turn for that mark alone.
    """
    if not llm_string.startswith("[("):
        # Else it is a text: LangChain writes the parameters of models that continue texts as a list of pairs.
        prompt = _without_accounts(prompt, ours=llm_string.startswith(OURS))
    digest = blake2b(f"{len(llm_string)}:".encode(), digest_size=32)
    digest.update(llm_string.encode("utf-8", "surrogatepass"))
    digest.update(prompt.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _without_accounts(prompt: str, *, ours: bool) -> str:
    if '"usage_metadata"' not in prompt and not (ours and '"response_metadata"' in prompt):
        return prompt
    try:
        messages = json.loads(prompt)
        for message in messages:
            fields = message["kwargs"]
            fields.pop("usage_metadata", None)
            if ours and "response_metadata" in fields:
                # This is all that `messages_to_wire` asks of it.
                fields["response_metadata"] = fields["response_metadata"].get("model_provider")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # A text, not LangChain's messages.
        return prompt
    return json.dumps(messages)


def vector_keys(space: str, texts: Sequence[str]) -> list[str]:
    """The keys of texts; equal texts of two spaces have different ones."""
    begin = blake2b(f"{len(space)}:".encode(), digest_size=32)
    begin.update(space.encode("utf-8", "surrogatepass"))
    keys = []
    for text in texts:
        digest = begin.copy()
        digest.update(text.encode("utf-8", "surrogatepass"))
        keys.append(digest.hexdigest())
    return keys


# --- answers ---


def answer_to_text(generations: Sequence[Generation]) -> str | None:
    """An answer as JSON; None if it is not worth keeping.

    Kept is what the model said to the end, or up to the `max_tokens` that the request set. Not kept is an answer
    that is empty, that a filter stopped, whose tool calls can't be read, or that another model gave as a fallback.
    """
    try:
        if not generations or not all(map(_is_whole, generations)):
            return None
        return dumps([_without_run(generation) for generation in generations])
    except (TypeError, ValueError, AttributeError, RecursionError):
        # It holds something that has no JSON, or is not what it should be; the next call asks the model.
        return None


def _is_whole(generation: Generation) -> bool:
    message = getattr(generation, "message", None)
    info = {**(generation.generation_info or {}), **getattr(message, "response_metadata", {})}
    if info.get("fallback") or not _is_finished(info):
        return False
    if isinstance(message, AIMessage):
        if message.invalid_tool_calls:
            return False
        return bool(message.content or message.tool_calls or message.additional_kwargs.get("function_call"))
    return bool(generation.text)


def _is_finished(info: Mapping[str, object]) -> bool:
    reason = info.get("finish_reason")
    if info.get("model_provider") == PROVIDER:
        return isinstance(reason, str) and reason in _WHOLE
    # Of another provider: each has words of its own, and some have none.
    return str(reason).lower() not in _NO_ANSWER


def _without_run(generation: Generation) -> Generation:
    """Leave out the id, which is the run's and not the answer's."""
    if isinstance(generation, ChatGeneration) and generation.message.id is not None:
        return generation.model_copy(update={"message": generation.message.model_copy(update={"id": None})})
    return generation


def answer_from_text(text: str) -> list[Generation] | None:
    """Read an answer; None if it is none.

    A message gets an id of its own, as it does from a model: LangGraph takes messages of one id for one message.
    """
    try:
        found = _load(json.loads(text), allowed_objects=_ALLOWED, secrets_from_env=False)
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RecursionError):
        # pydantic's errors are ValueErrors.
        return None
    if not isinstance(found, list) or not found or not all(isinstance(each, Generation) for each in found):
        return None
    for each in found:
        if isinstance(each, ChatGeneration):
            each.message.id = f"lc_run--{uuid4()}"
    return found


# --- vectors ---


def vector_to_bytes(vector: Sequence[float]) -> bytes | None:
    """Pack numbers as little-endian 32-bit floats; None if one of them is none, or too large for that."""
    try:
        packed = array("f", vector)
    except (TypeError, OverflowError):
        return None
    if not packed or not math.isfinite(sum(packed)):
        return None
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def vector_from_bytes(data: bytes) -> list[float] | None:
    """Unpack what `vector_to_bytes` made; None if it is something else."""
    if not data or len(data) % 4:
        return None
    packed = array("f", data)
    if sys.byteorder == "big":
        packed.byteswap()
    vector = packed.tolist()
    # One sum tells of all: a number that is none makes it none. Of 32-bit numbers it can't overflow.
    return vector if math.isfinite(sum(vector)) else None


def chunks(things: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """The things in lists of at most so many."""
    for begin in range(0, len(things), size):
        yield things[begin : begin + size]
