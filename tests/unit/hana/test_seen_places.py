"""What a run remembers of the documents that it has met."""

from __future__ import annotations

from hana_ai.api.hana.ingest.documents import place
from hana_ai.api.hana.ingest.seen_places import SeenPlaces


def test_what_was_added_is_known_and_hardly_anything_else() -> None:
    seen = SeenPlaces()
    places = [place("corpus", f"file-{number}.txt") for number in range(50_000)]
    assert len(seen.add(places)) <= 2
    assert seen.add(places) == places
    others = [place("another corpus", f"file-{number}.txt") for number in range(50_000)]
    assert len(seen.add(others)) <= 5
    assert seen.add([*others[:2], place("a third", "file.txt")]) == others[:2]
