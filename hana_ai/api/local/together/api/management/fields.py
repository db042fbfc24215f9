"""Reading the bodies and queries of the management API."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from starlette.requests import Request

from ...refusal import Refusal
from ...requests import JSONObject, decode
from .records import SLUG, Record

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?\Z")
_NAME_FILTER = re.compile(r'\s*name\s*(=|:)\s*"([^"]*)"\s*\Z')


async def body_of(request: Request) -> JSONObject:
    """The JSON body; an empty one is no fields."""
    raw = await request.body()
    if not raw:
        return {}
    return decode(raw)


def text(fields: JSONObject, name: str, default: str | None = None) -> str:
    """A text field; 400 when it is missing and has no default, or is no text."""
    value = fields.get(name, default)
    if not isinstance(value, str) or (default is None and not value):
        raise Refusal(400, f"{name} is required and must be a string.", param=name)
    return value


def name_of(fields: JSONObject, *, parents: str = SLUG) -> str:
    """A bare name, given bare or behind the project's slug; 400 for anything else."""
    name = text(fields, "name").removeprefix(f"{parents}/")
    if not _NAME.match(name):
        raise Refusal(
            400, f"name must be letters, digits, dots, dashes and underscores, not {name!r}.", param="name"
        )
    return name


def whole(fields: JSONObject, name: str, default: int) -> int:
    """A whole number of at least 0."""
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Refusal(400, f"{name} must be a whole number of at least 0, not {value!r}.", param=name)
    return value


def weight(value: object) -> float:
    """A weight of a traffic split."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise Refusal(400, f"weight must be finite and not negative, not {value!r}.", param="trafficSplit")
    return float(value)


def check_etag(record: Record, given: object) -> None:
    """409 when an etag is given and is not the record's own."""
    if given and given != record.etag:
        raise Refusal(
            409,
            f"{record.id} was changed by somebody else: its etag is no longer {given}.",
            code="etag_mismatch",
            # As the API says of errors that the same request can't overcome.
            headers={"x-should-retry": "false"},
        )


def conflict(what: str) -> Refusal:
    """409 for a name that is taken."""
    return Refusal(409, f"{what} already exists.", code="already_exists", headers={"x-should-retry": "false"})


def precondition(message: str) -> Refusal:
    """400 for something that has to be done first."""
    return Refusal(400, message, code="failed_precondition")


def matches_name(query: Mapping[str, str], bare: str) -> bool:
    """Whether a name passes the `filter` of a list; only filters on the name are understood."""
    expression = query.get("filter")
    if not expression:
        return True
    found = _NAME_FILTER.match(expression)
    if found is None:
        raise Refusal(400, f"filter is not understood here: {expression!r}.", param="filter")
    operator, wanted = found.groups()
    wanted = wanted.rpartition("/")[2]
    return wanted == bare if operator == "=" else wanted in bare


def mask_of(request: Request, fields: JSONObject) -> set[str]:
    """The fields to update: those of the mask, else those that the body fills; 400 when there are none."""
    given = request.query_params.get("updateMask")
    if given:
        return {name.strip() for name in given.split(",")}
    filled = {name for name, value in fields.items() if name != "etag" and value not in (None, [], "")}
    if not filled:
        raise Refusal(400, "There are no fields to update.", code="invalid_argument")
    return filled
