"""A fine-tuning job, with its states, events, metrics and checkpoints."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ...refusal import JSON
from ...requests import JSONObject
from ..clock import stamp
from ..files import DataFile
from ..management import RegisteredModel

Status: TypeAlias = Literal[
    "pending",
    "queued",
    "running",
    "compressing",
    "uploading",
    "cancel_requested",
    "cancelled",
    "error",
    "completed",
]
ENDS: tuple[Status, ...] = ("cancelled", "error", "completed")
WORK: tuple[Status, ...] = ("queued", "running", "compressing", "uploading")
"""What a job goes through after `pending`."""

_COPIED = (
    "from_checkpoint",
    "from_hf_model",
    "hf_model_revision",
    "learning_rate",
    "lr_scheduler",
    "max_grad_norm",
    "max_seq_length",
    "model",
    "multimodal_params",
    "packing",
    "random_seed",
    "suffix",
    "training_file",
    "training_method",
    "training_type",
    "validation_file",
    "wandb_entity",
    "wandb_name",
    "wandb_project_name",
    "warmup_ratio",
    "weight_decay",
)
"""The fields of a request that a job shows as they came."""


@dataclass
class FineTuneDials:
    """Settings that a test may change at any time; times are in seconds."""

    step: float = 0.05
    """How long a job stays in each state before it ends."""
    next_failure: str | None = None
    """The next job that runs ends in the state `error` with this message."""
    price: float = 0.48
    """USD per 1M tokens of training."""
    limit: float = 100.0
    """What the account may spend on one job, in USD."""


@dataclass
class Checkpoint:
    """What a job saved at a step."""

    step: int
    final: bool
    created_at: str = field(default_factory=stamp)


@dataclass
class FineTune:
    """A job.

    Attributes
    ----------
    lines, tokens
        Of the training file, times epochs for the tokens.
    price
        USD.
    steps
        Of the optimizer, all epochs together.
    adapter, merged
        The models that came out of it; a full training has no adapter.
    """

    request: JSONObject
    file: DataFile
    output_name: str
    batch_size: int
    epochs: int
    lines: int
    tokens: int
    price: float
    id: str = field(default_factory=lambda: f"ft-{uuid.uuid4()}")
    created_at: str = field(default_factory=stamp)
    updated_at: str = field(default_factory=stamp)
    started_at: str = ""
    status: Status = "pending"
    step: int = 0
    events: list[dict[str, JSON]] = field(default_factory=list)
    metrics: list[tuple[str, dict[str, float]]] = field(default_factory=list)
    """Each with the moment that it was logged."""
    checkpoints: list[Checkpoint] = field(default_factory=list)
    adapter: RegisteredModel | None = None
    merged: RegisteredModel | None = None

    @property
    def lora(self) -> bool:
        """Whether an adapter is trained, as it is by default."""
        kind = self.request.get("training_type")
        return not isinstance(kind, dict) or kind.get("type") != "Full"

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self.status in ENDS

    @property
    def steps(self) -> int:
        """Steps of the optimizer."""
        return max(1, -(-self.lines // self.batch_size)) * self.epochs

    def enter(self, status: Status, event: str, message: str) -> None:
        """Go to a state."""
        if self.ended:
            raise RuntimeError(f"A job that is {self.status} cannot become {status}.")
        self.status = status
        if status == "running" and not self.started_at:
            self.started_at = stamp()
        self.note(event, message, "error" if status == "error" else "info")

    def note(self, event: str, message: str, level: str = "info") -> None:
        """Add to the job's events."""
        self.updated_at = stamp()
        self.events.append(
            {
                "object": "fine-tune-event",
                "type": event,
                "message": message,
                "level": level,
                "created_at": self.updated_at,
                "checkpoint_path": "",
                "hash": "",
                "model_path": "",
                "param_count": 0,
                "step": self.step,
                "token_count": self.tokens,
                "total_steps": self.steps,
                "training_offset": 0,
                "wandb_url": "",
            }
        )

    def summary(self) -> dict[str, JSON]:
        """The job as lists show it; what there is not yet is left out."""
        shown: dict[str, JSON] = {
            "id": self.id,
            "status": self.status,
            "user_id": "user_local",
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "batch_size": self.batch_size,
            "events": list(self.events),
            "model_output_name": self.output_name,
            "n_epochs": self.epochs,
            "n_evals": self.request.get("n_evals", 0),
            "n_checkpoints": self.request.get("n_checkpoints", 1),
            "token_count": self.tokens,
            "total_price": round(self.price * 1e9),  # billionths of a dollar
            "progress": {"estimate_available": self.status == "running", "seconds_remaining": 0},
        }
        shown |= {name: self.request[name] for name in _COPIED if self.request.get(name) is not None}
        if self.started_at:
            shown["started_at"] = self.started_at
        return shown

    def wire(self) -> dict[str, JSON]:
        """The job on its own."""
        shown = self.summary()
        shown |= {
            "job_id": self.id,
            "epochs_completed": self.step * self.epochs // self.steps,
            "queue_depth": int(self.status in ("pending", "queued")),
            "param_count": 0,
            "trainingfile_numlines": self.lines,
            "trainingfile_size": self.file.size,
        }
        for kind, model in (("adapter", self.adapter), ("model", self.merged)):
            if model is not None:
                shown |= {
                    f"{kind}_object_id": model.id,
                    f"{kind}_object_name": model.full_name,
                    f"{kind}_object_revision_id": model.revisions[-1].id,
                }
        if self.merged is not None:
            shown["model_output_path"] = f"s3://local/{self.id}"
        return shown

    def listed_checkpoints(self) -> list[JSON]:
        """The checkpoints, the last one first."""
        found: list[JSON] = []
        for one in sorted(self.checkpoints, key=lambda one: -one.step):
            label = "Final" if one.final else f"Intermediate (step {one.step})"
            shown: dict[str, JSON] = {
                "step": one.step,
                "created_at": one.created_at,
                "path": f"s3://local/{self.id}/{one.step}",
                "checkpoint_type": f"{label} {'LoRA adapter' if self.lora else 'model'}",
                "checkpoint": "adapter" if self.lora else "model",
            }
            model = self.adapter or self.merged
            if one.final and model is not None:
                shown |= {"object_id": model.id, "object_name": model.full_name}
                shown["object_revision_id"] = model.revisions[-1].id
            found.append(shown)
        return found
