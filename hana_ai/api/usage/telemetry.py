"""OpenTelemetry: a span and measurements for each call, by the semantic conventions for generative AI.

Nothing is imported here: where no other part of the process has loaded OpenTelemetry and configured a provider,
nobody would read what is written, and a call pays for one look-up, or for some microseconds where the API is
loaded. Spans hold names, numbers and classes of errors, never prompts, answers, the errors' messages, or the key.

A span begins as a child of the span that is current where the call is made. While a whole reply is awaited it is
the current one itself, so that an instrumented HTTP client's spans stand below it; a stream's is not, since
between two chunks the caller's own code runs.

The names are those of https://github.com/open-telemetry/semantic-conventions-genai (status: development).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from hana_ai.api.transport.call import Call, RetryEvent
from hana_ai.api.transport.watching import LEFT_EARLY, OK, Ended
from hana_ai.api.usage.record import OPERATIONS
from hana_ai.api.wire.token_counts import Tokens, read_tokens

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider
    from opentelemetry.util.types import AttributeValue

    Attributes: TypeAlias = dict[str, AttributeValue]

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


class Telemetry:
    """Watches the calls to one address, where the process has configured OpenTelemetry."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url

    def admits(self, call: Call) -> bool:
        """Whether a call may go; always."""
        return True

    def admit(self, call: Call) -> None:
        """Let a call go."""

    async def aadmit(self, call: Call) -> None:
        """Let a call go."""

    def begin(self, call: Call) -> Observation | None:
        """Begin to observe a call; None when nobody has asked for it by configuring OpenTelemetry."""
        operation = OPERATIONS.get(call.path)
        if operation is None or "opentelemetry.trace" not in sys.modules:
            return None
        tracers: TracerProvider | None = _configured("opentelemetry.trace", "get_tracer_provider")
        meters: MeterProvider | None = _configured("opentelemetry.metrics", "get_meter_provider")
        if tracers is None and meters is None:
            return None
        return Observation(
            operation,
            call,
            self._base_url,
            None if tracers is None else _tracer(tracers),
            None if meters is None else _instruments(meters),
        )


def _configured(module: str, getter: str) -> Any:
    """The provider that the process has configured; None when there is none."""
    if (api := sys.modules.get(module)) is None:
        return None
    provider = vars(api)[getter]()
    # The API's own providers stand for "none is configured" and record nothing.
    return None if type(provider).__module__.startswith(module) else provider


class Observation:
    """One call, from its beginning to its end."""

    __slots__ = ("_attributes", "_call", "_instruments", "_on_retry", "_span", "_token")

    def __init__(
        self,
        operation: str,
        call: Call,
        base_url: str,
        tracer: Tracer | None,
        instruments: _Instruments | None,
    ) -> None:
        self._call = call
        self._instruments = instruments
        self._on_retry = call.on_retry
        self._span: Span | None = None
        self._token: Token[Context] | None = None
        name = OPERATION_NAMES.get(operation, operation)
        self._attributes: Attributes = {
            "gen_ai.operation.name": name,
            "gen_ai.provider.name": "together",
            **({"gen_ai.request.model": call.model} if call.model else {}),
            **_server(base_url),
        }
        if tracer is not None:
            self._begin_span(tracer, name)

    def _begin_span(self, tracer: Tracer, name: str) -> None:
        from opentelemetry import context, trace

        span = tracer.start_span(
            f"{name} {self._call.model or ''}".rstrip(),
            kind=trace.SpanKind.CLIENT,
            attributes={**self._attributes, **_asked(self._call)},
        )
        self._span = span
        if span.is_recording():
            self._call.on_retry = self._retrying
        if not self._call.stream:
            self._token = context.attach(trace.set_span_in_context(span))

    def _retrying(self, event: RetryEvent) -> None:
        if self._span is not None:
            told: dict[str, str | float | None] = {
                "hana_ai.retry.attempt": event.attempt,
                "hana_ai.retry.wait": event.wait,
                "error.type": type(event.error).__name__,
                "hana_ai.fallback.model": event.fallback,
            }
            self._span.add_event("retry", {name: value for name, value in told.items() if value is not None})
        if self._on_retry is not None:
            self._on_retry(event)

    def ended(self, ended: Ended) -> None:
        """Note how the call ended."""
        tokens = read_tokens(ended.usage)
        known: Attributes = {**self._attributes, **_server(ended.base_url)}
        if isinstance(answering := ended.reply.get("model"), str):
            known["gen_ai.response.model"] = answering
        if ended.status not in (OK, LEFT_EARLY):
            known["error.type"] = ended.status
        try:
            if self._instruments is not None:
                self._instruments.record(ended, tokens, known)
        finally:
            self._end_span(ended, tokens, known)

    def _end_span(self, ended: Ended, tokens: Tokens, known: Attributes) -> None:
        span = self._span
        if span is None:
            return
        from opentelemetry import context
        from opentelemetry.trace import Status, StatusCode

        self._call.on_retry = self._on_retry
        if self._token is not None:
            context.detach(self._token)
        if span.is_recording():
            span.set_attributes({**known, **_answered(ended, tokens)})
            if "error.type" in known:
                span.set_status(Status(StatusCode.ERROR))
        span.end()


class _Instruments(NamedTuple):
    """The measurements."""

    tokens: Histogram
    duration: Histogram
    first_chunk: Histogram

    def record(self, ended: Ended, tokens: Tokens, attributes: Attributes) -> None:
        self.duration.record(ended.seconds, attributes)
        if ended.first_chunk is not None:
            self.first_chunk.record(ended.first_chunk, attributes)
        for kind, count in (("input", tokens.prompt), ("output", tokens.completion)):
            if count is not None:
                self.tokens.record(count, {**attributes, "gen_ai.token.type": kind})


def _asked(call: Call) -> Attributes:
    body = call.body or {}
    asked: Attributes = {
        f"gen_ai.request.{name}": value
        for field, name in _PARAMETERS.items()
        if isinstance(value := body.get(field), (int, float)) and (field != "n" or value != 1)
    }
    return {**asked, "gen_ai.request.stream": True} if call.stream else asked


def _answered(ended: Ended, tokens: Tokens) -> Attributes:
    choices = ended.reply.get("choices")
    reasons = [
        choice["finish_reason"]
        for choice in (choices if isinstance(choices, list) else ())
        if isinstance(choice, Mapping) and isinstance(choice.get("finish_reason"), str)
    ]
    identity = ended.reply.get("id")
    told = {
        "gen_ai.response.id": identity if isinstance(identity, str) else None,
        "gen_ai.response.finish_reasons": reasons or None,
        "gen_ai.response.time_to_first_chunk": ended.first_chunk,
        "gen_ai.usage.input_tokens": tokens.prompt,
        "gen_ai.usage.output_tokens": tokens.completion,
        "gen_ai.usage.cache_read.input_tokens": tokens.cached,
        "gen_ai.usage.reasoning.output_tokens": tokens.reasoning,
        "http.response.status_code": ended.http_status,
    }
    return {name: value for name, value in told.items() if value is not None}


@lru_cache(maxsize=64)
def _server(base_url: str) -> Mapping[str, AttributeValue]:
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
