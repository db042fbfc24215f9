"""The client: one for each set of settings, answers that know their cost, objects that work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage

from hana_ai.api import TogetherAIClient, TogetherAISettings, get_together_ai_client
from hana_ai.api.errors import TogetherAIAuthenticationError, TogetherAINotEnabledError, TogetherAISettingsError
from hana_ai.api.local.together import Reply, ScriptedEngine, Usage
from tests.conftest import ScriptedTogether

SECOND = "/v2/supported-models"
BOTH = pytest.mark.parametrize("way", ["sync", "async"])


@pytest.fixture
def client(together_environment: ScriptedTogether, monkeypatch: pytest.MonkeyPatch) -> Iterator[TogetherAIClient]:
    monkeypatch.setenv("ENABLE_TOGETHER_AI", "true")
    with get_together_ai_client() as client:
        yield client


def _ask(client: TogetherAIClient, way: str, method: str, *args: Any, **kwargs: Any) -> Any:
    if way == "sync":
        return getattr(client, method)(*args, **kwargs)

    async def run() -> Any:
        return await getattr(client, f"a{method}")(*args, **kwargs)

    return asyncio.run(run())


def _price(engine: ScriptedEngine) -> None:
    names = [(ScriptedEngine.CHAT, "CHAT"), (ScriptedEngine.EMBEDDING, "EMBEDDING")]
    engine.on(
        SECOND,
        Reply(
            body={
                "data": [
                    {
                        "id": name,
                        "name": name,
                        "capabilities": [f"CAPABILITY_{kind}"],
                        "pricing": {"input": 1.0, "cachedInput": 0.25, "output": 4.0},
                    }
                    for name, kind in names
                ]
            }
        ),
    )


def test_the_clients_embeddings_have_its_settings_prefixes(together: ScriptedTogether) -> None:
    settings = TogetherAISettings(
        together_base_url=together.base_url,
        together_api_key=together.api_key,
        together_embedding_query_prefix="query: ",
    )
    client = TogetherAIClient(settings)
    assert client.embeddings().query_prefix == "query: "
    assert client.embeddings(query_prefix="").query_prefix == ""


def test_the_same_settings_have_the_same_client(client: TogetherAIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_together_ai_client() is client
    monkeypatch.setenv("TOGETHER_TIMEOUT", "7")
    assert get_together_ai_client() is not client


def test_a_client_that_was_closed_works_again(client: TogetherAIClient) -> None:
    client.close()
    assert str(get_together_ai_client().generate_chat_completion("still there")) == "still there"


def test_not_enabled_is_said_with_what_to_set() -> None:
    with pytest.raises(TogetherAINotEnabledError, match=r"ENABLE_TOGETHER_AI=true.*TOGETHER_API_KEY"):
        get_together_ai_client()


def test_a_client_of_ones_own_settings_needs_only_a_key(together: ScriptedTogether) -> None:
    with pytest.raises(TogetherAISettingsError, match="TOGETHER_API_KEY"):
        TogetherAIClient()
    settings = TogetherAISettings(together_base_url=together.base_url, together_api_key=str(together.api_key))
    with TogetherAIClient(settings) as client:
        assert str(client.generate_chat_completion("hello")) == "hello"
    assert str(together.api_key) not in repr(client)


@BOTH
@pytest.mark.parametrize(
    "messages",
    [
        "the question",
        [SystemMessage("Be short."), HumanMessage("the question")],
        [("system", "Be short."), ("user", "the question")],
        [{"role": "user", "content": "the question"}],
    ],
)
def test_a_chat_is_answered_with_its_cost(
    client: TogetherAIClient, engine: ScriptedEngine, way: str, messages: Any
) -> None:
    _price(engine)
    engine.reply(Reply(text="answer", usage=Usage(100, 10, cached_tokens=40)))
    answer = _ask(client, way, "generate_chat_completion", messages, temperature=0)
    assert str(answer) == answer.text == "answer"
    assert answer.model == ScriptedEngine.CHAT
    assert answer.finish_reason == "stop"
    assert answer.usage["input_tokens"] == 100
    assert answer.cost_usd == Decimal("0.00011")  # 60 x 1.00 + 40 x 0.25 + 10 x 4.00 USD per million
    assert answer.latency_ms > 0
    assert answer.raw["choices"][0]["message"]["content"] == "answer"
    sent = [request.body for request in engine.requests if request.path == "/v1/chat/completions"]
    assert sent[0]["temperature"] == 0


@BOTH
def test_a_text_is_continued(client: TogetherAIClient, engine: ScriptedEngine, way: str) -> None:
    _price(engine)
    engine.reply(Reply(text=" and so on"))
    answer = _ask(client, way, "generate_completion", "One, two", max_tokens=5, stop="!")
    assert str(answer) == " and so on"
    assert answer.cost_usd is not None
    sent = [request.body for request in engine.requests if request.path == "/v1/completions"]
    assert (sent[0]["prompt"], sent[0]["max_tokens"], sent[0]["stop"]) == ("One, two", 5, ["!"])


@BOTH
def test_texts_are_embedded_in_their_order(client: TogetherAIClient, engine: ScriptedEngine, way: str) -> None:
    _price(engine)
    result = _ask(client, way, "generate_embeddings", ["one", "two", "three"])
    assert len(result) == 3
    assert result.dimension == 256
    assert list(result)[1] == result[1] == client.embeddings().embed_documents(["two"])[0]
    assert result.cost_usd is not None and result.cost_usd > 0
    assert result.latency_ms > 0
    assert len(_ask(client, way, "generate_embeddings", "a single text")) == 1
    assert _ask(client, way, "generate_embeddings", []).dimension == 0


@BOTH
def test_an_unknown_price_is_none(client: TogetherAIClient, engine: ScriptedEngine, way: str) -> None:
    engine.on(SECOND, Reply(status=404))
    engine.on("/v1/models", Reply(status=404))
    answer = _ask(client, way, "generate_chat_completion", "hello", model=ScriptedEngine.CHAT)
    assert str(answer) == "hello"
    assert answer.cost_usd is None


@BOTH
def test_models_can_be_listed(client: TogetherAIClient, way: str) -> None:
    assert {model.id for model in _ask(client, way, "get_available_models")} >= {
        ScriptedEngine.CHAT,
        ScriptedEngine.EMBEDDING,
    }
    assert [model.id for model in _ask(client, way, "get_available_models", "rerank")] == [ScriptedEngine.RERANK]


@BOTH
def test_errors_come_through(together: ScriptedTogether, way: str) -> None:
    client = TogetherAIClient(
        TogetherAISettings(
            together_base_url=together.base_url, together_api_key="wrong", together_default_model="m"
        )
    )
    with pytest.raises(TogetherAIAuthenticationError):
        _ask(client, way, "generate_chat_completion", "hello")


def test_objects_share_the_settings_and_the_connections(
    client: TogetherAIClient, together: ScriptedTogether
) -> None:
    chat = client.chat_model(temperature=0.5, timeout=9)
    assert (chat.temperature, chat.timeout) == (0.5, 9)
    assert chat.invoke("hello").text == "hello"
    assert client.llm().invoke("hello")
    assert len(client.embeddings(chunk_size=7).embed_query("x")) == 256
    assert client.embeddings(chunk_size=7).batch_size == 7
    assert client.reranker().predict([("a", "a b"), ("a", "c")])[0] > 0
    assert together.statistics.connections == 1


async def test_a_client_closes_its_connections_from_a_coroutine(client: TogetherAIClient) -> None:
    async with client:
        assert str(await client.agenerate_chat_completion("hello")) == "hello"
    assert client.transport.closed is False  # a fresh one
