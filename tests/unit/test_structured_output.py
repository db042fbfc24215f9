"""What is asked for, and what is made of answers, without a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import PydanticToolsParser
from langchain_core.outputs import ChatGeneration, Generation
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.errors import TogetherAIInputError, TogetherAIStructuredOutputError
from hana_ai.api.langchain.structured_output import ShapedOutputParser, response_format


class City(BaseModel):
    """A city."""

    name: str
    people: int | None = Field(default=None, description="how many live there")


class CityDict(TypedDict):
    """A city."""

    name: Annotated[str, ..., "its name"]


def generation(text: str = "", **fields: Any) -> list[Generation]:
    return [ChatGeneration(message=AIMessage(text, **fields))]


def chat(**fields: Any) -> ChatTogetherAI:
    return ChatTogetherAI(**{"model": "some/model", "api_key": "a-key", **fields})


def bound(chain: Any) -> dict[str, Any]:
    kwargs: dict[str, Any] = chain.first.kwargs
    return kwargs


# --- what is asked for ---


def test_a_pydantic_class_gives_its_schema_under_its_name() -> None:
    made = response_format(City, strict=True)
    assert made["type"] == "json_schema"
    inner = made["json_schema"]
    assert (inner["name"], inner["description"], inner["strict"]) == ("City", "A city.", True)
    assert set(inner["schema"]["properties"]) == {"name", "people"}
    assert inner["schema"]["additionalProperties"] is False


def test_a_typed_dict_and_a_json_schema_give_their_schema() -> None:
    inner = response_format(CityDict)["json_schema"]
    assert inner["name"] == "CityDict"
    assert inner["schema"]["required"] == ["name"]
    assert "strict" not in inner
    schema = {"title": "some city", "type": "object", "properties": {"name": {"type": "string"}}}
    inner = response_format(schema)["json_schema"]
    assert inner["name"] == "some_city"
    assert inner["schema"]["properties"] == schema["properties"]


@pytest.mark.parametrize(
    "ready",
    [
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        {"type": "json_object"},
        {"type": "regex", "pattern": "yes|no"},
    ],
)
def test_a_finished_response_format_is_taken_as_it_is(ready: dict[str, Any]) -> None:
    assert response_format(ready) == ready


@pytest.mark.parametrize("profile", [None, {"structured_output": True}, {"structured_output": False}])
def test_the_method_is_the_same_for_every_model(profile: Any) -> None:
    assert "tools" in bound(chat(profile=profile).with_structured_output(City))
    assert "tools" in bound(chat(profile=profile).with_structured_output(City, method=None))


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
def test_only_json_mode_works_without_a_schema(method: Any) -> None:
    with pytest.raises(TogetherAIInputError, match="needs a schema"):
        chat().with_structured_output(None, method=method)
    assert bound(chat().with_structured_output(None, method="json_mode"))["response_format"] == {
        "type": "json_object"
    }


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TogetherAIInputError, match="'function_calling', 'json_schema' and 'json_mode'"):
        chat().with_structured_output(City, method="xml")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_tools_and_a_response_format_do_not_go_together(method: Any) -> None:
    with pytest.raises(TogetherAIInputError, match="not both"):
        chat().with_structured_output(City, method=method, tools=[CityDict])


def test_a_schema_is_forced_unless_there_are_other_tools() -> None:
    kwargs = bound(chat().with_structured_output(City, method="function_calling", strict=True))
    assert kwargs["tool_choice"] == {"type": "function", "function": {"name": "City"}}
    assert kwargs["tools"][0]["function"]["strict"] is True
    kwargs = bound(chat().with_structured_output(City, method="function_calling", tools=[CityDict]))
    assert "tool_choice" not in kwargs
    assert [tool["function"]["name"] for tool in kwargs["tools"]] == ["City", "CityDict"]


def test_further_fields_go_with_the_request() -> None:
    for method in ("function_calling", "json_schema", "json_mode"):
        kwargs = bound(chat().with_structured_output(City, method=method, temperature=0.5))  # type: ignore[arg-type]
        assert kwargs["temperature"] == 0.5


# --- what is made of answers ---


def test_a_cut_off_answer_says_so_and_what_to_do() -> None:
    parser = ShapedOutputParser(inner=PydanticOutputParser(pydantic_object=City))
    cut = generation('{"name": "Wall', response_metadata={"finish_reason": "length"})
    with pytest.raises(
        TogetherAIStructuredOutputError, match=r"finish reason: length.*raise max_tokens"
    ) as caught:
        parser.parse_result(cut)
    assert caught.value.llm_output == '{"name": "Wall'


def test_an_answer_that_is_complete_may_end_at_the_limit() -> None:
    whole = {"response_metadata": {"finish_reason": "length"}}
    parser = ShapedOutputParser(inner=PydanticOutputParser(pydantic_object=City))
    assert parser.parse_result(generation('```json\n{"name": "Walldorf"}\n```', **whole)) == City(name="Walldorf")
    tools = ShapedOutputParser(inner=PydanticToolsParser(tools=[City], first_tool_only=True))
    call: Any = {"name": "City", "args": {"name": "Walldorf"}, "id": "x", "type": "tool_call"}
    assert tools.parse_result(generation(tool_calls=[call], **whole)) == City(name="Walldorf")


def test_what_does_not_fit_is_named() -> None:
    tools = ShapedOutputParser(inner=PydanticToolsParser(tools=[City], first_tool_only=True))
    call: Any = {"name": "City", "args": {"people": "many"}, "id": "x", "type": "tool_call"}
    with pytest.raises(TogetherAIStructuredOutputError, match=r"name Field required.*people Input should be"):
        tools.parse_result(generation(tool_calls=[call], response_metadata={"finish_reason": "tool_calls"}))


def test_an_answer_without_a_call_says_so() -> None:
    parser = ShapedOutputParser(inner=PydanticToolsParser(tools=[City], first_tool_only=True))
    plain = generation("I'd rather talk.", response_metadata={"finish_reason": "stop"})
    with pytest.raises(TogetherAIStructuredOutputError, match=r"called no tool \(finish reason: stop\)") as caught:
        parser.parse_result(plain)
    assert "I'd rather talk." in str(caught.value)
    assert "Try another method=" in str(caught.value)


def test_a_call_with_arguments_that_are_not_json_says_why() -> None:
    parser = ShapedOutputParser(inner=PydanticToolsParser(tools=[City], first_tool_only=True))
    invalid: Any = {"name": "City", "args": "{", "id": "x", "error": "unexpected end", "type": "invalid_tool_call"}
    with pytest.raises(TogetherAIStructuredOutputError, match="call of City was not valid: unexpected end"):
        parser.parse_result(generation(invalid_tool_calls=[invalid]))


def test_an_answer_that_has_no_finish_reason_is_unknown() -> None:
    parser = ShapedOutputParser(inner=JsonOutputParser())
    with pytest.raises(TogetherAIStructuredOutputError, match="finish reason: unknown"):
        parser.parse_result([Generation(text="no json")])


def test_a_text_without_a_message_is_parsed() -> None:
    assert ShapedOutputParser(inner=JsonOutputParser()).parse_result([Generation(text='{"a": 1}')]) == {"a": 1}


class OnlyWhole(JsonOutputParser):
    """A parser that makes nothing of a part."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        return None if partial else super().parse_result(result)


async def test_what_a_parser_makes_of_the_whole_alone_is_given_at_the_end() -> None:
    async def pieces() -> AsyncIterator[AIMessageChunk]:
        for piece in ('{"a"', ": 1}"):
            yield AIMessageChunk(piece)

    parser = ShapedOutputParser(inner=OnlyWhole())
    assert [part async for part in parser.atransform(pieces())] == [{"a": 1}]
    assert list(parser.transform(iter([AIMessageChunk('{"a"'), AIMessageChunk(": 1}")]))) == [{"a": 1}]


def test_parts_of_an_answer_may_be_incomplete() -> None:
    parser = ShapedOutputParser(inner=JsonOutputParser())
    assert parser.parse_result(generation('{"name": "Wall'), partial=True) == {"name": "Wall"}
    tools = ShapedOutputParser(inner=PydanticToolsParser(tools=[City], first_tool_only=True))
    assert tools.parse_result(generation("text"), partial=True) is None


def test_an_empty_stream_is_an_error() -> None:
    parser = ShapedOutputParser(inner=JsonOutputParser())
    with pytest.raises(TogetherAIStructuredOutputError):
        list(parser.transform(iter([])))


def test_a_stream_is_parsed_as_it_comes() -> None:
    parser = ShapedOutputParser(inner=JsonOutputParser())
    pieces = ['{"name"', ': "Wall', 'dorf"}']
    assert list(parser.transform(iter(AIMessageChunk(piece) for piece in pieces)))[-1] == {"name": "Walldorf"}
