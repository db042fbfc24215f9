"""An ingest as it is done by any process: what is made of a source, with which model, and where it goes.

A plan can be pickled: it holds no key and no connection, and gives the same rows everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from langchain_core.embeddings import Embeddings

from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.hana.connections import Connection, Connections, LeasingConnection, connect
from hana_ai.api.hana.ingest.embedding import Embedder
from hana_ai.api.hana.ingest.pipeline import Pipeline, Sizes
from hana_ai.api.hana.ingest.progress import Counter
from hana_ai.api.hana.ingest.reading import Known, Reader
from hana_ai.api.hana.ingest.splitting import Splitter
from hana_ai.api.hana.ingest.target import Target
from hana_ai.api.hana.ingest.writing import Writer
from hana_ai.api.hana.vector_column import has_table
from hana_ai.api.hana.vector_store import TogetherHanaDB
from hana_ai.api.usage.key import UsageKey

_REQUESTS = 16


@dataclass(frozen=True)
class Plan:
    """See the module."""

    corpus: str
    model: str
    embedding: Embeddings
    splitter: Splitter
    schema: str
    table: str
    vector_type: str
    """REAL_VECTOR or HALF_VECTOR."""
    window: int
    writers: int
    retry_failed: bool
    connect: Callable[[], Connection] | None = None
    """Opens connections; None takes the settings of the process."""
    started: float = 0.0
    """When the run began, by the database's clock."""

    @property
    def usage(self) -> UsageKey | None:
        """Which ledger the requests go to; None if they go to none."""
        return self.embedding._usage if isinstance(self.embedding, TogetherAIEmbeddings) else None

    def sizes(self, lanes: int = 1) -> Sizes:
        """How much is under way in each of so many pipelines."""
        window = max(1, self.window // lanes)
        together = isinstance(self.embedding, TogetherAIEmbeddings)
        texts = min((getattr(self.embedding, "batch_size", None) or 128) if together else 128, window)
        most = (getattr(self.embedding, "max_concurrency", None) or 1) if together else 1
        return Sizes(texts, window, max(1, min(_REQUESTS // lanes, most, window // texts)), self.writers)

    def connections(self, limit: int) -> Connections:
        """Connections of this process."""
        return Connections(connect=self.connect or connect, limit=limit)

    def store(self, connections: Connections) -> TogetherHanaDB:
        """The vector table, which is made if there is none.

        Raises
        ------
        TogetherAIInputError
            It is another model's, or of another width.
        """
        return TogetherHanaDB(
            LeasingConnection(connections),
            self.embedding,
            table_name=self.table,
            schema_name=self.schema,
            vector_column_type=self.vector_type,
        )

    def joined(self, connections: Connections) -> Target:
        """The target of a run that another process has begun.

        Raises
        ------
        TogetherAIInputError
            This process reaches another database.
        """
        with connections.lease() as connection:
            there = has_table(connection, self.schema, self.table)
        if not there:
            raise TogetherAIInputError(
                f"There is no table {self.table} in the worker's database. Set HANA_ADDRESS and the others where "
                "the workers run to those of the process that began the run."
            )
        target = Target(self.store(connections), self.corpus)
        target.started = self.started
        return target

    def reader(self, known: Known, counter: Counter, *, takes_over: bool = False) -> Reader:
        """The first stage."""
        return Reader(
            self.corpus,
            self.model,
            self.splitter,
            known,
            counter,
            retry_failed=self.retry_failed,
            takes_over=takes_over,
        )

    def embedder(self) -> Embedder:
        """The second stage, which several pipelines may share."""
        return Embedder(self.embedding, self.vector_type)

    def pipeline(
        self, target: Target, counter: Counter, embedder: Embedder, *, lanes: int = 1, takes_over: bool = False
    ) -> Pipeline:
        """All stages."""
        reader = self.reader(target, counter, takes_over=takes_over)
        return Pipeline(reader, embedder, Writer(target, counter), self.sizes(lanes))
