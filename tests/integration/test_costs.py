"""What a call took is the same wherever one asks: the client, LangChain's messages, the connector, the ledger."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hana_ai.api import ChatTogetherAI, TogetherAIClient, TogetherAIConnector, TogetherAIEmbeddings, get_ledger
from hana_ai.api.local.together import LocalModel, Reply, ScriptedEngine
from hana_ai.api.wire.token_counts import read_tokens
from tests.conftest import ScriptedTogether, export

CHAT, EMBEDDING = "priced/chat", "priced/embedding"
MODELS = (
    LocalModel(CHAT, "chat", 8192, price_input=1.0, price_output=10.0, price_cached_input=0.1),
    LocalModel(EMBEDDING, "embedding", 8192, dimensions=4, price_input=2.0),
)
COUNTS = st.none() | st.integers(0, 10_000)
DETAILS = st.none() | st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens"]), st.integers(0, 100))
USAGES = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": COUNTS,
        "completion_tokens": COUNTS,
        "total_tokens": COUNTS,
        "cached_tokens": COUNTS,
        "prompt_tokens_details": DETAILS,
        "completion_tokens_details": DETAILS,
    },
)


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedTogether]:
    with ScriptedTogether(ScriptedEngine(models=MODELS)) as server:
        server.check_answers = False
        yield server


@pytest.fixture
def environment(server: ScriptedTogether, monkeypatch: pytest.MonkeyPatch) -> ScriptedTogether:
    export(monkeypatch, server.environment())
    return server


def answer(usage: Any) -> Reply:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Yes."}}
    return Reply(body={"id": "1", "object": "chat.completion", "model": CHAT, "choices": [choice], "usage": usage})


def vectors(usage: Any) -> Reply:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.5, 0.5, 0.5]}]
    return Reply(body={"object": "list", "model": EMBEDDING, "data": data, "usage": usage})


def by_hand(usage: Any) -> Decimal | None:
    tokens = read_tokens(usage)
    if tokens.prompt is None or tokens.completion is None:
        return None
    cached = min(tokens.cached or 0, tokens.prompt)
    return (Decimal(tokens.prompt - cached) + cached * Decimal("0.1") + tokens.completion * 10) / 1_000_000


def known(cost: float) -> Decimal | None:
    return None if math.isnan(cost) else Decimal(str(cost))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(usage=USAGES)
@example(usage={"prompt_tokens": 5, "total_tokens": 12})
@example(usage={"completion_tokens": 7, "total_tokens": 12})
@example(usage={"total_tokens": 12})
@example(usage={"prompt_tokens": 5})
def test_an_answers_tokens_and_cost_are_the_same_everywhere(environment: ScriptedTogether, usage: Any) -> None:
    environment.engine.always(answer(usage))
    before = get_ledger().totals()["total_requests"]
    client = TogetherAIClient()
    completion = client.generate_chat_completion("Is it?", model=CHAT)
    message = ChatTogetherAI(model=CHAT).invoke("Is it?")

    async def by_connector() -> Any:
        connector = TogetherAIConnector()
        await connector.connect({"api_key": environment.api_key, "base_url": environment.base_url})
        try:
            return await connector.inference(CHAT, "Is it?")
        finally:
            await connector.disconnect()

    inference = asyncio.run(by_connector())
    events = get_ledger().events()[before:]
    assert len(events) == 3

    cost = by_hand(usage)
    assert completion.cost_usd == cost
    assert {event.cost_usd for event in events} == {cost}
    assert known(inference["cost_usd"]) == (None if cost is None else Decimal(str(float(cost))))

    tokens = read_tokens(usage)
    for event in events:
        assert (event.prompt_tokens, event.completion_tokens) == tokens[:2]
        assert (event.cached_tokens, event.reasoning_tokens) == tokens[2:]
    assert message.usage_metadata == completion.usage
    if tokens.total is None:
        assert message.usage_metadata is None
        assert inference["tokens"] is None
    else:
        assert message.usage_metadata is not None
        counted = message.usage_metadata
        assert (counted["input_tokens"], counted["output_tokens"]) == tokens[:2]
        assert counted["total_tokens"] == tokens.total
        assert counted.get("input_token_details", {}).get("cache_read") == tokens.cached
        assert counted.get("output_token_details", {}).get("reasoning") == tokens.reasoning
        told = {"prompt": tokens.prompt, "completion": tokens.completion, "total": tokens.total}
        assert inference["tokens"] == told


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=st.none() | st.integers(0, 10_000), says_total=st.booleans())
def test_the_cost_of_vectors_is_the_same_everywhere(
    environment: ScriptedTogether, prompt: int | None, says_total: bool
) -> None:
    usage = {"prompt_tokens": prompt, **({"total_tokens": prompt} if says_total else {})}
    environment.engine.always(vectors(usage))
    before = get_ledger().totals()["total_requests"]
    embedded = TogetherAIClient().generate_embeddings("Is it?", model=EMBEDDING)
    TogetherAIEmbeddings(model=EMBEDDING).embed_query("Is it?")
    cost = None if prompt is None else prompt * Decimal(2) / 1_000_000
    assert embedded.cost_usd == cost
    assert {event.cost_usd for event in get_ledger().events()[before:]} == {cost}
