"""The recorded streams of Together's API (tests/fixtures/together-recordings)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

_FOLDER = Path(__file__).parent / "fixtures" / "together-recordings"


def recording(name: str) -> dict[str, Any]:
    """A recording, `text` or `tool-call`: its request and its response."""
    loaded: dict[str, Any] = orjson.loads((_FOLDER / f"togetherai-streams-{name}.json").read_bytes())
    return loaded


def recorded_chunks(name: str) -> list[dict[str, Any]]:
    """The chunks of a recorded stream, without `[DONE]`."""
    events = recording(name)["response"]["body"].split("\n\n")
    return [orjson.loads(event.removeprefix("data: ")) for event in events if event and "[DONE]" not in event]
