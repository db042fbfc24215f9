"""The loopback servers import nothing of the provider, and the provider nothing of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import hana_ai.api.local

LOCAL = Path(hana_ai.api.local.__file__).parent
API = LOCAL.parent


def imported(path: Path) -> Iterator[str]:
    """The full names of the modules that a file of `hana_ai.api` imports."""
    package = ["hana_ai", "api", *path.relative_to(API).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield ".".join([*base, *([node.module] if node.module else [])])


def test_the_loopback_servers_import_nothing_of_the_provider() -> None:
    for path in LOCAL.rglob("*.py"):
        for name in imported(path):
            ours = name.startswith("hana_ai") and not name.startswith("hana_ai.api.local")
            assert not ours, f"{path.relative_to(API)} imports {name}"


def test_only_the_command_line_starts_the_loopback_servers() -> None:
    for path in API.rglob("*.py"):
        if path.is_relative_to(LOCAL) or path.is_relative_to(API / "cli"):
            continue
        for name in imported(path):
            assert not name.startswith("hana_ai.api.local"), f"{path.relative_to(API)} imports {name}"
