"""A toolkit made for the tests: modules on a path, and a `Routing` with seams for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from hana_ai.api.routing.hooks import Routing
from hana_ai.api.routing.seams import ModuleMaker, Patcher, Seam, SeamStatus

SOURCE = """
import abc

class Embedder:
    def __init__(self, connection, model="theirs"):
        self.model = model
    def embed(self, text):
        return "theirs: " + text

class Model(abc.ABC):
    def __init__(self, connection, model="theirs"):
        self.model = model

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


class OwnRouting:
    """A routing of these seams and makers."""

    def __init__(self, seams: tuple[Seam, ...], makers: tuple[ModuleMaker, ...]) -> None:
        self._routing = Routing()
        self._places = (seams, makers)

    def activate(self) -> None:
        self._routing.activate(*self._places)

    def deactivate(self) -> None:
        self._routing.deactivate()

    def statuses(self) -> list[SeamStatus]:
        return self._routing.statuses(*self._places)


@pytest.fixture
def make(folder: Path) -> Iterator[Callable[..., OwnRouting]]:
    made: list[OwnRouting] = []

    def routing(*seams: Seam, makers: tuple[ModuleMaker, ...] = ()) -> OwnRouting:
        found = seams or (Seam("toolkit", "upstream_toolkit", "pytest", "is routed", patch),)
        made.append(OwnRouting(found, makers))
        return made[-1]

    yield routing
    for one in made:
        one.deactivate()
