"""A server on 127.0.0.1 that speaks HANA's SQL Command Network Protocol, with DuckDB as its engine.

`LocalHana` starts it for Python and pytest, ``python -m hana_ai.api.local.hana`` for everybody else. It is a
substitute for tests and demos and not HANA: what it cannot do, it refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hana_ai.api.local.hana.process import LocalHana
    from hana_ai.api.local.hana.protocol.server import HanaServer

__all__ = ["HanaServer", "LocalHana"]

_MODULES = {"LocalHana": "process", "HanaServer": "protocol.server"}


def __getattr__(name: str) -> object:
    # The server needs DuckDB, sqlglot and numpy; importing the package alone should not load them.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
