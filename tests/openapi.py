"""Checks bodies against Together's OpenAPI document (tests/fixtures/together-openapi.yaml).

`check_exchange` is a hook for `LocalTogether(on_exchange=...)`: it checks the request body of every exchange and
the body, or every chunk, of every answer with status 200. Where the document and the API differ, the API wins:
`DEVIATIONS` names each difference and says how it is known.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from openapi_schema_validator import OAS31Validator, oas31_format_checker

_DOCUMENT = Path(__file__).parent / "fixtures" / "together-openapi.yaml"
_NAMES = {
    # path: request, response, chunk
    "/chat/completions": ("ChatCompletionRequest", "ChatCompletionResponse", "ChatCompletionChunk"),
    "/completions": ("CompletionRequest", "CompletionResponse", "CompletionChunk"),
    "/embeddings": ("EmbeddingsRequest", "EmbeddingsResponse", None),
    "/rerank": ("RerankRequest", "RerankResponse", None),
    "/models": (None, "ModelInfoList", None),
    "/files": (None, "FileList", None),
    "/files/{id}": (None, "FileResponse", None),
    "/files/{id}/preprocess": (None, "FileResponse", None),
    "/files/{id}/content": (None, None, None),
    "/files/upload": (None, "FileResponse", None),
    # The SDK's; the document has no uploads in parts.
    "/files/multipart/initiate": (None, None, None),
    "/files/multipart/complete": (None, "FileResponse", None),
    "/files/multipart/abort": (None, None, None),
    "/batches": ("CreateBatchRequest", "BatchJobList", None),
    "/batches/{id}": (None, "BatchJob", None),
    "/batches/{id}/cancel": (None, "BatchJob", None),
    "/fine-tunes": ("FineTuneRequest", "FinetuneTruncatedList", None),
    "/fine-tunes/estimate-price": ("FineTunePriceRequest", "FineTunePrice", None),
    "/fine-tunes/models/limits": (None, "FineTuneModelLimits", None),
    "/fine-tunes/models/supported": (None, "FineTuneModels", None),
    "/fine-tunes/preview": (None, None, None),
    "/fine-tunes/{id}": (None, "FinetuneResponse", None),
    "/fine-tunes/{id}/cancel": (None, "FinetuneResponseTruncated", None),
    "/fine-tunes/{id}/checkpoints": (None, "FinetuneListCheckpoints", None),
    "/fine-tunes/{id}/download-tokenized-dataset": (None, None, None),
    "/fine-tunes/{id}/events": (None, "FinetuneListEvents", None),
    "/fine-tunes/{id}/metrics": (None, "FineTuneMetrics", None),
    "/finetune/download": (None, None, None),
    "/evaluation": ("EvaluationTypedRequest", "EvaluationJobList", None),
    "/evaluation/model-list": (None, "EvaluationModelList", None),
    "/evaluation/{id}": (None, "EvaluationJob", None),
    "/evaluation/{id}/status": (None, "EvaluationStatus", None),
    "/voices": (None, "ListVoicesResponse", None),
    "/images/generations": ("ImageRequest", "ImageResponse", None),
    "/audio/speech": ("AudioSpeechRequest", None, None),
    "/audio/transcriptions": (None, "AudioTranscriptionResponse", None),
    "/audio/translations": (None, "AudioTranslationResponse", None),
}
_MADE = {"/fine-tunes": "FinetuneResponseTruncated", "/evaluation": "EvaluationResponse"}
"""What a path answers to a request with a body, where that is not what it answers to one without."""
_CREATED = "BatchJobWithWarning"
"""The one answer with status 201."""
_DELETED = "FileDeleteResponse"
_DRAWN_IN_PLACE: dict[str, tuple[str, ...]] = {
    # name here: where the document has it
    "BatchJobList": ("/batches", "get", "responses", "200", "content", "application/json", "schema"),
    "EvaluationJobList": ("/evaluation", "get", "responses", "200", "content", "application/json", "schema"),
    "EvaluationModelList": (
        *("/evaluation/model-list", "get", "responses", "200", "content", "application/json", "schema"),
    ),
    "EvaluationStatus": (
        "/evaluation/{id}/status",
        "get",
        "responses",
        "200",
        "content",
        "application/json",
        "schema",
    ),
    "FileForm": ("/files/upload", "post", "requestBody", "content", "multipart/form-data", "schema"),
    "FineTuneMetrics": (
        "/fine-tunes/{id}/metrics",
        "get",
        "responses",
        "200",
        "content",
        "application/json",
        "schema",
    ),
    "FineTuneModels": (
        *("/fine-tunes/models/supported", "get", "responses", "200", "content", "application/json", "schema"),
    ),
    "FineTunePrice": (
        *("/fine-tunes/estimate-price", "post", "responses", "200", "content", "application/json", "schema"),
    ),
    "FineTunePriceRequest": (
        *("/fine-tunes/estimate-price", "post", "requestBody", "content", "application/json", "schema"),
    ),
    "FineTuneRequest": ("/fine-tunes", "post", "requestBody", "content", "application/json", "schema"),
    "ImageRequest": ("/images/generations", "post", "requestBody", "content", "application/json", "schema"),
}
_ID = re.compile(
    r"^/(files|batches|fine-tunes|evaluation)/(?!(upload|multipart|models|preview|estimate-price|model-list)(/|$))[^/]+"
)

Schemas = dict[str, Any]


@dataclass(frozen=True)
class Deviation:
    """A place where the document is not what the API does, and the change that makes it so."""

    name: str
    reason: str
    apply: Callable[[Schemas], None]


def _unrequire(*steps: str | int, names: tuple[str, ...]) -> Callable[[Schemas], None]:
    def apply(schemas: Schemas) -> None:
        node = _at(schemas, *steps)
        node["required"] = [name for name in node["required"] if name not in names]

    return apply


def _allow_null(*steps: str | int) -> Callable[[Schemas], None]:
    def apply(schemas: Schemas) -> None:
        parent, last = _at(schemas, *steps[:-1]), steps[-1]
        parent[last] = {"anyOf": [parent[last], {"type": "null"}]}

    return apply


def _also(*steps: str | int, schema: dict[str, Any]) -> Callable[[Schemas], None]:
    def apply(schemas: Schemas) -> None:
        parent, last = _at(schemas, *steps[:-1]), steps[-1]
        parent[last] = {"anyOf": [parent[last], schema]}

    return apply


def _either(*steps: str | int) -> Callable[[Schemas], None]:
    """Let a value fit more than one form."""

    def apply(schemas: Schemas) -> None:
        node = _at(schemas, *steps)
        node["anyOf"] = node.pop("oneOf")

    return apply


def _without(word: str, *steps: str | int) -> Callable[[Schemas], None]:
    def apply(schemas: Schemas) -> None:
        del _at(schemas, *steps)[word]

    return apply


def _at(schemas: Schemas, *steps: str | int) -> Any:
    node: Any = schemas
    for step in steps:
        node = node[step]
    return node


def _request_calls(schemas: Schemas) -> None:
    call = copy.deepcopy(schemas["ToolChoice"])
    call["required"] = ["id", "type", "function"]
    schemas["RequestToolCall"] = call
    message = schemas["ChatCompletionAssistantMessageParam"]
    message["properties"]["tool_calls"]["items"] = {"$ref": "#/components/schemas/RequestToolCall"}


def _streamed_calls(schemas: Schemas) -> None:
    delta = copy.deepcopy(schemas["ToolChoice"])
    delta["required"] = ["index", "function"]
    delta["properties"]["function"]["required"] = ["arguments"]
    schemas["ToolCallDelta"] = delta
    properties = _at(schemas, *_CHUNK_DELTA, "properties")
    properties["tool_calls"]["items"] = {"$ref": "#/components/schemas/ToolCallDelta"}


def _parts(schemas: Schemas) -> None:
    # Without `required` an image block matches every block, so that `oneOf` never holds for another one.
    for part in schemas["ChatCompletionUserMessageContentMultimodal"]["items"]["oneOf"]:
        part["required"] = sorted({*part.get("required", []), *part["properties"]})


_CHUNK_CHOICE = ("ChatCompletionChunk", "properties", "choices", "items")
_CHUNK_DELTA = (*_CHUNK_CHOICE, "properties", "delta")
_COMPLETION_DELTA = ("CompletionChoice", "properties", "delta")
_NAMED_TOOL = {
    "type": "object",
    "required": ["type", "function"],
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}},
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}
_REGEX = {
    "type": "object",
    "required": ["type", "pattern"],
    "properties": {"type": {"const": "regex"}, "pattern": {"type": "string"}},
}

DEVIATIONS = (
    Deviation(
        "calibration is a purpose of files",
        "the SDK's type types/file_purpose.py names it",
        _also("FilePurpose", schema={"const": "calibration"}),
    ),
    Deviation(
        "a named tool choice has no id, index or arguments",
        "the recorded request togetherai-streams-tool-call.json was answered",
        _also("ChatCompletionRequest", "properties", "tool_choice", schema=_NAMED_TOOL),
    ),
    Deviation(
        "tool calls of earlier answers are sent back without an index",
        "the SDK's types allow it, and the API takes OpenAI's shape",
        _request_calls,
    ),
    Deviation(
        "a regular expression is a response format",
        "documented on Together's page on structured outputs; the document lacks it",
        _also("ChatCompletionRequest", "properties", "response_format", schema=_REGEX),
    ),
    Deviation(
        "reasoning_effort takes more than low, medium and high",
        "the page on reasoning names max and none for some models",
        _also("ChatCompletionRequest", "properties", "reasoning_effort", schema={"enum": ["max", "none"]}),
    ),
    Deviation(
        "the kinds of content blocks are told apart by their required fields",
        "the document leaves `required` off images, so that an image matches every other kind too",
        _parts,
    ),
    Deviation(
        "a streamed tool call comes in parts without id, type and name",
        "recorded: togetherai-streams-tool-call.json",
        _streamed_calls,
    ),
    Deviation(
        "token_id of a streamed delta may be null",
        "recorded: both recordings",
        _allow_null(*_CHUNK_DELTA, "properties", "token_id"),
    ),
    Deviation(
        "token_id of a streamed completion's delta may be null",
        "as in a streamed chat",
        _allow_null(*_COMPLETION_DELTA, "properties", "token_id"),
    ),
    Deviation(
        "logprobs of a chat's answer may be null",
        "the document says `nullable` beside the type in an `allOf`, which no value can satisfy as it stands",
        _allow_null("ChatCompletionChoicesData", "items", "properties", "logprobs"),
    ),
    Deviation(
        "top_logprobs within logprobs is a list, one object a token",
        "the document draws one object for all tokens; the SDK's type is a list",
        _also("LogprobsPart", "properties", "top_logprobs", schema={"type": "array"}),
    ),
    Deviation(
        "logprobs of an echoed prompt may be null",
        "they are only there when logprobs were asked for",
        _allow_null("PromptPart", "items", "properties", "logprobs"),
    ),
    Deviation(
        "the parameters of an evaluation are told apart by its type",
        "every classify and score request also fits the compare form, so that `oneOf` never holds",
        _either("EvaluationTypedRequest", "properties", "parameters"),
    ),
    Deviation(
        "the id of a fine-tuning job is no UUID",
        "the SDK says that it begins with ft-",
        _without("format", "FinetuneResponse", "properties", "id"),
    ),
    Deviation(
        "the results of an evaluation are told apart by its type",
        "no field of any kind of results is required, so that every one fits all forms",
        _either("EvaluationJob", "properties", "results"),
    ),
    Deviation(
        "the results in the status of an evaluation are told apart by its type",
        "no field of any kind of results is required, so that every one fits all forms",
        _either("EvaluationStatus", "properties", "results"),
    ),
    Deviation(
        "a fine-tuning job that goes on from a checkpoint names no model",
        "the SDK leaves it out, since the checkpoint has it",
        _unrequire("FineTuneRequest", names=("model",)),
    ),
    Deviation(
        "arguments of a learning rate scheduler may fit both kinds",
        "every cosine fits the linear form, and the SDK sends such arguments",
        _either("LRScheduler", "properties", "lr_scheduler_args"),
    ),
    Deviation(
        "train_on_inputs may be auto",
        "the document says so, and says that it is a boolean; the SDK sends auto by default",
        _without("type", "FineTuneRequest", "properties", "train_on_inputs"),
    ),
    Deviation(
        "train_on_inputs of supervised fine-tuning may be auto",
        "the document says so, and says that it is a boolean; the SDK sends auto by default",
        _without("type", "TrainingMethodSFT", "properties", "train_on_inputs"),
    ),
)

FORMS = ("FileForm", "AudioTranscriptionRequest", "AudioTranslationRequest")
"""Bodies that come as multipart/form-data."""
UNDER_V2 = ("CreateVideoBody", "VideoJob")
"""What the document has under /videos, which the SDK and the service have under /v2."""

UNDOCUMENTED_PATHS = (
    # The document describes inference only; the SDK's types are the source for these.
    "/v1/billing/",
    "/v1/projects",
    "/v2/",
    "/v3/",
    # Presigned addresses belong to a storage, not to the API.
    "/_storage/",
)


def check_request(path: str, body: Any) -> None:
    """Raise AssertionError if a request body is not what the document asks for."""
    name = _names(path)[0]
    if name is not None:
        _check(name, body, f"request to {path}")


def is_valid(name: str, value: Any) -> bool:
    """Whether a value is what a schema of the document asks for."""
    return bool(_validator(name).is_valid(value))


def check_response(path: str, body: Any, *, made: bool = False) -> None:
    """Raise AssertionError if the body of an answer with status 200 is not as documented.

    `made` says that the request had a body.
    """
    name = _MADE.get(_short(path)) if made and _short(path) in _MADE else _names(path)[1]
    if name == "FinetuneResponse" and isinstance(body, dict) and "status" not in body:
        name = "FinetuneDeleteResponse"
    if name == "FileResponse" and isinstance(body, dict) and "deleted" in body:
        name = _DELETED
    if name is not None:
        _check(name, _thinned(body), f"answer of {path}")


def check_chunk(path: str, chunk: Any) -> None:
    """Raise AssertionError if a chunk of a stream is neither as documented nor an error event."""
    if isinstance(chunk, dict) and "error" in chunk:
        _check("ErrorData", chunk, f"error event of {path}")
        return
    name = _names(path)[2]
    assert name is not None, f"{path} does not stream"
    _check(name, chunk, f"chunk of {path}")


def check_exchange(path: str, request_body: Any, status: int, answer: Any) -> None:
    """Check an exchange; a hook for `LocalTogether(on_exchange=...)`."""
    if isinstance(request_body, dict):
        check_request(path, request_body)
    if status == 200 and isinstance(request_body, dict) and request_body.get("stream"):
        for chunk in answer if isinstance(answer, list) else []:
            check_chunk(path, chunk)
    elif status == 200 and answer is not None:
        check_response(path, answer, made=request_body is not None)
    elif status == 201:
        _check(_CREATED, answer, f"answer of {path}")
    elif status >= 400 and path.startswith("/v1/batches") and status != 401:
        _check("BatchErrorResponse", answer, f"refusal of {path}")


def _names(path: str) -> tuple[str | None, str | None, str | None]:
    if path.startswith(UNDOCUMENTED_PATHS):
        return None, None, None
    short = _short(path)
    assert short in _NAMES, f"Together's OpenAPI document, as far as it is used here, has no path {path}"
    return _NAMES[short]


def _short(path: str) -> str:
    return _ID.sub(r"/\1/{id}", path.removeprefix("/v1"))


def _thinned(body: Any) -> Any:
    """An embeddings answer with one number a vector, after all of them were seen to be numbers.

    Half a million numbers take the validator seconds.
    """
    if not (isinstance(body, dict) and isinstance(body.get("data"), list)):
        return body
    return {**body, "data": [_thinned_entry(entry) for entry in body["data"]]}


def _thinned_entry(entry: Any) -> Any:
    vector = entry.get("embedding") if isinstance(entry, dict) else None
    if isinstance(vector, list) and set(map(type, vector)) <= {int, float}:
        return {**entry, "embedding": vector[:1]}
    return entry


def _check(name: str, value: Any, what: str) -> None:
    error = next(iter(_validator(name).iter_errors(value)), None)
    if error is not None:
        best = _deepest(error)
        where = "/".join(str(step) for step in best.absolute_path)
        raise AssertionError(f"{what} is not a {name} of Together's OpenAPI document, at /{where}: {best.message}")


def _deepest(error: Any) -> Any:
    while error.context:
        error = max(error.context, key=lambda one: len(one.absolute_path))
    return error


@cache
def _validator(name: str) -> Any:
    return OAS31Validator(
        {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas()}},
        format_checker=oas31_format_checker,
    )


@cache
def document() -> Schemas:
    """The document as it stands."""
    read: Schemas = yaml.load(_DOCUMENT.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return read


@cache
def schemas() -> Schemas:
    """The schemas that are used here, with the deviations, in the words of OpenAPI 3.1."""
    drawn = {name: _at(document()["paths"], *steps) for name, steps in _DRAWN_IN_PLACE.items()}
    schemas: Schemas = document()["components"]["schemas"] | drawn
    needed: set[str] = set()
    more = ("ErrorData", "BatchErrorResponse", "FinetuneDeleteResponse", _CREATED, _DELETED)
    for names in (*_NAMES.values(), more, FORMS, tuple(_MADE.values()), UNDER_V2):
        for name in names:
            if name is not None:
                needed.update(reachable(schemas, name, needed))
    used = {name: copy.deepcopy(schemas[name]) for name in sorted(needed)}
    for deviation in DEVIATIONS:
        deviation.apply(used)
    made: Schemas = _nullable(used)
    return made


def reachable(schemas: Schemas, name: str, seen: set[str]) -> set[str]:
    """The names of a schema and of those that it refers to, besides those that were seen."""
    found, waiting = set(seen), [name]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting.extend(_references(schemas[current]))
    return found


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value.rpartition("/")[2]
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _nullable(node: Any) -> Any:
    """The document says it is OpenAPI 3.1 but writes `nullable`, which only 3.0 knows: say it in 3.1's words."""
    if isinstance(node, list):
        return [_nullable(value) for value in node]
    if not isinstance(node, dict):
        return node
    made = {key: _nullable(value) for key, value in node.items() if not (key == "nullable" and value is True)}
    parts = made.get("allOf")
    if isinstance(parts, list) and {} in parts and len(parts) > 1:
        made["allOf"] = [part for part in parts if part != {}]
        return {"anyOf": [made, {"type": "null"}]}
    if node.get("nullable") is True and made:
        return {"anyOf": [made, {"type": "null"}]}
    return made
