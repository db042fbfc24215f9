"""TogetherAI against the loopback server, through all four faces."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.outputs import LLMResult

from hana_ai.api.errors import (
    TogetherAIContextOverflowError,
    TogetherAIModelNotFoundError,
    TogetherAIRateLimitError,
    TogetherAIResponseError,
    TogetherAIServerError,
    TogetherAIStreamError,
)
from hana_ai.api.llms import TogetherAI
from hana_ai.api.local.together import Reply, ScriptedEngine, Usage
from hana_ai.api.transport.call import RetryEvent
from tests.conftest import ScriptedTogether, cancel_once, eventually

PATH = "/v1/completions"


@pytest.fixture
def llm(together: ScriptedTogether) -> TogetherAI:
    return TogetherAI(model=together.model("chat"), **together.client)


def completions(engine: ScriptedEngine) -> list[Any]:
    return [request for request in engine.requests if request.path == PATH]


async def generate(llm: TogetherAI, way: str, prompts: list[str], **kwargs: Any) -> LLMResult:
    if way == "sync":
        return await asyncio.to_thread(llm.generate, prompts, **kwargs)
    return await llm.agenerate(prompts, **kwargs)


async def stream(llm: TogetherAI, way: str, prompt: str, received: list[str], **kwargs: Any) -> None:
    if way == "sync":
        for part in llm.stream(prompt, **kwargs):
            received.append(part)
    else:
        async for part in llm.astream(prompt, **kwargs):
            received.append(part)


both = pytest.mark.parametrize("way", ["sync", "async"])


@both
async def test_one_prompt_is_one_string_in_one_request(llm: TogetherAI, engine: ScriptedEngine, way: str) -> None:
    engine.reply(Reply(text=" upon a time", usage=Usage(3, 4)))
    result = await generate(llm, way, ["Once"])
    assert result.generations[0][0].text == " upon a time"
    assert result.llm_output is not None
    assert result.llm_output["token_usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "cached_tokens": 0,
    }
    info = result.generations[0][0].generation_info
    assert info is not None
    assert info["finish_reason"] == "stop"
    assert info["token_usage"] == result.llm_output["token_usage"]
    assert info["request_id"]
    [request] = completions(engine)
    assert request.body == {"model": llm.model, "prompt": "Once"}


def test_invoke_and_batch(llm: TogetherAI) -> None:
    assert llm.invoke("a b") == "a b"
    assert llm.batch(["a", "b"]) == ["a", "b"]


async def test_ainvoke_and_abatch(llm: TogetherAI) -> None:
    assert await llm.ainvoke("a b") == "a b"
    assert await llm.abatch(["a", "b"]) == ["a", "b"]


@both
async def test_many_prompts_go_beside_each_other_and_keep_their_order(
    together: ScriptedTogether, llm: TogetherAI, engine: ScriptedEngine, way: str
) -> None:
    # The earlier a prompt, the later its answer.
    engine.on(PATH, lambda request: Reply(delay=0.6 - int(request.body["prompt"]) / 50))
    prompts = [str(number) for number in range(30)]
    result = await generate(llm, way, prompts)
    assert together.statistics.peak_active > 5
    assert [answers[0].text for answers in result.generations] == prompts
    assert result.llm_output is not None
    assert result.llm_output["token_usage"]["prompt_tokens"] == 30


@both
async def test_no_more_requests_at_once_than_max_concurrency(
    together: ScriptedTogether, engine: ScriptedEngine, way: str
) -> None:
    engine.always(Reply(delay=0.1))
    llm = TogetherAI(model=together.model("chat"), max_concurrency=2, **together.client)
    started = time.monotonic()
    threads = threading.active_count()
    await generate(llm, way, ["a", "b", "c", "d", "e"])
    assert time.monotonic() - started >= 0.3
    assert threading.active_count() <= threads + 3


@both
async def test_the_first_error_ends_all_prompts(
    together: ScriptedTogether, engine: ScriptedEngine, way: str
) -> None:
    engine.on(PATH, lambda request: Reply(status=400) if request.body["prompt"] == "bad" else Reply(stall=True))
    llm = TogetherAI(model=together.model("chat"), max_concurrency=2, **together.client)
    with pytest.raises(Exception, match="Error code: 400"):
        await generate(llm, way, ["good", "bad", *("late" for _ in range(20))])
    await eventually(lambda: llm.transport.limiter(llm.model).in_use == 0)
    assert len(completions(engine)) <= 4


async def test_a_cancelled_call_cancels_its_requests(llm: TogetherAI, engine: ScriptedEngine) -> None:
    engine.always(Reply(stall=True))
    await cancel_once(lambda: len(completions(engine)) == 3, llm.agenerate(["a", "b", "c"]))
    await eventually(lambda: llm.transport.limiter(llm.model).in_use == 0)


@both
async def test_several_answers_to_a_prompt(llm: TogetherAI, way: str) -> None:
    result = await generate(llm, way, ["a", "b"], n=3)
    assert [[answer.text for answer in answers] for answers in result.generations] == [["a"] * 3, ["b"] * 3]
    usages = [[(answer.generation_info or {}).get("token_usage") for answer in row] for row in result.generations]
    assert all(row[0] is not None and row[1:] == [None, None] for row in usages)


@both
async def test_stop_echo_and_log_probabilities(llm: TogetherAI, engine: ScriptedEngine, way: str) -> None:
    result = await generate(llm, way, ["a b c"], stop=["c"], echo=True, logprobs=2)
    generation = result.generations[0][0]
    info = generation.generation_info
    assert info is not None
    assert generation.text == "a b "
    assert info["prompt"][0]["text"] == "a b c"
    assert info["logprobs"]["tokens"] == ["a", " b", " "]
    assert len(info["logprobs"]["top_logprobs"][0]) == 2
    assert completions(engine)[0].body["stop"] == ["c"]


def test_max_tokens_ends_with_length(llm: TogetherAI) -> None:
    llm.max_tokens = 2
    generation = llm.generate(["a b c"]).generations[0][0]
    assert generation.text == "a b"
    assert (generation.generation_info or {})["finish_reason"] == "length"


# --- streams ---


@both
async def test_a_stream_gives_the_text_in_parts(llm: TogetherAI, engine: ScriptedEngine, way: str) -> None:
    engine.reply(Reply(chunks=["On", "ce", " upon"]))
    received: list[str] = []
    await stream(llm, way, "Tell", received)
    assert received == ["On", "ce", " upon", ""]
    assert completions(engine)[0].body["stream_options"] == {"include_usage": True}


class Recorder(BaseCallbackHandler):
    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.chunks: list[Any] = []
        self.end: LLMResult | None = None
        self.error: Any = None

    def on_llm_new_token(self, token: str, *, chunk: Any = None, **kwargs: Any) -> None:
        self.tokens.append(token)
        self.chunks.append(chunk)

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        self.end = response

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        self.error = error


class AsyncRecorder(AsyncCallbackHandler, Recorder):
    async def on_llm_new_token(self, token: str, **kwargs: Any) -> None:  # type: ignore[override]
        Recorder.on_llm_new_token(self, token, **kwargs)

    async def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:  # type: ignore[override]
        self.end = response

    async def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:  # type: ignore[override]
        self.error = error


@pytest.mark.parametrize(("way", "make"), [("sync", Recorder), ("async", AsyncRecorder)])
async def test_callbacks_see_every_token_and_the_whole_answer_once(
    llm: TogetherAI, engine: ScriptedEngine, way: str, make: Callable[[], Recorder]
) -> None:
    engine.reply(Reply(chunks=["On", "ce"], usage=Usage(1, 2)))
    recorder = make()
    await stream(llm, way, "Tell", [], config={"callbacks": [recorder]}, logprobs=1)
    assert recorder.tokens == ["On", "ce", ""]
    assert all(chunk is not None for chunk in recorder.chunks)
    assert recorder.end is not None
    generation = recorder.end.generations[0][0]
    info = generation.generation_info
    assert info is not None
    assert generation.text == "Once"
    assert info["finish_reason"] == "stop"
    assert info["model_name"] == llm.model
    assert info["token_usage"]["total_tokens"] == 3
    assert info["logprobs"]["tokens"] == ["On", "ce"]


@both
async def test_a_broken_stream_raises_with_what_was_received(
    llm: TogetherAI, engine: ScriptedEngine, way: str
) -> None:
    engine.reply(Reply(chunks=["On", "ce", " upon"], break_at_chunk=2))
    received: list[str] = []
    recorder = Recorder()
    with pytest.raises(TogetherAIStreamError) as caught:
        await stream(llm, way, "Tell", received, config={"callbacks": [recorder]})
    assert received == ["On", "ce"]
    assert caught.value.partial == "Once"
    assert recorder.error is caught.value


@both
async def test_an_error_event_in_a_stream_raises_with_what_was_received(
    llm: TogetherAI, engine: ScriptedEngine, way: str
) -> None:
    engine.reply(Reply(chunks=["On", "ce"], error_at_chunk=1, error={"message": "lost a GPU", "code": "503"}))
    with pytest.raises(TogetherAIStreamError, match="lost a GPU") as caught:
        await stream(llm, way, "Tell", [])
    assert caught.value.partial == "On"
    assert caught.value.status == 503


@both
async def test_a_stream_that_is_refused_at_first_is_tried_again(
    together: ScriptedTogether, engine: ScriptedEngine, way: str
) -> None:
    engine.reply(Reply(status=429, headers={"x-ratelimit-reset": "0.01"}), Reply(text="done"))
    events: list[RetryEvent] = []
    llm = TogetherAI(model=together.model("chat"), on_retry=events.append, **together.client)
    received: list[str] = []
    await stream(llm, way, "Tell", received)
    assert "".join(received) == "done"
    assert [event.attempt for event in events] == [1]


@both
async def test_a_stream_that_is_left_early_gives_its_place_back(llm: TogetherAI, way: str) -> None:
    prompt = " ".join(["word"] * 200)
    if way == "sync":
        parts = llm.stream(prompt)
        next(parts)
        parts.close()  # type: ignore[attr-defined]
    else:
        aparts = llm.astream(prompt)
        await anext(aparts)
        await aparts.aclose()  # type: ignore[attr-defined]
    await eventually(lambda: llm.transport.limiter(llm.model).in_use == 0)


# --- models, errors, cache ---


@both
async def test_without_a_name_the_catalogue_gives_a_model_and_is_read_once(
    together: ScriptedTogether, engine: ScriptedEngine, way: str
) -> None:
    llm = TogetherAI(**together.client)
    await generate(llm, way, ["a", "b", "c"])
    assert llm.model == together.model("chat")
    assert [request.path for request in engine.requests].count("/v2/supported-models") == 1


@both
async def test_a_retired_model_is_named_with_living_ones(llm: TogetherAI, way: str) -> None:
    with pytest.raises(TogetherAIModelNotFoundError) as caught:
        await generate(llm, way, ["a"], model="local/scripted-chut")
    assert "local/scripted-chat" in caught.value.alternatives


@both
async def test_errors_are_those_of_the_tree(llm: TogetherAI, engine: ScriptedEngine, way: str) -> None:
    llm.max_retries = 0
    engine.reply(Reply(status=429), Reply(status=503))
    with pytest.raises(TogetherAIRateLimitError, match="Error code: 429"):
        await generate(llm, way, ["a"])
    with pytest.raises(TogetherAIServerError):
        await generate(llm, way, ["a"])
    with pytest.raises(TogetherAIContextOverflowError):
        await generate(llm, way, ["a"], max_tokens=9000)


@both
async def test_a_reply_of_another_shape_is_an_error_with_its_id(
    together: ScriptedTogether, llm: TogetherAI, engine: ScriptedEngine, way: str
) -> None:
    together.check_answers = False
    engine.reply(Reply(body={"choices": []}))
    with pytest.raises(TogetherAIResponseError, match="does not fit at choices") as caught:
        await generate(llm, way, ["a"])
    assert caught.value.request_id


@both
async def test_the_cache_answers_the_second_time(
    together: ScriptedTogether, engine: ScriptedEngine, way: str
) -> None:
    llm = TogetherAI(model=together.model("chat"), cache=InMemoryCache(), **together.client)
    first = await generate(llm, way, ["a", "b"])
    second = await generate(llm, way, ["a", "b", "c"])
    assert [row[0].text for row in second.generations] == ["a", "b", "c"]
    assert second.generations[0][0].text == first.generations[0][0].text
    assert len(completions(engine)) == 3
    llm.temperature = 0.5
    await generate(llm, way, ["a"])
    assert len(completions(engine)) == 4


def test_everything_from_the_environment(together_environment: ScriptedTogether, monkeypatch: Any) -> None:
    monkeypatch.setenv("TOGETHER_DEFAULT_MODEL", together_environment.model("chat"))
    llm = TogetherAI()
    assert llm.model == together_environment.model("chat")
    assert llm.invoke("a") == "a"


def test_bound_parameters_reach_the_request(llm: TogetherAI, engine: ScriptedEngine) -> None:
    llm.bind(stop=["\nObservation"], temperature=0.0, top_k=5).invoke("a")
    body = completions(engine)[0].body
    assert (body["stop"], body["temperature"], body["top_k"]) == (["\nObservation"], 0.0, 5)
