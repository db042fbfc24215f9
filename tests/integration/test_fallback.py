"""Fallback over real sockets: two loopback servers, of which the first fails."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from hana_ai.api import (
    ChatTogetherAI,
    FallbackTarget,
    RetryEvent,
    TogetherAI,
    TogetherAIAuthenticationError,
    TogetherAIConnectionError,
    TogetherAIConnector,
    TogetherAIEmbeddings,
    TogetherAIError,
    TogetherAIInvalidRequestError,
    TogetherAIModelNotFoundError,
    TogetherAIRequestError,
    TogetherAIServerError,
    TogetherAIStreamError,
    TogetherAITimeoutError,
    get_ledger,
    get_together_ai_client,
)
from hana_ai.api.local.together import Reply, ScriptedEngine
from hana_ai.api.service import get_transport
from hana_ai.api.transport.breaker import BreakerPolicy
from hana_ai.api.transport.destinations import Destination
from tests.conftest import ScriptedTogether, cancel_once

FIRST = ScriptedEngine.CHAT
OUTAGE = Reply(status=503, repeat=1000)
DEAD = Reply(drop=True, repeat=1000)

Ask = Callable[[ChatTogetherAI, str], Awaitable[Any]]


pytestmark = pytest.mark.usefixtures("quick_retries")


@pytest.fixture
def second() -> Iterator[ScriptedTogether]:
    with ScriptedTogether() as server:
        yield server


def target(server: ScriptedTogether, model: str = FIRST) -> FallbackTarget:
    return FallbackTarget(model, server.base_url, str(server.api_key))  # type: ignore[arg-type]


def chat(together: ScriptedTogether, second: ScriptedTogether, **fields: Any) -> ChatTogetherAI:
    given = {"model": FIRST, "fallback": [target(second)], "timeout": 20, **together.client, **fields}
    return ChatTogetherAI(**given)


async def _invoke(model: ChatTogetherAI, text: str) -> Any:
    return await asyncio.to_thread(model.invoke, text)


async def _ainvoke(model: ChatTogetherAI, text: str) -> Any:
    return await model.ainvoke(text)


async def _stream(model: ChatTogetherAI, text: str) -> Any:
    def run() -> Any:
        first, *rest = model.stream(text)
        return first.__add__(list(rest))

    return await asyncio.to_thread(run)


async def _astream(model: ChatTogetherAI, text: str) -> Any:
    first, *rest = [chunk async for chunk in model.astream(text)]
    return first.__add__(list(rest))


FACES = pytest.mark.parametrize(
    "ask", [_invoke, _ainvoke, _stream, _astream], ids=["invoke", "ainvoke", "stream", "astream"]
)


@FACES
@pytest.mark.parametrize(
    "failure",
    [
        OUTAGE,
        DEAD,
        Reply(status=500, repeat=1000),
        Reply(status=429, repeat=1000),
        Reply(status=402, repeat=1000),
        Reply(status=404, repeat=1000),
        Reply(body="<html>maintenance</html>", content_type="text/html", repeat=1000),
    ],
    ids=["503", "dead", "500", "429", "402", "404", "html"],
)
async def test_the_next_target_answers(
    together: ScriptedTogether, second: ScriptedTogether, ask: Ask, failure: Reply
) -> None:
    together.check_answers = False
    together.engine.reply(failure)
    answer = await ask(chat(together, second, max_retries=1), "the question")
    assert answer.content == "the question"
    assert answer.response_metadata["fallback"] == {
        "model": FIRST,
        "base_url": second.base_url,
        "instead_of": FIRST,
    }
    assert answer.usage_metadata["total_tokens"] > 0
    [event] = get_ledger().events()
    assert (event.status, event.tags, event.model) == ("ok", ("fallback",), FIRST)


@FACES
async def test_another_model_of_the_same_address_answers(together: ScriptedTogether, ask: Ask) -> None:
    together.engine.reply(Reply(status=404))
    model = ChatTogetherAI(model="gone/model", fallback=FIRST, **together.client)
    answer = await ask(model, "the question")
    assert answer.content == "the question"
    assert answer.response_metadata["model_name"] == FIRST
    assert answer.response_metadata["fallback"]["instead_of"] == "gone/model"
    assert [request.body["model"] for request in together.engine.posts] == ["gone/model", FIRST]
    [event] = get_ledger().events()
    assert (event.model, event.tags) == (FIRST, ("fallback",))


@FACES
async def test_without_a_failure_nothing_speaks_of_a_fallback(
    together: ScriptedTogether, second: ScriptedTogether, ask: Ask
) -> None:
    answer = await ask(chat(together, second), "the question")
    assert "fallback" not in answer.response_metadata
    assert not second.engine.posts
    assert get_ledger().events()[0].tags == ()


@FACES
@pytest.mark.parametrize(
    ("status", "error"), [(400, TogetherAIInvalidRequestError), (401, TogetherAIAuthenticationError)]
)
async def test_what_is_wrong_with_the_request_is_wrong_everywhere(
    together: ScriptedTogether, second: ScriptedTogether, ask: Ask, status: int, error: type[Exception]
) -> None:
    together.engine.reply(Reply(status=status))
    with pytest.raises(error):
        await ask(chat(together, second), "the question")
    assert len(together.engine.posts) == 1 and not second.engine.posts


@FACES
async def test_the_first_error_is_raised_and_names_the_others(
    together: ScriptedTogether, second: ScriptedTogether, ask: Ask
) -> None:
    together.engine.reply(OUTAGE)
    second.engine.reply(Reply(status=500, error={"message": "a broken disk"}, repeat=1000))
    with pytest.raises(TogetherAIServerError) as caught:
        await ask(chat(together, second, max_retries=1), "the question")
    assert caught.value.status == 503
    assert second.base_url in str(caught.value) and "a broken disk" in str(caught.value)
    [event] = get_ledger().events()
    assert (event.status, event.http_status, event.model) == ("TogetherAIServerError", 503, FIRST)


async def test_the_error_of_a_missing_model_still_names_living_ones(
    together: ScriptedTogether, second: ScriptedTogether
) -> None:
    second.engine.reply(Reply(status=404))
    model = chat(together, second, model=FIRST + "-Instruct", fallback=[target(second, "no-model")])
    with pytest.raises(TogetherAIModelNotFoundError) as caught:
        await model.ainvoke("the question")
    assert FIRST in caught.value.alternatives
    assert "no-model" in str(caught.value)


@FACES
async def test_a_target_that_says_nothing_is_left_after_half_of_the_time(
    together: ScriptedTogether, second: ScriptedTogether, ask: Ask
) -> None:
    together.engine.reply(Reply(stall=True, repeat=1000))
    answer = await ask(chat(together, second, timeout=5), "the question")
    assert answer.content == "the question"
    together.engine.reply(Reply(stall=True, repeat=1000))
    second.engine.reply(Reply(stall=True, repeat=1000))
    with pytest.raises(TogetherAITimeoutError):
        await ask(chat(together, second, timeout=0.5), "the question")


@pytest.mark.parametrize("ask", [_stream, _astream], ids=["stream", "astream"])
async def test_never_in_the_middle_of_a_stream(
    together: ScriptedTogether, second: ScriptedTogether, ask: Ask
) -> None:
    together.engine.reply(Reply(chunks=["the ", "question"], break_at_chunk=1))
    with pytest.raises(TogetherAIStreamError) as caught:
        await ask(chat(together, second), "the question")
    assert caught.value.partial.content == "the "  # type: ignore[union-attr]
    assert not second.engine.posts


async def test_every_change_of_target_is_told(together: ScriptedTogether, second: ScriptedTogether) -> None:
    together.engine.reply(OUTAGE)
    seen: list[RetryEvent] = []
    await chat(together, second, max_retries=1, on_retry=seen.append).ainvoke("the question")
    assert [(event.attempt, event.fallback) for event in seen] == [(1, None), (2, FIRST)]


async def test_completions_fall_back_too(together: ScriptedTogether, second: ScriptedTogether) -> None:
    together.engine.reply(DEAD)
    llm = TogetherAI(model=ScriptedEngine.CHAT, fallback=[target(second)], **together.client)
    for generate in (llm.generate, llm.agenerate):
        result = generate(["the question"])
        result = await result if asyncio.iscoroutine(result) else result
        [[generation]] = result.generations
        assert generation.text and generation.generation_info
        assert generation.generation_info["fallback"]["base_url"] == second.base_url
    chunks = [chunk async for chunk in llm.astream("the question")]
    assert "".join(chunks) == llm.invoke("the question")


async def test_embeddings_go_to_another_address_of_the_same_model(
    together: ScriptedTogether, second: ScriptedTogether
) -> None:
    model = ScriptedEngine.EMBEDDING
    right = TogetherAIEmbeddings(model=model, **together.client).embed_query("a")
    together.engine.reply(DEAD)
    embeddings = TogetherAIEmbeddings(model=model, fallback=[target(second, model)], **together.client)
    assert embeddings.embed_query("a") == right
    assert await embeddings.aembed_query("a") == right
    assert {request.body["model"] for request in second.engine.posts} == {model}


async def test_an_address_that_takes_smaller_batches_gets_smaller_ones(
    together: ScriptedTogether, second: ScriptedTogether
) -> None:
    model = ScriptedEngine.EMBEDDING
    texts = [f"text {number}" for number in range(8)]
    right = TogetherAIEmbeddings(model=model, **together.client).embed_documents(texts)
    together.engine.reply(DEAD)
    second.engine.on("/v1/embeddings", lambda asked: Reply(status=413) if len(asked.body["input"]) > 4 else None)
    embeddings = TogetherAIEmbeddings(model=model, fallback=[target(second, model)], **together.client)
    assert embeddings.embed_documents(texts) == right
    assert await embeddings.aembed_documents(texts) == right


async def test_embeddings_never_go_to_another_model(
    together: ScriptedTogether, second: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_FALLBACK", f"{FIRST},{second.base_url}#another-model")
    together.engine.reply(DEAD)
    embeddings = TogetherAIEmbeddings(model=ScriptedEngine.EMBEDDING, max_retries=1, **together.client)
    with pytest.raises(TogetherAIConnectionError):
        await embeddings.aembed_query("a")
    assert not second.engine.posts


async def test_the_setting_serves_the_client_and_not_the_connector(
    together_environment: ScriptedTogether, second: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
    monkeypatch.setenv("TOGETHER_FALLBACK", f"{second.base_url}#{FIRST}")
    monkeypatch.setenv("TOGETHER_FALLBACK_API_KEY", str(second.api_key))
    monkeypatch.setenv("TOGETHER_MAX_RETRIES", "0")
    together_environment.engine.reply(Reply(status=404))
    answer = get_together_ai_client().generate_chat_completion("the question", model="gone")
    # Another address has other prices.
    assert (answer.text, answer.model, answer.cost_usd) == ("the question", FIRST, None)
    async with TogetherAIConnector() as connector:
        await connector.connect(
            {"api_key": str(together_environment.api_key), "base_url": together_environment.base_url}
        )
        together_environment.engine.reply(OUTAGE)
        with pytest.raises(TogetherAIServerError):
            await connector.inference(FIRST, "the question")
    assert len(second.engine.posts) == 1


async def test_an_open_breaker_spares_the_dead_target(
    together: ScriptedTogether, second: ScriptedTogether, caplog: pytest.LogCaptureFixture
) -> None:
    together.engine.reply(DEAD)
    model = chat(together, second)
    with caplog.at_level(logging.WARNING, logger="hana_ai.api"):
        for number in range(10):
            assert (await model.ainvoke(f"question {number}")).content == f"question {number}"
    assert len(together.engine.posts) < 10
    assert "calls go elsewhere" in caplog.text
    assert str(together.api_key) not in caplog.text


@pytest.mark.parametrize("ask", [_stream, _astream])
async def test_streams_that_break_open_the_breaker(
    together: ScriptedTogether, second: ScriptedTogether, ask: Ask
) -> None:
    together.engine.reply(Reply(text="one two three", break_at_chunk=2, repeat=BreakerPolicy().opens_after))
    model = chat(together, second)
    for _ in range(BreakerPolicy().opens_after):
        with pytest.raises(TogetherAIStreamError):
            await ask(model, "the question")
    assert not second.engine.posts
    assert await ask(model, "the question")
    assert len(second.engine.posts) == 1
    assert len(together.engine.posts) == BreakerPolicy().opens_after


@pytest.mark.parametrize("ask", [_invoke, _ainvoke, _stream, _astream])
async def test_when_all_breakers_are_open_the_first_target_is_asked(
    together: ScriptedTogether, second: ScriptedTogether, ask: Ask
) -> None:
    model = chat(together, second)
    for server in (together, second):
        transport = get_transport(base_url=server.base_url, api_key=SecretStr(str(server.api_key)))
        breaker = transport.breaker(FIRST)
        for _ in range(BreakerPolicy().opens_after):
            breaker.failed()
    answer = await ask(model, "the question")
    assert answer.content == "the question"
    assert "fallback" not in answer.response_metadata


@pytest.mark.parametrize(("calls", "elsewhere"), [(250, 60), pytest.param(1000, 500, marks=pytest.mark.slow)])
async def test_a_target_that_dies_amid_many_calls(
    together: ScriptedTogether,
    second: ScriptedTogether,
    monkeypatch: pytest.MonkeyPatch,
    calls: int,
    elsewhere: int,
) -> None:
    monkeypatch.setattr(Destination, "breaker_policy", BreakerPolicy(first_rest=0.2))
    retries: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    died = asyncio.Event()

    async def one(number: int) -> str:
        question = f"question {number}"

        def note(event: RetryEvent) -> None:
            retries[question] += event.fallback is None

        model = chat(together, second, timeout=60, on_retry=note)
        try:
            answer = await model.ainvoke(question)
        except TogetherAIError as exc:
            return type(exc).__name__
        assert answer.content == question
        answered[question] += 1
        if len(answered) == calls // 5 and not died.is_set():
            died.set()
            together.engine.reply(DEAD)
        return "fallback" if "fallback" in answer.response_metadata else "first"

    outcomes = Counter(await asyncio.gather(*(one(number) for number in range(calls))))
    assert outcomes["first"] + outcomes["fallback"] == calls, outcomes
    assert outcomes["fallback"] > elsewhere
    assert set(answered.values()) == {1}
    assert max(retries.values(), default=0) <= 1
    # It is back: a probe finds that out, and everybody goes there again.
    together.engine.reset()
    model = chat(together, second)

    async def used_again() -> None:
        while "fallback" in (await model.ainvoke("are you there")).response_metadata:
            pass

    await asyncio.wait_for(used_again(), 30)
    late = [await one(number) for number in range(calls, calls + 20)]
    assert set(late) == {"first"}


async def test_a_cancelled_probe_lets_the_next_call_probe(
    together: ScriptedTogether, second: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Destination, "breaker_policy", BreakerPolicy(first_rest=0.0))
    model = chat(together, second)
    breaker = model.transport.breaker(FIRST)
    for _ in range(BreakerPolicy().opens_after):
        breaker.failed()
    together.engine.reply(Reply(stall=True))
    await cancel_once(lambda: bool(together.engine.posts), model.ainvoke("the question"))
    answer = await model.ainvoke("the question")
    assert "fallback" not in answer.response_metadata
    assert breaker.state == "closed"


async def test_fields_can_be_assigned_later(together: ScriptedTogether, second: ScriptedTogether) -> None:
    together.engine.reply(OUTAGE)
    model = chat(together, second, fallback=[], max_retries=0)
    with pytest.raises(TogetherAIRequestError):
        await model.ainvoke("the question")
    model.fallback = [target(second)]
    assert (await model.ainvoke("the question")).content == "the question"
