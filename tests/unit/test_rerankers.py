"""Bodies and replies of rerank, without a server."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document

from hana_ai.api.errors import TogetherAIInputError, TogetherAIResponseError, TogetherAISettingsError
from hana_ai.api.rerankers import (
    PairScoring,
    RerankResult,
    TogetherAIRerank,
    documents_to_wire,
    results_from_wire,
    with_scores,
)
from tests.openapi import check_request


def body_of(
    rerank: TogetherAIRerank, documents: list[Any], top_n: int | None = None, **parameters: Any
) -> dict[str, Any]:
    body = rerank._body("query", documents, top_n, parameters)
    check_request("/v1/rerank", body)
    return body


def make(**fields: Any) -> TogetherAIRerank:
    return TogetherAIRerank(**{"model": "m", "api_key": "a-key", **fields})


def test_a_body_has_only_what_is_set() -> None:
    assert body_of(make(), ["a", "b"]) == {"model": "m", "query": "query", "documents": ["a", "b"]}


def test_every_parameter_of_the_document_is_a_field() -> None:
    rerank = make(rank_fields=["title"], return_documents=True)
    body = body_of(rerank, [{"title": "a"}, {"title": "b"}], 1)
    assert body == {
        "model": "m",
        "query": "query",
        "documents": [{"title": "a"}, {"title": "b"}],
        "top_n": 1,
        "rank_fields": ["title"],
        "return_documents": True,
    }


def test_parameters_of_the_call_win_and_extra_body_wins_over_them() -> None:
    rerank = make(rank_fields=["a"], model_kwargs={"return_documents": True}, extra_body={"model": "late"})
    body = body_of(rerank, ["a"], rank_fields=["b"], model="call")
    assert (body["rank_fields"], body["return_documents"], body["model"]) == (["b"], True, "late")


def test_no_more_documents_are_asked_for_than_there_are() -> None:
    assert body_of(make(), ["a", "b"], 9)["top_n"] == 2


@pytest.mark.parametrize("top_n", [0, -1])
def test_top_n_is_at_least_one(top_n: int) -> None:
    with pytest.raises(TogetherAIInputError, match=f"top_n is {top_n}"):
        body_of(make(), ["a"], top_n)
    with pytest.raises(ValueError, match="top_n"):
        make(top_n=top_n)


def test_the_query_is_a_string() -> None:
    with pytest.raises(TogetherAIInputError, match="query is a NoneType"):
        make()._body(None, ["a"], None, {})  # type: ignore[arg-type]


def test_the_model_comes_from_the_environment_and_the_key_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_DEFAULT_RERANK_MODEL", "some/rerank")
    with pytest.raises(TogetherAISettingsError, match="TOGETHER_API_KEY"):
        TogetherAIRerank()
    monkeypatch.setenv("TOGETHER_API_KEY", "a-key")
    assert TogetherAIRerank().model == "some/rerank"


# --- documents ---


def test_documents_of_langchain_are_sent_as_their_text() -> None:
    documents = [Document("a", metadata={"own": object()}), "b"]
    assert documents_to_wire(documents, None) == ["a", "b"]


def test_with_rank_fields_only_these_are_sent() -> None:
    document = Document(
        "a", metadata={"title": "T", "year": 7, "day": date(2026, 1, 2), "own": object(), "no": None}
    )
    wire = documents_to_wire([document], ["title", "text", "year", "day", "missing", "no"])
    assert wire == [{"title": "T", "text": "a", "year": 7, "day": "2026-01-02"}]


def test_texts_beside_objects_become_objects() -> None:
    assert documents_to_wire(["a", {"title": "b"}], None) == [{"text": "a"}, {"title": "b"}]


def test_what_is_no_document_is_named() -> None:
    with pytest.raises(TogetherAIInputError, match=r"documents\[1\] is a int"):
        documents_to_wire(["a", 3], None)  # type: ignore[list-item]


def test_scored_documents_are_copies() -> None:
    documents = [Document("a", id="1", metadata={"x": 1}), Document("b", id="2")]
    scored = with_scores(
        documents, [RerankResult(index=1, relevance_score=0.5), RerankResult(index=0, relevance_score=0.1)]
    )
    assert [(document.page_content, document.id, document.metadata) for document in scored] == [
        ("b", "2", {"relevance_score": 0.5}),
        ("a", "1", {"x": 1, "relevance_score": 0.1}),
    ]
    assert documents == [Document("a", id="1", metadata={"x": 1}), Document("b", id="2")]


# --- replies ---


def entry(index: Any, score: Any, **more: Any) -> dict[str, Any]:
    return {"index": index, "relevance_score": score, **more}


@given(
    scores=st.lists(st.floats(-1, 1), min_size=1, max_size=12),
    data=st.data(),
    key=st.sampled_from(["results", "choices"]),
)
def test_the_best_comes_first_whatever_the_order_and_the_name_of_the_list(
    scores: list[float], data: st.DataObject, key: str
) -> None:
    order = data.draw(st.permutations(range(len(scores))))
    reply = {key: [entry(index, scores[index]) for index in order]}
    results = results_from_wire(reply, {"documents": ["x"] * len(scores)})
    assert sorted(result["index"] for result in results) == list(range(len(scores)))
    assert all(result["relevance_score"] == scores[result["index"]] for result in results)
    ranked = [result["relevance_score"] for result in results]
    assert ranked == sorted(scores, reverse=True)


def test_whole_numbers_are_read_as_what_they_are() -> None:
    [result] = results_from_wire({"results": [entry(0.0, 1)]}, {"documents": ["a"]})
    assert result == {"index": 0, "relevance_score": 1.0}
    assert type(result["index"]) is int
    assert type(result["relevance_score"]) is float


def test_documents_come_back_only_when_asked_for() -> None:
    reply = {"results": [entry(0, 1, document={"text": "a"})]}
    assert results_from_wire(reply, {"documents": ["a"], "return_documents": True})[0]["document"] == {"text": "a"}
    assert "document" not in results_from_wire(reply, {"documents": ["a"]})[0]


def test_a_server_that_ignores_top_n_is_cut() -> None:
    reply = {"results": [entry(0, 0.1), entry(1, 0.2)]}
    assert [result["index"] for result in results_from_wire(reply, {"documents": ["a", "b"], "top_n": 1})] == [1]


@pytest.mark.parametrize(
    ("reply", "what"),
    [
        (None, "fit at its top"),
        ({}, "no list of results"),
        ({"results": None, "choices": "a"}, "fit at choices: .*list, not 'a'"),
        ({"results": [entry(2, 0.1)]}, "the index 2"),
        ({"results": [entry(-1, 0.1)]}, r"fit at results\[0\]\.index: .*, not -1"),
        ({"results": [entry(None, 0.1)]}, r"fit at results\[0\]\.index: .*, not None"),
        ({"results": ["a"]}, r"fit at results\[0\]: .*, not 'a'"),
        ({"results": [entry(0, None)]}, r"fit at results\[0\]\.relevance_score: .*, not None"),
        ({"results": [entry(0, True)]}, r"fit at results\[0\]\.relevance_score: .*, not True"),
        ({"results": [entry(0, 0.1), entry(0, 0.2)]}, "two results for the document 0"),
        ({"results": [entry(0, 0.1)]}, "ranks 1 of them, not 2"),
    ],
)
def test_a_reply_that_does_not_rank_the_documents_is_an_error(reply: Any, what: str) -> None:
    with pytest.raises(TogetherAIResponseError, match=what):
        results_from_wire(reply, {"documents": ["a", "b"], "model": "m"})


# --- pairs ---


@given(pairs=st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=4)), max_size=20))
def test_scores_keep_the_order_of_the_pairs(pairs: list[tuple[str, str]]) -> None:
    scoring = PairScoring(iter(pairs))
    assert list(scoring.groups) == list(dict.fromkeys(query for query, _ in pairs))
    numbers: dict[tuple[str, str], float] = {}
    for query, texts in scoring.groups.items():
        for text in texts:
            numbers.setdefault((query, text), float(len(numbers)))
    scoring.results = [
        [RerankResult(index=index, relevance_score=numbers[query, text]) for index, text in enumerate(texts)]
        for query, texts in scoring.groups.items()
    ]
    assert scoring.scores() == [numbers[pair] for pair in pairs]


@pytest.mark.parametrize("wrong", ["ab", ("a",), ("a", "b", "c"), ("a", 1), [None, "b"]])
def test_what_is_no_pair_is_named(wrong: Any) -> None:
    with pytest.raises(TogetherAIInputError, match=r"pairs\[1\]"):
        PairScoring([("a", "b"), wrong])
