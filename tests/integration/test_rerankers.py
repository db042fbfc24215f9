"""TogetherAIRerank against the loopback server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.documents import Document

from hana_ai.api.errors import (
    TogetherAIModelNotFoundError,
    TogetherAIRateLimitError,
    TogetherAIResponseError,
)
from hana_ai.api.local.together import Reply, ScriptedEngine
from hana_ai.api.rerankers import RerankResult, TogetherAIRerank
from tests.conftest import ScriptedTogether, cancel_once, eventually

PATH = "/v1/rerank"
QUERY = "the red house"
TEXTS = ["a dog", "the red house", "the red car", "the cat"]


@pytest.fixture
def reranker(together: ScriptedTogether) -> TogetherAIRerank:
    return TogetherAIRerank(model=together.model("rerank"), **together.client)


def bodies(engine: ScriptedEngine) -> list[Any]:
    return [request.body for request in engine.requests if request.path == PATH]


async def rerank(reranker: TogetherAIRerank, way: str, *args: Any, **kwargs: Any) -> list[RerankResult]:
    if way == "sync":
        return await asyncio.to_thread(reranker.rerank, *args, **kwargs)
    return await reranker.arerank(*args, **kwargs)


async def predict(reranker: TogetherAIRerank, way: str, pairs: Any) -> list[float]:
    if way == "sync":
        return await asyncio.to_thread(reranker.predict, pairs)
    return await reranker.apredict(pairs)


async def compress(reranker: TogetherAIRerank, way: str, documents: list[Document]) -> list[Document]:
    if way == "sync":
        return await asyncio.to_thread(reranker.compress_documents, documents, QUERY)
    return await reranker.acompress_documents(documents, QUERY)


both = pytest.mark.parametrize("way", ["sync", "async"])


@both
async def test_documents_are_ranked_the_best_first(reranker: TogetherAIRerank, way: str) -> None:
    results = await rerank(reranker, way, QUERY, TEXTS)
    assert [result["index"] for result in results] == [1, 2, 3, 0]
    assert results[0] == {"index": 1, "relevance_score": 1.0}


@both
async def test_top_n_of_the_call_or_of_the_object(
    reranker: TogetherAIRerank, engine: ScriptedEngine, way: str
) -> None:
    assert len(await rerank(reranker, way, QUERY, TEXTS, top_n=1)) == 1
    reranker.top_n = 2
    assert len(await rerank(reranker, way, QUERY, TEXTS)) == 2
    assert len(await rerank(reranker, way, QUERY, TEXTS, top_n=3)) == 3
    assert [body["top_n"] for body in bodies(engine)] == [1, 2, 3]


@both
async def test_compressed_documents_are_copies_with_their_score(reranker: TogetherAIRerank, way: str) -> None:
    reranker.top_n = 2
    documents = [Document(text, id=text, metadata={"place": place}) for place, text in enumerate(TEXTS)]
    compressed = await compress(reranker, way, documents)
    assert [document.id for document in compressed] == ["the red house", "the red car"]
    assert compressed[0].metadata == {"place": 1, "relevance_score": 1.0}
    assert documents[1].metadata == {"place": 1}


@both
async def test_nothing_to_rank_makes_no_request(
    reranker: TogetherAIRerank, engine: ScriptedEngine, way: str
) -> None:
    reranker.model = None
    assert await rerank(reranker, way, QUERY, []) == []
    assert await compress(reranker, way, []) == []
    assert await predict(reranker, way, []) == []
    assert not engine.requests


@both
async def test_rank_fields_choose_what_is_ranked_by(reranker: TogetherAIRerank, way: str) -> None:
    objects = [{"title": QUERY, "text": "x"}, {"title": "y", "text": QUERY}]
    by_title = await rerank(reranker, way, QUERY, objects, rank_fields=["title"])
    by_text = await rerank(reranker, way, QUERY, objects, rank_fields=["text"])
    assert (by_title[0]["index"], by_text[0]["index"]) == (0, 1)
    reranker.rank_fields = ["title"]
    documents = [Document("x", metadata={"title": "y"}), Document("x", metadata={"title": QUERY})]
    assert (await compress(reranker, way, documents))[0].metadata["title"] == QUERY


@both
async def test_documents_come_back_when_asked_for(reranker: TogetherAIRerank, way: str) -> None:
    reranker.return_documents = True
    results = await rerank(reranker, way, QUERY, TEXTS, top_n=1)
    assert results == [{"index": 1, "relevance_score": 1.0, "document": {"text": QUERY}}]


@both
async def test_a_reply_with_choices_is_read_too(
    together: ScriptedTogether, reranker: TogetherAIRerank, engine: ScriptedEngine, way: str
) -> None:
    together.check_answers = False
    choices = [{"index": 1, "relevance_score": 0.25}, {"index": 0, "relevance_score": 0.75}]
    engine.reply(Reply(body={"object": "rerank", "model": "m", "choices": choices}))
    assert await rerank(reranker, way, QUERY, ["a", "b"]) == [choices[1], choices[0]]


@both
async def test_pairs_are_scored_by_one_request_for_each_query(
    reranker: TogetherAIRerank, engine: ScriptedEngine, way: str
) -> None:
    reranker.top_n, reranker.return_documents = 1, True
    pairs = [("red", "red"), ("blue", "red"), ("red", "blue"), ["blue", "blue"], ("red", "red")]
    assert await predict(reranker, way, iter(pairs)) == [1.0, 0.0, 0.0, 1.0, 1.0]
    assert sorted((body["query"], body["documents"]) for body in bodies(engine)) == [
        ("blue", ["red", "blue"]),
        ("red", ["red", "blue", "red"]),
    ]
    assert all("top_n" not in body and "return_documents" not in body for body in bodies(engine))


@both
async def test_queries_go_beside_each_other(
    together: ScriptedTogether, reranker: TogetherAIRerank, engine: ScriptedEngine, way: str
) -> None:
    await rerank(reranker, way, QUERY, ["warm"])
    engine.always(Reply(delay=0.5))
    scores = await predict(reranker, way, [(str(number), str(number % 10)) for number in range(20)])
    assert together.statistics.peak_active > 5
    assert scores == [1.0] * 10 + [0.0] * 10


async def test_a_cancelled_call_cancels_its_requests(reranker: TogetherAIRerank, engine: ScriptedEngine) -> None:
    engine.always(Reply(stall=True))
    await cancel_once(lambda: len(bodies(engine)) == 2, reranker.apredict([("a", "x"), ("b", "x")]))
    await eventually(lambda: reranker.transport.limiter(reranker.model).in_use == 0)


@both
async def test_a_reply_that_lacks_a_document_is_an_error(
    reranker: TogetherAIRerank, engine: ScriptedEngine, way: str
) -> None:
    results = [{"index": 0, "relevance_score": 0.5, "document": {}}]
    engine.always(Reply(body={"object": "rerank", "model": "m", "results": results}))
    with pytest.raises(TogetherAIResponseError, match="ranks 1 of them, not 2") as caught:
        await predict(reranker, way, [("a", "x"), ("a", "y")])
    assert caught.value.request_id


@both
async def test_errors_are_those_of_the_tree(reranker: TogetherAIRerank, engine: ScriptedEngine, way: str) -> None:
    reranker.max_retries = 0
    engine.reply(Reply(status=429))
    with pytest.raises(TogetherAIRateLimitError, match="Error code: 429"):
        await rerank(reranker, way, QUERY, TEXTS)
    with pytest.raises(TogetherAIModelNotFoundError) as caught:
        await rerank(reranker, way, QUERY, TEXTS, model="local/scripted-rank")
    assert caught.value.alternatives == ("local/scripted-rerank",)


@both
async def test_without_a_name_the_catalogue_gives_a_model(together: ScriptedTogether, way: str) -> None:
    reranker = TogetherAIRerank(**together.client)
    assert await predict(reranker, way, [("a", "a"), ("b", "b")]) == [1.0, 1.0]
    assert reranker.model == together.model("rerank")
    paths = [request.path for request in together.engine.requests]
    assert paths.count("/v2/supported-models") == 1
    reranker.model = None
    await rerank(reranker, way, QUERY, TEXTS)
    assert reranker.model == together.model("rerank")
