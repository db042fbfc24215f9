"""What is noted of a call, and the face of whoever takes the note: all that the transport knows of the ledger.

A `Meter` runs beside one call and hands one `UsageRecord` to a `Recorder`, however the call ends. Nothing is
computed here that can wait: tokens are read and priced when the record is written.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from hana_ai.api.usage.telemetry import Observation, Outcome, observe
from hana_ai.api.wire.token_counts import count

if TYPE_CHECKING:
    from hana_ai.api.catalog.catalog import Catalog
    from hana_ai.api.transport.call import OnRetry
    from hana_ai.api.wire.failures import EventReader

OPERATIONS: Mapping[str, str] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/embeddings": "embedding",
    "/v1/rerank": "rerank",
}
"""What is recorded: requests that cost tokens, by their path."""

OK = "ok"
CANCELLED = "cancelled"
LEFT_EARLY = "left early"
CACHED = "cached"
"""A cache answered, and nothing was sent."""
NO_TOKENS: Mapping[str, int] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}

_tags: ContextVar[tuple[str, ...]] = ContextVar("together_ai_usage_tags", default=())


@contextmanager
def usage_tags(*tags: str) -> Iterator[None]:
    """Tag the calls that are made inside, in this thread or task and in those that it starts for LangChain.

    Inner tags are added to outer ones. LangChain's own tags (``config={"tags": [...]}``) of a call count as well.

    Examples
    --------
    >>> from hana_ai.api import usage_tags
    >>> with usage_tags("nightly report", "team finance"):
    ...     chat.invoke("How was the month?")
    """
    token = _tags.set((*_tags.get(), *tags))
    try:
        yield
    finally:
        _tags.reset(token)


def current_tags() -> tuple[str, ...]:
    """The tags of the `usage_tags` blocks that this is called in."""
    return _tags.get()


@dataclass(slots=True, eq=False)
class UsageRecord:
    """One call as it ended."""

    called_at: float
    """Seconds since 1970, when the call began."""
    operation: str
    """chat, completion, embedding or rerank."""
    model: str
    """The model that was asked."""
    answering: str | None
    """The model that the reply names."""
    tags: tuple[str, ...]
    usage: Any
    """The reply's `usage` as it came; None when there was none."""
    latency: float
    """Seconds until the end, retries included."""
    first_token: float | None
    """Seconds until the first chunk of a stream; None for other calls."""
    status: str
    """ok, cached, left early, cancelled, or the class of the error."""
    http_status: int | None
    """Of the error; None when there was none, or no reply."""
    retries: int
    request_id: str | None
    catalog: Catalog
    """Where the prices are."""


class Recorder(Protocol):
    """Who takes the notes."""

    limited: bool
    """Whether there is a budget, so that `admit` is to be asked before each call."""

    def admit(self, catalog: Catalog) -> None:
        """Refuse the next call, where the budget is spent."""

    async def aadmit(self, catalog: Catalog) -> None:
        """Refuse the next call from a coroutine; see `admit`."""

    def record(self, record: UsageRecord) -> None:
        """Take the note of a call that has ended."""


class Metered(Protocol):
    """What a meter needs to know of a call."""

    started: float
    retries: int
    model: str | None
    body: Mapping[str, Any] | None
    stream: bool
    on_retry: OnRetry | None
    tags: tuple[str, ...]

    @property
    def path(self) -> str:
        """The request's path."""


class Meter:
    """Watches one call; as a context manager, so that it sees every way to end."""

    __slots__ = (
        "_answering",
        "_call",
        "_catalog",
        "_data",
        "_first_token",
        "_observation",
        "_operation",
        "_reader",
        "_recorder",
        "_usage",
        "request_id",
    )

    def __init__(self, recorder: Recorder | None, call: Metered, catalog: Catalog) -> None:
        self._operation = OPERATIONS.get(call.path)
        self._recorder = recorder
        self._call = call
        self._catalog = catalog
        self._first_token: float | None = None
        self._answering: str | None = None
        self._usage: Any = None
        self._data: Any = None
        self._observation: Observation | None = None
        self._reader: EventReader | None = None
        self.request_id: str | None = None

    def admit(self) -> None:
        """Ask the budget whether the call may be sent."""
        if self._operation is not None and self._recorder is not None and self._recorder.limited:
            self._recorder.admit(self._catalog)

    @property
    def limited(self) -> bool:
        """Whether `aadmit` has anything to ask."""
        return self._operation is not None and self._recorder is not None and self._recorder.limited

    async def aadmit(self) -> None:
        """Ask the budget from a coroutine; see `admit`."""
        if self._recorder is not None:
            await self._recorder.aadmit(self._catalog)

    def opened(self, reader: EventReader, catalog: Catalog) -> None:
        """Note that the first chunk of a stream has come; the rest is asked of its reader at the end."""
        self._catalog = catalog
        self._first_token = time.monotonic() - self._call.started
        self._reader = reader
        self.request_id = reader.request_id

    def reply(self, data: Any, request_id: str | None, catalog: Catalog) -> None:
        """Note what a whole reply says of itself; `catalog` is that of the address that it came from."""
        self._catalog = catalog
        self.request_id = request_id
        if isinstance(data, dict):
            self._data = data if self._observation is not None else None
            self._usage = data.get("usage")
            self._answering = _name(data.get("model"))

    def __enter__(self) -> Meter:
        if self._operation is not None:
            self._observation = observe(self._operation, self._call, self._catalog)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._operation is None:
            return
        latency = time.monotonic() - self._call.started
        reader = self._reader
        if reader is not None:
            self._usage, self._answering = reader.usage, _name(reader.model_name)
        # A stream that was read to its end is whole, even if nobody asked for its last chunk.
        whole = exc is None or (reader is not None and reader.done and isinstance(exc, GeneratorExit))
        status, http_status = (OK, None) if whole else _status(exc)
        if self._recorder is not None:
            self._recorder.record(self._record(self._operation, latency, status, http_status, exc))
        if self._observation is not None:
            self._observe(self._observation, latency, status, http_status)

    def _record(
        self, operation: str, latency: float, status: str, http_status: int | None, exc: BaseException | None
    ) -> UsageRecord:
        call = self._call
        return UsageRecord(
            time.time() - latency,
            operation,
            call.model or "",
            self._answering,
            call.tags + _tags.get() if call.tags else _tags.get(),
            self._usage,
            latency,
            self._first_token,
            status,
            http_status,
            call.retries,
            self.request_id or getattr(exc, "request_id", None),
            self._catalog,
        )

    def _observe(self, observation: Observation, latency: float, status: str, http_status: int | None) -> None:
        observation.end(
            Outcome(
                seconds=latency,
                first_chunk=self._first_token,
                tokens=read_tokens(self._usage),
                reply=(self._reader.last if self._reader is not None else self._data) or {},
                error=None if status in (OK, LEFT_EARLY) else status,
                http_status=http_status,
                base_url=self._catalog.base_url,
            )
        )


def _name(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _status(exc: BaseException | None) -> tuple[str, int | None]:
    from asyncio import CancelledError

    if isinstance(exc, GeneratorExit):
        return LEFT_EARLY, None
    if isinstance(exc, (CancelledError, KeyboardInterrupt)):
        return CANCELLED, None
    public = next(cls.__name__ for cls in type(exc).__mro__ if not cls.__name__.startswith("_"))
    return public, getattr(exc, "status", None)


class Tokens(NamedTuple):
    """Tokens of one call; None where the server did not say, which is not zero."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    """Part of `prompt`."""
    reasoning: int | None = None
    """Part of `completion`."""


def read_tokens(usage: Any) -> Tokens:
    """Read a reply's `usage`; details come nested or flat, and embeddings name no completion."""
    # A dict nearly always; asking that first is many times faster.
    if not isinstance(usage, (dict, Mapping)):
        return Tokens()
    prompt, completion = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    total = count(usage.get("total_tokens"))
    if total is not None:
        if completion is None and prompt is not None:
            completion = max(0, total - prompt)
        elif prompt is None and completion is not None:
            prompt = max(0, total - completion)
    return Tokens(
        prompt,
        completion,
        _detail(usage, "prompt_tokens_details", "cached_tokens"),
        _detail(usage, "completion_tokens_details", "reasoning_tokens"),
    )


def _detail(usage: Mapping[str, Any], where: str, name: str) -> int | None:
    details = usage.get(where)
    nested = count(details.get(name)) if isinstance(details, dict) else None
    return count(usage.get(name)) if nested is None else nested
