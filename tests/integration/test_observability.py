"""What a process sees of its calls: OpenTelemetry's spans and measurements, LangSmith's runs, and log records."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.tracers.langchain import LangChainTracer
from langsmith import Client
from opentelemetry import context as otel_context
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from hana_ai.api import (
    ChatTogetherAI,
    FallbackTarget,
    TogetherAI,
    TogetherAIEmbeddings,
    TogetherAIError,
    TogetherAIRateLimitError,
    TogetherAIRerank,
)
from hana_ai.api.local.together import Reply, ScriptedEngine, Usage
from hana_ai.api.transport.call import Call
from hana_ai.api.usage.telemetry import Telemetry as Watcher
from tests.conftest import ScriptedTogether, cancel_once, eventually
from tests.warm import Warm
from tests.wiretap import Api, running

PROMPT = "a prompt that no span may hold"
ANSWER = "an answer that no span may hold"


class Telemetry:
    """What was exported."""

    def __init__(self, spans: InMemorySpanExporter, reader: InMemoryMetricReader) -> None:
        self._spans = spans
        self._reader = reader

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._spans.get_finished_spans()

    def only(self) -> ReadableSpan:
        [span] = [span for span in self.spans if span.kind is SpanKind.CLIENT]
        return span

    def points(self) -> dict[str, list[Any]]:
        data = self._reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def telemetry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Telemetry]:
    """Providers that keep what they get; a process can set OpenTelemetry's only once."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider(metric_readers=[reader])
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(trace_api, "get_tracer_provider", lambda: tracers)
    monkeypatch.setattr(metrics_api, "get_meter_provider", lambda: meters)
    yield Telemetry(spans, reader)
    tracers.shutdown()
    meters.shutdown()


async def _drain(stream: Any) -> None:
    async for _ in stream:
        pass


DOCUMENTS = [Document(page_content="one"), Document(page_content="two")]
CHAT, EMBED, RERANK = ScriptedEngine.CHAT, ScriptedEngine.EMBEDDING, ScriptedEngine.RERANK

WAYS: dict[str, tuple[str, str, bool, Callable[[dict[str, str]], Any]]] = {
    "chat": ("chat", CHAT, False, lambda at: ChatTogetherAI(model=CHAT, max_tokens=50, **at).invoke(PROMPT)),
    "achat": ("chat", CHAT, False, lambda at: ChatTogetherAI(model=CHAT, max_tokens=50, **at).ainvoke(PROMPT)),
    "chat stream": ("chat", CHAT, True, lambda at: list(ChatTogetherAI(model=CHAT, **at).stream(PROMPT))),
    "achat stream": ("chat", CHAT, True, lambda at: _drain(ChatTogetherAI(model=CHAT, **at).astream(PROMPT))),
    "llm": ("text_completion", CHAT, False, lambda at: TogetherAI(model=CHAT, **at).invoke(PROMPT)),
    "allm": ("text_completion", CHAT, False, lambda at: TogetherAI(model=CHAT, **at).ainvoke(PROMPT)),
    "llm stream": ("text_completion", CHAT, True, lambda at: list(TogetherAI(model=CHAT, **at).stream(PROMPT))),
    "allm stream": (
        "text_completion",
        CHAT,
        True,
        lambda at: _drain(TogetherAI(model=CHAT, **at).astream(PROMPT)),
    ),
    "embed": ("embeddings", EMBED, False, lambda at: TogetherAIEmbeddings(model=EMBED, **at).embed_query(PROMPT)),
    "aembed": (
        "embeddings",
        EMBED,
        False,
        lambda at: TogetherAIEmbeddings(model=EMBED, **at).aembed_query(PROMPT),
    ),
    "rerank": (
        "rerank",
        RERANK,
        False,
        lambda at: TogetherAIRerank(model=RERANK, **at).compress_documents(DOCUMENTS, PROMPT),
    ),
    "arerank": (
        "rerank",
        RERANK,
        False,
        lambda at: TogetherAIRerank(model=RERANK, **at).acompress_documents(DOCUMENTS, PROMPT),
    ),
}
every_way = pytest.mark.parametrize("way", WAYS)


async def run(way: str, together: ScriptedTogether) -> None:
    done = WAYS[way][3](together.client)
    if asyncio.iscoroutine(done):
        await done


# --- OpenTelemetry ---


@every_way
async def test_a_call_is_one_span_below_the_callers_own(
    way: str, together: ScriptedTogether, engine: ScriptedEngine, telemetry: Telemetry
) -> None:
    operation, model, streamed, _ = WAYS[way]
    if operation in ("chat", "text_completion"):
        engine.always(Reply(text=ANSWER, usage=Usage(7, 5)))
    with trace_api.get_tracer("the caller").start_as_current_span("the caller's") as parent:
        await run(way, together)
        assert trace_api.get_current_span() is parent

    span = telemetry.only()
    assert span.name == f"{operation} {model}"
    assert span.parent is not None
    assert span.parent.span_id == parent.get_span_context().span_id
    assert span.status.status_code is StatusCode.UNSET
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "hana_ai.api"
    attributes = dict(span.attributes or {})
    assert attributes["gen_ai.operation.name"] == operation
    assert attributes["gen_ai.provider.name"] == "together"
    assert attributes["gen_ai.request.model"] == attributes["gen_ai.response.model"] == model
    assert attributes["server.address"] == "127.0.0.1"
    assert attributes["server.port"] == int(together.base_url.rpartition(":")[2])
    assert "error.type" not in attributes
    if operation in ("chat", "text_completion"):
        assert attributes["gen_ai.usage.input_tokens"] == 7
        assert attributes["gen_ai.usage.output_tokens"] == 5
        assert attributes["gen_ai.response.id"]
        assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert attributes.get("gen_ai.request.stream", False) is streamed
    assert ("gen_ai.response.time_to_first_chunk" in attributes) is streamed
    if way in ("chat", "achat"):
        assert attributes["gen_ai.request.max_tokens"] == 50


@every_way
async def test_a_call_is_measured(way: str, together: ScriptedTogether, telemetry: Telemetry) -> None:
    operation, model, streamed, _ = WAYS[way]
    await run(way, together)

    points = telemetry.points()
    [duration] = points["gen_ai.client.operation.duration"]
    assert duration.count == 1
    assert 0 < duration.sum < 60
    assert dict(duration.attributes) == {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "together",
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "server.address": "127.0.0.1",
        "server.port": int(together.base_url.rpartition(":")[2]),
    }
    kinds = {point.attributes["gen_ai.token.type"]: point.sum for point in points["gen_ai.client.token.usage"]}
    assert kinds["input"] > 0
    assert ("gen_ai.client.operation.time_to_first_chunk" in points) is streamed
    assert duration.explicit_bounds[:3] == (0.01, 0.02, 0.04)


@every_way
async def test_neither_prompts_nor_answers_nor_the_key_are_written(
    way: str, together: ScriptedTogether, engine: ScriptedEngine, telemetry: Telemetry
) -> None:
    def echo(request: Any) -> Reply:
        return Reply(status=400, error={"message": f"can't read {PROMPT}: {ANSWER}", "type": "invalid"})

    await run(way, together)
    engine.always(echo)
    with pytest.raises(TogetherAIError):
        await run(way, together)

    written = "".join(span.to_json() for span in telemetry.spans) + repr(telemetry.points())
    assert len(telemetry.spans) == 2
    for secret in (PROMPT, ANSWER, "can't read", str(together.api_key)):
        assert secret not in written


@every_way
async def test_an_error_is_named_by_its_class_and_retries_are_events(
    way: str, together: ScriptedTogether, engine: ScriptedEngine, telemetry: Telemetry
) -> None:
    engine.always(Reply(status=429, headers={"x-ratelimit-reset": "0.01"}))
    seen: list[int] = []
    together_at = {**together.client, "max_retries": 2, "on_retry": lambda event: seen.append(event.attempt)}
    with pytest.raises(TogetherAIRateLimitError):
        done = WAYS[way][3](together_at)
        if asyncio.iscoroutine(done):
            await done

    span = telemetry.only()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    attributes = dict(span.attributes or {})
    assert attributes["error.type"] == "TogetherAIRateLimitError"
    assert attributes["http.response.status_code"] == 429
    assert [event.name for event in span.events] == ["retry", "retry"]
    assert [dict(event.attributes or {})["hana_ai.retry.attempt"] for event in span.events] == [1, 2]
    assert seen == [1, 2]
    [duration] = telemetry.points()["gen_ai.client.operation.duration"]
    assert duration.attributes["error.type"] == "TogetherAIRateLimitError"
    assert not trace_api.get_current_span().get_span_context().is_valid


async def test_a_cancelled_call_ends_its_span(
    together: ScriptedTogether, engine: ScriptedEngine, telemetry: Telemetry
) -> None:
    engine.always(Reply(stall=True))
    chat = ChatTogetherAI(model=CHAT, **together.client)
    await cancel_once(lambda: len(engine.posts) == 1, chat.ainvoke(PROMPT))
    assert dict(telemetry.only().attributes or {})["error.type"] == "cancelled"


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_stream_that_is_left_early_is_no_error_and_leaves_the_callers_span_alone(
    way: str, together: ScriptedTogether, engine: ScriptedEngine, telemetry: Telemetry
) -> None:
    engine.always(Reply(text=ANSWER))
    chat = ChatTogetherAI(model=CHAT, **together.client)
    tracer = trace_api.get_tracer("the caller")
    with tracer.start_as_current_span("the caller's") as parent:
        if way == "sync":
            stream = chat.stream(PROMPT)
            next(stream)
            assert trace_api.get_current_span() is parent
            stream.close()
        else:
            astream = chat.astream(PROMPT)
            await anext(astream)
            assert trace_api.get_current_span() is parent
            await astream.aclose()
    # LangChain leaves the inner generator of an asynchronous stream to the event loop.
    await eventually(lambda: any(span.kind is SpanKind.CLIENT for span in telemetry.spans))
    attributes = dict(telemetry.only().attributes or {})
    assert "error.type" not in attributes
    assert "gen_ai.response.time_to_first_chunk" in attributes


async def test_a_stream_that_breaks_is_an_error(
    together: ScriptedTogether, engine: ScriptedEngine, telemetry: Telemetry
) -> None:
    engine.always(Reply(text=ANSWER, break_at_chunk=2))
    with pytest.raises(TogetherAIError):
        await run("achat stream", together)
    assert dict(telemetry.only().attributes or {})["error.type"] == "TogetherAIStreamError"


async def test_calls_beside_each_other_have_their_own_parents(
    together: ScriptedTogether, telemetry: Telemetry
) -> None:
    tracer = trace_api.get_tracer("the caller")
    chat = ChatTogetherAI(model=CHAT, **together.client)

    async def one(number: int) -> int:
        with tracer.start_as_current_span(f"caller {number}") as parent:
            await (chat.ainvoke("Hello") if number % 2 else _drain(chat.astream("Hello")))
            assert trace_api.get_current_span() is parent
            return parent.get_span_context().span_id

    parents = await asyncio.gather(*(one(number) for number in range(20)))
    below = [s.parent.span_id for s in telemetry.spans if s.kind is SpanKind.CLIENT and s.parent is not None]
    assert sorted(below) == sorted(parents)


def test_a_fallback_is_one_span_with_the_server_that_answered(
    together: ScriptedTogether, telemetry: Telemetry
) -> None:
    with ScriptedTogether() as other:
        target = FallbackTarget(CHAT, other.base_url, other.api_key)
        together.engine.always(Reply(status=500, error={"message": PROMPT}))
        chat = ChatTogetherAI(model=CHAT, fallback=[target], **{**together.client, "max_retries": 0})
        chat.invoke("Hello")
        attributes = dict(telemetry.only().attributes or {})
        assert attributes["server.port"] == int(other.base_url.rpartition(":")[2])
        assert "error.type" not in attributes
        [event] = telemetry.only().events
        assert (event.attributes or {})["hana_ai.fallback.model"] == CHAT
        assert together.api_key not in {r.headers.get("authorization", "")[7:] for r in other.engine.requests}


def test_an_http_clients_span_stands_below_that_of_a_whole_call(
    together: ScriptedTogether, telemetry: Telemetry
) -> None:
    inside: list[trace_api.Span] = []
    chat = ChatTogetherAI(
        model=CHAT, **together.client, on_retry=lambda event: inside.append(trace_api.get_current_span())
    )
    together.engine.reply(Reply(status=503, headers={"retry-after": "0"}))
    chat.invoke("Hello")
    assert inside[0].get_span_context().span_id == telemetry.only().get_span_context().span_id
    assert otel_context.get_current() == {}


def test_without_a_provider_nothing_is_observed() -> None:
    watcher = Watcher("https://api.together.test")
    assert watcher.begin(Call("/v1/chat/completions", model=CHAT)) is None


def test_calls_that_cost_no_tokens_are_not_observed(telemetry: Telemetry) -> None:
    watcher = Watcher("https://api.together.test")
    assert watcher.begin(Call("/v1/models", method="GET")) is None
    # In a context of its own, since the call never ends.
    begun = contextvars.copy_context().run(watcher.begin, Call("/v1/embeddings", model=EMBED))
    assert begun is not None


def test_a_process_that_configures_it_later_is_observed_from_then_on(
    together: ScriptedTogether, programs: Warm
) -> None:
    code = (
        "from opentelemetry import metrics, trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import SimpleSpanProcessor\n"
        "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "from hana_ai.api import ChatTogetherAI\n"
        f"chat = ChatTogetherAI(model={CHAT!r}, base_url={together.base_url!r}, api_key={together.api_key!r})\n"
        "chat.invoke('Hello')\n"
        "provider, spans = TracerProvider(), InMemorySpanExporter()\n"
        "provider.add_span_processor(SimpleSpanProcessor(spans))\n"
        "trace.set_tracer_provider(provider)\n"
        "chat.invoke('Hello')\n"
        "print([span.name for span in spans.get_finished_spans()])\n"
    )
    done = programs.run(code)
    assert done.stdout.strip() == str([f"chat {CHAT}"]), done.stderr


def test_a_provider_that_only_measures_is_enough(
    together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider(metric_readers=[reader])
    monkeypatch.setattr(metrics_api, "get_meter_provider", lambda: meters)
    ChatTogetherAI(model=CHAT, **together.client).invoke("Hello")
    assert "gen_ai.client.operation.duration" in Telemetry(InMemorySpanExporter(), reader).points()
    meters.shutdown()


def test_a_process_that_does_not_use_it_does_not_load_it(together: ScriptedTogether) -> None:
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'opentelemetry': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from hana_ai.api import ChatTogetherAI\n"
        f"chat = ChatTogetherAI(model={CHAT!r}, base_url={together.base_url!r}, api_key={together.api_key!r})\n"
        "print(chat.invoke('Hello').content, 'opentelemetry.trace' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["Hello", "False"], done.stderr


# --- LangSmith ---


class _FirstToken(BaseCallbackHandler):
    def __init__(self) -> None:
        self.tokens: list[str] = []

    def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
        self.tokens.append(token)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("way", ["sync", "async"])
async def test_langsmith_gets_the_run_with_its_model_tokens_and_first_token(
    way: str, streamed: bool, together: ScriptedTogether, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.always(Reply(text="one two", usage=Usage(7, 5)))
    chat = ChatTogetherAI(model=CHAT, streaming=streamed, temperature=0.5, **together.client)
    with running(Api()) as langsmith:
        client = Client(
            api_url=f"http://127.0.0.1:{langsmith.port}",
            api_key="key-of-langsmith",
            auto_batch_tracing=False,
            info={},
        )
        tracer = LangChainTracer(project_name="tests", client=client)
        chain = chat.with_config(run_name="the chat") | (lambda message: message.content)
        config = {"callbacks": [tracer], "tags": ["tagged"], "metadata": {"team": "finance"}}
        answer = chain.invoke("Hello", config) if way == "sync" else await chain.ainvoke("Hello", config)
        tracer.wait_for_futures()
        client.flush()
        runs = [json.loads(request.split(b"\r\n\r\n", 1)[1]) for request in langsmith.requests]

    assert answer == "one two"
    made = {run["id"]: run for run in runs if "run_type" in run and run.get("start_time")}
    [model_run] = [run for run in made.values() if run["run_type"] == "llm"]
    assert model_run["name"] == "the chat"
    assert made[model_run["parent_run_id"]]["run_type"] == "chain"
    metadata = model_run["extra"]["metadata"]
    assert metadata["ls_provider"] == "together"
    assert metadata["ls_model_name"] == CHAT
    assert metadata["ls_model_type"] == "chat"
    assert metadata["ls_temperature"] == 0.5
    assert metadata["team"] == "finance"
    [end] = [run for run in runs if run.get("outputs") and run.get("id", model_run["id"]) == model_run["id"]][-1:]
    [[generation]] = end["outputs"]["generations"]
    usage = generation["message"]["kwargs"]["usage_metadata"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (7, 5)
    events = [event["name"] for event in end["events"]]
    assert ("new_token" in events) is streamed
    assert str(together.api_key).encode() not in langsmith.seen


# --- logging ---


def test_importing_everything_leaves_logging_as_it_was(programs: Warm) -> None:
    code = (
        "import logging, pkgutil, importlib\n"
        "root = logging.getLogger()\n"
        # What a new interpreter has; some of the modules have been imported before.
        "before = ([], logging.WARNING, [], 0)\n"
        "import hana_ai.api\n"
        "for module in pkgutil.walk_packages(hana_ai.api.__path__, 'hana_ai.api.'):\n"
        "    if module.name.endswith('__main__') or '.startup.' in module.name: continue\n"
        "    importlib.import_module(module.name)\n"
        "assert before == (list(root.handlers), root.level, root.filters, logging.root.manager.disable)\n"
        "ours = {name: logger for name, logger in logging.root.manager.loggerDict.items()\n"
        "        if isinstance(logger, logging.Logger) and name.startswith('hana_ai.api')}\n"
        "assert len(ours) > 10, ours\n"
        "assert not any(logger.handlers or logger.level or not logger.propagate for logger in ours.values())\n"
    )
    done = programs.run(code, timeout=200)
    assert done.returncode == 0, done.stderr


def test_a_retry_is_told_at_info(
    together: ScriptedTogether, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.reply(Reply(status=429, headers={"x-ratelimit-reset": "0.01"}))
    with caplog.at_level(logging.INFO, "hana_ai.api"):
        ChatTogetherAI(model=CHAT, **together.client).invoke("Hello")
    [record] = [record for record in caplog.records if record.name.startswith("hana_ai")]
    assert record.name.startswith("hana_ai.api.")
    assert record.levelno == logging.INFO
    assert "try 1 of /v1/chat/completions failed" in record.getMessage()
