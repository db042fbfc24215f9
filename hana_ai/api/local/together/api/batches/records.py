"""A batch and its states: VALIDATING, IN_PROGRESS, then one of COMPLETED, FAILED, EXPIRED and CANCELLED."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias, get_args

from ...refusal import JSON
from ..clock import written
from ..files import DataFile

End: TypeAlias = Literal["COMPLETED", "FAILED", "EXPIRED", "CANCELLED"]
Status: TypeAlias = Literal["VALIDATING", "IN_PROGRESS"] | End

ENDS: tuple[str, ...] = get_args(End)
CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
AUDIO = ("/v1/audio/transcriptions", "/v1/audio/translations")

WINDOW_HOURS = 24
"""Together's only completion window."""


@dataclass
class BatchDials:
    """Settings that a test may change at any time; times are in seconds."""

    validating: float = 0.1
    """From a batch's creation until its file is read."""
    line: float = 0.0
    """Before each request."""
    hour: float = 3600.0
    """What `completion_window` counts."""
    concurrency: int = 4
    """How many requests of a batch are answered at a time; read when it begins."""
    next_failure: str | None = None
    """The next batch that begins ends FAILED with this message."""
    endpoints: tuple[str, ...] = (CHAT, *AUDIO)
    """The endpoints that batches may name: those of the SDK's type, without completions and embeddings."""
    most_requests: int = 50_000
    """How many requests a file may hold."""
    most_bytes: int = 100 * 1024 * 1024
    """How large a file may be."""


@dataclass
class Batch:
    """A batch job.

    Attributes
    ----------
    begun, deadline
        Moments of the clock, in seconds.
    done, total
        Requests that are answered, well or not, and all of them.
    """

    input: DataFile
    endpoint: str
    begun: float
    deadline: float
    model: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    status: Status = field(default="VALIDATING", init=False)
    done: int = field(default=0, init=False)
    total: int = field(default=0, init=False)
    error: str = field(default="", init=False)
    output_file_id: str = field(default="", init=False)
    error_file_id: str = field(default="", init=False)
    completed: float | None = field(default=None, init=False)

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self.status in ENDS

    @property
    def progress(self) -> float:
        """The share of the requests that are answered, in percent."""
        if self.status == "COMPLETED":
            return 100.0
        return round(100 * self.done / self.total, 2) if self.total else 0.0

    def begin(self, total: int, model: str) -> None:
        """Go from VALIDATING to IN_PROGRESS."""
        if self.status != "VALIDATING":
            raise RuntimeError(f"A batch that is {self.status} cannot begin.")
        self.status, self.total, self.model = "IN_PROGRESS", total, model

    def end(self, status: End, now: float, error: str = "") -> None:
        """Go to a state that stays."""
        if self.ended:
            raise RuntimeError(f"A batch that is {self.status} cannot become {status}.")
        self.status, self.error = status, error
        self.completed = now if status == "COMPLETED" else None

    def wire(self) -> dict[str, JSON]:
        """The batch as the API shows it; what there is not yet is left out."""
        shown: dict[str, JSON] = {
            "id": self.id,
            "user_id": "user_local",
            "input_file_id": self.input.id,
            "file_size_bytes": self.input.size,
            "status": self.status,
            "job_deadline": self._moment(self.deadline),
            "created_at": self._moment(self.begun),
            "endpoint": self.endpoint,
            "progress": self.progress,
        }
        more = {
            "model_id": self.model,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "error": self.error,
        }
        shown |= {name: value for name, value in more.items() if value}
        if self.completed is not None:
            shown["completed_at"] = self._moment(self.completed)
        return shown

    def _moment(self, moment: float) -> str:
        return written(self.created_at + timedelta(seconds=moment - self.begun))
