"""Structured output: the shape that is asked for, and parsers that say why there is none.

LangChain's parsers return None when a model answers with text instead of a tool call. These raise, with the
finish reason, so that a cut-off answer or a refusal is not mistaken for an empty one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from operator import itemgetter
from typing import Any, Literal, cast

import orjson
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, BaseMessageChunk
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.base import BaseGenerationOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.json import parse_json_markdown
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import ValidationError
from pydantic.v1 import ValidationError as ValidationErrorV1

from hana_ai.api.errors import TogetherAIInputError, TogetherAIStructuredOutputError

Method = Literal["function_calling", "json_schema", "json_mode"]
Schema = Mapping[str, Any] | type


class ShapedOutputParser(BaseGenerationOutputParser[Any]):
    """Run another parser and raise with the finish reason where it finds nothing.

    Parameters
    ----------
    inner : BaseGenerationOutputParser or BaseOutputParser
        Parses the answer.
    """

    inner: Any

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
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

    def _transform(self, input: Iterator[str | BaseMessage]) -> Iterator[Any]:
        seen: list[BaseMessage] = []
        given = False
        for parsed in self.inner._transform(_noted(input, seen)):
            given = True
            yield parsed
        # Also where something was given: only the whole answer shows whether it was the asked-for shape.
        final = self.parse_result([_whole(seen)])
        if not given:
            yield final

    def transform(self, input: Iterator[Any], config: Any = None, **kwargs: Any) -> Iterator[Any]:
        """Parse a stream piece by piece."""
        yield from self._transform_stream_with_config(input, self._transform, config, run_type="parser")

    async def _atransform(self, input: AsyncIterator[str | BaseMessage]) -> AsyncIterator[Any]:
        seen: list[BaseMessage] = []
        given = False
        async for parsed in self.inner._atransform(_anoted(input, seen)):
            given = True
            yield parsed
        # Also where something was given: only the whole answer shows whether it was the asked-for shape.
        final = self.parse_result([_whole(seen)])
        if not given:
            yield final

    async def atransform(self, input: AsyncIterator[Any], config: Any = None, **kwargs: Any) -> AsyncIterator[Any]:
        """Parse an asynchronous stream piece by piece."""
        async for parsed in self._atransform_stream_with_config(
            input, self._atransform, config, run_type="parser"
        ):
            yield parsed


def _noted(source: Iterator[Any], seen: list[BaseMessage]) -> Iterator[Any]:
    for item in source:
        seen.append(item)
        yield item


async def _anoted(source: AsyncIterator[Any], seen: list[BaseMessage]) -> AsyncIterator[Any]:
    async for item in source:
        seen.append(item)
        yield item


def _whole(seen: list[BaseMessage]) -> ChatGeneration:
    if not seen:
        return ChatGeneration(message=AIMessage(content=""))
    whole = seen[0]
    for chunk in seen[1:]:
        whole = cast("BaseMessage", cast("BaseMessageChunk", whole) + chunk)
    return ChatGeneration(message=whole)


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


def _is_tools(parser: Any) -> bool:
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
    broken = "".join(
        f" Its call of {call.get('name')} was not valid: {call.get('error')}."
        for call in getattr(message, "invalid_tool_calls", [])
    )
    return TogetherAIStructuredOutputError(
        f"The model's answer does not have the asked-for shape: {what} (finish reason: {reason}).{broken}{advice}"
        f" It said: {text[:300]!r}",
        llm_output=text,
    )


def structured(
    llm: Any,
    schema: Schema | None,
    *,
    method: Method,
    include_raw: bool,
    strict: bool | None,
    tools: list[Any] | None,
    kwargs: dict[str, Any],
) -> Runnable[LanguageModelInput, Any]:
    """Bind a schema to a chat model; see `ChatTogetherAI.with_structured_output`."""
    is_model = isinstance(schema, type) and is_basemodel_subclass(schema)
    traced = {"kwargs": {"method": method, "strict": strict}, "schema": schema}
    parser: Any
    if tools and method in ("json_schema", "json_mode"):
        raise TogetherAIInputError(
            "Together takes either tools or a response format in one call, not both; use "
            "method='function_calling', or ask twice."
        )
    if method == "json_mode":
        bound = llm.bind(response_format={"type": "json_object"}, ls_structured_output_format=traced, **kwargs)
        parser = PydanticOutputParser(pydantic_object=cast("Any", schema)) if is_model else JsonOutputParser()
    elif schema is None:
        raise TogetherAIInputError(f"with_structured_output(method={method!r}) needs a schema.")
    elif method == "function_calling":
        tool = convert_to_openai_tool(schema, strict=strict)
        name = tool["function"]["name"]
        bound = llm.bind_tools(
            [schema, *(tools or [])],
            tool_choice=None if tools else name,
            strict=strict,
            ls_structured_output_format={**traced, "schema": tool},
            **kwargs,
        )
        parser = (
            PydanticToolsParser(tools=[cast("Any", schema)], first_tool_only=True)
            if is_model
            else JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
        )
    elif method == "json_schema":
        bound = llm.bind(
            response_format=response_format(schema, strict), ls_structured_output_format=traced, **kwargs
        )
        parser = PydanticOutputParser(pydantic_object=cast("Any", schema)) if is_model else JsonOutputParser()
    else:
        raise TogetherAIInputError(
            f"method={method!r} is not one of 'function_calling', 'json_schema' and 'json_mode'."
        )
    shaped = ShapedOutputParser(inner=parser)
    if not include_raw:
        return cast("Runnable[LanguageModelInput, Any]", bound | shaped)
    assign = RunnablePassthrough.assign(parsed=itemgetter("raw") | shaped, parsing_error=lambda _: None)
    nothing = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | assign.with_fallbacks([nothing], exception_key="parsing_error")


def response_format(schema: Schema, strict: bool | None = None) -> dict[str, Any]:
    """The `response_format` for a Pydantic class, a TypedDict or a JSON schema.

    A dict that is already a `response_format` is taken as it is.
    """
    if isinstance(schema, Mapping) and schema.get("type") in ("json_schema", "json_object", "regex"):
        return dict(schema)
    converted = convert_to_json_schema(cast("Any", schema), strict=strict)
    name = str(converted.get("title") or "answer").replace(" ", "_")
    inner: dict[str, Any] = {"name": name, "schema": converted}
    if converted.get("description"):
        inner["description"] = converted["description"]
    if strict is not None:
        inner["strict"] = strict
    return {"type": "json_schema", "json_schema": inner}
