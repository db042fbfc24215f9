"""Structured output: the shape that is asked for, and parsers that say why there is none.

LangChain's parsers return None when a model answers with text instead of a tool call. These raise, with the
finish reason, so that a cut-off answer or a refusal is not mistaken for an empty one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, cast

import orjson
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, BaseMessageChunk
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.base import BaseGenerationOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.output_parsers.transform import BaseTransformOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableConfig, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.json import parse_json_markdown
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel, SkipValidation, ValidationError
from pydantic.v1 import ValidationError as ValidationErrorV1

from hana_ai.api.errors import TogetherAIInputError, TogetherAIStructuredOutputError
from hana_ai.api.langchain.messages import check_shape

if TYPE_CHECKING:
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.language_models.chat_models import BaseChatModel
    from langchain_core.tools import BaseTool

    from hana_ai.api.wire.schemas import JSONObject

    Tool = Mapping[str, object] | type | Callable[..., object] | BaseTool

Method = Literal["function_calling", "json_schema", "json_mode"]
Schema = Mapping[str, object] | type


class ShapedOutputParser(BaseGenerationOutputParser[object]):
    """Run another parser and raise with the finish reason where it finds nothing.

    Parameters
    ----------
    inner : BaseTransformOutputParser
        Parses the answer.
    """

    inner: SkipValidation[BaseTransformOutputParser[Any]]

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> object:
        """Parse a finished answer (or, with `partial`, what there is of it).

        Raises
        ------
        TogetherAIStructuredOutputError
            The answer does not have the asked-for shape.
        """
        if partial:
            return self.inner.parse_result(result, partial=True)
        try:
            parsed = self.inner.parse_result(result)
        except OutputParserException as exc:
            raise _explained(result, str(exc).split("\n", 1)[0]) from exc
        except (ValidationError, ValidationErrorV1) as exc:
            raise _explained(result, " ".join(str(exc).split())) from exc
        if parsed is None or parsed == []:
            raise _explained(result, "it called no tool" if _is_tools(self.inner) else "it is empty")
        if _is_cut_off(result[0]):
            raise _explained(result, "it is not complete")
        return parsed

    def _transform(self, input: Iterator[str | BaseMessage]) -> Iterator[object]:
        stream = _Stream()
        for parsed in self.inner._transform(stream.noted(input)):
            stream.given = True
            yield parsed
        yield from self._final(stream)

    def _final(self, stream: _Stream) -> Iterator[object]:
        # Also where something was given: only the whole answer shows whether it was the asked-for shape.
        final = self.parse_result([stream.whole()])
        if not stream.given:
            yield final

    def transform(
        self, input: Iterator[str | BaseMessage], config: RunnableConfig | None = None, **kwargs: object
    ) -> Iterator[object]:
        """Parse a stream piece by piece; raises the errors of `parse_result` at its end."""
        yield from self._transform_stream_with_config(input, self._transform, config, run_type="parser")

    async def _atransform(self, input: AsyncIterator[str | BaseMessage]) -> AsyncIterator[object]:
        stream = _Stream()
        async for parsed in self.inner._atransform(stream.anoted(input)):
            stream.given = True
            yield parsed
        for parsed in self._final(stream):
            yield parsed

    def atransform(
        self, input: AsyncIterator[str | BaseMessage], config: RunnableConfig | None = None, **kwargs: object
    ) -> AsyncIterator[object]:
        """Parse an asynchronous stream piece by piece; raises as `transform`."""
        return self._atransform_stream_with_config(input, self._atransform, config, run_type="parser")


class _Stream:
    """What came of a stream so far."""

    def __init__(self) -> None:
        self.given = False
        """Whether anything was parsed."""
        self._seen: list[str | BaseMessage] = []

    def noted(self, source: Iterator[str | BaseMessage]) -> Iterator[str | BaseMessage]:
        for item in source:
            self._seen.append(item)
            yield item

    async def anoted(self, source: AsyncIterator[str | BaseMessage]) -> AsyncIterator[str | BaseMessage]:
        async for item in source:
            self._seen.append(item)
            yield item

    def whole(self) -> ChatGeneration:
        """The whole answer."""
        messages = [AIMessageChunk(content=item) if isinstance(item, str) else item for item in self._seen]
        first, *rest = messages or [AIMessage(content="")]
        if isinstance(first, BaseMessageChunk) and rest:
            first = first.__add__([chunk for chunk in rest if isinstance(chunk, BaseMessageChunk)])
        return ChatGeneration(message=first)


def _is_cut_off(generation: Generation) -> bool:
    """Whether an answer ended at the token limit, in the middle of its JSON; LangChain's parsers complete it."""
    if not isinstance(generation, ChatGeneration):
        return False
    message = generation.message
    if message.response_metadata.get("finish_reason") != "length":
        return False
    try:
        if isinstance(message, AIMessageChunk) and message.tool_call_chunks:
            orjson.loads(message.tool_call_chunks[0]["args"] or "")
        elif not getattr(message, "tool_calls", None):
            parse_json_markdown(message.text, parser=orjson.loads)
    except ValueError:
        return True
    return False


def _is_tools(parser: object) -> bool:
    return isinstance(parser, (PydanticToolsParser, JsonOutputKeyToolsParser))


def _explained(result: list[Generation], what: str) -> TogetherAIStructuredOutputError:
    generation = result[0]
    message = generation.message if isinstance(generation, ChatGeneration) else AIMessage(content=generation.text)
    reason = message.response_metadata.get("finish_reason") or "unknown"
    text = message.text
    advice = {
        "length": " The answer was cut off: raise max_tokens.",
        "tool_calls": "",
    }.get(str(reason), " Try another method= (json_schema, function_calling, json_mode) or a larger model.")
    invalid_calls = "".join(
        f" Its call of {call.get('name')} was not valid: {call.get('error')}."
        for call in getattr(message, "invalid_tool_calls", [])
    )
    return TogetherAIStructuredOutputError(
        f"The model's answer does not have the asked-for shape: {what} (finish reason: {reason})."
        f"{invalid_calls}{advice} It said: {text[:300]!r}",
        llm_output=text,
    )


def structured(
    llm: BaseChatModel,
    schema: Schema | None,
    *,
    method: Method,
    include_raw: bool,
    strict: bool | None,
    tools: Sequence[Tool] | None,
    kwargs: JSONObject,
) -> Runnable[LanguageModelInput, Any]:
    """Bind a schema to a chat model; see `ChatTogetherAI.with_structured_output`."""
    if method in ("json_schema", "json_mode"):
        check_shape(tools, method)
    traced: JSONObject = {"kwargs": {"method": method, "strict": strict}, "schema": schema}
    bound: Runnable[LanguageModelInput, AIMessage]
    if method == "json_mode":
        kwargs = {**kwargs, "response_format": {"type": "json_object"}, "ls_structured_output_format": traced}
        bound, parser = llm.bind(**kwargs), _json_parser(schema)
    elif schema is None:
        raise TogetherAIInputError(f"with_structured_output(method={method!r}) needs a schema.")
    elif method == "function_calling":
        tool = convert_to_openai_tool(schema, strict=strict)
        name = tool["function"]["name"]
        kwargs = {**kwargs, "ls_structured_output_format": {**traced, "schema": tool}}
        choice = None if tools else name
        offered: list[Any] = [schema, *(tools or ())]
        bound = llm.bind_tools(offered, tool_choice=choice, strict=strict, **kwargs)
        parser = _tool_parser(schema, name)
    elif method == "json_schema":
        wanted = response_format(schema, strict)
        kwargs = {**kwargs, "response_format": wanted, "ls_structured_output_format": traced}
        bound, parser = llm.bind(**kwargs), _json_parser(schema)
    else:
        raise TogetherAIInputError(
            f"method={method!r} is not one of 'function_calling', 'json_schema' and 'json_mode'."
        )
    shaped = ShapedOutputParser(inner=parser)
    if not include_raw:
        return bound | shaped
    assign = RunnablePassthrough.assign(parsed=itemgetter("raw") | shaped, parsing_error=lambda _: None)
    nothing = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | assign.with_fallbacks([nothing], exception_key="parsing_error")


def _json_parser(schema: Schema | None) -> BaseTransformOutputParser[Any]:
    return PydanticOutputParser(pydantic_object=schema) if _is_model(schema) else JsonOutputParser()


def _tool_parser(schema: Schema, name: str) -> BaseTransformOutputParser[Any]:
    if _is_model(schema):
        return PydanticToolsParser(tools=[schema], first_tool_only=True)
    return JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)


def _is_model(schema: Schema | None) -> TypeGuard[type[BaseModel]]:
    return isinstance(schema, type) and is_basemodel_subclass(schema)


def response_format(schema: Schema, strict: bool | None = None) -> JSONObject:
    """The `response_format` for a Pydantic class, a TypedDict or a JSON schema.

    A dict that is already a `response_format` is taken as it is.
    """
    if isinstance(schema, Mapping) and schema.get("type") in ("json_schema", "json_object", "regex"):
        return dict(schema)
    converted = convert_to_json_schema(cast("type[BaseModel]", schema), strict=strict)
    name = str(converted.get("title") or "answer").replace(" ", "_")
    inner: JSONObject = {"name": name, "schema": converted}
    if converted.get("description"):
        inner["description"] = converted["description"]
    if strict is not None:
        inner["strict"] = strict
    return {"type": "json_schema", "json_schema": inner}
