"""What Together's OpenAPI document says of requests, as checks that are made from it.

`contract.json` holds the document's schemas of the bodies and query parameters that are served here, without their
descriptions; `python -m tests.contract` writes it. A schema is turned into functions when it is first needed, so
that neither the start of the server nor a request pays for the others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any, NamedTuple, TypeAlias

import orjson

from .refusal import Refusal

Schema: TypeAlias = dict[str, Any]
"""A JSON schema; what it may hold is what `_parts` reads."""


class Fault(NamedTuple):
    """What is wrong with a value, and where in it."""

    path: tuple[str | int, ...]
    message: str

    def below(self, step: str | int) -> Fault:
        """The same fault as the value's parent sees it."""
        return Fault((step, *self.path), self.message)


Check: TypeAlias = Callable[[object], "Fault | None"]


def check_body(name: str, body: object) -> None:
    """Check a request body against a schema of the document.

    Raises
    ------
    Refusal
        400 with the first thing that is wrong and, in `param`, the field it is wrong in.
    """
    _raise(_named(name)(body))


def check_form(name: str, form: Mapping[str, bytes]) -> None:
    """Check the fields of a form against a schema of the document; of a file, only that it is there.

    Raises
    ------
    Refusal
        400 with the first thing that is wrong and its field.
    """
    for field, required, check in _fields(name):
        if field not in form:
            _raise(Fault((field,), "is required") if required else None)
        elif check is not None:
            fault = check(form[field].decode("utf-8", "replace"))
            _raise(fault and fault.below(field))


def check_query(path: str, query: Mapping[str, str]) -> None:
    """Check the query parameters of a path, such as `/v1/evaluation`; those that are not documented are ignored.

    Raises
    ------
    Refusal
        400 with the first thing that is wrong and its parameter.
    """
    for name, required, check in _parameters(path):
        if name in query:
            fault = check(query[name])
            _raise(fault and fault.below(name))
        elif required:
            _raise(Fault((name,), "is required"))


def _raise(fault: Fault | None) -> None:
    if fault is None:
        return
    param = str(fault.path[0]) if fault.path else None
    where = ".".join(str(step) for step in fault.path) or "the request body"
    raise Refusal(400, f"Input validation error: {where}: {fault.message}", param=param)


@cache
def _contract() -> Schema:
    contract: Schema = orjson.loads(resources.files(__package__).joinpath("contract.json").read_bytes())
    return contract


@cache
def _named(name: str) -> Check:
    return _check(_contract()["schemas"][name])


@cache
def _parameters(path: str) -> list[tuple[str, bool, Check]]:
    found = _contract()["parameters"][path]
    return [(name, one.get("required", False), _of_text(one["schema"])) for name, one in found.items()]


@cache
def _fields(name: str) -> list[tuple[str, bool, Check | None]]:
    schema: Schema = _contract()["schemas"][name]
    required: list[str] = schema.get("required", [])
    return [
        (field, field in required, None if field == "file" else _of_text(one))
        for field, one in schema["properties"].items()
    ]


def _of_text(schema: Schema) -> Check:
    """The check of a value that comes as text, as everything in a query or a form does."""
    check = _check(schema)
    if schema.get("type") not in ("integer", "number", "boolean"):
        return check

    def checked(value: object) -> Fault | None:
        try:
            read: object = orjson.loads(str(value))
        except orjson.JSONDecodeError:
            read = value
        return check(read)

    return checked


def _check(schema: Schema) -> Check:
    """The check of a schema."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        # Looked up when it is used: a schema may refer to itself.
        return lambda value: _named(name)(value)  # noqa: PLW0108
    checks = list(_parts(schema))
    if len(checks) == 1:
        return checks[0]

    def every(value: object) -> Fault | None:
        for check in checks:
            if (fault := check(value)) is not None:
                return fault
        return None

    return every


def _parts(schema: Schema) -> list[Check]:
    checks: list[Check] = []
    if "type" in schema:
        checks.append(_type(schema["type"]))
    if "const" in schema:
        checks.append(_one_of([schema["const"]]))
    if "enum" in schema:
        checks.append(_one_of(schema["enum"]))
    if schema.get("type") in ("integer", "number"):
        checks += _numbers(schema)
    if schema.get("type") == "string":
        checks += _texts(schema)
    if schema.get("type") == "array":
        checks += _arrays(schema)
    if schema.get("type") == "object":
        checks.append(_object(schema))
    for word in ("anyOf", "oneOf"):
        if word in schema:
            checks.append(_branches([_check(one) for one in schema[word]], alone=word == "oneOf"))
    checks += [_check(one) for one in schema.get("allOf", ())]
    return checks


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_TYPES: dict[str, tuple[Callable[[object], bool], str]] = {
    "string": (lambda value: isinstance(value, str), "a string"),
    "integer": (lambda value: isinstance(value, int) and not isinstance(value, bool), "an integer"),
    "number": (_is_number, "a number"),
    "boolean": (lambda value: isinstance(value, bool), "true or false"),
    "object": (lambda value: isinstance(value, dict), "an object"),
    "array": (lambda value: isinstance(value, list), "a list"),
    "null": (lambda value: value is None, "null"),
}


def _type(name: str) -> Check:
    holds, words = _TYPES[name]
    return lambda value: None if holds(value) else Fault((), f"must be {words}, not {_shown(value)}")


def _one_of(allowed: list[object]) -> Check:
    words = ", ".join(_shown(one) for one in allowed)
    message = f"must be {words}" if len(allowed) == 1 else f"must be one of {words}"
    kinds = [(type(one), one) for one in allowed]  # 1 is not true

    def check(value: object) -> Fault | None:
        return None if (type(value), value) in kinds else Fault((), f"{message}, not {_shown(value)}")

    return check


_BOUNDS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


def _numbers(schema: Schema) -> list[Check]:
    least, most = _BOUNDS.get(schema.get("format", ""), (None, None))
    return _within(lambda value: value, schema.get("minimum", least), schema.get("maximum", most), "be {}")


def _within(measure: Callable[[Any], float], least: float | None, most: float | None, words: str) -> list[Check]:
    checks: list[Check] = []
    if least is not None:
        too_low = Fault((), f"must {words.format(f'at least {least}')}")
        checks.append(lambda value: None if measure(value) >= least else too_low)
    if most is not None:
        too_high = Fault((), f"must {words.format(f'at most {most}')}")
        checks.append(lambda value: None if measure(value) <= most else too_high)
    return checks


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+\Z")


def _texts(schema: Schema) -> list[Check]:
    checks = _within(len, schema.get("minLength"), schema.get("maxLength"), "have {} characters")
    if schema.get("format") == "date-time":
        checks.append(lambda value: None if _is_moment(str(value)) else Fault((), "must be an ISO 8601 time"))
    if schema.get("format") == "uri":
        checks.append(lambda value: None if _SCHEME.match(str(value)) else Fault((), "must be a URI"))
    return checks


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _arrays(schema: Schema) -> list[Check]:
    checks = _within(len, schema.get("minItems"), schema.get("maxItems"), "have {} entries")
    items: Schema = schema.get("items", {})
    if items:
        checks.append(_entries(_check(items), str if items == {"type": "string"} else None))
    if schema.get("uniqueItems"):
        checks.append(lambda value: None if _are_unique(value) else Fault((), "must not hold an entry twice"))
    return checks


def _are_unique(value: object) -> bool:
    assert isinstance(value, list)
    return len({orjson.dumps(one) for one in value}) == len(value)


def _entries(check: Check, quick: type | None) -> Check:
    def checked(value: object) -> Fault | None:
        assert isinstance(value, list)
        # Embeddings come with thousands of texts.
        if quick is not None and set(map(type, value)) <= {quick}:
            return None
        for index, entry in enumerate(value):
            if (fault := check(entry)) is not None:
                return fault.below(index)
        return None

    return checked


def _object(schema: Schema) -> Check:
    required: list[str] = schema.get("required", [])
    # What tells one kind of object from another comes first: most branches of a union end there.
    known = sorted(schema.get("properties", {}).items(), key=lambda item: len(item[1].get("enum", "..")) != 1)
    checks = {name: _check(one) for name, one in known}
    rest = schema.get("additionalProperties", True)
    check_rest = _check(rest) if isinstance(rest, dict) else None

    def checked(value: object) -> Fault | None:
        assert isinstance(value, dict)
        for name, check in checks.items():
            if name in value and (fault := check(value[name])) is not None:
                return fault.below(name)
        for name in required:
            if name not in value:
                return Fault((name,), "is required")
        if rest is not True:
            for name in value.keys() - checks.keys():
                if check_rest is None:
                    return Fault((name,), "is not known")
                if (fault := check_rest(value[name])) is not None:
                    return fault.below(name)
        return None

    return checked


def _branches(checks: list[Check], *, alone: bool) -> Check:
    """The check of a union: one of its forms has to fit, and no other one where it has to be alone."""

    def checked(value: object) -> Fault | None:
        faults = [fault for check in checks if (fault := check(value)) is not None]
        fitting = len(checks) - len(faults)
        if fitting == 1 or (fitting and not alone):
            return None
        if fitting:
            return Fault((), f"fits {fitting} of the forms that it may have, instead of one")
        # The form that fits longest is the one that was meant.
        return max(faults, key=lambda fault: len(fault.path))

    return checked


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return text if len(text) <= 60 else text[:57] + "..."
