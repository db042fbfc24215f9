"""What the product believes of Together's catalogue, account and hardware."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.openapi import check_response

from .report import shape
from .together_world import TogetherWorld

Saw = Callable[[str, Any], None]
_LISTED = "/v1/models"
_SUPPORTED = "/v2/supported-models"


def test_the_list_of_models_is_as_documented(together_world: TogetherWorld, saw: Saw) -> None:
    answer = together_world.send("GET", _LISTED)
    assert answer.status == 200, answer.body
    check_response(_LISTED, answer.body)
    saw("GET /v1/models, fields of every entry", sorted(set.intersection(*map(set, answer.body))))
    assert {"id", "type"} <= set.intersection(*map(set, answer.body))


def test_the_supported_models_have_names_capabilities_and_prices(together_world: TogetherWorld, saw: Saw) -> None:
    answer = together_world.send("GET", _SUPPORTED, limit="500")
    assert answer.status == 200, answer.body
    saw("GET /v2/supported-models, shape of the page", sorted(answer.body))
    entries = answer.body["data"]
    saw("GET /v2/supported-models, fields of every entry", sorted(set.intersection(*map(set, entries))))
    serverless = [entry for entry in entries if entry.get("serverlessEndpoint")]
    assert serverless
    assert all(entry["name"] and entry["capabilities"] for entry in entries)
    priced = next(entry for entry in serverless if entry.get("pricing"))
    saw("GET /v2/supported-models, shape of pricing", {"input": shape(priced["pricing"]["input"])})
    saw("GET /v2/supported-models, shape of contextLength", shape(priced.get("contextLength")))


def test_pages_follow_their_cursor(together_world: TogetherWorld, saw: Saw) -> None:
    first = together_world.send("GET", _SUPPORTED, limit="1").body
    assert len(first["data"]) == 1
    second = together_world.send("GET", _SUPPORTED, limit="1", after=first["next_cursor"]).body
    assert second["data"][0]["id"] != first["data"][0]["id"]
    refused = together_world.send("GET", _SUPPORTED, limit="0")
    saw("GET /v2/supported-models, status of a limit of 0", refused.status)
    assert refused.status in (400, 422)


def test_one_model_is_found_by_its_id(together_world: TogetherWorld, saw: Saw) -> None:
    entry = together_world.send("GET", _SUPPORTED, limit="1").body["data"][0]
    answer = together_world.send("GET", f"{_SUPPORTED}/{entry['id']}")
    assert answer.status == 200, answer.body
    assert answer.body["id"] == entry["id"]
    missing = together_world.send("GET", f"{_SUPPORTED}/ml_nobody")
    saw("GET /v2/supported-models/{id}, status of a missing one", missing.status)
    assert missing.status == 404


def test_the_product_reads_kinds_contexts_and_prices(together_world: TogetherWorld) -> None:
    assert together_world.models["chat"].context_length
    assert "chat" in together_world.models["chat"].kinds
    prices = [model.input_price for model in together_world.models.values()]
    assert all(isinstance(price, Decimal) for price in prices)


def test_the_key_knows_its_owner(together_world: TogetherWorld, saw: Saw) -> None:
    answer = together_world.send("GET", "/v3/whoami")
    assert answer.status == 200, answer.body
    saw("GET /v3/whoami, shape", shape(answer.body))
    assert answer.body["organization"]["id"]


def test_hardware_has_a_price_by_the_hour(together_world: TogetherWorld, saw: Saw) -> None:
    answer = together_world.send("GET", "/v2/public/inference-instance-types")
    assert answer.status == 200, answer.body
    saw("instance types, fields of every entry", sorted(set.intersection(*map(set, answer.body["data"]))))
    for entry in answer.body["data"]:
        assert entry["name"]
        assert int(entry["priceCentsPerHour"]) > 0
