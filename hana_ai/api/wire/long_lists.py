"""Decoding a reply whose `data` is a long list, a part of the list at a time.

A reply of many vectors has megabytes. A part of it stays in the processor's cache until its numbers have become
what they are kept as. And orjson allocates twelve bytes for each byte of JSON: those of a part are used again,
those of a whole reply may be mapped anew in each call, at the cost of a page fault for each 4 KB.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import orjson

DecodePart: TypeAlias = Callable[[bytes], list[Any]]
"""Decodes entries, given their list as JSON; raises a ValueError if it is none."""

PART = 256 * 1024
"""Bytes in a part, about."""

_LIST = re.compile(rb'"data"\s*:\s*\[')
_HEAD = 1024
"""Bytes before the list, at most."""


def decoded(data: bytes, decode_part: DecodePart = orjson.loads) -> dict[str, Any] | None:
    """Decode an object by the parts of its `data`.

    None if it cannot be done, or not in this way: where each part is a list in JSON, so are all together, and what
    is around them is the object.
    """
    found = _LIST.search(data, 0, _HEAD)
    end = data.rfind(b"}]") + 1
    if found is None or end <= found.end():
        return None
    head, tail = data[: found.end()], data[end:]
    if b"\\" in head or head.count(b'"') % 2 or head.count(b"{") != 1 or b'"data"' in tail:
        # The brackets may stand in a text, or belong to something else.
        return None
    entries: list[Any] = []
    try:
        value = orjson.loads(head + tail)
        for part in _parts(data, found.end(), end):
            entries += decode_part(part)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.get("data") != []:
        return None
    value["data"] = entries
    return value


def _parts(data: bytes, begin: int, end: int) -> Iterator[bytes]:
    view = memoryview(data)
    while begin < end:
        cut = data.find(b"},{", begin + PART, end)
        to = end if cut < 0 else cut + 1
        yield b"".join((b"[", view[begin:to], b"]"))
        begin = to + 1
