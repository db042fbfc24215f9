"""A toolkit of the test's own: modules on a path, and a `Routing` with seams for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from hana_ai.api.routing.hooks import ModuleMaker, Patcher, Routing, Seam

SOURCE = """
class Embedder:
    def __init__(self, connection, model="theirs"):
        self.model = model
    def embed(self, text):
        return "theirs: " + text

def choose(name, *, size=1):
    return "theirs: " + name

def ask(name):
    return choose(name)
"""


def ours(original: Callable[..., str], *args: object, **kwargs: object) -> str:
    return "ours: " + str(args[-1])


def patch(module: ModuleType, patcher: Patcher) -> None:
    patcher.replace(module.Embedder, "embed", ours, ["self", "text"])
    patcher.replace(module, "choose", ours, ["name"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "upstream_toolkit.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith(("upstream_toolkit", "upstream_package"))]:
        del sys.modules[name]


@pytest.fixture
def make(folder: Path) -> Iterator[Callable[..., Routing]]:
    made: list[Routing] = []

    def routing(*seams: Seam, makers: tuple[ModuleMaker, ...] = ()) -> Routing:
        found = seams or (Seam("toolkit", "upstream_toolkit", "pytest", "is routed", patch),)
        made.append(Routing(lambda: found, lambda: makers))
        return made[-1]

    yield routing
    for one in made:
        one.deactivate()
