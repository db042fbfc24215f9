"""`response_format` of a call as a class: its form on the wire, and the object in the answer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing, closing
from typing import TYPE_CHECKING

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk
from langchain_core.utils.pydantic import is_basemodel_subclass

from hana_ai.api.langchain.structured_output import ShapedOutputParser, response_format

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator

    from langchain_core.outputs import ChatResult
    from pydantic import BaseModel

PARSED = "parsed"
"""Where the object is, in `additional_kwargs` of the message, as in langchain-openai."""
_ON_THE_WIRE = ("json_schema", "json_object", "regex", "text")


def as_wire(given: object, strict: object = None) -> object:
    """Return a `response_format` in Together's form.

    Parameters
    ----------
    given
        A Pydantic class, a TypedDict or a JSON schema; anything else is returned as it is.
    strict : bool, optional
        Ask for answers that match the schema exactly.
    """
    schema = isinstance(given, Mapping) and given.get("type") not in _ON_THE_WIRE and "properties" in given
    if isinstance(given, type) or schema:
        return response_format(given, strict if isinstance(strict, bool) else None)  # type: ignore[arg-type]
    return given


def on_the_wire(kwargs: Mapping[str, object]) -> tuple[type[BaseModel] | None, dict[str, object]]:
    """The Pydantic class that a call's `response_format` is, if so, and its arguments without it."""
    given = kwargs.get("response_format")
    if not isinstance(given, type):
        return None, dict(kwargs)
    changed = {**kwargs, "response_format": as_wire(given, kwargs.get("strict"))}
    return (given if is_basemodel_subclass(given) else None), changed


def with_parsed(result: ChatResult, kind: type[BaseModel] | None) -> ChatResult:
    """Return an answer whose messages have an object of a class as ``additional_kwargs["parsed"]``.

    Raises
    ------
    TogetherAIStructuredOutputError
        An answer does not have the shape of the class; the message has the finish reason.
    """
    if kind is None:
        return result
    # Copies, since a cache may have the same objects.
    generations = [
        ChatGeneration(message=_parsed(generation, kind), generation_info=generation.generation_info)
        for generation in result.generations
    ]
    return result.model_copy(update={"generations": generations})


def _parsed(generation: ChatGeneration, kind: type[BaseModel]) -> AIMessage:
    message = generation.message
    assert isinstance(message, AIMessage)
    found = None if message.tool_calls else _parse(generation, kind)
    return message.model_copy(update={"additional_kwargs": {**message.additional_kwargs, PARSED: found}})


def _parse(generation: ChatGeneration, kind: type[BaseModel]) -> object:
    return ShapedOutputParser(inner=PydanticOutputParser(pydantic_object=kind)).parse_result([generation])


def then_parsed(chunks: Generator[ChatGenerationChunk, None, None], kind: type) -> Iterator[ChatGenerationChunk]:
    """Yield the chunks of an answer, and one with the object behind them; raises as `with_parsed`."""
    whole: ChatGenerationChunk | None = None
    with closing(chunks):
        for chunk in chunks:
            whole = chunk if whole is None else whole + chunk
            yield chunk
    if whole is not None and is_basemodel_subclass(kind):
        yield _last(whole, kind)


async def athen_parsed(
    chunks: AsyncGenerator[ChatGenerationChunk, None], kind: type
) -> AsyncIterator[ChatGenerationChunk]:
    """Yield the chunks from a coroutine; see `then_parsed`."""
    whole: ChatGenerationChunk | None = None
    async with aclosing(chunks):
        async for chunk in chunks:
            whole = chunk if whole is None else whole + chunk
            yield chunk
    if whole is not None and is_basemodel_subclass(kind):
        yield _last(whole, kind)


def _last(whole: ChatGenerationChunk, kind: type[BaseModel]) -> ChatGenerationChunk:
    found = None if getattr(whole.message, "tool_calls", None) else _parse(whole, kind)
    return ChatGenerationChunk(message=AIMessageChunk(content="", additional_kwargs={PARSED: found}))
