"""Tables to be moved to another model, and what was sent for that."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hdbcli import dbapi

from hana_ai.api.hana import list_tables
from hana_ai.api.hana.vector_store import TogetherHanaDB
from hana_ai.api.local.together import ScriptedEngine

OURS = ScriptedEngine.EMBEDDING
SAP = "SAP_NEB.20240715"
PROBE = "dimension"
"""What is embedded to learn a model's width."""


def sent(engine: ScriptedEngine) -> Counter[str]:
    """How often each text was embedded, by the server's log."""
    texts: Counter[str] = Counter()
    for request in engine.posts:
        given = request.body["input"]
        texts.update([given] if isinstance(given, str) else given)
    del texts[PROBE]
    return texts


def stamps(connection: dbapi.Connection) -> dict[str, str | None]:
    return {info.table: info.model for info in list_tables(connection)}


def texts_of(count: int) -> list[str]:
    return [f"Reading {number} of the sensor" for number in range(count)]


def filled(connection: dbapi.Connection, texts: list[str], table: str = "T", **fields: Any) -> TogetherHanaDB:
    """A table of the database's model with a key, ids and metadata."""
    store = TogetherHanaDB(connection, "hana", table_name=table, **fields)
    store.add_texts(texts, [{"number": n} for n in range(len(texts))], ids=[f"id-{n}" for n in range(len(texts))])
    return store
