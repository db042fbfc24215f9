"""A batch as the API tells of it, and one line of its results. Pure functions: no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from hana_ai.api.errors import TogetherAIResponseError
from hana_ai.api.wire.shapes import shown
from hana_ai.api.wire.token_counts import Tokens, read_tokens

CHAT = "/v1/chat/completions"
ENDS = ("COMPLETED", "FAILED", "EXPIRED", "CANCELLED")

_T = TypeVar("_T")


@dataclass(frozen=True)
class Batch:
    """A batch job."""

    id: str
    status: str
    """VALIDATING, IN_PROGRESS, COMPLETED, FAILED, EXPIRED or CANCELLED; another word is kept as it came."""
    progress: float
    """Of its requests, in percent."""
    input_file_id: str
    endpoint: str = CHAT
    model: str | None = None
    created_at: datetime | None = None
    completed_at: datetime | None = None
    deadline: datetime | None = None
    """When it expires."""
    output_file_id: str | None = None
    """The answers; None while there are none."""
    error_file_id: str | None = None
    """The requests that failed; None while there are none."""
    error: str | None = None
    """Why it failed as a whole."""

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self.status in ENDS


@dataclass(frozen=True)
class BatchEstimate:
    """What requests would be as batches."""

    requests: int
    batches: int
    """How many batches they are split over."""
    bytes: int
    prompt_tokens: int
    """About."""
    completion_tokens: int | None
    """At most, by the requests' `max_tokens`; None where one has none."""
    cost_usd: Decimal | None
    """For these tokens; without the completion where that is not bounded. None if the price is unknown."""


@dataclass(frozen=True)
class BatchResult:
    """What came of one request."""

    custom_id: str
    body: Mapping[str, object] | None = field(default=None, repr=False)
    """The reply as the server sent it; None for a request that failed."""
    error: str | None = None
    """Why the request failed; None for one that was answered."""

    @property
    def text(self) -> str | None:
        """The answer of a chat model; None where there is none."""
        choices = None if self.body is None else self.body.get("choices")
        first = choices[0] if isinstance(choices, Sequence) and choices else None
        message = first.get("message") if isinstance(first, Mapping) else None
        content = message.get("content") if isinstance(message, Mapping) else None
        return content if isinstance(content, str) else None

    @property
    def tokens(self) -> Tokens:
        """What the request took."""
        return read_tokens(None if self.body is None else self.body.get("usage"))


class _Job(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    id: str = Field(min_length=1)
    status: str
    input_file_id: str = ""
    progress: float = 0.0
    endpoint: str = CHAT
    model_id: str | None = None
    created_at: datetime | None = None
    completed_at: datetime | None = None
    job_deadline: datetime | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    error: str | None = None

    def batch(self) -> Batch:
        return Batch(
            id=self.id,
            status=self.status,
            progress=self.progress,
            input_file_id=self.input_file_id,
            endpoint=self.endpoint,
            model=self.model_id or None,
            created_at=self.created_at,
            completed_at=self.completed_at,
            deadline=self.job_deadline,
            output_file_id=self.output_file_id or None,
            error_file_id=self.error_file_id or None,
            error=self.error or None,
        )


class _Created(BaseModel):
    job: _Job


class _File(BaseModel):
    id: str
    filename: str = ""


class _Files(BaseModel):
    data: list[_File]


_JOB, _JOBS, _CREATED, _FILES = (
    TypeAdapter(_Job),
    TypeAdapter(list[_Job]),
    TypeAdapter(_Created),
    TypeAdapter(_Files),
)


def read_batch(body: bytes) -> Batch:
    """Read the reply that tells of one batch.

    Raises
    ------
    TogetherAIResponseError
        It does not fit; as for the other readers here.
    """
    return _read(_JOB, body).batch()


def read_batches(body: bytes) -> list[Batch]:
    """Read the list of batches."""
    return [job.batch() for job in _read(_JOBS, body)]


def read_created(body: bytes) -> Batch:
    """Read the reply to a batch's creation."""
    return _read(_CREATED, body).job.batch()


def read_files(body: bytes) -> dict[str, str]:
    """Read the list of files: their ids by their names."""
    return {file.filename: file.id for file in _read(_FILES, body).data}


def _read(adapter: TypeAdapter[_T], body: bytes) -> _T:
    try:
        return adapter.validate_json(body)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "its top"
        raise TogetherAIResponseError(
            f"the reply about batches does not fit at {place}: {first['msg']}, not {shown(first['input'])}",
            hint="Check TOGETHER_BASE_URL, and whether another server answers in Together's place.",
        ) from None


def read_result(line: bytes) -> BatchResult:
    """Read a line of a batch's output or of its errors.

    Raises
    ------
    TogetherAIResponseError
        It is no such line.
    """
    try:
        read: object = orjson.loads(line)
    except orjson.JSONDecodeError:
        read = None
    id = read.get("custom_id") if isinstance(read, dict) else None
    if not isinstance(read, dict) or not isinstance(id, str):
        raise TogetherAIResponseError(f"a line of a batch's results is none: {shown(line)}")
    response = read.get("response")
    body = response.get("body") if isinstance(response, Mapping) else None
    status = response.get("status_code") if isinstance(response, Mapping) else None
    error = read.get("error")
    if error is None and status in (200, None) and isinstance(body, Mapping):
        return BatchResult(id, body)
    if error is None and isinstance(body, Mapping):
        error = body.get("error", body)
    return BatchResult(id, error=_message(error) or f"status {status}")


def _message(error: object) -> str:
    message = error.get("message") if isinstance(error, Mapping) else error
    return "" if message is None else str(message)
