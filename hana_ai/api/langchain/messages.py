"""LangChain messages to request bodies, and replies to messages. Pure functions: no I/O, no settings.

Reasoning has one place on each side: `reasoning` on the wire, `additional_kwargs["reasoning_content"]` in
LangChain (the key from which `content_blocks` makes its reasoning block). It is never part of `content`; the
`<think>` tags of older models are split off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult

from hana_ai.api.errors import TogetherAIInputError, TogetherAIResponseError
from hana_ai.api.langchain.think import ThinkSplitter
from hana_ai.api.wire.shapes import SHAPE_ERRORS, shown, wrong_shape
from hana_ai.api.wire.token_counts import read_tokens

PROVIDER = "together"
"""`model_provider` and `ls_provider` of everything made here."""

Wire = dict[str, Any]
"""A JSON object of Together's API."""

# --- LangChain -> wire ---


def messages_to_wire(messages: Iterable[BaseMessage]) -> list[Wire]:
    """Turn a history into the `messages` of a request.

    Raises
    ------
    TogetherAIInputError
        A message or a content block has no form on the wire.
    """
    return [message_to_wire(message) for message in messages]


def message_to_wire(message: BaseMessage) -> Wire:
    """Turn one message into its wire form; see `messages_to_wire`."""
    wire: Wire
    if isinstance(message, HumanMessage):
        content = message.content
        wire = {"role": "user", "content": content if isinstance(content, str) else _parts(content)}
    elif isinstance(message, AIMessage):
        wire = _assistant(message)
    elif isinstance(message, SystemMessage):
        wire = {"role": "system", "content": _joined(message.content)}
    elif isinstance(message, ToolMessage):
        wire = {"role": "tool", "content": _joined(message.content), "tool_call_id": message.tool_call_id}
    elif isinstance(message, FunctionMessage):
        wire = {"role": "function", "content": _joined(message.content)}
    elif isinstance(message, ChatMessage):
        wire = {"role": message.role, "content": _joined(message.content)}
    else:
        raise TogetherAIInputError(f"A {type(message).__name__} can't be sent to a model.")
    if message.name:
        wire["name"] = message.name
    return wire


def _assistant(message: AIMessage) -> Wire:
    wire: Wire = {"role": "assistant", "content": _text(message.content)}
    calls = [
        _call_to_wire(call["id"], call["name"], orjson.dumps(call["args"]).decode()) for call in message.tool_calls
    ] + [_call_to_wire(call["id"], call["name"], call["args"] or "") for call in message.invalid_tool_calls]
    if calls:
        wire["tool_calls"] = [{**call, "index": index} for index, call in enumerate(calls)]
        wire["content"] = wire["content"] or None
    elif "function_call" in message.additional_kwargs:
        wire["function_call"] = message.additional_kwargs["function_call"]
    reasoning = _reasoning(message)
    if reasoning:
        wire["reasoning"] = reasoning
    return wire


def _reasoning(message: AIMessage) -> str:
    """What a model of this provider thought in an earlier turn; the thoughts of others mean nothing to it."""
    if message.response_metadata.get("model_provider") != PROVIDER:
        return ""
    if isinstance(message.content, list):
        blocks = [
            str(block.get("reasoning") or "")
            for block in message.content
            if isinstance(block, dict) and block.get("type") == "reasoning"
        ]
        if any(blocks):
            return "".join(blocks)
    return str(message.additional_kwargs.get("reasoning_content") or "")


def _call_to_wire(call_id: str | None, name: str | None, arguments: str) -> Wire:
    return {"id": call_id or "", "type": "function", "function": {"name": name or "", "arguments": arguments}}


def _text(content: str | Sequence[str | Mapping[str, Any]]) -> str:
    """The text of an assistant's message; tool calls and reasoning travel in fields of their own."""
    if isinstance(content, str):
        return content
    return "".join(
        block if isinstance(block, str) else str(block.get("text", ""))
        for block in content
        if isinstance(block, str) or block.get("type") == "text"
    )


def _joined(content: str | Sequence[str | Mapping[str, Any]]) -> str | list[Wire]:
    """One string, as the API wants it for all but users; blocks that are no text stay blocks."""
    if isinstance(content, str):
        return content
    parts = _parts(content)
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _parts(content: Sequence[str | Mapping[str, Any]]) -> list[Wire]:
    return [{"type": "text", "text": block} if isinstance(block, str) else _part(block) for block in content]


def _part(block: Mapping[str, Any]) -> Wire:
    kind = block.get("type")
    if kind in ("text", "text-plain") or (kind is None and "text" in block):
        return {"type": "text", "text": str(block.get("text", ""))}
    if kind == "image_url":
        url = block["image_url"]
        return {"type": "image_url", "image_url": {"url": url} if isinstance(url, str) else dict(url)}
    if kind in ("image", "audio", "video"):
        return _medium(str(kind), block)
    if kind in ("file", "document"):
        raise TogetherAIInputError(
            "Together's chat API takes no files; read the file and pass its text, or its pages as images."
        )
    return dict(block)


def _medium(kind: str, block: Mapping[str, Any]) -> Wire:
    """An image, audio or video block in any of LangChain's forms: v1, v0 (`source_type`), Anthropic's `source`."""
    source = block.get("source")
    origin: Mapping[str, Any] = source if isinstance(source, Mapping) else block
    data = origin.get("base64") or origin.get("data")
    mime = origin.get("mime_type") or origin.get("media_type")
    if data is not None:
        if kind == "audio" and mime in (None, "audio/wav", "audio/x-wav", "audio/wave"):
            return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
        if mime is None:
            raise TogetherAIInputError(f"A base64 {kind} block needs its `mime_type`, such as {kind}/png.")
        url = f"data:{mime};base64,{data}"
    elif origin.get("url"):
        url = str(origin["url"])
    else:
        raise TogetherAIInputError(
            f"A {kind} block needs `url` or `base64`; Together keeps no files to name by id."
        )
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


def tool_choice_to_wire(choice: str | bool | Mapping[str, Any] | None, names: Sequence[str]) -> str | Wire | None:
    """Turn any of LangChain's forms of `tool_choice` into Together's.

    Parameters
    ----------
    choice
        None or False (the server's default), True, ``"any"`` or ``"required"`` (some tool), ``"auto"``,
        ``"none"``, a tool's name, or the dict form of OpenAI or Anthropic.
    names : sequence of str
        The names of the tools that are bound.

    Raises
    ------
    TogetherAIInputError
        A tool is named that is not bound.
    """
    if choice is None or choice is False:
        return None
    if choice is True:
        return "required"
    if isinstance(choice, str):
        if choice in names:
            name = choice
        elif choice in ("any", "required"):
            return "required"
        elif choice in ("auto", "none"):
            return choice
        else:
            name = choice
    elif choice.get("type") in ("any", "required"):
        return "required"
    elif choice.get("type") in ("auto", "none"):
        return str(choice["type"])
    else:
        function = choice.get("function")
        name = str(function.get("name") if isinstance(function, Mapping) else choice.get("name"))
    if name not in names:
        raise TogetherAIInputError(f"tool_choice names {name!r}, but the tools are {', '.join(names) or 'none'}.")
    return {"type": "function", "function": {"name": name}}


# --- wire -> LangChain ---


def message_from_wire(wire: Mapping[str, Any]) -> BaseMessage:
    """Turn a message's wire form into LangChain's.

    Raises
    ------
    TogetherAIResponseError
        It has no role, or is not what the API promises.
    """
    try:
        return _message(wire)
    except SHAPE_ERRORS as exc:
        raise wrong_shape(exc) from exc


def _message(wire: Mapping[str, Any]) -> BaseMessage:
    role = wire.get("role")
    content = wire.get("content")
    name = wire.get("name")
    if role == "assistant":
        return _ai_message(wire)
    if role == "user":
        return HumanMessage(content=content or "", name=name)
    if role == "system":
        return SystemMessage(content=content or "", name=name)
    if role == "tool":
        return ToolMessage(content=content or "", tool_call_id=wire.get("tool_call_id", ""), name=name)
    if role == "function":
        return FunctionMessage(content=content or "", name=str(name))
    if not role:
        raise TogetherAIResponseError(f"a message without a role: {shown(dict(wire))}")
    return ChatMessage(content=content or "", role=str(role), name=name)


def _ai_message(wire: Mapping[str, Any]) -> AIMessage:
    content = wire.get("content") or ""
    if not isinstance(content, str):
        raise TypeError(f"a message's content is {shown(content)}")
    reasoning = wire.get("reasoning") or wire.get("reasoning_content") or ""
    if not reasoning:
        splitter = ThinkSplitter()
        parts = [*splitter.feed(content), *splitter.finish()]
        reasoning = "".join(text for thought, text in parts if thought)
        content = "".join(text for thought, text in parts if not thought)
    extra: Wire = {"reasoning_content": reasoning} if reasoning else {}
    if wire.get("function_call"):
        extra["function_call"] = wire["function_call"]
    calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for call in wire.get("tool_calls") or ():
        _read_call(call, calls, invalid)
    message = AIMessage(
        content=content,
        additional_kwargs=extra,
        tool_calls=calls,
        invalid_tool_calls=invalid,
        name=wire.get("name"),
    )
    if reasoning:
        message.response_metadata["model_provider"] = PROVIDER
    return message


def _read_call(wire: Mapping[str, Any], calls: list[ToolCall], invalid: list[InvalidToolCall]) -> None:
    function = wire.get("function") or {}
    arguments = function.get("arguments")
    name, call_id = function.get("name"), wire.get("id")
    if isinstance(arguments, Mapping):
        calls.append(ToolCall(name=str(name), args=dict(arguments), id=call_id, type="tool_call"))
        return
    try:
        args = orjson.loads(arguments or "{}")
        if not isinstance(args, dict):
            raise ValueError(f"the arguments are a {type(args).__name__}, not an object")
        if not name:
            raise ValueError("the call names no function")
    except ValueError as exc:
        invalid.append(
            InvalidToolCall(
                name=name,
                args=arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode(),
                id=call_id,
                error=str(exc),
                type="invalid_tool_call",
            )
        )
        return
    calls.append(ToolCall(name=name, args=args, id=call_id, type="tool_call"))


def chat_result(
    reply: Any,
    *,
    request_id: str | None = None,
    model: str | None = None,
    fallback: Mapping[str, Any] | None = None,
) -> ChatResult:
    """Turn a reply of chat/completions into LangChain's result, one generation a choice.

    `fallback` says which target answered, if not the first; it goes into `response_metadata`.

    Raises
    ------
    TogetherAIResponseError
        The reply has no choices, or they are not what the API promises.
    """
    try:
        return _chat_result(reply, request_id, model, fallback)
    except SHAPE_ERRORS as exc:
        raise wrong_shape(exc, model=model, request_id=request_id) from exc


def _chat_result(
    reply: Any, request_id: str | None, model: str | None, fallback: Mapping[str, Any] | None
) -> ChatResult:
    choices = reply.get("choices") if isinstance(reply, Mapping) else None
    if not isinstance(choices, list) or not choices:
        raise TogetherAIResponseError(
            f"a reply without choices: {shown(reply)}", model=model, request_id=request_id
        )
    usage = usage_from_wire(reply.get("usage"))
    common = reply_metadata(reply, request_id)
    if fallback is not None:
        common["fallback"] = dict(fallback)
    generations: list[ChatGeneration] = []
    for choice in choices:
        message = _ai_message({**choice["message"], "role": "assistant"})
        info = {**common, **_choice_metadata(choice)}
        message.response_metadata = info
        # Several choices share one usage; each would be counted, so only the first carries it.
        message.usage_metadata = usage if not generations else None
        generations.append(
            ChatGeneration(message=message, generation_info={"finish_reason": info["finish_reason"]})
        )
    output: Wire = {"model_name": common["model_name"], "id": common.get("id")}
    if isinstance(reply.get("usage"), Mapping):
        output["token_usage"] = reply["usage"]
    return ChatResult(generations=generations, llm_output=output)


def reply_metadata(reply: Mapping[str, Any], request_id: str | None) -> Wire:
    """What a reply, or a chunk, says about itself, under the names of `response_metadata`."""
    found: Wire = {"model_provider": PROVIDER, "model_name": reply.get("model")}
    for name in ("id", "system_fingerprint", "created", "service_tier", "warnings"):
        if reply.get(name) is not None:
            found[name] = reply[name]
    if reply.get("prompt"):
        found["prompt"] = reply["prompt"]
    if request_id:
        found["request_id"] = request_id
    return found


def _choice_metadata(choice: Mapping[str, Any]) -> Wire:
    found: Wire = {"finish_reason": choice.get("finish_reason")}
    if choice.get("logprobs"):
        found["logprobs"] = choice["logprobs"]
    if choice.get("seed") is not None:
        found["seed"] = choice["seed"]
    return found


def usage_from_wire(usage: object) -> UsageMetadata | None:
    """Turn a reply's `usage` into LangChain's; None where prompt or completion is unknown, which is not zero."""
    tokens = read_tokens(usage)
    if tokens.prompt is None or tokens.completion is None:
        return None
    result = UsageMetadata(
        input_tokens=tokens.prompt,
        output_tokens=tokens.completion,
        total_tokens=tokens.prompt + tokens.completion,
    )
    if tokens.cached is not None:
        result["input_token_details"] = InputTokenDetails(cache_read=tokens.cached)
    if tokens.reasoning is not None:
        result["output_token_details"] = OutputTokenDetails(reasoning=tokens.reasoning)
    return result


# --- streams ---
