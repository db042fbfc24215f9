"""Messages survive the way to the wire and back; a stream's chunks merge to the message they are parts of."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGenerationChunk

from hana_ai.api.errors import TogetherAIInputError, TogetherAIResponseError
from hana_ai.api.langchain.chat_chunks import ChunkReader
from hana_ai.api.langchain.messages import (
    PROVIDER,
    chat_result,
    message_from_wire,
    message_to_wire,
    messages_to_wire,
    tool_choice_to_wire,
    usage_from_wire,
)
from hana_ai.api.langchain.think import ThinkSplitter
from tests.openapi import check_request

_TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
_WORD = st.text("abcdefghij_", min_size=1, max_size=10)
_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORD, inner, max_size=3),
    max_leaves=6,
)
_CALLS = st.lists(
    st.builds(
        lambda name, args, number: {"name": name, "args": args, "id": f"call_{number}", "type": "tool_call"},
        _WORD,
        st.dictionaries(_WORD, _JSON, max_size=3),
        st.integers(0, 999),
    ),
    max_size=3,
)
_NAME = st.none() | _WORD


def _assistant(content: str, calls: list[Any], thoughts: str, name: str | None) -> AIMessage:
    # A text that begins with the tag would be read as an older model's thoughts.
    content = content if thoughts else content.replace("<", "(")
    extra = {"reasoning_content": thoughts} if thoughts else {}
    metadata = {"model_provider": PROVIDER} if thoughts else {}
    return AIMessage(
        content=content, tool_calls=calls, additional_kwargs=extra, response_metadata=metadata, name=name
    )


_MESSAGES: st.SearchStrategy[BaseMessage] = st.one_of(
    st.builds(HumanMessage, content=_TEXT, name=_NAME),
    st.builds(SystemMessage, content=_TEXT, name=_NAME),
    st.builds(ToolMessage, content=_TEXT, tool_call_id=_WORD, name=_NAME),
    st.builds(FunctionMessage, content=_TEXT, name=_WORD),
    st.builds(_assistant, _TEXT, _CALLS, _TEXT, _NAME),
)


@given(st.lists(_MESSAGES, min_size=1, max_size=6))
def test_a_history_survives_the_way_to_the_wire_and_back(history: list[BaseMessage]) -> None:
    wire = messages_to_wire(history)
    check_request("/v1/chat/completions", {"model": "m", "messages": wire})
    assert [message_from_wire(message) for message in wire] == history


def test_a_message_of_another_role_keeps_it() -> None:
    message = ChatMessage(role="developer", content="x")
    assert message_to_wire(message) == {"role": "developer", "content": "x"}
    assert message_from_wire(message_to_wire(message)) == message


def test_invalid_tool_calls_are_sent_back_as_they_were() -> None:
    wire = message_to_wire(
        AIMessage(
            content="",
            invalid_tool_calls=[
                {"name": "f", "args": "{broken", "id": "c", "error": "e", "type": "invalid_tool_call"}
            ],
        )
    )
    assert wire["tool_calls"][0]["function"] == {"name": "f", "arguments": "{broken"}
    back = message_from_wire(wire)
    assert isinstance(back, AIMessage)
    assert back.invalid_tool_calls[0]["args"] == "{broken"
    assert back.tool_calls == []


@pytest.mark.parametrize("arguments", ["{broken", "[1]", '"text"', "12"])
def test_arguments_that_are_no_object_make_an_invalid_call(arguments: str) -> None:
    message = message_from_wire(
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]}
    )
    assert isinstance(message, AIMessage)
    assert message.invalid_tool_calls[0]["args"] == arguments
    assert message.invalid_tool_calls[0]["error"]


@pytest.mark.parametrize("arguments", [{"a": 1}, '{"a": 1}'])
def test_arguments_come_as_text_or_as_an_object(arguments: Any) -> None:
    message = message_from_wire(
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]}
    )
    assert isinstance(message, AIMessage)
    assert message.tool_calls[0]["args"] == {"a": 1}


def test_a_call_without_arguments_is_a_call_and_one_without_name_is_not() -> None:
    message = message_from_wire(
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "1", "function": {"name": "f", "arguments": ""}},
                {"id": "2", "function": {"arguments": "{}"}},
            ],
        }
    )
    assert isinstance(message, AIMessage)
    assert [call["args"] for call in message.tool_calls] == [{}]
    assert message.invalid_tool_calls[0]["error"] == "the call names no function"


def test_reasoning_goes_back_only_to_its_own_provider() -> None:
    thought = {"reasoning_content": "hm"}
    ours = AIMessage("a", additional_kwargs=thought, response_metadata={"model_provider": PROVIDER})
    other = AIMessage("a", additional_kwargs=thought, response_metadata={"model_provider": "openai"})
    assert message_to_wire(ours)["reasoning"] == "hm"
    assert "reasoning" not in message_to_wire(other)


def test_reasoning_blocks_of_the_v1_format_go_back_too() -> None:
    message = AIMessage(
        content=[{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "answer"}],
        response_metadata={"model_provider": PROVIDER, "output_version": "v1"},
    )
    wire = message_to_wire(message)
    assert (wire["reasoning"], wire["content"]) == ("hm", "answer")


def test_what_is_no_message_for_a_model_is_refused() -> None:
    with pytest.raises(TogetherAIInputError, match="RemoveMessage"):
        messages_to_wire([RemoveMessage(id="x")])


def test_a_wire_message_without_role_is_refused() -> None:
    with pytest.raises(TogetherAIResponseError, match="without a role"):
        message_from_wire({"content": "x"})


PNG = "iVBORw0KGgo="


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("plain", {"type": "text", "text": "plain"}),
        ({"text": "x"}, {"type": "text", "text": "x"}),
        ({"type": "text-plain", "text": "x"}, {"type": "text", "text": "x"}),
        (
            {"type": "image_url", "image_url": "https://x/i.png"},
            {"type": "image_url", "image_url": {"url": "https://x/i.png"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x/i.png", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://x/i.png", "detail": "low"}},
        ),
        (
            {"type": "image", "url": "https://x/i.png"},
            {"type": "image_url", "image_url": {"url": "https://x/i.png"}},
        ),
        (
            {"type": "image", "base64": PNG, "mime_type": "image/png"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        ),
        (
            {"type": "image", "source_type": "base64", "data": PNG, "mime_type": "image/png"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        ),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        ),
        (
            {"type": "audio", "base64": "UklGRg==", "mime_type": "audio/wav"},
            {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        ),
        (
            {"type": "audio", "base64": "SUQz", "mime_type": "audio/mp3"},
            {"type": "audio_url", "audio_url": {"url": "data:audio/mp3;base64,SUQz"}},
        ),
        (
            {"type": "audio", "url": "https://x/a.mp3"},
            {"type": "audio_url", "audio_url": {"url": "https://x/a.mp3"}},
        ),
        (
            {"type": "video", "url": "https://x/v.mp4"},
            {"type": "video_url", "video_url": {"url": "https://x/v.mp4"}},
        ),
        (
            {"type": "video", "base64": "AAAA", "mime_type": "video/mp4"},
            {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
        ),
        ({"type": "video_url", "video_url": {"url": "u"}}, {"type": "video_url", "video_url": {"url": "u"}}),
    ],
)
def test_a_block_of_a_user_has_its_wire_form(block: Any, expected: dict[str, Any]) -> None:
    wire = message_to_wire(HumanMessage(content=[block]))
    assert wire["content"] == [expected]
    check_request("/v1/chat/completions", {"model": "m", "messages": [wire]})


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"type": "file", "base64": "x", "mime_type": "application/pdf"}, "takes no files"),
        ({"type": "image", "base64": PNG}, "mime_type"),
        ({"type": "image", "file_id": "f-1"}, "needs `url` or `base64`"),
    ],
)
def test_a_block_that_has_no_wire_form_is_refused_with_advice(block: dict[str, Any], words: str) -> None:
    with pytest.raises(TogetherAIInputError, match=words):
        message_to_wire(HumanMessage(content=[block]))


def test_the_text_of_a_system_or_tool_message_is_one_string() -> None:
    blocks: list[str | dict[str, Any]] = ["one", {"type": "text", "text": "two"}]
    assert message_to_wire(SystemMessage(content=blocks))["content"] == "one\ntwo"
    assert message_to_wire(ToolMessage(content=blocks, tool_call_id="c"))["content"] == "one\ntwo"


def test_a_tools_image_stays_a_block() -> None:
    wire = message_to_wire(ToolMessage(content=[{"type": "image", "url": "https://x/i.png"}], tool_call_id="c"))
    assert wire["content"] == [{"type": "image_url", "image_url": {"url": "https://x/i.png"}}]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        (False, None),
        (True, "required"),
        ("any", "required"),
        ("required", "required"),
        ("auto", "auto"),
        ("none", "none"),
        ("f", {"type": "function", "function": {"name": "f"}}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "any"}, "required"),
        ({"type": "auto"}, "auto"),
    ],
)
def test_every_form_of_tool_choice_is_understood(choice: Any, expected: Any) -> None:
    assert tool_choice_to_wire(choice, ["f", "g"]) == expected


def test_a_tool_that_is_called_like_a_word_of_the_api_is_still_a_tool() -> None:
    assert tool_choice_to_wire("auto", ["auto"]) == {"type": "function", "function": {"name": "auto"}}


@pytest.mark.parametrize("choice", ["h", {"type": "function", "function": {"name": "h"}}])
def test_a_choice_of_an_unknown_tool_is_refused(choice: Any) -> None:
    with pytest.raises(TogetherAIInputError, match=r"'h'.*f, g"):
        tool_choice_to_wire(choice, ["f", "g"])


@pytest.mark.parametrize(
    ("usage", "cached", "reasoning"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8, "cached_tokens": 2}, 2, None),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 4},
                "completion_tokens_details": {"reasoning_tokens": 1},
            },
            4,
            1,
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 3, "reasoning_tokens": 2, "prompt_tokens_details": None},
            None,
            2,
        ),
    ],
)
def test_usage_is_read_nested_or_flat(usage: dict[str, Any], cached: int | None, reasoning: int | None) -> None:
    found = usage_from_wire(usage)
    assert found is not None
    assert (found["input_tokens"], found["output_tokens"], found["total_tokens"]) == (5, 3, 8)
    assert found.get("input_token_details", {}).get("cache_read") == cached
    assert found.get("output_token_details", {}).get("reasoning") == reasoning


def test_no_usage_is_none_and_not_zero() -> None:
    assert usage_from_wire(None) is None


@pytest.mark.parametrize("reply", [{}, {"choices": []}, {"choices": None}, [], "text"])
def test_a_reply_without_choices_is_an_error(reply: Any) -> None:
    with pytest.raises(TogetherAIResponseError, match=r"does not fit at (choices|its top)"):
        chat_result(reply, model="m", request_id="r")


def test_several_choices_count_their_usage_once() -> None:
    choices = [{"index": i, "message": {"content": str(i)}, "finish_reason": "stop"} for i in range(3)]
    result = chat_result({"model": "m", "choices": choices, "usage": {"prompt_tokens": 1, "completion_tokens": 3}})
    messages = [generation.message for generation in result.generations]
    assert [message.text for message in messages] == ["0", "1", "2"]
    assert [isinstance(m, AIMessage) and m.usage_metadata is not None for m in messages] == [True, False, False]


_PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<th", "ink>", "</", "a", " ", "\n", "b <"]), max_size=8
)


@given(_PIECES, st.lists(st.integers(1, 5), min_size=1))
def test_thoughts_are_split_off_the_same_wherever_the_text_is_cut(pieces: list[str], cuts: list[int]) -> None:
    text = "".join(pieces)

    def split(parts: list[str]) -> tuple[str, str]:
        splitter = ThinkSplitter()
        found = [pair for part in parts for pair in splitter.feed(part)] + splitter.finish()
        return "".join(t for thought, t in found if thought), "".join(t for thought, t in found if not thought)

    parts, position, turn = [], 0, 0
    while position < len(text):
        parts.append(text[position : position + cuts[turn % len(cuts)]])
        position += cuts[turn % len(cuts)]
        turn += 1
    assert split(parts) == split([text])
    if not text.lstrip().startswith("<think>"):
        assert split([text]) == ("", text)


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("<think>hm</think>answer", "hm", "answer"),
        ("\n<think>\nhm\n</think>\n\nanswer", "hm\n", "answer"),
        ("<think>cut off", "cut off", ""),
        ("<think></think>answer", "", "answer"),
        ("The tag <think> stays", "", "The tag <think> stays"),
        ("a < b", "", "a < b"),
    ],
)
def test_tags_of_older_models_are_split_off(text: str, thought: str, answer: str) -> None:
    message = message_from_wire({"role": "assistant", "content": text})
    assert message.content == answer
    assert message.additional_kwargs.get("reasoning_content", "") == thought


def _read(chunks: list[dict[str, Any]]) -> AIMessageChunk:
    reader = ChunkReader()
    parts = [generation.message for chunk in chunks for generation in reader.read(chunk)]
    parts += [generation.message for generation in reader.finish()]
    first, *rest = (part for part in parts if isinstance(part, AIMessageChunk))
    return first.__add__(rest)


def _delta(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "i", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def test_calls_without_index_are_told_apart_by_their_ids() -> None:
    message = _read(
        [
            _delta(tool_calls=[{"id": "a", "function": {"name": "f", "arguments": '{"x"'}}]),
            _delta(tool_calls=[{"function": {"arguments": ": 1}"}}]),
            _delta(tool_calls=[{"id": "b", "function": {"name": "g", "arguments": "{}"}}]),
            _delta("tool_calls"),
        ]
    )
    assert [(call["name"], call["args"]) for call in message.tool_calls] == [("f", {"x": 1}), ("g", {})]


def test_an_index_may_be_a_float_and_arguments_an_object() -> None:
    message = _read(
        [
            _delta(tool_calls=[{"index": 0.0, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}}]),
            _delta("tool_calls", tool_calls=[{"index": 1.0, "id": "b", "function": {"name": "g"}}]),
        ]
    )
    assert [call["name"] for call in message.tool_calls] == ["f", "g"]
    assert message.tool_calls[0]["args"] == {"x": 1}


def test_counts_that_grow_from_chunk_to_chunk_are_not_added_up() -> None:
    chunks = [{**_delta(content="x"), "usage": {"prompt_tokens": 4, "completion_tokens": i}} for i in (1, 2, 3)]
    message = _read([*chunks, {"id": "i", "model": "m", "choices": [], "usage": chunks[-1]["usage"]}])
    assert message.usage_metadata is not None
    assert message.usage_metadata["total_tokens"] == 7


def test_only_the_first_answer_of_a_stream_counts() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "other"}}]}
    assert _read([_delta(content="mine"), other, _delta("stop")]).content == "mine"


def test_bare_log_probabilities_become_lists() -> None:
    chunks = [_delta(content="a"), _delta("stop", content="b")]
    for number, chunk in enumerate(chunks):
        chunk["choices"][0]["logprobs"] = -0.5 * number
    metadata = _read(chunks).response_metadata
    assert metadata["logprobs"] == {"tokens": ["a", "b"], "token_logprobs": [-0.0, -0.5]}


def test_warnings_prompt_and_seed_are_kept() -> None:
    metadata = _read(
        [{**_delta(content="a"), "warnings": [{"message": "w"}], "prompt": [{"text": "p"}]}, _delta("stop")]
    ).response_metadata
    assert metadata["warnings"] == [{"message": "w"}]
    assert metadata["prompt"] == [{"text": "p"}]
    assert metadata["finish_reason"] == "stop"


def test_what_has_been_received_is_one_message() -> None:
    reader = ChunkReader()
    for chunk in [
        _delta(reasoning="I "),
        _delta(reasoning="think"),
        _delta(content="so"),
        _delta(content=" far"),
        _delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x'}}]),
        _delta(tool_calls=[{"index": 0, "function": {"arguments": '": 1}'}}]),
    ]:
        reader.read(chunk)
    partial = reader.partial()
    assert partial.content == "so far"
    assert partial.additional_kwargs == {"reasoning_content": "I think"}
    assert partial.tool_calls[0]["args"] == {"x": 1}


def test_a_chunk_of_text_is_what_langchain_would_have_made_and_shares_nothing() -> None:
    first, second = (ChunkReader().read(_delta(content=text))[0] for text in ("one", "two"))
    assert first == ChatGenerationChunk(message=AIMessageChunk(content="one"))
    assert first.model_dump() == ChatGenerationChunk(message=AIMessageChunk(content="one")).model_dump()
    containers = [
        {id(value) for value in vars(chunk.message).values() if isinstance(value, (dict, list))}
        for chunk in (first, second)
    ]
    assert containers[0]
    assert not containers[0] & containers[1]
