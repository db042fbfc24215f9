"""The ways to a vector table: this package's classes, langchain_hana's store, the toolkit's engine and agents."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pytest
from langchain_core.tools import BaseTool
from langchain_hana import HanaDB, HanaInternalEmbeddings

from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.hana.vector_store import TogetherHanaDB
from tests.integration.hana.states import KNOWLEDGE, LANGCHAIN, OURS, SAP, Layout

if TYPE_CHECKING:
    from hana_ai.vectorstore.hana_vector_engine import HANAMLinVectorEngine
    from hana_ml.dataframe import ConnectionContext

Keeps = Literal["Together", "the table's", "SAP"]

_MODULES = {
    "ConnectionContext": "hana_ml.dataframe",
    "GenAIHubEmbeddings": "hana_ai.vectorstore.embedding_service",
    "HANAVectorEmbeddings": "hana_ai.vectorstore.embedding_service",
    "HANAMLinVectorEngine": "hana_ai.vectorstore.hana_vector_engine",
    "TogetherVectorEngine": "hana_ai.api.hana.vector_engine",
    "UnionVectorStores": "hana_ai.vectorstore.union_vector_stores",
}


def imported(name: str) -> Any:
    """A class of the toolkit's or of ours for it, whose imports take seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(importlib.import_module(_MODULES[name]), name)


class Opened(Protocol):
    """Writes to a table and searches it."""

    def write(self, text: str) -> object:
        """Write a row with this text."""

    def search(self, text: str) -> list[str]:
        """The closest text."""


@dataclass(frozen=True)
class Door:
    """A way to a table.

    Attributes
    ----------
    keeps
        Whose model embeds: always Together's, always SAP's, or the table's, which is Together's if it is new.
    """

    keeps: Keeps
    layout: Layout
    open: Callable[[ConnectionContext], Opened]

    @property
    def always(self) -> bool:
        """Whether it is this package's own, routed or not."""
        return self in (DOORS["TogetherHanaDB"], DOORS["TogetherVectorEngine"])


class _Store:
    def __init__(self, store: HanaDB) -> None:
        self.store = store

    def write(self, text: str) -> object:
        return self.store.add_texts([text])

    def search(self, text: str) -> list[str]:
        return [found.page_content for found in self.store.similarity_search(text, k=1)]


class _Engine:
    def __init__(self, engine: HANAMLinVectorEngine, asked: Any = None) -> None:
        self.engine = engine
        self.asked = asked or engine

    def write(self, text: str) -> object:
        return self.engine.upsert_knowledge({"id": [text], "description": [text], "example": [text]})

    def search(self, text: str) -> list[str]:
        found = self.asked.query(text)
        return [] if found is None else [found]


class _Memory:
    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def write(self, text: str) -> object:
        return self.memory.add([{"text": text}])

    def search(self, text: str) -> list[str]:
        return [found.text for found in self.memory.search(text, top_k=1, rerank=False)]


class _Nothing(BaseTool):
    name: str = "nothing"
    description: str = "Does nothing."
    connection_context: Any = None

    def _run(self) -> str:
        return ""


def _plain(embedding: Callable[[ConnectionContext], Any]) -> Callable[[ConnectionContext], Opened]:
    return lambda context: _Store(HanaDB(context.connection, embedding(context), table_name="T"))


def _mem0(context: ConnectionContext) -> Opened:
    module = importlib.import_module("hana_ai.mem0.hana_mem0_adapter")
    return _Memory(module.Mem0HanaAdapter(context, "T", reranker=False))


def _rag_agent(context: ConnectionContext) -> Opened:
    module = importlib.import_module("hana_ai.agents.hanaml_rag_agent")
    # The toolkit says so whatever the filters are.
    with pytest.warns(DeprecationWarning, match="This agent has been deprecated"):
        agent = module.HANAMLRAGAgent(
            [_Nothing(connection_context=context)],
            ChatTogetherAI(model="local/scripted-chat"),
            hana_vector_table="T",
        )
    return _Store(agent.vectorstore)


def _union(context: ConnectionContext) -> Opened:
    engine = imported("HANAMLinVectorEngine")(context, "T")
    return _Engine(engine, imported("UnionVectorStores")([engine]))


def _ours() -> TogetherAIEmbeddings:
    return TogetherAIEmbeddings(model=OURS)


DOORS = {
    "TogetherHanaDB": Door(
        "Together", LANGCHAIN, lambda context: _Store(TogetherHanaDB(context.connection, _ours(), table_name="T"))
    ),
    "TogetherVectorEngine": Door(
        "Together",
        KNOWLEDGE,
        lambda context: _Engine(imported("TogetherVectorEngine")(context, "T", embedding=_ours())),
    ),
    "HanaDB, TogetherAIEmbeddings": Door("Together", LANGCHAIN, _plain(lambda context: _ours())),
    "HanaDB, HANAVectorEmbeddings": Door(
        "the table's",
        LANGCHAIN,
        _plain(lambda context: imported("HANAVectorEmbeddings")(context)),  # noqa: PLW0108 - imports when it is opened
    ),
    "HanaDB, GenAIHubEmbeddings": Door(
        "the table's", LANGCHAIN, _plain(lambda context: imported("GenAIHubEmbeddings")())
    ),
    "HanaDB, HanaInternalEmbeddings": Door("SAP", LANGCHAIN, _plain(lambda context: HanaInternalEmbeddings(SAP))),
    "HANAMLinVectorEngine": Door(
        "the table's", KNOWLEDGE, lambda context: _Engine(imported("HANAMLinVectorEngine")(context, "T"))
    ),
    "UnionVectorStores": Door("the table's", KNOWLEDGE, _union),
    "Mem0HanaAdapter": Door("the table's", LANGCHAIN, _mem0),
    "HANAMLRAGAgent": Door("the table's", LANGCHAIN, _rag_agent),
}
