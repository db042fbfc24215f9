"""Writes what the loopback server checks requests by: `hana_ai/api/local/together/contract.json`.

    python -m tests.contract

The schemas are those of Together's OpenAPI document with the differences of `tests.openapi.DEVIATIONS`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import openapi

FILE = Path(__file__).parents[1] / "hana_ai" / "api" / "local" / "together" / "contract.json"

BODIES = (
    "AudioSpeechRequest",
    "ChatCompletionRequest",
    "CompletionRequest",
    "CreateBatchRequest",
    "CreateVideoBody",
    "EmbeddingsRequest",
    "EvaluationTypedRequest",
    "FineTunePriceRequest",
    "FineTuneRequest",
    "ImageRequest",
    "RerankRequest",
    *openapi.FORMS,
)
"""The schemas of the bodies that the server takes."""

QUERIES = (
    "/models",
    "/fine-tunes/{id}",
    "/fine-tunes/models/limits",
    "/finetune/download",
    "/evaluation",
    "/evaluation/model-list",
)
"""The paths with documented query parameters."""

_NOTES = ("description", "default", "example", "examples", "title", "deprecated", "discriminator")


def contract() -> dict[str, Any]:
    """What the file holds."""
    schemas = openapi.schemas()
    needed: set[str] = set()
    for name in BODIES:
        needed |= openapi.reachable(schemas, name, needed)
    parameters = {
        f"/v1{path}": {
            one["name"]: {"required": one.get("required", False), "schema": _bare(one["schema"])}
            for operation in openapi.document()["paths"][path].values()
            for one in operation.get("parameters", ())
            if one["in"] == "query"
        }
        for path in QUERIES
    }
    return {"schemas": {name: _bare(schemas[name]) for name in sorted(needed)}, "parameters": parameters}


def _bare(node: Any) -> Any:
    """A schema without what is there for readers; a property may bear such a name."""
    if isinstance(node, list):
        return [_bare(value) for value in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _bare(one) for name, one in value.items()} if key == "properties" else _bare(value)
        for key, value in node.items()
        if key not in _NOTES and not key.startswith("x-")
    }


def written() -> str:
    """The file's text."""
    return json.dumps(contract(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
