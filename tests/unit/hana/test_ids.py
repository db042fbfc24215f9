"""The hashes by which an ingest knows its rows again. If one changed, each corpus would be embedded anew."""

from __future__ import annotations

import json
from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from hana_ai.api.hana.ingest.documents import TextDocument, chunk_id, fingerprint_of, place, place_of

_TEXTS = st.text(max_size=20) | st.sampled_from(["", "\ud800", "\U0001f600", "a" * 300])


def _hash(*parts: str) -> str:
    """As the module's docstring has it, written once more."""
    made = blake2b(digest_size=20)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        made.update(len(data).to_bytes(8, "little") + data)
    return made.hexdigest()


@given(_TEXTS, _TEXTS, _TEXTS)
def test_a_place_and_an_id_are_hashes_of_their_parts(one: str, two: str, three: str) -> None:
    assert place(one, two, three) == _hash(one, two, three)[:24]
    assert chunk_id(place(one, two), 12, two, three) == _hash(one, two, "")[:24] + _hash("12", two, three)[:24]


@given(_TEXTS, _TEXTS, st.none() | _TEXTS)
def test_a_fingerprint_is_of_content_metadata_and_recipe(text: str, recipe: str, name: str | None) -> None:
    metadata = json.dumps({"a": text, "b": 1})
    document = TextDocument("source", text, {"b": 1, "a": text}, name)
    assert fingerprint_of(document, recipe) == _hash(_hash(text, metadata), metadata, recipe)[:32]
    part = _hash(text, metadata) if name is None else name
    assert place_of("corpus", document) == _hash("corpus", "source", part)[:24]


def test_those_of_one_document() -> None:
    document = TextDocument("manual.md", "Grüße", {"page": 3}, "7")
    where = place_of("manuals", document)
    assert where == "658409caf89393395e3748fa"
    assert fingerprint_of(document, "model 400 40") == "6a0a131ac7bd2538c88a4bca2490f8ec"
    assert chunk_id(where, 0, "Grüße", "model") == where + "43e7f1120d1fb1f8a320d554"
