"""The small real models behind the server: generation, tools, formats, embeddings, rerank."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import together
from jsonschema import Draft202012Validator
from together import Together

from hana_ai.api.local.together import LlamaCppEngine, LocalTogether, WordLlamaEngine
from hana_ai.api.local.together.engines.model_file import model_file
from tests.integration.local.together.conftest import user, wait_until

CHAT = LlamaCppEngine.CHAT


def tool(name: str, description: str, **properties: Any) -> Any:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


WEATHER = tool("get_weather", "Get the weather of a city", city={"type": "string"})
ADD = tool("add", "Add two numbers", a={"type": "integer"}, b={"type": "integer"})
TOOLS = [WEATHER, ADD]


def ask(sdk: Together, text: str, **more: Any) -> Any:
    more = {"temperature": 0, "max_tokens": 24, **more}
    return sdk.chat.completions.create(model=CHAT, messages=user(text), **more)


def called(answer: Any) -> list[tuple[str, Any]]:
    calls = answer.choices[0].message.tool_calls or []
    return [(call.function.name, orjson.loads(call.function.arguments)) for call in calls]


def test_the_model_answers_from_the_passage_it_is_given(real: Together) -> None:
    passage = "The capital of France is Paris. Question: What is the capital of France? Answer in one sentence."
    answer = ask(real, passage)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert 30 < answer.usage.prompt_tokens < 80
    assert 3 < answer.usage.completion_tokens <= 24


def test_a_stream_says_what_the_whole_answer_says(real: Together) -> None:
    whole = ask(real, "Count to five.")
    chunks = list(ask(real, "Count to five.", stream=True))
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["length"]
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 24


def test_a_completion_continues_its_prompt(real: Together) -> None:
    answer = real.completions.create(
        model=CHAT, prompt="The capital of France is", max_tokens=3, temperature=0, logprobs=2, echo=True
    )
    choice = answer.choices[0]
    assert choice.text.startswith(" Paris")
    assert choice.finish_reason == "length"
    assert choice.logprobs.tokens[0] == " Paris"
    assert max(choice.logprobs.top_logprobs[0], key=choice.logprobs.top_logprobs[0].get) == " Paris"
    assert answer.usage.prompt_tokens == 5
    assert answer.prompt[0].text == "The capital of France is"


def test_a_streamed_completion_ends_with_its_finish_reason(real: Together) -> None:
    chunks = list(real.completions.create(model=CHAT, prompt="One, two,", max_tokens=3, stream=True))
    assert chunks[-1].choices[0].finish_reason == "length"
    assert chunks[-1].usage.completion_tokens == 3


def test_the_same_seed_gives_the_same_answer_and_n_choices_differ(real: Together) -> None:
    first, second = (ask(real, "Name an animal.", temperature=1.5, seed=3, n=3, max_tokens=8) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in second.choices]
    assert len(set(texts)) > 1
    assert first.usage.completion_tokens > 8


def test_stop_sequences_end_the_answer_before_them(real: Together) -> None:
    choice = real.completions.create(
        model=CHAT, prompt="1, 2, 3, 4, 5,", stop=[" 8"], max_tokens=24, temperature=0
    ).choices[0]
    assert (choice.text, choice.finish_reason) == (" 6, 7,", "stop")


def test_log_probabilities_are_those_of_the_tokens(real: Together) -> None:
    logprobs = ask(real, "Hi", logprobs=3, max_tokens=2).choices[0].logprobs.content
    assert len(logprobs) == 2
    assert logprobs[0]["logprob"] == max(top["logprob"] for top in logprobs[0]["top_logprobs"])
    assert len(logprobs[0]["top_logprobs"]) == 3


def test_a_biased_token_is_not_said(real: Together) -> None:
    prompt = "The capital of France is"
    first = real.completions.create(model=CHAT, prompt=prompt, max_tokens=1, temperature=0, logprobs=1).choices[0]
    bias = {str(int(first.logprobs.token_ids[0])): -100.0}
    other = real.completions.create(model=CHAT, prompt=prompt, max_tokens=1, temperature=0, logit_bias=bias)
    assert other.choices[0].text != first.text == " Paris"


def test_a_tool_is_called_with_the_arguments_of_the_question(real: Together) -> None:
    assert called(ask(real, "What is the weather in Paris?", tools=TOOLS)) == [("get_weather", {"city": "Paris"})]
    assert called(ask(real, "What is 17 plus 25?", tools=TOOLS)) == [("add", {"a": 17, "b": 25})]


def test_no_tool_is_called_when_none_helps_or_none_may(real: Together) -> None:
    assert called(ask(real, "Tell me a joke.", tools=TOOLS, max_tokens=4)) == []
    assert called(ask(real, "What is 1 plus 2?", tools=TOOLS, tool_choice="none", max_tokens=4)) == []


def test_a_tool_is_always_called_when_one_is_required(real: Together) -> None:
    answer = ask(real, "Tell me a joke.", tools=TOOLS, tool_choice="required", max_tokens=64)
    ((name, _),) = called(answer)
    assert name in ("get_weather", "add")
    assert answer.choices[0].finish_reason == "tool_calls"


def test_the_tool_that_is_named_is_called(real: Together) -> None:
    choice: Any = {"type": "function", "function": {"name": "add"}}
    ((name, arguments),) = called(ask(real, "Weather in Rome?", tools=TOOLS, tool_choice=choice))
    assert name == "add"
    assert set(arguments) == {"a", "b"}


def test_a_tool_s_result_is_answered_in_words(real: Together) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}}
    history: Any = [
        *user("What is the weather in Paris?"),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "It is sunny."},
    ]
    answer = real.chat.completions.create(model=CHAT, messages=history, tools=TOOLS, temperature=0, max_tokens=16)
    assert called(answer) == []
    assert "sunny" in answer.choices[0].message.content


def test_a_streamed_tool_call_is_shaped_as_the_recorded_one(real: Together) -> None:
    chunks = list(ask(real, "What is the weather in Paris?", tools=TOOLS, stream=True))
    calls = [chunk.choices[0].delta.tool_calls for chunk in chunks]
    assert calls[0] is None
    assert calls[-1] is None
    assert (calls[1][0].function.name, calls[1][0].function.arguments) == ("get_weather", "")
    assert calls[1][0].id.startswith("call_")
    assert all(part[0].id is None for part in calls[2:-1])
    arguments = "".join(part[0].function.arguments for part in calls[1:-1])
    assert orjson.loads(arguments) == {"city": "Paris"}
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons[-2:] == ["tool_calls", "tool_calls"]
    assert set(reasons[:-2]) == {None}


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "mood": {"enum": ["good", "bad"]},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"type": "string"}},
        "home": {"anyOf": [{"$ref": "#/$defs/Home"}, {"type": "null"}]},
    },
    "required": ["name", "mood", "age", "tags", "home"],
    "$defs": {"Home": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
}


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_answer_keeps_to_its_json_schema_however_it_is_sampled(real: Together, seed: int) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
    text = "Describe Anna, 31, from Rome."
    answer = ask(real, text, response_format=wanted, temperature=1.5, seed=seed, max_tokens=2000)
    assert answer.choices[0].finish_reason == "stop"
    Draft202012Validator(SCHEMA).validate(orjson.loads(answer.choices[0].message.content))


def test_a_json_object_is_an_object(real: Together) -> None:
    answer = ask(real, "Describe Paris.", response_format={"type": "json_object"}, max_tokens=400)
    assert isinstance(orjson.loads(answer.choices[0].message.content), dict)


def test_an_answer_keeps_to_its_regular_expression(real: Together) -> None:
    pattern = "^[0-9]{3}-[0-9]{4}$"
    answer = ask(real, "A phone number, please.", response_format={"type": "regex", "pattern": pattern})
    assert re.fullmatch(pattern, answer.choices[0].message.content)


def test_context_overflow_is_refused_with_the_tokens_counted(real: Together) -> None:
    with pytest.raises(together.BadRequestError) as caught:
        ask(real, "word", max_tokens=4096)
    assert re.search(r"must be <= 4096\. Given: \d\d `inputs` tokens and 4096", str(caught.value))
    with pytest.raises(together.BadRequestError, match=r"Given: \d{4,} `inputs`") as caught:
        ask(real, "word " * 5000)
    assert caught.value.body["error"]["param"] == "max_tokens"
    truncated = ask(
        real, "Say yes.", max_tokens=100_000, stop=[" ", "."], context_length_exceeded_behavior="truncate"
    )
    assert truncated.usage.completion_tokens < 100


def test_what_the_model_cannot_take_is_refused(real: Together) -> None:
    image: Any = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]
    with pytest.raises(together.BadRequestError, match="image_url"):
        real.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": image}])
    with pytest.raises(together.BadRequestError, match="is of type"):
        real.embeddings.create(model=CHAT, input="x")


def test_answers_are_generated_side_by_side_and_wait_their_turn(real: Together) -> None:
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda number: ask(real, f"Say {number}.", max_tokens=6), range(6)))
    assert all(answer.choices[0].message.content for answer in answers)


def test_a_client_that_leaves_stops_the_generation(real: Together, real_server: LocalTogether) -> None:
    stream = ask(real, "Write a very long story.", max_tokens=3000, stream=True)
    next(iter(stream))
    stream.close()
    start = time.monotonic()
    # Both slots are free again at once: 3,000 tokens would take a minute.
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: ask(real, "Hi", max_tokens=1), range(2)))
    assert time.monotonic() - start < 20
    wait_until(lambda: real_server.statistics.active == 0)


def test_ctrl_c_still_belongs_to_python() -> None:
    # A shell starts what runs in its background with SIGINT ignored, and then Python ignores it, too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    engine = LlamaCppEngine(context_length=256, parallel=1)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
        engine.close()


def test_an_engine_that_is_closed_at_once_ends() -> None:
    # In a process of its own: what waits inside llama.cpp cannot be interrupted.
    script = (
        "from hana_ai.api.local.together import LlamaCppEngine\n"
        "for _ in range(3):\n"
        "    LlamaCppEngine(context_length=256, parallel=1).close()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=200)


def test_the_model_file_is_found_or_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert model_file().suffix == ".gguf"
    monkeypatch.setenv("TOGETHER_LOCAL_GGUF", str(tmp_path / "none.gguf"))
    with pytest.raises(FileNotFoundError, match="TOGETHER_LOCAL_GGUF"):
        model_file()
    (tmp_path / "none.gguf").write_bytes(b"GGUF\x03")
    assert model_file() == tmp_path / "none.gguf"
    with pytest.raises(FileNotFoundError, match="No such model file"):
        LlamaCppEngine(tmp_path / "other.gguf")
    (tmp_path / "app.py").write_text("print()")
    with pytest.raises(ValueError, match=r"app\.py is not a model file in GGUF form"):
        LlamaCppEngine(tmp_path / "app.py")


def test_an_answer_without_a_bound_ends() -> None:
    engine = LlamaCppEngine(model="local/bounded", max_tokens=12, parallel=1)
    with (
        LocalTogether(engine) as server,
        Together(base_url=server.base_url, api_key=server.api_key, max_retries=0) as sdk,
    ):
        story: Any = {"model": "local/bounded", "messages": user("Tell me a long story."), "temperature": 0}
        shape = {"type": "array", "items": {"type": "integer"}, "minItems": 50}
        wanted: Any = {"type": "json_schema", "json_schema": {"name": "numbers", "schema": shape}}
        answers = {
            "nothing": sdk.chat.completions.create(**story),
            "JSON": sdk.chat.completions.create(**story, response_format=wanted),
            "by the newer name": sdk.chat.completions.create(**story, extra_body={"max_completion_tokens": 5}),
            "by both names": sdk.chat.completions.create(
                **story, max_tokens=7, extra_body={"max_completion_tokens": 5}
            ),
        }
        completion = sdk.completions.create(model="local/bounded", prompt="Once upon a time", temperature=0)
    counts = {how: (one.choices[0].finish_reason, one.usage.completion_tokens) for how, one in answers.items()}
    assert counts == {
        "nothing": ("length", 12),
        "JSON": ("length", 12),
        "by the newer name": ("length", 5),
        "by both names": ("length", 7),
    }
    assert completion.usage is not None
    assert (completion.choices[0].finish_reason, completion.usage.completion_tokens) == ("length", 12)


def test_a_model_of_one_s_own_chooses_its_tools_itself() -> None:
    engine = LlamaCppEngine(tool_chooser="model", model="local/mine", context_length=1024, parallel=1)
    with (
        LocalTogether(engine) as server,
        Together(base_url=server.base_url, api_key=server.api_key, max_retries=0) as sdk,
    ):
        create = sdk.chat.completions.create
        answer: Any = create(
            model="local/mine",
            messages=user("What is 17 plus 25?"),
            tools=TOOLS,
            tool_choice="required",
            temperature=0,
        )
        free: Any = create(model="local/mine", messages=user("Hello"), tools=TOOLS, temperature=0, max_tokens=32)
    ((name, _),) = called(answer)
    assert name in ("get_weather", "add")
    # The tokens of the choice count too.
    assert answer.usage.prompt_tokens > 90
    assert free.choices[0].finish_reason in ("stop", "length", "tool_calls")


def test_embeddings_know_what_is_near(real: Together) -> None:
    texts = ["The weather in Rome", "Rain and sunshine", "Interest rates of banks", ""]
    answer = real.embeddings.create(model=WordLlamaEngine.EMBEDDING, input=texts)
    vectors = np.array([entry.embedding for entry in answer.data])
    assert vectors.shape == (4, 256)
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0], atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_an_overlong_text_is_refused(real: Together) -> None:
    with pytest.raises(together.BadRequestError, match="8192"):
        real.embeddings.create(model=WordLlamaEngine.EMBEDDING, input="word " * 9000)


def test_rerank_puts_the_nearest_document_first(real: Together) -> None:
    documents = ["Bread recipes", "A forecast of rain in Rome", "Tax law"]
    answer = real.rerank.create(
        model=WordLlamaEngine.RERANK, query="weather in Rome", documents=documents, return_documents=True
    )
    assert answer.results[0].document.text == documents[1]
    scores = [result.relevance_score for result in answer.results]
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] <= scores[0] <= 1
