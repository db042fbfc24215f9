"""The doors to vector tables: langchain_hana's `HanaDB` and the toolkit's `HANAMLinVectorEngine`.

A table goes on with the model that wrote it: one of the database's, one of Together's, or nobody's who could be
asked. New and empty tables are Together's where the embeddings are routed (langchain-hana 1.2, hana-ai
1.1.26081400).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from hana_ai.api.routing import models
from hana_ai.api.routing.seams import NotNeeded, Patcher, Seam, class_in
from hana_ai.api.routing.toolkit import (
    bound_to,
    embeddings_of,
    is_embedding_service,
    kept_in_database,
    origin_of,
    origin_of_caller,
)

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from hana_ai.api.embeddings import TogetherAIEmbeddings
    from hana_ai.api.hana.vector_column import VectorColumn

_GUARD = "_together_guard"
_merging: ContextVar[bool] = ContextVar("merging", default=False)


class _Store(Protocol):
    """What a `HanaDB` says about its table."""

    connection: Any
    embedding: Embeddings
    schema_name: str
    table_name: str
    vector_column: str
    vector_column_length: int
    content_column: str

    def set_embedding(self, embedding: Embeddings) -> None: ...


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


def _is_in_database(column: VectorColumn) -> bool:
    return bool(column.generated) or (column.model or "").startswith("SAP_")


def _together(owner: str) -> TogetherAIEmbeddings | None:
    """The model of Together's with which a table is stamped; None for a name that is not one of Together's."""
    from hana_ai.api.hana.embedding import model_and_dimensions

    return models.embeddings_named(*model_and_dimensions(owner)) if "/" in owner else None


# --- langchain_hana's HanaDB ---


def _schema_of(store: _Store) -> str | None:
    """The schema of a store's table, as far as a pattern of TOGETHER_ROUTE_TABLES asks for one."""
    if store.schema_name or "." not in models.current_settings().together_route_tables:
        return store.schema_name or None
    from hana_ai.api.hana.tables import current_schema

    return current_schema(store.connection)


class _Guard:
    """What is known of the table behind a `HanaDB`, and which object the user gave to embed."""

    def __init__(self, store: _Store) -> None:
        from hana_ai.api.hana.ownership import Ownership

        self.given = self.bound = store.embedding
        # Once, as for every object: what a store is, is decided when it is made.
        self._routed = models.routes_table(store.table_name, _schema_of(store))
        self._ownership = Ownership(store.schema_name, store.table_name, store.vector_column, store.content_column)
        self._tolerated = False
        self.model = ""
        """The name of the model that embeds now."""

    @property
    def _service(self) -> Any | None:
        """One of the toolkit's services, if it is to embed through Together."""
        given: Any = self.given
        if not self._routed:
            return None
        if is_embedding_service(given):
            return given if models.routes_embeddings(origin_of(given)) else None
        return given if type(given).__name__ == "GenAIHubEmbeddings" and _is_ours(given.model) else None

    def together(self) -> TogetherAIEmbeddings | None:
        """Together's model that would embed for a new table."""
        given: Any = self.given
        if _is_ours(given):
            return given  # type: ignore[no-any-return]
        service: Any = self._service
        if service is None:
            return None
        return embeddings_of(service) if is_embedding_service(service) else service.model

    def ready(self, store: _Store, *, writing: bool = False) -> None:
        """Let the table's own model embed, or refuse the one that was given.

        Raises
        ------
        TogetherAIInputError
            The table is another model's, or nobody knows whose.
        """
        if not writing and self.model and self._ownership.column.model == self.model:
            return
        if self._service is not None:
            self._follow(store)
        elif _is_ours(self.given):
            self.model = _name(self.given)
            self._ownership.open(store.connection, self.model)
        else:
            self._compare(store)

    def _follow(self, store: _Store) -> None:
        """Bind the toolkit's service to the table's owner."""
        column = self._ownership.find(store.connection)
        if column.model == self.model and self.model:
            return
        given: Any = self.given
        if column.model is not None and _is_in_database(column):
            if is_embedding_service(given):
                self._bind(store, kept_in_database(given, column.model), column.model)
            else:
                from langchain_hana import HanaInternalEmbeddings

                store.set_embedding(HanaInternalEmbeddings(column.model))
                self._bind(store, store.embedding, column.model)
            return
        ours = self.together()
        if ours is None:
            self._compare(store)
            return
        if column.model is not None and column.model != _name(ours):
            named = _together(column.model)
            if named is None:
                column.check_model(_name(ours))
            ours = named or ours
            models.say_once(
                logging.INFO,
                f"{column.table_name} holds vectors of {column.model}, which goes on embedding for it.",
            )
        self._bind(store, bound_to(given, ours), _name(ours))

    def _bind(self, store: _Store, embedding: Embeddings, model: str) -> None:
        self.bound = store.embedding = embedding
        self.model = model

    def _compare(self, store: _Store) -> None:
        """Refuse somebody else's embeddings only where it is known that another model wrote the table."""
        from hana_ai.api.errors import TogetherAIInputError

        self.model = _name(self.given)
        if not self._tolerated and self.model:
            try:
                self._ownership.find(store.connection, self.model)
            except TogetherAIInputError:
                if self.model.startswith("SAP_"):
                    # It was asked, too, so it is known not to have written the rows.
                    raise
                # Nobody knows who wrote them: as without this package.
                self._tolerated = True
        if self._tolerated or not self.model:
            self._ownership.recorded(store.connection)
        if self.model:
            self._ownership.column.check_model(self.model)
        given: Any = self.given
        if self.bound is self.given and is_embedding_service(given):
            # It stays the database's for this table, whatever the settings say later.
            self._bind(store, kept_in_database(given, given.model_version), self.model)

    def write(
        self, store: _Store, texts: list[str], vectors: Any, insert: Callable[[Any], list[str]]
    ) -> list[str]:
        """Insert rows; the first of a table are followed by its stamp."""
        from hana_ai.api.hana.embedding import width_of
        from hana_ai.api.hana.ownership import check_not_generated

        self.ready(store, writing=True)
        column = self._ownership.column
        check_not_generated(column)
        if column.model is not None or self._tolerated or not self.model or not texts:
            return insert(vectors)
        in_database = getattr(store, "use_internal_embeddings", False)
        if vectors is None and not in_database:
            # Before the table is locked.
            vectors = store.embedding.embed_documents(texts)
        ours = _is_ours(self.given) or self._service is not None
        stamp = ours or self.model.startswith("SAP_")
        width = None if in_database else width_of(vectors)
        with self._ownership.writing(store.connection, self.model, width, stamp=stamp):
            written = insert(vectors)
        self._tolerated = not stamp
        return written


def _is_ours(embedding: object) -> bool:
    from hana_ai.api.embeddings import TogetherAIEmbeddings

    return isinstance(embedding, TogetherAIEmbeddings)


def _name(embedding: Any) -> str:
    """The name under which a model is recorded; empty while PAL has not said which it takes."""
    from hana_ai.api.hana.embedding import model_name

    if type(embedding).__name__ == "GenAIHubEmbeddings":
        embedding = embedding.model
    if is_embedding_service(embedding) and not embedding.model_version:
        return ""
    return model_name(embedding)


def _guard_of(store: Any) -> _Guard | None:
    """The guard of a plain store; None for this package's own, which look after their table themselves."""
    from hana_ai.api.hana.vector_table import VectorTable

    if isinstance(store, VectorTable):
        return None
    guard: _Guard | None = vars(store).get(_GUARD)
    if guard is None or guard.bound is not store.embedding:
        guard = vars(store)[_GUARD] = _Guard(store)
    return guard


def _make_store(original: Callable[..., None], self: Any, *args: object, **kwargs: object) -> None:
    original(self, *args, **kwargs)
    guard = _guard_of(self)
    if guard is not None:
        guard.ready(self)


def _create_table(original: Callable[..., None], self: Any) -> None:
    """Give a table that is created for Together the width of its vectors, so that HANA refuses any other."""
    guard = _guard_of(self)
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
    guard = _guard_of(self)

    def insert(vectors: Any) -> list[str]:
        return original(self, texts, metadatas, vectors, **kwargs)

    return insert(embeddings) if guard is None else guard.write(self, texts, embeddings, insert)


def _search(original: Callable[..., object], self: Any, query: str, *args: object, **kwargs: object) -> object:
    guard = _guard_of(self)
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
    if _is_plain(self) and not table_name.startswith("#") and not _merging.get():
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
    if column is not None and column.model is not None and _is_in_database(column):
        embedding = HanaInternalEmbeddings(column.model)
    else:
        embedding = models.embeddings_for(origin, asked)
        owner = None if column is None else column.model
        if owner is not None and (embedding is None or owner != model_name(embedding)):
            embedding = _together(owner) or embedding
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
