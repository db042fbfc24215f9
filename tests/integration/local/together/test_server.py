"""The server answers as Together does, to the official SDK and on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import together
from together import AsyncTogether, Together

from hana_ai.api.local.together import LocalModel, LocalTogether, Reply, ScriptedEngine
from tests.conftest import export
from tests.integration.local.together.conftest import user
from tests.openapi import check_exchange

CHAT, EMBEDDING, RERANK = ScriptedEngine.CHAT, ScriptedEngine.EMBEDDING, ScriptedEngine.RERANK


def test_a_chat_echoes_the_question(sdk: Together) -> None:
    answer = sdk.chat.completions.create(model=CHAT, messages=user("Are you there?"))
    assert answer.choices[0].message.content == "Are you there?"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 6


def test_a_stream_ends_with_usage_and_done(http: httpx.Client) -> None:
    body = {"model": CHAT, "messages": user("one two"), "stream": True}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.headers["content-type"] == "text/event-stream;charset=utf-8"
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert '"usage":{"prompt_tokens":2' in events[-3]


def test_max_tokens_and_stop_cut_the_answer(sdk: Together) -> None:
    cut = sdk.chat.completions.create(model=CHAT, messages=user("one two three"), max_tokens=2).choices[0]
    assert (cut.message.content, cut.finish_reason) == ("one two", "length")
    stopped = sdk.chat.completions.create(model=CHAT, messages=user("one two three"), stop=[" three"]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == ("one two", "stop")


def test_n_choices_come_apart(sdk: Together) -> None:
    answer = sdk.chat.completions.create(model=CHAT, messages=user("x"), n=3, seed=9)
    assert [(choice.index, choice.seed) for choice in answer.choices] == [(0, 9), (1, 10), (2, 11)]


def test_an_echoed_prompt_stands_beside_the_answer(sdk: Together) -> None:
    answer = sdk.completions.create(model=CHAT, prompt="Once", echo=True)
    assert answer.prompt[0].text == "Once"
    assert answer.choices[0].text == "Once"


def test_a_completion_streams(sdk: Together) -> None:
    chunks = list(sdk.completions.create(model=CHAT, prompt="Once upon", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Once upon"
    assert chunks[-1].usage.total_tokens == 4


def test_log_probabilities_come_in_the_form_of_their_endpoint(sdk: Together) -> None:
    chat = sdk.chat.completions.create(model=CHAT, messages=user("x y"), logprobs=2).choices[0]
    assert [token["token"] for token in chat.logprobs.content] == ["x", " y"]
    completion = sdk.completions.create(model=CHAT, prompt="x y", logprobs=2).choices[0]
    assert completion.logprobs.tokens == ["x", " y"]


def test_embeddings_come_in_order_with_the_dimension_asked_for() -> None:
    with LocalTogether(ScriptedEngine(dimensions=1024)) as server:
        sdk = Together(base_url=server.base_url, api_key=server.api_key)
        with sdk:
            answer = sdk.embeddings.create(model=EMBEDDING, input=["a", "b", "a"])
    vectors = [entry.embedding for entry in answer.data]
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    assert {len(vector) for vector in vectors} == {1024}
    assert vectors[0] == vectors[2] != vectors[1]


def test_rerank_sorts_and_cuts(sdk: Together) -> None:
    documents = ["red", "red shoes", "hats"]
    answer = sdk.rerank.create(model=RERANK, query="red shoes", documents=documents, top_n=2)
    assert [result.index for result in answer.results] == [1, 0]
    assert answer.results[0].document.text is None


def test_rerank_gives_documents_back_as_they_came(sdk: Together) -> None:
    documents: list[dict[str, object]] = [{"title": "red shoes", "text": "no"}]
    answer = sdk.rerank.create(
        model=RERANK, query="red shoes", documents=documents, return_documents=True, rank_fields=["title"]
    )
    assert answer.results[0].relevance_score == 1
    assert answer.results[0].document.model_dump() == {"text": "no", "title": "red shoes"}


def test_the_models_are_listed_in_both_catalogues(sdk: Together, http: httpx.Client) -> None:
    listed = http.get("/v1/models").json()
    assert [entry["id"] for entry in listed] == [CHAT, EMBEDDING, RERANK]
    check_exchange("/v1/models", None, 200, listed)
    curated = list(sdk.models.list_supported(limit=1))
    assert [entry.name for entry in curated] == [CHAT, EMBEDDING, RERANK]
    assert http.get("/v2/supported-models").json()["data"][0]["contextLength"] == "8192"
    assert http.get(f"/v2/supported-models/{curated[0].id}").json()["name"] == CHAT
    assert http.get("/v2/supported-models/none").status_code == 404


def test_the_sdk_finds_its_project(sdk: Together) -> None:
    assert sdk.whoami().project.slug == "local-project"


def test_an_unknown_model_is_refused_as_together_refuses_it(sdk: Together) -> None:
    with pytest.raises(together.NotFoundError) as caught:
        sdk.chat.completions.create(model="meta/none", messages=user("x"))
    assert caught.value.body["error"]["code"] == "model_not_available"
    assert "Unable to access model meta/none" in caught.value.body["error"]["message"]


def test_a_model_that_is_not_serverless_is_refused_as_together_refuses_it() -> None:
    engine = ScriptedEngine(models=[LocalModel("local/big", serverless=False)])
    with (
        LocalTogether(engine) as server,
        Together(base_url=server.base_url, api_key=server.api_key) as sdk,
        pytest.raises(together.BadRequestError, match="Unable to access non-serverless model"),
    ):
        sdk.chat.completions.create(model="local/big", messages=user("x"))


def test_a_model_of_another_kind_is_refused(sdk: Together) -> None:
    with pytest.raises(together.BadRequestError, match="is of type embedding"):
        sdk.chat.completions.create(model=EMBEDDING, messages=user("x"))


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", "Basic wrong"])
def test_a_bad_or_missing_key_is_refused(server: LocalTogether, authorization: str) -> None:
    answer = httpx.get(f"{server.base_url}/v1/models", headers={"Authorization": authorization})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_without_a_key_of_its_own_the_server_takes_any() -> None:
    with LocalTogether(api_key=None) as server:
        key = {"Authorization": "Bearer anything"}
        assert httpx.get(f"{server.base_url}/v1/models", headers=key).status_code == 200
        assert httpx.get(f"{server.base_url}/v1/models").status_code == 401


def test_malformed_requests_are_refused(http: httpx.Client) -> None:
    assert http.post("/v1/chat/completions", content=b"{").status_code == 400
    assert http.post("/v1/embeddings", json={"model": EMBEDDING, "input": []}).status_code == 400
    assert http.get("/v1/none").json()["error"]["type"] == "invalid_request_error"
    assert http.get("/v1/chat/completions").status_code == 405


def test_every_answer_has_a_request_id(http: httpx.Client) -> None:
    answers = [http.get("/v1/models"), http.get("/v1/none"), http.post("/v1/embeddings", content=b"")]
    body = {"model": CHAT, "messages": user("x"), "stream": True}
    answers.append(http.post("/v1/chat/completions", json=body))
    assert len({answer.headers["x-request-id"] for answer in answers}) == 4


def test_the_request_id_is_the_id_of_the_answer(http: httpx.Client) -> None:
    answer = http.post("/v1/chat/completions", json={"model": CHAT, "messages": user("x")})
    assert answer.json()["id"] == answer.headers["x-request-id"]


def test_context_overflow_is_refused_unless_truncation_was_asked_for() -> None:
    with (
        LocalTogether(ScriptedEngine(context_length=5)) as server,
        Together(base_url=server.base_url, api_key=server.api_key, max_retries=0) as sdk,
    ):
        with pytest.raises(together.BadRequestError) as caught:
            sdk.chat.completions.create(model=CHAT, messages=user("a b c"), max_tokens=3)
        assert caught.value.body["error"]["param"] == "max_tokens"
        answer = sdk.chat.completions.create(
            model=CHAT,
            messages=user("a b c"),
            max_tokens=100,
            context_length_exceeded_behavior="truncate",
        )
        assert answer.choices[0].finish_reason == "length"
        with pytest.raises(together.BadRequestError):
            sdk.completions.create(model=CHAT, prompt="a b c d e f")


def test_only_the_loopback_interface_is_served() -> None:
    with pytest.raises(ValueError, match="loopback"):
        LocalTogether(host="0.0.0.0")


def test_a_taken_port_is_reported(server: LocalTogether) -> None:
    port = int(server.base_url.rpartition(":")[2])
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            LocalTogether(port=other.getsockname()[1]).start()
    assert port


def test_two_engines_may_not_answer_for_one_model() -> None:
    with pytest.raises(ValueError, match="Two engines"):
        LocalTogether(ScriptedEngine(), ScriptedEngine())


def test_the_environment_points_the_sdk_at_the_server(
    server: LocalTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(monkeypatch, server.environment())
    with Together() as sdk:
        answer = sdk.chat.completions.create(model=server.model("chat"), messages=user("x"))
    assert answer.choices[0].message.content == "x"


def test_every_answer_of_many_threads_belongs_to_its_question(sdk: Together, server: LocalTogether) -> None:
    def ask(number: int) -> str | None:
        answer = sdk.chat.completions.create(model=CHAT, messages=user(f"number {number}"))
        return answer.choices[0].message.content

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(ask, range(100)))
    assert answers == [f"number {number}" for number in range(100)]
    assert server.statistics.requests == 100
    assert server.statistics.connections <= 16


async def test_requests_are_answered_side_by_side(server: LocalTogether, engine: ScriptedEngine) -> None:
    engine.latency = 1.0
    async with AsyncTogether(base_url=server.base_url, api_key=server.api_key, max_retries=0) as sdk:
        start = asyncio.get_running_loop().time()
        texts = [f"number {number}" for number in range(50)]
        answers = await asyncio.gather(
            *(sdk.chat.completions.create(model=CHAT, messages=user(text)) for text in texts)
        )
        took = asyncio.get_running_loop().time() - start
    assert [answer.choices[0].message.content for answer in answers] == texts
    assert server.statistics.peak_active > 40
    assert took < 25


def test_the_hook_sees_every_exchange() -> None:
    seen: list[tuple[str, Any, int, Any]] = []
    with (
        LocalTogether(on_exchange=lambda *exchange: seen.append(exchange)) as server,
        Together(base_url=server.base_url, api_key=server.api_key, max_retries=0) as sdk,
    ):
        sdk.chat.completions.create(model=CHAT, messages=user("x"))
        list(sdk.chat.completions.create(model=CHAT, messages=user("x y"), stream=True))
        with pytest.raises(together.NotFoundError):
            sdk.chat.completions.create(model="none", messages=user("x"))
    assert [(path, status) for path, _, status, _ in seen] == [
        ("/v1/chat/completions", 200),
        ("/v1/chat/completions", 200),
        ("/v1/chat/completions", 404),
    ]
    assert seen[0][1]["messages"] == user("x")
    assert seen[0][3]["object"] == "chat.completion"
    assert [chunk["choices"][0]["text"] for chunk in seen[1][3]] == ["x", " y", ""]


def test_the_hook_sees_only_whole_chunks_of_a_stream_that_broke(engine: ScriptedEngine) -> None:
    seen: list[tuple[str, Any, int, Any]] = []
    with (
        LocalTogether(engine, on_exchange=lambda *exchange: seen.append(exchange)) as server,
        Together(base_url=server.base_url, api_key=server.api_key, max_retries=0) as sdk,
    ):
        engine.reply(Reply(break_at_chunk=1))
        with pytest.raises(httpx.RemoteProtocolError):
            list(sdk.chat.completions.create(model=CHAT, messages=user("x y"), stream=True))
    assert len(seen[0][3]) == 1


def test_what_the_hook_raises_is_raised_when_the_server_closes() -> None:
    def fail(*_: object) -> None:
        raise AssertionError("not as documented")

    with pytest.raises(AssertionError, match="not as documented"), LocalTogether(on_exchange=fail) as server:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        assert httpx.get(f"{server.base_url}/v1/models", headers=headers).status_code == 200


def test_a_closed_server_leaves_no_thread_and_can_be_started_again() -> None:
    server = LocalTogether()
    before = set(threading.enumerate())
    for _ in range(2):
        with server:
            headers = {"Authorization": f"Bearer {server.api_key}"}
            assert httpx.get(f"{server.base_url}/v1/models", headers=headers).status_code == 200
            with pytest.raises(RuntimeError, match="runs already"):
                server.start()
        assert set(threading.enumerate()) <= before


def test_a_connection_that_comes_as_the_server_ends_is_closed() -> None:
    server = LocalTogether().start()
    uvicorn = server._server
    assert uvicorn is not None and uvicorn._loop is not None
    blocked, go_on = threading.Event(), threading.Event()

    def block() -> None:
        blocked.set()
        go_on.wait(10)

    uvicorn._loop.call_soon_threadsafe(block)
    assert blocked.wait(10)
    with socket.create_connection(("127.0.0.1", server._port), timeout=10) as client:
        # The server learns in one turn that it is to end, and of the connection.
        uvicorn.stop()
        go_on.set()
        server.close()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
