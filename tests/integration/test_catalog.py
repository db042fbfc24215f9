"""The catalogue: read from either list, kept for its lifetime, honest about what it does not know."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from hana_ai.api.catalog.catalog import Catalog
from hana_ai.api.catalog.model_info import ModelInfo, read_model
from hana_ai.api.errors import TogetherAIAuthenticationError, TogetherAIServerError, TogetherAISettingsError
from hana_ai.api.local.together import LocalModel, Reply, ScriptedEngine
from hana_ai.api.service import catalog_for
from hana_ai.api.settings import TogetherAISettings
from hana_ai.api.transport.transport import Transport
from hana_ai.api.wire.token_counts import Tokens
from tests.conftest import ScriptedTogether, export

SECOND = "/v2/supported-models"
FIRST = "/v1/models"


@pytest.fixture
def transport(together: ScriptedTogether) -> Iterator[Transport]:
    transport = Transport(base_url=together.base_url, api_key=SecretStr(str(together.api_key)))
    yield transport
    transport.close()


def _read(catalog: Catalog, way: str, **options: Any) -> Any:
    return catalog.models(**options) if way == "sync" else asyncio.run(catalog.amodels(**options))


BOTH = pytest.mark.parametrize("way", ["sync", "async"])


def _entry(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"catalogue/{name}", "name": name, "capabilities": ["CAPABILITY_CHAT"], **fields}


@BOTH
def test_the_list_of_supported_models_is_read(transport: Transport, way: str) -> None:
    models = _read(Catalog(transport), way)
    assert models[ScriptedEngine.CHAT].kinds >= {"chat"}
    assert models[ScriptedEngine.CHAT].context_length == 8192
    assert models[ScriptedEngine.EMBEDDING].kinds >= {"embedding"}
    assert models[ScriptedEngine.RERANK].kinds >= {"rerank"}
    assert "TOOL_CALLING" in models[ScriptedEngine.CHAT].features


@BOTH
def test_where_there_is_no_such_list_the_older_one_is_read(
    transport: Transport, engine: ScriptedEngine, way: str
) -> None:
    engine.on(SECOND, Reply(status=404))
    models = _read(Catalog(transport), way)
    assert models[ScriptedEngine.CHAT].kinds == {"chat"}


@BOTH
def test_it_is_read_page_by_page(transport: Transport, engine: ScriptedEngine, way: str) -> None:
    pages = {None: (["a", "b"], "next"), "next": (["c"], "end"), "end": (["d"], None)}

    def page(request: Any) -> Reply:
        names, cursor = pages[request.query.get("after")]
        return Reply(body={"data": [_entry(name) for name in names], "next_cursor": cursor})

    engine.on(SECOND, page)
    assert list(_read(Catalog(transport), way)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("cursors", [[7], ["a", "b"]], ids=["a number", "in turns"])
@BOTH
def test_where_pages_are_named_again_the_older_list_is_read(
    transport: Transport, engine: ScriptedEngine, way: str, cursors: list[Any]
) -> None:
    asked = itertools.count()

    def page(request: Any) -> Reply:
        number = next(asked)
        return Reply(body={"data": [_entry(f"m{number}")], "next_cursor": cursors[number % len(cursors)]})

    engine.on(SECOND, page)
    models = _read(Catalog(transport), way)
    assert ScriptedEngine.CHAT in models
    assert "m0" not in models
    assert next(asked) == len(cursors) + 1


@BOTH
def test_it_is_kept_for_its_lifetime(transport: Transport, engine: ScriptedEngine, way: str) -> None:
    catalog = Catalog(transport, lifetime=3600)
    assert catalog.cached is None
    _read(catalog, way)
    _read(catalog, way)
    assert len(engine.requests) == 1
    _read(catalog, way, refresh=True)
    assert len(engine.requests) == 2
    stale = Catalog(transport, lifetime=0)
    _read(stale, way)
    _read(stale, way)
    assert len(engine.requests) == 4


@BOTH
def test_a_bad_key_is_said_at_once(together: ScriptedTogether, way: str) -> None:
    transport = Transport(base_url=together.base_url, api_key=SecretStr("wrong"))
    with pytest.raises(TogetherAIAuthenticationError):
        _read(Catalog(transport), way)
    assert len(together.engine.requests) == 1
    transport.close()


@BOTH
def test_when_neither_list_can_be_read_the_error_is_the_last_ones(
    transport: Transport, engine: ScriptedEngine, way: str
) -> None:
    for path in (SECOND, FIRST):
        engine.on(path, Reply(status=500, headers={"x-should-retry": "false"}))
    with pytest.raises(TogetherAIServerError):
        _read(Catalog(transport), way)


@BOTH
def test_a_recommended_model_is_the_default(transport: Transport, engine: ScriptedEngine, way: str) -> None:
    engine.on(
        SECOND,
        Reply(
            body={
                "data": [
                    _entry("old", status="SUPPORTED_MODEL_STATUS_DEPRECATED"),
                    _entry("hidden", status="SUPPORTED_MODEL_STATUS_HIDDEN"),
                    _entry("plain", status="SUPPORTED_MODEL_STATUS_SUPPORTED"),
                    _entry("good", status="SUPPORTED_MODEL_STATUS_RECOMMENDED", serverlessEndpoint="good-turbo"),
                ]
            }
        ),
    )
    catalog = Catalog(transport)
    pick = catalog.default if way == "sync" else lambda kind: asyncio.run(catalog.adefault(kind))
    assert pick("chat") == "good-turbo"
    assert pick("language") == "plain"
    with pytest.raises(TogetherAISettingsError, match="TOGETHER_DEFAULT_EMBEDDING_MODEL"):
        pick("embedding")


def test_an_entry_of_the_older_list_is_read() -> None:
    info = read_model(
        {
            "id": "org/model",
            "type": "chat",
            "display_name": "Model",
            "context_length": 131072,
            "pricing": {"input": 0.15, "cached_input": 0.03, "output": 0.6, "hourly": 0},
        }
    )
    assert (info.id, info.name, info.kinds, info.context_length) == ("org/model", "Model", {"chat"}, 131072)
    assert (info.input_price, info.cached_input_price, info.output_price) == (
        Decimal("0.15"),
        Decimal("0.03"),
        Decimal("0.6"),
    )


@pytest.mark.parametrize("value", [None, "", "soon", -1, "NaN", "Infinity", float("inf")])
def test_what_is_no_price_is_unknown_and_not_zero(value: Any) -> None:
    info = read_model({"id": "m", "pricing": {"input": value, "output": value}})
    assert (info.input_price, info.output_price) == (None, None)
    assert info.cost_of(Tokens(10, 10)) is None


@pytest.mark.parametrize("entry", [{}, {"id": None, "pricing": 5, "capabilities": "x", "contextLength": "many"}])
def test_an_entry_of_another_shape_is_unknown_and_no_error(entry: dict[str, Any]) -> None:
    info = read_model(entry)
    assert (info.id, info.context_length, info.kinds) == ("", None, frozenset())


_PRICE = st.decimals(0, 100, places=4)
_COUNT = st.integers(0, 10**9)


@given(_PRICE, st.none() | _PRICE, _PRICE, _COUNT, _COUNT, _COUNT)
def test_the_cost_is_that_of_decimal_arithmetic(
    price: Decimal, cached_price: Decimal | None, output: Decimal, fresh: int, cached: int, completion: int
) -> None:
    info = ModelInfo(
        "m", "m", frozenset(), input_price=price, cached_input_price=cached_price, output_price=output
    )
    by_hand = price * fresh + (price if cached_price is None else cached_price) * cached + output * completion
    cost = info.cost_of(Tokens(fresh + cached, completion, cached))
    assert cost is not None
    assert abs(cost - by_hand / 1_000_000) < Decimal("1e-12")


def test_an_embedding_needs_no_output_price() -> None:
    info = ModelInfo("m", "m", frozenset(), input_price=Decimal("0.02"))
    assert info.cost_of(Tokens(1_000_000, 0)) == Decimal("0.02")
    assert info.cost_of(Tokens(1_000_000, 1)) is None
    # A server that tells only the prompt's tokens: that is all there is, where nothing is generated.
    assert info.cost_of(Tokens(1_000_000)) is None
    assert replace(info, kinds=frozenset({"embedding"})).cost_of(Tokens(1_000_000)) == Decimal("0.02")
    assert replace(info, kinds=frozenset({"embedding", "chat"})).cost_of(Tokens(1_000_000)) is None


def test_a_profile_says_what_the_catalogue_says_and_no_more() -> None:
    info = read_model(
        _entry(
            "m",
            contextLength="4096",
            features=["FEATURE_STRUCTURED_OUTPUT"],
            inputModalities=["MODALITY_TEXT", "MODALITY_IMAGE"],
            status="SUPPORTED_MODEL_STATUS_DEPRECATED",
        )
    )
    profile = info.profile()
    assert profile["max_input_tokens"] == 4096
    assert (profile["reasoning_output"], profile["tool_calling"]) == (False, False)
    assert (profile["image_inputs"], profile["audio_inputs"]) == (True, False)
    assert profile["status"] == "deprecated"
    # Whatever the model can: agents would send a response format beside tools.
    assert profile["structured_output"] is False
    assert set(read_model({"id": "m"}).profile()) == {"name", "text_inputs", "text_outputs", "structured_output"}


# --- default models that retire ---


def _with_an_old_model() -> ScriptedEngine:
    return ScriptedEngine(
        models=[
            LocalModel("acme/old-chat", "chat", deprecated=True),
            LocalModel("acme/new-chat", "chat"),
            LocalModel("acme/embed-1", "embedding", dimensions=8),
        ]
    )


@pytest.mark.parametrize("first", ["object", "catalogue"])
def test_a_deprecated_default_is_warned_of_once_with_available_ones_of_its_kind(
    first: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from hana_ai.api import ChatTogetherAI

    with ScriptedTogether(_with_an_old_model()) as server:
        export(monkeypatch, server.environment())
        if first == "catalogue":
            catalog_for(server.base_url, SecretStr(str(server.api_key))).models()
        monkeypatch.setenv("TOGETHER_DEFAULT_MODEL", "acme/old-chat")
        ChatTogetherAI()
        if first == "object":
            # Making an object asks no server.
            assert not server.engine.requests
            assert caplog.text == ""
            catalog_for(server.base_url, SecretStr(str(server.api_key))).models()
        ChatTogetherAI()
        catalog_for(server.base_url, SecretStr(str(server.api_key))).models(refresh=True)
    assert caplog.text.count("TOGETHER_DEFAULT_MODEL=acme/old-chat is deprecated") == 1
    assert "Available chat models: acme/new-chat." in caplog.text


def test_a_default_that_is_not_in_the_catalogue_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from hana_ai.api import TogetherAIClient

    with ScriptedTogether(_with_an_old_model()) as server:
        settings = TogetherAISettings(
            together_base_url=server.base_url,
            together_api_key=server.api_key,
            together_default_model="acme/new-chat",
            together_default_embedding_model="acme/embed-0",
        )
        TogetherAIClient(settings).generate_chat_completion("Hello")
    assert "TOGETHER_DEFAULT_EMBEDDING_MODEL=acme/embed-0 is not in the catalogue" in caplog.text
    assert "Available embedding models: acme/embed-1." in caplog.text
    assert "TOGETHER_DEFAULT_MODEL=" not in caplog.text
