"""`hana-ai-together serve ...`, and the stand-ins that the demo starts itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hana_ai.api.local.weights import COMMAND, fetch

from .console import Problem

if TYPE_CHECKING:
    from hana_ai.api.local.together import LocalTogether

_EXTRA = "pip install 'hana-ai-together[local]'"


def serve_together(*, host: str, port: int, engine: str, gguf: Path | None) -> int:
    """Run the loopback Together server until it is stopped."""
    try:
        from hana_ai.api.local.together.__main__ import main
    except ModuleNotFoundError as exc:
        raise _missing(exc) from exc
    arguments = ["--host", host, "--port", str(port), "--engine", engine]
    if gguf is not None:
        arguments += ["--gguf", str(gguf)]
    return main(arguments)


def serve_hana(*, host: str, port: int, db: Path | None) -> int:
    """Run the loopback HANA server until it is stopped."""
    try:
        from hana_ai.api.local.hana.__main__ import main

        return main(["--address", host, "--port", str(port), *(["--db", str(db)] if db is not None else [])])
    except ModuleNotFoundError as exc:
        raise _missing(exc) from exc


def fetch_weights(folder: Path | None) -> int:
    """Fetch what is missing of the local models' weights, and say where they are."""
    for path in fetch(folder=folder):
        print(path)
    return 0


def local_together() -> LocalTogether:
    """A loopback Together server with small real models, not yet started.

    Raises
    ------
    Problem
        A package or the models' weights are missing; the message says what to install.
    """
    try:
        from hana_ai.api.local.together import LocalTogether
        from hana_ai.api.local.together.engines.llama import LlamaCppEngine
        from hana_ai.api.local.together.engines.wordllama_engine import WordLlamaEngine

        return LocalTogether(LlamaCppEngine(), WordLlamaEngine())
    except ModuleNotFoundError as exc:
        raise _missing(exc) from exc
    except FileNotFoundError as exc:
        raise Problem(f"{exc} (or set TOGETHER_API_KEY to use Together AI)") from exc


def _missing(exc: ModuleNotFoundError) -> Problem:
    return Problem(
        f"The local stand-ins need the package {exc.name}. Run: {_EXTRA} && {COMMAND} "
        "(or set TOGETHER_API_KEY to use Together AI)"
    )
