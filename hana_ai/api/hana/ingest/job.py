"""Embedding a corpus into a vector table: what people call, and what it tells them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.embeddings import Embeddings

from hana_ai.api.catalog.money import dollars
from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.cluster.engines import engine_from
from hana_ai.api.hana.cluster.work import Engine
from hana_ai.api.hana.connections import Connection, Connections, Context, LeasingConnection
from hana_ai.api.hana.costs import context_length_of, cost_of, estimated_tokens
from hana_ai.api.hana.embedding import embedding_from, model_name
from hana_ai.api.hana.filling import is_internal
from hana_ai.api.hana.ingest.documents import UnreadableError
from hana_ai.api.hana.ingest.plan import Plan
from hana_ai.api.hana.ingest.progress import Counter, IngestProgress, clock
from hana_ai.api.hana.ingest.record_manager import TABLE as RECORDS
from hana_ai.api.hana.ingest.record_manager import HanaRecordManager
from hana_ai.api.hana.ingest.sources import Asked, Source, source_from
from hana_ai.api.hana.ingest.splitting import Splitter, splitter_for
from hana_ai.api.hana.ingest.spread import IngestWork
from hana_ai.api.hana.ingest.target import Target, namespace_of
from hana_ai.api.hana.ingest.work import Batcher
from hana_ai.api.hana.tables import current_schema, find_vector_column
from hana_ai.api.hana.vector_column import has_table
from hana_ai.api.hana.vector_store import TogetherHanaDB
from hana_ai.api.wire import html

if TYPE_CHECKING:
    from langchain_text_splitters import TextSplitter

WINDOW = 4096
"""Texts between being sent and being committed."""

OnProgress = Callable[[IngestProgress], None]


@dataclass(frozen=True)
class IngestResult:
    """What an ingest did."""

    table: str
    model: str
    corpus: str
    """Under which name the source's rows are known in the table."""
    progress: IngestProgress
    """The counts at its end."""
    removed: int = 0
    """Documents whose rows went since the source has them no more."""
    problems: tuple[tuple[str, str], ...] = ()
    """Source and reason of what could not be read or embedded, the first thousand; the database has them all."""
    index: bool = False
    """Whether the vector index was made."""

    def _repr_html_(self) -> str:
        now = self.progress
        counts = (now.rows, now.written, now.unchanged, self.removed, now.failed + now.unreadable, now.tokens)
        shown = [self.table, self.model, *(f"{count:,}" for count in counts)]
        done = html.table(_HEADINGS, [[*shown, dollars(now.cost_usd), clock(now.seconds)]])
        return done + (html.table(("source", "problem"), self.problems) if self.problems else "")


_HEADINGS = ("table", "model", "rows", "written", "unchanged", "removed", "left out", "tokens", "cost", "time")


@dataclass(frozen=True)
class IngestEstimate:
    """What an ingest would do; nothing was written, and no text was sent."""

    table: str
    model: str
    corpus: str
    documents: int
    """In the source."""
    unchanged: int
    to_write: int
    """Documents that are new or changed."""
    chunks: int
    """To be embedded."""
    tokens: int
    """In them, about."""
    cost_usd: Decimal | None
    """For these, by the catalogue's prices; None if the price is unknown."""
    seconds: float
    """At least, about: as long as reading took, or as one short request took for all of them."""
    problems: tuple[tuple[str, str], ...] = ()


class IngestInterrupted(KeyboardInterrupt):
    """Ctrl-C; what was under way has been written.

    Parameters
    ----------
    result : IngestResult
        What was done until then.
    """

    def __init__(self, result: IngestResult) -> None:
        self.result = result
        super().__init__(f"{result.table}: {result.progress.rows} rows were written; run it again to go on.")


@dataclass(frozen=True)
class IngestOptions:
    """How documents become rows; see `ingest_documents`."""

    schema: str = ""
    name: str | None = None
    text_columns: Sequence[str] = ()
    key_columns: Sequence[str] = ()
    metadata_columns: Sequence[str] = ()
    chunk_tokens: int | None = None
    overlap_tokens: int | None = None
    splitter: TextSplitter | None = None
    vector_type: str = "REAL_VECTOR"
    window: int = WINDOW
    writers: int = 2
    retry_failed: bool = False
    part_size: int | None = None

    def check(self) -> None:
        """Refuse sizes that make no sense.

        Raises
        ------
        TogetherAIInputError
            One is below 1.
        """
        sizes = (("window", self.window), ("writers", self.writers), ("part_size", self.part_size))
        for what, size in sizes:
            if size is not None and size < 1:
                raise TogetherAIInputError(f"{what} is {size}; it must be 1 or more.")


def ingest_documents(
    source: object,
    table: str,
    connection: Connection | Context | None = None,
    *,
    embedding: Embeddings | None = None,
    connect: Callable[[], Connection] | None = None,
    sync: bool = False,
    hnsw: bool = False,
    engine: Engine | Literal["local", "ray"] = "local",
    on_progress: OnProgress | None = None,
    **options: Any,
) -> IngestResult:
    """Embed a corpus into a vector table, each chunk once; run it again to go on, or after documents have changed.

    Documents are read, split, embedded and written at the same time; memory does not depend on how many there are.
    What a run writes and the record of it are committed together, so a process may be killed at any moment: the
    next run goes on. Documents that are as they were are not embedded again; changed ones are replaced.

    Parameters
    ----------
    source : object
        A path of a file, a folder or a Parquet file; ``"hana:TABLE"`` or a query; a DataFrame of hana-ml, pandas
        or Polars, a Table of pyarrow; a loader of LangChain's or an iterable of its Documents.
    table : str
        Made if there is none. It belongs to the model that wrote it, as every vector table here.
    connection : hdbcli.dbapi.Connection or hana_ml.ConnectionContext, optional
        On its own it is used in turns. Default: connections from the settings (HANA_ADDRESS, ...).
    embedding : langchain_core.embeddings.Embeddings, optional
        Default: `TogetherAIEmbeddings()`.
    connect : callable, optional
        Opens further connections, one for each writer and for what is read.
    sync : bool
        Remove the rows of documents that the source has no more, if it could be read to its end.
    hnsw : bool
        Make a vector index at the end, unless there is one.
    engine : {"local", "ray"} or Engine
        Where the work is done: in this process, or by workers of a Ray cluster; see
        `hana_ai.api.hana.cluster.ray_engine.RayEngine`. Workers open connections with `connect`, which is pickled,
        else from their own settings.
    on_progress : callable, optional
        Called in this thread a few times a second, with an `IngestProgress`.
    schema : str
        Default: the connection's current schema.
    name : str, optional
        Under which the source's rows are known, so that several sources can share a table. Default: the path, the
        table's name, or `query`, `frame`, `documents`.
    text_columns, key_columns, metadata_columns : sequence of str
        Of a table: what is embedded, what names a row (default: the primary key; without one a row of a frame is
        known by its content), and what is kept beside it.
    chunk_tokens, overlap_tokens : int, optional
        Default: 400, or as many as the model takes, and a tenth.
    splitter : langchain_text_splitters.TextSplitter, optional
        Instead.
    vector_type : str
        REAL_VECTOR or HALF_VECTOR, for a table that is made.
    window : int
        Most texts that are sent, but not committed: what a kill costs.
    writers : int
        Connections that write at the same time: while one's rows are on their way, the other's are written.
    retry_failed : bool
        Try documents again that could not be embedded in an earlier run.
    part_size : int, optional
        Documents that a worker of a cluster takes at a time. Default: 64 files, or 1,024 others.

    Returns
    -------
    IngestResult

    Raises
    ------
    TogetherAIInputError
        The source is not there, a column must be named, or the table is another model's or of another width.
    TogetherAIError
        The service cannot be used; what was committed before stays.
    IngestInterrupted
        Ctrl-C.
    hdbcli.dbapi.Error
        The database refuses.

    Examples
    --------
    >>> from hana_ai.api.hana import ingest_documents
    >>> done = ingest_documents("manuals/", "MANUALS", sync=True)
    >>> print(done.progress.rows, done.progress.cost_usd, done.problems)
    """
    connections = Connections.of(connection, connect)
    with closing(connections):
        chosen = engine_from(engine)
        job = _Job.of(source, table, connections, embedding, IngestOptions(**options), connect=connect)
        return job.run(chosen, sync=sync, hnsw=hnsw, on_progress=on_progress)


def estimate_ingest(
    source: object,
    table: str,
    connection: Connection | Context | None = None,
    *,
    embedding: Embeddings | None = None,
    connect: Callable[[], Connection] | None = None,
    **options: Any,
) -> IngestEstimate:
    """Tell what `ingest_documents` with the same arguments would do.

    The source is read and split, nothing is written, and no text is sent: one word is embedded to learn how long a
    request takes.

    Raises
    ------
    TogetherAIInputError
        As for `ingest_documents`.
    """
    connections = Connections.of(connection, connect)
    with closing(connections):
        return _Job.of(source, table, connections, embedding, IngestOptions(**options)).estimate()


@dataclass
class _Job:
    source: Source
    table: str
    corpus: str
    connections: Connections
    embedding: Embeddings
    model: str
    splitter: Splitter
    options: IngestOptions
    connect: Callable[[], Connection] | None = None
    """Opens further connections, in workers as well."""

    @classmethod
    def of(
        cls,
        source: object,
        table: str,
        connections: Connections,
        embedding: Embeddings | None,
        options: IngestOptions,
        *,
        connect: Callable[[], Connection] | None = None,
    ) -> _Job:
        options.check()
        asked = Asked(options.text_columns, options.key_columns, options.metadata_columns)
        found = source_from(source, connections, asked, options.name)
        made = embedding_from(embedding)
        if is_internal(made):
            raise TogetherAIInputError(
                "The ingest embeds with a model outside the database; with one inside, use "
                "TogetherHanaDB(embedding='hana').add_documents."
            )
        model, context = model_name(made), None
        if isinstance(made, TogetherAIEmbeddings):
            context = made.context_length or context_length_of(made)
        splitter = splitter_for(model, context, options.chunk_tokens, options.overlap_tokens, options.splitter)
        return cls(found, table, options.name or found.name, connections, made, model, splitter, options, connect)

    # --- doing it ---

    def run(self, engine: Engine, *, sync: bool, hnsw: bool, on_progress: OnProgress | None) -> IngestResult:
        """See `ingest_documents`."""
        plan = self._plan()
        target = Target(plan.store(self.connections), self.corpus)
        target.prepare()
        counter = Counter(self.source.count(), lambda tokens: cost_of(self.embedding, tokens))

        def tell() -> None:
            if on_progress is not None:
                on_progress(counter.snapshot())

        try:
            size = self.options.part_size
            engine.run(IngestWork(plan, self.source, target, counter, tell=tell, part_size=size))
        except KeyboardInterrupt as exc:
            raise IngestInterrupted(self._result(counter)) from exc
        removed = target.clean(sync=sync)
        tell()
        made = hnsw and self._index(target.store)
        return replace(self._result(counter), removed=removed, index=made)

    def _plan(self) -> Plan:
        options = self.options
        with self.connections.lease() as connection:
            # Workers may have another one.
            schema = options.schema or current_schema(connection)
        return Plan(
            self.corpus,
            self.model,
            self.embedding,
            self.splitter,
            schema,
            self.table,
            self._vector_type(),
            options.window,
            options.writers,
            options.retry_failed,
            self.connect,
        )

    def _vector_type(self) -> str:
        """That of the table, where there is one."""
        with self.connections.lease() as connection:
            if not has_table(connection, self.options.schema, self.table):
                return self.options.vector_type
            return find_vector_column(connection, self.table, self.options.schema or None)[0].type

    def _result(self, counter: Counter) -> IngestResult:
        return IngestResult(
            self.table, self.model, self.corpus, counter.snapshot(), problems=tuple(counter.problems)
        )

    def _index(self, store: TogetherHanaDB) -> bool:
        with self.connections.lease() as connection:
            if find_vector_column(connection, self.table, self.options.schema or None)[1] is not None:
                return False
        store.create_hnsw_index()
        return True

    # --- estimating it ---

    def estimate(self) -> IngestEstimate:
        """See `estimate_ingest`."""
        plan = self._plan()
        known = self._known(plan)
        counter = Counter(None, lambda _: None)
        reader, sizes = plan.reader(known, counter), plan.sizes()
        batcher, began = Batcher(sizes.request_texts), time.monotonic()
        documents = chunks = letters = requests = 0
        for document, content in reader.documents(self.source):
            try:
                for chunk in reader.chunks(document, content):
                    chunks, letters = chunks + 1, letters + len(chunk.text)
                    requests += sum(1 for _ in batcher.add(chunk))
            except UnreadableError as exc:
                reader.unreadable([(document.place, document.source, str(exc))], recorded=document.recorded)
            else:
                documents += 1
        requests += sum(1 for _ in batcher.flush())
        reading, began = time.monotonic() - began, time.monotonic()
        self.embedding.embed_query("dimension")
        asking = (time.monotonic() - began) * requests / sizes.requests
        now, tokens = counter.snapshot(), estimated_tokens(letters)
        return IngestEstimate(
            self.table,
            self.model,
            self.corpus,
            documents + now.documents,
            now.unchanged,
            documents,
            chunks,
            tokens,
            cost_of(self.embedding, tokens),
            max(reading, asking),
            tuple(counter.problems),
        )

    def _known(self, plan: Plan) -> _OnlyLooking:
        schema = self.options.schema
        with self.connections.lease() as connection:
            if not has_table(connection, schema, self.table):
                return _OnlyLooking(None)
            find_vector_column(connection, self.table, schema or None)
            recorded = has_table(connection, schema, RECORDS)
            name = namespace_of(schema or current_schema(connection), self.table, self.corpus)
        # Opening it tells whether it is another model's.
        target = Target(plan.store(self.connections), self.corpus)
        if not recorded or not target.rows():
            return _OnlyLooking(None)
        return _OnlyLooking(target, HanaRecordManager(name, _leasing(self.connections), schema_name=schema))


def _leasing(connections: Connections) -> Any:
    return LeasingConnection(connections)


class _OnlyLooking:
    """What the database knows of documents, for a reader that changes nothing."""

    started = float("inf")

    def __init__(self, target: Target | None, records: HanaRecordManager | None = None) -> None:
        self._target = target
        self._records = records

    @property
    def asks(self) -> bool:
        return self._records is not None

    def states(self, places: list[str]) -> dict[str, tuple[str, float]]:
        return {} if self._records is None else self._records.states(places)

    def ids_at(self, place: str) -> set[str]:
        return set() if self._target is None else self._target.ids_at(place)

    def touch(self, places: list[str]) -> None:
        """Nothing is written."""

    def touch_failed(self, places: list[str]) -> None:
        """Nothing is written."""

    def unreadable(self, failures: list[tuple[str, str, str]]) -> None:
        """Nothing is written."""
