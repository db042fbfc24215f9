"""What Together's API sends, as far as this package reads it.

These types say what a well-formed value holds and check nothing: any part of a reply may be missing. A field that
is only passed on is an `object`.
"""

from __future__ import annotations

from typing import Any, TypedDict

PROVIDER = "together"
"""`model_provider` and `ls_provider` of everything that this package makes."""

JSONObject = dict[str, Any]
"""A JSON object whose fields only its reader knows: a request's body, a schema, a content block."""


class FunctionCall(TypedDict, total=False):
    """The function that a model calls."""

    name: str | None
    arguments: str | JSONObject | None
    """JSON in a string; some servers send the object itself."""


class ToolCall(TypedDict, total=False):
    """A call of a tool, or in a stream a piece of one."""

    id: str | None
    index: int | None
    type: str
    function: FunctionCall | None


class Message(TypedDict, total=False):
    """A message of a request or a reply, or in a stream a piece of one."""

    role: str
    content: str | list[JSONObject] | None
    name: str
    tool_call_id: str
    tool_calls: list[ToolCall] | None
    function_call: object
    reasoning: str | None
    reasoning_content: str | None


class Choice(TypedDict, total=False):
    """One answer of a chat or a completion."""

    index: int | None
    message: Message
    delta: Message | None
    text: str | None
    finish_reason: str | None
    seed: int | None
    logprobs: object
    top_logprobs: object


class Token(TypedDict, total=False):
    """The token that a chunk of a completion brings."""

    id: int | None
    text: str | None
    special: bool


class GenerationReply(TypedDict, total=False):
    """A reply of chat/completions or completions, or a chunk of one."""

    id: str
    model: str
    created: int
    choices: list[Choice]
    usage: object
    prompt: object
    warnings: object
    service_tier: str
    system_fingerprint: str
    token: Token
    finish_reason: str | None
    seed: int | None
