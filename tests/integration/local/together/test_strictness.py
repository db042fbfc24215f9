"""What Together's OpenAPI document forbids, the server forbids, and what it allows, it takes: for every field.

The requests are made from the document's schemas: each place in a body gets values of all types, and those at the
edges of its bounds. A validator of the document itself tells which of them are valid, and the server has to agree.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from hana_ai.api.local.together import LocalTogether, ScriptedEngine
from tests import contract, openapi

CHAT, EMBEDDING, RERANK = ScriptedEngine.CHAT, ScriptedEngine.EMBEDDING, ScriptedEngine.RERANK
JUDGE = {"model": CHAT, "system_template": "a", "model_source": "serverless"}

BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    # schema: path, the least body
    "AudioSpeechRequest": ("/v1/audio/speech", {"model": "none", "input": "a", "voice": "a"}),
    "ChatCompletionRequest": (
        "/v1/chat/completions",
        {"model": CHAT, "messages": [{"role": "user", "content": "a"}]},
    ),
    "CompletionRequest": ("/v1/completions", {"model": CHAT, "prompt": "a"}),
    "CreateBatchRequest": ("/v1/batches", {"endpoint": "/v1/chat/completions", "input_file_id": "none"}),
    "CreateVideoBody": ("/v2/videos", {"model": "none"}),
    "EmbeddingsRequest": ("/v1/embeddings", {"model": EMBEDDING, "input": "a"}),
    "EvaluationTypedRequest": (
        "/v1/evaluation",
        {
            "type": "compare",
            "parameters": {"judge": JUDGE, "input_data_file_path": "none", "model_a": "a", "model_b": "b"},
        },
    ),
    "FineTunePriceRequest": ("/v1/fine-tunes/estimate-price", {"training_file": "none"}),
    "FineTuneRequest": ("/v1/fine-tunes", {"training_file": "none", "model": CHAT}),
    "ImageRequest": ("/v1/images/generations", {"model": "none", "prompt": "a"}),
    "RerankRequest": ("/v1/rerank", {"model": RERANK, "query": "a", "documents": ["a", "b"]}),
}
STRICTER: dict[tuple[str, str], str] = {
    ("ChatCompletionRequest", "frequency_penalty"): "described as between -2 and 2",
    ("ChatCompletionRequest", "logit_bias"): "described as adjusting tokens, which are named by their ids",
    ("ChatCompletionRequest", "max_tokens"): "no answer has fewer than one token",
    ("ChatCompletionRequest", "messages"): "a chat without a message has nothing to answer",
    ("ChatCompletionRequest", "min_p"): "described as a number between 0 and 1",
    ("ChatCompletionRequest", "model"): "a model has a name",
    ("ChatCompletionRequest", "presence_penalty"): "described as between -2 and 2",
    ("ChatCompletionRequest", "repetition_penalty"): "a factor is above 0",
    ("ChatCompletionRequest", "response_format"): "a schema or a pattern has to be one",
    ("ChatCompletionRequest", "temperature"): "described as from 0 on",
    ("ChatCompletionRequest", "tool_choice"): "described as none, auto, required or a tool that is there",
    ("ChatCompletionRequest", "tools"): "a tool has a type and a function with a name",
    ("ChatCompletionRequest", "top_p"): "a share is between 0 and 1",
    ("EmbeddingsRequest", "input"): "no text gives no embedding",
    ("EvaluationTypedRequest", "parameters"): "the parameters have to be those of the type",
    ("EvaluationTypedRequest", "type"): "the parameters have to be those of the type",
    ("EmbeddingsRequest", "model"): "a model has a name",
    ("RerankRequest", "model"): "a model has a name",
    ("RerankRequest", "documents"): "no document gives no ranking",
    ("RerankRequest", "top_n"): "at least one result",
}
STRICTER |= {
    ("CompletionRequest", name): why for (schema, name), why in STRICTER.items() if schema.startswith("Chat")
}
"""Fields for which a valid value may be refused, since the document's words say more than its schema."""

POOL: tuple[Any, ...] = (None, True, "", "a", 0, 1, -1, 1.5, 10**12, [], [1], ["a"], [["a"]], {}, {"a": 1})


def values(schema: Any) -> list[Any]:
    """Values to try in a place: some of each type, and those at the edges of its bounds."""
    found = list(POOL)
    for name, node in _nodes(schema):
        if name in ("minimum", "maximum"):
            found += [node - 1, node, node + 1]
        elif name == "enum":
            found += [*node, f"{node[0]}x"]
        elif name == "const":
            found += [node, f"{node}x"]
        elif name in ("minLength", "maxLength"):
            found += ["a" * node, "a" * (node + 1), "a" * max(0, node - 1)]
        elif name in ("minItems", "maxItems"):
            found += [["a"] * node, ["a"] * (node + 1)]
    return list({json.dumps(one): one for one in found}.values())


def _nodes(schema: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if isinstance(schema, dict):
        if "$ref" in schema and depth < 3:
            yield from _nodes(_resolved(schema), depth + 1)
        for key, value in schema.items():
            if key in ("anyOf", "oneOf", "allOf"):
                for one in value:
                    yield from _nodes(one, depth)
            elif key != "properties":
                yield key, value


def _resolved(schema: Any) -> Any:
    while "$ref" in schema:
        schema = openapi.schemas()[schema["$ref"].rpartition("/")[2]]
    return schema


def examples(schema: Any, depth: int = 0) -> list[Any]:
    """Valid values of a schema, one of each form, with all that may be in them."""
    schema = _resolved(schema)
    for word in ("oneOf", "anyOf"):
        if word in schema:
            return [made for one in schema[word] for made in examples(one, depth)]
    if "const" in schema:
        return [schema["const"]]
    if "enum" in schema:
        return [schema["enum"][0]]
    kind = schema.get("type")
    if kind == "object" and depth < 6:
        parts = {name: examples(one, depth + 1) for name, one in schema.get("properties", {}).items()}
        whole = {name: made[0] for name, made in parts.items() if made}
        return [whole, *({**whole, name: other} for name, made in parts.items() for other in made[1:])]
    if kind == "array":
        least = max(1, schema.get("minItems", 1))
        return [[made] * least for made in examples(schema.get("items", {"type": "string"}), depth + 1)]
    plain = {"string": "a", "integer": schema.get("minimum", 1), "number": 1, "boolean": True, "null": None}
    return [plain.get(str(kind), {})]


def places(value: Any, schema: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every place in a value, with the schema of what may stand there."""
    yield path, schema
    for one in _forms(schema):
        if isinstance(value, dict):
            for name, inner in one.get("properties", {}).items():
                if name in value:
                    yield from places(value[name], inner, (*path, name))
        elif isinstance(value, list) and value and "items" in one:
            yield from places(value[0], one["items"], (*path, 0))


def _forms(schema: Any) -> Iterator[Any]:
    schema = _resolved(schema)
    yield schema
    for word in ("oneOf", "anyOf", "allOf"):
        for one in schema.get(word, ()):
            yield from _forms(one)


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of a value with something else in a place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def without(value: Any, path: tuple[Any, ...]) -> Any:
    """A copy of a value without what is in a place."""
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = without(value[path[0]], path[1:])
    return copy


def bodies(name: str, field: str, schema: Any) -> Iterator[dict[str, Any]]:
    """Bodies that differ from the least one in a field, or in a place in it."""
    _, least = BODIES[name]
    seen: set[str] = set()
    for example in examples(schema):
        for path, inner in places(example, schema, (field,)):
            whole = {**least, field: example}
            tried = [changed(whole, path, one) for one in values(inner)]
            if len(path) > 1 and isinstance(path[-1], str):
                tried.append(without(whole, path))
            for body in [whole, *tried]:
                text = json.dumps(body, sort_keys=True)
                if text not in seen:
                    seen.add(text)
                    yield body


FIELDS = [(name, field) for name in BODIES for field in openapi.schemas()[name]["properties"]]


def test_the_contract_is_that_of_the_document() -> None:
    assert contract.FILE.read_text(encoding="utf-8") == contract.written(), "run python -m tests.contract"
    assert {*BODIES, *openapi.FORMS} == set(contract.BODIES)


@pytest.fixture(scope="module")
def strict() -> Iterator[httpx.Client]:
    with LocalTogether(ScriptedEngine()) as server:
        headers = {"Authorization": f"Bearer {server.api_key}"}
        with httpx.Client(base_url=server.base_url, headers=headers, timeout=30) as client:
            yield client


def disagreements(http: httpx.Client, name: str, field: str, most: int) -> list[str]:
    """Where the server does not do as the document says, of so many requests about a field at most."""
    path, _ = BODIES[name]
    schema = openapi.schemas()[name]["properties"][field]
    found = []
    made = list(bodies(name, field, schema))
    for body in made[:: max(1, len(made) // most)]:
        valid = openapi.is_valid(name, body)
        answer = http.post(path, json=body)
        error = answer.json().get("error", {}) if answer.status_code >= 400 else {}
        said = error if isinstance(error, str) else str(error.get("message", ""))
        refused = "Input validation error" in said
        if not valid and (answer.status_code != 400 or field not in said):
            found.append(f"took {json.dumps(body)[:200]}: {answer.status_code} {said[:100]}")
        elif valid and refused and (name, field) not in STRICTER:
            found.append(f"refused {json.dumps(body)[:200]}: {said[:100]}")
    return found


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=lambda one: one)
def test_a_sample_of_requests_is_judged_as_the_document_judges_it(
    strict: httpx.Client, name: str, field: str
) -> None:
    assert disagreements(strict, name, field, most=10) == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "field"), FIELDS, ids=lambda one: one)
def test_every_request_is_judged_as_the_document_judges_it(strict: httpx.Client, name: str, field: str) -> None:
    assert disagreements(strict, name, field, most=100_000) == []


def test_a_required_field_is_required(strict: httpx.Client) -> None:
    for name, (path, least) in BODIES.items():
        for field in openapi.schemas()[name].get("required", ()):
            answer = strict.post(path, json=without(least, (field,)))
            assert answer.status_code == 400, (name, field)
            error = answer.json()["error"]
            assert field in (error if isinstance(error, str) else error["param"])


def _query(http: httpx.Client, path: str, **query: Any) -> httpx.Response:
    return http.get(path, params=query)


@pytest.mark.parametrize(
    ("ask", "param"),
    [
        (lambda http: _query(http, "/v1/models", dedicated="perhaps"), "dedicated"),
        (lambda http: _query(http, "/v1/evaluation", limit="many"), "limit"),
        (lambda http: _query(http, "/v1/evaluation", limit=1.5), "limit"),
        (lambda http: _query(http, "/v1/fine-tunes/models/limits"), "model_name"),
        (lambda http: _query(http, "/v1/finetune/download"), "ft_id"),
        (lambda http: _query(http, "/v1/finetune/download", ft_id="a", checkpoint="x"), "checkpoint"),
        (lambda http: _query(http, "/v1/finetune/download", ft_id="a", checkpoint_step="x"), "checkpoint_step"),
        (lambda http: http.delete("/v1/fine-tunes/ft-x", params={"force": "perhaps"}), "force"),
    ],
)
def test_a_query_is_checked(
    strict: httpx.Client, ask: Callable[[httpx.Client], httpx.Response], param: str
) -> None:
    answer = ask(strict)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations"])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "2"}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"response_format": "xml"}, "response_format"),
        ({"model": "other"}, "model"),
        ({"timestamp_granularities": "line"}, "timestamp_granularities"),
    ],
)
def test_a_form_is_checked(strict: httpx.Client, path: str, fields: dict[str, str], param: str) -> None:
    answer = strict.post(path, data=fields, files={"file": b"RIFF"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert strict.post(path, data=fields).status_code == 400
    good = strict.post(path, data={"temperature": "0.5", "language": "de"}, files={"file": b"RIFF"})
    assert good.json()["error"]["code"] == "model_not_available"
