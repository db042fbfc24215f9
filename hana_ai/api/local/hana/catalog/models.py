"""The models that VECTOR_EMBEDDING and CROSS_ENCODE know by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Model:
    """A row of SYS.LOOPBACK_MODELS."""

    name: str
    kind: str
    dimension: int
    stands_for: str
    """SAP's name for the model that it is in place of, with the version."""
    note: str
    halved: bool = False
    """Whether it gives only the first half of the numbers."""


MODELS = (
    Model(
        "WORDLLAMA.L2_256",
        "EMBEDDING",
        256,
        "SAP_NEB.20240715",
        "WordLlama, in place of SAP's embedding model",
    ),
    Model(
        "WORDLLAMA.L2_128",
        "EMBEDDING",
        128,
        "SAP_GXY.20250407",
        "the first half of WordLlama's numbers, in place of SAP's other embedding model",
        halved=True,
    ),
    Model(
        "WORDLLAMA.L2_256.COSINE",
        "CROSS_ENCODER",
        0,
        "SAP_CER.20250701",
        "cosine of WordLlama vectors, in place of SAP's",
    ),
)


def find_model(name: str, kind: str) -> Model | None:
    """The model of this kind that answers to the name, its own or that of SAP's model with its version."""
    upper = name.upper()
    return next(
        (model for model in MODELS if model.kind == kind and upper in {model.name, model.stands_for}), None
    )


def model_names(kind: str) -> str:
    """SAP's names that are known, for messages."""
    return ", ".join(model.stands_for for model in MODELS if model.kind == kind)
