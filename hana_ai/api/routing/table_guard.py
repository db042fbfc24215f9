"""Whose table is behind a `HanaDB`, and which model embeds for it: what the store's methods ask before they work.

Where the toolkit is routed, the store is bound to the model that it finds; where the tables are only guarded, the
store keeps its own, and is refused a table of another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from hana_ai.api.routing import models
from hana_ai.api.routing.hooks import ROUTING
from hana_ai.api.routing.toolkit import bound_to, embeddings_of, is_embedding_service, kept_in_database, origin_of

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from hana_ai.api.embeddings import TogetherAIEmbeddings
    from hana_ai.api.hana.vector_column import VectorColumn

_GUARD = "_together_guard"


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


def is_in_database(column: VectorColumn) -> bool:
    """Whether the database's own model embeds for a table."""
    return bool(column.generated) or (column.model or "").startswith("SAP_")


def together_named(owner: str) -> TogetherAIEmbeddings | None:
    """The model of Together's with which a table is stamped; None for a name that is not one of Together's."""
    from hana_ai.api.hana.embedding import model_and_dimensions

    return models.embeddings_named(*model_and_dimensions(owner)) if "/" in owner else None


@contextmanager
def explained() -> Iterator[None]:
    """Add to a refusal what a program does about it that did not ask to be routed."""
    from hana_ai.api.errors import TogetherAIInputError

    try:
        yield
    except TogetherAIInputError as exc:
        raise TogetherAIInputError(
            f"{exc} The toolkit is not routed to Together AI: ENABLE_TOGETHER_AI=true lets each table go on with "
            "its own model, and TOGETHER_GUARD_TABLES=false lets tables be mixed."
        ) from None


def _schema_of(store: _Store) -> str | None:
    """The schema of a store's table, as far as a pattern of TOGETHER_ROUTE_TABLES asks for one."""
    if store.schema_name or "." not in models.current_settings().together_route_tables:
        return store.schema_name or None
    from hana_ai.api.hana.tables import current_schema

    return current_schema(store.connection)


class Guard:
    """What is known of the table behind a `HanaDB`, and which object the user gave to embed."""

    def __init__(self, store: _Store) -> None:
        from hana_ai.api.hana.ownership import Ownership

        self.given = self.bound = store.embedding
        self.decides = ROUTING.active
        """Whether the store is bound to what is found; one that is only guarded may be routed later."""
        # Once, as for every object: what a store is, is decided when it is made.
        self._routed = self.decides and models.routes_table(store.table_name, _schema_of(store))
        self._ownership = Ownership(
            store.schema_name,
            store.table_name,
            store.vector_column,
            store.content_column,
            stamps=self.decides or _is_ours(self.given),
        )
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
        if not self.decides:
            with explained():
                self._watch(store)
        elif self._service is not None:
            self._follow(store)
        else:
            self._watch(store)

    def _watch(self, store: _Store) -> None:
        if _is_ours(self.given):
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
        if column.model is not None and is_in_database(column):
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
            named = together_named(column.model)
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
        elif together_named(self._ownership.column.model or ""):
            self._ownership.column.check_model("PAL's model")
        given: Any = self.given
        if self.decides and self.bound is self.given and is_embedding_service(given):
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
        stamp = ours or (self.decides and self.model.startswith("SAP_"))
        width = None if in_database else width_of(vectors)
        with self._ownership.writing(store.connection, self.model, width, stamp=stamp):
            written = insert(vectors)
        self._tolerated = self.decides and not stamp
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


def guard_of(store: Any) -> Guard | None:
    """The guard of a plain store; None for this package's own, which look after their table themselves."""
    from hana_ai.api.hana.vector_table import VectorTable

    if isinstance(store, VectorTable):
        return None
    guard: Guard | None = vars(store).get(_GUARD)
    if guard is None or guard.bound is not store.embedding or (ROUTING.active and not guard.decides):
        guard = vars(store)[_GUARD] = Guard(store)
    return guard
