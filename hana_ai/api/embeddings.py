"""TogetherAIEmbeddings: Together's embedding models in LangChain, and in the toolkit."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from langchain_core.embeddings import Embeddings
from pydantic import AliasChoices, ConfigDict, Field, PrivateAttr

from hana_ai.api.errors import TogetherAIInputError, TogetherAIRequestError
from hana_ai.api.langchain.client_fields import ClientFields, merged_body
from hana_ai.api.langchain.embedding_job import (
    Batch,
    BatchSize,
    EmbeddingJob,
    EmbeddingResult,
    EmbeddingRules,
    OnEmpty,
    OnTooLong,
    OnUsage,
    VectorCache,
    check_texts,
)
from hana_ai.api.transport.run_each import arun_each, run_each

if TYPE_CHECKING:
    from hana_ai.api.settings import TogetherAISettings

PATH = "/v1/embeddings"

_PROBE = "dimension"


class TogetherAIEmbeddings(ClientFields, Embeddings):
    """An embedding model of Together AI.

    Texts are sent in batches, several at the same time, each different text once. What the server refuses as too
    large is split in halves, and the size it takes is remembered by this object. Vectors are lists of Python
    floats in the order of the texts; their number and width are checked.

    Raises
    ------
    TogetherAISettingsError
        There is no key, or a setting has a value that is not allowed.

    Examples
    --------
    >>> from hana_ai.api import TogetherAIEmbeddings
    >>> embeddings = TogetherAIEmbeddings()
    >>> vectors = embeddings.embed_documents(["A column store.", "A row store."])
    >>> len(vectors) == 2 and len(vectors[0]) == embeddings.dimension
    True
    """

    model_config = ConfigDict(defer_build=False)

    kind: ClassVar[Literal["chat", "language", "embedding", "rerank"]] = "embedding"

    batch_size: int | None = Field(default=None, ge=1, validation_alias=AliasChoices("batch_size", "chunk_size"))
    """Most texts in a request. Default: TOGETHER_EMBEDDING_BATCH_SIZE."""
    dimensions: int | None = Field(default=None, ge=1)
    """Width of the vectors to ask for, where the model can shorten them; None asks for the model's own."""
    query_prefix: str = ""
    """Put before each query, such as ``"Instruct: ...\\nQuery: "`` for the e5-instruct models. Default:
    TOGETHER_EMBEDDING_QUERY_PREFIX."""
    document_prefix: str = ""
    """Put before each document, such as ``"passage: "`` for the e5 models. Default:
    TOGETHER_EMBEDDING_DOCUMENT_PREFIX."""
    on_empty: OnEmpty = "error"
    """What to do with a text that is empty or white space: ``error`` raises TogetherAIInputError with its position
    before anything is sent; ``blank`` sends a single space in its place, so that rows keep their vector."""
    on_too_long: OnTooLong = "error"
    """What to do with a text that has more tokens than the model takes: ``error`` raises with its position,
    ``truncate`` keeps its beginning. A text with more words than `context_length` is known to be too long before
    it is sent, since a token never reaches over white space; anything else is too long when the server says so,
    and is then shortened by a quarter until it is taken. Some models cut silently what the server lets pass."""
    context_length: int | None = Field(default=None, ge=1)
    """Tokens that the model takes. Default: what the catalogue says, if it has been read already."""
    show_progress: bool = False
    """Show a progress bar on stderr."""
    on_usage: OnUsage | None = Field(default=None, exclude=True)
    """Called with the token counts of each reply, such as ``{"prompt_tokens": 12, "total_tokens": 12}``; it may be
    called from several threads."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request."""
    extra_body: dict[str, Any] | None = None
    """Further fields of the request that win over all others."""
    cache: VectorCache | Literal[False] | None = Field(default=None, exclude=True)
    """Where vectors are kept for the next time, such as a `TogetherAIEmbeddingCache`; vectors are then rounded to
    32 bits, whether they come from there or not. False is none. Default: what TOGETHER_CACHE names."""

    _size: BatchSize = PrivateAttr(default_factory=BatchSize)
    _widths: dict[tuple[str, int | None], int] = PrivateAttr(default_factory=dict)

    def _fill_own(self, settings: TogetherAISettings) -> None:
        self.batch_size = self.batch_size or settings.together_embedding_batch_size
        if "query_prefix" not in self.model_fields_set:
            self.query_prefix = settings.together_embedding_query_prefix
        if "document_prefix" not in self.model_fields_set:
            self.document_prefix = settings.together_embedding_document_prefix
        if self.cache is None and settings.together_cache is not None:
            from hana_ai.api.cache.caches import vectors_of

            self.cache = vectors_of(settings)

    # --- LangChain's faces ---

    def embed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """Embed documents.

        Parameters
        ----------
        texts : iterable of str
            A generator will do; no texts make no request.

        Returns
        -------
        list of list of float
            Shape `(texts, dimension)`, in the order of the texts.

        Raises
        ------
        TogetherAIInputError
            A text is no string, is empty or is too long; the message names its position.
        TogetherAIResponseError
            The reply is not one vector a text, or the width is not the one of earlier replies.
        TogetherAIRequestError
            The one of its subclasses that fits, with the positions of the texts in the message.
        """
        return self._embed(texts).vectors

    def embed_query(self, text: str) -> list[float]:
        """Embed a query; see `embed_documents`.

        Returns
        -------
        list of float
            Shape `(dimension,)`.
        """
        return self._embed([text], prefix=self.query_prefix).vectors[0]

    async def aembed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """Embed documents from a coroutine; see `embed_documents`. A cancellation ends all its requests."""
        return (await self._aembed(texts)).vectors

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a query from a coroutine; see `embed_query`."""
        return (await self._aembed([text], prefix=self.query_prefix)).vectors[0]

    # --- the toolkit's faces ---

    def __call__(self, input: str | Iterable[str]) -> list[list[float]]:
        """Embed a query (a string) or documents (anything else); always a list of vectors, as in the toolkit."""
        return [self.embed_query(input)] if isinstance(input, str) else self.embed_documents(input)

    def get_text_embedding_batch(
        self, texts: Iterable[str], show_progress: bool = False, **kwargs: Any
    ) -> list[list[float]]:
        """Embed documents, under the toolkit's name; further arguments are ignored, as in the toolkit."""
        return self._embed(texts, show_progress=show_progress or self.show_progress).vectors

    # --- the width ---

    @property
    def dimension(self) -> int:
        """Width of the vectors, from the first reply; without one yet, a short text is embedded once.

        Raises
        ------
        TogetherAIRequestError
            The one of its subclasses that fits.
        """
        return self._widths.get((self._resolve_model(), self.dimensions)) or len(self._embed([_PROBE]).vectors[0])

    async def adimension(self) -> int:
        """Return the width of the vectors, from a coroutine; see `dimension`."""
        known = self._widths.get((await self._aresolve_model(), self.dimensions))
        return known or len((await self._aembed([_PROBE])).vectors[0])

    # --- requests ---

    def _embed(
        self,
        texts: Iterable[str],
        *,
        prefix: str | None = None,
        model: str | None = None,
        show_progress: bool | None = None,
    ) -> EmbeddingResult:
        """Embed texts and tell what it took; `prefix` defaults to `document_prefix`."""
        checked = check_texts(texts, self.on_empty)
        if not checked:
            return EmbeddingResult([], None, model or self.model or "")
        job = self._job(checked, prefix, self._resolve_model(model))
        started = time.monotonic()
        with self._progress(job, show_progress):
            if isinstance(self.cache, VectorCache):
                job.fill(self.cache.read(job.space, job.inputs()))
                self._note(job, started)
            while job.more():
                run_each(self._carry, job.batches(), limit=job.workers(self.max_concurrency or 1))
        return job.result()

    async def _aembed(
        self,
        texts: Iterable[str],
        *,
        prefix: str | None = None,
        model: str | None = None,
        show_progress: bool | None = None,
    ) -> EmbeddingResult:
        """Embed texts from a coroutine; see `_embed`."""
        checked = check_texts(texts, self.on_empty)
        if not checked:
            return EmbeddingResult([], None, model or self.model or "")
        job = self._job(checked, prefix, await self._aresolve_model(model))
        started = time.monotonic()
        with self._progress(job, show_progress):
            if isinstance(self.cache, VectorCache):
                job.fill(await self.cache.aread(job.space, job.inputs()))
                self._note(job, started)
            while job.more():
                await arun_each(self._acarry, job.batches(), limit=job.workers(self.max_concurrency or 1))
        return job.result()

    def _carry(self, batch: Batch) -> None:
        while (body := batch.next_body()) is not None:
            try:
                fresh = batch.take(self.transport.request(self._call(PATH, body)))
                if fresh and isinstance(self.cache, VectorCache):
                    self.cache.write(batch.job.space, fresh)
            except (TogetherAIRequestError, TogetherAIInputError) as exc:
                batch.refused(exc)

    async def _acarry(self, batch: Batch) -> None:
        while (body := batch.next_body()) is not None:
            try:
                fresh = batch.take(await self.transport.arequest(self._call(PATH, body)))
                if fresh and isinstance(self.cache, VectorCache):
                    await self.cache.awrite(batch.job.space, fresh)
            except (TogetherAIRequestError, TogetherAIInputError) as exc:
                batch.refused(exc)

    def _job(self, texts: list[str], prefix: str | None, model: str) -> EmbeddingJob:
        rules = EmbeddingRules(
            model=model,
            batch_size=self.batch_size or 1,
            prefix=self.document_prefix if prefix is None else prefix,
            dimensions=self.dimensions,
            on_too_long=self.on_too_long,
            context_length=self.context_length or self._known_context_length(model),
            parameters=merged_body({"dimensions": self.dimensions}, self.model_kwargs, self.extra_body),
        )
        return EmbeddingJob(
            texts,
            rules,
            size=self._size,
            widths=self._widths,
            on_usage=self.on_usage,
            single=isinstance(self.cache, VectorCache),
        )

    def _note(self, job: EmbeddingJob, started: float) -> None:
        """Write a call that the cache answered alone to the ledger."""
        if job.cached:
            from hana_ai.api.cache.hits import record_hit

            record_hit(self, job.rules.model, started)

    def _known_context_length(self, model: str) -> int | None:
        known = (self.transport.catalog.cached or {}).get(model)
        return known.context_length if known is not None else None

    @contextmanager
    def _progress(self, job: EmbeddingJob, shown: bool | None) -> Iterator[None]:
        if not (self.show_progress if shown is None else shown):
            yield
            return
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("Embedding", total=len(job.texts))
            job.on_progress = partial(bar.advance, task)
            yield
