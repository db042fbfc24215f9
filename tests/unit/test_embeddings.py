"""Texts into batches and replies into vectors, without a server."""

from __future__ import annotations

import itertools
import math
import pickle
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.embeddings import TogetherAIEmbeddings
from hana_ai.api.errors import (
    TogetherAIError,
    TogetherAIInputError,
    TogetherAIRequestError,
    TogetherAIResponseError,
    TogetherAISettingsError,
)
from hana_ai.api.langchain.embedding_job import (
    BatchSize,
    EmbeddingJob,
    EmbeddingRules,
    check_texts,
    cut_to_words,
    describe,
)
from hana_ai.api.langchain.embedding_replies import refusal, vectors_from_wire
from hana_ai.api.langchain.vector_parts import LARGEST
from hana_ai.api.wire.error_bodies import error_from_body
from tests.openapi import check_request
from tests.programs import printed

KEY = "tgp_v1_watched-secret-key-of-a-test"
WIDTH = 2


def vector_of(text: str) -> list[float]:
    return [float(len(text)), float(sum(map(ord, text)))]


def reply_to(body: dict[str, Any], order: list[int] | None = None) -> Any:
    """What a server answers, its vectors in any order."""
    texts = body["input"]
    data = [
        {"object": "embedding", "index": index, "embedding": vector_of(texts[index])}
        for index in order or range(len(texts))
    ]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return SimpleNamespace(data={"data": data, "usage": usage}, request_id="req")


def refused(status: int = 413, message: str = "too large") -> TogetherAIRequestError:
    return error_from_body(status, {"error": {"message": message}})


Server = Callable[[dict[str, Any]], Any]


def job_of(texts: list[str], size: BatchSize | None = None, **rules: Any) -> EmbeddingJob:
    rules = {"model": "m", "batch_size": 4, **rules}
    return EmbeddingJob(texts, EmbeddingRules(**rules), size=size or BatchSize(), widths={})


def carry(job: EmbeddingJob, server: Server) -> list[int]:
    """Send all that a job asks for, one body after the other, as the class does; returns their sizes."""
    sizes = []
    with job.naming_texts():
        while job.begin_round():
            for position, body in enumerate(job.bodies()):
                check_request("/v1/embeddings", body)
                sizes.append(len(body["input"]))
                try:
                    reply = server(body)
                except TogetherAIRequestError as exc:
                    if not job.recover(position, exc):
                        raise
                else:
                    job.take(position, reply)
    return sizes


# --- order, batches, splitting ---


@given(texts=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=30), data=st.data())
def test_order_is_restored_for_any_order_of_the_reply(texts: list[str], data: st.DataObject) -> None:
    job = job_of(texts)
    carry(job, lambda body: reply_to(body, data.draw(st.permutations(range(len(body["input"]))))))
    assert job.result().vectors == [vector_of(text) for text in texts]


@given(count=st.integers(1, 60), batch_size=st.integers(1, 70))
def test_every_text_is_sent_once_in_full_batches(count: int, batch_size: int) -> None:
    texts = [str(number) for number in range(count)]
    job = job_of(texts, batch_size=batch_size)
    sizes = carry(job, reply_to)
    full, rest = divmod(count, batch_size)
    assert sizes == [batch_size] * full + [rest] * bool(rest)
    assert job.result().vectors == [vector_of(text) for text in texts]


@given(texts=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40))
def test_equal_texts_are_sent_once_and_get_lists_of_their_own(texts: list[str]) -> None:
    job = job_of(texts)
    assert sum(carry(job, reply_to)) == len(set(texts))
    vectors = job.result().vectors
    assert vectors == [vector_of(text) for text in texts]
    assert len({id(vector) for vector in vectors}) == len(texts)


@given(
    count=st.integers(1, 60),
    batch_size=st.integers(1, 64),
    takes=st.integers(1, 64),
    status=st.sampled_from([(413, ""), (400, "batch size 64 is too large"), (422, "Too many inputs")]),
)
def test_a_refused_batch_is_halved_until_it_is_taken_and_the_size_is_remembered(
    count: int, batch_size: int, takes: int, status: tuple[int, str]
) -> None:
    def server(body: dict[str, Any]) -> Any:
        if len(body["input"]) > takes:
            raise refused(*status)
        return reply_to(body)

    texts = [str(number) for number in range(count)]
    size = BatchSize()
    first = job_of(texts, size, batch_size=batch_size)
    carry(first, server)
    assert first.result().vectors == [vector_of(text) for text in texts]
    second = job_of(texts, size, batch_size=batch_size)
    largest = max(carry(second, server))
    assert largest <= takes
    if takes > 1 and largest < min(count, batch_size):
        assert size.within(batch_size) >= takes // 2


def test_a_batch_is_as_small_as_another_call_has_learned_meanwhile() -> None:
    size = BatchSize()
    job = job_of([str(number) for number in range(20)], size, batch_size=10)
    assert job.begin_round()
    bodies = job.bodies()
    assert len(next(bodies)["input"]) == 10
    size.refused(8)
    assert [len(body["input"]) for body in bodies] == [4, 4, 2]


def test_what_is_refused_after_the_last_body_was_sent_comes_in_another_round() -> None:
    job = job_of(list("abcd"))
    assert job.begin_round()
    [body] = job.bodies()
    assert job.recover(0, refused())
    assert job.begin_round()
    halves = list(job.bodies())
    assert [half["input"] for half in halves] == [["a", "b"], ["c", "d"]]
    for position, half in enumerate(halves):
        job.take(position, reply_to(half))
    assert not job.begin_round()
    assert job.result().vectors == [vector_of(text) for text in body["input"]]


def test_a_single_text_that_is_too_large_names_its_position() -> None:
    def server(body: dict[str, Any]) -> Any:
        if "bad" in body["input"]:
            raise refused(413, "Request entity too large")
        return reply_to(body)

    with pytest.raises(TogetherAIError, match=r"^Error code: 413.*texts\[5\]\].*on_too_long='truncate'"):
        carry(job_of(["a", "b", "c", "a", "d", "bad", "e"]), server)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "This model's maximum context length is 512 tokens"),
        (400, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 512"),
        (403, "maximum context exceeded"),
        (422, "input is too long for the model"),
    ],
)
def test_a_text_that_is_too_long_is_found_without_making_the_batches_smaller(status: int, message: str) -> None:
    def server(body: dict[str, Any]) -> Any:
        if any(len(text) > 10 for text in body["input"]):
            raise refused(status, message)
        return reply_to(body)

    size = BatchSize()
    texts = ["a", "b", "c" * 20, "d", "e"]
    with pytest.raises(TogetherAIError, match=r"\[texts\[2\]\]"):
        carry(job_of(texts, size), server)
    assert size.within(4) == 4
    job = job_of(texts, size, on_too_long="truncate")
    carry(job, server)
    vectors = job.result().vectors
    assert vectors[2] == vector_of("c" * 8)
    assert vectors[:2] + vectors[3:] == [vector_of(text) for text in "abde"]


def test_a_text_that_is_refused_at_any_length_ends_in_the_servers_error() -> None:
    def server(body: dict[str, Any]) -> Any:
        raise refused(400, "too long")

    sizes: list[int] = []
    with pytest.raises(TogetherAIError, match="too long"):
        sizes += carry(job_of(["x" * 10_000_000], on_too_long="truncate"), server)
    with pytest.raises(TogetherAIError, match="too long"):
        carry(job_of([" a"], on_too_long="truncate"), server)


def test_another_error_names_the_texts_of_its_request() -> None:
    calls = itertools.count()

    def server(body: dict[str, Any]) -> Any:
        if next(calls):
            raise refused(500, "out of memory")
        return reply_to(body)

    with pytest.raises(TogetherAIError, match=r"Error code: 500 - out of memory \[texts\[4:8\]\]"):
        carry(job_of(list("abcdefghij")), server)


def test_the_error_for_a_single_text_has_no_position() -> None:
    def server(body: dict[str, Any]) -> Any:
        raise refused(500, "out of memory")

    with pytest.raises(TogetherAIError) as caught:
        carry(job_of(["a"]), server)
    assert str(caught.value) == "Error code: 500 - out of memory"


def test_a_text_that_has_no_form_in_utf8_is_named() -> None:
    def server(body: dict[str, Any]) -> Any:
        raise TogetherAIInputError("no JSON")

    with pytest.raises(TogetherAIInputError, match=r"^texts\[2\]: no JSON"):
        carry(job_of(["a", "b", "\ud800", "c"]), server)
    with pytest.raises(TogetherAIInputError, match=r"^no JSON"):
        carry(job_of(["a", "b"]), server)


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (413, "", "batch"),
        (422, "batch_size must be at most 64", "batch"),
        (400, "Too many tokens in the request", "batch"),
        (400, "The text is too long", "text"),
        (403, "maximum context length", "text"),
        (403, "too many keys", None),
        (400, "model is required", None),
        (429, "too many requests", None),
        (500, "too large", None),
    ],
)
def test_what_a_refusal_means(status: int, message: str, expected: str | None) -> None:
    assert refusal(refused(status, message)) == expected


def test_an_error_that_is_no_answer_is_no_refusal() -> None:
    assert refusal(ValueError("too large")) is None


# --- texts ---


def test_the_prefix_stands_before_every_text() -> None:
    job = job_of(["a", "b"], prefix="passage: ", parameters={"dimensions": 2}, dimensions=2)
    [body] = job.bodies()
    assert body == {"model": "m", "input": ["passage: a", "passage: b"], "dimensions": 2}


@pytest.mark.parametrize("texts", ["one text", b"bytes"])
def test_a_single_text_is_no_list_of_texts(texts: Any) -> None:
    with pytest.raises(TogetherAIInputError, match="embed_query"):
        check_texts(texts, "error")


@pytest.mark.parametrize("wrong", [None, 3, float("nan"), ["a"], b"a"])
def test_what_is_no_string_is_named_by_position(wrong: Any) -> None:
    with pytest.raises(TogetherAIInputError, match=r"texts\[1\] is a "):
        check_texts(["a", wrong], "error")


def test_empty_texts_are_errors_or_blanks() -> None:
    texts = ["", "a", " \n", "b", "\t"]
    with pytest.raises(TogetherAIInputError, match=r"^texts\[0\], texts\[2\], texts\[4\] can't be .*on_empty"):
        check_texts(texts, "error")
    assert check_texts(texts, "blank") == [" ", "a", " ", "b", " "]


def test_positions_in_words() -> None:
    assert describe([3]) == "texts[3]"
    assert describe(range(4, 8)) == "texts[4:8]"
    assert describe([1, 3]) == "texts[1], texts[3]"
    assert describe([1, 3, 5, 7, 9, 11, 13]).endswith("texts[9] and 2 more")


@given(
    words=st.lists(st.text("abc", min_size=1), max_size=8),
    gap=st.sampled_from([" ", "  ", "\n"]),
    keep=st.integers(1, 9),
)
def test_cutting_keeps_the_beginning_as_it_is(words: list[str], gap: str, keep: int) -> None:
    text = gap.join(words)
    assert cut_to_words(text, keep) == gap.join(words[:keep])
    assert text.startswith(cut_to_words(text, keep))


def test_a_text_with_more_words_than_tokens_is_known_to_be_too_long_before_it_is_sent() -> None:
    texts = ["one two", "one two three four five", "onetwothreefourfivesixseven"]
    with pytest.raises(TogetherAIInputError, match=r"texts\[1\] is too long.*more than 3 words.*4 tokens"):
        job_of(texts, context_length=4, prefix="query: ")
    job = job_of(texts, context_length=4, prefix="query: ", on_too_long="truncate")
    assert job.texts == ["one two", "one two three", "onetwothreefourfivesixseven"]
    assert job_of(texts, context_length=5).texts == texts


# --- replies ---


def entry(index: Any, embedding: Any) -> dict[str, Any]:
    return {"index": index, "embedding": embedding}


def test_integers_become_floats() -> None:
    [vector] = vectors_from_wire({"data": [entry(0, [0, 1, -1, 0.5, 2**40])]}, 1)
    assert vector == [0.0, 1.0, -1.0, 0.5, float(2**40)]
    assert {type(number) for number in vector} == {float}


@given(st.lists(st.floats(), min_size=1, max_size=8))
def test_a_vector_is_taken_exactly_if_32_bits_can_hold_it(numbers: list[float]) -> None:
    reply = {"data": [entry(0, numbers)]}
    if all(math.isfinite(number) and abs(number) <= LARGEST for number in numbers):
        [vector] = vectors_from_wire(reply, 1)
        assert vector == numbers
        assert all(map(math.isfinite, struct.unpack(f"{len(vector)}f", struct.pack(f"{len(vector)}f", *vector))))
    else:
        with pytest.raises(TogetherAIResponseError, match=r"at data\[0\]\.embedding\["):
            vectors_from_wire(reply, 1)


def test_many_large_numbers_are_taken_although_their_norm_is_larger() -> None:
    assert vectors_from_wire({"data": [entry(0, [LARGEST] * 3)]}, 1) == [[LARGEST] * 3]


def test_an_index_may_be_written_as_a_float() -> None:
    assert vectors_from_wire({"data": [entry(1.0, [2]), entry(0.0, [1])]}, 2) == [[1.0], [2.0]]


NOT_A_VECTOR_A_TEXT: list[tuple[Any, str]] = [
    (None, "fit at its top"),
    ([], "fit at its top"),
    ({"data": None}, "fit at data: .*list, not None"),
    ({"data": [entry(0, [1])]}, "has 1 vectors"),
    ({"data": [entry(0, [1]), entry(1, [1]), entry(2, [1])]}, "has 3 vectors"),
    ({"data": [entry(0, [1]), entry(0, [1])]}, "two vectors with the index 0"),
    ({"data": [entry(0, [1]), entry(2, [1])]}, r"the index 2 at data\[1\]\.index"),
    ({"data": [entry(0, [1]), entry(-1, [1])]}, r"fit at data\[1\]\.index: .*whole number from 0, not -1"),
    ({"data": [entry(0, [1]), entry(0.5, [1])]}, r"fit at data\[1\]\.index: .*, not 0\.5"),
    ({"data": [entry(0, [1]), entry(None, [1])]}, r"fit at data\[1\]\.index: .*, not None"),
    ({"data": [entry(0, [1]), "vector"]}, r"fit at data\[1\]: .*, not 'vector'"),
    ({"data": [entry(0, [1]), entry(1, "AACAPw==")]}, r"fit at data\[1\]\.embedding: .* list, not 'AACAPw=='"),
    ({"data": [entry(0, [1]), entry(1, None)]}, r"fit at data\[1\]\.embedding: .* list, not None"),
    ({"data": [entry(0, [1]), entry(1, [None])]}, r"fit at data\[1\]\.embedding\[0\]: .*, not None"),
    ({"data": [entry(0, [1]), entry(1, ["1"])]}, r"fit at data\[1\]\.embedding\[0\]: .*, not '1'"),
    ({"data": [entry(0, [1]), entry(1, [True])]}, r"fit at data\[1\]\.embedding\[0\]: .*, not True"),
    ({"data": [entry(0, [1]), entry(True, [1])]}, r"fit at data\[1\]\.index: .*, not True"),
    ({"data": [entry(0, [1]), entry(1, [10**400])]}, r"at data\[1\]\.embedding"),
    ({"data": [entry(0, [1]), entry(float("inf"), [1])]}, r"fit at data\[1\]\.index: .*, not inf"),
    ({"data": [entry(0, [1]), entry(float("nan"), [1])]}, r"fit at data\[1\]\.index: .*, not nan"),
    ({"data": [entry(1, [1, 2]), entry(0, [1, 1e300])]}, r"1e\+300 at data\[1\]\.embedding\[1\]"),
    ({"data": [entry(0, [-3.41e38]), entry(1, [1])]}, r"-3\.41e\+38 at data\[0\]\.embedding\[0\]"),
    ({"data": [entry(0, [1]), entry(1, [float("nan")])]}, r"data\[1\]\.embedding\[0\]: .*, not nan"),
    ({"data": [entry(0, [1]), entry(1, [float("-inf")])]}, r"data\[1\]\.embedding\[0\]: .*, not -inf"),
    ({"data": [entry(0, [1]), entry(1, [10**300])]}, r"0 at data\[1\]\.embedding\[0\]"),
    ({"data": [entry(0, [1]), entry(1, [1, 2])]}, "1 and 2 numbers"),
    ({"data": [entry(0, []), entry(1, [])]}, r"fit at data\[0\]\.embedding"),
]


@pytest.mark.parametrize(("reply", "what"), NOT_A_VECTOR_A_TEXT)
def test_a_reply_that_is_not_one_vector_a_text_is_an_error(reply: Any, what: str) -> None:
    with pytest.raises(TogetherAIResponseError, match=what):
        vectors_from_wire(reply, 2)


def test_a_reply_of_another_width_than_before_is_an_error() -> None:
    widths = {("m", None): 3}
    job = EmbeddingJob(["a"], EmbeddingRules("m", 4), size=BatchSize(), widths=widths)
    with pytest.raises(TogetherAIResponseError, match="2 numbers, not the 3 that it answered with before"):
        carry(job, reply_to)


def test_a_reply_of_another_width_than_asked_for_is_an_error() -> None:
    with pytest.raises(TogetherAIResponseError, match="2 numbers, not the 5 that was asked for"):
        carry(job_of(["a"], dimensions=5, parameters={"dimensions": 5}), reply_to)


def test_usage_is_added_and_unknown_if_a_reply_has_none() -> None:
    job = job_of(list("abcdef"))
    carry(job, reply_to)
    assert job.result().usage == {"prompt_tokens": 6, "total_tokens": 6}
    assert job.result().request_ids == ["req", "req"]
    replies = itertools.count()

    def forgetful(body: dict[str, Any]) -> Any:
        reply = reply_to(body)
        if next(replies):
            del reply.data["usage"]
        return reply

    job = job_of(list("abcdef"))
    carry(job, forgetful)
    assert job.result().usage is None


# --- the class ---


def test_the_batch_size_comes_from_field_alias_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_EMBEDDING_BATCH_SIZE", "17")
    assert TogetherAIEmbeddings(api_key=KEY).batch_size == 17
    assert TogetherAIEmbeddings(api_key=KEY, batch_size=5).batch_size == 5
    assert TogetherAIEmbeddings(api_key=KEY, chunk_size=6).batch_size == 6
    monkeypatch.delenv("TOGETHER_EMBEDDING_BATCH_SIZE")
    assert TogetherAIEmbeddings(api_key=KEY).batch_size == 128


def test_the_model_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_DEFAULT_EMBEDDING_MODEL", "some/embedding")
    assert TogetherAIEmbeddings(api_key=KEY).model == "some/embedding"


def test_a_missing_key_is_the_settings_error_and_hides_nothing_but_the_key() -> None:
    with pytest.raises(TogetherAISettingsError, match="TOGETHER_API_KEY"):
        TogetherAIEmbeddings()
    with pytest.raises(TogetherAISettingsError) as caught:
        TogetherAIEmbeddings(api_key=KEY, base_url="http://example.org")
    assert KEY not in repr(caught.value)


def test_prefixes_come_from_the_environment_unless_the_object_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_EMBEDDING_QUERY_PREFIX", "query: ")
    monkeypatch.setenv("TOGETHER_EMBEDDING_DOCUMENT_PREFIX", "passage: ")
    plain = TogetherAIEmbeddings(api_key=KEY, model="m")
    assert (plain.query_prefix, plain.document_prefix) == ("query: ", "passage: ")
    own = TogetherAIEmbeddings(api_key=KEY, model="m", query_prefix="", document_prefix="d: ")
    assert (own.query_prefix, own.document_prefix) == ("", "d: ")


def test_an_object_can_be_sent_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", KEY)
    embeddings = TogetherAIEmbeddings(api_key=KEY, model="m", query_prefix="q: ")
    embeddings._size.refused(64)
    copy = pickle.loads(pickle.dumps(embeddings))
    assert (copy.model, copy.query_prefix, copy._size.within(128)) == ("m", "q: ", 32)
    assert KEY not in repr(copy)


def test_importing_the_modules_imports_nothing_heavy() -> None:
    # LangChain's base of language models imports langsmith, and that httpx and more; nobody here can help that.
    code = (
        "import sys, hana_ai.api.embeddings, hana_ai.api.rerankers\n"
        "print(sorted({'httpx', 'aiohttp', 'rich.progress'} & set(sys.modules)))\n"
        "import hana_ai.api.llms\n"
        "print(sorted({'together', 'numpy', 'pandas', 'hana_ml', 'transformers'} & set(sys.modules)))"
    )
    assert printed(code).split() == ["[]", "[]"]
