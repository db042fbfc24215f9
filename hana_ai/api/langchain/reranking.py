"""Documents to the form that rerank takes, and its replies to rankings. Pure functions: no I/O, no settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import NotRequired, TypedDict

from langchain_core.documents import Document

from hana_ai.api.errors import TogetherAIInputError, TogetherAIResponseError
from hana_ai.api.wire.replies import RANKING, check_reply, is_number
from hana_ai.api.wire.schemas import JSONObject
from hana_ai.api.wire.shapes import shown


class RerankResult(TypedDict):
    """One document's place in a ranking."""

    index: int
    """Position among the documents of the request."""
    relevance_score: float
    """The larger, the closer to the query; the scale is the model's own."""
    document: NotRequired[JSONObject]
    """The document, where `return_documents` asked for it."""


Rankable = str | Document | Mapping[str, object]
"""What can be ranked."""


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
    documents: Sequence[Rankable], rank_fields: Sequence[str] | None
) -> list[str] | list[JSONObject]:
    """Turn documents into all strings or all objects, which is what the API takes.

    Raises
    ------
    TogetherAIInputError
        One is neither text nor an object; the message names its position.
    """
    wire: list[str | JSONObject] = []
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


def _document_to_wire(document: Document, rank_fields: Sequence[str] | None) -> str | JSONObject:
    if not rank_fields:
        return document.page_content
    fields = {"text": document.page_content, **document.metadata}
    # Metadata may hold anything; only what is ranked by is sent, and what has no JSON form as its text.
    return {
        name: fields[name] if isinstance(fields[name], (str, int, float)) else str(fields[name])
        for name in rank_fields
        if fields.get(name) is not None
    }


def results_from_wire(reply: object, body: JSONObject, *, request_id: str | None = None) -> list[RerankResult]:
    """Turn a reply of rerank into results, the best first.

    The list is in `results`, as the OpenAPI document says, or in `choices`, as a sample of Together's pages shows.

    Raises
    ------
    TogetherAIResponseError
        It does not rank the documents of the request's body.
    """
    count = len(body["documents"])

    def wrong(what: str) -> TogetherAIResponseError:
        # Where its very shape is wrong, this raises, with the place.
        check_reply(RANKING, reply, model=body.get("model"), request_id=request_id)
        return TogetherAIResponseError(
            f"the reply to {count} documents {what}", model=body.get("model"), request_id=request_id
        )

    entries = None
    if isinstance(reply, Mapping):
        entries = reply.get("choices") if reply.get("results") is None else reply["results"]
    if not isinstance(entries, list):
        raise wrong(f"has no list of results: {shown(reply)}")
    found: dict[int, RerankResult] = {}
    for position, entry in enumerate(entries):
        index = entry.get("index") if isinstance(entry, Mapping) else None
        if not is_number(index) or not 0 <= index < count or index != int(index):
            raise wrong(f"has the index {shown(index)} in its result {position}")
        score = entry.get("relevance_score")
        if not is_number(score) or not isfinite(score):
            raise wrong(f"has the score {shown(score)} for the document {int(index)}")
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

    def scored(document: Document, score: float) -> Document:
        return document.model_copy(update={"metadata": {**document.metadata, "relevance_score": score}})

    return [scored(documents[result["index"]], result["relevance_score"]) for result in results]
