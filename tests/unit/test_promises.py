"""Each promise of the documents names tests, and the tests are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST = re.compile(r"\b(tests/[\w/.-]+\.py)::([\w:]+)")
DOCUMENTS = ["docs/faults.md", "SECURITY.md"]
PROMISES = {
    f"{document}: {title}": body
    for document, pattern in (("docs/faults.md", r"^## (.+)$"), ("SECURITY.md", r"^\*\*(.+?)\*\*"))
    for title, body in zip(
        *[iter(re.split(pattern, (ROOT / document).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:])] * 2,
        strict=True,
    )
}


@cache
def names_in(path: Path) -> frozenset[str]:
    """The test functions of a file, and those of its classes as `Class::test`."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}::{inner.name}"
                for inner in node.body
                if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef))
            }
    return frozenset(found)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_test_that_a_document_names_exists(document: str) -> None:
    named = TEST.findall((ROOT / document).read_text(encoding="utf-8"))
    assert named
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).is_file()
        or name not in names_in(ROOT / file)
        or not name.rpartition(":")[2].startswith("test_")
    ]
    assert missing == []


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_names_a_test(promise: str) -> None:
    assert TEST.search(PROMISES[promise])
