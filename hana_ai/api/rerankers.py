"""TogetherAIRerank: Together's rerank models in LangChain, and as the toolkit's cross encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NotRequired, TypedDict

from langchain_core.callbacks import Callbacks
from langchain_core.documents import Document
from langchain_core.documents.compressor import BaseDocumentCompressor
from pydantic import ConfigDict, Field

from hana_ai.api.errors import TogetherAIInputError, TogetherAIResponseError
from hana_ai.api.langchain.client_fields import ClientFields, merged_body
from hana_ai.api.transport.run_each import arun_each, run_each
from hana_ai.api.wire.shapes import shown

PATH = "/v1/rerank"


class RerankResult(TypedDict):
    """One document's place in a ranking."""

    index: int
    """Position among the documents of the request."""
    relevance_score: float
    """The larger, the closer to the query; the scale is the model's own."""
    document: NotRequired[dict[str, Any]]
    """The document, where `return_documents` asked for it."""


class TogetherAIRerank(ClientFields, BaseDocumentCompressor):
    """A rerank model of Together AI.

    Raises
    ------
    TogetherAISettingsError
        There is no key, or a setting has a value that is not allowed.

    Examples
    --------
    >>> from hana_ai.api import TogetherAIRerank
    >>> rerank = TogetherAIRerank()
    >>> [best] = rerank.rerank("What is a llama?", ["A camelid.", "A llama is an animal."], top_n=1)
    >>> best["index"]
    1
    """

    model_config = ConfigDict(defer_build=False)

    kind: ClassVar[Literal["chat", "language", "embedding", "rerank"]] = "rerank"

    top_n: int | None = Field(default=None, ge=1)
    """How many documents to keep; None keeps all."""
    rank_fields: list[str] | None = None
    """Fields of the documents to rank by. Of a LangChain document these are `text` (its content) and the names of
    its metadata; None ranks by the content alone."""
    return_documents: bool | None = None
    """Let the server send the documents back, for `rerank`; LangChain's faces return the caller's own anyway."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request. Together's document allows none beside the above; other servers may."""
    extra_body: dict[str, Any] | None = None
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
        """Return the most relevant documents, from a coroutine; see `compress_documents`."""
        return with_scores(documents, await self.arerank(query, documents))

    # --- rankings and scores ---

    def rerank(
        self,
        query: str,
        documents: Sequence[str | Document | Mapping[str, Any]],
        *,
        top_n: int | None = None,
        **parameters: Any,
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
            A document is neither text nor an object, or `top_n` is below 1.
        TogetherAIResponseError
            The reply does not rank the documents of the request.
        TogetherAIRequestError
            The one of its subclasses that fits.
        """
        documents = list(documents)
        if not documents:
            return []
        body = self._body(query, documents, self.top_n if top_n is None else top_n, parameters)
        body["model"] = self._resolve_model(body.get("model"))
        return self._request(body)

    async def arerank(
        self,
        query: str,
        documents: Sequence[str | Document | Mapping[str, Any]],
        *,
        top_n: int | None = None,
        **parameters: Any,
    ) -> list[RerankResult]:
        """Rank documents from a coroutine; see `rerank`."""
        documents = list(documents)
        if not documents:
            return []
        body = self._body(query, documents, self.top_n if top_n is None else top_n, parameters)
        body["model"] = await self._aresolve_model(body.get("model"))
        return await self._arequest(body)

    def predict(self, pairs: Iterable[Sequence[str]]) -> list[float]:
        """Score pairs of query and document, as a cross encoder does.

        One request for each different query, at most `max_concurrency` at the same time.

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
            model = self._resolve_model()
            bodies = (
                self._body(query, texts, None, {"model": model, "return_documents": None})
                for query, texts in scoring.groups.items()
            )
            scoring.results = run_each(self._request, bodies, limit=self._limit(scoring))
        return scoring.scores()

    async def apredict(self, pairs: Iterable[Sequence[str]]) -> list[float]:
        """Score pairs of query and document, from a coroutine; see `predict`."""
        scoring = PairScoring(pairs)
        if scoring.groups:
            model = await self._aresolve_model()
            bodies = (
                self._body(query, texts, None, {"model": model, "return_documents": None})
                for query, texts in scoring.groups.items()
            )
            scoring.results = await arun_each(self._arequest, bodies, limit=self._limit(scoring))
        return scoring.scores()

    # --- requests ---

    def _body(
        self,
        query: str,
        documents: Sequence[str | Document | Mapping[str, Any]],
        top_n: int | None,
        parameters: Mapping[str, Any],
    ) -> dict[str, Any]:
        """The request's body, but for the model's name where that must be asked for."""
        if not isinstance(query, str):
            raise TogetherAIInputError(f"The query is a {type(query).__name__}, not a string.")
        if top_n is not None and top_n < 1:
            raise TogetherAIInputError(f"top_n is {top_n}; it must be 1 or more.")
        body = merged_body(
            {
                "model": self.model,
                "query": query,
                "top_n": None if top_n is None else min(top_n, len(documents)),
                "rank_fields": self.rank_fields,
                "return_documents": self.return_documents,
            },
            self.model_kwargs,
            dict(parameters),
            self.extra_body,
        )
        body["documents"] = documents_to_wire(documents, body.get("rank_fields"))
        return body

    def _request(self, body: dict[str, Any]) -> list[RerankResult]:
        reply = self.transport.request(self._call(PATH, body))
        return results_from_wire(reply.data, body, request_id=reply.request_id)

    async def _arequest(self, body: dict[str, Any]) -> list[RerankResult]:
        reply = await self.transport.arequest(self._call(PATH, body))
        return results_from_wire(reply.data, body, request_id=reply.request_id)

    def _limit(self, scoring: PairScoring) -> int:
        return min(len(scoring.groups), self.max_concurrency or 1)


# --- LangChain <-> wire ---


class PairScoring:
    """Pairs grouped by their query, and the scores put back in the order of the pairs."""

    def __init__(self, pairs: Iterable[Sequence[str]]) -> None:
        self.groups: dict[str, list[str]] = {}
        """The documents of each query."""
        self.results: list[list[RerankResult]] = []
        """The ranking of each group, to be filled."""
        self._places: list[tuple[str, int]] = []
        for position, pair in enumerate(pairs):
            if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
                raise TogetherAIInputError(f"pairs[{position}] is no pair of a query and a document, two strings.")
            query, text = pair
            texts = self.groups.setdefault(query, [])
            self._places.append((query, len(texts)))
            texts.append(text)

    def scores(self) -> list[float]:
        """The scores, in the order of the pairs."""
        by_query = {
            query: {result["index"]: result["relevance_score"] for result in results}
            for query, results in zip(self.groups, self.results, strict=True)
        }
        return [by_query[query][place] for query, place in self._places]


def documents_to_wire(
    documents: Sequence[str | Document | Mapping[str, Any]], rank_fields: Sequence[str] | None
) -> list[str] | list[dict[str, Any]]:
    """Turn documents into all strings or all objects, which is what the API takes.

    Raises
    ------
    TogetherAIInputError
        One is neither text nor an object; the message names its position.
    """
    wire: list[str | dict[str, Any]] = []
    for position, document in enumerate(documents):
        if isinstance(document, str):
            wire.append(document)
        elif isinstance(document, Document):
            wire.append(_document_to_wire(document, rank_fields))
        elif isinstance(document, Mapping):
            wire.append(dict(document))
        else:
            raise TogetherAIInputError(
                f"documents[{position}] is a {type(document).__name__}, not a string, a Document or a mapping."
            )
    texts = [document for document in wire if isinstance(document, str)]
    if len(texts) == len(wire):
        return texts
    return [{"text": document} if isinstance(document, str) else document for document in wire]


def _document_to_wire(document: Document, rank_fields: Sequence[str] | None) -> str | dict[str, Any]:
    if not rank_fields:
        return document.page_content
    fields = {"text": document.page_content, **document.metadata}
    # Metadata may hold anything; only what is ranked by is sent, and what has no JSON form as its text.
    return {
        name: fields[name] if isinstance(fields[name], (str, int, float)) else str(fields[name])
        for name in rank_fields
        if fields.get(name) is not None
    }


def results_from_wire(reply: Any, body: Mapping[str, Any], *, request_id: str | None = None) -> list[RerankResult]:
    """Turn a reply of rerank into results, the best first.

    The list is in `results`, as the OpenAPI document says, or in `choices`, as a sample of Together's pages shows.

    Raises
    ------
    TogetherAIResponseError
        It does not rank the documents of the request's body.
    """
    count = len(body["documents"])

    def wrong(what: str) -> TogetherAIResponseError:
        return TogetherAIResponseError(
            f"the reply to {count} documents {what}", model=body.get("model"), request_id=request_id
        )

    entries = None
    if isinstance(reply, Mapping):
        entries = reply.get("choices") if reply.get("results") is None else reply["results"]
    if not isinstance(entries, list):
        raise wrong(f"has no list of results: {shown(reply)}")
    found: dict[int, RerankResult] = {}
    for entry in entries:
        index = entry.get("index") if isinstance(entry, Mapping) else None
        if not isinstance(index, (int, float)) or index != int(index) or not 0 <= index < count:
            raise wrong(f"has a result with the index {index!r}")
        score = entry.get("relevance_score")
        if not isinstance(score, (int, float)):
            raise wrong(f"has the score {score!r} for the document {int(index)}")
        if int(index) in found:
            raise wrong(f"has two results for the document {int(index)}")
        result = RerankResult(index=int(index), relevance_score=float(score))
        if body.get("return_documents") and entry.get("document"):
            result["document"] = entry["document"]
        found[int(index)] = result
    wanted = body.get("top_n") or count
    if len(found) < wanted:
        raise wrong(f"ranks {len(found)} of them, not {wanted}")
    return sorted(found.values(), key=lambda result: -result["relevance_score"])[:wanted]


def with_scores(documents: Sequence[Document], results: Iterable[RerankResult]) -> list[Document]:
    """Return copies of the ranked documents, with their `relevance_score` in the metadata."""
    return [
        documents[result["index"]].model_copy(
            update={
                "metadata": {
                    **documents[result["index"]].metadata,
                    "relevance_score": result["relevance_score"],
                }
            }
        )
        for result in results
    ]
