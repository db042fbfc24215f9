"""Answers in JSON."""

from __future__ import annotations

import orjson
from starlette.responses import Response


def reply(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer; numpy arrays are written as they are."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, media_type="application/json")
