"""The caches without a server: keys, values, bounds, and databases that are in no state to help."""

from __future__ import annotations

import copy
import json
import pickle
import sqlite3
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.globals import get_llm_cache
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation
from pydantic import ValidationError

from hana_ai.api.cache import values
from hana_ai.api.cache.caches import TogetherAICache, TogetherAIEmbeddingCache, close_all
from hana_ai.api.cache.store import Bounds, CacheKey, CacheStore, Patience, cache_key, driver_of
from hana_ai.api.chat_models import ChatTogetherAI
from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import TogetherAISettingsError
from hana_ai.api.llms import TogetherAI
from hana_ai.api.settings import TogetherAISettings
from hana_ai.api.storage.drivers import Driver, sqlite_driver
from hana_ai.api.together_ai import TogetherAIClient

PROMPT, LLM = "a prompt", "an llm"
ANSWER = [Generation(text="an answer")]
NO_BOUNDS = Bounds(None, None, None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.db"


@pytest.fixture
def cache(path: Path) -> Iterator[TogetherAICache]:
    made = TogetherAICache(path)
    yield made
    made.close()


def cache_at(path: Path, bounds: Bounds = NO_BOUNDS, **patience: float) -> TogetherAICache:
    """A cache with another patience than that of all."""
    return TogetherAICache.of(CacheKey(str(path)), bounds, Patience(**patience))


def make(**fields: Any) -> ChatTogetherAI:
    return ChatTogetherAI(**{"model": "m", "api_key": "the-secret-key", **fields})


# --- keys ---


texts = st.text(max_size=8)


@given(first=st.tuples(texts, texts), second=st.tuples(texts, texts))
def test_two_questions_have_one_key_only_if_they_are_the_same(
    first: tuple[str, str], second: tuple[str, str]
) -> None:
    assert (values.response_key(*first) == values.response_key(*second)) == (first == second)


@given(
    space=texts,
    other=texts,
    some=st.lists(st.text(st.characters(codec=None), max_size=5), unique=True, max_size=9),
)
def test_texts_have_one_key_each_in_each_space(space: str, other: str, some: list[str]) -> None:
    keys = values.vector_keys(space, some)
    assert len(set(keys)) == len(some)
    assert keys == values.vector_keys(space, some)
    assert all(len(key) == 64 and int(key, 16) >= 0 for key in keys)
    if space != other:
        assert not set(keys) & set(values.vector_keys(other, some))


def test_what_does_not_change_an_answer_does_not_split_the_cache() -> None:
    plain = make()._get_llm_string()
    for fields in (
        {"timeout": 7},
        {"max_retries": 0},
        {"connect_timeout": 1},
        {"max_concurrency": 2},
        {"api_key": "another"},
        {"streaming": True},
        {"stream_usage": False},
        {"tags": ["a"]},
        {"metadata": {"a": 1}},
        {"verbose": True},
    ):
        assert make(**fields)._get_llm_string() == plain, fields


def test_what_changes_an_answer_does() -> None:
    strings = [
        make()._get_llm_string(),
        make(model="other")._get_llm_string(),
        make(base_url="https://gateway.example")._get_llm_string(),
        make(temperature=0.0)._get_llm_string(),
        make(output_version="v1")._get_llm_string(),
        make()._get_llm_string(stop=["x"]),
        make()._get_llm_string(tools=[{"type": "function"}]),
        make(extra_body={"a": 1})._get_llm_string(),
        make(extra_body={"messages": [1]})._get_llm_string(),
    ]
    assert len(set(strings)) == len(strings)
    # However the parameter was given.
    assert make()._get_llm_string(temperature=0.0) == make(temperature=0.0)._get_llm_string()
    assert make(model_kwargs={"seed": 3})._get_llm_string() == make(seed=3)._get_llm_string()
    assert "m" in json.loads(strings[0].partition("{")[1] + strings[0].partition("{")[2])["body"]["model"]
    assert not any("the-secret-key" in string for string in strings)


def test_a_field_that_is_assigned_later_counts() -> None:
    chat = make()
    before = chat._get_llm_string()
    chat.temperature = 0.7
    assert chat._get_llm_string() != before


def test_what_a_history_tells_of_its_answers_does_not_count() -> None:
    llm_string = make()._get_llm_string()

    def key(llm_string: str = llm_string, content: str = "Hi", **fields: Any) -> str:
        fields = {"response_metadata": {"model_provider": "together", "id": "1"}, **fields}
        return values.response_key(dumps([HumanMessage("Hello"), AIMessage(content, **fields)]), llm_string)

    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    assert key() == key(usage_metadata=usage) == key(usage_metadata={**usage, "total_cost": 0})
    assert key() == key(response_metadata={"model_provider": "together", "id": "2"})
    assert key() != key(content="Ho")
    assert key() != key(additional_kwargs={"reasoning_content": "Hm"})
    # Thoughts are sent to the provider that they came from.
    assert key() != key(response_metadata={"model_provider": "another"})
    # Of other providers nobody knows what they read.
    assert key("other") != key("other", response_metadata={"model_provider": "together", "id": "2"})
    # A text that looks like messages is a text.
    like = '[{"kwargs": {"usage_metadata": %d}}]'
    assert values.response_key(like % 1, "[('a', 1)]") != values.response_key(like % 2, "[('a', 1)]")
    assert values.response_key('"usage_metadata"', llm_string) != values.response_key(
        '["usage_metadata"]', llm_string
    )


# --- vectors ---


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_vectors_come_back_as_they_were(vector: list[float]) -> None:
    packed = values.vector_to_bytes(vector)
    assert packed == struct.pack(f"<{len(vector)}f", *vector)
    assert values.vector_from_bytes(packed) == vector


@given(st.lists(st.floats(), max_size=5))
def test_numbers_that_are_none_are_not_kept(vector: list[float]) -> None:
    packed = values.vector_to_bytes(vector)
    if packed is not None:
        back = values.vector_from_bytes(packed)
        assert back is not None
        assert all(
            abs(number - other) <= abs(number) * 2**-23 + 2**-126
            for number, other in zip(vector, back, strict=True)
        )
    else:
        assert not vector or any(not abs(number) < 3.5e38 for number in vector)


@given(st.binary(max_size=40))
def test_bytes_that_are_no_vector_are_none(data: bytes) -> None:
    vector = values.vector_from_bytes(data)
    if vector is not None:
        assert values.vector_to_bytes(vector) == data


# --- answers ---


def message(reason: str | None = "stop", content: str = "Hi", **fields: Any) -> ChatGeneration:
    metadata = {"model_provider": "together", "finish_reason": reason, **fields.pop("metadata", {})}
    return ChatGeneration(message=AIMessage(content, response_metadata=metadata, **fields))


CALL = {"name": "f", "args": {"lc": 1, "type": "constructor", "id": ["x"]}, "id": "c"}
WRONG_CALL = {"name": "f", "args": "{", "id": "c", "error": None, "type": "invalid_tool_call"}


@pytest.mark.parametrize(
    ("generations", "kept"),
    [
        ([message()], True),
        ([message("eos")], True),
        ([message("length")], True),
        ([message("length", content="")], False),
        ([message("tool_calls", content="", tool_calls=[CALL])], True),
        ([message("tool_calls", content="", invalid_tool_calls=[WRONG_CALL])], False),
        ([message("content_filter")], False),
        ([message("error")], False),
        ([message(None)], False),
        ([message(content="")], False),
        ([message(metadata={"fallback": {"model": "other"}})], False),
        ([message(), message("content_filter")], False),
        ([message(), message("length")], True),
        ([], False),
        ([Generation(text="x")], True),
        ([Generation(text="")], False),
        ([Generation(text="x", generation_info={"model_provider": "together", "finish_reason": None})], False),
        ([Generation(text="x", generation_info={"fallback": {"model": "other"}})], False),
        # Other providers have words of their own.
        ([ChatGeneration(message=AIMessage("x", response_metadata={"finish_reason": "STOP"}))], True),
        ([ChatGeneration(message=AIMessage("x", response_metadata={"finish_reason": "SAFETY"}))], False),
        ([ChatGeneration(message=AIMessage("x", response_metadata={"stop_reason": "end_turn"}))], True),
    ],
)
def test_only_whole_answers_are_kept(generations: list[Generation], kept: bool) -> None:
    assert (values.answer_to_text(generations) is not None) is kept


def test_everything_of_an_answer_survives_but_the_id_of_its_run(cache: TogetherAICache) -> None:
    kept = message(
        content="Hi \U0001f4a7 ä",
        id="lc_run--1",
        tool_calls=[CALL],
        additional_kwargs={"reasoning_content": "Hm.", "lc": 1},
        usage_metadata={
            "input_tokens": 1,
            "output_tokens": 2,
            "total_tokens": 3,
            "output_token_details": {"reasoning": 1},
        },
        metadata={"logprobs": {"tokens": ["Hi"], "token_logprobs": [-0.5]}, "seed": 2**64 - 1},
    )
    cache.update(PROMPT, LLM, [kept])
    assert kept.message.id == "lc_run--1"
    first, second = (cache.lookup(PROMPT, LLM) for _ in range(2))
    assert first is not None
    assert second is not None
    ids = [answer[0].message.id for answer in (first, second)]  # type: ignore[attr-defined]
    assert len({*ids, "lc_run--1", None}) == 4
    for answer in (first, second):
        assert isinstance(answer[0], ChatGeneration)
        assert answer[0].message.model_copy(update={"id": "lc_run--1"}) == kept.message


def test_an_answer_that_has_no_json_is_not_kept(cache: TogetherAICache) -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    cache.update(PROMPT, LLM, [Generation(text="x", generation_info=circle)])
    assert cache.lookup(PROMPT, LLM) is None


def constructor(*path: str, **fields: Any) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": list(path), "kwargs": fields}


OUTPUT = ("langchain", "schema", "output")
HOSTILE = [
    b"",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"{}",
    b'["text"]',
    b'{"lc": 1, "type": "constructor"}',
    json.dumps([constructor("langchain_core", "prompts", "prompt", "PromptTemplate", template="x")]).encode(),
    json.dumps([constructor("langchain", "llms", "openai", "OpenAI", api_key="x")]).encode(),
    json.dumps([constructor("hana_ai", "api", "chat_models", "ChatTogetherAI", model="x")]).encode(),
    json.dumps([constructor("antigravity", "Generation")]).encode(),
    json.dumps([constructor(*OUTPUT, "Generation")]).encode(),
    json.dumps([constructor(*OUTPUT, "Generation", text=[1])]).encode(),
    json.dumps([constructor(*OUTPUT, "Generation", text={"lc": 1, "type": "secret", "id": ["HOME"]})]).encode(),
    json.dumps([constructor(*OUTPUT, "Generation", text={"lc": 1, "type": "secret", "id": []})]).encode(),
    json.dumps([{"lc": 1, "type": "not_implemented", "id": ["x"]}]).encode(),
    json.dumps([constructor(*OUTPUT, "ChatGeneration", message="x")]).encode(),
    b"[" * 200_000,
    b"cos\nsystem\n(S'true'\ntR.",
    pickle.dumps(ANSWER),
]


@pytest.mark.parametrize("row", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_row_is_a_miss_and_is_deleted(
    cache: TogetherAICache, path: Path, row: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cache.update(PROMPT, LLM, ANSWER)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE TOGETHER_CACHE SET VALUE = ?", (row,))
    before = set(sys.modules)
    assert cache.lookup(PROMPT, LLM) is None
    assert not {name for name in set(sys.modules) - before if name.split(".")[0] in ("antigravity", "openai")}
    assert "can't be read and was deleted" in caplog.text
    assert cache.stats().entries == 0
    cache.update(PROMPT, LLM, ANSWER)
    assert cache.lookup(PROMPT, LLM) == ANSWER


def test_a_secret_of_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "hidden")
    info = {"a": {"lc": 1, "type": "secret", "id": ["SOME_SECRET"]}}
    found = values.answer_from_text(
        json.dumps([constructor(*OUTPUT, "Generation", text="x", generation_info=info)])
    )
    assert found == [Generation(text="x", generation_info={"a": None})]


@pytest.mark.parametrize("value", [5, 10**18, "text", None, 1.5, b"\xff\xff\xff\x7f", b"abc"])
def test_a_value_of_another_type_is_a_miss(path: Path, value: Any) -> None:
    cache = TogetherAIEmbeddingCache(path)
    cache.write("s", {"a": [1.0], "b": [2.0]})
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("DROP TABLE TOGETHER_CACHE_VECTORS")
        connection.execute("CREATE TABLE TOGETHER_CACHE_VECTORS (ID PRIMARY KEY, BYTES, MADE_AT, USED_AT, VALUE)")
        insert = "INSERT INTO TOGETHER_CACHE_VECTORS VALUES (?, ?, ?, ?, ?)"
        connection.execute(insert, (values.vector_keys("s", ["a"])[0], "many", 10**18, "never", value))
        connection.execute(
            insert, (values.vector_keys("s", ["b"])[0], 4, 10**18, 10**18, values.vector_to_bytes([2.0]))
        )
    found = cache.read("s", ["a", "b"])
    # As bytes, five letters of text are no vector and four are one: of whatever numbers, but numbers.
    assert found.pop("b") == [2.0]
    assert all(isinstance(number, float) for vector in found.values() for number in vector)
    cache.write("s", {"a": [3.0]})
    assert cache.read("s", ["a"]) == {"a": [3.0]}


# --- bounds ---


def test_the_least_recently_used_go_first(path: Path) -> None:
    cache = cache_at(path, Bounds(None, 4, None), touch=0.0)
    for name in "abcd":
        cache.update(name, LLM, ANSWER)
    assert cache.lookup("a", LLM) == ANSWER
    cache.update("e", LLM, ANSWER)
    assert [name for name in "abcde" if cache.lookup(name, LLM)] == ["a", "d", "e"]


def test_a_hit_is_noted_to_the_minute_so_that_it_costs_no_write(path: Path) -> None:
    cache = TogetherAICache(path, max_entries=100)
    cache.update(PROMPT, LLM, ANSWER)
    with closing(sqlite3.connect(path)) as connection:
        before = connection.execute("PRAGMA data_version").fetchall()
        for _ in range(20):
            cache.lookup(PROMPT, LLM)
        assert connection.execute("PRAGMA data_version").fetchall() == before
        used = "SELECT USED_AT FROM TOGETHER_CACHE"
        with connection:
            connection.execute("UPDATE TOGETHER_CACHE SET USED_AT = 1")
        cache.lookup(PROMPT, LLM)
        # Written with the next check of the bounds, or at the end.
        cache.close()
        assert connection.execute(used).fetchone()[0] > 1


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=60), most=st.integers(20, 200))
def test_bytes_are_bounded(sizes: list[int], most: int) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as kept:
        store = CacheStore(in_memory(kept), Bounds(most, None, None))
        for number, size in enumerate(sizes):
            store.write({str(number): b"x" * size})
        entries, size = store.size() or (0, 0)
        assert size == sum(len(value) for value in store.read([str(n) for n in range(len(sizes))]).values())
        # A twentieth may be written before the bound is looked after.
        assert size <= most + most / 20 + 1
        assert entries >= 1 or sizes[-1] > most * 0.9


def in_memory(connection: sqlite3.Connection) -> Driver:
    class Kept:
        cursor = staticmethod(connection.cursor)
        commit = staticmethod(connection.commit)
        rollback = staticmethod(connection.rollback)

        def close(self) -> None:
            pass

    return Driver(connect=Kept, errors=(sqlite3.Error,), table='"T"', begin="BEGIN IMMEDIATE", shared=False)


def test_many_are_evicted_at_once_not_one_by_one(path: Path) -> None:
    cache = TogetherAIEmbeddingCache(path, max_entries=2000)
    for begin in range(0, 6000, 100):
        cache.write("s", {str(number): [float(number)] for number in range(begin, begin + 100)})
    entries = cache.stats().entries
    assert entries is not None
    assert 1700 <= entries <= 2100
    assert len(cache.read("s", [str(number) for number in range(5000, 6000)])) == 1000


def test_what_is_too_old_counts_no_more_and_is_deleted_in_time(path: Path) -> None:
    cache = TogetherAIEmbeddingCache(path, max_age=100)
    cache.write("s", {"old": [1.0]})
    assert cache.read("s", ["old"]) == {"old": [1.0]}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE TOGETHER_CACHE_VECTORS SET MADE_AT = MADE_AT - 101000000")
    assert cache.read("s", ["old"]) == {}
    assert cache.stats().entries == 1
    cache.write("s", {f"new {number}": [1.0] for number in range(1000)})
    assert cache.stats().entries == 1000


@pytest.mark.parametrize("bound", ["max_bytes", "max_entries", "max_age"])
def test_a_bound_of_nothing_is_refused(path: Path, bound: str) -> None:
    with pytest.raises(TogetherAISettingsError, match=bound):
        TogetherAICache(path, **{bound: 0})


# --- databases in no state to help ---


def spoil_by_garbage(path: Path) -> None:
    path.write_bytes(b"not a database " * 1000)


def spoil_by_other_columns(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE TOGETHER_CACHE (OTHER TEXT)")


def spoil_by_half(path: Path) -> None:
    filled = TogetherAICache(path)
    for number in range(200):
        filled.update(str(number), LLM, [Generation(text="x" * 500)])
    filled.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))


@pytest.mark.parametrize("spoil", [spoil_by_garbage, spoil_by_other_columns, spoil_by_half])
def test_a_damaged_database_costs_a_hit_and_is_told_of_once(
    path: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    spoil(path)
    cache = cache_at(path, away=0.0)
    for _ in range(3):
        assert cache.lookup(PROMPT, LLM) is None
        cache.update(PROMPT, LLM, ANSWER)
    assert cache.stats().entries is None
    cache.clear()
    cache.close()
    assert caplog.text.count("calls go on without it") == 2
    assert str(path) in caplog.text
    # Nobody deletes a file that may be somebody's.
    assert path.exists()
    path.unlink()
    cache.update(PROMPT, LLM, ANSWER)
    assert cache.lookup(PROMPT, LLM) == ANSWER


@pytest.mark.parametrize(
    ("away", "found"), [(3600.0, None), (0.0, ANSWER)], ids=["for a while", "and then asked again"]
)
def test_a_database_that_is_away_is_left_alone(path: Path, away: float, found: Any) -> None:
    cache = cache_at(path, away=away)
    spoil_by_garbage(path)
    assert cache.lookup(PROMPT, LLM) is None
    path.unlink()
    cache.update(PROMPT, LLM, ANSWER)
    assert path.exists() is (found is not None)
    assert cache.lookup(PROMPT, LLM) == found


def test_a_locked_database_is_waited_for_a_moment_only(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = cache_at(path, busy=0.05, away=0.0)
    cache.update("before", LLM, ANSWER)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        # A reader does not mind a writer.
        assert cache.lookup("before", LLM) == ANSWER
        cache.update(PROMPT, LLM, ANSWER)
        assert cache.lookup(PROMPT, LLM) is None
        other.execute("ROLLBACK")
    assert "locked" in caplog.text
    cache.update(PROMPT, LLM, ANSWER)
    assert cache.lookup(PROMPT, LLM) == ANSWER


def store_with(pragma: str, path: Path) -> CacheStore:
    """A store whose connections have a setting of SQLite's of their own."""
    driver = sqlite_driver(path, table="TOGETHER_CACHE", setting="TOGETHER_CACHE")

    def connect() -> Any:
        connection: Any = driver.connect()
        connection.execute(f"PRAGMA {pragma}").close()
        return connection

    return CacheStore(replace(driver, connect=connect), NO_BOUNDS, patience=Patience(away=0.0))


def test_a_full_disk_costs_no_call(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = store_with("max_page_count = 20", path)
    store.write({"small": b"x"})
    store.write({"large": b"x" * 200_000})
    assert "full" in caplog.text
    assert store.read(["small", "large"]) == {"small": b"x"}
    store.close()


def test_a_database_that_must_not_be_written_costs_no_call(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    TogetherAICache(path).update("before", LLM, ANSWER)
    store = store_with("query_only = ON", path)
    before, after = values.response_key("before", LLM), values.response_key(PROMPT, LLM)
    store.write({after: b"x"})
    assert "readonly" in caplog.text
    assert list(store.read([before, after])) == [before]
    store.close()


# --- which cache ---


@pytest.mark.parametrize(
    ("database", "words"),
    [
        ("/no/such/directory/cache.db", "TOGETHER_CACHE='/no/such/directory/cache.db' is not a file"),
        ("hana:CACHE", "HANA_USERKEY"),
        ("hana:a b", "TOGETHER_CACHE=hana:a b does not name a table"),
        ('hana:CACHE" (ID INT); DROP TABLE "USERS', "does not name a table"),
        ("hana:CACHE; DROP TABLE USERS --", "does not name a table"),
        ("hana:", "does not name a table"),
    ],
)
@pytest.mark.parametrize("kind", [TogetherAICache, TogetherAIEmbeddingCache])
def test_a_setting_that_names_no_database_says_so(kind: type[Any], database: str, words: str) -> None:
    with pytest.raises(TogetherAISettingsError) as caught:
        kind(database)
    assert words in str(caught.value)


def test_without_a_setting_a_database_must_be_named() -> None:
    with pytest.raises(TogetherAISettingsError, match="TOGETHER_CACHE"):
        TogetherAICache()


def test_the_setting_is_for_all_three_classes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat, llm, embeddings = (
        make(),
        TogetherAI(model="m", api_key="k"),
        TogetherAIEmbeddings(model="m", api_key="k"),
    )
    assert (chat.cache, llm.cache, embeddings.cache) == (None, None, None)
    monkeypatch.setenv("TOGETHER_CACHE", str(path))
    chat, llm, embeddings = (
        make(),
        TogetherAI(model="m", api_key="k"),
        TogetherAIEmbeddings(model="m", api_key="k"),
    )
    assert isinstance(chat.cache, TogetherAICache)
    assert chat.cache is llm.cache is make().cache
    assert isinstance(embeddings.cache, TogetherAIEmbeddingCache)
    assert get_llm_cache() is None
    own = TogetherAICache(path)
    assert (make(cache=False).cache, make(cache=True).cache) == (False, True)
    assert make(cache=own).cache is own
    assert TogetherAIEmbeddings(model="m", api_key="k", cache=False).cache is False
    with pytest.raises(ValidationError):
        TogetherAIEmbeddings(model="m", api_key="k", cache="cache.db")


def test_the_clients_settings_win_over_the_environment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_CACHE", str(path))
    fields: dict[str, Any] = {"together_api_key": "k", "_env_file": None}
    without = TogetherAIClient(TogetherAISettings(**fields).model_copy(update={"together_cache": None}))
    assert {made("m").cache for made in (without.chat_model, without.llm, without.embeddings)} == {None}
    client = TogetherAIClient(TogetherAISettings(**fields, together_cache=str(path.with_name("other.db"))))
    assert repr(client.chat_model("m").cache) == f"TogetherAICache({str(path.with_name('other.db'))!r})"
    assert client.chat_model("m", cache=False).cache is False
    assert client.embeddings("m", cache=False).cache is False
    assert client.llm("m").cache is client.chat_model("m").cache


def test_objects_with_a_cache_can_be_copied_pickled_and_saved(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", "the-secret-key")
    cache = TogetherAICache(path, max_age=5)
    cache.update(PROMPT, LLM, ANSWER)
    again = pickle.loads(pickle.dumps(cache))
    assert again.lookup(PROMPT, LLM) == ANSWER
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE TOGETHER_CACHE SET MADE_AT = MADE_AT - 6000000")
    assert again.lookup(PROMPT, LLM) is None
    assert pickle.loads(pickle.dumps(cache)) is again
    assert copy.deepcopy(cache) is cache
    chat = make(cache=cache)
    assert chat.model_copy(deep=True).cache is cache
    assert pickle.loads(pickle.dumps(chat)).cache is again
    assert "cache" not in json.loads(dumps(chat))["kwargs"]
    embeddings = TogetherAIEmbeddings(model="m", cache=TogetherAIEmbeddingCache(path))
    assert "cache" not in embeddings.model_dump()
    assert repr(pickle.loads(pickle.dumps(embeddings)).cache) == repr(embeddings.cache)


def test_nothing_tells_the_databases_password() -> None:
    settings = TogetherAISettings(
        together_cache="hana:fin.cache", hana_address="h", hana_user="u", hana_password="very-secret"
    )
    cache = TogetherAICache(settings=settings)
    assert repr(cache) == "TogetherAICache('hana:fin.cache')"
    assert "very-secret" not in f"{cache!r} {cache_key(settings)} {make(cache=cache)!r}"


def test_a_table_of_sap_hana_is_named_with_its_schema() -> None:
    fields = {"hana_address": "h", "hana_user": "u", "hana_password": "p", "hana_schema": "OTHER"}
    for database, table in (("hana:fin.cache", '"FIN"."CACHE"'), ("hana:cache", '"OTHER"."CACHE"')):
        key = cache_key(TogetherAISettings(together_cache=database, **fields))
        assert key is not None
        driver = driver_of(key)
        assert (driver.table, driver.beside("_VECTORS")) == (table, f'{table[:-1]}_VECTORS"')


def test_a_closed_cache_opens_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_CACHE", str(path))
    chat = make()
    assert isinstance(chat.cache, TogetherAICache)
    chat.cache.update(PROMPT, LLM, ANSWER)
    close_all()
    # An open database has a journal beside it.
    assert not path.with_name(path.name + "-wal").exists()
    assert chat.cache.lookup(PROMPT, LLM) == ANSWER
    assert make().cache is not chat.cache


def test_stats_count_hits_misses_entries_and_bytes(cache: TogetherAICache, path: Path) -> None:
    assert cache.stats().hit_rate == 0
    cache.lookup(PROMPT, LLM)
    cache.update(PROMPT, LLM, ANSWER)
    for _ in range(3):
        cache.lookup(PROMPT, LLM)
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.entries, stats.hit_rate) == (3, 1, 1, 0.75)
    assert stats.bytes == len(dumps(ANSWER))
    cache.clear()
    assert cache.stats().entries == 0


async def test_the_asynchronous_twins_do_the_same_in_another_thread(
    cache: TogetherAICache, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()
    connect = sqlite3.connect

    def noted(*arguments: Any, **named: Any) -> Any:
        threads.add(threading.current_thread())
        return connect(*arguments, **named)

    monkeypatch.setattr(sqlite3, "connect", noted)
    await cache.aupdate(PROMPT, LLM, ANSWER)
    assert await cache.alookup(PROMPT, LLM) == ANSWER
    assert (await cache.astats()).entries == 1
    await cache.aclear()
    assert await cache.alookup(PROMPT, LLM) is None
    assert threads
    assert threading.current_thread() not in threads


def test_many_threads_share_a_cache(path: Path) -> None:
    # A call waits for a second and goes on without the cache: on a busy machine that may be too short for eight.
    cache = cache_at(path, busy=60.0)

    def work(number: int) -> None:
        for round in range(20):
            name = f"{number % 3} {round}"
            if cache.lookup(name, LLM) is None:
                cache.update(name, LLM, [Generation(text=name)])
            assert cache.lookup(name, LLM) == [Generation(text=name)]

    errors: list[Exception] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except Exception as exc:  # noqa: BLE001 - raised in the test's thread
            errors.append(exc)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    stats = cache.stats()
    assert stats.hits + stats.misses >= 8 * 40
    assert stats.entries == 60
    cache.close()
