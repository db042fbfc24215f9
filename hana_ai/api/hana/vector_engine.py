"""TogetherVectorEngine: hana_ai's knowledge table, with vectors from a model outside the database."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hana_ai.vectorstore.code_templates import get_code_templates  # type: ignore[import-untyped]
from hana_ai.vectorstore.hana_vector_engine import HANAMLinVectorEngine  # type: ignore[import-untyped]

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.connections import transaction
from hana_ai.api.hana.embedding import embedding_from, model_name, width_of, width_of_model
from hana_ai.api.hana.ownership import Ownership
from hana_ai.api.hana.vector_column import packed, read_column
from hana_ai.api.storage.quoting import quoted

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

BATCH_SIZE = 1024
"""Entries that are embedded, written and committed together."""

_ORDER = {"COSINE_SIMILARITY": "DESC", "L2DISTANCE": "ASC"}
_COLUMNS = ("id", "description", "example")
_TEXTS = "description"
_VECTORS = "embeddings"


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
    embedding : Embeddings, optional
        Default: `TogetherAIEmbeddings()`. To embed in the database, use `HANAMLinVectorEngine` itself.

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
        embedding: Embeddings | None = None,
    ) -> None:
        # Without the base class's, which would create a table that the database embeds.
        embedding = embedding_from(embedding)
        quoted(table_name)
        self.connection_context = connection_context
        self.table_name = table_name
        self.schema = schema or connection_context.get_current_schema()
        self.embedding = embedding
        self.model_version = model_name(embedding)
        self.columns = [*_COLUMNS, _VECTORS]
        self.current_query_distance: float | None = None
        self.current_query_rows: int | None = None
        self.model_type: str | None = None
        self._ownership = self._open()

    @property
    def _table(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.table_name)}"

    def _open(self) -> Ownership:
        connection = self.connection_context.connection
        place = (self.schema, self.table_name, _VECTORS)
        if read_column(connection, *place) is None:
            width = width_of_model(self.embedding)
            with transaction(connection) as cursor:
                cursor.execute(
                    f'CREATE COLUMN TABLE {self._table} ("id" NVARCHAR(5000) PRIMARY KEY, '
                    f'"description" NVARCHAR(5000), "example" NCLOB, "{_VECTORS}" REAL_VECTOR({width}))'
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
        column = replace(self._ownership.column, schema=schema, table=table_name)
        made._ownership = Ownership.of_copy(self.connection_context.connection, column, _TEXTS, self.model_version)
        return made

    def create_knowledge(self, option: str = "python") -> None:
        """Write the toolkit's own code templates for ``"python"`` or ``"sql"``."""
        self.upsert_knowledge(get_code_templates(option=option))

    def upsert_knowledge(self, knowledge: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> None:
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
            self._ownership.check_writable(connection, self.model_version)
            vectors = self.embedding.embed_documents([entry[1] for entry in batch])
            type = self._ownership.column.type
            with self._ownership.writing(connection, self.model_version, width_of(vectors)) as cursor:
                cursor.executemany(
                    f'UPSERT {self._table} ("id", "description", "example", "{_VECTORS}") VALUES (?, ?, ?, ?) '
                    "WITH PRIMARY KEY",
                    [(*entry, packed(vector, type)) for entry, vector in zip(batch, vectors, strict=True)],
                )

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
        function = distance.upper()
        if function not in _ORDER:
            raise TogetherAIInputError(f"distance is {distance!r}; it is cosine_similarity or l2distance.")
        if not isinstance(top_n, int) or top_n < 1:
            raise TogetherAIInputError(f"top_n is {top_n!r}; it must be a whole number above 0.")
        connection = self.connection_context.connection
        self._ownership.check(connection, self.model_version)
        vector = self.embedding.embed_query(input)
        self._ownership.check(connection, self.model_version, len(vector))
        with connection.cursor() as cursor:
            cursor.execute(
                f'SELECT TOP {top_n} "example", {function}("{_VECTORS}", TO_{self._ownership.column.type}(?)) AS '
                f'"DISTANCE", "id" FROM {self._table} ORDER BY "DISTANCE" {_ORDER[function]}, "id"',
                (str([float(number) for number in vector]),),
            )
            rows = cursor.fetchall()
        self.current_query_rows = len(rows)
        if not rows:
            self.current_query_distance = self.model_type = None
            return None
        example, self.current_query_distance, self.model_type = rows[-1]
        return example


def read_knowledge(knowledge: Any) -> list[tuple[str, str, str | None]]:
    """Turn what `upsert_knowledge` takes into rows of id, description and example.

    Raises
    ------
    TogetherAIInputError
        An entry lacks a field.
    """
    if hasattr(knowledge, "to_dict") and hasattr(knowledge, "columns"):
        knowledge = knowledge.to_dict(orient="list")
    if isinstance(knowledge, Mapping):
        missing = [name for name in _COLUMNS if name not in knowledge]
        if missing:
            raise TogetherAIInputError(f"The knowledge has no {' and no '.join(missing)}.")
        columns = [[value] if isinstance(value := knowledge[name], str) else list(value) for name in _COLUMNS]
        if len({len(column) for column in columns}) > 1:
            raise TogetherAIInputError("The knowledge's id, description and example are not of the same length.")
        entries: Iterable[Any] = zip(*columns, strict=True)
    else:
        entries = (tuple(entry.get(name) for name in _COLUMNS) for entry in knowledge)
    rows = []
    for position, (name, description, example) in enumerate(entries):
        if name is None or not isinstance(description, str):
            raise TogetherAIInputError(f"The entry {position} of the knowledge has no id or no description.")
        rows.append((str(name), description, None if example is None else str(example)))
    return rows
