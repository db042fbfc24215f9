"""Folders to be read, tables to be compared, and what the server has embedded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from hdbcli import dbapi

from hana_ai.api.local.together import ScriptedEngine
from tests.integration.hana.conftest import rows
from tests.integration.hana.migrations import sent

__all__ = ["rows", "sent"]

WORDS = (
    "column",
    "store",
    "row",
    "delta",
    "merge",
    "index",
    "page",
    "log",
    "savepoint",
    "tenant",
    "schema",
    "view",
)


def text_of(number: int, paragraphs: int = 3) -> str:
    """Paragraphs of some forty words that no two documents share."""
    found = []
    for place in range(paragraphs):
        words = " ".join(WORDS[(number + place + at) % len(WORDS)] for at in range(40))
        found.append(f"Document {number}, paragraph {place}: {words}")
    return "\n\n".join(found)


def write_files(folder: Path, count: int, paragraphs: int = 3) -> Path:
    """A folder of so many text files, in subfolders of a hundred."""
    for number in range(count):
        path = folder / f"part-{number // 100:03}" / f"file-{number:05}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(number, paragraphs))
    return folder


def content(connection: dbapi.Connection, table: str = "T") -> list[tuple[Any, ...]]:
    """All rows of a table, in order; vectors as text."""
    return rows(
        connection,
        f'SELECT "VEC_ID", "VEC_TEXT", "VEC_META", TO_NVARCHAR("VEC_VECTOR") FROM "{table}" ORDER BY "VEC_ID"',
    )


def embedded(engine: ScriptedEngine) -> Counter[str]:
    """How often the server was asked for each text, the model's width apart."""
    return Counter({text: count for text, count in sent(engine).items() if count > 0})
