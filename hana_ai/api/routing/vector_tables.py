"""The doors to vector tables: langchain_hana's `HanaDB` and the toolkit's `HANAMLinVectorEngine`.

A table goes on with the model that wrote it: one of the database's, one of Together's, or nobody's who could be
asked. New and empty tables are Together's where the embeddings are routed. Where nothing is, and the tables are
guarded, each object keeps its model, and is refused a table of another (langchain-hana 1.2, hana-ai 1.1.26081400).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from hana_ai.api.routing import models
from hana_ai.api.routing.hooks import ROUTING
from hana_ai.api.routing.seams import NotNeeded, Patcher, Seam, class_in
from hana_ai.api.routing.table_guard import explained, guard_of, is_in_database, together_named
from hana_ai.api.routing.toolkit import origin_of_caller

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings


_OPENED = "_together_opened"
_merging: ContextVar[bool] = ContextVar("merging", default=False)


class _Engine(Protocol):
    """What a `HANAMLinVectorEngine` says about its table."""

    connection_context: Any
    table_name: str
    schema: str
    model_version: str
    columns: Sequence[str] | None
    current_query_distance: float | None
    current_query_rows: int | None
    model_type: str | None


# --- langchain_hana's HanaDB ---


def _make_store(original: Callable[..., None], self: Any, *args: object, **kwargs: object) -> None:
    original(self, *args, **kwargs)
    # Where nothing is routed, it is refused when it is used: until then it may be.
    guard = guard_of(self) if ROUTING.active else None
    if guard is not None:
        guard.ready(self)


def _create_table(original: Callable[..., None], self: Any) -> None:
    """Give a table that is created for Together the width of its vectors, so that HANA refuses any other."""
    guard = guard_of(self) if ROUTING.active else None
    ours = None if guard is None or self._table_exists(self.table_name) else guard.together()
    if ours is None or self.vector_column_length > 0:
        original(self)
        return
    from hana_ai.api.hana.embedding import width_of_model

    asked, self.vector_column_length = self.vector_column_length, width_of_model(ours)
    try:
        original(self)
    finally:
        self.vector_column_length = asked


def _add_texts(
    original: Callable[..., list[str]],
    self: Any,
    texts: Iterable[str],
    metadatas: Any = None,
    embeddings: Any = None,
    **kwargs: object,
) -> list[str]:
    texts = list(texts)
    guard = guard_of(self)

    def insert(vectors: Any) -> list[str]:
        return original(self, texts, metadatas, vectors, **kwargs)

    return insert(embeddings) if guard is None else guard.write(self, texts, embeddings, insert)


def _search(original: Callable[..., object], self: Any, query: str, *args: object, **kwargs: object) -> object:
    guard = guard_of(self)
    if guard is not None:
        guard.ready(self)
    return original(self, query, *args, **kwargs)


def _patch_store(module: ModuleType, patcher: Patcher) -> None:
    owner = class_in(module, "HanaDB")
    if owner.__module__ != module.__name__:
        # langchain_hana's under another name.
        raise NotNeeded
    patcher.replace(owner, "__init__", _make_store, ["self", "connection", "embedding"])
    if "_initialize_table" in vars(owner):
        patcher.replace(owner, "_initialize_table", _create_table, ["self"])
    patcher.replace(owner, "add_texts", _add_texts, ["self", "texts", "metadatas", "embeddings"])
    for name in ("similarity_search_with_score", "max_marginal_relevance_search"):
        patcher.replace(owner, name, _search, ["self", "query"])


# --- the toolkit's HANAMLinVectorEngine ---


def _is_plain(engine: object) -> bool:
    """Whether an engine is the toolkit's own; a user's subclass stays what it is."""
    return type(engine).__module__ == "hana_ai.vectorstore.hana_vector_engine"


def _make_engine(  # noqa: PLR0917 - the parameters of HANAMLinVectorEngine, in its order
    original: Callable[..., None],
    self: _Engine,
    connection_context: Any,
    table_name: str,
    schema: str | None = None,
    model_version: str = "SAP_NEB.20240715",
) -> None:
    origin = origin_of_caller(sys._getframe(2))
    if ROUTING.active and _is_plain(self) and not table_name.startswith("#") and not _merging.get():
        self.connection_context, self.table_name = connection_context, table_name
        self.schema = schema or connection_context.get_current_schema()
        self.model_version = model_version
        if _take_over(self, origin):
            return
    original(self, connection_context, table_name, schema, model_version)


def _take_over(engine: Any, origin: models.Origin) -> bool:
    """Make an engine a `TogetherVectorEngine` with its table's model; False where the toolkit's own way is kept.

    Raises
    ------
    TogetherAIInputError
        Nobody knows which model wrote the table, or it is not the one that the engine keeps to.
    """
    from langchain_hana import HanaInternalEmbeddings

    from hana_ai.api.hana.embedding import model_name
    from hana_ai.api.hana.ownership import Ownership
    from hana_ai.api.hana.vector_column import read_column
    from hana_ai.api.hana.vector_engine import TogetherVectorEngine

    context, asked = engine.connection_context, engine.model_version
    place = (engine.schema, engine.table_name, "embeddings")
    if not ROUTING.active:
        if _OPENED not in vars(engine):
            known = read_column(context.connection, *place) is not None
            vars(engine)[_OPENED] = Ownership(*place, "description", stamps=False) if known else None
        if vars(engine)[_OPENED] is not None:
            with explained():
                vars(engine)[_OPENED].open(context.connection, asked)
        return False
    routed = models.routes_table(engine.table_name, engine.schema) and models.routes_embeddings(origin)
    column = None
    if read_column(context.connection, *place) is not None:
        ownership = Ownership(*place, "description")
        if not routed:
            ownership.recorded(context.connection).check_model(asked)
            return False
        column = ownership.find(context.connection, asked)
    elif not routed or context.has_table(table=engine.table_name, schema=engine.schema):
        return False
    embedding: Embeddings | None
    if column is not None and column.model is not None and is_in_database(column):
        embedding = HanaInternalEmbeddings(column.model)
    else:
        embedding = models.embeddings_for(origin, asked)
        owner = None if column is None else column.model
        if owner is not None and (embedding is None or owner != model_name(embedding)):
            embedding = together_named(owner) or embedding
        if embedding is None:
            return False
    engine.__class__ = TogetherVectorEngine
    TogetherVectorEngine.__init__(engine, context, engine.table_name, engine.schema, embedding)
    return True


def _upsert(original: Callable[..., object], self: Any, knowledge: object) -> object:
    if _is_plain(self) and not self.table_name.startswith("#") and _take_over(self, "user"):
        return self.upsert_knowledge(knowledge)
    return original(self, knowledge)


def _query(
    original: Callable[..., object],
    self: Any,
    input: str,
    top_n: int = 1,
    distance: str = "cosine_similarity",
) -> object:
    """Ask the database with bound values: the toolkit writes the question into its statement."""
    from hana_ai.api.hana.knowledge import KnowledgeTable, take_last

    if _is_plain(self) and not self.table_name.startswith("#") and _take_over(self, "user"):
        return self.query(input, top_n, distance)
    if not ROUTING.active:
        return original(self, input, top_n, distance)
    context = self.connection_context
    schema = self.schema
    if self.columns is None:
        self.columns = context.table(table=self.table_name, schema=schema).columns
    table = KnowledgeTable("" if self.table_name.startswith("#") else schema, self.table_name, self.columns[:4])
    table.check(top_n, distance)
    asked = ("TO_REAL_VECTOR(VECTOR_EMBEDDING(?, 'QUERY', ?))", (input, self.model_version))
    return take_last(self, table.closest(context.connection, *asked, top_n, distance))


def _patch_engine(module: ModuleType, patcher: Patcher) -> None:
    owner = class_in(module, "HANAMLinVectorEngine")
    patcher.replace(owner, "__init__", _make_engine, ["self", "connection_context", "table_name", "schema"])
    patcher.replace(owner, "upsert_knowledge", _upsert, ["self", "knowledge"])
    patcher.replace(owner, "query", _query, ["self", "input", "top_n", "distance"])


def _merge(
    original: Callable[..., _Engine], vector_stores: Iterable[_Engine], *args: object, **kwargs: object
) -> object:
    from hana_ai.api.errors import TogetherAIInputError
    from hana_ai.api.hana.vector_engine import TogetherVectorEngine

    stores = list(vector_stores)
    ours = [store for store in stores if isinstance(store, TogetherVectorEngine)]
    models_of = sorted({store.model_version for store in stores})
    if ours and len(models_of) > 1:
        raise TogetherAIInputError(
            f"The stores hold vectors of {' and '.join(models_of)}; vectors of two models cannot be compared. "
            "Embed the knowledge of one of them again before merging."
        )
    token = _merging.set(True)
    try:
        merged = original(stores, *args, **kwargs)
    finally:
        _merging.reset(token)
    return ours[0].on_table(merged.table_name, merged.schema) if ours else merged


def _patch_merge(module: ModuleType, patcher: Patcher) -> None:
    patcher.replace(module, "merge_hana_vector_store", _merge, ["vector_stores"])


_FOLLOWS = "new tables are Together's; others go on with the model that wrote them"

SEAMS = (
    Seam("HanaDB", "langchain_hana.vectorstores.hana_db", "langchain-hana", _FOLLOWS, _patch_store),
    Seam(
        "HanaDB of langchain_community",
        "langchain_community.vectorstores.hanavector",
        "langchain-community",
        _FOLLOWS,
        _patch_store,
    ),
    Seam(
        "HANAMLinVectorEngine",
        "hana_ai.vectorstore.hana_vector_engine",
        "hana-ai",
        f"{_FOLLOWS}; questions are bound, not written into SQL",
        _patch_engine,
        models.why_embeddings_stay,
    ),
    Seam(
        "merge_hana_vector_store",
        "hana_ai.vectorstore.union_vector_stores",
        "hana-ai",
        "what is merged keeps its embeddings",
        _patch_merge,
    ),
)
