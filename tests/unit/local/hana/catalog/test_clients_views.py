"""The system views that the clients of HANA read, as their own sources name them."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from hana_ai.api.local.hana.translation.system_views import SYSTEM_VIEWS

READ = re.compile(
    r"""(?:\bFROM|\bJOIN)\s+(?:"?SYS"?\."?([A-Z_]+)"?|(M_[A-Z_]+|EFFECTIVE_[A-Z_]+))(?![A-Z_]*[a-z({])"""
)
"""A view that a statement reads: one of SYS, or of the names that only system views have."""
NAMED = re.compile(r"\bSYS\"?\.|\bM_[A-Z]|\bEFFECTIVE_")
CLIENTS = ("hana_ml", "hana_ai", "langchain_hana", "sqlalchemy_hana", "hdbcli")


def texts(path: Path) -> Iterator[str]:
    """The strings of a module that may name a view; of parts that are added, the fixed ones together."""
    source = path.read_text(encoding="utf-8")
    if not NAMED.search(source):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the client's own
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            parts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
            yield "".join(part for part in parts if isinstance(part, str))


@pytest.mark.parametrize("client", CLIENTS)
def test_every_system_view_that_a_client_reads_is_there(client: str) -> None:
    spec = find_spec(client)
    assert spec is not None
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    modules = [path for folder in folders for path in folder.rglob("*.py") if "/api/" not in path.as_posix()]
    assert modules
    found: set[str] = set()
    for path in modules:
        for text in texts(path):
            found.update("".join(names) for names in READ.findall(text.replace("\n", " ")))
    if client not in {"hdbcli", "langchain_hana"}:
        assert found
    assert found - SYSTEM_VIEWS.keys() == set()
