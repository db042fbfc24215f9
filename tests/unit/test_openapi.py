"""The checks against Together's OpenAPI document find what is wrong and let pass what is right."""

from __future__ import annotations

from typing import Any

import pytest

from tests import openapi
from tests.openapi import check_chunk, check_exchange, check_request, check_response
from tests.recordings import recorded_chunks, recording

HELLO = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize("name", ["text", "tool-call"])
def test_the_recorded_exchanges_pass(name: str) -> None:
    check_exchange("/v1/chat/completions", recording(name)["request"]["body"], 200, recorded_chunks(name))


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m"},
        {**HELLO, "stop": "word"},
        {**HELLO, "n": 0},
        {**HELLO, "messages": [{"role": "user"}]},
        {**HELLO, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {**HELLO, "response_format": {"type": "json_schema", "json_schema": {}}},
        {**HELLO, "tool_choice": {"type": "function"}},
    ],
)
def test_a_wrong_request_is_found(body: Any) -> None:
    with pytest.raises(AssertionError, match="ChatCompletionRequest"):
        check_request("/v1/chat/completions", body)


def test_a_wrong_answer_is_found() -> None:
    with pytest.raises(AssertionError, match="EmbeddingsResponse"):
        check_response("/v1/embeddings", {"object": "list", "model": "m", "data": [{"index": 0}]})
    with pytest.raises(AssertionError, match="is not of type 'number'"):
        entry = {"object": "embedding", "index": 0, "embedding": [0.1, "x"]}
        check_response("/v1/embeddings", {"object": "list", "model": "m", "data": [entry]})


def test_a_wrong_chunk_is_found() -> None:
    with pytest.raises(AssertionError, match="ChatCompletionChunk"):
        check_chunk("/v1/chat/completions", {"id": "x"})


def test_an_error_event_is_a_chunk_too() -> None:
    check_chunk("/v1/chat/completions", {"error": {"message": "no", "type": "server_error"}})


def test_an_unknown_path_is_found() -> None:
    with pytest.raises(AssertionError, match="no path"):
        check_request("/v1/chat", {})


@pytest.mark.parametrize("deviation", openapi.DEVIATIONS, ids=lambda deviation: deviation.name)
def test_every_deviation_says_how_it_is_known(deviation: openapi.Deviation) -> None:
    assert len(deviation.reason) > 10
