"""OpenTelemetry: a span and measurements for each call, by the semantic conventions for generative AI.

Nothing is imported here: where no other part of the process has loaded OpenTelemetry and configured a provider,
nobody would read what is written, and a call pays for two look-ups. Spans hold names, numbers and classes of
errors, never prompts, answers, the errors' messages, or the key.

A span begins as a child of the span that is current where the call is made. While a whole reply is awaited it is
the current one itself, so that an instrumented HTTP client's spans stand below it; a stream's is not, since
between two chunks the caller's own code runs.

The names are those of https://github.com/open-telemetry/semantic-conventions-genai (status: development).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from hana_ai.api.transport.call import OnRetry, RetryEvent
    from hana_ai.api.usage.meter import Tokens

OPERATION_NAMES: Mapping[str, str] = {"completion": "text_completion", "embedding": "embeddings"}
"""`gen_ai.operation.name` where it differs from the ledger's word; rerank has no name of its own there yet."""

_PARAMETERS: Mapping[str, str] = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "max_tokens": "max_tokens",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
    "n": "choice.count",
}
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(4**power for power in range(14))


class Observed(Protocol):
    """What is asked of a call."""

    model: str | None
    body: Mapping[str, Any] | None
    stream: bool
    on_retry: OnRetry | None


class Server(Protocol):
    """Who is asked."""

    @property
    def base_url(self) -> str:
        """Address without `/v1`."""


class Outcome(NamedTuple):
    """How a call ended."""

    seconds: float
    first_chunk: float | None
    """Seconds; None for calls that are no streams, and for streams without one."""
    tokens: Tokens
    reply: Mapping[str, Any]
    """The reply, or a stream's last chunk; only its names and finish reasons are looked at."""
    error: str | None
    """Class of the error."""
    http_status: int | None
    base_url: str
    """Of the server that answered."""


def observe(operation: str, call: Observed, server: Server) -> Observation | None:
    """Begin to observe a call; None when nobody has asked for it by configuring OpenTelemetry."""
    if (trace := sys.modules.get("opentelemetry.trace")) is None:
        return None
    tracers = _provider(trace, "_TRACER_PROVIDER", "get_tracer_provider")
    metrics = sys.modules.get("opentelemetry.metrics._internal")
    meters = None if metrics is None else _provider(metrics, "_METER_PROVIDER", "get_meter_provider")
    if tracers is None and meters is None:
        return None
    return Observation(
        operation,
        call,
        server.base_url,
        None if tracers is None else _tracer(tracers),
        None if meters is None else _instruments(meters),
    )


def _provider(module: ModuleType, name: str, getter: str) -> Any:
    """The provider that the process has configured; None when there is none.

    To ask the API costs several microseconds where there is none, most of them for an environment variable; so
    its variable is looked at first, and the API is asked where there is no variable of that name any more.
    """
    if vars(module).get(name, module) is None and not _named_in_the_environment():
        return None
    provider = vars(module)[getter]()
    # The API's own providers stand for "none is configured" and record nothing.
    return None if type(provider).__module__ == module.__name__ else provider


@lru_cache(maxsize=1)
def _named_in_the_environment() -> bool:
    return "OTEL_PYTHON_TRACER_PROVIDER" in os.environ or "OTEL_PYTHON_METER_PROVIDER" in os.environ


class Observation:
    """One call, from its beginning to `end`."""

    __slots__ = ("_attributes", "_call", "_instruments", "_on_retry", "_span", "_token")

    def __init__(
        self,
        operation: str,
        call: Observed,
        base_url: str,
        tracer: Tracer | None,
        instruments: _Instruments | None,
    ) -> None:
        self._call = call
        self._instruments = instruments
        self._on_retry = call.on_retry
        self._span: Span | None = None
        self._token: Token[Context] | None = None
        self._attributes: dict[str, Any] = {
            "gen_ai.operation.name": OPERATION_NAMES.get(operation, operation),
            "gen_ai.provider.name": "together",
            **({"gen_ai.request.model": call.model} if call.model else {}),
            **_server(base_url),
        }
        if tracer is not None:
            self._begin_span(tracer)

    def _begin_span(self, tracer: Tracer) -> None:
        from opentelemetry import context, trace

        name = f"{self._attributes['gen_ai.operation.name']} {self._call.model or ''}".rstrip()
        span = tracer.start_span(
            name, kind=trace.SpanKind.CLIENT, attributes={**self._attributes, **_asked(self._call)}
        )
        self._span = span
        if span.is_recording():
            self._call.on_retry = self._retrying
        if not self._call.stream:
            self._token = context.attach(trace.set_span_in_context(span))

    def _retrying(self, event: RetryEvent) -> None:
        if self._span is not None:
            told = {
                "hana_ai.retry.attempt": event.attempt,
                "hana_ai.retry.wait": event.wait,
                "error.type": type(event.error).__name__,
                "hana_ai.fallback.model": getattr(event, "fallback", None),
            }
            self._span.add_event("retry", {name: value for name, value in told.items() if value is not None})
        if self._on_retry is not None:
            self._on_retry(event)

    def end(self, outcome: Outcome) -> None:
        """Note how the call ended."""
        known = {**self._attributes, **_server(outcome.base_url)}
        if isinstance(answering := outcome.reply.get("model"), str):
            known["gen_ai.response.model"] = answering
        if outcome.error is not None:
            known["error.type"] = outcome.error
        try:
            if self._instruments is not None:
                self._instruments.record(outcome, known)
        finally:
            self._end_span(outcome, known)

    def _end_span(self, outcome: Outcome, known: Mapping[str, Any]) -> None:
        span = self._span
        if span is None:
            return
        from opentelemetry import context
        from opentelemetry.trace import Status, StatusCode

        self._call.on_retry = self._on_retry
        if self._token is not None:
            context.detach(self._token)
        if span.is_recording():
            span.set_attributes({**known, **_answered(outcome)})
            if outcome.error is not None:
                span.set_status(Status(StatusCode.ERROR))
        span.end()


class _Instruments(NamedTuple):
    """The measurements."""

    tokens: Histogram
    duration: Histogram
    first_chunk: Histogram

    def record(self, outcome: Outcome, attributes: Mapping[str, Any]) -> None:
        self.duration.record(outcome.seconds, attributes)
        if outcome.first_chunk is not None:
            self.first_chunk.record(outcome.first_chunk, attributes)
        for kind, count in (("input", outcome.tokens.prompt), ("output", outcome.tokens.completion)):
            if count is not None:
                self.tokens.record(count, {**attributes, "gen_ai.token.type": kind})


def _asked(call: Observed) -> dict[str, Any]:
    body = call.body or {}
    asked = {
        f"gen_ai.request.{name}": value
        for field, name in _PARAMETERS.items()
        if isinstance(value := body.get(field), (int, float)) and (field != "n" or value != 1)
    }
    return {**asked, "gen_ai.request.stream": True} if call.stream else asked


def _answered(outcome: Outcome) -> dict[str, Any]:
    choices = outcome.reply.get("choices")
    reasons = [
        choice["finish_reason"]
        for choice in (choices if isinstance(choices, list) else ())
        if isinstance(choice, Mapping) and isinstance(choice.get("finish_reason"), str)
    ]
    identity = outcome.reply.get("id")
    told = {
        "gen_ai.response.id": identity if isinstance(identity, str) else None,
        "gen_ai.response.finish_reasons": reasons or None,
        "gen_ai.response.time_to_first_chunk": outcome.first_chunk,
        "gen_ai.usage.input_tokens": outcome.tokens.prompt,
        "gen_ai.usage.output_tokens": outcome.tokens.completion,
        "gen_ai.usage.cache_read.input_tokens": outcome.tokens.cached,
        "gen_ai.usage.reasoning.output_tokens": outcome.tokens.reasoning,
        "http.response.status_code": outcome.http_status,
    }
    return {name: value for name, value in told.items() if value is not None}


@lru_cache(maxsize=64)
def _server(base_url: str) -> Mapping[str, Any]:
    parts = urlsplit(base_url)
    return {
        "server.address": parts.hostname or "",
        "server.port": parts.port or (443 if parts.scheme == "https" else 80),
    }


@lru_cache(maxsize=1)
def _version() -> str | None:
    from importlib import metadata

    try:
        return metadata.version("hana-ai-together")
    except metadata.PackageNotFoundError:
        return None


@lru_cache(maxsize=1)
def _tracer(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("hana_ai.api", _version())


@lru_cache(maxsize=1)
def _instruments(provider: MeterProvider) -> _Instruments:
    meter = provider.get_meter("hana_ai.api", _version())
    return _Instruments(
        meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        ),
        meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        ),
        meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            unit="s",
            description="Time to receive the first chunk of a stream.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        ),
    )
