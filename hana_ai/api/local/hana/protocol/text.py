"""Texts on the wire: CESU-8, which is UTF-8 with each half of a surrogate pair encoded by itself.

hdbcli sends CESU-8 and takes nothing else for characters beyond U+FFFF in an NVARCHAR. Python has no such codec;
its `surrogatepass` handler is called once for each half and takes seconds for a text of a few megabytes of emoji.
"""

from __future__ import annotations

import re

import numpy as np

_BEYOND_BMP = re.compile("[\U00010000-\U0010ffff]")
_SURROGATE_LEAD = 0xED
"""First of the three bytes of a surrogate; in UTF-8 it is never a later byte of another character."""


def text_bytes(value: str) -> bytes:
    """Encode a text in CESU-8."""
    if value.isascii() or not _BEYOND_BMP.search(value):
        return value.encode()
    return cesu8(value.encode("utf-16-le"))


def cesu8(utf16: bytes) -> bytes:
    """Turn little-endian UTF-16 into CESU-8: one, two or three bytes for each unit."""
    units = np.frombuffer(utf16, "<u2")
    wide, widest = units >= 0x80, units >= 0x800
    ends = np.cumsum(1 + wide.astype(np.int64) + widest)
    encoded = np.empty(ends[-1] if len(ends) else 0, np.uint8)
    last = ends - 1
    encoded[last] = np.where(wide, 0x80 | units & 0x3F, units)
    two = wide & ~widest
    encoded[last[two] - 1] = 0xC0 | units[two] >> 6
    three = units[widest]
    encoded[last[widest] - 1] = 0x80 | three >> 6 & 0x3F
    encoded[last[widest] - 2] = 0xE0 | three >> 12
    return encoded.tobytes()


def text_or_bytes(data: bytes) -> str | bytes:
    """Decode UTF-8 or CESU-8; anything else is bytes that the client sent as a text type."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass  # Perhaps CESU-8.
    try:
        return _join_surrogates(data).decode()
    except UnicodeDecodeError:
        return data


def _join_surrogates(data: bytes) -> bytes:
    """Replace each surrogate pair of six bytes by the four bytes of its character in UTF-8."""
    raw = np.frombuffer(data, np.uint8)
    leads = np.flatnonzero(raw[:-5] == _SURROGATE_LEAD)
    six = np.stack([raw[leads + i] for i in range(6)]).astype(np.uint32)
    pair = (
        (six[1] & 0xF0 == 0xA0)
        & (six[2] & 0xC0 == 0x80)
        & (six[3] == _SURROGATE_LEAD)
        & (six[4] & 0xF0 == 0xB0)
        & (six[5] & 0xC0 == 0x80)
    )
    starts, six = leads[pair], six[:, pair]
    high = (six[1] & 0x0F) << 6 | six[2] & 0x3F
    low = (six[4] & 0x0F) << 6 | six[5] & 0x3F
    points = 0x10000 + (high << 10 | low)
    joined = raw.copy()
    joined[starts] = 0xF0 | points >> 18
    for i in range(1, 4):
        joined[starts + i] = 0x80 | points >> 6 * (3 - i) & 0x3F
    kept = np.ones(len(raw), np.bool_)
    kept[starts + 4] = kept[starts + 5] = False
    without_tails: bytes = joined[kept].tobytes()
    return without_tails
