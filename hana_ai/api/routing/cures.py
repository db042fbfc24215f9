"""What is broken in hana_ai with today's packages, and cured where it is.

Each cure is applied only where it is needed, and listed by `status()`. The test of each one fails when upstream
has put the thing right, and says that the cure can go.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from hana_ai.api.routing.hooks import ModuleMaker


def _fill_hanavector(module: ModuleType) -> None:
    from langchain_hana import HanaDB

    module.__doc__ = "Stands in for the module that langchain-community 0.4.2 dropped."
    module.HanaDB = HanaDB  # type: ignore[attr-defined]
    module.__all__ = ["HanaDB"]  # type: ignore[attr-defined]


def makers() -> Sequence[ModuleMaker]:
    """The modules that hana_ai imports and that are gone."""
    return (
        ModuleMaker(
            "langchain_community's HanaDB",
            "langchain_community.vectorstores.hanavector",
            "langchain-community",
            needs="langchain_hana",
            fill=_fill_hanavector,
            what="gone since 0.4.2, which breaks hana_ai.mem0 and three agents; langchain_hana's stands in",
        ),
    )
