"""Change modules of other distributions right after they are imported, and change them back.

A finder at the front of `sys.meta_path` lets the import system load a module as ever and then hands it to the
seams that want it, so the order of imports never matters; modules that are imported already are changed at once.
What stands in the place of an original calls the original as soon as the routing is switched off, so that even a
name that somebody copied, or wrapped, behaves as before.

This module imports nothing but the standard library: it runs in processes that never use Together.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Literal

logger = logging.getLogger(__name__)

State = Literal["routed", "on import", "not needed", "not installed", "upstream changed", "stays", "off"]
"""How a seam is doing.

`on import`: installed, and routed as soon as it is imported. `not needed`: a cure for something that is not
broken here. `stays`: the toolkit's own way is kept, and the detail says why.
"""


class UpstreamChanged(Exception):  # noqa: N818 - a finding, not a failure: it ends in status(), not at the user
    """A place does not look as it did when its seam was written; the message says how."""


class _NotNeeded(Exception):  # noqa: N818 - as above
    """There is nothing to do here."""


@dataclass(frozen=True)
class Seam:
    """One place where the toolkit is routed.

    Attributes
    ----------
    name
        For people, unique.
    module
        The module that is changed.
    distribution
        The one that the module belongs to; its version is part of the status.
    what
        What becomes of it, in a few words.
    patch
        Changes the module through a `Patcher`; raises `UpstreamChanged` when it does not look as expected.
    stays
        Asked by `status()`: why the toolkit's own way is kept at the moment, or None.
    """

    name: str
    module: str
    distribution: str
    what: str
    patch: Callable[[ModuleType, Patcher], None] = field(repr=False)
    stays: Callable[[], str | None] = field(default=lambda: None, repr=False)


@dataclass(frozen=True)
class SeamStatus:
    """What `status()` says of one seam."""

    name: str
    module: str
    distribution: str
    version: str | None
    """None when the distribution is not installed."""
    state: State
    detail: str = ""


class Patcher:
    """Replaces attributes and remembers what was there. One for each change of a module."""

    def __init__(self, is_active: Callable[[], bool]) -> None:
        self._is_active = is_active
        self._lock = threading.Lock()
        self._done: list[tuple[Any, str, Any, Any]] = []

    def replace(self, owner: Any, name: str, route: Callable[..., Any], parameters: Sequence[str]) -> None:
        """Put a function around a function of a module or a class.

        Parameters
        ----------
        owner
            The module or the class that has the function itself; an inherited one counts as a change upstream.
        name
            The function's name.
        route
            Called with the original, then the call's arguments.
        parameters
            Names that the original's parameters have to begin with; further ones must be optional.

        Raises
        ------
        UpstreamChanged
            There is no such function, or it has other parameters.
        """
        place = f"{getattr(owner, '__qualname__', owner.__name__)}.{name}"
        original = vars(owner).get(name)
        if not inspect.isfunction(original):
            raise UpstreamChanged(f"{place} is no function" if original is not None else f"there is no {place}")
        if _is_ours(original):
            return
        check_parameters(original, parameters, place)
        is_active = self._is_active

        @functools.wraps(original)
        def routed(*args: Any, **kwargs: Any) -> Any:
            return route(original, *args, **kwargs) if is_active() else original(*args, **kwargs)

        self.set(owner, name, routed)

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute that exists already."""
        value.__together_routing__ = True
        with self._lock:
            original = vars(owner).get(name)
            if original is None:
                raise UpstreamChanged(f"there is no {owner.__name__}.{name}")
            if not _is_ours(original):
                setattr(owner, name, value)
                self._done.append((owner, name, original, value))

    def undo(self) -> None:
        """Put back what was there, unless somebody else changed it since: theirs would be lost."""
        with self._lock:
            done, self._done = self._done, []
        for owner, name, original, value in reversed(done):
            if vars(owner).get(name) is value:
                setattr(owner, name, original)


def check_parameters(function: Callable[..., Any], expected: Sequence[str], place: str) -> None:
    """Check that a function's parameters begin with these names and that further ones are optional.

    Raises
    ------
    UpstreamChanged
        They do not.
    """
    found = list(inspect.signature(function).parameters.values())
    names = [parameter.name for parameter in found]
    further = found[len(expected) :]
    optional = all(
        parameter.default is not parameter.empty
        or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        for parameter in further
    )
    if names[: len(expected)] != list(expected) or not optional:
        raise UpstreamChanged(f"{place} takes ({', '.join(names)}), not ({', '.join(expected)})")


def not_needed() -> Exception:
    """What a seam raises that has nothing to do in this module."""
    return _NotNeeded()


def _is_ours(value: Any) -> bool:
    return bool(getattr(value, "__dict__", {}).get("__together_routing__"))


class Routing:
    """All seams, switched on and off together. Thread-safe; one for each process.

    No lock is held while a module is imported or changed, since both can wait for another thread's import.
    """

    def __init__(self, seams: Callable[[], Sequence[Seam]], makers: Callable[[], Sequence[ModuleMaker]]) -> None:
        self._load_seams = seams
        self._load_makers = makers
        self._lock = threading.RLock()
        self._active = False
        self._finder: _Finder | None = None
        self._seams: dict[str, list[Seam]] = {}
        self._patchers: list[tuple[Seam, ModuleType, Patcher]] = []
        self._states: dict[str, tuple[State, str]] = {}
        self._loading: set[str] = set()

    @property
    def active(self) -> bool:
        """Whether the toolkit is routed."""
        return self._active

    def activate(self) -> None:
        """Change what is imported already, and be told of what will be. Doing it twice changes nothing."""
        with self._lock:
            if self._active:
                return
            self._seams = {}
            for seam in self._load_seams():
                self._seams.setdefault(seam.module, []).append(seam)
            self._states.clear()
            self._finder = _Finder(self, self._load_makers())
            sys.meta_path.insert(0, self._finder)
            self._active = True
            names = list(self._seams)
        for name in names:
            _wait_for_import(name)
            module = sys.modules.get(name)
            # One that is being imported by way of the finder reports itself.
            if module is not None and name not in self._loading:
                self.imported(module)

    def deactivate(self) -> None:
        """Restore everything; objects that were made meanwhile keep what they have."""
        with self._lock:
            self._active = False
            finder, self._finder = self._finder, None
            patchers, self._patchers = self._patchers, []
            # A new list: one that gets shorter lets a thread that walks through it for an import miss a finder.
            sys.meta_path = [other for other in sys.meta_path if other is not finder]
        for _, _, patcher in reversed(patchers):
            patcher.undo()
        if finder is not None:
            finder.remove_made()

    def imported(self, module: ModuleType) -> None:
        """Let the seams of a module change it, once."""
        for seam in self._seams.get(module.__name__, ()):
            patcher = Patcher(lambda: self._active)
            try:
                seam.patch(module, patcher)
            except _NotNeeded:
                self._report(seam, "not needed", "")
                continue
            except Exception as exc:  # noqa: BLE001 - the log and status() say it; the import must not fail by us
                patcher.undo()
                self._report(seam, "upstream changed", str(exc))
                logger.warning(
                    "%s of %s %s is not routed to Together AI, upstream changed: %s",
                    seam.name,
                    seam.distribution,
                    version_of(seam.distribution) or "",
                    exc,
                )
                continue
            with self._lock:
                if self._active:
                    self._patchers.append((seam, module, patcher))
                    self._states[seam.name] = ("routed", "")
                    continue
            # Switched off while this module was being changed.
            patcher.undo()

    def _report(self, seam: Seam, state: State, detail: str) -> None:
        with self._lock:
            self._states[seam.name] = (state, detail)

    def seams(self) -> list[SeamStatus]:
        """Say of every seam how it is doing."""
        with self._lock:
            active, states = self._active, dict(self._states)
        found = []
        for seam in self._load_seams():
            version = version_of(seam.distribution)
            state, detail = states.get(seam.name, ("on import", ""))
            if version is None:
                state, detail = "not installed", ""
            elif not active:
                state, detail = "off", ""
            elif state == "on import" and not has_module(seam.module):
                state, detail = "upstream changed", f"there is no module {seam.module}"
            elif state in ("routed", "on import"):
                reason = seam.stays()
                if reason is not None:
                    state, detail = "stays", reason
            found.append(
                SeamStatus(seam.name, seam.module, seam.distribution, version, state, detail or seam.what)
            )
        made = self._finder.makers if self._finder is not None else self._load_makers()
        return found + [maker.status(active) for maker in made]


def _wait_for_import(name: str) -> None:
    """Wait for a thread that has been importing this module since before the finder was there.

    The import system's own function for it: an import that waits for this thread in turn is not waited for.
    """
    wait: Callable[[str], None] | None = getattr(importlib._bootstrap, "_lock_unlock_module", None)
    if wait is not None:
        wait(name)


def version_of(distribution: str) -> str | None:
    """Version of an installed distribution, None when it is not there."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@dataclass
class ModuleMaker:
    """Makes a module that upstream imports and that its distribution no longer has.

    Attributes
    ----------
    name
        For people, unique.
    module
        The missing module.
    distribution
        The one that had it.
    needs
        Module without which the made one would be of no use.
    fill
        Puts the names into the new module.
    what
        What is cured, in a few words.
    """

    name: str
    module: str
    distribution: str
    needs: str
    fill: Callable[[ModuleType], None] = field(repr=False)
    what: str = ""
    made: bool = field(default=False, init=False)

    def status(self, active: bool) -> SeamStatus:
        """How it is doing."""
        version = version_of(self.distribution)
        state: State = "off"
        if version is None:
            state = "not installed"
        elif active:
            state = "routed" if self.made else "on import" if self.is_missing() else "not needed"
        return SeamStatus(self.name, self.module, self.distribution, version, state, self.what)

    def is_missing(self) -> bool:
        """Whether the module is missing from an installed distribution."""
        return not has_module(self.module) and has_module(self.module.partition(".")[0])


def has_module(name: str) -> bool:
    """Whether there is a module of this name, without importing the packages that it is in."""
    from pathlib import Path

    top, _, rest = name.partition(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not rest:
        return spec is not None
    return any(
        Path(folder, f"{inner}.py").is_file() or Path(folder, inner, "__init__.py").is_file()
        for inner in [rest.replace(".", "/")]
        for folder in spec.submodule_search_locations or ()
    )


class _Finder(MetaPathFinder):
    """Finds what the other finders find, with a loader that reports when the module has been executed."""

    def __init__(self, routing: Routing, makers: Sequence[ModuleMaker]) -> None:
        self._routing = routing
        self.makers = makers
        self._makers = {maker.module: maker for maker in makers}
        self._searching = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        maker = self._makers.get(fullname)
        if fullname not in self._routing._seams and maker is None:
            return None
        if getattr(self._searching, "name", None) == fullname:
            return None
        self._searching.name = fullname
        try:
            spec = _others_find(self, fullname, path, target)
        finally:
            self._searching.name = None
        if spec is None and maker is not None and importlib.util.find_spec(maker.needs) is not None:
            spec = ModuleSpec(fullname, _MakingLoader(maker))
        if spec is not None and spec.loader is not None and fullname in self._routing._seams:
            spec.loader = _ReportingLoader(spec.loader, self._routing)
        return spec

    def remove_made(self) -> None:
        """Take the made modules out of `sys.modules`: without us they do not exist."""
        for maker in self.makers:
            if maker.made:
                module = sys.modules.pop(maker.module, None)
                parent, _, child = maker.module.rpartition(".")
                if module is not None and vars(sys.modules.get(parent, module)).get(child) is module:
                    delattr(sys.modules[parent], child)
                maker.made = False


def _others_find(
    finder: _Finder, fullname: str, path: Sequence[str] | None, target: ModuleType | None
) -> ModuleSpec | None:
    for other in list(sys.meta_path):
        if other is finder:
            continue
        find: Callable[..., ModuleSpec | None] | None = getattr(other, "find_spec", None)
        spec = find(fullname, path, target) if find is not None else None
        if spec is not None:
            return spec
    return None


class _ReportingLoader(Loader):
    """A loader around another one. The module never sees it: its spec gets the other one back."""

    def __init__(self, loader: Any, routing: Routing) -> None:
        self._loader = loader
        self._routing = routing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        # Before the module is in sys.modules, where activate() looks for it.
        self._routing._loading.add(spec.name)
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        name = module.__name__
        try:
            self._loader.exec_module(module)
        finally:
            self._routing._loading.discard(name)
        self._routing.imported(module)


class _MakingLoader(Loader):
    def __init__(self, maker: ModuleMaker) -> None:
        self._maker = maker

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        self._maker.fill(module)
        self._maker.made = True
