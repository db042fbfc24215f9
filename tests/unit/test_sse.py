"""Server-sent events come out the same, however the network cuts their bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.wire.sse import ServerSentEvent, SSEDecoder

_LINE = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00"), max_size=20)
_EVENTS = st.lists(
    st.tuples(st.lists(_LINE, min_size=1, max_size=3), st.text("abc", max_size=3), st.booleans()), max_size=6
)


def _encode(events: list[tuple[list[str], str, bool]], end: str) -> bytes:
    text = ""
    for lines, name, comment in events:
        if comment:
            text += f": keep-alive{end}"
        if name:
            text += f"event: {name}{end}"
        text += "".join(f"data: {line}{end}" for line in lines) + end
    return text.encode()


@given(_EVENTS, st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(1, 9), min_size=1), st.booleans())
def test_events_do_not_depend_on_where_their_bytes_are_cut(
    events: list[tuple[list[str], str, bool]], end: str, cuts: list[int], mark: bool
) -> None:
    expected = [ServerSentEvent("\n".join(lines).encode(), name) for lines, name, _ in events]
    data = (b"\xef\xbb\xbf" if mark else b"") + _encode(events, end)
    decoder = SSEDecoder()
    found: list[ServerSentEvent] = []
    position = turn = 0
    while position < len(data):
        size = cuts[turn % len(cuts)]
        found += decoder.feed(data[position : position + size])
        position, turn = position + size, turn + 1
    assert found == expected
    assert SSEDecoder().feed(data) == expected


def test_several_data_lines_are_one_event() -> None:
    assert SSEDecoder().feed(b"data: a\ndata\ndata:b\n\n") == [ServerSentEvent(b"a\n\nb")]


def test_an_event_without_data_and_a_cut_off_one_are_dropped() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"event: ping\n\nid: 7\nretry: 10\n\ndata: cut off") == []
    assert decoder.feed(b"") == []


def test_an_event_name_does_not_stick_to_the_next_event() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"event: ping\n\ndata: x\n\n") == [ServerSentEvent(b"x", "")]


@pytest.mark.parametrize("data", [b"data: " + b"x" * 50, b"data: " + b"x" * 50 + b"\n\n", b"data: 1234567\n" * 9])
def test_an_event_beyond_the_bound_is_refused_while_it_is_read(data: bytes) -> None:
    decoder = SSEDecoder(max_event_bytes=40)
    with pytest.raises(ValueError, match="larger than 40 bytes"):
        for position in range(0, len(data), 10):
            decoder.feed(data[position : position + 10])
    with pytest.raises(ValueError, match="larger than 40 bytes"):
        SSEDecoder(max_event_bytes=40).feed(data)
