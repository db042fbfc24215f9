"""TogetherHanaDB: langchain_hana's vector store with ids, batches, and a table that keeps to one model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_hana.vectorstores.create_where_clause import CreateWhereClause
from langchain_hana.vectorstores.hana_db import HANA_DISTANCE_FUNCTION, INTERMEDIATE_TABLE_NAME
from langchain_hana.vectorstores.utils import _sanitize_metadata_keys

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.connections import Connection, transaction
from hana_ai.api.hana.embedding import width_of
from hana_ai.api.hana.rows import LONGEST_ID, Row, read_rows
from hana_ai.api.hana.vector_column import packed
from hana_ai.api.hana.vector_table import VectorTable
from hana_ai.api.langchain.arguments import check_names
from hana_ai.api.storage.quoting import quoted

_IDS_AT_ONCE = 500
_OF_ADD_TEXTS = ("texts", "metadatas", "embeddings", "ids", "batch_size", "resume", "use_map_merge")


class TogetherHanaDB(VectorTable):
    """A vector table in SAP HANA whose vectors come from one embedding model.

    It does all that `langchain_hana.HanaDB` does, and differs in this: rows have ids; texts may come from a
    generator and are embedded, written and committed in batches, so that an interrupted load can be run again with
    the same ids; the vector column is compared with the model before anything is written; the model's name is kept
    in the column's comment, and another model is refused; names are quoted, not stripped of characters; and no
    connection is used by two threads at the same time, so the async methods, which run in threads, and
    multithreaded callers are safe.

    Parameters
    ----------
    connection : hdbcli.dbapi.Connection, optional
        The caller closes it. On its own it is shared in turns. Default: connections from the settings
        (HANA_ADDRESS, ...), one for each thread at work.
    embedding : Embeddings or str, optional
        Default: `TogetherAIEmbeddings()`. ``"hana"`` embeds in the database with SAP's default model,
        ``"hana:NAME"`` with another of SAP's; documents and queries then never leave the database.
    connect : callable, optional
        Opens further connections, for threads that work at the same time.
    id_column : str or None
        Column with the ids, the table's primary key. An existing table without it is read and written without
        ids, as by `HanaDB`; so is any table if this is None.
    batch_size : int
        Rows that are embedded, written and committed together.
    embeddings
        Another name for `embedding`.
    vector_column_length : int
        Width of the vectors; -1 takes the model's.
    distance_strategy, table_name, schema_name, content_column, metadata_column, vector_column, \
vector_column_type, specific_metadata_columns
        As in `HanaDB`. Names of columns consist of letters, digits and underscores; names of tables and schemas
        of anything but quotation marks.

    Raises
    ------
    TogetherAIInputError
        The table's vectors are of another model or width, or a name is invalid.

    Examples
    --------
    >>> from hana_ai.api import TogetherHanaDB
    >>> store = TogetherHanaDB(table_name="MANUALS")
    >>> store.add_texts(["A column store keeps each column together."], ids=["1"])
    ['1']
    >>> store.similarity_search("What is a column store?", k=1)[0].id
    '1'
    """

    # --- writing ---

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, object] | None] | None = None,
        embeddings: Iterable[Sequence[float]] | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        batch_size: int | None = None,
        resume: bool = False,
        use_map_merge: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Embed texts and write them, batch by batch.

        A row with an existing id is replaced, so an interrupted load can be run again with the same ids. Each
        batch is committed as a whole; a given connection without autocommit then commits its earlier changes as
        well.

        Parameters
        ----------
        texts, metadatas, embeddings, ids : iterables
            Of the same length; generators are read batch by batch. Texts that come with a vector are not embedded.
            A missing id is generated.
        batch_size : int, optional
            Rows in a batch. Default: the store's.
        resume : bool
            Skip rows that exist with the same id, text and metadata, without embedding them again: for an
            interrupted load.
        use_map_merge : bool
            As in `HanaDB`, for tables without ids that are embedded in the database.

        Returns
        -------
        list of str
            The ids, in the order of the texts; empty if the table has none.

        Raises
        ------
        TogetherAIInputError
            The vectors do not fit the column, the iterables differ in length, an id is too long, or an argument's
            name is close to another one. What was committed before stays.
        TogetherAIRequestError
            A batch cannot be embedded; earlier ones are committed.
        """
        check_names("add_texts", kwargs, _OF_ADD_TEXTS)
        if use_map_merge:
            if self.id_column is not None:
                raise TogetherAIInputError("use_map_merge writes no ids; open the table with id_column=None.")
            with self._connections.lease(), self.ownership.writing(self.connection, self._model_name()):
                kept = [dict(metadata or {}) for metadata in metadatas or ()] or None
                return super().add_texts(list(texts), kept, use_map_merge=True)
        if (ids is not None or resume) and self.id_column is None:
            raise self._has_no_ids()
        size = batch_size or self.batch_size
        written: list[str] = []
        rows = read_rows(texts, metadatas, embeddings, ids)
        while batch := list(islice(rows, size)):
            self._write(batch, resume)
            if self.id_column is not None:
                written.extend(row.id for row in batch)
        return written

    def add_documents(self, documents: Iterable[Document], **kwargs: Any) -> list[str]:
        """Write documents, which may come from a generator, under their own ids unless `ids` gives others."""
        size = kwargs.get("batch_size") or self.batch_size
        given = kwargs.pop("ids", None)
        given = None if given is None else iter(given)
        written: list[str] = []
        remaining = iter(documents)
        while batch := list(islice(remaining, size)):
            ids = [document.id for document in batch] if given is None else list(islice(given, len(batch)))
            if any(ids) or given is not None:
                kwargs["ids"] = ids
            else:
                kwargs.pop("ids", None)
            texts = [document.page_content for document in batch]
            written += self.add_texts(texts, [document.metadata for document in batch], **kwargs)
        return written

    def _write(self, batch: list[Row], resume: bool) -> None:
        for row in batch:
            _sanitize_metadata_keys(list(row.metadata))
        # The last row of an id wins, as between batches.
        rows = list({row.id: row for row in batch}.values())
        if resume:
            rows = self._unwritten(rows)
        if not rows:
            return
        self.ownership.check_writable(self.connection, self._model_name())
        self._embed(rows)
        width = None if self.use_internal_embeddings else width_of([row.vector or () for row in rows])
        names = [self.content_column, self.metadata_column, *self.specific_metadata_columns, self.vector_column]
        values = ["?"] * (len(names) - 1)
        vector = "?"
        if self.use_internal_embeddings:
            expression, _ = self._generate_vector_embedding_sql_and_params("", "DOCUMENT")
            vector = self._convert_vector_embedding_to_column_type(expression)
        values.append(vector)
        verb, end = "INSERT INTO", ""
        if self.id_column is not None:
            names.insert(0, self.id_column)
            values.insert(0, "?")
            verb, end = "UPSERT", " WITH PRIMARY KEY"
        sql = f"{verb} {self._table_ref} ({', '.join(map(quoted, names))}) VALUES ({', '.join(values)}){end}"
        parameters = [self._parameters(row) for row in rows]
        with (
            self._connections.lease(),
            self.ownership.writing(self.connection, self._model_name(), width) as cursor,
        ):
            cursor.executemany(sql, parameters)

    def _unwritten(self, rows: list[Row]) -> list[Row]:
        there = {document.id: document for document in self.get_by_ids([row.id for row in rows])}
        return [row for row in rows if not (document := there.get(row.id)) or not _is_same(document, row)]

    def _embed(self, rows: list[Row]) -> None:
        if self.use_internal_embeddings:
            if any(row.vector is not None for row in rows):
                raise TogetherAIInputError("This table is embedded in the database, so it takes no vectors.")
            return
        missing = [row for row in rows if row.vector is None]
        if missing:
            vectors = self.embedding.embed_documents([row.text for row in missing])
            for row, vector in zip(missing, vectors, strict=True):
                row.vector = vector

    def _parameters(self, row: Row) -> tuple[object, ...]:
        found: list[Any] = [] if self.id_column is None else [row.id]
        found += [row.text, json.dumps(row.metadata)]
        found += [row.metadata.get(name) for name in self.specific_metadata_columns]
        if self.use_internal_embeddings:
            return (*found, *self._generate_vector_embedding_sql_and_params(row.text, "DOCUMENT")[1])
        return (*found, packed(row.vector or (), self.vector_column_type))

    def _has_no_ids(self) -> TogetherAIInputError:
        return TogetherAIInputError(
            f"{self._table_ref} has no column for ids. Tables that this class creates have one; add it to an "
            f'existing table with: ALTER TABLE {self._table_ref} ADD ("VEC_ID" NVARCHAR({LONGEST_ID})), an UPDATE '
            'that fills it, and ALTER TABLE ... ADD PRIMARY KEY ("VEC_ID").'
        )

    # --- ids ---

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Read documents by their ids, in that order; missing ones are left out.

        Raises
        ------
        TogetherAIInputError
            The table has no ids.
        """
        if self.id_column is None:
            raise self._has_no_ids()
        found: dict[str, Document] = {}
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), _IDS_AT_ONCE):
            part = wanted[start : start + _IDS_AT_ONCE]
            with self.connection.cursor() as cursor:
                cursor.execute(
                    f'SELECT "{self.id_column}", "{self.content_column}", "{self.metadata_column}" '
                    f'FROM {self._table_ref} WHERE "{self.id_column}" IN ({", ".join("?" * len(part))})',
                    tuple(part),
                )
                for row in cursor.fetchall():
                    found[row[0]] = _document(row[1], row[2], row[0])
        return [found[name] for name in wanted if name in found]

    def delete(  # type: ignore[override]
        self, ids: list[str] | None = None, filter: dict[str, Any] | None = None
    ) -> bool | None:
        """Delete documents by their ids, or by a filter on their metadata; ``filter={}`` deletes all.

        Raises
        ------
        TogetherAIInputError
            Both are given, or neither, or the table has no ids.
        """
        if ids is None:
            if filter is None:
                raise TogetherAIInputError("delete takes ids=[...] or filter={...}; filter={} deletes everything.")
            return bool(super().delete(filter=filter))
        if filter is not None:
            raise TogetherAIInputError("delete takes ids or filter, not both.")
        if self.id_column is None:
            raise self._has_no_ids()
        if ids:
            with self._connections.lease() as connection, transaction(connection) as cursor:
                cursor.executemany(
                    f'DELETE FROM {self._table_ref} WHERE "{self.id_column}" = ?', [(name,) for name in ids]
                )
        return True

    # --- searching ---

    def similarity_search_with_score_and_vector_by_vector(
        self,
        embedding: Sequence[float],
        k: int = 4,
        filter: dict[str, Any] | None = None,
        *,
        rerank_config: dict[str, Any] | None = None,
    ) -> list[tuple[Document, float, list[float]]]:
        """Search by a vector, which is bound, not written into the statement; see `HanaDB`.

        Raises
        ------
        TogetherAIInputError
            The vector has another width than the column, or the table is another model's.
        """
        self.ownership.check(self.connection, self._model_name(), len(embedding))
        return self._similarity_search_with_score_and_vector(
            self._convert_to_target_vector_type("?"),
            k=k,
            filter=filter,
            vector_embedding_params=(str([float(number) for number in embedding]),),
            rerank_config=rerank_config,
        )

    def _similarity_search_with_score_and_vector(
        self,
        embedding_expr: str,
        k: int,
        filter: dict[str, Any] | None = None,
        vector_embedding_params: tuple[str, ...] | None = None,
        rerank_config: dict[str, Any] | None = None,
    ) -> list[tuple[Document, float, list[float]]]:
        self.ownership.check(self.connection, self._model_name())
        if rerank_config or self.id_column is None:
            return super()._similarity_search_with_score_and_vector(
                embedding_expr, k, filter, vector_embedding_params, rerank_config
            )
        if not isinstance(k, int) or k < 1:
            raise TogetherAIInputError(f"k is {k!r}; it must be a whole number above 0.")
        function, order = HANA_DISTANCE_FUNCTION[self.distance_strategy]
        searched = self._extract_keyword_search_columns(filter)
        projection = self._create_metadata_projection(searched) if searched else ""
        where, where_parameters = CreateWhereClause(self)(filter)
        sql = (
            f'{projection} SELECT TOP {k} "{self.content_column}", "{self.metadata_column}", '
            f'"{self.vector_column}", {function}("{self.vector_column}", {embedding_expr}) AS SCORE, '
            f'"{self.id_column}" FROM {INTERMEDIATE_TABLE_NAME if searched else self._table_ref} {where} '
            f"ORDER BY SCORE {order}"
        )
        with self.connection.cursor() as cursor:
            cursor.execute(sql, (*(vector_embedding_params or ()), *where_parameters))
            rows = cursor.fetchall()
        return [
            (_document(row[0], row[1], row[4]), row[3], self._handle_vector_output_type(row[2])) for row in rows
        ]

    # --- creating one ---

    @classmethod
    def from_texts(  # type: ignore[override]
        cls,
        texts: Iterable[str],
        embedding: Embeddings | str | None = None,
        metadatas: Iterable[Mapping[str, object] | None] | None = None,
        connection: Connection | None = None,
        *,
        ids: Iterable[str | None] | None = None,
        use_map_merge: bool = False,
        **fields: Any,
    ) -> TogetherHanaDB:
        """Create a store and write texts into it; `fields` are the constructor's."""
        store = cls(connection, embedding, **fields)
        store.add_texts(texts, metadatas, ids=ids, use_map_merge=use_map_merge)
        return store


def _is_same(document: Document, row: Row) -> bool:
    # Compared as JSON, which has neither tuples nor numeric keys.
    metadata = json.loads(json.dumps(row.metadata))
    return document.page_content == row.text and bool(document.metadata == metadata)


def _document(text: str, metadata: str, name: str) -> Document:
    return Document(page_content=text, metadata=json.loads(metadata or "{}"), id=name)
