"""What the local language model is given: plain turns of a chat, and grammars that keep its answers in shape.

Small models have no notion of tools. So tool calls of earlier turns become plain text, and a new call is two
steps: a function is chosen, then its arguments are generated under the grammar of their JSON schema. Grammars are
written in llguidance's notation, which llama.cpp takes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import orjson

from ..refusal import Refusal
from ..requests import (
    AssistantMessage,
    ChatBody,
    FunctionMessage,
    JSONObject,
    JsonObjectFormat,
    JsonSchemaFormat,
    MediaPart,
    Message,
    RegexFormat,
    Tool,
    ToolMessage,
    UserMessage,
    message_text,
)

Turn = dict[str, str]

# A weak model may never end a string, a list or a number by itself.
_LONGEST_STRING = 200
_LONGEST_LIST = 8
_LARGEST_NUMBER = 1_000_000_000
_TYPES = {"object", "array", "string", "integer", "number", "boolean", "null"}
_COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":", "lenient": True}


def turns(body: ChatBody) -> list[Turn]:
    """The messages as turns of system, user and assistant.

    Raises
    ------
    Refusal
        400 for an image, video or audio.
    """
    names = {
        call.id: call.function.name
        for message in body.messages
        if isinstance(message, AssistantMessage)
        for call in message.tool_calls or []
    }
    made: list[Turn] = []
    for message in body.messages:
        # A call that nothing was said with is left out: a small model would only say it again.
        if isinstance(message, AssistantMessage) and message.tool_calls and not message_text(message.content):
            continue
        turn = _turn(message, names)
        # Answers of several tools become one turn: chat templates expect user and assistant to alternate.
        if made and turn["role"] == made[-1]["role"] == "user":
            made[-1] = {"role": "user", "content": f"{made[-1]['content']}\n\n{turn['content']}"}
        else:
            made.append(turn)
    return made


def _turn(message: Message, names: dict[str, str]) -> Turn:
    if isinstance(message, ToolMessage | FunctionMessage):
        called = names.get(message.tool_call_id) if isinstance(message, ToolMessage) else None
        name = message.name or called or "the function"
        return {"role": "user", "content": f"The answer of {name} is: {message_text(message.content)}"}
    if isinstance(message, UserMessage) and not isinstance(message.content, str):
        for part in message.content:
            if isinstance(part, MediaPart):
                raise Refusal(400, f"This model does not take {part.type} content.", param="messages")
    return {"role": message.role, "content": message_text(message.content)}


def request_text(body: ChatBody) -> str:
    """What the user asked last."""
    users = [message for message in body.messages if isinstance(message, UserMessage)]
    return message_text(users[-1].content) if users else message_text(body.messages[-1].content)


def tool_text(tool: Tool) -> str:
    """A tool in words, for choosing one."""
    words = re.sub(r"[_\W]+", " ", tool.function.name)
    return f"{words}: {tool.function.description or words}"


def ask_for_choice(given: Sequence[Turn], tools: Sequence[Tool], *, free: bool) -> list[Turn]:
    """The chat with a question after it: which function, or none of them where the choice is free."""
    lines = [f"- {tool.function.name}: {tool.function.description or ''}" for tool in tools]
    if free:
        lines.append("- none: no function is needed")
    listed = "\n".join(lines)
    return _appended(given, f"Which function should be called now?\n{listed}\nAnswer with its name only.")


def ask_for_arguments(given: Sequence[Turn], tool: Tool) -> list[Turn]:
    """The chat with a request after it: the arguments of one function."""
    properties = (tool.function.parameters or {}).get("properties", {})
    names = ", ".join(
        f"{name} ({field['description']})" if isinstance(field, dict) and field.get("description") else name
        for name, field in properties.items()
    )
    return _appended(given, f"Answer with the JSON arguments for {tool.function.name}: {names}")


def ask_to_use_results(given: Sequence[Turn]) -> list[Turn]:
    """The chat with a request after it that the weakest models need once a tool has answered."""
    return _appended(given, "\nAnswer the question with it in one sentence.")


def _appended(given: Sequence[Turn], text: str) -> list[Turn]:
    if given and given[-1]["role"] == "user":
        return [*given[:-1], {"role": "user", "content": f"{given[-1]['content']}\n{text}"}]
    return [*given, {"role": "user", "content": text}]


def choice_grammar(names: Sequence[str]) -> str:
    """A grammar of exactly these words."""
    return "%llguidance {}\nstart: " + " | ".join(orjson.dumps(name).decode() for name in names)


def format_grammar(body: ChatBody) -> str | None:
    """The grammar of the response format; None for plain text.

    Raises
    ------
    Refusal
        400 for a schema or pattern that cannot be used.
    """
    wanted = body.response_format
    if isinstance(wanted, JsonSchemaFormat):
        return schema_grammar(wanted.json_schema.schema_ or {"type": "object"})
    if isinstance(wanted, JsonObjectFormat):
        return schema_grammar(wanted.schema_ or {"type": "object"})
    if isinstance(wanted, RegexFormat):
        return regex_grammar(wanted.pattern)
    return None


def regex_grammar(pattern: str) -> str:
    """A grammar of the texts that match a regular expression as a whole."""
    try:
        re.compile(pattern)
    except re.error as exc:
        raise Refusal(400, f"response_format: the pattern is not valid: {exc}", param="response_format") from exc
    if unsupported := re.search(r"(?<!\\)(\(\?(?:=|!|<=|<!)|\\[1-9])", pattern):
        what = unsupported.group(1)
        raise Refusal(400, f"response_format: the pattern may not use {what!r}.", param="response_format")
    inner = pattern.removeprefix("^")
    if inner.endswith("$") and not inner.endswith("\\$"):
        inner = inner[:-1]
    return "%llguidance {}\nstart: /" + re.sub(r"(?<!\\)/", r"\/", inner).replace("\n", r"\n") + "/"


def schema_grammar(schema: JSONObject) -> str:
    """A grammar of compact JSON that fits a schema, with bounds where the schema has none.

    Raises
    ------
    Refusal
        400 for a type that JSON schema does not know.
    """
    made = {**_bounded(schema), "x-guidance": _COMPACT}
    return "%llguidance {}\nstart: %json " + orjson.dumps(made).decode()


def _bounded(node: JSONObject) -> JSONObject:
    made: JSONObject = {key: _bounded_value(key, value) for key, value in node.items()}
    if not made.keys().isdisjoint(("enum", "const", "$ref", "anyOf", "oneOf", "allOf")):
        return made
    given = made.get("type")
    kinds = given if isinstance(given, list) else [given] if given is not None else []
    for kind in kinds:
        if kind not in _TYPES:
            raise Refusal(400, f"The JSON schema has a type that is not known: {kind!r}", param="response_format")
    if "string" in kinds and made.keys().isdisjoint(("maxLength", "pattern", "format")):
        made["maxLength"] = max(_LONGEST_STRING, made.get("minLength", 0))
    if "array" in kinds and "maxItems" not in made:
        made["maxItems"] = max(_LONGEST_LIST, made.get("minItems", 0))
    if ("integer" in kinds or "number" in kinds) and "multipleOf" not in made:
        if "exclusiveMinimum" not in made:
            made.setdefault("minimum", min(-_LARGEST_NUMBER, made.get("maximum", 0)))
        if "exclusiveMaximum" not in made:
            made.setdefault("maximum", max(_LARGEST_NUMBER, made.get("minimum", 0)))
    if kinds == ["object"] and "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


def _bounded_value(key: str, value: object) -> object:
    if key in ("properties", "$defs", "definitions", "patternProperties") and isinstance(value, dict):
        return {name: _bounded(part) if isinstance(part, dict) else part for name, part in value.items()}
    if key in ("anyOf", "oneOf", "allOf", "prefixItems") and isinstance(value, list):
        return [_bounded(part) if isinstance(part, dict) else part for part in value]
    if key in ("items", "additionalProperties", "not") and isinstance(value, dict):
        return _bounded(value)
    return value
