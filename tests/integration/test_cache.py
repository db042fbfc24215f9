"""The caches over real sockets: every class, both databases, many processes, and what is never kept."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import Generation
from langchain_core.prompts import ChatPromptTemplate
from langchain_tests.integration_tests.cache import AsyncCacheTestSuite, SyncCacheTestSuite

from hana_ai.api import (
    ChatTogetherAI,
    TogetherAI,
    TogetherAICache,
    TogetherAIClient,
    TogetherAIEmbeddingCache,
    TogetherAIEmbeddings,
    TogetherAIError,
    TogetherAIInputError,
    TogetherAIResponseError,
    TogetherAISettings,
    get_ledger,
    usage_tags,
)
from hana_ai.api.cache.caches import close_all as close_caches
from hana_ai.api.cache.store import Bounds, Patience, cache_key
from hana_ai.api.local.hana import LocalHana
from hana_ai.api.local.together import Call, LocalModel, Received, Reply, ScriptedEngine
from tests.conftest import ScriptedTogether, cancel_once, export
from tests.warm import Started, Warm

PRICED = (
    LocalModel("priced/chat", "chat", 8192, price_input=100.0, price_output=1000.0),
    LocalModel("priced/embedding", "embedding", 8192, dimensions=16, price_input=20.0),
)
CHAT, EMBEDDING = (model.id for model in PRICED)


@pytest.fixture(params=["sqlite", "hana"])
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What TOGETHER_CACHE can be; empty."""
    if request.param == "sqlite":
        yield str(tmp_path / "cache.db")
        return
    server: LocalHana = request.getfixturevalue("hana")
    export(monkeypatch, server.environment())
    yield "hana:TOGETHER_CACHE"
    close_caches()
    connection = server.connect()
    with closing(connection.cursor()) as cursor:
        for table in ("TOGETHER_CACHE", "TOGETHER_CACHE_VECTORS"):
            cursor.execute(f"DROP TABLE IF EXISTS {table}")
    connection.close()


@pytest.fixture
def cached(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedTogether]:
    """A server with prices, and the environment pointing at it and at an empty cache."""
    monkeypatch.setenv("TOGETHER_CACHE", database)
    with ScriptedTogether(ScriptedEngine(models=PRICED)) as server:
        export(monkeypatch, server.environment())
        yield server


@pytest.fixture
def sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedTogether]:
    """The same with SQLite alone, for what no database makes a difference to."""
    monkeypatch.setenv("TOGETHER_CACHE", str(tmp_path / "cache.db"))
    with ScriptedTogether(ScriptedEngine(models=PRICED)) as server:
        export(monkeypatch, server.environment())
        yield server


def posts(server: ScriptedTogether) -> int:
    return sum(request.method == "POST" for request in server.engine.requests)


class TestLangChainsSuite(SyncCacheTestSuite):
    """All of langchain-tests' tests of a cache."""

    @pytest.fixture
    def cache(self, database: str) -> Iterator[BaseCache]:
        made = TogetherAICache(database)
        yield made
        made.close()


class TestLangChainsAsyncSuite(AsyncCacheTestSuite):
    """All of langchain-tests' tests of a cache, from coroutines."""

    @pytest.fixture
    async def cache(self, database: str) -> AsyncIterator[BaseCache]:
        made = TogetherAICache(database)
        yield made
        made.close()


# --- every way to ask ---


def _chat(**fields: Any) -> ChatTogetherAI:
    return ChatTogetherAI(model=CHAT, **fields)


def _llm(**fields: Any) -> TogetherAI:
    return TogetherAI(model=CHAT, **fields)


async def _events(chat: ChatTogetherAI) -> str:
    return "".join(
        [
            event["data"]["output"].content
            async for event in chat.astream_events("Hello")
            if event["event"] == "on_chat_model_end"
        ]
    )


WAYS: dict[str, tuple[str, Callable[[], Any]]] = {
    "chat invoke": ("chat", lambda: _chat().invoke("Hello").content),
    "chat generate": ("chat", lambda: _chat().generate([[HumanMessage("Hello")]]).generations[0][0].text),
    "chat batch": ("chat", lambda: [answer.content for answer in _chat().batch(["Hello"])]),
    "chat streaming": ("chat", lambda: _chat(streaming=True).invoke("Hello").content),
    "llm invoke": ("completion", lambda: _llm().invoke("Hello")),
    "llm batch": ("completion", lambda: _llm().batch(["Hello"])),
    "embed documents": (
        "embedding",
        lambda: TogetherAIEmbeddings(model=EMBEDDING).embed_documents(["a", "b", "a"]),
    ),
    "embed query": ("embedding", lambda: TogetherAIEmbeddings(model=EMBEDDING).embed_query("a")),
    "embed call": ("embedding", lambda: TogetherAIEmbeddings(model=EMBEDDING)("a")),
    "client embed": ("embedding", lambda: list(TogetherAIClient().generate_embeddings("a", model=EMBEDDING))),
}
ASYNC_WAYS: dict[str, tuple[str, Callable[[], Any]]] = {
    "chat ainvoke": ("chat", lambda: _chat().ainvoke("Hello")),
    "chat streaming": ("chat", lambda: _chat(streaming=True).ainvoke("Hello")),
    "llm ainvoke": ("completion", lambda: _llm().ainvoke("Hello")),
    "aembed documents": ("embedding", lambda: TogetherAIEmbeddings(model=EMBEDDING).aembed_documents(["a", "b"])),
    "aembed query": ("embedding", lambda: TogetherAIEmbeddings(model=EMBEDDING).aembed_query("a")),
}


@pytest.mark.parametrize("way", [*WAYS, *(f"async {way}" for way in ASYNC_WAYS)])
async def test_the_second_call_is_answered_from_the_cache_and_stands_in_the_ledger(
    cached: ScriptedTogether, way: str
) -> None:
    asynchronous = way.startswith("async ")
    operation, call = ASYNC_WAYS[way.removeprefix("async ")] if asynchronous else WAYS[way]
    answers = []
    with usage_tags("finance"):
        for _ in range(3):
            # As another process would: with objects and connections of its own.
            close_caches()
            answer = await call() if asynchronous else call()
            answers.append(answer.content if isinstance(answer, AIMessage) else answer)
    assert answers[0] == answers[1] == answers[2]
    assert posts(cached) == 1
    sent, *hits = get_ledger().events()
    assert [event.status for event in hits] == ["cached", "cached"]
    for event in hits:
        assert (event.operation, event.model, event.tags) == (operation, sent.model, ("finance",))
        assert (event.prompt_tokens, event.completion_tokens, event.cost_usd) == (0, 0, 0)
        assert 0 < event.latency_seconds < 30
    totals = get_ledger().totals()
    assert (totals["total_requests"], totals["cached_requests"], totals["failed_requests"]) == (3, 2, 0)
    assert totals["total_cost_usd"] == sent.cost_usd
    assert totals["unknown_cost_requests"] == 0


async def test_a_stream_neither_asks_nor_fills_the_cache(sqlite: ScriptedTogether) -> None:
    for _ in range(2):
        assert "".join(str(chunk.content) for chunk in _chat().stream("Hello")) == "Hello"
        assert [chunk async for chunk in _llm().astream("Hello")]
    assert posts(sqlite) == 4
    # What LangChain streams to listeners inside of a call is a call.
    assert await _events(_chat()) == "Hello"


async def test_a_chat_keeps_all_of_an_answer(cached: ScriptedTogether) -> None:
    call = Call("weather", {"city": "Köln", "lc": 1})
    cached.engine.reply(Reply(text="Let me see.", reasoning="They ask for weather.", tool_calls=[call]))
    first, second = [_chat().invoke("Weather?") for _ in range(2)]
    third = await _chat().ainvoke("Weather?")
    assert posts(cached) == 1
    for hit in (second, third):
        assert hit.content == first.content
        assert hit.tool_calls == first.tool_calls != []
        assert hit.additional_kwargs == first.additional_kwargs
        assert hit.additional_kwargs["reasoning_content"] == "They ask for weather."
        assert hit.response_metadata == first.response_metadata
        # LangChain's mark of an answer that cost nothing.
        assert hit.usage_metadata == {**(first.usage_metadata or {}), "total_cost": 0}
    assert len({first.id, second.id, third.id}) == 3


def test_a_conversation_hits_in_every_turn(sqlite: ScriptedTogether) -> None:
    for _ in range(2):
        history: list[Any] = []
        for turn in range(3):
            history.append(HumanMessage(f"Turn {turn}"))
            history.append(_chat().invoke(history))
    assert posts(sqlite) == 3


def test_what_is_asked_differently_is_another_question(sqlite: ScriptedTogether) -> None:
    chat, llm = _chat(), _llm()
    calls: list[Callable[[], Any]] = [
        lambda: chat.invoke("Hello"),
        lambda: chat.invoke("Hello!"),
        lambda: chat.invoke("Hello", temperature=0.5),
        lambda: chat.bind(seed=1).invoke("Hello"),
        lambda: chat.invoke("Hello", stop=["x"]),
        lambda: llm.invoke("Hello"),
        lambda: llm.invoke("Hello", temperature=0.5),
        lambda: llm.invoke("Hello", temperature=0.6),
        lambda: llm.invoke("Hello", extra_body={"seed": 1}),
        lambda: llm.invoke("Hello", extra_body={"seed": 2}),
        lambda: llm.invoke("Hello", stop=["x"]),
    ]
    for _ in range(2):
        for call in calls:
            call()
    assert posts(sqlite) == len(calls)
    # The same question in other words.
    _chat(temperature=0.5, timeout=9, max_retries=0).invoke("Hello")
    _llm(temperature=0.5, timeout=9, max_retries=0).invoke("Hello")
    assert posts(sqlite) == len(calls)


async def test_the_parameters_of_a_call_are_in_the_key_of_any_cache(sqlite: ScriptedTogether) -> None:
    """LangChain's own key of a language model leaves them out."""
    llm = _llm(cache=InMemoryCache())
    for _ in range(2):
        llm.invoke("Hello")
        llm.invoke("Hello", temperature=0.5)
        await llm.ainvoke("Hello", temperature=0.6)
    assert posts(sqlite) == 3
    assert get_ledger().totals()["cached_requests"] == 0


async def test_without_a_model_the_recommended_one_is_in_the_key(sqlite: ScriptedTogether) -> None:
    for kind in (ChatTogetherAI, TogetherAI):
        for _ in range(2):
            kind().invoke("Hello")
            await kind().ainvoke("Hello")
        kind(model=CHAT).invoke("Hello")
    assert posts(sqlite) == 2


def test_models_and_addresses_are_never_mixed(sqlite: ScriptedTogether) -> None:
    other = LocalModel("other/chat", "chat", 8192)
    with ScriptedTogether(ScriptedEngine(models=(*PRICED, other))) as second:
        for _ in range(2):
            for model in (CHAT, "other/chat"):
                ChatTogetherAI(model=model, **second.client).invoke("Hello")
                ChatTogetherAI(model=CHAT, **second.client).invoke("Hello", model=model)
                TogetherAI(model=CHAT, **second.client).invoke("Hello", model=model)
            _chat().invoke("Hello")
        assert posts(second) == 4
    assert posts(sqlite) == 1


def test_langchains_rules_for_the_field_hold(sqlite: ScriptedTogether) -> None:
    for _ in range(2):
        _chat(cache=False).invoke("Hello")
        _llm(cache=False).invoke("Hello")
    assert posts(sqlite) == 4
    with pytest.raises(ValueError, match="cache"):
        _chat(cache=True).invoke("Hello")
    try:
        set_llm_cache(InMemoryCache())
        for _ in range(2):
            _chat(cache=True).invoke("Hello")
            _llm(cache=True).invoke("Hello")
    finally:
        set_llm_cache(None)
    assert posts(sqlite) == 6
    assert _chat().cache.stats().entries == 0  # type: ignore[union-attr]


def test_several_prompts_are_asked_for_one_by_one(cached: ScriptedTogether) -> None:
    _llm().generate(["a", "b"])
    answers = _llm().batch(["c", "b", "a", "d"], config=[{"tags": [name]} for name in "cbad"])
    assert answers == ["c", "b", "a", "d"]
    assert posts(cached) == 4
    assert [(event.tags, event.status) for event in get_ledger().events() if event.status == "cached"] == [
        (("b",), "cached"),
        (("a",), "cached"),
    ]


def test_tags_of_a_chain_are_noted_with_its_hits(sqlite: ScriptedTogether) -> None:
    for model in (_chat(), _llm()):
        chain = ChatPromptTemplate.from_template("{x}") | model
        for _ in range(2):
            chain.invoke({"x": "Hello"}, config={"tags": ["report"]})
    events = get_ledger().events()
    assert [event.status for event in events] == ["ok", "cached"] * 2
    assert {event.tags for event in events} == {("report",)}


def test_a_hit_needs_no_budget(sqlite: ScriptedTogether, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_BUDGET_USD", "0.0001")
    _chat().invoke("Hello")
    with pytest.raises(TogetherAIError, match="budget"):
        _chat().invoke("Something else")
    assert _chat().invoke("Hello").content == "Hello"


# --- what is never kept ---


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=500),
        Reply(status=400),
        Reply(status=429),
        Reply(body="no json", content_type="application/json"),
        Reply(body='{"choices": []}', content_type="application/json"),
        Reply(drop=True),
        Reply(text=""),
        Reply(text="That is", finish_reason="content_filter"),
    ],
    ids=["500", "400", "429", "no json", "no choices", "dropped", "empty", "filtered"],
)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("kind", ["chat", "llm"])
async def test_errors_and_answers_that_are_none_are_not_kept(
    sqlite: ScriptedTogether, kind: str, reply: Reply, asynchronous: bool
) -> None:
    sqlite.check_answers = False
    sqlite.engine.reply(reply)
    model: Any = _chat(max_retries=0) if kind == "chat" else _llm(max_retries=0)
    for _ in range(2):
        try:
            answer = await model.ainvoke("Hello") if asynchronous else model.invoke("Hello")
        except TogetherAIError:
            continue
    assert getattr(answer, "content", answer) == "Hello"
    assert posts(sqlite) == 2


@pytest.mark.parametrize(
    "reply",
    [
        Reply(chunks=["a ", "b "], error_at_chunk=1, error={"message": "no more", "code": "500"}),
        Reply(chunks=["a ", "b "], break_at_chunk=1),
        Reply(chunks=[]),
        Reply(chunks=["a ", "b "], finish_reason="content_filter"),
    ],
    ids=["error", "dropped", "empty", "filtered"],
)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
async def test_broken_and_empty_streams_are_not_kept(
    sqlite: ScriptedTogether, reply: Reply, asynchronous: bool
) -> None:
    sqlite.check_answers = False
    sqlite.engine.reply(reply)
    chat = _chat(streaming=True, max_retries=0)
    for _ in range(2):
        try:
            answer = await chat.ainvoke("Hello") if asynchronous else chat.invoke("Hello")
        except (TogetherAIError, ValueError):
            continue
    assert answer.content == "Hello"
    assert posts(sqlite) == 2


@pytest.mark.parametrize("streaming", [False, True], ids=["plain", "streaming"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
async def test_an_answer_of_a_fallback_is_not_kept(
    sqlite: ScriptedTogether, asynchronous: bool, streaming: bool
) -> None:
    other = LocalModel("other/chat", "chat", 8192)
    with ScriptedTogether(ScriptedEngine(models=(*PRICED, other))) as server:
        server.check_answers = False
        fields: dict[str, Any] = {"fallback": ["other/chat"], "max_retries": 0, **server.client}
        chat, llm = _chat(streaming=streaming, **fields), _llm(**fields)
        for model in (chat, llm):
            server.engine.reply(Reply(status=500), Reply(text="Of another model."))
            found = [await model.ainvoke("Hello") if asynchronous else model.invoke("Hello") for _ in range(3)]  # type: ignore[attr-defined]
            assert [getattr(answer, "content", answer) for answer in found] == [
                "Of another model.",
                "Hello",
                "Hello",
            ]
        assert posts(server) == 6


async def test_a_cancelled_call_leaves_nothing(sqlite: ScriptedTogether) -> None:
    sqlite.engine.reply(Reply(stall=True))
    await cancel_once(lambda: bool(sqlite.engine.requests), _chat().ainvoke("Hello"))
    assert (await _chat().ainvoke("Hello")).content == "Hello"
    assert posts(sqlite) == 2


# --- vectors ---


def inputs(server: ScriptedTogether) -> list[list[str]]:
    return [request.body["input"] for request in server.engine.requests if request.path == "/v1/embeddings"]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
async def test_only_missing_texts_are_sent_and_the_order_is_kept(
    cached: ScriptedTogether, asynchronous: bool
) -> None:
    async def embed(texts: list[str], **fields: Any) -> list[list[float]]:
        embeddings = TogetherAIEmbeddings(model=EMBEDDING, batch_size=3, **fields)
        return await embeddings.aembed_documents(texts) if asynchronous else embeddings.embed_documents(texts)

    plain = await embed(list("abcdefgh"), cache=False)
    single = TogetherAIEmbeddingCache()
    cached.engine.requests.clear()
    first = await embed(list("bdb"))
    assert first == [first[0], first[1], first[0]]
    assert inputs(cached) == [["b", "d"]]
    cached.engine.requests.clear()
    second = await embed(list("abcdbefgha"))
    assert sorted(text for batch in inputs(cached) for text in batch) == list("acefgh")
    assert [second[1], second[3], second[4]] == first[:2] + first[:1]
    assert second[0] == second[9]
    assert second[0] is not second[9]
    third = await embed(list("abcdbefgha"))
    assert third == second
    assert len(cached.engine.posts) == 2
    # As the server sent them, in 32 bits.
    distinct = [second[place] for place in (0, 1, 2, 3, 5, 6, 7, 8)]
    assert distinct == [array("f", vector).tolist() for vector in plain]
    single.write("x", {"a": plain[0]})
    assert second[0] == single.read("x", ["a"])["a"]
    statuses = [event.status for event in get_ledger().events()]
    assert statuses.count("cached") == 1
    single.close()


def test_prefixes_models_and_dimensions_are_never_mixed(sqlite: ScriptedTogether) -> None:
    made = [
        TogetherAIEmbeddings(model=EMBEDDING),
        TogetherAIEmbeddings(model=EMBEDDING, dimensions=16),
        TogetherAIEmbeddings(model=EMBEDDING, document_prefix="passage: "),
        TogetherAIEmbeddings(model=EMBEDDING, model_kwargs={"own": 1}),
    ]
    for _ in range(2):
        vectors = [embeddings.embed_documents(["text"])[0] for embeddings in made]
    assert posts(sqlite) == 4
    assert [len(vector) for vector in vectors] == [16] * 4
    assert vectors[0] != vectors[2]
    # What is sent is the same, and so is the answer.
    assert TogetherAIEmbeddings(model=EMBEDDING, query_prefix="passage: ").embed_query("text") == vectors[2]
    assert posts(sqlite) == 4


def test_a_model_is_the_same_at_another_address(sqlite: ScriptedTogether) -> None:
    vector = TogetherAIEmbeddings(model=EMBEDDING).embed_query("a")
    with ScriptedTogether(ScriptedEngine(models=PRICED)) as second:
        assert TogetherAIEmbeddings(model=EMBEDDING, **second.client).embed_query("a") == vector
        assert posts(second) == 0


async def test_what_arrived_is_kept_when_a_later_batch_fails(sqlite: ScriptedTogether) -> None:
    def answer(request: Received) -> Reply | None:
        return Reply(status=400) if "bad" in request.body["input"] else None

    sqlite.engine.on("/v1/embeddings", answer)
    texts = [*map(str, range(6)), "bad"]
    embeddings = TogetherAIEmbeddings(model=EMBEDDING, batch_size=2, max_concurrency=1)
    with pytest.raises(TogetherAIError):
        embeddings.embed_documents(texts)
    with pytest.raises(TogetherAIError):
        await embeddings.aembed_documents(["7", *texts])
    assert inputs(sqlite) == [["0", "1"], ["2", "3"], ["4", "5"], ["bad"], ["7", "bad"]]


def test_a_text_that_is_wrong_is_refused_before_the_cache_is_asked(sqlite: ScriptedTogether) -> None:
    with pytest.raises(TogetherAIInputError, match=r"texts\[1\]"):
        TogetherAIEmbeddings(model=EMBEDDING).embed_documents(["a", ""])
    with pytest.raises(TogetherAIInputError):
        TogetherAIEmbeddings(model=EMBEDDING).embed_query("\ud800")


def test_a_text_that_was_shortened_is_kept_as_what_it_became(sqlite: ScriptedTogether) -> None:
    def answer(request: Received) -> Reply | None:
        long = any(len(text) > 8 for text in request.body["input"])
        return Reply(status=400, error={"message": "input is too long"}) if long else None

    sqlite.engine.on("/v1/embeddings", answer)
    cut = TogetherAIEmbeddings(model=EMBEDDING, on_too_long="truncate").embed_query("x" * 10)
    strict = TogetherAIEmbeddings(model=EMBEDDING)
    with pytest.raises(TogetherAIError):
        strict.embed_query("x" * 10)
    before = posts(sqlite)
    assert strict.embed_query("x" * 7) == cut
    assert posts(sqlite) == before


class Noting(TogetherAIEmbeddingCache):
    """A cache that notes what vectors must have in common to be found."""

    space = ""

    def write(self, space: str, vectors: Mapping[str, Sequence[float]]) -> None:
        type(self).space = space
        super().write(space, vectors)


def test_vectors_of_another_width_in_the_cache_are_asked_for(
    sqlite: ScriptedTogether, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Noting()

    def made() -> TogetherAIEmbeddings:
        return TogetherAIEmbeddings(model=EMBEDDING, cache=cache)

    embeddings = made()
    good = embeddings.embed_documents(["a", "b", "c"])
    wrong = {"a": [1.0, 2.0], "b": [1.0, 2.0]}
    cache.write(cache.space, wrong)
    # All three from the cache, and not of one width.
    assert made().embed_documents(["a", "b", "c"]) == good
    cache.write(cache.space, wrong)
    # Of the width that this object does not know.
    assert embeddings.embed_documents(["a", "b"]) == good[:2]
    cache.write(cache.space, wrong)
    # Some from the cache, the others from the server, which knows better.
    found = made().embed_documents(["a", "d", "b"])
    assert [found[0], found[2]] == good[:2]
    assert "another width" in caplog.text
    # The cache was put right.
    before = posts(sqlite)
    assert made().embed_documents(["a", "b", "c"]) == good
    assert posts(sqlite) == before
    cache.close()


def test_a_reply_that_is_wrong_is_not_kept(sqlite: ScriptedTogether) -> None:
    sqlite.check_answers = False
    sqlite.engine.reply(Reply(body='{"data": [], "model": "x"}', content_type="application/json"))
    embeddings = TogetherAIEmbeddings(model=EMBEDDING)
    with pytest.raises(TogetherAIResponseError):
        embeddings.embed_query("a")
    assert len(embeddings.embed_query("a")) == 16
    assert posts(sqlite) == 2


def test_the_width_of_a_model_is_known_from_the_cache(sqlite: ScriptedTogether) -> None:
    TogetherAIEmbeddings(model=EMBEDDING).embed_query("a")
    embeddings = TogetherAIEmbeddings(model=EMBEDDING)
    embeddings.embed_query("a")
    assert embeddings.dimension == 16
    assert posts(sqlite) == 1


def test_the_client_tells_that_vectors_from_the_cache_cost_nothing(sqlite: ScriptedTogether) -> None:
    client = TogetherAIClient()
    assert client.generate_embeddings(["a"], model=EMBEDDING).cost_usd == Decimal("0.00002")
    again = client.generate_embeddings(["a"], model=EMBEDDING)
    assert again.cost_usd == 0
    assert again.usage == {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


def test_the_progress_bar_counts_hits(sqlite: ScriptedTogether, capsys: pytest.CaptureFixture[str]) -> None:
    embeddings = TogetherAIEmbeddings(model=EMBEDDING, show_progress=True)
    embeddings.embed_documents(["a", "b"])
    embeddings.embed_documents(["a", "b", "c"])
    assert capsys.readouterr().err.count("100%") == 2


@pytest.mark.slow
def test_a_thousand_vectors_from_the_cache_are_ten_times_faster(tmp_path: Path) -> None:
    wide = (LocalModel("wide/embedding", "embedding", 8192, dimensions=1024),)
    texts = [f"text {number}" for number in range(1000)]
    cache = TogetherAIEmbeddingCache(tmp_path / "cache.db")
    with ScriptedTogether(ScriptedEngine(models=wide)) as server:
        embeddings = TogetherAIEmbeddings(model="wide/embedding", cache=cache, **server.client)
        started = time.perf_counter()
        first = embeddings.embed_documents(texts)
        asked = time.perf_counter() - started
        times = []
        for _ in range(3):
            started = time.perf_counter()
            assert embeddings.embed_documents(texts) == first
            times.append(time.perf_counter() - started)
    print(f"a hit is {asked / min(times):.1f} times faster")
    assert asked > 10 * min(times)


# --- databases that go away ---


async def test_calls_go_on_without_a_database(
    together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    export(monkeypatch, together.environment())
    monkeypatch.setenv("TOGETHER_CACHE", "hana:CACHE")
    monkeypatch.setenv("HANA_ADDRESS", "127.0.0.1")
    monkeypatch.setenv("HANA_PORT", "1")
    monkeypatch.setenv("HANA_USER", "u")
    monkeypatch.setenv("HANA_PASSWORD", "secret-password")
    for _ in range(2):
        assert ChatTogetherAI(model=together.engine.CHAT).invoke("Hello").content == "Hello"
        assert await TogetherAI(model=together.engine.CHAT).ainvoke("Hello") == "Hello"
        assert await TogetherAIEmbeddings(model=together.engine.EMBEDDING).aembed_query("Hello")
    # Once for the answers, once for the vectors.
    assert caplog.text.count("calls go on without it") == 2
    assert "secret-password" not in caplog.text


def test_a_database_that_comes_back_is_used_again(
    together: ScriptedTogether, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with LocalHana(str(tmp_path / "first.duckdb")) as server:
        export(monkeypatch, server.environment())
        port = server.port
        settings = TogetherAISettings(together_cache="hana:CACHE")
        key = cache_key(settings)
        assert key is not None
        cache = TogetherAICache.of(key, Bounds(None, None, None), Patience(away=0.0))
        chat = ChatTogetherAI(model=together.engine.CHAT, cache=cache, **together.client)
        chat.invoke("Hello")
        chat.invoke("Hello")
    assert posts(together) == 1
    chat.invoke("Hello")
    assert posts(together) == 2
    user, password = settings.hana_user, settings.hana_password
    assert password is not None
    with LocalHana(str(tmp_path / "first.duckdb"), port=port, user=user, password=password.get_secret_value()):
        assert chat.invoke("Hello").content == "Hello"
        cache.close()
    assert posts(together) == 2


# --- other processes ---

CHILD = """
import sys
from hana_ai.api import TogetherAICache, TogetherAIEmbeddingCache
from langchain_core.outputs import Generation
"""


def finish(process: Started) -> str:
    output, error = process.communicate(timeout=250)
    assert process.returncode == 0, error
    return output.strip()


WRITER = """
import logging, os
logging.basicConfig(level="WARNING")
children = []
for _ in range(2):
    if (pid := os.fork()) == 0:
        children = []
        break
    children.append(pid)
answers, vectors = TogetherAICache(sys.argv[1]), TogetherAIEmbeddingCache(sys.argv[1])
wrong = 0
for number in range(int(sys.argv[2])):
    name = str(number)
    answers.update(name, "llm", [Generation(text=name)])
    vectors.write("space", {f"{name} {part}": [number, part] for part in range(5)})
    wrong += answers.lookup(name, "llm") != [Generation(text=name)]
    wrong += vectors.read("space", [f"{name} 3"]) != {f"{name} 3": [number, 3]}
assert not wrong
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("rounds", [12, pytest.param(60, marks=pytest.mark.slow)])
def test_processes_write_the_same_keys_at_once(database: str, rounds: int, programs: Warm) -> None:
    finish(programs.start(CHILD + WRITER, database, str(rounds)))
    answers, vectors = TogetherAICache(database), TogetherAIEmbeddingCache(database)
    assert (answers.stats().entries, vectors.stats().entries) == (rounds, 5 * rounds)
    answers.close()
    vectors.close()


def test_a_process_that_is_killed_while_it_writes_leaves_a_good_cache(tmp_path: Path, programs: Warm) -> None:
    path = tmp_path / "cache.db"
    for _ in range(2):
        process = programs.start(
            f"{CHILD}\ncache = TogetherAIEmbeddingCache(sys.argv[1])\n"
            "for number in range(10**9):\n"
            "    cache.write('s', {f'{number} {part}': [float(number)] * 500 for part in range(50)})\n"
            "    print(number, flush=True)\n",
            str(path),
        )
        for _ in range(4):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    cache = TogetherAIEmbeddingCache(path)
    # All or nothing of each batch, and nothing that was told to be written is missing.
    for number in range(4):
        assert len(cache.read("s", [f"{number} {part}" for part in range(50)])) == 50
    assert cache.stats().entries % 50 == 0  # type: ignore[operator]
    cache.write("s", {"new": [1.0]})
    assert cache.read("s", ["new"]) == {"new": [1.0]}
    cache.close()


FORKER = """
import os, threading
cache = TogetherAICache(sys.argv[1])
cache.update("parent", "llm", [Generation(text="x")])
stop = threading.Event()
def keep_busy():
    while not stop.is_set():
        cache.lookup("parent", "llm")
        cache.update("parent", "llm", [Generation(text="x")])
        stop.wait(0.002)
threads = [threading.Thread(target=keep_busy, daemon=True) for _ in range(3)]
for thread in threads: thread.start()
for number in range(10):
    pid = os.fork()
    if not pid:
        cache.update(f"child {number}", "llm", [Generation(text="y")])
        found = cache.lookup("parent", "llm"), cache.lookup(f"child {number}", "llm")
        os._exit(0 if found == ([Generation(text="x")], [Generation(text="y")]) else 1)
    assert os.waitpid(pid, 0)[1] == 0, number
stop.set()
for thread in threads: thread.join()
print(sum(cache.lookup(f"child {number}", "llm") is not None for number in range(10)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_connections_and_locks_of_its_own(tmp_path: Path, programs: Warm) -> None:
    assert finish(programs.start(CHILD + FORKER, str(tmp_path / "cache.db"))) == "10"


def test_a_cache_outlives_its_process(sqlite: ScriptedTogether, programs: Warm) -> None:
    code = f"from hana_ai.api import ChatTogetherAI; print(ChatTogetherAI(model={CHAT!r}).invoke('Hello').content)"
    assert finish(programs.start(code)) == "Hello"
    assert _chat().invoke("Hello").content == "Hello"
    assert posts(sqlite) == 1


# --- the command ---


def test_the_command_shows_the_hit_rate_if_there_are_hits(
    sqlite: ScriptedTogether, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hana_ai.api.cli.app import run

    monkeypatch.setenv("TOGETHER_USAGE_DB", str(tmp_path / "usage.db"))
    monkeypatch.setenv("COLUMNS", "120")
    _chat().invoke("Hello")
    get_ledger().flush()  # the command is for ledgers of other processes, which have been written
    assert run(["usage"]) == 0
    assert "Answered" not in capsys.readouterr().out
    for _ in range(3):
        _chat().invoke("Hello")
    assert run(["usage", "--by", "model"]) == 0
    assert "Answered from a cache: 3 of 4 calls (75 %)." in capsys.readouterr().out


def test_another_cache_of_generations_is_no_concern_of_the_ledger(sqlite: ScriptedTogether) -> None:
    cache = TogetherAICache()
    cache.update("p", "llm", [Generation(text="x")])
    assert cache.lookup("p", "llm") == [Generation(text="x")]
    assert get_ledger().totals()["total_requests"] == 0
    cache.close()
