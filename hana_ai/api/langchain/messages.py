"""LangChain messages to request bodies, and replies to messages. Pure functions: no I/O, no settings.

Reasoning has one place on each side: `reasoning` on the wire, `additional_kwargs["reasoning_content"]` in
LangChain (the key from which `content_blocks` makes its reasoning block). It is never part of `content`; the
`<think>` tags of older models are split off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

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
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.outputs import ChatGeneration, ChatResult

from hana_ai.api.errors import TogetherAIInputError, TogetherAIResponseError
from hana_ai.api.langchain.model_copies import copier
from hana_ai.api.langchain.think import ThinkSplitter
from hana_ai.api.wire import schemas
from hana_ai.api.wire.replies import CHAT, check_reply
from hana_ai.api.wire.schemas import PROVIDER, Choice, GenerationReply, JSONObject, Message
from hana_ai.api.wire.shapes import SHAPE_ERRORS, shown, wrong_shape
from hana_ai.api.wire.token_counts import read_tokens

# --- LangChain -> wire ---


def messages_to_wire(messages: Iterable[BaseMessage]) -> list[Message]:
    """Turn a history into the `messages` of a request.

    Raises
    ------
    TogetherAIInputError
        A message or a content block has no form on the wire.
    """
    return [message_to_wire(message) for message in messages]


def message_to_wire(message: BaseMessage) -> Message:
    """Turn one message into its wire form; raises as `messages_to_wire`."""
    wire: Message
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


def _assistant(message: AIMessage) -> Message:
    wire: Message = {"role": "assistant", "content": _text(message.content)}
    calls = [_call_to_wire(call["id"], call["name"], dumped(call["args"])) for call in message.tool_calls]
    calls += [_call_to_wire(call["id"], call["name"], call["args"] or "") for call in message.invalid_tool_calls]
    if calls:
        for index, call in enumerate(calls):
            call["index"] = index
        wire["tool_calls"] = calls
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


def _call_to_wire(call_id: str | None, name: str | None, arguments: str) -> schemas.ToolCall:
    return {"id": call_id or "", "type": "function", "function": {"name": name or "", "arguments": arguments}}


def _text(content: str | Sequence[str | Mapping[str, object]]) -> str:
    """The text of an assistant's message; tool calls and reasoning travel in fields of their own."""
    if isinstance(content, str):
        return content
    return "".join(
        block if isinstance(block, str) else str(block.get("text", ""))
        for block in content
        if isinstance(block, str) or block.get("type") == "text"
    )


def _joined(content: str | Sequence[str | Mapping[str, object]]) -> str | list[JSONObject]:
    """One string, as the API wants it for all but users; blocks that are no text stay blocks."""
    if isinstance(content, str):
        return content
    parts = _parts(content)
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _parts(content: Sequence[str | Mapping[str, object]]) -> list[JSONObject]:
    return [{"type": "text", "text": block} if isinstance(block, str) else _part(block) for block in content]


def _part(block: Mapping[str, object]) -> JSONObject:
    kind = block.get("type")
    if kind in ("text", "text-plain") or (kind is None and "text" in block):
        return {"type": "text", "text": str(block.get("text", ""))}
    if kind == "image_url":
        url = block["image_url"]
        return {"type": "image_url", "image_url": dict(url) if isinstance(url, Mapping) else {"url": url}}
    if kind in ("image", "audio", "video"):
        return _medium(str(kind), block)
    if kind in ("file", "document"):
        raise TogetherAIInputError(
            "Together's chat API takes no files; read the file and pass its text, or its pages as images."
        )
    return dict(block)


def _medium(kind: str, block: Mapping[str, object]) -> JSONObject:
    """An image, audio or video block in any of LangChain's forms: v1, v0 (`source_type`), Anthropic's `source`."""
    source = block.get("source")
    origin: Mapping[str, object] = source if isinstance(source, Mapping) else block
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


def tool_choice_to_wire(
    choice: str | bool | Mapping[str, object] | None, names: Sequence[str]
) -> str | JSONObject | None:
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
    mode = choice if isinstance(choice, str) else choice.get("type")
    if mode not in names:
        if mode in ("any", "required"):
            return "required"
        if mode in ("auto", "none"):
            return str(mode)
    if isinstance(choice, str):
        name = choice
    else:
        function = choice.get("function")
        name = str(function.get("name") if isinstance(function, Mapping) else choice.get("name"))
    if name not in names:
        raise TogetherAIInputError(f"tool_choice names {name!r}, but the tools are {', '.join(names) or 'none'}.")
    return {"type": "function", "function": {"name": name}}


def check_shape(tools: object, response_format: object) -> None:
    """Refuse tools beside a response format, which Together does not take in one request.

    Parameters
    ----------
    tools
        A request's tools; none, or an empty list, go with every format.
    response_format
        A request's response format; None and ``{"type": "text"}`` ask for no shape.

    Raises
    ------
    TogetherAIInputError
        There are both; the message says what to do.
    """
    if not tools or response_format is None:
        return
    if isinstance(response_format, Mapping) and response_format.get("type") == "text":
        return
    raise TogetherAIInputError(
        "Together takes either tools or a response format in one request, not both. Make the shape a tool: "
        "with_structured_output(schema, tools=[...]), or response_format=ToolStrategy(schema) in create_agent. Or "
        "ask twice: first with the tools, then with the response format alone."
    )


def settle_tools(body: JSONObject) -> None:
    """Leave an empty list of tools out of a body, with what is said about it, and refuse what `check_shape` does.

    Raises
    ------
    TogetherAIInputError
        There are tools and a response format.
    """
    if body.get("tools"):
        check_shape(body["tools"], body.get("response_format"))
    elif "tools" in body:
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            body.pop(name, None)


# --- wire -> LangChain ---


def message_from_wire(wire: Mapping[str, object]) -> BaseMessage:
    """Turn a message's wire form into LangChain's.

    Raises
    ------
    TogetherAIResponseError
        It has no role, or is not what the API promises.
    """
    try:
        return _message(cast("Message", wire))
    except SHAPE_ERRORS as exc:
        raise wrong_shape(exc) from exc


def _message(wire: Message) -> BaseMessage:
    role = wire.get("role")
    if role == "assistant":
        return _ai_message(wire)
    # LangChain's own classes check what the content is.
    content, name = cast("str", wire.get("content") or ""), wire.get("name")
    if role == "user":
        return HumanMessage(content=content, name=name)
    if role == "system":
        return SystemMessage(content=content, name=name)
    if role == "tool":
        return ToolMessage(content=content, tool_call_id=wire.get("tool_call_id", ""), name=name)
    if role == "function":
        return FunctionMessage(content=content, name=str(name))
    if not role:
        raise TogetherAIResponseError(f"a message without a role: {shown(dict(wire))}")
    return ChatMessage(content=content, role=str(role), name=name)


def _ai_message(
    wire: Message, metadata: JSONObject | None = None, usage: UsageMetadata | None = None
) -> AIMessage:
    content = wire.get("content") or ""
    if not isinstance(content, str):
        raise TypeError(f"a message's content is {shown(content)}")
    reasoning = wire.get("reasoning") or wire.get("reasoning_content") or ""
    if not reasoning and ThinkSplitter.begins(content):
        splitter = ThinkSplitter()
        parts = [*splitter.feed(content), *splitter.finish()]
        reasoning = "".join(text for thought, text in parts if thought)
        content = "".join(text for thought, text in parts if not thought)
    extra: JSONObject = {"reasoning_content": reasoning} if reasoning else {}
    if wire.get("function_call"):
        extra["function_call"] = wire["function_call"]
    calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for call in wire.get("tool_calls") or ():
        _read_call(call, calls, invalid)
    if metadata is None:
        metadata = {"model_provider": PROVIDER} if reasoning else {}
    name = wire.get("name")
    if not (calls or invalid or name):
        return _copy_message(
            {
                "content": content,
                "additional_kwargs": extra,
                "response_metadata": metadata,
                "usage_metadata": usage,
            }
        )
    return AIMessage(
        content=content,
        additional_kwargs=extra,
        response_metadata=metadata,
        tool_calls=calls,
        invalid_tool_calls=invalid,
        usage_metadata=usage,
        name=name,
    )


_copy_message = copier(
    AIMessage(
        content="",
        additional_kwargs={},
        response_metadata={},
        tool_calls=[],
        invalid_tool_calls=[],
        usage_metadata=None,
        name=None,
    )
)
_copy_generation = copier(ChatGeneration(message=AIMessage(content=""), generation_info={}))
_copy_result = copier(ChatResult(generations=[], llm_output={}))


def _read_call(wire: schemas.ToolCall, calls: list[ToolCall], invalid: list[InvalidToolCall]) -> None:
    function = wire.get("function") or {}
    arguments = function.get("arguments")
    name, call_id = function.get("name"), wire.get("id")
    if isinstance(arguments, Mapping):
        calls.append(tool_call(name=str(name), args=dict(arguments), id=call_id))
        return
    try:
        args = orjson.loads(arguments or "{}")
        if not isinstance(args, dict):
            raise ValueError(f"the arguments are a {type(args).__name__}, not an object")
        if not name:
            raise ValueError("the call names no function")
    except ValueError as exc:
        text = arguments if isinstance(arguments, str) else dumped(arguments)
        invalid.append(invalid_tool_call(name=name, args=text, id=call_id, error=str(exc)))
        return
    calls.append(tool_call(name=name, args=args, id=call_id))


def chat_result(
    reply: object,
    *,
    request_id: str | None = None,
    model: str | None = None,
    fallback: Mapping[str, object] | None = None,
) -> ChatResult:
    """Turn a reply of chat/completions into LangChain's result, one generation a choice.

    `fallback` says which target answered, if not the first; it goes into `response_metadata`.

    Raises
    ------
    TogetherAIResponseError
        The reply has no choices, or does not fit; the message names the place.
    """
    check_reply(CHAT, reply, model=model, request_id=request_id)
    try:
        return _chat_result(cast("GenerationReply", reply), request_id, fallback)
    except SHAPE_ERRORS as exc:
        raise wrong_shape(exc, model=model, request_id=request_id) from exc


def _chat_result(
    reply: GenerationReply, request_id: str | None, fallback: Mapping[str, object] | None
) -> ChatResult:
    usage = reply.get("usage")
    common = reply_metadata(reply, request_id, fallback)
    generations: list[ChatGeneration] = []
    for choice in reply["choices"]:
        info = {**common, **choice_metadata(choice)}
        # Several choices share one usage; each would be counted, so only the first carries it.
        message = _ai_message(choice["message"], info, None if generations else usage_from_wire(usage))
        generations.append(
            _copy_generation(
                {
                    "message": message,
                    "text": message.content,
                    "generation_info": {"finish_reason": info["finish_reason"]},
                }
            )
        )
    output: JSONObject = {"model_name": common["model_name"], "id": common.get("id")}
    if isinstance(usage, (dict, Mapping)):
        output["token_usage"] = usage
    return _copy_result({"generations": generations, "llm_output": output})


_REPLY_FIELDS = ("id", "system_fingerprint", "created", "service_tier", "warnings")


def reply_metadata(
    reply: GenerationReply, request_id: str | None, fallback: Mapping[str, object] | None = None
) -> JSONObject:
    """Describe a whole reply, or a chunk: what it says of itself, and which fallback sent it."""
    found: JSONObject = {"model_provider": PROVIDER, "model_name": reply.get("model")}
    for name in _REPLY_FIELDS:
        if (value := reply.get(name)) is not None:
            found[name] = value
    if reply.get("prompt"):
        found["prompt"] = reply["prompt"]
    if request_id:
        found["request_id"] = request_id
    if fallback is not None:
        found["fallback"] = dict(fallback)
    return found


def choice_metadata(choice: Choice) -> JSONObject:
    """Describe one answer of a reply: why it ended, its seed, its log probabilities."""
    found: JSONObject = {"finish_reason": choice.get("finish_reason")}
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


def dumped(value: object) -> str:
    """JSON in a string, as a call's arguments travel."""
    return orjson.dumps(value).decode()
