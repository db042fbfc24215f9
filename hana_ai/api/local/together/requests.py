"""The bodies that Together's API takes, checked as Together checks them.

The classes have what engines read, with the bounds that the document only describes in words; whatever else it
says of a body is checked by `contract`. What it does not name is ignored, as the API ignores it. `parse` turns
what is wrong into Together's error shape.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from .contract import check_body
from .refusal import Refusal

JSONObject: TypeAlias = dict[str, Any]
"""A JSON object as a client sent it; its values are checked where they are used."""


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())

    schema_name: ClassVar[str | None] = None
    """The body's schema in Together's OpenAPI document; None for a part of one."""


class TextPart(_Body):
    """A text block of a message."""

    type: Literal["text"]
    text: str


class MediaPart(_Body):
    """An image, video or audio block of a message; the server passes it on without opening it."""

    model_config = ConfigDict(strict=True, extra="allow")
    type: Literal["image_url", "video_url", "audio_url", "input_audio"]


Part = Annotated[TextPart | MediaPart, Field(discriminator="type")]


class Function(_Body):
    """Name and arguments of a tool call."""

    name: str
    arguments: str


class ToolCall(_Body):
    """A tool call in an assistant's message."""

    id: str
    type: Literal["function"] = "function"
    function: Function


class SystemMessage(_Body):
    """Instructions."""

    role: Literal["system"]
    content: str | list[TextPart]


class UserMessage(_Body):
    """What the user said."""

    role: Literal["user"]
    content: str | list[Part]
    name: str | None = None


class AssistantMessage(_Body):
    """What the model said before."""

    role: Literal["assistant"]
    content: str | list[TextPart] | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None


class ToolMessage(_Body):
    """What a tool answered."""

    role: Literal["tool"]
    content: str | list[TextPart]
    tool_call_id: str
    name: str | None = None


class FunctionMessage(_Body):
    """What a function answered, the older form of a tool's answer."""

    role: Literal["function"]
    content: str
    name: str


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage,
    Field(discriminator="role"),
]


class ToolFunction(_Body):
    """A tool the model may call; `parameters` is a JSON schema."""

    name: Annotated[str, Field(min_length=1)]
    description: str | None = None
    parameters: JSONObject | None = None


class Tool(_Body):
    """A tool the model may call."""

    type: Literal["function"]
    function: ToolFunction


class NamedFunction(_Body):
    """The name in a named tool choice."""

    name: str


class NamedTool(_Body):
    """A tool choice that names the tool."""

    type: Literal["function"]
    function: NamedFunction


class NamedSchema(_Body):
    """The JSON schema of a response format."""

    name: str
    schema_: Annotated[JSONObject | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextFormat(_Body):
    """Plain text."""

    type: Literal["text"]


class JsonObjectFormat(_Body):
    """Any JSON object, or one that fits `schema`, the older way to say so."""

    type: Literal["json_object"]
    schema_: Annotated[JSONObject | None, Field(alias="schema")] = None


class JsonSchemaFormat(_Body):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class RegexFormat(_Body):
    """Text that matches a regular expression."""

    type: Literal["regex"]
    pattern: str


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat | RegexFormat, Field(discriminator="type")
]


class _Sampling(_Body):
    model: Annotated[str, Field(min_length=1)]
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    stop: list[str] | None = None
    temperature: Annotated[float | None, Field(ge=0)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    top_k: int | None = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    repetition_penalty: Annotated[float | None, Field(gt=0)] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    n: Annotated[int | None, Field(ge=1, le=128)] = None
    logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    echo: bool | None = None
    stream: bool | None = None
    safety_model: str | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        """OpenAI's newer name of `max_tokens`, which clients of both send; the older one wins."""
        if self.max_tokens is None:
            self.max_tokens = self.max_completion_tokens
        return self


class ChatBody(_Sampling):
    """The body of POST /v1/chat/completions."""

    schema_name: ClassVar[str | None] = "ChatCompletionRequest"

    messages: Annotated[list[Message], Field(min_length=1)]
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    response_format: ResponseFormat | None = None
    context_length_exceeded_behavior: Literal["truncate", "error"] | None = None
    compliance: Literal["hipaa"] | None = None
    chat_template_kwargs: JSONObject | None = None
    reasoning_effort: str | None = None
    reasoning: JSONObject | None = None

    def calls(self) -> Literal["none", "auto", "required"]:
        """Whether the answer may be or has to be a tool call; a named tool has to be called."""
        if not self.tools:
            return "none"
        if isinstance(self.tool_choice, NamedTool):
            return "required"
        return self.tool_choice or "auto"

    def callable_tools(self) -> list[Tool]:
        """The tools the model may call: the named one alone where the choice names one."""
        tools = self.tools or []
        if isinstance(self.tool_choice, NamedTool):
            return [tool for tool in tools if tool.function.name == self.tool_choice.function.name]
        return tools


class CompletionBody(_Sampling):
    """The body of POST /v1/completions."""

    schema_name: ClassVar[str | None] = "CompletionRequest"

    prompt: str


class EmbeddingsBody(_Body):
    """The body of POST /v1/embeddings."""

    schema_name: ClassVar[str | None] = "EmbeddingsRequest"

    model: Annotated[str, Field(min_length=1)]
    input: str | list[str]

    def texts(self) -> list[str]:
        """The texts to embed, also where a single one came as a string."""
        return [self.input] if isinstance(self.input, str) else self.input


class RerankBody(_Body):
    """The body of POST /v1/rerank."""

    schema_name: ClassVar[str | None] = "RerankRequest"

    # The only body for which the document forbids further fields.
    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())

    model: Annotated[str, Field(min_length=1)]
    query: str
    documents: Annotated[list[str] | list[JSONObject], Field(min_length=1)]
    top_n: Annotated[int | None, Field(ge=1)] = None
    return_documents: bool | None = None
    rank_fields: list[str] | None = None

    def texts(self) -> list[str]:
        """What is ranked: the strings, or an object's `rank_fields`, its `text`, or all of its fields."""
        return [document if isinstance(document, str) else self._text(document) for document in self.documents]

    def _text(self, document: JSONObject) -> str:
        if self.rank_fields:
            return "\n".join(str(document[name]) for name in self.rank_fields if name in document)
        if isinstance(document.get("text"), str):
            return str(document["text"])
        return "\n".join(str(value) for value in document.values())


BodyT = TypeVar("BodyT", bound=_Body)
_ADAPTERS: dict[type[_Body], TypeAdapter[Any]] = {}


def decode(raw: bytes) -> JSONObject:
    """Read a body as JSON.

    Raises
    ------
    Refusal
        400 when it is not a JSON object.
    """
    try:
        body: object = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise Refusal(400, f"Invalid JSON in request body: {exc}") from exc
    if not isinstance(body, dict):
        raise Refusal(400, "The request body must be a JSON object.")
    return body


def decode_as(schema: str, raw: bytes) -> JSONObject:
    """Read a body as JSON that fits a schema of the document; raises as `decode` and `check_body`."""
    body = decode(raw)
    check_body(schema, body)
    return body


def parse(kind: type[BodyT], raw: bytes) -> BodyT:
    """Read and check a body.

    Raises
    ------
    Refusal
        400 with the first thing that is wrong and, in `param`, the field it is wrong in.
    """
    body = decode(raw)
    adapter = _ADAPTERS.get(kind)
    if adapter is None:
        adapter = _ADAPTERS[kind] = TypeAdapter(kind)
    try:
        parsed: BodyT = adapter.validate_python(body)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        param = str(first["loc"][0]) if first["loc"] else None
        raise Refusal(400, f"Input validation error: {where}: {first['msg']}", param=param) from exc
    if kind.schema_name is not None:
        check_body(kind.schema_name, body)
    if isinstance(parsed, ChatBody):
        _check_tools(parsed)
    return parsed


def _check_tools(body: ChatBody) -> None:
    if isinstance(body.tool_choice, NamedTool) and not body.callable_tools():
        name = body.tool_choice.function.name
        raise Refusal(400, f"tool_choice names the function {name!r}, which is not in tools.", param="tool_choice")
    if body.tools and body.response_format is not None and not isinstance(body.response_format, TextFormat):
        # Together's guide to structured output says not to; what the service answers is not known.
        raise Refusal(400, "response_format cannot be used with tools in one request.", param="response_format")
    if body.tool_choice == "required" and not body.tools:
        raise Refusal(400, "tool_choice is 'required', but there are no tools.", param="tool_choice")


def message_text(content: str | list[TextPart] | list[Part] | None) -> str:
    """The text of a message's content; blocks that are not text are left out."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.text for part in content if isinstance(part, TextPart))
