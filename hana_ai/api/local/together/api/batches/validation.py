"""Reads a batch's file: every line is checked once, and is found again by its place, not kept.

The rules are those of Together's page on batches: an object a line, with a `body` and a `custom_id` of at most 64
characters that no other line has; at most 50,000 lines and 100 MB.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

import orjson

from ...refusal import Refusal
from ...requests import JSONObject
from .records import BatchDials

Known: TypeAlias = Callable[[str, str], None]
"""Raises `Refusal` for a model that does not answer at an endpoint."""

_LONGEST_ID = 64


class InvalidInputError(ValueError):
    """A file that is no batch."""


@dataclass
class Plan:
    """The requests of a file.

    Attributes
    ----------
    ids
        Their `custom_id`, in the order of the lines.
    starts
        Where in the file the line of each begins, in bytes.
    """

    model: str = ""
    ids: list[str] = field(default_factory=list)
    starts: array[int] = field(default_factory=lambda: array("Q"))

    def body(self, file: BinaryIO, index: int) -> JSONObject:
        """The body of a request."""
        file.seek(self.starts[index])
        body: JSONObject = orjson.loads(file.readline())["body"]
        return body


def read_plan(path: Path, endpoint: str, model: str, known: Known, dials: BatchDials) -> Plan:
    """Check a file.

    Parameters
    ----------
    model
        For lines that name none.

    Raises
    ------
    InvalidInputError
        With the first thing that is wrong, and its line.
    """
    if path.stat().st_size > dials.most_bytes:
        raise InvalidInputError(f"The file has more than {dials.most_bytes} bytes.")
    plan = Plan(model)
    seen: set[str] = set()
    models: set[str] = set()
    start = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                if len(plan.ids) == dials.most_requests:
                    raise InvalidInputError(f"The file has more than {dials.most_requests} requests.")
                id, named = _request(line, number)
                if id in seen:
                    raise InvalidInputError(f"Line {number}: custom_id {id!r} is not unique.")
                seen.add(id)
                if not (named or model):
                    raise InvalidInputError(f"Line {number}: body.model is missing.")
                models.add(named or model)
                plan.model = plan.model or named
                plan.ids.append(id)
                plan.starts.append(start)
            start += len(line)
    if not plan.ids:
        raise InvalidInputError("The file has no requests.")
    for name in sorted(models):
        try:
            known(name, endpoint)
        except Refusal as exc:
            raise InvalidInputError(exc.message) from exc
    return plan


def _request(line: bytes, number: int) -> tuple[str, str]:
    """The `custom_id` and the model of a line; no model is an empty one."""
    try:
        request: object = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        raise InvalidInputError(f"Line {number} is not JSON: {exc}") from exc
    if not isinstance(request, dict):
        raise InvalidInputError(f"Line {number} must be a JSON object.")
    id, body = request.get("custom_id"), request.get("body")
    if not isinstance(id, str) or not 1 <= len(id) <= _LONGEST_ID:
        raise InvalidInputError(f"Line {number}: custom_id must be a string of 1 to {_LONGEST_ID} characters.")
    if not isinstance(body, dict):
        raise InvalidInputError(f"Line {number}: body must be a JSON object.")
    model = body.get("model", "")
    if not isinstance(model, str):
        raise InvalidInputError(f"Line {number}: body.model must be a string.")
    return id, model
