"""Change modules of other distributions right after they are imported, and change them back.

A finder at the front of `sys.meta_path` lets the import system load a module as usual and then hands it to its
seams, so the order of imports never matters; modules that are already imported are changed at once. A replacement
calls the original once the routing is off, so even a name that somebody copied, or wrapped, behaves as before.

This module imports nothing but the standard library and `process`: it runs in processes that never use Together.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from hana_ai.api.process import RenewableLock
from hana_ai.api.routing.seams import (
    ModuleMaker,
    NotNeeded,
    Patcher,
    Seam,
    SeamStatus,
    State,
    has_module,
    version_of,
)

logger = logging.getLogger(__name__)


class Routing:
    """All seams, switched on and off together. Thread-safe; one for each process.

    No lock is held while a module is imported or changed, since both can wait for another thread's import.
    """

    def __init__(self) -> None:
        self._lock = RenewableLock()
        self._active = False
        self._guarding = False
        self._finder: _Finder | None = None
        self._patchers: list[Patcher] = []
        self._states: dict[str, tuple[State, str]] = {}
        self.seams: dict[str, list[Seam]] = {}
        """By the name of their module."""
        self.loading: set[str] = set()
        """Modules that are being imported through the finder."""

    @property
    def active(self) -> bool:
        """Whether the toolkit is routed."""
        return self._active and not self._guarding

    @property
    def guarding(self) -> bool:
        """Whether nothing is routed, but the seams of `guard` are in place."""
        return self._active and self._guarding

    def activate(self, seams: Sequence[Seam], makers: Sequence[ModuleMaker]) -> None:
        """Change what is already imported, and hook into later imports. Doing it twice changes nothing."""
        if self.guarding:
            self.deactivate()
        self._begin(seams, makers, guarding=False)

    def guard(self, seams: Sequence[Seam]) -> None:
        """Change nothing but these modules, until `activate` or `deactivate`; where all is routed, do nothing."""
        self._begin(seams, (), guarding=True)

    def _begin(self, seams: Sequence[Seam], makers: Sequence[ModuleMaker], *, guarding: bool) -> None:
        with self._lock:
            if self._active:
                return
            self._guarding = guarding
            self.seams = {}
            for seam in seams:
                self.seams.setdefault(seam.module, []).append(seam)
            self._states.clear()
            self._finder = _Finder(self, makers)
            sys.meta_path.insert(0, self._finder)
            self._active = True
            names = list(self.seams)
        for name in names:
            _wait_for_import(name)
            module = sys.modules.get(name)
            # One that is being imported through the finder reports itself.
            if module is not None and name not in self.loading:
                self.imported(module)

    def deactivate(self) -> None:
        """Restore everything; objects made in the meantime keep what they have."""
        with self._lock:
            self._active = False
            finder, self._finder = self._finder, None
            patchers, self._patchers = self._patchers, []
            # A new list: a thread that is walking through a list that gets shorter would skip a finder.
            sys.meta_path = [other for other in sys.meta_path if other is not finder]
        for patcher in reversed(patchers):
            patcher.undo()
        if finder is not None:
            finder.remove_made()

    def imported(self, module: ModuleType) -> None:
        """Let the seams of a module change it."""
        guarding = self._guarding
        state: State = "guards" if guarding else "routed"
        for seam in self.seams.get(module.__name__, ()):
            # What somebody copied while the toolkit was routed must not come back with the guard.
            patcher = Patcher(lambda: self._active and self._guarding == guarding)
            try:
                seam.patch(module, patcher)
            except NotNeeded:
                self._report(seam, "not needed", "")
                continue
            except Exception as exc:  # noqa: BLE001 - the log and status() say it; the user's import must not fail
                patcher.undo()
                self._report(seam, "upstream changed", str(exc))
                logger.warning(
                    "%s of %s %s is not %s, upstream changed: %s",
                    seam.name,
                    seam.distribution,
                    version_of(seam.distribution) or "",
                    "guarded" if guarding else "routed to Together AI",
                    exc,
                )
                continue
            with self._lock:
                if self._active and self._guarding == guarding:
                    self._patchers.append(patcher)
                    self._states[seam.name] = (state, "")
                    continue
            # Switched while this module was being changed.
            patcher.undo()

    def _report(self, seam: Seam, state: State, detail: str) -> None:
        with self._lock:
            self._states[seam.name] = (state, detail)

    def statuses(self, seams: Sequence[Seam], makers: Sequence[ModuleMaker]) -> list[SeamStatus]:
        """Say of every seam how it is doing."""
        with self._lock:
            active, guarding, states = self.active, self.guarding, dict(self._states)
        found = []
        for seam in seams:
            version = version_of(seam.distribution)
            state, detail = states.get(seam.name, ("on import", ""))
            if version is None:
                state, detail = "not installed", ""
            elif guarding and state == "guards":
                detail = "refuses what would mix vectors of two models"
            elif not active:
                state, detail = "off", ""
            elif state == "on import" and not has_module(seam.module):
                state, detail = "upstream changed", f"there is no module {seam.module}"
            elif state in ("routed", "on import") and (reason := seam.stays()) is not None:
                state, detail = "stays", reason
            found.append(
                SeamStatus(seam.name, seam.module, seam.distribution, version, state, detail or seam.what)
            )
        return found + [maker.status(active) for maker in makers]


ROUTING = Routing()
"""The routing of this process."""


def _wait_for_import(name: str) -> None:
    """Wait for a thread that has been importing this module since before the finder was there.

    The import system's own function for it: an import that waits for this thread in turn is not waited for.
    """
    wait: Callable[[str], None] | None = getattr(importlib._bootstrap, "_lock_unlock_module", None)
    if wait is not None:
        wait(name)


class _Finder(MetaPathFinder):
    """Finds what the other finders find, with a loader that reports when the module has been executed."""

    def __init__(self, routing: Routing, makers: Sequence[ModuleMaker]) -> None:
        self._routing = routing
        self._makers = {maker.module: maker for maker in makers}
        self._searching = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        maker = self._makers.get(fullname)
        if fullname not in self._routing.seams and maker is None:
            return None
        if getattr(self._searching, "name", None) == fullname:
            return None
        self._searching.name = fullname
        try:
            spec = self._others_find(fullname, path, target)
        finally:
            self._searching.name = None
        if spec is None and maker is not None and importlib.util.find_spec(maker.needs) is not None:
            spec = ModuleSpec(fullname, _MakingLoader(maker))
        if spec is not None and spec.loader is not None and fullname in self._routing.seams:
            spec.loader = _ReportingLoader(spec.loader, self._routing)
        return spec

    def _others_find(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        for other in list(sys.meta_path):
            if other is self:
                continue
            find: Callable[..., ModuleSpec | None] | None = getattr(other, "find_spec", None)
            spec = find(fullname, path, target) if find is not None else None
            if spec is not None:
                return spec
        return None

    def remove_made(self) -> None:
        """Take the made modules out of `sys.modules`: without the routing they do not exist."""
        for maker in self._makers.values():
            if maker.made:
                module = sys.modules.pop(maker.module, None)
                parent, _, child = maker.module.rpartition(".")
                if module is not None and vars(sys.modules.get(parent, module)).get(child) is module:
                    delattr(sys.modules[parent], child)
                maker.made = False


class _ReportingLoader(Loader):
    """A loader around another one. The module never sees it: its spec gets the other one back."""

    def __init__(self, loader: Loader, routing: Routing) -> None:
        self._loader = loader
        self._routing = routing

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        # Before the module is in sys.modules, where activate() looks for it.
        self._routing.loading.add(spec.name)
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        name = module.__name__
        try:
            self._loader.exec_module(module)
        finally:
            self._routing.loading.discard(name)
        self._routing.imported(module)


class _MakingLoader(Loader):
    def __init__(self, maker: ModuleMaker) -> None:
        self._maker = maker

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        self._maker.fill(module)
        self._maker.made = True
