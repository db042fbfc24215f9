"""The scripted engine does what it is told: answers, failures, delays, cuts."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import orjson
import pytest
import together
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from together import Together

from hana_ai.api.local.together import Call, LocalTogether, Received, Reply, ScriptedEngine, Usage
from tests.integration.local.together.conftest import user, wait_until
from tests.recordings import recording

CHAT = ScriptedEngine.CHAT
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
        },
    }
]


def ask(sdk: Together, text: str = "x y z", **more: Any) -> Any:
    return sdk.chat.completions.create(model=CHAT, messages=user(text), **more)


def test_scripted_replies_answer_one_after_the_other(sdk: Together, engine: ScriptedEngine) -> None:
    engine.reply(Reply(text="first"), Reply(text="second", repeat=2))
    assert [ask(sdk).choices[0].message.content for _ in range(4)] == ["first", "second", "second", "x y z"]


def test_a_reply_says_everything_an_answer_can_say(sdk: Together, engine: ScriptedEngine) -> None:
    usage = Usage(10, 20, cached_tokens=5, reasoning_tokens=7)
    call = Call("add", {"a": 1}, id="call_1")
    engine.reply(Reply(text="t", reasoning="because", tool_calls=[call], usage=usage, finish_reason="length"))
    answer = ask(sdk)
    message = answer.choices[0].message
    assert (message.content, message.reasoning, answer.choices[0].finish_reason) == ("t", "because", "length")
    assert message.tool_calls[0].id == "call_1"
    assert orjson.loads(message.tool_calls[0].function.arguments) == {"a": 1}
    assert answer.usage.model_dump()["cached_tokens"] == 5
    assert answer.usage.model_dump()["completion_tokens_details"] == {"reasoning_tokens": 7}


def test_a_stream_sends_the_chunks_as_given(sdk: Together, engine: ScriptedEngine) -> None:
    engine.reply(Reply(chunks=["a", "bc", " d"]))
    assert [chunk.choices[0].text for chunk in ask(sdk, stream=True)] == ["a", "bc", " d", ""]


def test_arguments_need_not_be_json(sdk: Together, engine: ScriptedEngine) -> None:
    engine.reply(Reply(tool_calls=[Call("add", "{not json")]))
    assert ask(sdk).choices[0].message.tool_calls[0].function.arguments == "{not json"


def test_a_tool_is_called_with_the_numbers_of_the_question(sdk: Together) -> None:
    call = ask(sdk, "What is 17 plus 25?", tools=TOOLS).choices[0].message.tool_calls[0]
    assert orjson.loads(call.function.arguments) == {"a": 17, "b": 25}


def test_no_tool_is_called_after_its_result_unless_required(sdk: Together) -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}]
    history: Any = [
        *user("1 plus 2"),
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c", "content": "3"},
    ]
    create = sdk.chat.completions.create
    assert create(model=CHAT, messages=history, tools=TOOLS).choices[0].finish_reason == "stop"
    required = create(model=CHAT, messages=history, tools=TOOLS, tool_choice="required")
    assert required.choices[0].finish_reason == "tool_calls"


def test_a_response_format_is_filled(sdk: Together) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert orjson.loads(ask(sdk, "Paris", response_format=wanted).choices[0].message.content) == {"city": "Paris"}
    free = ask(sdk, "Paris", response_format={"type": "json_object"}).choices[0].message.content
    assert isinstance(orjson.loads(free), dict)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 503, 524, 529])
def test_any_status_can_be_answered(sdk: Together, engine: ScriptedEngine, status: int) -> None:
    engine.reply(Reply(status=status, headers={"x-ratelimit-reset": "2"}, error={"code": "because"}))
    with pytest.raises(together.APIStatusError) as caught:
        ask(sdk)
    assert caught.value.status_code == status
    assert caught.value.body["error"]["code"] == "because"
    assert caught.value.response.headers["x-ratelimit-reset"] == "2"


def test_a_raw_body_is_sent_as_it_is(http: httpx.Client, engine: ScriptedEngine) -> None:
    engine.reply(Reply(status=502, body="<h1>Bad gateway</h1>"), Reply(body={"odd": 1}), Reply(body=b"\xff"))
    bodies = [http.post("/v1/embeddings") for _ in range(3)]
    assert bodies[0].headers["content-type"] == "text/html"
    assert [body.content for body in bodies] == [b"<h1>Bad gateway</h1>", b'{"odd":1}', b"\xff"]


def test_a_recorded_stream_can_be_replayed(sdk: Together, engine: ScriptedEngine) -> None:
    recorded = recording("text")["response"]["body"]
    engine.reply(Reply(body=recorded, content_type="text/event-stream"))
    assert [chunk.choices[0].text for chunk in ask(sdk, stream=True)] == ["Hello", "!", ""]


def test_rules_answer_by_path_and_by_request(http: httpx.Client, engine: ScriptedEngine) -> None:
    def too_many(request: Received) -> Reply | None:
        return Reply(status=413) if len(request.body["input"]) > 2 else None

    engine.on("/v1/embeddings", too_many)
    engine.on("/v1/models", Reply(status=503))
    body = {"model": ScriptedEngine.EMBEDDING, "input": ["a", "b"]}
    assert http.post("/v1/embeddings", json=body).status_code == 200
    assert http.post("/v1/embeddings", json={**body, "input": ["a", "b", "c"]}).status_code == 413
    assert http.get("/v1/models").status_code == 503
    engine.reset()
    assert http.get("/v1/models").status_code == 200


def test_a_general_rule_answers_what_is_posted_only(http: httpx.Client, engine: ScriptedEngine) -> None:
    engine.always(Reply(status=500))
    assert http.post("/v1/rerank", json={}).status_code == 500
    assert http.get("/v1/models").status_code == 200


def test_requests_are_remembered(sdk: Together, engine: ScriptedEngine) -> None:
    ask(sdk, temperature=0.5)
    (request,) = engine.posts
    assert (request.method, request.path, request.body["temperature"]) == ("POST", "/v1/chat/completions", 0.5)
    assert request.headers["authorization"].startswith("Bearer ")


def test_a_delay_comes_before_the_answer(sdk: Together, engine: ScriptedEngine) -> None:
    engine.reply(Reply(delay=0.2))
    start = time.monotonic()
    ask(sdk)
    assert time.monotonic() - start >= 0.2


def test_chunks_can_come_slowly(sdk: Together, engine: ScriptedEngine) -> None:
    engine.reply(Reply(chunk_delay=0.05))
    start = time.monotonic()
    assert len(list(ask(sdk, stream=True))) == 4
    assert time.monotonic() - start >= 0.15


@pytest.mark.parametrize("stream", [False, True])
def test_a_stall_lasts_until_the_client_leaves(
    sdk: Together, engine: ScriptedEngine, server: LocalTogether, stream: bool
) -> None:
    engine.reply(Reply(stall=True))
    with pytest.raises(together.APITimeoutError):
        ask(sdk.with_options(timeout=0.2), stream=stream)
    wait_until(lambda: server.statistics.active == 0)


def test_a_stream_stalls_at_the_chunk_that_is_named(sdk: Together, engine: ScriptedEngine) -> None:
    engine.reply(Reply(stall_at_chunk=2))
    got = []
    with pytest.raises(httpx.ReadTimeout):
        for chunk in ask(sdk.with_options(timeout=2), stream=True):
            got.append(chunk)
    assert len(got) == 2


def test_a_server_can_close_while_requests_stall(engine: ScriptedEngine) -> None:
    engine.reply(Reply(stall=True))
    failed: list[Exception] = []

    def stalled(server: LocalTogether) -> None:
        with Together(base_url=server.base_url, api_key=server.api_key, max_retries=0) as sdk:
            try:
                ask(sdk)
            except together.APIConnectionError as exc:
                failed.append(exc)

    with LocalTogether(engine) as server:
        thread = threading.Thread(target=stalled, args=(server,))
        thread.start()
        wait_until(lambda: server.statistics.active == 1)
        start = time.monotonic()
    assert time.monotonic() - start < 30
    thread.join(10)
    assert failed


def test_a_connection_can_be_dropped_before_the_status_line(sdk: Together, engine: ScriptedEngine) -> None:
    engine.reply(Reply(drop=True))
    with pytest.raises(together.APIConnectionError):
        ask(sdk)
    assert ask(sdk).choices[0].message.content == "x y z"


def test_a_stream_breaks_before_the_chunk_that_is_named(sdk: Together, engine: ScriptedEngine) -> None:
    engine.reply(Reply(break_at_chunk=2))
    got = []
    with pytest.raises(httpx.RemoteProtocolError):
        for chunk in ask(sdk, stream=True):
            got.append(chunk.choices[0].text)
    assert got == ["x", " y"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 600), stream=st.booleans())
def test_an_answer_breaks_at_any_byte(http: httpx.Client, engine: ScriptedEngine, cut: int, stream: bool) -> None:
    body = {"model": CHAT, "messages": user("x y z"), "stream": stream, "seed": 1}
    whole = http.post("/v1/chat/completions", json=body).content
    engine.reply(Reply(break_at_byte=min(cut, len(whole) - 1)))
    got = b""
    streaming = http.stream("POST", "/v1/chat/completions", json=body)
    with pytest.raises(httpx.RemoteProtocolError), streaming as answer:
        for part in answer.iter_raw():
            got += part
    assert len(got) <= cut


def test_an_error_event_comes_in_the_middle_of_a_stream(sdk: Together, engine: ScriptedEngine) -> None:
    engine.reply(Reply(error_at_chunk=1, error={"message": "overloaded"}))
    got = []
    with pytest.raises(together.APIError, match="overloaded"):
        for chunk in ask(sdk, stream=True):
            got.append(chunk)
    assert len(got) == 1


def test_a_client_that_leaves_a_stream_is_noticed(
    sdk: Together, engine: ScriptedEngine, server: LocalTogether
) -> None:
    engine.reply(Reply(text="word " * 1000, chunk_delay=0.02))
    stream = ask(sdk, stream=True)
    next(iter(stream))
    stream.close()
    wait_until(lambda: server.statistics.active == 0)
    assert server.statistics.disconnects == 1
