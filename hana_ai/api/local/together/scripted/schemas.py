"""A value that fits a JSON schema, made from a hint; the rule behind the scripted engine's tool calls."""

from __future__ import annotations

import re
from typing import Any

from ..requests import JSONObject

_DEPTH = 8


def example(schema: JSONObject, *, hint: str) -> Any:
    """A value for the schema: numbers and words come from the hint where it has some.

    Covers what LangChain and pydantic generate: objects, arrays, enums, constants, bounds, unions, `allOf`
    and local references. Recursive schemas end after a few levels.
    """
    return _example(schema, schema, hint, _DEPTH)


def _example(schema: JSONObject, root: JSONObject, hint: str, depth: int) -> Any:
    schema = _resolved(schema, root)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return next((value for value in schema["enum"] if str(value).lower() in hint.lower()), schema["enum"][0])
    for union in ("anyOf", "oneOf"):
        if schema.get(union):
            options = [_resolved(option, root) for option in schema[union]]
            # Deep inside a recursive schema null ends the recursion, elsewhere a value says more.
            null = next((option for option in options if option.get("type") == "null"), None)
            chosen = (
                null if depth <= 0 and null else next((o for o in options if o.get("type") != "null"), options[0])
            )
            return _example(chosen, root, hint, depth)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind == "object":
        return _object(schema, root, hint, depth)
    if kind == "array":
        count = max(schema.get("minItems", 0), 1 if depth > 0 else 0)
        return [_example(schema.get("items", {"type": "string"}), root, hint, depth - 1) for _ in range(count)]
    return _scalar(kind, schema, hint)


def _object(schema: JSONObject, root: JSONObject, hint: str, depth: int) -> JSONObject:
    properties: JSONObject = schema.get("properties", {})
    names = list(properties) if depth > 0 else [name for name in properties if name in schema.get("required", [])]
    made: JSONObject = {}
    numbers = re.findall(r"-?\d+(?:\.\d+)?", hint)
    for name in names:
        field = _resolved(properties[name], root)
        if field.get("type") in ("integer", "number") and numbers:
            # Two numbers in the text fill two number fields, in their order.
            made[name] = _example(field, root, numbers.pop(0), depth - 1)
        else:
            made[name] = _example(field, root, hint, depth - 1)
    return made


def _scalar(kind: str, schema: JSONObject, hint: str) -> Any:
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    if kind in ("integer", "number"):
        found = re.search(r"-?\d+(?:\.\d+)?", hint)
        value = float(found.group()) if found else 0.0
        low = schema.get("minimum", schema.get("exclusiveMinimum", float("-inf")) + 1)
        high = schema.get("maximum", schema.get("exclusiveMaximum", float("inf")) - 1)
        value = min(max(value, low), high)
        return int(value) if kind == "integer" else value
    text = hint[: schema.get("maxLength", 200)]
    return text.ljust(schema.get("minLength", 0), ".")


def _resolved(schema: JSONObject, root: JSONObject) -> JSONObject:
    """The schema with a reference followed and `allOf` merged in."""
    seen = 0
    while "$ref" in schema and seen < _DEPTH:
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        seen += 1
    for part in schema.get("allOf", []):
        schema = {**_resolved(part, root), **{key: value for key, value in schema.items() if key != "allOf"}}
    return schema
