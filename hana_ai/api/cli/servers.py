"""The stand-ins that the demo starts itself, and the weights of their models."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from hana_ai.api.local.weights import COMMAND, fetch

from .console import Problem

if TYPE_CHECKING:
    from hana_ai.api.local.together import LocalTogether

_EXTRA = "pip install 'hana-ai-together[local]'"


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

        # The model is loaded when it is first asked; a missing package is told before anything is embedded.
        import_module("xllamacpp")
        return LocalTogether(LlamaCppEngine(), WordLlamaEngine())
    except ModuleNotFoundError as exc:
        raise missing_package(exc) from exc
    except FileNotFoundError as exc:
        raise Problem(f"{exc} (or set TOGETHER_API_KEY to use Together AI)") from exc


def missing_package(exc: ModuleNotFoundError) -> Problem:
    """What to say where a package of the extra is missing."""
    return Problem(
        f"The local stand-ins need the package {exc.name}. Run: {_EXTRA} && {COMMAND} "
        "(or set TOGETHER_API_KEY to use Together AI)"
    )
