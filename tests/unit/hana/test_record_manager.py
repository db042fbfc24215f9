"""The lists of keys that the statements of a record manager take."""

from __future__ import annotations

from itertools import chain

import pytest

from hana_ai.api.hana.ingest.record_manager import in_parts, marks


def test_statements_are_of_few_lengths_and_name_every_key() -> None:
    texts = set()
    for count in (0, 1, 2, 9, 10, 11, 99, 100, 101, 999, 1000, 1001, 1010, 2345):
        keys = [f"key {number}" for number in range(count)]
        parts = list(in_parts(keys))
        assert list(dict.fromkeys(chain.from_iterable(parts))) == keys, "only the last is there several times"
        assert len(parts) == -(-count // 1000)
        texts |= {marks(part) for part in parts}
    assert sorted(text.count("?") for text in texts) == [1, 10, 100, 1000]


@pytest.mark.parametrize("count", [1, 10, 100, 1000])
def test_a_list_of_such_a_length_stays_as_it_is(count: int) -> None:
    keys = list(range(count))
    assert list(in_parts(keys)) == [keys]
