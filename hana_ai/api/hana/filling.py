"""Filling the new table of a migration with vectors, batch by batch, so that it can be killed and run again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from langchain_core.embeddings import Embeddings

from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.checking import cosine
from hana_ai.api.hana.connections import Connection, all_rows, execute, only_row, transaction
from hana_ai.api.hana.embedding import width_of
from hana_ai.api.hana.ownership import SAME
from hana_ai.api.hana.table_copy import WORK_COLUMN
from hana_ai.api.hana.vector_column import VectorColumn, packed
from hana_ai.api.storage.quoting import literal, quoted

_BATCH = '"#HANA_AI_TOGETHER_BATCH"'
_MOST_SAMPLES = 8
_WINDOW = 8
"""Batches' worth of numbers among which the next batch is looked for; most rows have one."""


@dataclass
class Filling:
    """A table whose rows are numbered in the working column, and what fills it.

    A row waits for its vector while it has a number, but no vector.
    """

    connection: Connection
    column: VectorColumn
    text_column: str
    embedding: Embeddings
    model: str
    embedded: int = 0
    """Rows that got a vector."""
    tokens: int | None = None
    """Tokens that were embedded, as the server counted them."""
    _samples: dict[int, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.embedding, TogetherAIEmbeddings):
            self.embedding = _counting(self.embedding, self._add)

    def _add(self, tokens: int) -> None:
        self.tokens = (self.tokens or 0) + tokens

    @property
    def inside(self) -> bool:
        """Whether the database makes the vectors."""
        return is_internal(self.embedding)

    def run(self, batch_size: int, after_batch: Callable[[], None]) -> None:
        """Give every row that waits its vector.

        Raises
        ------
        TogetherAIRequestError
            A batch cannot be embedded; earlier ones are committed.
        """
        if self.inside:
            self._run(batch_size, self._write_inside, after_batch)
            return
        with self._batch_table():
            self._run(batch_size, self._write, after_batch)

    def _run(
        self, size: int, write: Callable[[list[tuple[int, str]]], None], after_batch: Callable[[], None]
    ) -> None:
        last = -1
        while rows := self._waiting(size, last):
            last = rows[-1][0]
            blank = [number for number, text in rows if not text.strip()]
            if blank:
                with transaction(self.connection) as cursor:
                    cursor.executemany(
                        f"UPDATE {self.column.table_name} SET {quoted(WORK_COLUMN)} = NULL "
                        f"WHERE {quoted(WORK_COLUMN)} = ?",
                        [(number,) for number in blank],
                    )
            if usable := [row for row in rows if row[1].strip()]:
                write(usable)
                self.embedded += len(usable)
                after_batch()

    def _waiting(self, size: int, last: int) -> list[tuple[int, str]]:
        number, text, vector = quoted(WORK_COLUMN), quoted(self.text_column), quoted(self.column.column)
        # Where the database embeds, its texts stay there.
        shown = f"CASE WHEN LENGTH({text}) > 0 THEN 'x' ELSE '' END" if self.inside else text
        waiting = f"FROM {self.column.table_name} WHERE {number} > ? AND {vector} IS NULL"
        (first,) = only_row(self.connection, f"SELECT MIN({number}) {waiting}", (last,))
        if first is None:
            return []
        # With an end, so that not all rows that wait are sorted for each batch.
        batch = f"SELECT TOP {size} {number}, {shown} {waiting} AND {number} < ? ORDER BY {number}"
        rows = all_rows(self.connection, batch, (last, int(first) + _WINDOW * size))
        return [(int(row[0]), str(row[1])) for row in rows]

    def _write(self, rows: list[tuple[int, str]]) -> None:
        vectors = self.embedding.embed_documents([text for _, text in rows])
        self.column.check_width(width_of(vectors), self.model)
        made = list(zip((number for number, _ in rows), vectors, strict=True))
        number, vector = quoted(WORK_COLUMN), quoted(self.column.column)
        with transaction(self.connection) as cursor:
            cursor.execute(f"DELETE FROM {_BATCH}")
            cursor.executemany(
                f"INSERT INTO {_BATCH} VALUES (?, ?)",
                [(name, packed(values, self.column.type)) for name, values in made],
            )
            cursor.execute(
                f'MERGE INTO {self.column.table_name} AS "T" USING {_BATCH} AS "B" ON "T".{number} = "B"."NUMBER" '
                f'WHEN MATCHED THEN UPDATE SET "T".{vector} = "B"."VECTOR"'
            )
        if len(self._samples) < _MOST_SAMPLES:
            self._samples[made[-1][0]] = list(made[-1][1])

    def _write_inside(self, rows: list[tuple[int, str]]) -> None:
        text = quoted(self.text_column)
        made = f"TO_{self.column.type}(VECTOR_EMBEDDING({text}, 'DOCUMENT', {literal(self.model)}))"
        number = quoted(WORK_COLUMN)
        with transaction(self.connection) as cursor:
            cursor.execute(
                f"UPDATE {self.column.table_name} SET {quoted(self.column.column)} = {made} "
                f"WHERE {number} >= ? AND {number} <= ? AND LENGTH({text}) > 0",
                (rows[0][0], rows[-1][0]),
            )

    @contextmanager
    def _batch_table(self) -> Iterator[None]:
        from hdbcli import dbapi  # type: ignore[import-untyped]

        with self.connection.cursor() as cursor:
            with suppress(dbapi.Error):
                # Left by a run on this connection that failed.
                cursor.execute(f"DROP TABLE {_BATCH}")
            cursor.execute(
                f'CREATE LOCAL TEMPORARY COLUMN TABLE {_BATCH} ("NUMBER" BIGINT, '
                f'"VECTOR" {self.column.type}({self.column.width}))'
            )
        try:
            yield
        finally:
            if self.connection.isconnected():
                execute(self.connection, f"DROP TABLE {_BATCH}")

    def check_samples(self) -> None:
        """Compare some of the stored vectors with what the model gave.

        Raises
        ------
        TogetherAIInputError
            One differs.
        """
        vector = quoted(self.column.column)
        with self.connection.cursor() as cursor:
            for number, made in self._samples.items():
                cursor.execute(
                    f"SELECT TO_NVARCHAR({vector}) FROM {self.column.table_name} WHERE {quoted(WORK_COLUMN)} = ?",
                    (number,),
                )
                row = cursor.fetchone()
                # A row that was changed since, and embedded again, has another number.
                if row is not None and cosine(json.loads(str(row[0])), made) <= SAME:
                    raise TogetherAIInputError(
                        f"{self.column.name} does not hold what {self.model} gave. Drop the table, and migrate "
                        "again."
                    )


def width_in_database(connection: Connection, model: str) -> int:
    """How many numbers the vectors of a model in the database have."""
    measured = f"SELECT CARDINALITY(VECTOR_EMBEDDING('width', 'DOCUMENT', {literal(model)})) FROM DUMMY"
    return int(only_row(connection, measured)[0])


def is_internal(embedding: Embeddings) -> bool:
    """Whether the database embeds."""
    if isinstance(embedding, TogetherAIEmbeddings):
        # langchain_hana takes a while to import.
        return False
    from langchain_hana import HanaInternalEmbeddings

    return isinstance(embedding, HanaInternalEmbeddings)


def _counting(embedding: TogetherAIEmbeddings, add: Callable[[int], None]) -> TogetherAIEmbeddings:
    """The same, telling the tokens of each reply."""
    told = embedding.on_usage

    def on_usage(usage: Mapping[str, int]) -> None:
        add(int(usage.get("total_tokens") or 0))
        if told is not None:
            told(usage)

    return embedding.model_copy(update={"on_usage": on_usage})
