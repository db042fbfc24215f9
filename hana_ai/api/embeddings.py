"""TogetherAIEmbeddings: Together's embedding models in LangChain, and in the toolkit."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import aclosing, closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, TypedDict, Unpack

from langchain_core.embeddings import Embeddings
from langchain_core.load.serializable import Serializable
from pydantic import AliasChoices, ConfigDict, Field, PrivateAttr

from hana_ai.api.langchain.arguments import check_names
from hana_ai.api.langchain.client_fields import ClientFields, Kind, merged_body
from hana_ai.api.langchain.embedding_job import (
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
from hana_ai.api.langchain.packed_vectors import PackedJob, PackedVectors
from hana_ai.api.langchain.vector_parts import Pack
from hana_ai.api.wire.schemas import JSONObject

if TYPE_CHECKING:
    from hana_ai.api.settings import TogetherAISettings
    from hana_ai.api.transport.call import Call

_PROBE = "dimension"


class _Options(TypedDict, total=False):
    prefix: str
    """Default: `document_prefix`."""
    model: str | None
    show_progress: bool


class TogetherAIEmbeddings(ClientFields, Serializable, Embeddings):
    """An embedding model of Together AI.

    Texts are sent in batches, several at a time, each different text once. What the server refuses as too large is
    split in halves, and the size it takes is remembered by this object. Vectors are lists of Python floats in the
    order of the texts; their number and width are checked. Settings that are missing or wrong raise
    TogetherAISettingsError.

    Examples
    --------
    >>> from hana_ai.api import TogetherAIEmbeddings
    >>> embeddings = TogetherAIEmbeddings()
    >>> vectors = embeddings.embed_documents(["A column store.", "A row store."])
    >>> len(vectors) == 2 and len(vectors[0]) == embeddings.dimension
    True
    """

    model_config = ConfigDict(defer_build=False)

    kind: ClassVar[Kind] = "embedding"
    path: ClassVar[str] = "/v1/embeddings"
    request_fields: ClassVar[frozenset[str]] = frozenset({"model", "input", "encoding_format"})

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
    ``truncate`` keeps its beginning. A text with more words than `context_length`, where that is given, is known
    to be too long before it is sent, since a token never reaches over white space; anything else is too long when
    the server says so, and is then shortened by a quarter until it is taken. Some models cut silently what the
    server lets pass."""
    context_length: int | None = Field(default=None, ge=1)
    """Tokens that the model takes; `TogetherAIClient.get_available_models` tells. Default: the server decides."""
    show_progress: bool = False
    """Show a progress bar on stderr."""
    on_usage: OnUsage | None = Field(default=None, exclude=True)
    """Called with the token counts of each reply, such as ``{"prompt_tokens": 12, "total_tokens": 12}``."""
    model_kwargs: JSONObject = Field(default_factory=dict)
    """Further fields of the request."""
    extra_body: JSONObject | None = None
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
        """Embed documents from a coroutine; see `embed_documents`, whose errors it raises.

        A cancellation ends all its requests.
        """
        return (await self._aembed(texts)).vectors

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a query from a coroutine; see `embed_query`, whose errors it raises."""
        return (await self._aembed([text], prefix=self.query_prefix)).vectors[0]

    # --- the toolkit's faces ---

    def __call__(self, input: str | Iterable[str]) -> list[list[float]]:
        """Embed a query (a string) or documents (anything else); always a list of vectors, as in the toolkit."""
        return [self.embed_query(input)] if isinstance(input, str) else self.embed_documents(input)

    def get_text_embedding_batch(
        self, texts: Iterable[str], show_progress: bool = False, **kwargs: object
    ) -> list[list[float]]:
        """Embed documents, under the toolkit's name; further arguments are ignored, as in the toolkit.

        Raises
        ------
        TogetherAIInputError
            As `embed_documents`; or an argument is close to `texts` or `show_progress`.
        """
        check_names("get_text_embedding_batch", kwargs, ("texts", "show_progress"))
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
        """Return the width of the vectors from a coroutine; see `dimension`, whose errors it raises."""
        known = self._widths.get((await self._aresolve_model(), self.dimensions))
        return known or len((await self._aembed([_PROBE])).vectors[0])

    # --- requests ---

    def _embed(self, texts: Iterable[str], **options: Unpack[_Options]) -> EmbeddingResult:
        """Embed texts and tell what it took."""
        checked, model = check_texts(texts, self.on_empty), options.get("model") or self.model
        if not checked:
            return EmbeddingResult([], None, model or "")
        cache = self._vector_cache
        with self._working(self._job(checked, self._resolve_model(model), options), options) as job:
            if cache is not None:
                job.fill(cache.read(job.space, job.inputs()))
            while job.begin_round():
                with closing(self.transport.request_each(self._calls(job), self._limit, job.recover)) as replies:
                    for position, reply in replies:
                        vectors = job.take(position, reply)
                        if cache is not None:
                            cache.write(job.space, vectors)
        return job.result()

    async def _aembed(self, texts: Iterable[str], **options: Unpack[_Options]) -> EmbeddingResult:
        """Embed texts from a coroutine; raises the same errors as `_embed`."""
        checked, model = check_texts(texts, self.on_empty), options.get("model") or self.model
        if not checked:
            return EmbeddingResult([], None, model or "")
        cache = self._vector_cache
        with self._working(self._job(checked, await self._aresolve_model(model), options), options) as job:
            if cache is not None:
                job.fill(await cache.aread(job.space, job.inputs()))
            while job.begin_round():
                each = self.transport.arequest_each(self._calls(job), self._limit, job.recover)
                async with aclosing(each) as replies:
                    async for position, reply in replies:
                        vectors = job.take(position, reply)
                        if cache is not None:
                            await cache.awrite(job.space, vectors)
        return job.result()

    def _embed_packed(self, texts: Iterable[str], pack: Pack) -> PackedVectors:
        """Embed documents into the binary form that `pack` gives; no cache is asked. Raises as `_embed`."""
        checked, model = check_texts(texts, self.on_empty), self._resolve_model()
        if not checked:
            return PackedVectors([], 0, 0)
        rules = self._rules(model, {})
        job = PackedJob(pack, checked, rules, size=self._size, widths=self._widths, on_usage=self.on_usage)
        with job.naming_texts():
            while job.begin_round():
                with closing(self.transport.request_each(self._calls(job), self._limit, job.recover)) as replies:
                    for position, reply in replies:
                        job.take(position, reply)
        return job.packed()

    @property
    def _vector_cache(self) -> VectorCache | None:
        return self.cache if isinstance(self.cache, VectorCache) else None

    def _rules(self, model: str, options: _Options) -> EmbeddingRules:
        return EmbeddingRules(
            model=model,
            batch_size=self.batch_size or 1,
            prefix=options.get("prefix", self.document_prefix),
            dimensions=self.dimensions,
            on_too_long=self.on_too_long,
            context_length=self.context_length,
            parameters=merged_body({"dimensions": self.dimensions}, self.model_kwargs, self.extra_body),
        )

    def _job(self, texts: list[str], model: str, options: _Options) -> EmbeddingJob:
        return EmbeddingJob(
            texts,
            self._rules(model, options),
            size=self._size,
            widths=self._widths,
            on_usage=self.on_usage,
            single=self._vector_cache is not None,
        )

    def _calls(self, job: EmbeddingJob) -> Iterator[Call]:
        for body in job.bodies():
            call = self._call(body)
            call.decode_part = job.decode_part
            yield call

    @contextmanager
    def _working(self, job: EmbeddingJob, options: _Options) -> Iterator[EmbeddingJob]:
        """What goes with a job, however it waits: progress, clear errors, the ledger's record of a cache hit."""
        started = time.monotonic()
        with job.naming_texts():
            if options.get("show_progress", self.show_progress):
                with _progress(job):
                    yield job
            else:
                yield job
        if job.cached:
            from hana_ai.api.cache.hits import record_hit

            record_hit(self, job.rules.model, started)


@contextmanager
def _progress(job: EmbeddingJob) -> Iterator[None]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        job.on_progress = partial(bar.advance, bar.add_task("Embedding", total=len(job.texts)))
        yield
