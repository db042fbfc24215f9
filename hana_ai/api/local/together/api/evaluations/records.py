"""An evaluation and its states: pending, queued, running, then one of completed, error and user_error."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from ...refusal import JSON
from ...requests import JSONObject
from ..clock import stamp
from ..files import DataFile

Kind: TypeAlias = Literal["classify", "score", "compare"]
Status: TypeAlias = Literal["pending", "queued", "running", "completed", "error", "user_error"]
ENDS: tuple[Status, ...] = ("completed", "error", "user_error")
_SECRET = "external_api_token"


@dataclass
class EvaluationDials:
    """Settings that a test may change at any time."""

    step: float = 0.05
    """Seconds in each state before the rows are judged."""
    next_failure: str | None = None
    """The next evaluation that runs ends in the state `error` with this message."""


@dataclass
class Evaluation:
    """An evaluation."""

    type: Kind
    parameters: JSONObject
    file: DataFile
    id: str = field(default_factory=lambda: f"eval-{secrets.token_hex(4)}-{int(datetime.now(UTC).timestamp())}")
    created_at: str = field(default_factory=stamp)
    status: Status = field(default="pending", init=False)
    results: dict[str, JSON] | None = field(default=None, init=False)
    updates: list[dict[str, JSON]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        """Note the first state."""
        self.enter("pending", "The evaluation is created.")

    def enter(self, status: Status, message: str, results: dict[str, JSON] | None = None) -> None:
        """Go to a state."""
        if self.status in ENDS:
            raise RuntimeError(f"An evaluation that is {self.status} cannot become {status}.")
        self.status, self.results = status, results
        self.updates.append({"status": status, "message": message, "timestamp": stamp()})

    def wire(self) -> dict[str, JSON]:
        """The evaluation as the API shows it; keys of other services are not shown."""
        shown: dict[str, JSON] = {
            "workflow_id": self.id,
            "type": self.type,
            "owner_id": "user_local",
            "status": self.status,
            "status_updates": list(self.updates),
            "parameters": _without_secrets(self.parameters),
            "created_at": self.created_at,
            "updated_at": self.updates[-1]["timestamp"],
        }
        if self.results is not None:
            shown["results"] = self.results
        return shown


def _without_secrets(parameters: JSONObject) -> dict[str, JSON]:
    return {
        name: _without_secrets(value) if isinstance(value, dict) else value
        for name, value in parameters.items()
        if name != _SECRET
    }
