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
    note: str


MODELS = (
    Model(
        "WORDLLAMA.L2_256",
        "EMBEDDING",
        256,
        "SAP_NEB.*",
        "WordLlama, in place of SAP's embedding model",
    ),
    Model(
        "WORDLLAMA.L2_128",
        "EMBEDDING",
        128,
        "SAP_GXY.*",
        "the first half of WordLlama's numbers, in place of SAP's other embedding model",
    ),
    Model(
        "WORDLLAMA.L2_256.COSINE",
        "CROSS_ENCODER",
        0,
        "SAP_CER.*",
        "cosine of WordLlama vectors, in place of SAP's",
    ),
)

_PREFIXES = {"EMBEDDING": ("SAP_NEB.", "SAP_GXY."), "CROSS_ENCODER": ("SAP_CER.",)}


_HALVED = ("WORDLLAMA.L2_128", "SAP_GXY.")


def is_halved(name: str) -> bool:
    """Whether an embedding model gives half as many numbers as the others."""
    return name.upper().startswith(_HALVED)


def known_model(name: str, kind: str) -> bool:
    """Whether a model of this kind answers to the name."""
    upper = name.upper()
    return any(model.kind == kind and model.name == upper for model in MODELS) or upper.startswith(_PREFIXES[kind])
