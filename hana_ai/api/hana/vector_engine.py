"""TogetherVectorEngine: hana_ai's knowledge table, with vectors from a model outside the database."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hana_ai.vectorstore.code_templates import get_code_templates  # type: ignore[import-untyped]
from hana_ai.vectorstore.hana_vector_engine import HANAMLinVectorEngine  # type: ignore[import-untyped]
from langchain_hana import HanaInternalEmbeddings

from hana_ai.api.hana.connections import Connection, transaction
from hana_ai.api.hana.embedding import embedding_from, model_name, width_of, width_of_model
from hana_ai.api.hana.knowledge import COLUMNS, Entry, KnowledgeTable, read_knowledge, take_last
from hana_ai.api.hana.ownership import Ownership
from hana_ai.api.hana.vector_column import packed, read_column
from hana_ai.api.storage.quoting import literal, quoted

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

BATCH_SIZE = 1024
"""Entries that are embedded, written and committed together."""

_TEXTS, _VECTORS = COLUMNS[1], COLUMNS[3]


class TogetherVectorEngine(HANAMLinVectorEngine):  # type: ignore[misc]
    """The knowledge table of the toolkit's code tools, embedded by Together AI.

    Use it wherever the toolkit takes a `HANAMLinVectorEngine`, `UnionVectorStores` and `CorrectiveRetriever`
    included. Texts reach the database as bound values, names as quoted names; the table keeps to one embedding
    model, as in `TogetherHanaDB`.

    Parameters
    ----------
    connection_context : hana_ml.ConnectionContext
        Used by one thread at a time.
    table_name : str
        Created if it does not exist.
    schema : str, optional
        Default: the connection's current schema.
    embedding : Embeddings or str, optional
        Default: `TogetherAIEmbeddings()`. ``"hana"`` embeds in the database with SAP's default model,
        ``"hana:NAME"`` with another of SAP's; a table that is created then is `HANAMLinVectorEngine`'s, whose
        vectors the database generates.

    Raises
    ------
    TogetherAIInputError
        The table's vectors are of another model or width, or a name is invalid.

    Examples
    --------
    >>> from hana_ai.api import TogetherVectorEngine
    >>> engine = TogetherVectorEngine(connection_context, "HANA_ML_PYTHON_KNOWLEDGE")
    >>> engine.create_knowledge()
    >>> print(engine.query("How do I make a time series report?"))
    """

    def __init__(
        self,
        connection_context: Any,
        table_name: str,
        schema: str | None = None,
        embedding: Embeddings | str | None = None,
    ) -> None:
        # Without the base class's, which would create a table that the database embeds.
        embedding = embedding_from(embedding)
        self._in_database = isinstance(embedding, HanaInternalEmbeddings)
        quoted(table_name)
        self.connection_context = connection_context
        self.table_name = table_name
        self.schema = schema or connection_context.get_current_schema()
        self.embedding = embedding
        self.model_version = model_name(embedding)
        self.columns = list(COLUMNS)
        self.current_query_distance: float | None = None
        self.current_query_rows: int | None = None
        self.model_type: str | None = None
        self._ownership = self._open()

    @property
    def _table(self) -> KnowledgeTable:
        return KnowledgeTable(self.schema, self.table_name)

    def _open(self) -> Ownership:
        connection = self.connection_context.connection
        place = (self.schema, self.table_name, _VECTORS)
        if read_column(connection, *place) is None:
            vectors = "REAL_VECTOR"
            if self._in_database:
                made = f"VECTOR_EMBEDDING({quoted(_TEXTS)}, 'DOCUMENT', {literal(self.model_version)})"
                vectors += f" GENERATED ALWAYS AS {made}"
            else:
                vectors += f"({width_of_model(self.embedding)})"
            with transaction(connection) as cursor:
                cursor.execute(
                    f'CREATE COLUMN TABLE {self._table.quoted_name} ("id" NVARCHAR(5000) PRIMARY KEY, '
                    f'"{_TEXTS}" NVARCHAR(5000), "example" NCLOB, "{_VECTORS}" {vectors})'
                )
        ownership = Ownership(*place, _TEXTS)
        ownership.open(connection, self.model_version)
        return ownership

    def on_table(self, table_name: str, schema: str) -> TogetherVectorEngine:
        """An engine like this one over another table with vectors of the same model, such as a merged one.

        The model is recorded there, unless it is a local temporary table, whose columns have no comments.
        """
        made = copy.copy(self)
        made.table_name, made.schema = table_name, schema
        made.current_query_distance = made.current_query_rows = made.model_type = None
        column = replace(self._ownership.column, schema=schema, table=table_name, generated="")
        made._ownership = Ownership.of_copy(self.connection_context.connection, column, _TEXTS, self.model_version)
        return made

    def create_knowledge(self, option: str = "python") -> None:
        """Write the toolkit's own code templates for ``"python"`` or ``"sql"``."""
        self.upsert_knowledge(get_code_templates(option=option))

    def upsert_knowledge(self, knowledge: Mapping[str, object] | Iterable[Mapping[str, object]]) -> None:
        """Write entries, replacing those with an existing id.

        Parameters
        ----------
        knowledge : mapping, DataFrame or iterable of mappings
            ``id``, ``description`` (which is embedded) and ``example``: one entry, columns, or rows.

        Raises
        ------
        TogetherAIInputError
            The vectors do not fit the table, or an entry lacks a field. What was committed before stays.
        """
        entries = read_knowledge(knowledge)
        connection = self.connection_context.connection
        for start in range(0, len(entries), BATCH_SIZE):
            batch = entries[start : start + BATCH_SIZE]
            if self._in_database:
                self._write_in_database(connection, batch)
                continue
            self._ownership.check_writable(connection, self.model_version)
            vectors = self.embedding.embed_documents([entry[1] for entry in batch])
            type = self._ownership.column.type
            with self._ownership.writing(connection, self.model_version, width_of(vectors)) as cursor:
                rows = [(*entry, packed(vector, type)) for entry, vector in zip(batch, vectors, strict=True)]
                self._table.write(cursor, rows, "?")

    def _write_in_database(self, connection: Connection, batch: list[Entry]) -> None:
        column = self._ownership.open(connection, self.model_version)
        if column.generated:
            with transaction(connection) as cursor:
                self._table.write(cursor, batch, None)
            return
        with self._ownership.writing(connection, self.model_version) as cursor:
            made = f"TO_{column.type}(VECTOR_EMBEDDING(?, 'DOCUMENT', ?))"
            self._table.write(cursor, [(*entry, entry[1], self.model_version) for entry in batch], made)

    def query(self, input: str, top_n: int = 1, distance: str = "cosine_similarity") -> Any:
        """Return the example of the `top_n`-th closest entry, as `HANAMLinVectorEngine` does.

        Parameters
        ----------
        input : str
        top_n : int
            1 is the closest; if the table has fewer entries, the last one is returned.
        distance : {"cosine_similarity", "l2distance"}

        Returns
        -------
        str or None
            None if the table is empty.

        Raises
        ------
        TogetherAIInputError
            There is no such distance, or `top_n` is below 1.
        """
        self._table.check(top_n, distance)
        connection = self.connection_context.connection
        self._ownership.check(connection, self.model_version)
        type = self._ownership.column.type
        values: tuple[str, ...]
        if self._in_database:
            vector, values = f"TO_{type}(VECTOR_EMBEDDING(?, 'QUERY', ?))", (input, self.model_version)
        else:
            asked = self.embedding.embed_query(input)
            self._ownership.check(connection, self.model_version, len(asked))
            vector, values = f"TO_{type}(?)", (str([float(number) for number in asked]),)
        return take_last(self, self._table.closest(connection, vector, values, top_n, distance))
