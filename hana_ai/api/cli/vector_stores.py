"""The demo's vector store: SAP HANA if configured, else a stand-in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hana_ai.api.hana.connections import connect, reason_of
from hana_ai.api.settings import TogetherAISettings

from .console import Problem

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore

TABLE = "HANA_AI_TOGETHER_DEMO"

_FOR_LOCAL_HANA = ("duckdb", "sqlglot", "hdbcli", "langchain_hana")


@dataclass(frozen=True)
class OpenedStore:
    """An empty vector store, ready for use."""

    store: VectorStore
    name: str
    """For people."""
    stand_in: bool
    """Whether it stands in for SAP HANA Cloud."""

    def nearest(self, vector: Sequence[float], count: int) -> list[tuple[Document, float]]:
        """The passages that are most similar to a vector, and how similar: 1 at most."""
        from langchain_core.vectorstores import InMemoryVectorStore

        if isinstance(self.store, InMemoryVectorStore):
            return self.store.similarity_search_with_score_by_vector(list(vector), k=count)
        store: Any = self.store
        found = store.similarity_search_with_score_and_vector_by_vector(list(vector), k=count)
        return [(document, score) for document, score, _ in found]


def hana_is_configured(settings: TogetherAISettings) -> bool:
    """Whether the settings name a database."""
    return bool(settings.hana_address or settings.hana_userkey)


@contextmanager
def open_vector_store(settings: TogetherAISettings, embeddings: Embeddings) -> Iterator[OpenedStore]:
    """Open SAP HANA if HANA_ADDRESS or HANA_USERKEY is set, else the loopback HANA, else a store in memory.

    Raises
    ------
    Problem
        The database can't be reached, or a package is missing.
    """
    if hana_is_configured(settings):
        with hana_connection(settings) as connection:
            where = settings.hana_address or f"user key {settings.hana_userkey}"
            name = f"HANA at {where}, table {TABLE}"
            yield OpenedStore(_hana_store(connection, embeddings, settings.hana_schema), name, stand_in=False)
        return
    if not all(find_spec(package) for package in _FOR_LOCAL_HANA):
        from langchain_core.vectorstores import InMemoryVectorStore

        yield OpenedStore(InMemoryVectorStore(embeddings), "LangChain's in-memory store", stand_in=True)
        return
    from hana_ai.api.local.hana import LocalHana

    with LocalHana() as server:
        named = {name.lower(): value for name, value in server.environment().items()}
        with hana_connection(settings.model_copy(update=_typed(named))) as connection:
            store = _hana_store(connection, embeddings, None)
            yield OpenedStore(store, "the loopback HANA (DuckDB)", stand_in=True)


@contextmanager
def hana_connection(settings: TogetherAISettings) -> Iterator[Any]:
    """An hdbcli connection from the settings.

    Raises
    ------
    Problem
        hdbcli is missing, or the database refuses.
    """
    try:
        from hdbcli import dbapi  # type: ignore[import-untyped]
    except ModuleNotFoundError as exc:
        raise Problem("SAP HANA needs the package hdbcli. Run: pip install 'hana-ai-together[toolkit]'") from exc
    try:
        connection = connect(settings, connectTimeout=10_000)
    except dbapi.Error as exc:
        raise Problem(
            f"SAP HANA refused the connection: {reason_of(exc)} "
            "Check HANA_ADDRESS, HANA_PORT, HANA_USER, HANA_PASSWORD and HANA_ENCRYPT."
        ) from exc
    try:
        yield connection
    finally:
        connection.close()


def _hana_store(connection: Any, embeddings: Embeddings, schema: str | None) -> VectorStore:
    try:
        from langchain_hana import HanaDB
    except ModuleNotFoundError as exc:
        raise Problem(
            "SAP HANA's vector store needs langchain-hana. Run: pip install 'hana-ai-together[toolkit]'"
        ) from exc
    store: VectorStore = HanaDB(connection, embeddings, table_name=TABLE, schema_name=schema or "")
    # An earlier run may have left rows, perhaps from a model of another width.
    store.delete(filter={})
    return store


def _typed(named: dict[str, str]) -> dict[str, Any]:
    made = TogetherAISettings(**named, _env_file=None)
    return {name: getattr(made, name) for name in named if name in TogetherAISettings.model_fields}
