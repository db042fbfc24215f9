"""Moving a vector table to another model: its texts are embedded again into a new table, which can take its place.

The new table is made by one statement, with the model's stamp and a mark that says what it is made from. The rows
are copied in the database, all but their vectors, and numbered; then the texts are embedded in batches. Each batch
is committed as a whole, so whatever ends the process, the next call goes on with the rows that have a number, but
no vector. This needs neither a key nor HANA's row ids, which are not documented and change when a row does. Then
the two tables are compared, and rows of a table with a primary key that changed meanwhile are brought up to date.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

from langchain_core.embeddings import Embeddings

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana import swapping
from hana_ai.api.hana.connections import Connection, Context, connection_of, execute, only_row, transaction
from hana_ai.api.hana.costs import cost_of, estimated_tokens
from hana_ai.api.hana.embedding import embedding_from, embedding_named, model_name, width_of_model
from hana_ai.api.hana.filling import Filling, is_internal, width_in_database
from hana_ai.api.hana.ownership import count_vectors
from hana_ai.api.hana.swapping import Mark, drop_replaced
from hana_ai.api.hana.table_copy import WORK_COLUMN, TableLayout, digest, fingerprint, read_layout, rows_of
from hana_ai.api.hana.tables import VectorTableInfo, current_schema, find_table, text_column_of
from hana_ai.api.hana.vector_column import VectorColumn, read_vector_column
from hana_ai.api.storage.quoting import quoted

BATCH_SIZE = 1024
"""Rows that are embedded, written and committed together."""

_MOST_ROUNDS = 3


@dataclass(frozen=True)
class MigrationEstimate:
    """What a migration has to do."""

    table: str
    to: str
    """The name of the new table."""
    model: str
    rows: int
    to_embed: int
    """Rows that do not have their new vector yet."""
    without_vector: int
    """Rows that have no vector now, and get none: searches do not find them, and that stays so."""
    without_text: int
    """Rows that have a vector, but no text to embed; they get no vector."""
    tokens: int
    """About, at four characters a token."""
    cost_usd: Decimal | None
    """For these tokens, by the catalogue's prices; None if the price is unknown."""
    resumed: bool
    """Whether an earlier run has begun."""


@dataclass(frozen=True)
class MigrationProgress:
    """How far a migration is, after a batch."""

    done: int
    """Rows with their new vector, those of earlier runs among them."""
    total: int
    tokens: int | None
    """Embedded in this run, as the server counted them; None where it did not."""
    cost_usd: Decimal | None


@dataclass(frozen=True)
class Migration:
    """What a migration did."""

    table: str
    """The table with the new vectors."""
    model: str
    width: int
    rows: int
    vectors: int
    embedded: int
    """Rows that were embedded in this run."""
    tokens: int | None
    cost_usd: Decimal | None
    """Of this run."""
    swapped: bool
    """Whether the table with the new vectors has the old one's name."""
    kept: tuple[str, ...]
    """Under which names earlier tables are kept; `drop_replaced` drops them."""
    notes: tuple[str, ...] = ()
    """What does not go along with a swap, and what to do about it."""


OnProgress = Callable[[MigrationProgress], None]


def estimate_migration(
    connection: Connection | Context,
    table: str,
    *,
    schema: str | None = None,
    vector_column: str | None = None,
    text_column: str | None = None,
    to: str | None = None,
    model: str | None = None,
    embedding: Embeddings | str | None = None,
) -> MigrationEstimate:
    """Tell what `migrate_table` with the same arguments would do; nothing is written, and no text is sent.

    Raises
    ------
    TogetherAIInputError
        As for `migrate_table`.
    """
    connection = connection_of(connection)
    info = find_table(connection, table, schema, vector_column, text_column)
    return _Job.of(connection, info, to, _embedding(model, embedding)).estimate()


def migrate_table(
    connection: Connection | Context,
    table: str,
    *,
    schema: str | None = None,
    vector_column: str | None = None,
    text_column: str | None = None,
    to: str | None = None,
    model: str | None = None,
    embedding: Embeddings | str | None = None,
    swap: bool = False,
    keep_old: bool = True,
    keep_as: str | None = None,
    batch_size: int = BATCH_SIZE,
    on_progress: OnProgress | None = None,
) -> Migration:
    """Embed a table's texts again, by another model, into a new table of the same columns, ids and metadata.

    Run it again with the same arguments if it was broken off: rows that have their vector are not embedded again.
    At the end both tables are compared, row by row, and the working column is dropped.

    Parameters
    ----------
    connection : hdbcli.dbapi.Connection or hana_ml.ConnectionContext
        Of a user who may create tables in the schema, and to swap, alter this one.
    table : str
    schema, vector_column, text_column : str, optional
        Needed only where several could be meant.
    to : str, optional
        Name of the new table in the same schema. Default: the old one's with ``_NEW``.
    model : str, optional
        Together's model. Default: the one of TOGETHER_DEFAULT_EMBEDDING_MODEL, else of the catalogue.
    embedding : langchain_core.embeddings.Embeddings or str, optional
        Instead of `model`; ``"hana:NAME"`` embeds in the database.
    swap : bool
        Rename the old table to `keep_as`, and the new one to the old one's name.
    keep_old : bool
        Keep the old table after a swap, until `drop_replaced` drops it.
    keep_as : str, optional
        Default: the table's name with ``_OLD``.
    batch_size : int
        Rows that are embedded and committed together; a process that is killed loses the vectors of one batch.
    on_progress : callable, optional
        Called with a `MigrationProgress` after each batch.

    Returns
    -------
    Migration

    Raises
    ------
    TogetherAIInputError
        A name is taken, the new table belongs to another migration, a column cannot be copied, or the two tables
        differ in the end. What is there stays, and the old table is as it was.
    TogetherAIRequestError
        A batch cannot be embedded; earlier ones are committed.
    hdbcli.dbapi.Error
        The database refuses.

    Examples
    --------
    >>> from hana_ai.api.hana import estimate_migration, migrate_table
    >>> print(estimate_migration(connection, "MANUALS").cost_usd)
    >>> migrate_table(connection, "MANUALS", swap=True).kept
    ('MANUALS_OLD',)
    """
    connection = connection_of(connection)
    if batch_size < 1:
        raise TogetherAIInputError(f"batch_size is {batch_size}; it must be 1 or more.")
    schema = schema or current_schema(connection)
    to = to or f"{table}_NEW"
    swapping.complete_swap(connection, schema, table, to)
    info = find_table(connection, table, schema, vector_column, text_column)
    job = _Job.of(connection, info, to, _embedding(model, embedding))
    if info.known == "stamp" and info.model == job.model:
        done = job.is_done()
    else:
        kept = keep_as or f"{table}_OLD"
        if swap:
            swapping.check_free(connection, schema, kept)
        done = job.migrate(batch_size, on_progress)
        if swap:
            done = job.swap(done, kept)
    if done.swapped and not keep_old:
        drop_replaced(connection, table, schema)
        return replace(done, kept=())
    return done


def _embedding(model: str | None, embedding: Embeddings | str | None) -> Embeddings:
    if embedding is not None and model is not None:
        raise TogetherAIInputError("Pass model or embedding, not both.")
    return embedding_named(model) if model is not None else embedding_from(embedding)


@dataclass
class _Job:
    """One migration: from a table as it is, to a new one and a model."""

    connection: Connection
    info: VectorTableInfo
    old: TableLayout
    to: str
    embedding: Embeddings
    model: str

    @classmethod
    def of(cls, connection: Connection, info: VectorTableInfo, to: str | None, embedding: Embeddings) -> _Job:
        """Check all that can be checked before anything is done."""
        text_column_of(info)
        to = to or f"{info.table}_NEW"
        quoted(to)
        if info.rows is None:
            raise TogetherAIInputError(f"The database user may not read {info.name}.")
        old = read_layout(connection, info.schema, info.table)
        assert old is not None
        if to == info.table:
            raise TogetherAIInputError(f"The new table needs another name than {info.name}; swap=True renames it.")
        if old.has(WORK_COLUMN):
            raise TogetherAIInputError(f"{info.name} is the unfinished table of a migration; name its original.")
        old.check_copyable(info.vector_column)
        return cls(connection, info, old, to, embedding, model_name(embedding))

    @property
    def _new_name(self) -> str:
        return f"{quoted(self.info.schema)}.{quoted(self.to)}"

    @property
    def _text(self) -> str:
        return quoted(text_column_of(self.info))

    @property
    def _vector(self) -> str:
        return quoted(self.info.vector_column)

    def _new(self) -> TableLayout | None:
        """The new table as an earlier run has left it."""
        new = read_layout(self.connection, self.info.schema, self.to)
        if new is None:
            return None
        mark = Mark.of(new.comment)
        if mark is None or mark.table != self.info.table:
            raise TogetherAIInputError(
                f"There is a table {self._new_name} already, which is no migration of {self.info.name}. Name "
                "another with to=... or --to, or drop it."
            )
        if mark.model != self.model:
            raise TogetherAIInputError(
                f"{self._new_name} is being filled with vectors of {mark.model}, but {self.model} would embed "
                f"now. Go on with that one, or drop the table to begin again, or name another with "
                "to=... or --to."
            )
        return new

    # --- before it begins ---

    def estimate(self) -> MigrationEstimate:
        """See `estimate_migration`."""
        new = self._new()
        copied = new is not None and self._numbers(f"SELECT COUNT(*) FROM {self._new_name}")[0] > 0
        waiting = f"{self._vector} IS NOT NULL AND LENGTH({self._text}) > 0"
        place = self.info.name
        without_text = self._numbers(
            f"SELECT COUNT(*) FROM {place} WHERE {self._vector} IS NOT NULL AND ({self._text} IS NULL OR "
            f"LENGTH({self._text}) = 0)"
        )[0]
        if self.info.known == "stamp" and self.info.model == self.model:
            waiting = "1 = 0"
        elif new is not None and copied:
            place, waiting = self._new_name, self._waiting if new.has(WORK_COLUMN) else "1 = 0"
        rows, characters = self._numbers(
            f"SELECT COUNT(*), SUM(LENGTH({self._text})) FROM {place} WHERE {waiting}"
        )
        tokens = estimated_tokens(characters)
        return MigrationEstimate(
            table=self.info.table,
            to=self.to,
            model=self.model,
            rows=self.info.rows or 0,
            to_embed=rows,
            without_vector=(self.info.rows or 0) - (self.info.vectors or 0),
            without_text=without_text,
            tokens=tokens,
            cost_usd=cost_of(self.embedding, tokens),
            resumed=new is not None,
        )

    @property
    def _waiting(self) -> str:
        return f"{quoted(WORK_COLUMN)} IS NOT NULL AND {self._vector} IS NULL"

    def _numbers(self, sql: str) -> list[int]:
        return [int(value or 0) for value in only_row(self.connection, sql)]

    # --- the work ---

    def migrate(self, batch_size: int, on_progress: OnProgress | None) -> Migration:
        """Fill the new table, and compare it with the old one."""
        new = self._new() or self._create()
        column = self._column()
        filling = Filling(self.connection, column, text_column_of(self.info), self.embedding, self.model)
        if new.has(WORK_COLUMN):
            if self._numbers(f"SELECT COUNT(*) FROM {self._new_name}")[0] == 0:
                self._insert("")
            self._fill(filling, batch_size, on_progress)
        self._compare(filling, batch_size, on_progress)
        count, least, most = count_vectors(self.connection, column)
        if count and not least == most == column.width:
            raise TogetherAIInputError(f"{self._new_name} holds vectors of {least} to {most} numbers.")
        if self._has_work_column():
            execute(self.connection, f"ALTER TABLE {self._new_name} DROP ({quoted(WORK_COLUMN)})")
        return Migration(
            table=self.to,
            model=self.model,
            width=column.width,
            rows=self.info.rows or 0,
            vectors=count,
            embedded=filling.embedded,
            tokens=filling.tokens,
            cost_usd=cost_of(self.embedding, filling.tokens),
            swapped=False,
            kept=(),
        )

    def swap(self, done: Migration, kept: str) -> Migration:
        """Put the new table in the place of the old one."""
        notes = swapping.left_behind(self.connection, self.info.schema, self.info.table)
        swapping.swap(self.connection, self.info.schema, self.info.table, self.to, kept)
        names = swapping.replaced_tables(self.connection, self.info.table, self.info.schema)
        return replace(done, table=self.info.table, swapped=True, kept=tuple(names), notes=notes)

    def is_done(self) -> Migration:
        """What there is to say about a table that holds the model's vectors already."""
        names = swapping.replaced_tables(self.connection, self.info.table, self.info.schema)
        return Migration(
            table=self.info.table,
            model=self.model,
            width=self.info.width,
            rows=self.info.rows or 0,
            vectors=self.info.vectors or 0,
            embedded=0,
            tokens=None,
            cost_usd=None,
            swapped=bool(names),
            kept=tuple(names),
        )

    def _create(self) -> TableLayout:
        inside = is_internal(self.embedding)
        width = width_in_database(self.connection, self.model) if inside else width_of_model(self.embedding)
        comment = Mark(self.info.table, self.model).on(self.old.comment)
        sql = self.old.create_sql(self.to, self.info.vector_column, width, self.model, comment)
        execute(self.connection, sql)
        new = self._new()
        assert new is not None
        return new

    def _column(self) -> VectorColumn:
        column = read_vector_column(self.connection, self.info.schema, self.to, self.info.vector_column)
        assert column is not None
        column.check_model(self.model)
        return column

    def _has_work_column(self) -> bool:
        new = self._new()
        return new is not None and new.has(WORK_COLUMN)

    def _insert(self, where: str) -> None:
        """Copy rows, all but their vectors, and number those that get one; together, or not at all."""
        names = [quoted(name) for name in self.old.filled(self.info.vector_column)]
        work = quoted(WORK_COLUMN)
        [last] = self._numbers(f"SELECT MAX({work}) FROM {self._new_name}")
        number = (
            f'CASE WHEN "O".{self._vector} IS NOT NULL AND LENGTH("O".{self._text}) > 0 '
            f"THEN ROW_NUMBER() OVER () + {last} END"
        )
        taken = ", ".join(f'"O".{name}' for name in names)
        with transaction(self.connection) as cursor:
            cursor.execute(
                f"INSERT INTO {self._new_name} ({', '.join([*names, work])}) "
                f'SELECT {taken}, {number} FROM {self.info.name} AS "O"{where}'
            )

    def _fill(self, filling: Filling, batch_size: int, on_progress: OnProgress | None) -> None:
        work = quoted(WORK_COLUMN)
        total, before = self._numbers(
            f"SELECT COUNT({work}), SUM(CASE WHEN {work} IS NOT NULL AND {self._vector} IS NOT NULL THEN 1 ELSE 0 "
            f"END) FROM {self._new_name}"
        )
        before -= filling.embedded

        def after_batch() -> None:
            if on_progress is not None:
                cost = cost_of(self.embedding, filling.tokens)
                on_progress(MigrationProgress(before + filling.embedded, total, filling.tokens, cost))

        filling.run(batch_size, after_batch)
        filling.check_samples()

    # --- comparing ---

    def _compare(self, filling: Filling, batch_size: int, on_progress: OnProgress | None) -> None:
        """See that both tables have the same rows; where there is a key, make them have."""
        columns = self.old.filled(self.info.vector_column)
        for _ in range(_MOST_ROUNDS):
            there = fingerprint(self.connection, self.info.name, columns)
            here = fingerprint(self.connection, self._new_name, columns)
            if there == here:
                return
            if not self.old.key:
                raise TogetherAIInputError(
                    f"{self.info.name} has {there[0]} rows and {self._new_name} has {here[0]}, and they differ: "
                    "the first was changed after it had been copied. It has no primary key, so the changed rows "
                    f"cannot be told. Stop what writes to it, drop {self._new_name}, and migrate again."
                )
            self._catch_up()
            self._fill(filling, batch_size, on_progress)
        raise TogetherAIInputError(
            f"{self.info.name} changes faster than it is migrated. Stop what writes to it, and migrate again; "
            "only what changed is embedded."
        )

    def _catch_up(self) -> None:
        """Take over the rows of a table with a key that were added, changed or deleted since it was copied."""
        if not self._has_work_column():
            execute(self.connection, f"ALTER TABLE {self._new_name} ADD ({quoted(WORK_COLUMN)} BIGINT)")
        key = [quoted(name) for name in self.old.key]
        same = " AND ".join(f'"N".{name} = "O".{name}' for name in key)
        names = self.old.filled(self.info.vector_column)
        both = ", ".join([f'"N".{quoted(name)}' for name in names] + [f'"O".{quoted(name)}' for name in names])
        joined = f'{self._new_name} AS "N" LEFT JOIN {self.info.name} AS "O" ON {same}'
        positions = [names.index(name) for name in self.old.key]
        stale = [
            tuple(row[position] for position in positions)
            for row in rows_of(self.connection, f"SELECT {both} FROM {joined}")
            if digest(row[: len(names)]) != digest(row[len(names) :])
        ]
        if stale:
            found = " AND ".join(f"{name} = ?" for name in key)
            with transaction(self.connection) as cursor:
                cursor.executemany(f"DELETE FROM {self._new_name} WHERE {found}", stale)
        self._insert(f' WHERE NOT EXISTS (SELECT 1 FROM {self._new_name} AS "N" WHERE {same})')
