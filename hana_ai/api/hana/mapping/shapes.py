"""The shape of an answer: plain text, one of some labels, or a schema; and the columns that it fills. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from pydantic import BaseModel, ValidationError

from hana_ai.api.errors import TogetherAIInputError
from hana_ai.api.langchain.structured_output import response_format
from hana_ai.api.wire.schemas import JSONObject

TEXT_COLUMN, LABEL_COLUMN = "ANSWER", "LABEL"
LONGEST_TEXT = 5000
"""Characters of an NVARCHAR column; longer texts need an NCLOB."""

ShapeLike = type[BaseModel] | JSONObject | Sequence[str] | None


@dataclass(frozen=True)
class OutputColumn:
    """A column that answers fill."""

    name: str
    field: str
    """The field of the answer."""
    kind: str
    """string, integer, number, boolean, or json for anything else."""
    longest: int = LONGEST_TEXT
    """Characters of a string; 0 for as many as there are."""
    allowed: tuple[str, ...] = ()
    """The values that a string may have; empty for any."""
    nullable: bool = False

    @property
    def declared(self) -> str:
        """Its type in HANA."""
        if self.kind == "string" and self.longest:
            return f"NVARCHAR({self.longest})"
        return {"integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}.get(self.kind, "NCLOB")

    def value(self, found: object) -> object:
        """A value as the column takes it.

        Raises
        ------
        ValueError
            It does not fit.
        """
        if found is None:
            if self.nullable:
                return None
            raise ValueError(f"{self.field} is missing")
        if self.kind == "json":
            return orjson.dumps(found).decode()
        kinds: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float)}
        good = isinstance(found, kinds.get(self.kind, (bool,))) and (
            isinstance(found, bool) == (self.kind == "boolean")
        )
        if not good:
            raise ValueError(f"{self.field} is {found!r:.80}, not of the type {self.kind}")
        if isinstance(found, str):
            if self.allowed and found not in self.allowed:
                raise ValueError(f"{self.field} is {found!r:.80}, not one of {', '.join(self.allowed)}")
            if self.longest and len(found) > self.longest:
                raise ValueError(f"{self.field} has {len(found)} characters; the column takes {self.longest}")
        if self.kind == "integer" and isinstance(found, int) and not -(2**63) <= found < 2**63:
            raise ValueError(f"{self.field} is too large for a BIGINT")
        return float(found) if self.kind == "number" and isinstance(found, (int, float)) else found


@dataclass(frozen=True)
class Shape:
    """What an answer has to be, and the columns that it fills. Can be pickled."""

    columns: tuple[OutputColumn, ...]
    response_format: JSONObject | None = None
    """What is asked for; None for plain text."""
    model: type[BaseModel] | None = field(default=None)
    """Checks answers further."""

    @classmethod
    def of(cls, given: ShapeLike) -> Shape:
        """A shape from a Pydantic class, a JSON schema, labels, or None for plain text.

        Raises
        ------
        TogetherAIInputError
            It is none of them, or a schema without properties.
        """
        if given is None:
            return cls((OutputColumn(TEXT_COLUMN, "", "string", longest=0),))
        if isinstance(given, type) and issubclass(given, BaseModel):
            wanted = response_format(given)
            return cls(_columns(wanted["json_schema"]["schema"]), wanted, given)
        if isinstance(given, Mapping):
            if not isinstance(given.get("properties"), Mapping) or not given["properties"]:
                raise TogetherAIInputError(
                    "The schema has no properties, so there would be no columns for the answers."
                )
            schema = {"title": "answer", **given}
            return cls(_columns(schema), response_format(schema))
        if (
            isinstance(given, Sequence)
            and not isinstance(given, str)
            and given
            and all(isinstance(label, str) and label for label in given)
        ):
            return cls.of(
                {
                    "title": "label",
                    "type": "object",
                    "properties": {LABEL_COLUMN.lower(): {"type": "string", "enum": list(given)}},
                    "required": [LABEL_COLUMN.lower()],
                }
            )
        raise TogetherAIInputError(
            f"shape is {given!r:.80}; it must be a Pydantic class, a JSON schema, a list of labels, or None."
        )

    def read(self, text: str) -> tuple[object, ...]:
        """The values of an answer, in the order of the columns.

        Raises
        ------
        ValueError
            The answer has not the shape; the message says why.
        """
        if self.response_format is None:
            return (text,)
        try:
            found: object = orjson.loads(_bare(text))
        except orjson.JSONDecodeError:
            raise ValueError(f"the answer is no JSON: {text[:200]!r}") from None
        if not isinstance(found, dict):
            raise ValueError(f"the answer is no JSON object: {text[:200]!r}")
        if self.model is not None:
            try:
                found = self.model.model_validate(found).model_dump(mode="json")
            except ValidationError as exc:
                first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
                raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'the answer'}: {first['msg']}") from None
        return tuple(column.value(found.get(column.field)) for column in self.columns)


def _bare(text: str) -> str:
    """An answer without the fence of a code block."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```"):
        return text[3:-3].partition("\n")[2]
    return text


def _columns(schema: JSONObject) -> tuple[OutputColumn, ...]:
    required = schema.get("required", ())
    defined = schema.get("$defs", {})
    return tuple(
        _column(name, _resolved(part, defined), name in required) for name, part in schema["properties"].items()
    )


def _resolved(part: JSONObject, defined: JSONObject) -> JSONObject:
    """A property without references; nullable ones say so."""
    if isinstance(reference := part.get("$ref"), str):
        return {**defined.get(reference.rpartition("/")[2], {}), "nullable": part.get("nullable", False)}
    options = part.get("anyOf")
    if isinstance(options, list):
        rest = [one for one in options if one.get("type") != "null"]
        if len(rest) == 1:
            return {**_resolved(rest[0], defined), "nullable": len(rest) < len(options)}
    return part


def _column(name: str, part: JSONObject, required: bool) -> OutputColumn:
    kind, allowed = part.get("type"), part.get("enum", (part["const"],) if "const" in part else ())
    nullable = bool(part.get("nullable")) or not required
    if isinstance(kind, list):
        nullable = nullable or "null" in kind
        rest = [one for one in kind if one != "null"]
        kind = rest[0] if len(rest) == 1 else None
    if allowed and all(isinstance(one, str) for one in allowed):
        longest = max(map(len, allowed))
        return OutputColumn(name.upper(), name, "string", max(1, longest), tuple(allowed), nullable)
    if kind == "string":
        longest = part.get("maxLength", LONGEST_TEXT)
        return OutputColumn(name.upper(), name, kind, longest if longest <= LONGEST_TEXT else 0, (), nullable)
    known = kind if kind in ("integer", "number", "boolean") else "json"
    return OutputColumn(name.upper(), name, known, nullable=nullable)
