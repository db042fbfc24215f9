"""A place of the toolkit that is routed: what it is, how it is changed and changed back, and how it is doing.

This module imports nothing but the standard library: it runs in processes that never use Together.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from types import ModuleType
from typing import Literal

State = Literal["routed", "on import", "not needed", "not installed", "upstream changed", "stays", "guards", "off"]
"""How a seam is doing.

`on import`: installed, and routed once it is imported. `not needed`: a fix for something that is not broken here.
`stays`: the toolkit's own way is kept, and the detail says why. `guards`: nothing is routed, but what would mix
the vectors of two models is refused.
"""

_MARK = "__together_routing__"


class UpstreamChanged(Exception):  # noqa: N818 - a finding for status(), not a failure for the user
    """A place does not look as it did when its seam was written; the message says how."""


class NotNeeded(Exception):  # noqa: N818 - as above
    """A seam has nothing to do in this module."""


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
        The effect, in a few words.
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
    """What `status()` says about one seam."""

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
        self._replaced: list[tuple[ModuleType | type, str, object, object]] = []
        self._constructed: list[type] = []
        self._afterwards: list[Callable[[], object]] = []

    def replace(
        self, owner: ModuleType | type, name: str, route: Callable[..., object], parameters: Sequence[str]
    ) -> None:
        """Wrap a function of a module or a class.

        Parameters
        ----------
        owner
            The module or class that defines the function; an inherited one counts as a change upstream.
        name
            The function's name.
        route
            Called with the original, then the call's arguments.
        parameters
            Names that the original's parameters must begin with; any others must be optional.

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
        def routed(*args: object, **kwargs: object) -> object:
            return route(original, *args, **kwargs) if is_active() else original(*args, **kwargs)

        self.set(owner, name, routed)

    def set(self, owner: ModuleType | type, name: str, value: object) -> None:
        """Replace an attribute, which must exist."""
        setattr(value, _MARK, True)
        original = vars(owner).get(name)
        if original is None:
            raise UpstreamChanged(f"there is no {owner.__name__}.{name}")
        if not _is_ours(original):
            setattr(owner, name, value)
            self._replaced.append((owner, name, original, value))

    def construct(self, owner: type, make: Callable[..., object | None]) -> None:
        """Let calls of a class make something else.

        The class's metaclass is exchanged, not its `__new__`: that would be in the way of copying and unpickling,
        and Python does not forget one that a class no longer has.

        Parameters
        ----------
        owner
            The class, which must have a metaclass other than `type`, as pydantic's have; its subclasses are not
            affected.
        make
            Called with the arguments; None leaves it to the class.

        Raises
        ------
        UpstreamChanged
            The class has no such metaclass.
        """
        if owner in _makers:
            return
        if type(owner) is type:
            raise UpstreamChanged(f"{owner.__qualname__} has no metaclass that could be exchanged")
        is_active = self._is_active
        type.__setattr__(owner, "__class__", _making(type(owner)))
        _makers[owner] = lambda *args, **kwargs: make(*args, **kwargs) if is_active() else None
        self._constructed.append(owner)

    def after_undoing(self, call: Callable[[], object]) -> None:
        """Call something after the rest is undone, such as what forgets what it has led to."""
        self._afterwards.append(call)

    def undo(self) -> None:
        """Restore what was there, unless somebody else changed it since: their change would be lost."""
        constructed, self._constructed = self._constructed, []
        for made in constructed:
            _makers.pop(made, None)
            metaclass = type(made).__base__
            if metaclass is not None and type(made) is _making(metaclass):
                type.__setattr__(made, "__class__", metaclass)
        replaced, self._replaced = self._replaced, []
        for owner, name, original, value in reversed(replaced):
            if vars(owner).get(name) is value:
                setattr(owner, name, original)
        afterwards, self._afterwards = self._afterwards, []
        for call in afterwards:
            call()


_makers: dict[type, Callable[..., object | None]] = {}
"""What makes something else for calls of exactly these classes."""


@functools.cache
def _making(metaclass: type[type]) -> type[type]:
    """A metaclass whose classes ask `_makers` first; otherwise it is as the given one."""

    def call(cls: type, *args: object, **kwargs: object) -> object:
        make = _makers.get(cls)
        made = None if make is None else make(*args, **kwargs)
        return metaclass.__call__(cls, *args, **kwargs) if made is None else made

    names = {"__call__": call, "__module__": metaclass.__module__, "__qualname__": metaclass.__qualname__}
    return type(metaclass.__name__, (metaclass,), names)


def _is_ours(value: object) -> bool:
    return bool(getattr(value, "__dict__", {}).get(_MARK))


def check_parameters(function: Callable[..., object], expected: Sequence[str], place: str) -> None:
    """Check that a function's parameters begin with these names and that the rest are optional.

    Raises
    ------
    UpstreamChanged
        They do not.
    """
    found = list(inspect.signature(function).parameters.values())
    names = [parameter.name for parameter in found]
    optional = all(
        parameter.default is not parameter.empty
        or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        for parameter in found[len(expected) :]
    )
    if names[: len(expected)] != list(expected) or not optional:
        raise UpstreamChanged(f"{place} takes ({', '.join(names)}), not ({', '.join(expected)})")


def class_in(module: ModuleType, name: str) -> type:
    """A class of a module, by its name.

    Raises
    ------
    UpstreamChanged
        There is none.
    """
    found = getattr(module, name, None)
    if not inspect.isclass(found):
        raise UpstreamChanged(f"there is no class {module.__name__}.{name}")
    return found


@dataclass
class ModuleMaker:
    """Makes a module that upstream imports but that its distribution no longer has.

    Attributes
    ----------
    name
        For people, unique.
    module
        The missing module.
    distribution
        The one that had it.
    needs
        A module without which the made one would be useless.
    fill
        Puts the names into the new module.
    what
        The effect, in a few words.
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


def version_of(distribution: str) -> str | None:
    """Version of an installed distribution, or of Python itself, else None."""
    if distribution == "python":
        return sys.version.partition(" ")[0]
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def has_module(name: str) -> bool:
    """Whether a module exists, without importing the packages that it is in."""
    from pathlib import Path

    top, _, rest = name.partition(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not rest:
        return spec is not None
    inner = rest.replace(".", "/")
    return any(
        Path(folder, f"{inner}.py").is_file() or Path(folder, inner, "__init__.py").is_file()
        for folder in spec.submodule_search_locations or ()
    )
