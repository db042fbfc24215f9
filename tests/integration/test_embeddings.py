"""TogetherAIEmbeddings against the loopback server, through its faces and LangChain's vector store."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from langchain_core.vectorstores import InMemoryVectorStore

from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import (
    TogetherAIInputError,
    TogetherAIInvalidRequestError,
    TogetherAIModelNotFoundError,
    TogetherAIResponseError,
    TogetherAIServerError,
)
from hana_ai.api.local.together import Received, Reply, ScriptedEngine
from hana_ai.api.service import catalog_for
from tests.conftest import ScriptedTogether, cancel_once, eventually

PATH = "/v1/embeddings"


@pytest.fixture
def embeddings(together: ScriptedTogether) -> TogetherAIEmbeddings:
    return TogetherAIEmbeddings(model=together.model("embedding"), batch_size=4, **together.client)


def inputs(engine: ScriptedEngine) -> list[Any]:
    """The `input` of every request for embeddings so far."""
    return [request.body["input"] for request in engine.posts if request.path == PATH]


async def embed(embeddings: TogetherAIEmbeddings, way: str, texts: Iterable[str]) -> list[list[float]]:
    if way == "sync":
        return await asyncio.to_thread(embeddings.embed_documents, texts)
    return await embeddings.aembed_documents(texts)


both = pytest.mark.parametrize("way", ["sync", "async"])


@both
async def test_documents_go_in_batches_of_plain_strings(
    embeddings: TogetherAIEmbeddings, engine: ScriptedEngine, way: str
) -> None:
    texts = [f"text {number}" for number in range(10)]
    vectors = await embed(embeddings, way, texts)
    assert len(vectors) == 10
    assert {len(vector) for vector in vectors} == {256}
    assert sorted(map(len, inputs(engine))) == [2, 4, 4]
    assert sorted(text for batch in inputs(engine) for text in batch) == sorted(texts)
    # The same text alone has the same vector: order was kept.
    embeddings.batch_size = 1
    assert await embed(embeddings, way, texts[:3]) == vectors[:3]


def shuffled(request: Received) -> Reply:
    """Answers late and in any order; the vector tells the text, its numbers are integers."""
    data = [
        {"object": "embedding", "index": index, "embedding": [0, 1, int(text)]}
        for index, text in enumerate(request.body["input"])
    ]
    random.shuffle(data)
    body = {"object": "list", "model": request.body["model"], "data": data}
    return Reply(body=body, delay=random.uniform(0, 0.1))


@both
async def test_order_is_that_of_the_texts_and_numbers_are_floats(
    embeddings: TogetherAIEmbeddings, engine: ScriptedEngine, way: str
) -> None:
    engine.on(PATH, shuffled)
    vectors = await embed(embeddings, way, [str(number) for number in range(50)])
    assert vectors == [[0.0, 1.0, float(number)] for number in range(50)]
    assert {type(number) for vector in vectors for number in vector} == {float}


@both
async def test_batches_go_beside_each_other(
    together: ScriptedTogether, embeddings: TogetherAIEmbeddings, engine: ScriptedEngine, way: str
) -> None:
    await embed(embeddings, way, ["warm"])
    engine.always(Reply(delay=0.5))
    await embed(embeddings, way, map(str, range(40)))
    assert together.statistics.peak_active > 5


@both
async def test_at_most_max_concurrency_requests_at_once(
    embeddings: TogetherAIEmbeddings, engine: ScriptedEngine, way: str
) -> None:
    embeddings.max_concurrency = 2
    engine.always(Reply(delay=0.1))
    started = time.monotonic()
    await embed(embeddings, way, map(str, range(24)))
    assert time.monotonic() - started >= 0.3


@both
@pytest.mark.parametrize(
    "refusal",
    [
        Reply(status=413),
        Reply(status=400, error={"message": "batch size must not be larger than 3: too large"}),
        Reply(status=422, error={"message": "Too many inputs in one request"}),
    ],
)
async def test_a_refused_batch_is_split_and_the_size_is_remembered(
    embeddings: TogetherAIEmbeddings, engine: ScriptedEngine, way: str, refusal: Reply
) -> None:
    embeddings.batch_size = 16
    engine.on(PATH, lambda request: refusal if len(request.body["input"]) > 3 else None)
    texts = [str(number) for number in range(40)]
    vectors = await embed(embeddings, way, texts)
    engine.reset()
    assert await embed(embeddings, way, texts) == vectors
    assert sorted(map(len, inputs(engine))) == [2] * 20
    assert embeddings.batch_size == 16


@both
async def test_a_single_text_that_is_refused_is_named(
    embeddings: TogetherAIEmbeddings, engine: ScriptedEngine, way: str
) -> None:
    engine.on(PATH, lambda request: Reply(status=413) if "huge" in request.body["input"] else None)
    with pytest.raises(TogetherAIInvalidRequestError, match=r"Error code: 413.*\[texts\[6\]\]"):
        await embed(embeddings, way, ["a", "b", "c", "d", "e", "f", "huge", "g"])


@both
async def test_the_first_error_ends_all_batches_and_names_its_texts(
    embeddings: TogetherAIEmbeddings, engine: ScriptedEngine, way: str
) -> None:
    embeddings.max_concurrency, embeddings.max_retries = 2, 0
    await embed(embeddings, way, ["warm"])
    engine.on(PATH, lambda request: Reply(status=500) if "5" in request.body["input"] else Reply(stall=True))
    with pytest.raises(TogetherAIServerError, match=r"\[texts\[4:8\]\]"):
        await embed(embeddings, way, map(str, range(400)))
    await eventually(lambda: embeddings.transport.limiter(embeddings.model).in_use == 0)
    assert len(inputs(engine)) <= 5


async def test_a_cancelled_call_cancels_its_requests(
    embeddings: TogetherAIEmbeddings, engine: ScriptedEngine
) -> None:
    engine.always(Reply(stall=True))
    await cancel_once(lambda: len(inputs(engine)) == 3, embeddings.aembed_documents(map(str, range(12))))
    await eventually(lambda: embeddings.transport.limiter(embeddings.model).in_use == 0)


@both
async def test_no_texts_make_no_request(
    embeddings: TogetherAIEmbeddings, engine: ScriptedEngine, way: str
) -> None:
    embeddings.model = None
    assert await embed(embeddings, way, []) == []
    assert await embed(embeddings, way, iter(())) == []
    assert not engine.posts


@both
async def test_a_generator_of_texts_with_equal_ones(
    embeddings: TogetherAIEmbeddings, engine: ScriptedEngine, way: str
) -> None:
    def texts() -> Iterator[str]:
        yield from ("a", "b", "a", "a", "c")

    vectors = await embed(embeddings, way, texts())
    assert inputs(engine) == [["a", "b", "c"]]
    assert vectors[0] == vectors[2] == vectors[3]
    assert vectors[0] is not vectors[2]
    assert len(vectors) == 5


@both
async def test_prefixes_tell_queries_from_documents(
    embeddings: TogetherAIEmbeddings, engine: ScriptedEngine, way: str
) -> None:
    embeddings.query_prefix, embeddings.document_prefix = "query: ", "passage: "
    if way == "sync":
        embeddings.embed_query("a")
        embeddings.embed_documents(["a"])
        embeddings("a")
        embeddings(["a"])
    else:
        await embeddings.aembed_query("a")
        await embeddings.aembed_documents(["a"])
    assert inputs(engine)[:2] == [["query: a"], ["passage: a"]]
    assert inputs(engine)[2:] == ([["query: a"], ["passage: a"]] if way == "sync" else [])


@both
async def test_empty_texts(embeddings: TogetherAIEmbeddings, engine: ScriptedEngine, way: str) -> None:
    with pytest.raises(TogetherAIInputError, match=r"texts\[1\]"):
        await embed(embeddings, way, ["a", ""])
    assert not engine.posts
    embeddings.on_empty = "blank"
    assert len(await embed(embeddings, way, ["a", "", "  "])) == 3
    assert inputs(engine) == [["a", " "]]


@both
async def test_a_text_that_the_server_finds_too_long_is_shortened(
    embeddings: TogetherAIEmbeddings, engine: ScriptedEngine, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    too_long = Reply(status=400, error={"message": "This model's maximum context length is 512 tokens"})
    engine.on(PATH, lambda request: too_long if max(map(len, request.body["input"])) > 100 else None)
    texts = ["short", "x" * 1000, "also short"]
    with pytest.raises(Exception, match=r"\[texts\[1\]\].*on_too_long='truncate'"):
        await embed(embeddings, way, texts)
    embeddings.on_too_long = "truncate"
    assert len(await embed(embeddings, way, texts)) == 3
    assert ["x" * 99] in inputs(engine)
    [record] = caplog.records
    assert record.getMessage().startswith("texts[1] was cut from 1000 to 99 letters")


def test_a_text_is_too_long_by_the_context_that_is_given_alone(together: ScriptedTogether) -> None:
    words = " ".join(["word"] * 9000)
    embeddings = TogetherAIEmbeddings(model=together.model("embedding"), **together.client)
    assert len(embeddings.embed_query(words)) == 256
    # The catalogue says 8192; what is sent must not depend on whether somebody has read it.
    catalog_for(embeddings.transport.base_url, embeddings.transport.api_key).models()
    assert len(embeddings.embed_query(words)) == 256
    embeddings.context_length = 8192
    with pytest.raises(TogetherAIInputError, match="more than 8192 words"):
        embeddings.embed_query(words)


@both
async def test_a_text_with_half_a_surrogate_pair_is_named(embeddings: TogetherAIEmbeddings, way: str) -> None:
    with pytest.raises(TogetherAIInputError, match=r"^texts\[1\]: .*surrogate"):
        await embed(embeddings, way, ["a", "\ud800"])


# --- the width ---


async def test_the_dimension_is_found_once(embeddings: TogetherAIEmbeddings, engine: ScriptedEngine) -> None:
    assert embeddings.dimension == 256
    assert embeddings.dimension == 256
    assert await embeddings.adimension() == 256
    assert len(inputs(engine)) == 1


async def test_the_dimension_is_found_from_a_coroutine(
    embeddings: TogetherAIEmbeddings, engine: ScriptedEngine
) -> None:
    embeddings.model = None
    assert await embeddings.adimension() == 256
    assert await embeddings.adimension() == 256
    assert len(inputs(engine)) == 1


def test_the_dimension_comes_from_the_first_reply(
    embeddings: TogetherAIEmbeddings, engine: ScriptedEngine
) -> None:
    embeddings.embed_query("a")
    assert embeddings.dimension == 256
    assert len(inputs(engine)) == 1


def of_width(width: int) -> Reply:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5] * width}]
    return Reply(body={"object": "list", "model": "m", "data": data})


@both
async def test_vectors_of_another_width_than_before_are_refused(
    embeddings: TogetherAIEmbeddings, engine: ScriptedEngine, way: str
) -> None:
    await embed(embeddings, way, ["a"])
    engine.reply(of_width(512))
    with pytest.raises(TogetherAIResponseError, match="512 numbers, not the 256"):
        await embed(embeddings, way, ["b"])


def test_another_model_has_a_width_of_its_own(embeddings: TogetherAIEmbeddings, engine: ScriptedEngine) -> None:
    assert embeddings.dimension == 256
    embeddings.model = "another/model"
    engine.reply(of_width(512))
    assert embeddings.dimension == 512


def test_dimensions_are_asked_for_and_checked(embeddings: TogetherAIEmbeddings, engine: ScriptedEngine) -> None:
    embeddings.dimensions = 64
    engine.reply(of_width(64))
    assert embeddings.dimension == 64
    assert engine.posts[-1].body["dimensions"] == 64
    with pytest.raises(TogetherAIResponseError, match="256 numbers, not the 64 that was asked for"):
        embeddings.embed_query("a")


def test_dimensions_that_the_server_ignores_are_not_taken_for_the_width(embeddings: TogetherAIEmbeddings) -> None:
    embeddings.dimensions = 64
    for _ in range(2):
        with pytest.raises(TogetherAIResponseError, match="256 numbers, not the 64"):
            _ = embeddings.dimension


@both
async def test_a_reply_with_too_few_vectors_is_an_error(
    embeddings: TogetherAIEmbeddings, engine: ScriptedEngine, way: str
) -> None:
    engine.reply(of_width(256))
    with pytest.raises(TogetherAIResponseError, match="2 texts has 1 vectors"):
        await embed(embeddings, way, ["a", "b"])


FACES: dict[str, Callable[[TogetherAIEmbeddings], object]] = {
    "sync documents": lambda embeddings: embeddings.embed_documents(["a"]),
    "sync query": lambda embeddings: embeddings.embed_query("a"),
    "async documents": lambda embeddings: asyncio.run(embeddings.aembed_documents(["a"])),
    "async query": lambda embeddings: asyncio.run(embeddings.aembed_query("a")),
}


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    ("number", "what"),
    [
        ("1e300", r"1e\+300 at data\[0\]\.embedding\[1\]"),
        ("-1e39", r"-1e\+39 at data\[0\]\.embedding\[1\]"),
        ("1e400", "not JSON"),
        ("NaN", "not JSON"),
        ("-Infinity", "not JSON"),
        ("null", r"data\[0\]\.embedding\[1\]: Input should be a valid number"),
        ('"1"', r"data\[0\]\.embedding\[1\]: Input should be a valid number"),
    ],
)
def test_a_number_that_no_database_can_hold_is_an_error_of_the_reply(
    together: ScriptedTogether, embeddings: TogetherAIEmbeddings, engine: ScriptedEngine,
    face: str, number: str, what: str,
) -> None:  # fmt: skip
    together.check_answers = False
    body = f'{{"object": "list", "model": "m", "data": [{{"index": 0, "embedding": [0.5, {number}]}}]}}'
    engine.always(Reply(body=body, content_type="application/json"))
    with pytest.raises(TogetherAIResponseError, match=what):
        FACES[face](embeddings)


# --- the rest ---


async def test_without_a_name_the_catalogue_gives_a_model(together: ScriptedTogether) -> None:
    embeddings = TogetherAIEmbeddings(**together.client)
    await embeddings.aembed_documents(["a"])
    assert embeddings.model == together.model("embedding")
    embeddings = TogetherAIEmbeddings(**together.client)
    embeddings.embed_documents(["a"])
    assert embeddings.model == together.model("embedding")


def test_a_retired_model_is_named_with_living_ones(embeddings: TogetherAIEmbeddings) -> None:
    embeddings.model = "local/scripted-embeddings"
    with pytest.raises(TogetherAIModelNotFoundError) as caught:
        embeddings.embed_query("a")
    assert caught.value.alternatives == ("local/scripted-embedding",)


async def test_usage_is_told_of_each_reply_and_of_the_whole(embeddings: TogetherAIEmbeddings) -> None:
    seen: list[Any] = []
    embeddings.on_usage = seen.append
    texts = ["one two", "three", "four", "five", "six"]
    for result in (embeddings._embed(texts), await embeddings._aembed(texts)):
        assert result.usage == {"prompt_tokens": 6, "total_tokens": 6}
        assert result.model == embeddings.model
        assert len(result.request_ids) == 2
        assert len(result.vectors) == 5
    assert sorted(usage["total_tokens"] for usage in seen) == [1, 1, 5, 5]


def test_the_toolkits_faces(embeddings: TogetherAIEmbeddings) -> None:
    assert embeddings("a") == [embeddings.embed_query("a")]
    assert embeddings(["a", "b"]) == embeddings.embed_documents(["a", "b"])
    assert embeddings.get_text_embedding_batch(["a", "b"], extra=1) == embeddings(["a", "b"])


@both
async def test_progress_is_shown_on_stderr(
    embeddings: TogetherAIEmbeddings, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    await embed(embeddings, way, map(str, range(9)))
    assert capsys.readouterr() == ("", "")
    embeddings.show_progress = True
    await embed(embeddings, way, map(str, range(9)))
    out, err = capsys.readouterr()
    assert out == ""
    assert "Embedding" in err
    assert "100%" in err
    embeddings.show_progress = False
    embeddings.get_text_embedding_batch(["a"], show_progress=True)
    assert "100%" in capsys.readouterr().err


def test_further_fields_reach_the_request(embeddings: TogetherAIEmbeddings, engine: ScriptedEngine) -> None:
    embeddings.model_kwargs = {"user": "a", "own": 1}
    embeddings.extra_body = {"own": 2}
    embeddings.embed_query("a")
    assert engine.posts[-1].body == {"model": embeddings.model, "input": ["a"], "user": "a", "own": 2}


def test_threads_share_an_object(embeddings: TogetherAIEmbeddings) -> None:
    expected = {str(number): vector for number, vector in enumerate(embeddings(list(map(str, range(20)))))}
    wrong: list[str] = []

    def work(text: str) -> None:
        if embeddings.embed_query(text) != expected[text]:
            wrong.append(text)

    threads = [threading.Thread(target=work, args=[str(number % 20)]) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_object_works_in_one_event_loop_after_the_other(embeddings: TogetherAIEmbeddings) -> None:
    first = asyncio.run(embeddings.aembed_query("a"))
    assert asyncio.run(embeddings.aembed_query("a")) == first == embeddings.embed_query("a")


async def test_a_vector_store_finds_what_was_put_in(embeddings: TogetherAIEmbeddings) -> None:
    store = InMemoryVectorStore(embeddings)
    store.add_texts(["one", "two", "three"])
    [found] = store.similarity_search("two", k=1)
    assert found.page_content == "two"
    [found] = await store.asimilarity_search("three", k=1)
    assert found.page_content == "three"


@pytest.mark.slow
def test_five_hundred_texts_take_little_more_than_their_batches(together: ScriptedTogether) -> None:
    together.engine.latency = 0.02
    embeddings = TogetherAIEmbeddings(model=together.model("embedding"), **together.client)
    embeddings.embed_query("warm")
    texts = [f"text {number}" for number in range(500)]
    started = time.monotonic()
    for text in texts[:50]:
        embeddings.embed_query(text)
    one_by_one = (time.monotonic() - started) * 10
    started = time.monotonic()
    embeddings.embed_documents(texts)
    assert one_by_one / (time.monotonic() - started) > 40
