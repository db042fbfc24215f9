"""The rules of the scripted engine: examples of schemas, hashed vectors; and the pages of the catalogue."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from hana_ai.api.local.together.api.catalog import supported_page
from hana_ai.api.local.together.engine import LocalModel
from hana_ai.api.local.together.engines.hashing import hashed_json, hashed_vectors, word_overlap
from hana_ai.api.local.together.refusal import Refusal
from hana_ai.api.local.together.scripted.schemas import example

scalars = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "minLength": 3, "maxLength": 5},
        {"type": "string", "enum": ["red", "blue"]},
        {"type": "integer"},
        {"type": "integer", "minimum": 5},
        {"type": "number", "maximum": -1},
        {"type": "boolean"},
        {"type": "null"},
        {"const": 4},
        {"type": ["string", "null"]},
    ]
)
schemas = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items, "minItems": 1}, inner),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(
            lambda properties: {"type": "object", "properties": properties, "required": list(properties)},
            st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(schemas, st.text())
def test_an_example_fits_its_schema(schema: dict[str, Any], hint: str) -> None:
    Draft202012Validator(schema).validate(example(schema, hint=hint))


def test_numbers_come_from_the_hint_in_their_order() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "number"}}}
    assert example(schema, hint="What is 17 plus -2.5?") == {"a": 17, "b": -2.5}


def test_an_enum_takes_the_value_that_the_hint_names() -> None:
    assert example({"enum": ["red", "blue"]}, hint="a BLUE car") == "blue"


def test_references_and_all_of_are_followed() -> None:
    schema = {
        "$defs": {"City": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
        "type": "object",
        "properties": {"city": {"allOf": [{"$ref": "#/$defs/City"}]}},
        "required": ["city"],
    }
    assert example(schema, hint="Paris") == {"city": {"name": "Paris"}}


def test_a_recursive_schema_ends() -> None:
    node: dict[str, Any] = {
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                },
                "required": ["next"],
            }
        },
        "$ref": "#/$defs/Node",
    }
    Draft202012Validator(node).validate(example(node, hint=""))


@settings(deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=20, unique=True), st.sampled_from([1, 4, 16, 256]))
def test_hashed_vectors_have_length_one_and_depend_on_the_text_alone(texts: list[str], dimensions: int) -> None:
    vectors = hashed_vectors(texts, dimensions)
    assert vectors.shape == (len(texts), dimensions)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors[::-1], hashed_vectors(texts[::-1], dimensions), atol=1e-7)
    if dimensions >= 4:
        assert len({vector.tobytes() for vector in vectors}) == len(texts)
    written = [orjson.loads(vector) for vector in hashed_json(texts, dimensions)]
    assert np.allclose(written, vectors, atol=1e-7)


def test_word_overlap_is_the_share_of_the_query_s_words() -> None:
    assert word_overlap("red shoes", "Shoes, red ones") == 1
    assert word_overlap("red shoes", "blue shoes") == 0.5
    assert word_overlap("", "anything") == 0


MODELS = [LocalModel(f"local/m{number}", serverless=number % 2 == 0) for number in range(7)]


@given(st.integers(1, 10))
def test_pages_follow_each_other_until_all_models_are_seen(limit: int) -> None:
    seen: list[Any] = []
    query = {"limit": str(limit)}
    while True:
        page: Any = supported_page(MODELS, query)
        assert len(page["data"]) <= limit
        seen += [entry["name"] for entry in page["data"]]
        if not page["next_cursor"]:
            break
        query["after"] = page["next_cursor"]
    assert seen == [model.id for model in MODELS]


def test_the_catalogue_can_be_filtered() -> None:
    def names(**query: str) -> list[Any]:
        page: Any = supported_page(MODELS, query)
        return [entry["name"] for entry in page["data"]]

    assert names(product="PRODUCT_DEDICATED") == ["local/m1", "local/m3", "local/m5"]
    assert names(search="M3") == ["local/m3"]
    assert names(modality="MODALITY_IMAGE") == []
    assert names(adapterMode="ADAPTER_MODE_DYNAMIC") == []


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "x"}, {"after": "%%"}, {"product": "PRODUCT_FREE"}])
def test_a_filter_that_makes_no_sense_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(Refusal) as caught:
        supported_page(MODELS, query)
    assert caught.value.status == 400
    assert caught.value.param in query


def test_prices_are_listed_for_serverless_models_only() -> None:
    page: Any = supported_page([LocalModel("a", price_cached_input=0.5), LocalModel("b", serverless=False)], {})
    assert page["data"][0]["pricing"] == {"input": 0.0, "output": 0.0, "cachedInput": 0.5}
    assert "pricing" not in page["data"][1]
    assert page["data"][0]["contextLength"] == "2048"
