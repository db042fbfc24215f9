"""A server on 127.0.0.1 that speaks Together's HTTP API, with small real models behind it.

It stands in for Together where there is no key: in the demo, in tests, in notebooks without a network. Its
answers are those of small local models (or of a script), never of Together's quality, and its models are
named `local/...`.

>>> from hana_ai.api.local.together import LocalTogether, ScriptedEngine
>>> with LocalTogether(ScriptedEngine()) as server:
...     os.environ.update(server.environment())

The names are resolved when they are used: importing this package needs nothing of the extra `local`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engine import Engine, EngineBase, LocalModel, Piece, Usage
    from .engines.llama import LlamaCppEngine
    from .engines.wordllama_engine import WordLlamaEngine
    from .process import TogetherProcess
    from .refusal import Refusal
    from .scripted.engine import ScriptedEngine
    from .scripted.script import Call, Received, Reply
    from .server import LocalTogether

_HOME = {
    "Call": "scripted.script",
    "Engine": "engine",
    "EngineBase": "engine",
    "LlamaCppEngine": "engines.llama",
    "LocalModel": "engine",
    "LocalTogether": "server",
    "Piece": "engine",
    "Received": "scripted.script",
    "Refusal": "refusal",
    "Reply": "scripted.script",
    "ScriptedEngine": "scripted.engine",
    "TogetherProcess": "process",
    "Usage": "engine",
    "WordLlamaEngine": "engines.wordllama_engine",
}

__all__ = [
    "Call",
    "Engine",
    "EngineBase",
    "LlamaCppEngine",
    "LocalModel",
    "LocalTogether",
    "Piece",
    "Received",
    "Refusal",
    "Reply",
    "ScriptedEngine",
    "TogetherProcess",
    "Usage",
    "WordLlamaEngine",
]


def __getattr__(name: str) -> object:
    """The public names, imported when they are asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
