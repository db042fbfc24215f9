"""What is copied instead of validated is what validation would give."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from langchain_core.load import dumps
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from hana_ai.api.langchain.messages import chat_result

PLAIN = {"role": "assistant", "content": "Paris."}
MESSAGES: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "empty": {"role": "assistant", "content": None, "tool_calls": []},
    "reasoning": {**PLAIN, "reasoning": "France, hence Paris."},
    "tags": {"role": "assistant", "content": "<think>France.</think>Paris."},
    "a function": {**PLAIN, "function_call": {"name": "f", "arguments": "{}"}},
    "a name": {**PLAIN, "name": "guide"},
    "a call": {**PLAIN, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]},
    "a bad call": {**PLAIN, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]},
}
USAGES = [None, {"prompt_tokens": 2, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}}]


def reply(message: dict[str, Any], usage: object) -> dict[str, Any]:
    choices = [{"index": place, "message": message, "finish_reason": "stop"} for place in range(2)]
    return {"id": "r1", "model": "m", "created": 1, "choices": choices, "usage": usage}


@pytest.mark.parametrize("usage", USAGES, ids=["no usage", "usage"])
@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_an_answer_is_as_pydantic_makes_it(message: dict[str, Any], usage: object) -> None:
    made = chat_result(reply(message, usage), request_id="q")
    told = []
    for generation in made.generations:
        answer = generation.message
        assert isinstance(answer, AIMessage)
        fields = {name: getattr(answer, name) for name in type(answer).model_fields if name != "type"}
        _same(answer, AIMessage(**fields))
        told.append(ChatGeneration(message=answer, generation_info=generation.generation_info))
        _same(generation, told[-1])
        assert pickle.loads(pickle.dumps(generation)) == generation
        assert dumps(answer) == dumps(AIMessage(**fields))
    _same(made, ChatResult(generations=told, llm_output=made.llm_output))


def _same(copy: Any, validated: Any) -> None:
    assert type(copy) is type(validated)
    assert vars(copy) == vars(validated)
    assert copy == validated
    assert copy.model_dump() == validated.model_dump()
    assert copy.model_dump(exclude_defaults=True) == validated.model_dump(exclude_defaults=True)
    assert (copy.__pydantic_extra__, copy.__pydantic_private__) == (
        validated.__pydantic_extra__,
        validated.__pydantic_private__,
    )


def test_copies_share_nothing() -> None:
    one, other = (chat_result(reply(PLAIN, None)) for _ in range(2))
    for made in (one.generations[0].message, one.generations[1].message):
        for name in ("additional_kwargs", "response_metadata", "tool_calls", "invalid_tool_calls"):
            getattr(made, name).append(1) if name.endswith("calls") else getattr(made, name).update(changed=1)
    assert vars(other.generations[0].message) == vars(chat_result(reply(PLAIN, None)).generations[0].message)
    one.generations[0].message.model_fields_set.add("id")
    assert "id" not in other.generations[0].message.model_fields_set
