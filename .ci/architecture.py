"""Check the architecture: layers, import circles, borders, and sizes. See docs/architecture.md for the picture.

Every import counts: those in functions, those under TYPE_CHECKING, and names that a package resolves lazily.

    python .ci/architecture.py [ROOT]
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "process"),
    ("wire", "addresses"),
    ("transport", "settings"),
    ("catalog", "storage"),
    ("usage",),
    ("service",),
    ("cache",),
    ("langchain",),
    ("chat_models", "llms", "embeddings", "rerankers", "batches"),
    ("together_ai", "hana"),
    ("auto", "connector", "routing"),
    ("cli",),
)
"""The rooms of `hana_ai/api` from the bottom up; each imports from its own layer and from those before it."""

PACKAGE = "hana_ai.api"
LOCAL = f"{PACKAGE}.local"
MAY_USE_LOCAL = ("cli",)
HTTP_LIBRARIES = ("httpx", "httpcore", "aiohttp")

MOST_ENTRIES = 25
MOST_LINES = 500
MOST_METHODS = 25
MOST_LINES_OF_A_FUNCTION = 60

_LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BY_NAME = ("getattr", "setattr", "hasattr", "delattr")


@dataclass
class Module:
    """One file, and what it imports."""

    name: str
    path: Path
    tree: ast.Module
    lines: int
    imports: dict[str, int] = field(default_factory=dict)
    """The modules of this project that it imports, with the line of the first import of each."""

    @property
    def is_package(self) -> bool:
        """Whether this is an `__init__.py`."""
        return self.path.name == "__init__.py"

    @property
    def is_lazy(self) -> bool:
        """Whether this is a package that resolves its names when they are used; it imports nothing itself."""
        return self.is_package and any(
            isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in self.tree.body
        )

    @property
    def room(self) -> str | None:
        """The entry of `hana_ai/api` that it belongs to; None for the package itself."""
        rest = self.name.removeprefix(PACKAGE).removeprefix(".")
        return rest.partition(".")[0] or None


@cache
def _nodes(tree: ast.Module) -> tuple[ast.AST, ...]:
    """Every node of a module, which each rule reads."""
    return tuple(ast.walk(tree))


def read_modules(root: Path) -> dict[str, Module]:
    """Read every module of the package, and resolve its imports."""
    modules = {}
    for path in sorted((root / "hana_ai" / "api").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        modules[name] = Module(name, path.relative_to(root), ast.parse(text), len(text.splitlines()))
    for module in modules.values():
        if not module.is_lazy:
            for target, line in _imports(module, modules):
                if target != module.name:
                    module.imports.setdefault(target, line)
    return modules


def _imports(module: Module, modules: Mapping[str, Module]) -> Iterator[tuple[str, int]]:
    """The modules that a module imports, with the line."""
    packages: dict[str, str] = {}
    for node in _nodes(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if (target := _closest(alias.name, modules)) is not None:
                    yield target, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module)
            for alias in node.names:
                target = _defining(base, alias.name, modules)
                if target is None:
                    continue
                if modules[target].is_lazy and target != base:
                    packages[alias.asname or alias.name] = target
                yield target, node.lineno
        elif isinstance(node, ast.Call) and (target := _imported_by_call(node, modules)) is not None:
            yield target, node.lineno
    for node in _nodes(module.tree):
        # `from hana_ai.api import routing; routing.activate()` depends on what defines `activate`.
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in packages:
            target = _defining(packages[node.value.id], node.attr, modules)
            if target is not None:
                yield target, node.lineno


def _absolute(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    parts = parts[: len(parts) - node.level + (1 if module.is_package else 0)]
    return ".".join([*parts, node.module] if node.module else parts)


def _closest(name: str, modules: Mapping[str, Module]) -> str | None:
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def _defining(base: str, name: str, modules: Mapping[str, Module]) -> str | None:
    """The module behind `from base import name`: what a lazy package resolves the name to, else the base."""
    if f"{base}.{name}" in modules:
        return f"{base}.{name}"
    found = modules.get(base)
    if found is None:
        return None
    if found.is_lazy:
        for node in _nodes(found.tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    target = _absolute(node, found)
                    if (alias.asname or alias.name) == name and target != base:
                        return _defining(target, alias.name, modules) or base
    return base


def _imported_by_call(node: ast.Call, modules: Mapping[str, Module]) -> str | None:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if called not in ("import_module", "__import__") or not node.args:
        return None
    first = node.args[0]
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        return _closest(first.value, modules)
    return None


def broken_layers(modules: Mapping[str, Module]) -> Iterator[str]:
    """Imports of a higher layer, and modules without a layer."""
    for module in modules.values():
        room = module.room
        if room in (None, "local"):
            continue
        if room not in _LEVEL:
            yield (
                f"{module.path} has no layer. Move it into one of the rooms, or draw its layer in LAYERS of "
                ".ci/architecture.py and in docs/architecture.md."
            )
            continue
        for target, line in module.imports.items():
            above = modules[target].room
            if above in _LEVEL and _LEVEL[above] > _LEVEL[room]:
                yield (
                    f"{module.path}:{line} imports {target}, but {room} is below {above}. Let the caller pass in "
                    f"what is needed, or move it into {room} or below."
                )


def broken_borders(modules: Mapping[str, Module]) -> Iterator[str]:
    """Imports across the border of the loopback servers."""
    for module in modules.values():
        inside = module.room == "local"
        for target, line in module.imports.items():
            if inside and modules[target].room != "local":
                yield (
                    f"{module.path}:{line} imports {target}. The loopback servers import nothing of the provider: "
                    "move what both need into local/, or write it there."
                )
            elif not inside and modules[target].room == "local" and module.room not in (None, *MAY_USE_LOCAL):
                yield (
                    f"{module.path}:{line} imports {target}. Only cli/, tests and benchmarks use the loopback "
                    "servers: move the code that needs them there."
                )


def circles(modules: Mapping[str, Module]) -> Iterator[str]:
    """Groups of modules that import each other, by way of however many others."""
    reached = {name: _reachable(name, modules) for name in modules}
    told: set[str] = set()
    for name in modules:
        if name in told or name not in reached[name]:
            continue
        group = sorted(other for other in reached[name] if name in reached[other])
        told.update(group)
        path = _shortest_way_back(name, modules)
        yield (
            f"{modules[name].path} is in an import circle of {len(group)} modules: {' > '.join(path)}. Cut one of "
            "these imports: pass the value in, move the shared part into a module below, or describe there "
            "what is needed, as a Protocol."
        )


def _reachable(start: str, modules: Mapping[str, Module]) -> set[str]:
    found: set[str] = set()
    waiting = list(modules[start].imports)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(modules[name].imports)
    return found


def _shortest_way_back(start: str, modules: Mapping[str, Module]) -> list[str]:
    ways = [[start]]
    seen: set[str] = set()
    for way in ways:
        for target in modules[way[-1]].imports:
            if target == start:
                return [*way, start]
            if target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return [start]


def shadowed_names(modules: Mapping[str, Module]) -> Iterator[str]:
    """Public names of lazy packages that a module of the package takes over as soon as it is imported."""
    for package in modules.values():
        for node in _nodes(package.tree) if package.is_lazy else ():
            if not isinstance(node, ast.ImportFrom) or node.module == package.name:
                continue
            for alias in node.names:
                if (module := modules.get(f"{package.name}.{alias.name}")) is not None:
                    yield (
                        f"{module.path} hides the public name {alias.name} of {package.name} once it is imported. "
                        "Give the module another name."
                    )


def too_large(root: Path, modules: Mapping[str, Module]) -> Iterator[str]:
    """What has outgrown its limit: the package's folder, modules, classes, functions."""
    folder = root / "hana_ai" / "api"
    entries = [path.name for path in folder.iterdir() if path.name not in ("__pycache__", "py.typed")]
    if len(entries) > MOST_ENTRIES:
        yield f"hana_ai/api has {len(entries)} entries, more than {MOST_ENTRIES}. Move some of them into rooms."
    for module in modules.values():
        if module.lines > MOST_LINES:
            yield f"{module.path} has {module.lines} lines, more than {MOST_LINES}. Split it by what it is about."
        for node in _nodes(module.tree):
            if isinstance(node, ast.ClassDef):
                methods = {inner.name for inner in node.body if isinstance(inner, _FUNCTIONS)}
                if len(methods) > MOST_METHODS:
                    yield (
                        f"{module.path}:{node.lineno} {node.name} has {len(methods)} methods, more than "
                        f"{MOST_METHODS}. Give one of its tasks to a class or to functions of their own."
                    )
            elif isinstance(node, _FUNCTIONS) and (lines := _lines_of_code(node)) > MOST_LINES_OF_A_FUNCTION:
                yield (
                    f"{module.path}:{node.lineno} {node.name} has {lines} lines, more than "
                    f"{MOST_LINES_OF_A_FUNCTION}. Split it into steps."
                )


def _lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def private_parts(modules: Mapping[str, Module]) -> Iterator[str]:
    """Private parts of the HTTP libraries.

    Without types, an attribute counts as a library's when its name is private there and not defined here: not in
    the same module, where that imports one of the libraries, else nowhere in the package. The loopback servers
    use none of them, but a parser whose private names are alike.
    """
    theirs = _private_names_of_libraries()
    ours = {module.name: set(_defined(module.tree)) for module in modules.values()}
    everywhere = set().union(*ours.values())
    for module in modules.values():
        imported = list(_imported_libraries(module.tree))
        if module.room == "local" and not imported:
            continue
        known = ours[module.name] if imported else everywhere
        found = [(line, name) for line, name in imported if any(map(_is_private, name.split(".")))]
        found += [
            (line, name) for line, name in _private_names_used(module.tree) if name in theirs and name not in known
        ]
        for line, name in sorted(found):
            yield (
                f"{module.path}:{line} uses {name}, a private part of an HTTP library. Use what the library "
                "documents: its next release may do without the rest."
            )


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@cache
def _private_names_of_libraries() -> frozenset[str]:
    """Every private attribute, function and module of the installed HTTP libraries."""
    found: set[str] = set()
    for library in HTTP_LIBRARIES:
        spec = importlib.util.find_spec(library)
        for folder in (spec.submodule_search_locations or []) if spec is not None else []:
            for path in Path(folder).rglob("*.py"):
                found.update(filter(_is_private, _defined(ast.parse(path.read_bytes()))))
                if _is_private(path.stem):
                    found.add(path.stem)
    return frozenset(found)


def _defined(tree: ast.Module) -> Iterator[str]:
    """The names that a module defines: functions, classes, variables, fields and attributes of `self`."""
    for node in _nodes(tree):
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("self", "cls")
        ):
            yield node.attr


def _private_names_used(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in _nodes(tree):
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in _BY_NAME and len(node.args) > 1:
            name = node.args[1]
            if isinstance(name, ast.Constant) and isinstance(name.value, str) and _is_private(name.value):
                yield node.lineno, name.value


def _imported_libraries(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in _nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            base = f"{node.module}." if isinstance(node, ast.ImportFrom) and not node.level else ""
            for name in (base + alias.name for alias in node.names):
                if name.partition(".")[0] in HTTP_LIBRARIES:
                    yield node.lineno, name


def check(root: Path) -> list[str]:
    """Say what breaks the architecture below a folder that holds `hana_ai/api`; empty when nothing does."""
    modules = read_modules(root)
    findings: Iterable[Iterator[str]] = (
        broken_layers(modules),
        broken_borders(modules),
        circles(modules),
        shadowed_names(modules),
        too_large(root, modules),
        private_parts(modules),
    )
    return [line for lines in findings for line in lines]


def main(arguments: Sequence[str]) -> int:
    """Print what breaks the architecture; 1 if anything does."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    found = check(root)
    for line in found:
        print(line)
    print(f"{len(found)} breaks of the architecture." if found else "The architecture is as drawn.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
