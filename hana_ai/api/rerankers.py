"""TogetherAIRerank: Together's rerank models in LangChain, and as the toolkit's cross encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from langchain_core.documents.compressor import BaseDocumentCompressor
from langchain_core.load.serializable import Serializable
from pydantic import ConfigDict, Field

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.langchain.arguments import of_call
from hana_ai.api.langchain.client_fields import ClientFields, Kind, merged_body
from hana_ai.api.langchain.reranking import (
    PairScoring,
    Rankable,
    RerankResult,
    documents_to_wire,
    results_from_wire,
    with_scores,
)
from hana_ai.api.wire.schemas import JSONObject

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from langchain_core.callbacks import Callbacks
    from langchain_core.documents import Document

    from hana_ai.api.transport.call import Reply

__all__ = ["RerankResult", "TogetherAIRerank"]


class TogetherAIRerank(ClientFields, Serializable, BaseDocumentCompressor):
    """A rerank model of Together AI.

    Settings that are missing or wrong raise TogetherAISettingsError.

    Examples
    --------
    >>> from hana_ai.api import TogetherAIRerank
    >>> rerank = TogetherAIRerank()
    >>> [best] = rerank.rerank("What is a llama?", ["A camelid.", "A llama is an animal."], top_n=1)
    >>> best["index"]
    1
    """

    model_config = ConfigDict(defer_build=False)

    kind: ClassVar[Kind] = "rerank"
    path: ClassVar[str] = "/v1/rerank"
    parameters: ClassVar[tuple[str, ...]] = ("top_n", "rank_fields", "return_documents")
    """The fields that are sent under their own names."""
    request_fields: ClassVar[frozenset[str]] = frozenset({"model", "query", "documents"})

    top_n: int | None = Field(default=None, ge=1)
    """How many documents to keep; None keeps all."""
    rank_fields: list[str] | None = None
    """Fields of the documents to rank by. Of a LangChain document these are `text` (its content) and the names of
    its metadata; None ranks by the content alone."""
    return_documents: bool | None = None
    """Let the server send the documents back, for `rerank`; LangChain's faces return the caller's own anyway."""
    model_kwargs: JSONObject = Field(default_factory=dict)
    """Further fields of the request. Together's document allows none beside the above; other servers may."""
    extra_body: JSONObject | None = None
    """Further fields of the request that win over all others."""

    # --- LangChain's faces ---

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return the most relevant documents, the best first.

        Parameters
        ----------
        documents : sequence of Document
            They are not changed; no documents make no request.
        query : str
        callbacks
            Not used.

        Returns
        -------
        list of Document
            Copies with `relevance_score` (float) in their metadata, `top_n` at most.

        Raises
        ------
        TogetherAIRequestError
            The one of its subclasses that fits.
        """
        return with_scores(documents, self.rerank(query, documents))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Return the most relevant documents from a coroutine; raises the errors of `compress_documents`."""
        return with_scores(documents, await self.arerank(query, documents))

    # --- rankings and scores ---

    def rerank(
        self,
        query: str,
        documents: Sequence[Rankable],
        *,
        top_n: int | None = None,
        **parameters: object,
    ) -> list[RerankResult]:
        """Rank documents by their relevance to a query.

        Parameters
        ----------
        query : str
        documents : sequence of str, Document or mapping
            No documents make no request.
        top_n : int, optional
            How many to return. Default: the field `top_n`.
        **parameters
            Further fields of the request, such as `rank_fields` and `model`.

        Returns
        -------
        list of RerankResult
            `index` and `relevance_score`, the best first.

        Raises
        ------
        TogetherAIInputError
            A document is neither text nor an object, `top_n` is below 1, or the name of a parameter is close to
            another one.
        TogetherAIResponseError
            The reply does not rank the documents of the request.
        TogetherAIRequestError
            The one of its subclasses that fits.
        """
        if not (documents := list(documents)):
            return []
        body = self._with_model(self._body(query, documents, self.top_n if top_n is None else top_n, parameters))
        return _results(body, self.transport.request(self._call(body)))

    async def arerank(
        self,
        query: str,
        documents: Sequence[Rankable],
        *,
        top_n: int | None = None,
        **parameters: object,
    ) -> list[RerankResult]:
        """Rank documents from a coroutine; see `rerank`, whose errors it raises."""
        if not (documents := list(documents)):
            return []
        body = self._body(query, documents, self.top_n if top_n is None else top_n, parameters)
        body = await self._awith_model(body)
        return _results(body, await self.transport.arequest(self._call(body)))

    def predict(self, pairs: Iterable[Sequence[str]]) -> list[float]:
        """Score pairs of query and document, as a cross encoder does.

        One request for each different query, at most `max_concurrency` at a time.

        Parameters
        ----------
        pairs : iterable of (str, str)
            Query and document; no pairs make no request.

        Returns
        -------
        list of float
            Shape `(pairs,)`, in the order of the pairs.

        Raises
        ------
        TogetherAIInputError
            Something is no pair of strings; the message names its position.
        TogetherAIResponseError
            A reply does not score every document.
        TogetherAIRequestError
            The one of its subclasses that fits.
        """
        scoring = PairScoring(pairs)
        if scoring.groups:
            scoring.results = self._request_each(self._bodies(scoring, self._resolve_model()), _results)
        return scoring.scores()

    async def apredict(self, pairs: Iterable[Sequence[str]]) -> list[float]:
        """Score pairs of query and document from a coroutine; see `predict`, whose errors it raises."""
        scoring = PairScoring(pairs)
        if scoring.groups:
            bodies = self._bodies(scoring, await self._aresolve_model())
            scoring.results = await self._arequest_each(bodies, _results)
        return scoring.scores()

    # --- requests ---

    def _body(
        self,
        query: str,
        documents: Sequence[Rankable],
        top_n: int | None,
        parameters: Mapping[str, object],
    ) -> JSONObject:
        """The request's body, but for the model's name where that must be asked for."""
        if not isinstance(query, str):
            raise TogetherAIInputError(f"The query is a {type(query).__name__}, not a string.")
        if top_n is not None and top_n < 1:
            raise TogetherAIInputError(f"top_n is {top_n}; it must be 1 or more.")
        given = of_call(type(self), parameters)
        body = merged_body(
            {
                "model": self.model,
                "query": query,
                "top_n": None if top_n is None else min(top_n, len(documents)),
                "rank_fields": self.rank_fields,
                "return_documents": self.return_documents,
            },
            self.model_kwargs,
            given,
            self.extra_body,
            given.pop("extra_body", None),
        )
        body["documents"] = documents_to_wire(documents, body.get("rank_fields"))
        return body

    def _bodies(self, scoring: PairScoring, model: str) -> Iterator[JSONObject]:
        for query, texts in scoring.groups.items():
            yield self._body(query, texts, None, {"model": model, "return_documents": None})


def _results(body: JSONObject, reply: Reply) -> list[RerankResult]:
    return results_from_wire(reply.data, body, request_id=reply.request_id)
