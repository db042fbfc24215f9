"""Connecting, asking, models and usage."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import pytest

from hana_ai.api import (
    TogetherAIClient,
    TogetherAIConnector,
    TogetherAIError,
    TogetherAIInputError,
    TogetherAIRateLimitError,
    TogetherAISettings,
)
from hana_ai.api.local.together import Refusal, Reply, Usage
from tests.conftest import ScriptedTogether

from .conftest import DEDICATED, LANGUAGE, SERVERLESS


async def test_it_connects_verifies_and_disconnects(server: ScriptedTogether) -> None:
    connector = TogetherAIConnector()

    assert await connector.connect(server.client) is True
    assert await connector.verify_connection() is True
    assert await connector.disconnect() is True
    assert await connector.verify_connection() is False
    assert await connector.disconnect() is False


@pytest.mark.parametrize("config", [{}, {"api_key": ""}, {"api_key": None}])
async def test_a_key_is_required(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^api_key is required$"):
        await TogetherAIConnector().connect(config)


@pytest.mark.parametrize("key", ["wrong", "two words", "line\nbreak"])
async def test_a_refused_key_is_invalid(server: ScriptedTogether, key: str) -> None:
    with pytest.raises(ValueError, match=r"^Invalid API key$") as caught:
        await TogetherAIConnector().connect({"api_key": key, "base_url": server.base_url})

    assert isinstance(caught.value, RuntimeError)
    assert key not in str(caught.value)
    assert caught.value.__cause__ is not None


async def test_a_server_that_fails_is_no_invalid_key(server: ScriptedTogether) -> None:
    server.management.refuse("GET", "/whoami", Refusal(403, "The organisation is suspended."), times=9)
    with pytest.raises(RuntimeError, match="The organisation is suspended") as caught:
        await TogetherAIConnector().connect(server.client)
    assert not isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "call",
    [
        lambda connector: connector.create_endpoint(SERVERLESS, "name"),
        lambda connector: connector.get_endpoint_status("ep_1"),
        lambda connector: connector.list_endpoints(),
        lambda connector: connector.delete_endpoint("ep_1"),
        lambda connector: connector.delete_endpoint("alias-x"),
        lambda connector: connector.endpoint(SERVERLESS, "name").__aenter__(),
        lambda connector: connector.orphans(),
        lambda connector: connector.upload_artifact("folder", {"name": "a", "base_model": "b"}),
        lambda connector: connector.deploy_adapter("folder", "base", "name"),
        lambda connector: connector.inference(SERVERLESS, "Hello"),
        lambda connector: anext(connector.inference_streaming(SERVERLESS, "Hello")),
        lambda connector: connector.list_available_models(),
        lambda connector: connector.get_usage_stats(),
    ],
)
async def test_nothing_works_before_connect(call: Any) -> None:
    with pytest.raises(RuntimeError, match=r"^Not connected"):
        await call(TogetherAIConnector())


async def test_the_project_is_the_keys_own_or_the_one_named(server: ScriptedTogether) -> None:
    async with TogetherAIConnector({**server.client, "project_id": "proj_other"}) as connector:
        with pytest.raises(RuntimeError, match="no access to project proj_other"):
            await connector.list_endpoints()
    async with TogetherAIConnector(server.client) as connector:
        assert await connector.list_endpoints() == []


async def test_the_environment_names_address_and_project(
    server: ScriptedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOGETHER_BASE_URL", server.base_url + "/v1")
    monkeypatch.setenv("TOGETHER_PROJECT_ID", "proj_other")
    async with TogetherAIConnector({"api_key": server.api_key}) as connector:
        with pytest.raises(RuntimeError, match="proj_other"):
            await connector.list_endpoints()


async def test_an_answer_has_its_tokens_cost_and_latency(connector: TogetherAIConnector) -> None:
    answer = await connector.inference(SERVERLESS, "one two three four", {"max_tokens": 3})

    assert answer["text"] == "one two three"
    assert answer["tokens"] == {"prompt": 4, "completion": 3, "total": 7}
    assert answer["cost_usd"] == pytest.approx((4 * 0.5 + 3 * 1.5) / 1e6)
    assert answer["latency_ms"] > 0
    assert answer["finish_reason"] == "length"
    assert answer["model"] == SERVERLESS


async def test_cached_tokens_cost_their_own_price(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    server.engine.reply(Reply(text="Yes.", usage=Usage(1000, 10, cached_tokens=900)))
    answer = await connector.inference(SERVERLESS, "Hello")
    assert answer["cost_usd"] == pytest.approx((100 * 0.5 + 900 * 0.1 + 10 * 1.5) / 1e6)


async def test_an_unknown_cost_is_nan_and_still_prints(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    server.engine.on(
        "/v1/chat/completions",
        Reply(
            body={
                "id": "x",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [
                    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}
                ],
            }
        ),
    )
    server.check_answers = False
    answer = await connector.inference(SERVERLESS, "Hello")
    assert math.isnan(answer["cost_usd"])
    assert f"{answer['cost_usd']:.6f}" == "nan"
    assert answer["tokens"] is None


async def test_a_stream_ends_with_the_usage(connector: TogetherAIConnector) -> None:
    chunks = [chunk async for chunk in connector.inference_streaming(SERVERLESS, "one two three")]

    assert "".join(chunk["text"] for chunk in chunks) == "one two three"
    assert all(chunk["finish_reason"] is None and "usage" not in chunk for chunk in chunks[:-1])
    last = chunks[-1]
    assert last["finish_reason"] == "stop"
    assert last["usage"] == {"prompt": 3, "completion": 3, "total": 6}
    assert last["cost_usd"] == pytest.approx((3 * 0.5 + 3 * 1.5) / 1e6)
    assert last["latency_ms"] > 0


async def test_a_stream_that_is_left_gives_its_connection_back(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    stream = connector.inference_streaming(SERVERLESS, "one two three")
    assert (await anext(stream))["text"] == "one"
    await stream.aclose()
    assert (await connector.inference(SERVERLESS, "Hello"))["text"] == "Hello"


async def test_a_model_that_only_continues_texts_is_asked_so(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    answer = await connector.inference(LANGUAGE, "one two", {"stop": "two"})
    assert (answer["text"], answer["finish_reason"]) == ("one ", "stop")
    assert server.engine.posts[-1].path == "/v1/completions"
    chunks = [chunk async for chunk in connector.inference_streaming(LANGUAGE, "one two")]
    assert "".join(chunk["text"] for chunk in chunks) == "one two"
    assert chunks[-1]["usage"] == {"prompt": 2, "completion": 2, "total": 4}
    with pytest.raises(ValueError, match="takes no messages"):
        await connector.inference(LANGUAGE, [("user", "Hello")])


async def test_messages_are_taken_too(connector: TogetherAIConnector) -> None:
    assert (await connector.inference(SERVERLESS, [("system", "Be kind."), ("user", "Hello")]))["text"] == "Hello"


async def test_what_is_an_argument_is_no_generation_setting(connector: TogetherAIConnector) -> None:
    with pytest.raises(TogetherAIInputError, match="'stream'"):
        await connector.inference(SERVERLESS, "Hello", {"stream": True})


async def test_errors_have_the_servers_words(connector: TogetherAIConnector, server: ScriptedTogether) -> None:
    server.engine.always(Reply(status=429, error={"message": "Slow down, please."}, headers={"retry-after": "90"}))
    with pytest.raises(TogetherAIRateLimitError, match=r"Slow down, please\."):
        await connector.inference(SERVERLESS, "Hello")


async def test_the_models_are_listed_with_prices_and_kind(connector: TogetherAIConnector) -> None:
    models = {model["id"]: model for model in await connector.list_available_models()}

    assert set(models) == {SERVERLESS, LANGUAGE, DEDICATED}
    assert models[SERVERLESS]["type"] == "chat"
    assert models[SERVERLESS]["context_length"] == 2048
    assert models[SERVERLESS]["pricing"] == {"input": 0.5, "output": 1.5, "cached_input": 0.1}
    assert models[SERVERLESS]["serverless"]
    assert not models[DEDICATED]["serverless"]
    assert math.isnan(models[DEDICATED]["pricing"]["input"])


async def test_usage_counts_the_calls_of_this_month(connector: TogetherAIConnector) -> None:
    await connector.inference(SERVERLESS, "one two")
    async for _ in connector.inference_streaming(SERVERLESS, "one two three"):
        pass

    stats = await connector.get_usage_stats()
    today = datetime.now(UTC).date()
    assert stats["total_requests"] == 2
    assert stats["prompt_tokens"] == stats["completion_tokens"] == 5
    assert stats["total_tokens"] == 10
    assert stats["total_cost_usd"] == pytest.approx(10 * 1e-6)
    assert stats["start_date"] == today.replace(day=1).isoformat()
    assert stats["end_date"][:7] == today.isoformat()[:7]
    assert stats["billed"] is None


async def test_calls_of_unknown_cost_are_counted_apart(connector: TogetherAIConnector) -> None:
    async with connector.endpoint(DEDICATED, "brief", {"type": "dedicated"}) as id:
        await connector.inference(id, "one two")
        assert math.isnan((await connector.get_usage_stats())["total_cost_usd"])
        await connector.inference(SERVERLESS, "one two")
    stats = await connector.get_usage_stats()
    assert stats["total_requests"] == 2
    assert stats["unknown_cost_requests"] == 1
    assert stats["total_cost_usd"] == pytest.approx(4e-6)


async def test_usage_of_another_time_is_none(connector: TogetherAIConnector) -> None:
    await connector.inference(SERVERLESS, "one two")
    for start, end in (("2024-01-01", "2024-01-31"), (date(2024, 1, 1), datetime(2024, 1, 2))):
        stats = await connector.get_usage_stats(start, end)
        assert stats["total_requests"] == stats["total_tokens"] == 0
        assert stats["start_date"] == "2024-01-01"
    assert (await connector.get_usage_stats("2024-01-01"))["total_requests"] == 1


async def test_the_bill_is_beside_the_ledger_and_never_mixed(
    connector: TogetherAIConnector, server: ScriptedTogether
) -> None:
    server.management.bill("2026-01-31", "Serverless Inference - Input Tokens", "1000000", "0.5", "0.50")
    server.management.bill("2026-01-31", "Dedicated", "2", "5.49", "10.98")
    server.management.bill("2026-02-01", "Dedicated", "1", "5.49", "5.49")
    server.management.bill("2026-02-02", "Dedicated", "1", "5.49", "5.49")

    stats = await connector.get_usage_stats("2026-01-15", "2026-02-01")
    assert stats["total_cost_usd"] == 0
    assert stats["billed"] == {
        "total_cost_usd": pytest.approx(16.97),
        "by_product": {
            "Serverless Inference - Input Tokens": pytest.approx(0.5),
            "Dedicated": pytest.approx(16.47),
        },
        "by_day": {"2026-01-31": pytest.approx(11.48), "2026-02-01": pytest.approx(5.49)},
    }


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("January", None, "start_date must be a date such as"),
        ("2026-02-01", "2026-01-01", "is before start_date"),
        (12, None, "start_date must be a str, date or datetime"),
    ],
)
async def test_a_wrong_date_is_named(connector: TogetherAIConnector, start: Any, end: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        await connector.get_usage_stats(start, end)


async def test_neither_key_nor_repr_leaks(connector: TogetherAIConnector, server: ScriptedTogether) -> None:
    assert str(server.api_key) not in repr(connector)
    assert "not connected" in repr(TogetherAIConnector(server.client))


async def test_disconnecting_leaves_other_objects_of_the_process_alone(server: ScriptedTogether) -> None:
    client = TogetherAIClient(
        TogetherAISettings(TOGETHER_BASE_URL=server.base_url, TOGETHER_API_KEY=server.api_key)
    )
    async with TogetherAIConnector(server.client):
        pass
    assert str(await client.agenerate_chat_completion("Hello", model=SERVERLESS)) == "Hello"


async def test_it_is_in_the_toolkits_namespace() -> None:
    from plugins.connectors import together_ai_connector

    assert together_ai_connector.TogetherAIConnector is TogetherAIConnector
    assert issubclass(TogetherAIError, RuntimeError)
