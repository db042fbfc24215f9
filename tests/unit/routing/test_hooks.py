"""Modules are changed right after their import, whatever the order, and changed back."""

from __future__ import annotations

import abc
import importlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

import pytest

from hana_ai.api.routing.seams import ModuleMaker, Patcher, Seam, UpstreamChanged, check_parameters
from tests.unit.routing.conftest import OwnRouting, ours, patch

Make = Callable[..., OwnRouting]


def toolkit() -> ModuleType:
    return importlib.import_module("upstream_toolkit")


def test_a_module_imported_later_is_routed(make: Make) -> None:
    routing = make()
    routing.activate()
    assert toolkit().Embedder(None).embed("a") == "ours: a"
    assert toolkit().ask("b") == "ours: b"


def test_a_module_imported_before_is_routed_and_so_are_names_and_objects_taken_from_it(make: Make) -> None:
    embedder, ask = toolkit().Embedder(None), toolkit().ask
    make().activate()
    assert (embedder.embed("a"), ask("b")) == ("ours: a", "ours: b")


def test_deactivate_restores_the_very_same_objects(make: Make) -> None:
    before = (toolkit().choose, toolkit().Embedder.__dict__["embed"], list(sys.meta_path))
    routing = make()
    routing.activate()
    assert toolkit().choose is not before[0]
    routing.deactivate()
    assert (toolkit().choose, toolkit().Embedder.__dict__["embed"], list(sys.meta_path)) == before


def test_a_name_that_somebody_copied_while_it_was_routed_calls_the_original_afterwards(make: Make) -> None:
    routing = make()
    routing.activate()
    copied = toolkit().choose
    routing.deactivate()
    assert copied("a") == "theirs: a"
    routing.activate()
    assert toolkit().choose("a") == "ours: a"


def test_what_somebody_else_put_there_since_is_not_lost(make: Make) -> None:
    routing = make()
    routing.activate()
    module = toolkit()
    inner = module.choose
    module.choose = lambda name: f"wrapped {inner(name)}"
    routing.deactivate()
    assert module.choose("a") == "wrapped theirs: a"


def test_activating_twice_changes_nothing(make: Make) -> None:
    routing = make()
    routing.activate()
    choose = toolkit().choose
    routing.activate()
    assert toolkit().choose is choose
    assert len([finder for finder in sys.meta_path if "routing.hooks" in type(finder).__module__]) == 1


def test_a_reloaded_module_is_routed_again(make: Make) -> None:
    routing = make()
    routing.activate()
    module = importlib.reload(toolkit())
    assert module.ask("a") == "ours: a"
    routing.deactivate()
    assert module.ask("a") == "theirs: a"


def test_a_routed_module_and_function_look_like_the_originals(make: Make) -> None:
    plain = toolkit()
    signature, loader = inspect.signature(plain.choose), type(plain.__loader__)
    del sys.modules["upstream_toolkit"]
    make().activate()
    module = toolkit()
    assert inspect.signature(module.choose) == signature
    assert module.choose.__name__ == "choose"
    assert type(module.__loader__) is loader
    assert type(module.__spec__.loader) is loader
    assert inspect.getsource(module.Embedder).startswith("class Embedder")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("class Embedder: pass\ndef choose(name): pass", "there is no Embedder.embed"),
        ("class Embedder:\n def embed(self, words): pass\ndef choose(name): pass", "takes (self, words)"),
        ("class Embedder:\n def embed(self, text): pass\ndef choose(name, more): pass", "takes (name, more)"),
        ("class Embedder:\n def embed(self, text): pass\nchoose = 1", "upstream_toolkit.choose is no function"),
    ],
)
def test_a_seam_that_looks_different_is_reported_and_left_alone(
    make: Make, folder: Path, source: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "upstream_toolkit.py").write_text(source)
    routing = make()
    routing.activate()
    module = toolkit()
    [found] = routing.statuses()
    assert found.state == "upstream changed"
    assert said in found.detail
    assert said in caplog.text
    assert not hasattr(module.choose, "__wrapped__")
    embed = vars(module.Embedder).get("embed")
    assert not hasattr(embed, "__wrapped__"), "half of a seam is worse than none"


def test_optional_parameters_may_be_added_upstream() -> None:
    def newer(self: object, text: str, *, fast: bool = False, **more: object) -> None: ...

    check_parameters(newer, ["self", "text"], "newer")
    with pytest.raises(UpstreamChanged):
        check_parameters(newer, ["self", "text", "size"], "newer")


def test_the_status_says_what_is_not_installed_and_what_is_not_imported_yet(make: Make) -> None:
    routing = make(
        Seam("here", "upstream_toolkit", "pytest", "is routed", patch),
        Seam("elsewhere", "no_such_module", "no-such-distribution", "", patch),
    )
    assert [(seam.state, seam.version is None) for seam in routing.statuses()] == [
        ("off", False),
        ("not installed", True),
    ]
    routing.activate()
    assert [seam.state for seam in routing.statuses()] == ["on import", "not installed"]
    toolkit()
    assert [seam.state for seam in routing.statuses()] == ["routed", "not installed"]


def test_a_seam_can_stay_for_a_reason(make: Make) -> None:
    routing = make(Seam("toolkit", "upstream_toolkit", "pytest", "", patch, lambda: "nothing to route to"))
    routing.activate()
    toolkit()
    [found] = routing.statuses()
    assert (found.state, found.detail) == ("stays", "nothing to route to")


def test_a_missing_module_is_made_and_taken_away_again(make: Make, folder: Path) -> None:
    package = folder / "upstream_package"
    package.mkdir()
    (package / "__init__.py").write_text("")

    def fill(module: ModuleType) -> None:
        module.found = 1  # type: ignore[attr-defined]

    maker = ModuleMaker("gone", "upstream_package.gone", "pytest", needs="json", fill=fill)
    routing = make(makers=(maker,))
    assert maker.status(True).state == "on import"
    routing.activate()
    assert importlib.import_module("upstream_package.gone").found == 1
    assert maker.status(True).state == "routed"
    routing.deactivate()
    assert "upstream_package.gone" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("upstream_package.gone")


def test_a_module_that_is_there_is_not_made(make: Make, folder: Path) -> None:
    package = folder / "upstream_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "gone.py").write_text("found = 'theirs'")
    maker = ModuleMaker("gone", "upstream_package.gone", "pytest", needs="json", fill=lambda module: None)
    make(makers=(maker,)).activate()
    assert importlib.import_module("upstream_package.gone").found == "theirs"
    assert maker.status(True).state == "not needed"


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Let threads take turns after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_threads")
def test_threads_that_import_while_others_switch_see_theirs_or_ours_and_nothing_else(
    make: Make, folder: Path
) -> None:
    names = [f"upstream_toolkit_{number}" for number in range(20)]
    for name in names:
        (folder / f"{name}.py").write_text((folder / "upstream_toolkit.py").read_text())
    importlib.invalidate_caches()
    # At the first new file after a change of sys.path, coverage takes every module out of sys.modules that any
    # thread imports in that moment. Let it do so before there are threads.
    toolkit()
    routing = make(*(Seam(name, name, "pytest", "", patch) for name in names))
    seen: set[str] = set()
    failed: list[BaseException] = []
    go, done = threading.Event(), threading.Event()

    def begin(work: Callable[..., None], *arguments: object) -> threading.Thread:
        """Start a thread, and return when it is past the beginning, where coverage traces one at a time."""
        there = threading.Event()

        def run() -> None:
            there.set()
            go.wait(60)
            work(*arguments)

        thread = threading.Thread(target=run)
        thread.start()
        assert there.wait(60)
        return thread

    def switch() -> None:
        while not done.is_set():
            routing.activate()
            routing.deactivate()

    def use(order: list[str]) -> None:
        try:
            for name in order:
                seen.add(importlib.import_module(name).ask("a"))
        except BaseException as exc:  # noqa: BLE001 - the test reads it
            failed.append(exc)

    switching = begin(switch)
    users = [begin(use, names[start:] + names[:start]) for start in range(0, 20, 5)]
    go.set()
    for thread in users:
        thread.join(60)
    done.set()
    switching.join(60)
    assert failed == []
    assert seen <= {"ours: a", "theirs: a"}
    routing.activate()
    assert {sys.modules[name].ask("a") for name in names} == {"ours: a"}
    routing.deactivate()
    assert {sys.modules[name].ask("a") for name in names} == {"theirs: a"}


class Waiting(MetaPathFinder):
    """Finds nothing, and takes its time over one module."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.asked, self.go_on = threading.Event(), threading.Event()

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == self.module:
            self.asked.set()
            assert self.go_on.wait(60)


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    """Stands right before the finder that looks along `sys.path`."""
    finder = Waiting("upstream_toolkit")
    sys.meta_path.insert(sys.meta_path.index(PathFinder), finder)
    yield finder
    finder.go_on.set()
    sys.meta_path.remove(finder)


def test_deactivating_lets_no_import_of_another_thread_miss_a_finder(make: Make, waiting: Waiting) -> None:
    routing = make(Seam("another", "upstream_another", "pytest", "", patch))
    routing.activate()
    with ThreadPoolExecutor(1) as pool:
        importing = pool.submit(toolkit)
        assert waiting.asked.wait(60)
        routing.deactivate()
        waiting.go_on.set()
        assert importing.result(60).ask("a") == "theirs: a"


def test_a_module_that_another_thread_is_about_to_load_is_waited_for_and_routed(
    make: Make, waiting: Waiting
) -> None:
    routing = make()
    with ThreadPoolExecutor(2) as pool:
        importing = pool.submit(toolkit)
        assert waiting.asked.wait(60)
        activating = pool.submit(routing.activate)
        with pytest.raises(TimeoutError):
            activating.result(0.2)
        waiting.go_on.set()
        activating.result(60)
        assert importing.result(60).ask("a") == "ours: a"


def test_a_patch_that_fails_in_a_way_nobody_thought_of_fails_no_import_and_is_reported(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(module: ModuleType, patcher: Patcher) -> None:
        patcher.replace(module, "choose", ours, ["name"])
        raise ImportError("a module of a third one is gone")

    routing = make(Seam("toolkit", "upstream_toolkit", "pytest", "", broken))
    routing.activate()
    assert toolkit().ask("a") == "theirs: a"
    [found] = routing.statuses()
    assert (found.state, found.detail) == ("upstream changed", "a module of a third one is gone")
    assert "a module of a third one is gone" in caplog.text


def test_a_module_that_upstream_dropped_is_reported_without_importing_anything(make: Make, folder: Path) -> None:
    package = folder / "upstream_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemError('imported')")
    (package / "there.py").write_text("")
    routing = make(
        Seam("there", "upstream_package.there", "pytest", "is routed", patch),
        Seam("gone", "upstream_package.gone", "pytest", "is routed", patch),
    )
    routing.activate()
    assert [(seam.state, seam.detail) for seam in routing.statuses()] == [
        ("on import", "is routed"),
        ("upstream changed", "there is no module upstream_package.gone"),
    ]


# --- constructing something else ---


def constructing(make_other: Callable[..., object | None]) -> Seam:
    def patch_class(module: ModuleType, patcher: Patcher) -> None:
        patcher.construct(module.Model, make_other)

    return Seam("toolkit", "upstream_toolkit", "pytest", "is routed", patch_class)


def test_a_class_makes_something_else_and_its_subclasses_do_not(make: Make) -> None:
    before = toolkit().Model
    metaclass = type(before)

    class Derived(before):  # type: ignore[misc, valid-type]
        pass

    routing = make(constructing(lambda connection, model="": f"ours: {model}" if model else None))
    routing.activate()
    assert before(None, model="a") == "ours: a"
    assert type(before(None)) is before, "None leaves it to the class"
    assert type(Derived(None, "a")) is Derived
    assert (type(before).__name__, before.__qualname__) == (metaclass.__name__, "Model")

    class Later(before):  # type: ignore[misc, valid-type]
        pass

    assert type(Later(None, "a")) is Later
    routing.deactivate()
    assert type(before) is metaclass
    assert type(before(None, model="a")) is before
    assert type(Later(None, "a")) is Later


def test_a_class_is_exchanged_once_and_what_somebody_else_made_of_it_is_not_lost(make: Make) -> None:
    class Theirs(abc.ABCMeta):
        pass

    owner = toolkit().Model
    routing = make(constructing(lambda *arguments: "ours"), constructing(lambda *arguments: "again"))
    routing.activate()
    assert owner(None) == "ours"
    owner.__class__ = Theirs
    routing.deactivate()
    assert type(owner) is Theirs
    assert type(owner(None)) is owner


def test_what_constructing_raises_reaches_the_caller(make: Make) -> None:
    def fail(*arguments: object) -> None:
        raise ValueError("no such argument")

    make(constructing(fail)).activate()
    with pytest.raises(ValueError, match="no such argument"):
        toolkit().Model(None)


def test_a_class_without_a_metaclass_of_its_own_is_reported(make: Make) -> None:
    def patch_class(module: ModuleType, patcher: Patcher) -> None:
        patcher.construct(module.Embedder, lambda *arguments: "ours")

    routing = make(Seam("toolkit", "upstream_toolkit", "pytest", "is routed", patch_class))
    routing.activate()
    assert isinstance(toolkit().Embedder(None), toolkit().Embedder)
    assert [(seam.state, seam.detail) for seam in routing.statuses()] == [
        ("upstream changed", "Embedder has no metaclass that could be exchanged")
    ]
