"""The table behind a vector store: created, opened and checked, so that it keeps to one embedding model."""

from __future__ import annotations

from collections.abc import Callable

from langchain_core.embeddings import Embeddings
from langchain_hana import HanaDB
from langchain_hana.utils import DistanceStrategy
from langchain_hana.vectorstores.hana_db import HANA_DISTANCE_FUNCTION

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.connections import Connection, Connections, LeasingConnection, execute
from hana_ai.api.hana.embedding import embedding_from, model_name, width_of_model
from hana_ai.api.hana.ownership import Ownership
from hana_ai.api.hana.rows import LONGEST_ID
from hana_ai.api.hana.vector_column import VectorColumn, has_table, read_column
from hana_ai.api.storage.quoting import quoted

BATCH_SIZE = 1024
"""Rows that are embedded, written and committed together."""


class VectorTable(HanaDB):
    """langchain_hana's store over a table that has ids, keeps to one model, and may be used by many threads."""

    def __init__(  # noqa: PLR0917 - the parameters of HanaDB, in its order
        self,
        connection: Connection | None = None,
        embedding: Embeddings | str | None = None,
        distance_strategy: DistanceStrategy = DistanceStrategy.COSINE,
        table_name: str = "EMBEDDINGS",
        schema_name: str = "",
        content_column: str = "VEC_TEXT",
        metadata_column: str = "VEC_META",
        vector_column: str = "VEC_VECTOR",
        vector_column_length: int = -1,
        vector_column_type: str = "REAL_VECTOR",
        *,
        specific_metadata_columns: list[str] | None = None,
        connect: Callable[[], Connection] | None = None,
        id_column: str | None = "VEC_ID",
        batch_size: int = BATCH_SIZE,
        embeddings: Embeddings | str | None = None,
    ) -> None:
        columns = [content_column, metadata_column, vector_column, *(specific_metadata_columns or [])]
        if id_column is not None:
            columns.append(id_column)
        for name in columns:
            quoted(name)
            if name != HanaDB._sanitize_name(name):
                raise TogetherAIInputError(
                    f"{name!r} cannot name a column of this store: letters, digits and underscores only."
                )
        quoted(table_name)
        if table_name.startswith("#"):
            raise TogetherAIInputError(f"{table_name!r} would be a temporary table, since it begins with #.")
        if schema_name:
            quoted(schema_name)
        if batch_size < 1:
            raise TogetherAIInputError(f"batch_size is {batch_size}; it must be 1 or more.")
        self._place = (schema_name, table_name)
        self._connections = Connections.of(connection, connect)
        self.id_column = id_column
        self.batch_size = batch_size
        self._ownership: Ownership | None = None
        super().__init__(
            LeasingConnection(self._connections),
            embedding_from(embedding if embedding is not None else embeddings),
            distance_strategy,
            content_column=content_column,
            metadata_column=metadata_column,
            vector_column=vector_column,
            vector_column_length=vector_column_length,
            vector_column_type=vector_column_type,
            specific_metadata_columns=specific_metadata_columns,
        )

    def _model_name(self) -> str:
        return model_name(self.embedding)

    def set_embedding(self, embedding: Embeddings) -> None:
        """Embed with another object; refused if the table was written with another model."""
        super().set_embedding(embedding)
        if self._ownership is not None:
            self._ownership.check(self.connection, self._model_name())

    def _initialize_table(self) -> None:
        self.schema_name, self.table_name = self._place
        if not self._table_exists(self.table_name):
            self._create_table()
        self._check_column(self.table_name, self.content_column, ["NCLOB", "NVARCHAR"])
        self._check_column(self.table_name, self.metadata_column, ["NCLOB", "NVARCHAR"])
        for name in self.specific_metadata_columns:
            self._check_column(self.table_name, name)
        self._check_column(
            self.table_name, self.vector_column, [self.vector_column_type], self.vector_column_length
        )
        ownership = Ownership(*self._place, self.vector_column, self.content_column)
        ownership.open(self.connection, self._model_name())
        self._ownership = ownership
        if self.id_column is not None and self._column_type(self.id_column) is None:
            self.id_column = None

    @property
    def ownership(self) -> Ownership:
        """Whose the table is."""
        assert self._ownership is not None
        return self._ownership

    @property
    def connections(self) -> Connections:
        """The connections that it works with."""
        return self._connections

    @property
    def table_ref(self) -> str:
        """The table, for SQL."""
        return self._table_ref

    def _create_table(self) -> None:
        width = max(self.vector_column_length, 0)
        if not self.use_internal_embeddings:
            found = width_of_model(self.embedding)
            if width not in (0, found):
                VectorColumn(*self._place, self.vector_column, self.vector_column_type, width).check_width(
                    found, self._model_name()
                )
            width = found
        columns = [
            f'"{self.content_column}" NCLOB',
            f'"{self.metadata_column}" NCLOB',
            f'"{self.vector_column}" {self.vector_column_type}' + (f"({width})" if width else ""),
        ]
        if self.id_column is not None:
            columns.insert(0, f'"{self.id_column}" NVARCHAR({LONGEST_ID}) PRIMARY KEY')
        execute(self.connection, f"CREATE TABLE {self._table_ref} ({', '.join(columns)})")

    @property
    def _table_ref(self) -> str:
        return ".".join(quoted(name) for name in (self.schema_name, self.table_name) if name)

    def _table_exists(self, table_name: str) -> bool:
        return has_table(self.connection, self.schema_name, table_name)

    def _column_type(self, name: str) -> tuple[str, int] | None:
        found = read_column(self.connection, self.schema_name, self.table_name, name)
        return None if found is None else found[:2]

    def _check_column(
        self,
        table_name: str,
        column_name: str,
        column_type: list[str] | None = None,
        column_length: int | None = None,
    ) -> None:
        found = self._column_type(column_name)
        if found is None:
            raise AttributeError(f"Column {column_name} does not exist")
        if column_type and found[0] not in column_type:
            raise AttributeError(f"Column {column_name} has the wrong type: {found[0]}")
        if column_length is not None and column_length > 0 and found[1] != column_length:
            raise AttributeError(
                f"Column {column_name} has the wrong length: {found[1]} expected: {column_length}"
            )

    def create_hnsw_index(
        self,
        m: int | None = None,
        ef_construction: int | None = None,
        ef_search: int | None = None,
        index_name: str | None = None,
    ) -> None:
        """Create a vector index; see `HanaDB`. The default name keeps the letters and digits of the table's."""
        function = HANA_DISTANCE_FUNCTION[self.distance_strategy][0]
        name = index_name or f"{HanaDB._sanitize_name(self.table_name)}_{function}_idx"
        super().create_hnsw_index(m, ef_construction, ef_search, name)

    def close(self) -> None:
        """Close the connections that this store opened; the one that it was given stays open."""
        self._connections.close()
